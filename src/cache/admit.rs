//! Permission for a digest: what is known of it, or upstream's answer to a question.
//!
//! 1. what is known suffices;
//! 2. upstream is asked by HEAD with the requester's own credential: about the manifest through which
//!    the digest was granted last, for that renews the whole image, then about the digest itself;
//! 3. who asked with a credential and got no answer, or 404, may have brought that about: where what
//!    anonymous was granted would stand, anonymous's own question decides;
//! 4. what stands is served, or upstream's refusal is passed on in the words of an answer to GET.

use std::sync::Arc;
use std::time::Duration;

use super::found::Stale;
use super::parts::Parts;
use super::pull::{Method, Pull, content_kind, may_push};
use super::word::{Word, asked, read, unsound};
use crate::access::{Checked, Ended, Given};
use crate::dial::error::dial_error;
use crate::error::{Error, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::{Reference, RepositoryKey};
use crate::policy::access::{Standing, Verdict};
use crate::policy::freshness::Reason;
use crate::task::Coalesced;
use crate::upstream::breaker::not_asked;
use crate::upstream::requester::Credential;
use crate::upstream::{Proves, What};

/// What is asked once for many: a digest in a repository, for one credential, to push it or not,
/// since what ended earlier answers, and the last trial, by clients that take the same types.
type Question = (RepositoryKey, What, Credential, bool, Ended, u64, Option<String>);

/// Anonymous is asked what a client with a credential was granted, unless it was refused so lately.
const REFUSED_LATELY: Duration = Duration::from_secs(3600);

/// What is known when a digest is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cleared<'a> {
    /// Nothing yet.
    No,
    /// Upstream named it for a tag just now, or what a tag named stands; and what was found out about
    /// it, if that was looked at.
    Yes(Option<&'a Checked>),
}

impl Cleared<'_> {
    pub(super) fn is_yes(self) -> bool {
        matches!(self, Cleared::Yes(_))
    }
}

/// Whether a requester may read what is here of a digest.
#[derive(Debug)]
pub(super) enum Admitted {
    /// It may.
    Granted(Checked, Basis),
    /// Upstream answered, and did not say what that is about. Bytes on their way may prove it.
    Unproved(Option<Word>),
}

/// On what a permission stands.
#[derive(Debug)]
pub(super) enum Basis {
    /// What was known, or the answer about the tag that led here.
    Known,
    /// What upstream answered to a question about it.
    Asked,
    /// Upstream's last yes: it could not be asked.
    Stale(Stale),
}

impl Basis {
    pub(super) fn stale(self) -> Option<Stale> {
        match self {
            Basis::Stale(stale) => Some(stale),
            Basis::Known | Basis::Asked => None,
        }
    }
}

/// How what is here is read.
pub(super) struct Reading {
    pub(super) outcome: Outcome,
    pub(super) stale: Option<Stale>,
    /// Of a manifest: the yes on which it is given.
    pub(super) given: Option<Given>,
}

/// Upstream's answer; or why it has none and what is here may be served.
pub(super) enum Asked {
    Answer(Word),
    Stale(Stale),
}

/// Asks upstream about digests, once for all who ask the same at the same time.
pub(super) struct Admission {
    parts: Arc<Parts>,
    asked: Coalesced<Question, Result<Word>>,
}

impl Admission {
    pub(super) fn new(parts: Arc<Parts>) -> Admission {
        Admission { parts, asked: Coalesced::default() }
    }

