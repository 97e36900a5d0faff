//! What every step of a pull stands on.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use parking_lot::Mutex;

use super::flight::{Flight, Flights};
use super::found::Stale;
use super::heads::KnownHeads;
use super::lending::Lending;
use super::manifests::{Manifest, Manifests};
use super::pull::{Pull, content_kind};
use super::sweep::Sweep;
use super::through::BlobRequest;
use crate::access::{Access, Checked, Ends, Inquiry};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::fs;
use crate::ledger::Identity;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::oci::manifest::{ContentKind, MAX_MANIFEST};
use crate::policy::freshness::{Gone, Reason, Tags};
use crate::store::index::{Held, Index};
use crate::store::{Blob, Store};
use crate::task::{self, Tasks};
use crate::upstream::requester::Requester;
use crate::upstream::{AnswerTo, Upstream, What, answered_to, is_bad_login};

/// The pieces, and what is asked of several of them together.
pub(super) struct Parts {
    pub(super) upstream: Upstream,
    pub(super) access: Access,
    pub(super) store: Arc<Store>,
    pub(super) index: Index,
    pub(super) flights: Flights,
    pub(super) manifests: Manifests,
    pub(super) sweep: Sweep,
    pub(super) lending: Arc<Lending>,
    pub(super) tags: Tags,
    pub(super) heads: KnownHeads,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) metrics: Metrics,
    /// No connection is added further ahead of what is hashed: it is to be read again from memory.
    pub(super) ahead: u64,
    /// Since when nothing is kept for want of room.
    pub(super) full_since: Mutex<Option<SystemTime>>,
}

/// Harbor answers 412 for an artifact that its scanner withholds, others 451.
fn is_withheld(status: StatusCode) -> bool {
    matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS)
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
        let about_to_be = || self.flights.find(digest)?.verified_size();
        // In this order: what lands is in the index before it is no flight any more.
        about_to_be().or_else(|| self.here(digest).map(|(size, _)| size))
    }

    /// Whether the requester may read a digest in the pull's repository.
    pub(super) fn check(&self, pull: &Pull, content: (&Digest, ContentKind)) -> Checked {
        let mut checked = self.access.check(&pull.requester, &pull.key, content);
        // What was verified may not have landed yet.
        if !checked.permission.is_proved {
            let is_from_here = |flight: Arc<Flight>| flight.is_verified() && flight.was_asked_at(pull.key.namespace());
            checked.permission.is_proved = self.flights.find(content.0).is_some_and(is_from_here);
        }
        checked
    }

    /// Who asks upstream for the bytes of a pull.
    pub(super) fn payer(&self, pull: &Pull, content: (&Digest, ContentKind)) -> Requester {
        self.access.payer(&pull.requester, &pull.site, &pull.key, content)
    }

    /// A question about the pull that is sent to upstream now.
    pub(super) fn inquire(&self, pull: &Pull) -> Inquiry {
        self.access.inquire(&pull.key, &pull.requester)
    }

    /// A request for the bytes of a digest that goes past the cache.
    pub(super) fn request(&self, pull: &Pull, what: &What, digest: &Digest) -> BlobRequest {
        BlobRequest {
            upstream: self.upstream.clone(),
            site: pull.site.clone(),
            repository: pull.repository.clone(),
            what: what.clone(),
            requester: self.payer(pull, (digest, content_kind(what))),
            types: pull.types_of_its_own().filter(|_| matches!(what, What::Manifest(_))).map(Arc::from),
            named: self.named_size(pull, digest, what),
        }
    }

    /// How long a blob is by the manifest that named it to the requester.
    pub(super) fn named_size(&self, pull: &Pull, digest: &Digest, what: &What) -> Option<u64> {
        let What::Blob(_) = what else { return None };
        let manifests = self.access.named_by(&pull.requester, &pull.key, (digest, ContentKind::Blob));
        let sizes = manifests.iter().flatten().filter_map(|manifest| self.manifests.find(manifest)?.size_of(digest));
        sizes.into_iter().find(|size| *size > 0)
    }

    /// Waits for upstream's answer: not for long where what is here may be served instead.
    pub(super) async fn in_time<T>(
        &self,
        pull: &Pull,
        has_copy: bool,
        asking: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let deadline = has_copy.then(|| self.upstream.resolve_deadline());
        self.upstream.in_time(&pull.site, deadline, asking).await
    }

    /// Why what is here may be served in spite of upstream's answer, if it may.
    pub(super) fn stale(&self, pull: &Pull, error: &Error) -> Option<Stale> {
        let kept = error.kind() == Kind::Missing && self.tags.gone == Gone::Serve;
        let reason = Reason::of(error.kind()).or(kept.then_some(Reason::Gone))?;
        self.metrics.stale(&pull.site.registry.name, reason.as_str());
        Some(Stale { reason, message: error.message().to_owned() })
    }

    /// Ends what upstream's answer about a digest ends, for who asked.
    pub(super) async fn denied(&self, inquiry: &Inquiry, content: Option<(&Digest, ContentKind)>, error: &Error) {
        if is_bad_login(error) {
            self.access.account_refused(inquiry.key()).await;
        }
        let answered = answered_to(error).filter(|_| inquiry.is_accounts());
        let kind = match answered {
            // The account got nothing, and neither did anonymous: each has its own answer.
            Some(AnswerTo { identity: Identity::Anonymous, account }) => {
                let anonymous = self.access.asked_as_anonymous(inquiry);
                Box::pin(self.denied(&anonymous, content, error)).await;
                account.unwrap_or_else(|| error.kind())
            }
            _ => error.kind(),
        };
        match (kind, content) {
            (Kind::Refused, _) => self.access.refuse(inquiry).await,
            (Kind::Missing, Some(content)) => {
                let ends = if self.tags.gone == Gone::Forget { Ends::Open } else { Ends::Nothing };
                self.access.miss(inquiry, content, ends).await;
            }
            (Kind::Rejected, Some(content)) if is_withheld(error.status()) => {
                self.access.miss(inquiry, content, Ends::Open).await;
            }
            _ => {}
        }
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
