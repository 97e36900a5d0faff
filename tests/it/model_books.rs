//! The model: what upstream has said so far, read from what reached it, and what follows for what
//! may be served.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use http::Method;

use crate::harness::Seen;
use crate::harness::record::Ask;
use crate::model::{Settings, Who};

pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const PUBLIC_TTL: Duration = Duration::from_secs(900);
pub(crate) const GRANT_TTL: Duration = Duration::from_secs(300);
/// What is written down has whole seconds, and a step takes some time.
const BLUR: Duration = Duration::from_secs(3);
/// A public repository is written down anew once a minute.
const COARSE: Duration = Duration::from_secs(60);

/// When something happened: between these.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
}

impl Span {
    /// It may be no older than this at the beginning of `now`.
    pub(crate) fn may_be_within(self, limit: Duration, now: Span) -> bool {
        now.from.duration_since(self.to).unwrap_or_default() < limit + BLUR
    }

    /// It is no older than this even at the end of `now`.
    pub(crate) fn is_within(self, limit: Duration, now: Span) -> bool {
        now.to.duration_since(self.from).unwrap_or_default() + BLUR < limit
    }

    fn is_in(self, now: Span) -> bool {
        self.to >= now.from
    }
}

/// What upstream said a tag names, to clients that accept the same.
#[derive(Clone, Debug)]
pub(crate) struct Confirmed {
    pub(crate) digest: String,
    pub(crate) at: Span,
}

/// What upstream has said.
#[derive(Default)]
pub(crate) struct Books {
    /// By repository, tag and what was accepted.
    confirmed: HashMap<(String, String), HashMap<String, Confirmed>>,
    /// All that a tag ever named: what it names now may not be had.
    ever: HashSet<(String, String, String)>,
    /// The last yes to nobody that no refusal followed.
    open: HashMap<String, Span>,
    /// … to these very words.
    own: HashMap<(String, String), Span>,
    /// … to whatever a user showed.
    users: HashMap<(String, Who), Span>,
    /// What upstream has in a repository, since seawall has it without a break.
    words: HashSet<(String, String)>,
}

/// Whose credential a request had.
fn shown(seen: &Seen) -> Who {
    match seen.authorization() {
        Some(value) if value.contains("-alice.") => Who::Alice,
        Some(value) if value.contains("-bob.") => Who::Bob,
        _ => Who::Nobody,
    }
}

impl Books {
    /// Takes in what reached upstream. `named`: what a tag of a repository names there now.
    pub(crate) fn read(
        &mut self,
        log: &[Seen],
        at: Span,
        settings: Settings,
        named: impl Fn(&str, &str) -> Option<String>,
    ) {
        for seen in log {
            let (Some(repository), "manifests" | "blobs") = (seen.ask.repository(), seen.kind()) else { continue };
            match seen.status() {
                200..=399 => self.yes(seen, repository, at, settings, &named),
                404 if seen.kind() == "blobs" || settings.forget => {
                    self.missing(seen, repository);
                }
                401 | 403 => self.no(seen, repository),
                _ => {}
            }
        }
    }

    /// In a run with short deadlines an answer may have come too late: what it says is one more
    /// thing that may be believed.
    fn yes(
        &mut self,
        seen: &Seen,
        repository: &str,
        at: Span,
        settings: Settings,
        named: &impl Fn(&str, &str) -> Option<String>,
    ) {
        let who = shown(seen);
        if who == Who::Nobody {
            self.open.insert(repository.to_owned(), at);
        } else {
            let words = seen.authorization().unwrap_or_default().to_owned();
            self.own.insert((repository.to_owned(), words), at);
            self.users.insert((repository.to_owned(), who), at);
        }
        if let Some(digest) = seen.ask.digest() {
            if seen.method == Method::GET || !settings.silence {
                self.words.insert((repository.to_owned(), digest.to_owned()));
            }
            return;
        }
        let Ask::Manifest { reference: tag, .. } = &seen.ask else { return };
        let digest = named(repository, tag).expect("it answered");
        if !settings.silence {
            self.words.insert((repository.to_owned(), digest.clone()));
        }
        let lines = seen.headers.get_all("accept").iter();
        let accept: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
        let variants = self.confirmed.entry((repository.to_owned(), tag.clone())).or_default();
        self.ever.insert((repository.to_owned(), tag.clone(), digest.clone()));
        let late = if settings.silence { &digest[..] } else { "" };
        variants.insert(accept.join(",") + late, Confirmed { digest, at });
    }

