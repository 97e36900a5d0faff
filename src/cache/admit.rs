//! Permission for a digest: a grant that is fresh, or upstream's answer to one HEAD with the
//! requester's own credential.

use std::sync::Arc;

use super::found::Stale;
use super::parts::{Asked, Parts};
use super::pull::{Pull, content_kind, may_push};
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Permission;
use crate::task::Coalesced;
use crate::upstream::requester::Credential;
use crate::upstream::{Description, What};

/// What is asked once for many: a digest in a repository, for one credential, to push it or not,
/// since the last trial.
type Question = (RepositoryKey, What, Credential, bool, u64);

/// Upstream's answer about a digest.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) said: Description,
    /// Whether it is about that digest: it names it, or has the length of the verified bytes that
    /// are here. Then it is a grant. Storage that a registry redirects to names none.
    pub(super) is_proof: bool,
}

/// Whether a requester may read what is here of a digest.
pub(super) enum Admitted {
    /// It may. `Some`: upstream could not be asked, and its last grant stands.
    Granted(Option<Stale>),
    /// Upstream answered, and did not say what that is about, but for this length.
    Unproved(Option<u64>),
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

    /// Whether a requester may read a digest.
    pub(super) async fn admit(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<Admitted> {
        if permission == Permission::Established {
            return Ok(Admitted::Granted(None));
        }
        let copy = self.parts.check(pull, Some((digest, content_kind(what))));
        if copy == Permission::Established {
            return Ok(Admitted::Granted(None));
        }
        let asking = Box::pin(self.ask(pull, digest, what));
        Ok(match self.parts.ask(pull, copy, asking).await? {
            Asked::Answer(word) if word.is_proof => Admitted::Granted(None),
            Asked::Answer(word) => Admitted::Unproved(word.said.size),
            Asked::Stale(stale) => Admitted::Granted(Some(stale)),
        })
    }

    /// Before the operator's account pays, it must be known that anonymous may read this: a HEAD,
    /// which costs nothing, tells.
    pub(super) async fn before_paying(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<()> {
        let is_needed = || self.parts.access.needs_asking_before_paying(&pull.requester, &pull.site, &pull.key);
        if permission == Permission::Established || !is_needed() || self.parts.is_here(digest) {
            return Ok(());
        }
        match Box::pin(self.ask(pull, digest, what)).await {
            Err(error) if matches!(error.kind(), Kind::Refused | Kind::Unreachable | Kind::Timeout) => Err(error),
            // Some do not answer a HEAD of what they have: then it is fetched as anonymous.
            _ => Ok(()),
        }
    }

    /// One HEAD for all who ask for the same at once. What is about the digest is a grant, a refusal
    /// ends one, also when they come too late for who asked.
    pub(super) async fn ask(&self, pull: &Pull, digest: &Digest, what: &What) -> Result<Word> {
        let generation = self.parts.upstream.generation(&pull.site);
        let question = (pull.key.clone(), what.clone(), pull.requester.credential, may_push(pull, what), generation);
        let (parts, pull, what, digest) = (self.parts.clone(), pull.clone(), what.clone(), digest.clone());
        let work = move || async move {
            let upstream = &parts.upstream;
            let requester = &pull.requester;
            let said = upstream.describe(&pull.site, &pull.repository, &what, Accept::ANYTHING, requester).await;
            let word = said.and_then(|said| judged(&parts, &pull, &what, &digest, said));
            match &word {
                Ok(word) if word.is_proof => {
                    let grants_to = word.said.grants_to(requester);
                    parts.access.record_grant(&pull.key, grants_to, &digest, content_kind(&what));
                }
                Ok(_) => {}
                Err(error) => denied(&parts, &pull, &what, &digest, error),
            }
            word
        };
        self.asked.run(question, work).await
    }
}

/// What an answer proves of a digest. The bytes of a digest have one length: an answer with another
/// than that of the bytes here is about something else.
fn judged(parts: &Parts, pull: &Pull, what: &What, digest: &Digest, said: Description) -> Result<Word> {
    if said.digest.is_some() {
        return Ok(Word { said, is_proof: true });
    }
    // Some say 0 of every manifest. Of a blob the first byte was asked for as well.
    let is_manifest = matches!(what, What::Manifest(_));
    let Some(size) = said.size.filter(|size| *size > 0 || !is_manifest) else {
        return Ok(Word { said: Description { size: None, ..said }, is_proof: false });
    };
    let here = parts.verified_length(digest);
    let is_nothing = || size == 0 && Digest::of(digest.algorithm(), b"") != *digest;
    if here.is_some_and(|here| here != size) || is_nothing() {
        let host = &pull.site.origin.host;
        let message = format!("{host} answered with another length than that of {digest}: is there a proxy between?");
        return Err(Error::new(Kind::Broken, message));
    }
    Ok(Word { said, is_proof: here.is_some() })
}

/// Ends what upstream's answer ends: a 404 what who asked may read of that digest, and nobody
/// else's.
fn denied(parts: &Parts, pull: &Pull, what: &What, digest: &Digest, error: &Error) {
    parts.refused(pull, error);
    if parts.is_missing_for_all(pull, error) {
        parts.access.presence().remove(&pull.key, digest, content_kind(what));
    }
    if error.kind() == Kind::Missing {
        parts.access.note_missing(&pull.key, &pull.requester, (digest, content_kind(what)));
    }
}