    /// How a requester reads what is here. `None`: upstream answered and did not say of what, or has
    /// to send the bytes itself.
    pub(super) async fn reading(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        cleared: Cleared<'_>,
    ) -> Result<Option<Reading>> {
        let Admitted::Granted(checked, basis) = self.admit(pull, digest, what, cleared).await? else {
            return Ok(None);
        };
        let Checked { permission, given, is_read, .. } = checked;
        if !permission.is_proved {
            return Ok(None);
        }
        let is_claimed = permission.verdict == Verdict::Claimed;
        if !is_read && !is_claimed {
            self.parts.access.read(&pull.key, (digest, content_kind(what)));
        }
        // Nobody learns what others pulled.
        let outcome = match basis {
            _ if !is_read => Outcome::Miss,
            Basis::Asked => Outcome::Revalidated,
            Basis::Known | Basis::Stale(_) => Outcome::Hit,
        };
        Ok(Some(Reading { outcome, stale: basis.stale(), given: given.filter(|_| !is_claimed) }))
    }

    /// Whether a requester may read the bytes of a digest.
    pub(super) async fn admit(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        cleared: Cleared<'_>,
    ) -> Result<Admitted> {
        let content = (digest, content_kind(what));
        if let Cleared::Yes(Some(checked)) = cleared {
            return Ok(Admitted::Granted(checked.clone(), Basis::Known));
        }
        let mut checked = self.parts.check(pull, content);
        if cleared.is_yes() || checked.permission.verdict != Verdict::Ask {
            return Ok(Admitted::Granted(checked, Basis::Known));
        }
        if let Some(manifest) = &checked.by {
            Box::pin(self.ask_about_image(pull, manifest)).await;
            checked = self.parts.check(pull, content);
            if checked.permission.is_granted() {
                return Ok(Admitted::Granted(checked, Basis::Asked));
            }
        }
        let asked = Box::pin(self.ask_or_stand(pull, digest, what, checked.permission.stands())).await;
        match asked {
            // A refusal that came meanwhile voids it: whoever asks now asks anew.
            Ok(Asked::Answer(word)) if word.is_proof && !self.parts.access.is_valid(&word.inquiry, content) => {
                Ok(Admitted::Unproved(None))
            }
            Ok(Asked::Answer(word)) if word.is_proof => {
                Ok(Admitted::Granted(self.parts.check(pull, content), Basis::Asked))
            }
            Ok(Asked::Answer(word)) => Ok(Admitted::Unproved(Some(word))),
            Ok(Asked::Stale(stale)) => Ok(Admitted::Granted(self.parts.check(pull, content), Basis::Stale(stale))),
            Err(error) => Box::pin(self.in_words_of_get(pull, digest, what, error)).await,
        }
    }

    /// Asks about a manifest through which something was granted. What it lists is granted again, if
    /// it is here to be read; an answer that is no yes changes nothing of that.
    async fn ask_about_image(&self, pull: &Pull, manifest: &Digest) {
        let what = What::Manifest(Reference::Digest(manifest.clone()));
        let asking = Box::pin(self.ask(pull, manifest, &what));
        if self.parts.in_time(pull, true, asking).await.is_err() {
            return;
        }
        let Some(read) = self.parts.manifest(manifest).await else { return };
        if let Some(given) = self.parts.check(pull, (manifest, ContentKind::Manifest)).given {
            self.parts.access.give(&pull.requester, &pull.key, manifest, given, read.listed());
        }
    }