    /// A 404 that is believed. Of a blob it may be one: who asks by HEAD is about to push.
    fn missing(&mut self, seen: &Seen, repository: &str) {
        match &seen.ask {
            Ask::Manifest { reference, .. } if !reference.contains(':') => {
                self.confirmed.remove(&(repository.to_owned(), reference.clone()));
            }
            ask => {
                let digest = ask.digest().unwrap_or_default().to_owned();
                self.words.remove(&(repository.to_owned(), digest));
            }
        }
    }

    /// A refusal that is no mere challenge.
    fn no(&mut self, seen: &Seen, repository: &str) {
        let Some(words) = seen.authorization() else { return };
        if shown(seen) == Who::Nobody {
            self.open.remove(repository);
        }
        self.own.remove(&(repository.to_owned(), words.to_owned()));
        self.users.remove(&(repository.to_owned(), shown(seen)));
    }

    /// What is not written down is forgotten by a restart.
    pub(crate) fn restarted(&mut self) {
        self.own.clear();
        self.users.clear();
    }

    /// What is here no longer: what upstream said of it may be forgotten.
    pub(crate) fn keep_words_of(&mut self, is_here: impl Fn(&str) -> bool) {
        self.words.retain(|(_, digest)| is_here(digest));
    }

    /// Upstream said that this is there, and that everybody may have it.
    pub(crate) fn is_known_public(&self, repository: &str, digest: &str) -> bool {
        self.open.contains_key(repository) && self.words.contains(&(repository.to_owned(), digest.to_owned()))
    }

    /// Every digest that upstream confirmed last, for whatever clients.
    pub(crate) fn confirmed(&self, repository: &str, tag: &str) -> Vec<Confirmed> {
        let variants = self.confirmed.get(&(repository.to_owned(), tag.to_owned()));
        variants.into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// Whether it was believed without asking: nothing at all goes upstream for it.
    pub(crate) fn is_believed(&self, repository: &str, digest: &str, now: Span) -> bool {
        self.is_known_public(repository, digest)
            && self.open.get(repository).is_some_and(|at| at.is_within(PUBLIC_TTL - COARSE, now))
    }

    /// Invariant 7: had whoever asked upstream's yes? `away`: upstream could not be asked. `words`:
    /// what was shown, where that is known.
    pub(crate) fn may(
        &self,
        repository: &str,
        who: Who,
        words: Option<&str>,
        away: bool,
        now: Span,
    ) -> Result<(), String> {
        let open = self.open.get(repository);
        if open.is_some_and(|at| away || at.may_be_within(PUBLIC_TTL, now)) {
            return Ok(());
        }
        let own = match words {
            Some(words) => self.own.get(&(repository.to_owned(), words.to_owned())),
            None => self.users.get(&(repository.to_owned(), who)),
        };
        if who != Who::Nobody && own.is_some_and(|at| at.may_be_within(GRANT_TTL, now)) {
            return Ok(());
        }
        Err(format!(
            "{who:?} was given {repository}, with no yes of upstream's: public {open:?}, own {own:?}, now {now:?}"
        ))
    }

    /// Whether a tag may have been said to name this. `excused`: upstream could not be asked, or
    /// said 404, and an old answer may stand.
    pub(crate) fn named(
        &self,
        repository: &str,
        tag: &str,
        digest: &str,
        excused: bool,
        now: Span,
    ) -> Result<(), String> {
        let all = self.confirmed(repository, tag);
        let good = |known: &&Confirmed| excused || known.at.is_in(now) || known.at.may_be_within(TTL, now);
        if all.iter().filter(|known| known.digest == digest).any(|known| good(&known)) {
            return Ok(());
        }
        if excused && self.ever.contains(&(repository.to_owned(), tag.to_owned(), digest.to_owned())) {
            return Ok(());
        }
        Err(format!(
            "{repository}:{tag} was said to be {digest}; upstream said {all:?}, now {now:?}, excused: {excused}"
        ))
    }
}

/// What reached upstream although it need not have: a GET of what is here, or the same twice, or of
/// a tag.
pub(crate) fn wasted(log: &[Seen], was_here: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut fetched = HashSet::new();
    for seen in log.iter().filter(|seen| seen.method == Method::GET && seen.status() == 200) {
        let (Some(_), "manifests" | "blobs") = (seen.ask.repository(), seen.kind()) else { continue };
        let Some(digest) = seen.ask.digest() else { return Err(format!("a tag was fetched: {}", seen.line())) };
        if was_here(digest) {
            return Err(format!("fetched although it is here: {}", seen.line()));
        }
        if !fetched.insert(digest.to_owned()) {
            return Err(format!("fetched twice: {}", seen.line()));
        }
    }
    Ok(())
}
