//! The bytes of a digest: here, on their way, or to be fetched. Whoever gets them has upstream's
//! grant for this repository and digest.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use tracing::warn;

use super::admit::{Admission, Admitted, Word};
use super::fill::Fill;
use super::flight::{Flight, Head, Joined, Progress};
use super::found::{Content, Found, Stale, content_type, or_octets};
use super::manifests::Manifest;
use super::negative::NegativeCache;
use super::parts::{Asked, Parts};
use super::pull::{Method, Pull, content_kind, may_push};
use super::reader::Source;
use super::through::VerifyingBody;
use crate::error::{Error, Fault, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::http::range::{Selection, first_byte, select};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::media_type::OCTET_STREAM;
use crate::policy::access::Permission;
use crate::store::index::Held;
use crate::store::is_missing;
use crate::upstream::{Fetched, What};

/// How far behind what a client asks for a fill may be. Further, and the client gets its bytes
/// straight from upstream. Less would send each of a client's parallel range requests upstream.
const FAR: u64 = 32 << 20;
/// A client whose leader was refused, or vanished, leads or follows again.
const ATTEMPTS: u32 = 4;

/// Finds the bytes of digests.
pub(super) struct Contents {
    pub(super) parts: Arc<Parts>,
    pub(super) admission: Admission,
    /// Manifests that did not come a moment ago.
    pub(super) negative: NegativeCache,
}

impl Contents {
    pub(super) fn new(parts: Arc<Parts>) -> Contents {
        let admission = Admission::new(parts.clone());
        Contents { parts, admission, negative: NegativeCache::default() }
    }

    /// Finds the bytes of a digest for who may read them.
    pub(super) async fn find(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<Found> {
        if pull.method == Method::Head {
            return Box::pin(self.describe(pull, digest, what, permission)).await;
        }
        let parts = &self.parts;
        self.admission.before_paying(pull, digest, what, permission).await?;
        for _ in 0..ATTEMPTS {
            if let Some(manifest) = parts.manifests.find(digest) {
                let Admitted::Granted(stale) = self.admission.admit(pull, digest, what, permission).await? else {
                    break;
                };
                return Ok(self.in_memory(pull, digest, &manifest, Outcome::Hit, stale));
            }
            match parts.flights.join(digest, || parts.index.hold(digest, self.now())) {
                Joined::Held(held) => {
                    let Admitted::Granted(stale) = self.admission.admit(pull, digest, what, permission).await? else {
                        break;
                    };
                    if let Some(found) = Box::pin(self.held(pull, digest, what, held, stale)).await? {
                        return Ok(found);
                    }
                }
                Joined::Follow(flight) => {
                    if let Some(found) = Box::pin(self.follow(pull, digest, what, &flight, permission)).await? {
                        return Ok(found);
                    }
                }
                Joined::Lead(lead) => {
                    let flight = lead.flight().clone();
                    lead.ask_for(pull.key.clone(), pull.requester.credential, content_kind(what));
                    let fill = Fill { parts: parts.clone(), request: parts.request(pull, what), key: pull.key.clone() };
                    parts.tasks.spawn(fill.run(lead));
                    let led = Box::pin(self.flown(pull, what, &flight, Outcome::Miss)).await;
                    return led.inspect_err(|error| {
                        parts.refused(pull, error);
                        self.negative.note_failure(pull, digest, error, self.now());
                    });
                }
            }
        }
        // Never with another requester's answer, nor with what is here: this one's own has to prove
        // itself.
        Box::pin(self.through(pull, what, digest.clone(), None)).await
    }

    fn now(&self) -> SystemTime {
        self.parts.now()
    }

    /// Reads what another requester's fill brings. `None`: that came to nothing, and this one tries
    /// for itself.
    async fn follow(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        flight: &Arc<Flight>,
        permission: Permission,
    ) -> Result<Option<Found>> {
        let same = flight.was_asked_for(&pull.key, pull.requester.credential);
        let is_final = |error: &Error| same && error.kind().fault() == Fault::Upstream;
        // Upstream's answer to who leads is the one this client would get. All others ask for
        // themselves, and wait for none.
        if same && let Some(error) = flight.flowing().await.err().filter(is_final) {
            return Err(error);
        }
        // Upstream answered for this repository: who may read there has a share of what comes.
        let answered = flight.was_asked_in(&pull.key, content_kind(what)) && flight.head().is_some();
        let was_missing = self.parts.access.was_missing(&pull.key, &pull.requester, (digest, content_kind(what)));
        let shares = answered && !was_missing && self.parts.check(pull, None) == Permission::Established;
        let permission = if shares { Permission::Established } else { permission };
        let admitted = self.admission.admit(pull, digest, what, permission).await?;
        if !same && self.is_silent(flight).await {
            return Box::pin(self.through(pull, what, digest.clone(), None)).await.map(Some);
        }
        let stale = match admitted {
            Admitted::Granted(stale) => stale,
            // Of bytes on their way the length is enough: they have to prove themselves.
            Admitted::Unproved(size) => match flight.flowing().await {
                Ok(head) if size.is_some() && head.total == size => None,
                _ => return Box::pin(self.through(pull, what, digest.clone(), None)).await.map(Some),
            },
        };
        match Box::pin(self.flown(pull, what, flight, Outcome::Collapsed)).await {
            Ok(found) => Ok(Some(Found { stale, ..found })),
            Err(error) if is_final(&error) => Err(error),
            // Another client's refusal, or another source's.
            Err(_) => Ok(None),
        }
    }

    /// Whether another's source still says nothing after the time that a question may take: this
    /// client has one of its own.
    async fn is_silent(&self, flight: &Flight) -> bool {
        tokio::time::timeout(self.parts.upstream.resolve_deadline(), flight.flowing()).await.is_err()
    }

    fn in_memory(
        &self,
        pull: &Pull,
        digest: &Digest,
        manifest: &Manifest,
        outcome: Outcome,
        stale: Option<Stale>,
    ) -> Found {
        manifest.infer_children(self.parts.access.presence(), &pull.key);
        let outcome = if stale.is_some() { Outcome::Stale } else { outcome };
        // The file is used as much as the memory is.
        self.parts.index.touch(digest, self.now());
        let content = Content::Memory(manifest.bytes.clone());
        Found { stale, ..Found::new(digest.clone(), manifest.media_type.clone(), content, outcome) }
    }

    /// A blob that is here. `None`: its file is missing, and the index knows it now.
    async fn held(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        held: Held,
        stale: Option<Stale>,
    ) -> Result<Option<Found>> {
        let parts = &self.parts;
        let blob = match parts.opened(digest, &held).await {
            Ok(blob) if blob.size == held.size => blob,
            Err(error) if !is_missing(&error) => {
                // A broken cache breaks no pull.
                warn!(%error, "a cached file cannot be opened: it is passed through from upstream");
                return Box::pin(self.through(pull, what, digest.clone(), None)).await.map(Some);
            }
            _ => {
                warn!(%digest, "a cached file is missing or has another length: it is fetched again");
                parts.sweep.remove(digest);
                return Ok(None);
            }
        };
        if let (What::Manifest(_), true) = (what, blob.size <= MAX_MANIFEST as u64) {
            // It is in memory from now on.
            parts.sweep.opened.forget(digest);
            let loaded = parts.manifests.load(digest, blob.file, blob.size, held.media_type.as_deref()).await?;
            if loaded.is_none() {
                warn!(%digest, "a cached manifest is not what it was: it is fetched again");
                parts.sweep.remove(digest);
            }
            return Ok(loaded.map(|manifest| self.in_memory(pull, digest, &manifest, Outcome::Hit, stale)));
        }
        let media_type = held.media_type.clone().unwrap_or_else(|| OCTET_STREAM.into());
        let size = blob.size;
        let content = Content::File(Source::Held(blob, held), Some(size));
        Ok(Some(Found::held(digest, media_type, content, stale)))
    }

    /// A blob on its way.
    async fn flown(&self, pull: &Pull, what: &What, flight: &Arc<Flight>, outcome: Outcome) -> Result<Found> {
        let digest = flight.digest().clone();
        let head = match flight.flowing().await {
            Err(error) if error.kind() == Kind::Full => {
                return self.through(pull, what, digest, flight.take_unused_response()).await;
            }
            other => other?,
        };
        let small = matches!(what, What::Manifest(_)) && head.total.is_none_or(|total| total <= MAX_MANIFEST as u64);
        // A response without a body has no last chunk that could be held back.
        if small || head.total == Some(0) {
            let size = match flight.verified().await {
                Err(error) if error.kind() == Kind::Full => return self.through(pull, what, digest, None).await,
                other => other?,
            };
            let loaded = self.parts.manifests.load(&digest, head.file.clone(), size, Some(&head.media_type)).await?;
            if let Some(manifest) = loaded.filter(|_| small) {
                return Ok(self.in_memory(pull, &digest, &manifest, outcome, None));
            }
        }
        let media_type = or_octets(&head.media_type);
        if let Some(part) = self.far(pull, what, flight, &head).await {
            return Ok(Found::new(digest, media_type, Content::Part(part), Outcome::Bypass));
        }
        let source = Source::Flight(head.file, flight.clone(), self.parts.request(pull, what));
        Ok(Found::new(digest, media_type, Content::File(source, head.total), outcome))
    }

    /// What a client wants from far ahead of the fill comes straight from upstream, while the fill
    /// goes on. `None`: it is near, or upstream has no ranges.
    async fn far(&self, pull: &Pull, what: &What, flight: &Flight, head: &Head) -> Option<Response<Incoming>> {
        let range = pull.range.as_ref()?;
        let start = match head.total.map(|total| select(Some(range), total)) {
            Some(Selection::Part(part)) => part.start,
            Some(_) => return None,
            None => first_byte(Some(range))?,
        };
        let Progress::Flowing { published } = flight.progress() else { return None };
        if start <= published.saturating_add(FAR) {
            return None;
        }
        let requester = self.parts.payer(pull);
        let upstream = &self.parts.upstream;
        let answer = upstream.fetch_range(&pull.site, &pull.repository, what, range, &requester).await.ok()?;
        let part = answer.response;
        (part.status() == StatusCode::PARTIAL_CONTENT).then_some(part)
    }

    /// Without the disk; a manifest at least stays in memory. `unused`: upstream's answer, if it
    /// was asked already.
    async fn through(&self, pull: &Pull, what: &What, digest: Digest, unused: Option<Fetched>) -> Result<Found> {
        let (parts, request, kind) = (&self.parts, self.parts.request(pull, what), content_kind(what));
        let single = pull.range.as_ref().filter(|range| select(Some(range), u64::MAX) != Selection::Whole);
        if let (What::Blob(_), Some(range)) = (what, single) {
            let answer = request.fetch_range(range).await?;
            if answer.names.is_some() {
                parts.access.record_grant(&pull.key, answer.grants_to(&request.requester), &digest, kind);
            }
            let part = answer.response;
            // All of it is verified, a part cannot be.
            if part.status() != StatusCode::OK {
                return Ok(Found::passed(digest, content_type(part.headers()), Content::Part(part)));
            }
        }
        let (fetched, grants_to) = match unused.filter(|fetched| fetched.start == 0) {
            // Who asked may be another: what it grants was recorded when it came.
            Some(fetched) => (fetched, None),
            None => {
                let fetched = request.fetch(0).await?;
                let grants_to = fetched.grants_to(&request.requester);
                (fetched, grants_to)
            }
        };
        let then = parts.access.moment();
        if fetched.is_named {
            parts.access.record_grant(&pull.key, grants_to, &digest, kind);
        }
        let (total, media_type) = (fetched.total, fetched.media_type);
        if matches!(what, What::Manifest(_)) && total.is_none_or(|total| total <= MAX_MANIFEST as u64) {
            let bytes = parts.upstream.collect(fetched.body, MAX_MANIFEST).await?;
            if Digest::of(digest.algorithm(), &bytes) != digest {
                let message = format!("upstream sent other bytes than those of {digest}; try again");
                return Err(Error::new(Kind::Corrupt, message));
            }
            parts.access.record_proved(&pull.key, grants_to, (&digest, kind), then);
            let manifest = parts.manifests.read(&digest, bytes, Some(&media_type));
            return Ok(self.in_memory(pull, &digest, &manifest, Outcome::Bypass, None));
        }
        let verify = Some((Hasher::new(digest.algorithm()), digest.clone()));
        let through = VerifyingBody::new(fetched.body, verify, total, parts.upstream.idle_timeout());
        Ok(Found::passed(digest, media_type, Content::Through(Box::new(through), total)))
    }
}

/// HEAD.
impl Contents {
    /// Answers a HEAD. Who asks for a blob's is about to push, and gets what upstream says now:
    /// pulls do without.
    async fn describe(&self, pull: &Pull, digest: &Digest, what: &What, permission: Permission) -> Result<Found> {
        let content = (digest, content_kind(what));
        let (pushing, checked) = (may_push(pull, what), self.parts.check(pull, Some(content)));
        let is_granted = permission == Permission::Established || checked == Permission::Established;
        let here = self.parts.here(digest);
        if let Some((size, media_type)) = here.clone().filter(|_| is_granted && !pushing) {
            return Ok(self.described(digest, size, media_type, Outcome::Hit));
        }
        let copy = match here {
            None => Permission::Required,
            // Upstream's last word for who asked stands too.
            Some(_) if pushing && self.parts.access.was_missing(&pull.key, &pull.requester, content) => {
                Permission::Required
            }
            Some(_) if pushing => checked.unless_not_found(),
            Some(_) => checked,
        };
        let asking = Box::pin(self.admission.ask(pull, digest, what));
        match (self.parts.ask(pull, copy, asking).await?, here) {
            (Asked::Answer(Word { said, is_proof: true }), here) => {
                let outcome = if here.is_some() { Outcome::Hit } else { Outcome::Bypass };
                match said.size.or(here.map(|(size, _)| size)) {
                    Some(size) => Ok(self.described(digest, size, Some(said.media_type.into()), outcome)),
                    None => self.measured(pull, digest, what, permission).await,
                }
            }
            // Upstream's words alone, as far as they go: of a manifest, the bytes are asked for.
            (Asked::Answer(Word { said, .. }), _) => match (what, said.size) {
                (What::Blob(_), Some(size)) => {
                    let content = Content::Unproved(size);
                    Ok(Found::passed(digest.clone(), said.media_type, content))
                }
                _ => self.measured(pull, digest, what, permission).await,
            },
            (Asked::Stale(stale), here) => {
                let (size, media_type) = here.unwrap_or_default();
                let found = self.described(digest, size, media_type, Outcome::Stale);
                Ok(Found { stale: Some(stale), ..found })
            }
        }
    }

    fn described(&self, digest: &Digest, size: u64, media_type: Option<Arc<str>>, outcome: Outcome) -> Found {
        let manifest = self.parts.manifests.find(digest).map(|manifest| manifest.media_type.clone());
        let media_type = manifest.or(media_type).filter(|name| !name.is_empty());
        let media_type = media_type.unwrap_or_else(|| OCTET_STREAM.into());
        Found::new(digest.clone(), media_type, Content::Sized(size), outcome)
    }

    /// For registries that do not say how long a manifest is: it is fetched, and kept.
    async fn measured(&self, pull: &Pull, digest: &Digest, what: &What, permission: Permission) -> Result<Found> {
        let whole = Pull { method: Method::Get, range: None, ..pull.clone() };
        let found = Box::pin(self.find(&whole, digest, what, permission)).await?;
        let size = match &found.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, Some(size)) | Content::Through(_, Some(size)) => *size,
            _ => return Err(Error::new(Kind::Broken, "upstream does not say how long this is")),
        };
        Ok(Found { content: Content::Sized(size), ..found })
    }
}
