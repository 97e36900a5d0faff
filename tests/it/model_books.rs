//! What upstream said so far, read from what reached it: what answers are due for that, and what
//! costs nothing more. Whether an answer is allowed is another question: see `model_past`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use http::Method;

use crate::harness::Seen;
use crate::harness::record::Ask;
use crate::model_past::{Heard, PUBLIC_TTL, Span, TTL};
use crate::model_steps::Outage;
use crate::model_stock::{Kind, STOCK};

/// A public repository is written down anew once a minute.
const COARSE: Duration = Duration::from_secs(60);

/// What upstream said a tag names, to clients that accept the same.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) digest: String,
    pub(crate) at: Span,
    pub(crate) to_anonymous: bool,
}

/// Upstream's first and latest word for a digest in a repository: numbers of requests.
#[derive(Clone, Copy)]
struct Named {
    since: usize,
    last: usize,
}

type Place = String;

/// What upstream has said.
#[derive(Default)]
pub(crate) struct Books {
    /// Requests that reached upstream so far.
    count: usize,
    /// By repository, tag, and what was accepted by whom.
    told: HashMap<(Place, String), HashMap<(String, String), Told>>,
    /// By repository and digest, while it is here.
    named: HashMap<(Place, String), Named>,
    /// When anonymous was told last that it may have it, and no refusal followed; and by
    /// which request.
    open: HashMap<(Place, String), (Span, usize)>,
    /// The last refusal of anonymous.
    refused: HashMap<Place, Span>,
}

fn is_anonymous(seen: &Seen) -> bool {
    seen.authorization().is_some_and(|shown| shown.contains("-anonymous."))
}

impl Books {
    /// Takes in what reached upstream. `tagged`: what a tag of a repository named at a
    /// moment.
    pub(crate) fn read(&mut self, log: &[Seen], heard: Heard, tagged: impl Fn(usize, &str, &str) -> Option<String>) {
        let Heard { at, settings, .. } = heard;
        for seen in log.iter().filter(|seen| [Method::GET, Method::HEAD].contains(&seen.method)) {
            self.count += 1;
            let (Some(place), "manifests" | "blobs") = (seen.ask.repository(), seen.kind()) else { continue };
            match seen.status() {
                200..=399 => self.yes(seen, place, heard, &tagged),
                404 | 410 if is_anonymous(seen) && settings.forget => self.missing(seen, place),
                412 | 451 if is_anonymous(seen) => self.missing(seen, place),
                401 | 403 if is_anonymous(seen) => {
                    self.open.retain(|(of, _), _| of != place);
                    self.refused.insert(place.to_owned(), at);
                }
                _ => {}
            }
        }
    }

    /// In a run with short deadlines an answer may have come too late; without a digest it may not
    /// count.
    fn yes(&mut self, seen: &Seen, place: &str, heard: Heard, tagged: &impl Fn(usize, &str, &str) -> Option<String>) {
        let Heard { at, outage, settings } = heard;
        if outage.is_some_and(Outage::is_nonsense) {
            return;
        }
        let tag = match &seen.ask {
            Ask::Manifest { reference, .. } if !reference.contains(':') => Some(reference.clone()),
            _ => None,
        };
        let digest = match &tag {
            Some(tag) => tagged(seen.moment(), place, tag),
            None => seen.ask.digest().map(str::to_owned),
        };
        let Some(digest) = digest else { return };
        if let Some(tag) = tag {
            let lines = seen.headers.get_all("accept").iter();
            let accept: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
            let late = if settings.silence { &digest[..] } else { "" };
            let told = Told { digest: digest.clone(), at, to_anonymous: is_anonymous(seen) };
            let variants = self.told.entry((place.to_owned(), tag)).or_default();
            let shown = if told.to_anonymous { "" } else { seen.authorization().unwrap_or_default() };
            variants.insert((accept.join(",") + late, shown.to_owned()), told);
        }
        if (seen.method == Method::GET || !settings.silence) && outage != Some(Outage::NoDigest) {
            let key = (place.to_owned(), digest);
            let count = self.count;
            self.named.entry(key.clone()).or_insert(Named { since: count, last: count }).last = count;
            if is_anonymous(seen) {
                self.open.insert(key, (at, count));
            }
        }
    }

    fn missing(&mut self, seen: &Seen, place: &str) {
        match &seen.ask {
            Ask::Manifest { reference, .. } if !reference.contains(':') => {
                let variants = self.told.entry((place.to_owned(), reference.clone())).or_default();
                variants.retain(|_, told| !told.to_anonymous);
            }
            ask => self.forget(place, ask.digest().unwrap_or_default()),
        }
    }

    /// Nothing is due for it any more.
    pub(crate) fn forget(&mut self, place: &str, digest: &str) {
        self.open.remove(&(place.to_owned(), digest.to_owned()));
    }

