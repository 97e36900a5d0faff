//! What every step of a pull stands on.

use std::sync::Arc;
use std::time::SystemTime;

use super::flight::{Flights, Progress};
use super::found::Stale;
use super::manifests::{Manifest, Manifests};
use super::pull::Pull;
use super::sweep::Sweep;
use super::through::BlobRequest;
use crate::access::Access;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::fs;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::oci::manifest::{ContentKind, MAX_MANIFEST};
use crate::policy::access::Permission;
use crate::policy::freshness::{Gone, Reason, Tags};
use crate::store::index::{Held, Index};
use crate::store::{Blob, Store};
use crate::task::{self, Tasks};
use crate::upstream::requester::{Credential, Requester};
use crate::upstream::{Upstream, What, is_bad_login};

/// The pieces, and what is asked of several of them together.
pub(super) struct Parts {
    pub(super) upstream: Upstream,
    pub(super) access: Access,
    pub(super) store: Arc<Store>,
    pub(super) index: Index,
    pub(super) flights: Flights,
    pub(super) manifests: Manifests,
    pub(super) sweep: Sweep,
    pub(super) tags: Tags,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
}

/// Upstream's answer; or why it has none and what is here may be served.
pub(super) enum Asked<T> {
    Answer(T),
    Stale(Stale),
}

impl Parts {
    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Whether its bytes are here.
    pub(super) fn is_here(&self, digest: &Digest) -> bool {
        self.index.has(digest) || self.manifests.find(digest).is_some()
    }

    /// Length and type of what is on disk, or in memory at least.
    pub(super) fn here(&self, digest: &Digest) -> Option<(u64, Option<Arc<str>>)> {
        let held = self.index.hold(digest, self.now());
        let in_memory = || {
            let manifest = self.manifests.find(digest)?;
            Some((manifest.bytes.len() as u64, Some(manifest.media_type.clone())))
        };
        held.map(|held| (held.size, held.media_type.clone())).or_else(in_memory)
    }

    /// How long the bytes of a digest are that are verified: here, or about to be.
    pub(super) fn verified_length(&self, digest: &Digest) -> Option<u64> {
        let about_to_be = || match self.flights.find(digest)?.progress() {
            Progress::Verified { size } => Some(size),
            _ => None,
        };
        // In this order: what lands is in the index before it is no flight any more.
        about_to_be().or_else(|| self.here(digest).map(|(size, _)| size))
    }

    /// Whether the requester may read a digest in the pull's repository; without one, whether it
    /// may read there at all.
    pub(super) fn check(&self, pull: &Pull, content: Option<(&Digest, ContentKind)>) -> Permission {
        self.access.check(&pull.requester, &pull.key, content)
    }

    /// Who asks upstream for the bytes of a pull.
    pub(super) fn payer(&self, pull: &Pull) -> Requester {
        self.access.payer(&pull.requester, &pull.site, &pull.key)
    }

    /// A request for bytes that goes past the cache.
    pub(super) fn request(&self, pull: &Pull, what: &What) -> BlobRequest {
        BlobRequest {
            upstream: self.upstream.clone(),
            site: pull.site.clone(),
            repository: pull.repository.clone(),
            what: what.clone(),
            requester: self.payer(pull),
        }
    }

    /// Waits for upstream's answer: not for long where what is here may be served instead.
    pub(super) async fn in_time<T>(
        &self,
        pull: &Pull,
        copy: Permission,
        asking: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let deadline = copy.usable_while_away().then(|| self.upstream.resolve_deadline());
        self.upstream.in_time(&pull.site, deadline, asking).await
    }

    /// Asks upstream. Where it cannot say, what is here is served if the permission for the copy
    /// stands.
    pub(super) async fn ask<T>(
        &self,
        pull: &Pull,
        copy: Permission,
        asking: impl Future<Output = Result<T>>,
    ) -> Result<Asked<T>> {
        let error = match self.in_time(pull, copy, asking).await {
            Ok(answer) => return Ok(Asked::Answer(answer)),
            Err(error) => error,
        };
        let copy = if error.kind() == Kind::Missing { copy.after_not_found() } else { copy };
        let stale = copy.usable_while_away().then(|| self.stale(pull, &error)).flatten();
        stale.map(Asked::Stale).ok_or(error)
    }

    /// Why what is here may be served in spite of upstream's answer, if it may.
    pub(super) fn stale(&self, pull: &Pull, error: &Error) -> Option<Stale> {
        let kept = error.kind() == Kind::Missing && self.tags.gone == Gone::Serve;
        let reason = Reason::of(error.kind()).or(kept.then_some(Reason::Gone))?;
        self.metrics.stale(&pull.site.registry.name, reason.as_str());
        Some(Stale { reason, message: error.message().to_owned() })
    }

    /// Revokes what upstream refused.
    pub(super) fn refused(&self, pull: &Pull, error: &Error) {
        if error.kind() == Kind::Refused {
            self.access.revoke(&pull.key, pull.requester.credential);
        }
        if is_bad_login(error) {
            self.access.account_refused(&pull.key);
        }
    }

    /// Whether there is no such thing any more for anybody: where the operator wants what is gone
    /// forgotten, upstream has it no longer, and says so to who could read there and is no client
    /// with a login of its own. Some registries say it to whoever may not read.
    pub(super) fn is_missing_for_all(&self, pull: &Pull, error: &Error) -> bool {
        let is_gone = error.kind() == Kind::Missing && self.tags.gone == Gone::Forget;
        let is_own = matches!(pull.requester.credential, Credential::Known(_));
        is_gone && !is_own && self.check(pull, None).usable_while_away()
    }

    /// The file of a blob that is held.
    pub(super) async fn opened(&self, digest: &Digest, held: &Held) -> fs::Result<Blob> {
        self.sweep.opened.open(&self.store, &self.index, digest, held).await
    }

    /// A manifest that is here, read into memory.
    pub(super) async fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        if let Some(manifest) = self.manifests.find(digest) {
            return Some(manifest);
        }
        let held = self.index.hold(digest, self.now()).filter(|held| held.size <= MAX_MANIFEST as u64)?;
        let (store, name) = (self.store.clone(), digest.clone());
        let blob = task::blocking(move || store.blob(&name)).await.ok()?;
        self.manifests.load(digest, blob.file, blob.size, held.media_type.as_deref()).await.ok()?
    }
}
