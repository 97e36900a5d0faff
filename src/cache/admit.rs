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

/// Asks upstream about digests, once for all who ask the same at the same time.
pub(super) struct Admission {
    parts: Arc<Parts>,
    asked: Coalesced<Question, Result<Description>>,
}

impl Admission {
    pub(super) fn new(parts: Arc<Parts>) -> Admission {
        Admission { parts, asked: Coalesced::default() }
    }

    /// Lets a requester read a digest. `Some`: upstream could not be asked, and its last grant
    /// stands.
    pub(super) async fn admit(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<Option<Stale>> {
        if permission == Permission::Established {
            return Ok(None);
        }
        let copy = self.parts.check(pull, Some((digest, content_kind(what))));
        if copy == Permission::Established {
            return Ok(None);
        }
        let asking = Box::pin(self.ask(pull, digest, what));
        Ok(match self.parts.ask(pull, copy, asking).await? {
            Asked::Answer(_) => None,
            Asked::Stale(stale) => Some(stale),
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

    /// One HEAD for all who ask for the same at once. Success is a grant, a refusal ends one, also
    /// when they come too late for who asked.
    pub(super) async fn ask(&self, pull: &Pull, digest: &Digest, what: &What) -> Result<Description> {
        let generation = self.parts.upstream.generation(&pull.site);
        let question = (pull.key.clone(), what.clone(), pull.requester.credential, may_push(pull, what), generation);
        let (parts, pull, what, digest) = (self.parts.clone(), pull.clone(), what.clone(), digest.clone());
        let work = move || async move {
            let upstream = &parts.upstream;
            let requester = &pull.requester;
            let said = upstream.describe(&pull.site, &pull.repository, &what, Accept::ANYTHING, requester).await;
            match &said {
                Ok(said) => {
                    parts.access.record_grant(&pull.key, said.grants_to(requester), &digest, content_kind(&what))
                }
                Err(error) => denied(&parts, &pull, &what, &digest, error),
            }
            said
        };
        self.asked.run(question, work).await
    }
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