    /// A tag was pushed through seawall, or removed: what was told of it is asked anew.
    pub(crate) fn is_pushed(&mut self, place: &str, tag: &str) {
        self.told.remove(&(place.to_owned(), tag.to_owned()));
    }

    /// A manifest was given to anonymous: what it lists is open with it, if upstream had named it
    /// by then, and while it had the manifest.
    pub(crate) fn given(&mut self, place: &str, manifest: &str) {
        let key = |digest: &str| (place.to_owned(), digest.to_owned());
        let Some(open) = self.open.get(&key(manifest)).copied() else { return };
        for (_, digest) in STOCK.lists(manifest) {
            let named = self.named.get(&key(digest)).map_or(usize::MAX, |named| named.since);
            if named < open.1 && self.is_named_with(place, digest, manifest) {
                let known = self.open.entry(key(digest)).or_insert(open);
                *known = if known.1 < open.1 { open } else { *known };
            }
        }
    }

    /// It was there while the manifest was.
    fn is_named_with(&self, place: &str, digest: &str, manifest: &str) -> bool {
        let named = |digest: &str| self.named.get(&(place.to_owned(), digest.to_owned()));
        named(digest).zip(named(manifest)).is_some_and(|(named, of)| named.last > of.since)
    }

    /// A yes for the manifest, and all of the image that a client of linux/amd64 fetches is open.
    pub(crate) fn is_renewed_by(&self, place: &str, manifest: &str) -> bool {
        match STOCK.lists(manifest) {
            [(Kind::Manifest, child), ..] => {
                self.is_named_with(place, child, manifest) && self.is_renewed_by(place, child)
            }
            blobs => blobs.iter().all(|(_, digest)| self.is_named_with(place, digest, manifest)),
        }
    }

    /// What is here no longer: what upstream said of it may be forgotten.
    pub(crate) fn keep_words_of(&mut self, is_here: impl Fn(&str) -> bool) {
        self.named.retain(|(_, digest), _| is_here(digest));
        self.open.retain(|(_, digest), _| is_here(digest));
    }

    /// Upstream said that this is there, and that everybody may have it.
    pub(crate) fn is_open(&self, place: &str, digest: &str) -> bool {
        self.open.contains_key(&(place.to_owned(), digest.to_owned()))
    }

    /// Whether it was believed without asking: nothing at all goes upstream for it.
    pub(crate) fn is_believed(&self, place: &str, digest: &str, now: Span) -> bool {
        let open = self.open.get(&(place.to_owned(), digest.to_owned()));
        open.is_some_and(|(at, _)| at.is_within(PUBLIC_TTL - COARSE, now))
    }

    /// Who shows nothing may be told so without a question.
    pub(crate) fn was_refused_within(&self, place: &str, limit: Duration, now: Span) -> bool {
        self.refused.get(place).is_some_and(|at| at.may_be_within(limit, now))
    }

    /// Every digest that upstream named last, to whatever clients.
    pub(crate) fn told(&self, place: &str, tag: &str) -> Vec<Told> {
        let variants = self.told.get(&(place.to_owned(), tag.to_owned()));
        variants.into_iter().flat_map(HashMap::values).cloned().collect()
    }

    /// … and to anonymous alone.
    pub(crate) fn told_to_anonymous(&self, place: &str, tag: &str) -> Vec<Told> {
        self.told(place, tag).into_iter().filter(|told| told.to_anonymous).collect()
    }

    /// It was told to anonymous so lately that nobody asks again.
    pub(crate) fn is_fresh(&self, place: &str, tag: &str, now: Span) -> bool {
        let told = self.told_to_anonymous(place, tag);
        !told.is_empty() && told.iter().all(|told| told.at.is_within(TTL, now))
    }
}

/// What reached upstream although it need not have: a GET of what is here, or the same twice, or of
/// a tag.
pub(crate) fn wasted(log: &[Seen], was_here: impl Fn(&str) -> bool) -> Result<(), String> {
    let mut fetched = HashSet::new();
    for seen in log.iter().filter(|seen| seen.method == Method::GET && seen.status() == 200) {
        let (Some(_), "manifests" | "blobs") = (seen.ask.repository(), seen.kind()) else { continue };
        let Some(digest) = seen.ask.digest() else { return Err(format!("a tag was fetched: {}", seen.line())) };
        // As another kind it is not here.
        let kind = if seen.kind() == "blobs" { Kind::Blob } else { Kind::Manifest };
        if was_here(digest) && STOCK.kind(digest) == Some(kind) {
            return Err(format!("fetched although it is here: {}", seen.line()));
        }
        if !fetched.insert(digest.to_owned()) {
            return Err(format!("fetched twice: {}", seen.line()));
        }
    }
    Ok(())
}