    /// Asks upstream about a digest. Where it cannot say, what is here is served if it still stands
    /// then.
    pub(super) async fn ask_or_stand(&self, pull: &Pull, digest: &Digest, what: &What, stands: bool) -> Result<Asked> {
        let error = match self.parts.in_time(pull, stands, Box::pin(self.ask(pull, digest, what))).await {
            Ok(word) if word.is_proof || !stands || pull.method == Method::Head => return Ok(Asked::Answer(word)),
            Ok(word) => match Box::pin(self.prove(pull, digest, what, word)).await {
                Ok(word) => return Ok(Asked::Answer(word)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let is_missing = error.kind() == Kind::Missing;
        // Who is about to push is told the truth.
        if is_missing && may_push(pull, what) {
            return Err(error);
        }
        if !is_missing && Reason::of(error.kind()).is_none() {
            return Err(error);
        }
        if !stands {
            return Err(error);
        }
        // A refusal may have come meanwhile.
        match self.parts.check(pull, (digest, content_kind(what))).permission.standing {
            Standing::None => Err(error),
            Standing::Anonymous if pull.is_anonymous() => self.parts.stale(pull, &error).map(Asked::Stale).ok_or(error),
            Standing::Anonymous => self.ask_as_anonymous(&pull.as_anonymous(), digest, what, error).await,
            // A 404 ends what was granted to who asked.
            Standing::Own | Standing::Login | Standing::Claimed if is_missing => Err(error),
            Standing::Claimed if !self.stands_elsewhere(pull, digest, what, &error) => Err(error),
            Standing::Login if self.is_answered_to_anonymous(pull, digest, what).await => Err(error),
            Standing::Own | Standing::Login | Standing::Claimed => {
                self.parts.stale(pull, &error).map(Asked::Stale).ok_or(error)
            }
        }
    }

    /// Whether upstream answers anonymous, where a remembered login's own question failed: who asks may
    /// have brought that about.
    async fn is_answered_to_anonymous(&self, pull: &Pull, digest: &Digest, what: &What) -> bool {
        if !pull.is_own() {
            return false;
        }
        let anonymous = pull.as_anonymous();
        was_answered(&self.parts.in_time(&anonymous, true, Box::pin(self.ask(&anonymous, digest, what))).await)
    }

    /// Whether what is claimed stands in another repository: where that is at a registry which is
    /// known to be unreachable. (One repository alone may fail by its owner's will.)
    fn stands_elsewhere(&self, pull: &Pull, digest: &Digest, what: &What, error: &Error) -> bool {
        let is_here = |namespace: &str| pull.key.namespace() == namespace;
        let was_not_reached = error.cause().and_then(dial_error).is_some();
        let is_away = |namespace: &str| is_here(namespace) && was_not_reached || self.parts.upstream.is_away(namespace);
        !may_push(pull, what) && self.parts.access.stands_elsewhere(&pull.key, (digest, content_kind(what)), is_away)
    }

    /// Anonymous's own question, where `failed` came of a client's: whoever asks may have brought
    /// that about.
    async fn ask_as_anonymous(&self, anonymous: &Pull, digest: &Digest, what: &What, failed: Error) -> Result<Asked> {
        let error = match self.parts.in_time(anonymous, true, Box::pin(self.ask(anonymous, digest, what))).await {
            Ok(word) if word.is_proof => return Ok(Asked::Answer(word)),
            Ok(_) => unsound(anonymous),
            Err(error) => error,
        };
        let stands = self.parts.check(anonymous, (digest, content_kind(what))).permission.stands();
        let stale = if stands { self.parts.stale(anonymous, &error) } else { None };
        stale.map(Asked::Stale).ok_or(failed)
    }

    /// An answer that says nothing of a manifest is proved by its bytes; any other is none, where what
    /// is here stands.
    async fn prove(&self, pull: &Pull, digest: &Digest, what: &What, word: Word) -> Result<Word> {
        if let What::Blob(_) | What::List(_) = what {
            return Err(unsound(pull));
        }
        read(&self.parts, pull, what, digest).await?;
        Ok(Word { is_proof: true, ..word })
    }

    /// What a GET says where HEAD was refused: its words are those that a client gets of what is not
    /// here. Some registries answer GET alone, and then it is a yes.
    async fn in_words_of_get(&self, pull: &Pull, digest: &Digest, what: &What, error: Error) -> Result<Admitted> {
        if pull.method == Method::Head || !is_answer(&error) {
            return Err(error);
        }
        let (inquiry, content) = (self.parts.inquire(pull), (digest, content_kind(what)));
        match self.parts.request(pull, what, digest).fetch(0).await {
            Ok(fetched) if fetched.is_named && matches!(fetched.proves, Proves::Grant(_)) => {
                self.parts.access.hear(&inquiry, fetched.proves, content);
                Ok(Admitted::Granted(self.parts.check(pull, content), Basis::Asked))
            }
            Ok(_) => Ok(Admitted::Unproved(None)),
            Err(error) => {
                self.parts.denied(&inquiry, Some(content), &error).await;
                Err(error)
            }
        }
    }

    /// After a GET of what is not here was refused: a HEAD, as for what is here. Who was refused is
    /// not told by the time it took which of the two it was.
    pub(super) async fn after_refused_get(&self, pull: &Pull, digest: &Digest, what: &What, error: &Error) {
        if is_answer(error) {
            let _ = Box::pin(self.ask(pull, digest, what)).await;
        }
    }

    /// Whether it must be known that the requester may read this before it is fetched, since an
    /// account would pay, or one of another source would be asked.
    pub(super) fn is_asked_before_paying(&self, pull: &Pull, digest: &Digest, what: &What) -> bool {
        let content = (digest, content_kind(what));
        self.parts.access.needs_asking_before_paying(&pull.requester, &pull.site, content.1)
            && !self.parts.check(pull, content).permission.is_granted()
    }

    /// A HEAD, which costs nothing, tells. Without a yes it is fetched as who asks: some do not answer
    /// a HEAD of what they have, and what they refuse they say better to a GET.
    pub(super) async fn before_paying(&self, pull: &Pull, digest: &Digest, what: &What) -> Result<()> {
        match Box::pin(self.ask(pull, digest, what)).await {
            Err(error) if matches!(error.kind(), Kind::Unreachable | Kind::Timeout) => Err(error),
            _ => Ok(()),
        }
    }

    /// One HEAD for all who ask for the same at once. What it says is heard also when it comes too
    /// late for who asked.
    pub(super) async fn ask(&self, pull: &Pull, digest: &Digest, what: &What) -> Result<Word> {
        let generation = self.parts.upstream.generation(&pull.site);
        let who = pull.requester.credential.asked_as();
        let ended = self.parts.access.ended(who, &pull.key, (digest, content_kind(what)));
        let question =
            (pull.key.clone(), what.clone(), who, may_push(pull, what), ended, generation, pull.types_of_its_own());
        let (parts, pull, what, digest) = (self.parts.clone(), pull.clone(), what.clone(), digest.clone());
        let work = move || async move { asked(&parts, &pull, &what, &digest).await };
        self.asked.run(question, work).await
    }

    /// Whether it is worth a question what anonymous may read: what a client with a credential reads
    /// may be public.
    pub(super) fn may_be_public(&self, pull: &Pull, content: (&Digest, ContentKind)) -> bool {
        let access = &self.parts.access;
        pull.is_own()
            && !access.is_freshly_open(&pull.key, content)
            && !access.was_anonymous_refused(&pull.key, REFUSED_LATELY)
            && !access.is_missing(Credential::Anonymous, &pull.key, content)
    }

    /// Asks anonymous the same about an image, once the last of it has come. Nobody waits.
    pub(super) async fn learn_whether_public(&self, pull: &Pull, landed: (&Digest, ContentKind)) {
        if !self.may_be_public(pull, landed) {
            return;
        }
        let Some(manifest) = self.parts.access.image_of(&pull.requester, &pull.key) else { return };
        let Some(read) = self.parts.manifest(&manifest).await else { return };
        if read.children().all(|child| self.parts.is_here(child)) {
            self.ask_about_image(&pull.as_anonymous(), &manifest).await;
        }
    }
}

/// Whether upstream answered, whatever it said.
pub(super) fn was_answered<T>(asked: &Result<T>) -> bool {
    asked.as_ref().err().is_none_or(|error| Reason::of(error.kind()).is_none())
}

/// Whether upstream answered, in words of its own.
fn is_answer(error: &Error) -> bool {
    error.reply().is_some() && not_asked(error).is_none() && error.kind() != Kind::Limited
}
