//! The bytes of a digest: here, on their way, or to be fetched. Whoever gets them has upstream's yes for this repository and digest.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;

use super::fill::Fill;
use super::flight::{Flight, Head, Joined, Progress};
use super::manifests::Manifest;
use super::reader::Source;
use super::resolve::{Stale, away};
use super::through::{BlobRequest, VerifyingBody};
use super::{Cache, Found, Gone, Method, Pull};
use crate::error::{Error, Fault, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::http::range::{Selection, first_byte, select};
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::media_type::{Accept, OCTET_STREAM};
use crate::oci::name::RepositoryKey;
use crate::policy::access::GrantRecord;
use crate::policy::freshness::Reason;
use crate::store::index::Held;
use crate::store::is_missing;
use crate::upstream::requester::Credential;
use crate::upstream::{Fetched, What, is_bad_login, is_yes};
use crate::{fs, task};

/// What there is to send.
#[derive(Debug)]
pub enum Content {
    /// All of it, in memory.
    Memory(Bytes),
    /// A file, whole or growing, and its length if that is known.
    File(Source, Option<u64>),
    /// From upstream, verified on the way, and its length if that is known.
    Through(Box<VerifyingBody>, Option<u64>),
    /// A part that upstream was asked for, as it answered.
    Part(Response<Incoming>),
    /// Nothing: only its length was asked for.
    Sized(u64),
}

/// Whether the client has upstream's yes for what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// It has: the tag was resolved for it.
    Established,
    /// It may have.
    Required,
}

/// What is asked once for many: a digest in a repository, for one credential, to push it or not, since the last trial.
pub(super) type Admission = (RepositoryKey, What, Credential, bool, u64);

/// How far behind what a client asks for a fill may be. Further, and the client gets its bytes straight from upstream. Less would
/// send each of a client's parallel range requests upstream.
const FAR: u64 = 32 << 20;
/// A client whose leader was refused, or vanished, leads or follows again.
const ATTEMPTS: u32 = 4;

impl Cache {
    pub(super) async fn content(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<Found> {
        if pull.method == Method::Head {
            return Box::pin(self.described(pull, digest, what, permission)).await;
        }
        self.ask_before_paying(pull, digest, what, permission).await?;
        for _ in 0..ATTEMPTS {
            if let Some(manifest) = self.0.manifests.find(digest) {
                let stale = self.admit(pull, digest, what, permission).await?;
                return Ok(self.in_memory(pull, digest, &manifest, Outcome::Hit, stale));
            }
            match self.0.flights.join(digest, || self.0.index.hold(digest, self.0.clock.now())) {
                Joined::Held(held) => {
                    let stale = self.admit(pull, digest, what, permission).await?;
                    if let Some(found) = Box::pin(self.held(pull, digest, what, held, stale)).await? {
                        return Ok(found);
                    }
                }
                Joined::Follow(flight) => {
                    let same = flight.was_asked_for(&pull.key, pull.requester.credential);
                    let final_for_this = |error: &Error| same && error.kind().fault() == Fault::Upstream;
                    // Upstream's answer to who leads is the one this client would get. All others ask for themselves, and wait for nobody.
                    if same && let Some(error) = flight.flowing().await.err().filter(final_for_this) {
                        return Err(error);
                    }
                    let stale = self.admit(pull, digest, what, permission).await?;
                    if !same && self.is_silent(&flight).await {
                        return Box::pin(self.through(pull, what, digest.clone(), None)).await;
                    }
                    match Box::pin(self.flown(pull, what, &flight, Outcome::Collapsed)).await {
                        Ok(found) => return Ok(Found { stale, ..found }),
                        Err(error) if final_for_this(&error) => return Err(error),
                        // Another client's refusal, or another source's: this one tries for itself.
                        Err(_) => {}
                    }
                }
                Joined::Lead(lead) => {
                    let flight = lead.flight().clone();
                    lead.ask_for(pull.key.clone(), pull.requester.credential);
                    let fill = Fill { cache: self.clone(), request: self.request(pull, what), key: pull.key.clone() };
                    self.0.tasks.spawn(fill.run(lead));
                    let led = Box::pin(self.flown(pull, what, &flight, Outcome::Miss)).await;
                    return led.inspect_err(|error| {
                        self.refused(pull, error);
                        self.note_failure(pull, digest, error);
                    });
                }
            }
        }
        // Never with somebody else's answer.
        Box::pin(self.through(pull, what, digest.clone(), None)).await
    }

    /// Whether another's source still says nothing after the time that a question may take: this client has one of its own.
    async fn is_silent(&self, flight: &Flight) -> bool {
        tokio::time::timeout(self.0.upstream.resolve_deadline(), flight.flowing()).await.is_err()
    }

    pub(super) fn refused(&self, pull: &Pull, error: &Error) {
        if error.kind() == Kind::Refused {
            self.0.grants.revoke(&pull.key, pull.requester.credential);
        }
        if is_bad_login(error) {
            self.0.grants.account_refused(&pull.key);
        }
    }

    fn request(&self, pull: &Pull, what: &What) -> BlobRequest {
        BlobRequest {
            upstream: self.0.upstream.clone(),
            site: pull.site.clone(),
            repository: pull.repository.clone(),
            what: what.clone(),
            requester: self.payer(pull),
        }
    }

    /// A grant that is believed; else upstream is asked, for this digest, with this client's credential. `Some`: upstream could not
    /// be asked, and its last word stands.
    async fn admit(&self, pull: &Pull, digest: &Digest, what: &What, permission: Permission) -> Result<Option<Stale>> {
        if permission == Permission::Established {
            return Ok(None);
        }
        let known = self.0.grants.known(&pull.key, pull.requester.credential, Some(digest));
        if known.granted(self.0.grants.ttls(), self.0.clock.now()) {
            return Ok(None);
        }
        let stands = known.usable_while_away(self.0.grants.ttls(), self.0.clock.now());
        let deadline = stands.then(|| self.0.upstream.resolve_deadline());
        let asking = Box::pin(self.ask_digest(pull, digest, what));
        match self.0.upstream.in_time(&pull.site, deadline, asking).await {
            Ok(_) => Ok(None),
            Err(error) => self.stale(pull, &error).filter(|_| self.usable_after(known, &error)).map(Some).ok_or(error),
        }
    }

    fn usable_after(&self, known: GrantRecord, error: &Error) -> bool {
        let known = if error.kind() == Kind::Missing { known.after_not_found() } else { known };
        known.usable_while_away(self.0.grants.ttls(), self.0.clock.now())
    }

    /// Why upstream's answer is no reason not to serve what is here, if it is none.
    pub(super) fn stale(&self, pull: &Pull, error: &Error) -> Option<Stale> {
        let kept = error.kind() == Kind::Missing && self.0.tags.gone == Gone::Serve;
        let reason = away(error).or(kept.then_some(Reason::Gone))?;
        self.0.metrics.stale(&pull.site.registry.name, reason.as_str());
        Some(Stale { reason, message: error.message().to_owned() })
    }

    /// One HEAD for all who ask for the same at once. A yes is a grant, a no ends one.
    pub(super) async fn ask_digest(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
    ) -> Result<crate::upstream::Description> {
        let (pushing, turn) = (may_push(pull, what), self.0.upstream.generation(&pull.site));
        let question = (pull.key.clone(), what.clone(), pull.requester.credential, pushing, turn);
        let (cache, asked, subject, digest) = (self.clone(), pull.clone(), what.clone(), digest.clone());
        let work = move || async move {
            let upstream = &cache.0.upstream;
            let said =
                upstream.describe(&asked.site, &asked.repository, &subject, Accept::ANYTHING, &asked.requester).await;
            // Also when it comes too late for who asked.
            match &said {
                Ok(said) => cache.record_grant(&asked.key, said.grants_to(&asked.requester), &digest),
                Err(error) => cache.denied(&asked, &subject, &digest, error),
            }
            said
        };
        self.0.admissions.run(question, work).await
    }

    /// What upstream's no takes away.
    fn denied(&self, pull: &Pull, what: &What, digest: &Digest, error: &Error) {
        self.refused(pull, error);
        // From now on it is missing for all, and asked for anew.
        if error.kind() == Kind::Missing && (may_push(pull, what) || self.0.tags.gone == Gone::Forget) {
            self.0.grants.remove_presence(&pull.key, digest);
        }
    }

    /// A HEAD. Who asks for a blob's is about to push, and is told what upstream says now: pulls do without.
    async fn described(&self, pull: &Pull, digest: &Digest, what: &What, permission: Permission) -> Result<Found> {
        let pushing = matches!(what, What::Blob(_));
        let here = self.here(digest);
        let known = self.0.grants.known(&pull.key, pull.requester.credential, Some(digest));
        let granted = permission == Permission::Established || known.granted(self.0.grants.ttls(), self.0.clock.now());
        let stands = here.is_some() && known.usable_while_away(self.0.grants.ttls(), self.0.clock.now());
        let deadline = stands.then(|| self.0.upstream.resolve_deadline());
        let asking = Box::pin(self.ask_digest(pull, digest, what));
        let (size, media_type, outcome, stale) = match (here, granted && !pushing) {
            (Some((size, media_type)), true) => (size, media_type, Outcome::Hit, None),
            (here, _) => match (self.0.upstream.in_time(&pull.site, deadline, asking).await, here) {
                (Ok(said), here) => {
                    let outcome = if here.is_some() { Outcome::Hit } else { Outcome::Bypass };
                    let size = said.size.or(here.map(|(size, _)| size));
                    let Some(size) = size else { return self.measured(pull, digest, what, permission).await };
                    (size, Some(said.media_type.into()), outcome, None)
                }
                (Err(error), Some((size, media_type))) if self.usable_after(known, &error) => {
                    let missing = pushing && error.kind() == Kind::Missing;
                    let stale = self.stale(pull, &error).filter(|_| !missing).ok_or(error)?;
                    (size, media_type, Outcome::Stale, Some(stale))
                }
                (Err(error), _) => return Err(error),
            },
        };
        let manifest = self.0.manifests.find(digest).map(|manifest| manifest.media_type.clone());
        let media_type = manifest.or(media_type).filter(|name| !name.is_empty()).unwrap_or_else(|| OCTET_STREAM.into());
        Ok(Found { digest: digest.clone(), media_type, content: Content::Sized(size), outcome, age: None, stale })
    }

    /// Length and type of what is on disk, or in memory at least.
    fn here(&self, digest: &Digest) -> Option<(u64, Option<Arc<str>>)> {
        let held = self.0.index.hold(digest, self.0.clock.now());
        let in_memory = || {
            let manifest = self.0.manifests.find(digest)?;
            Some((manifest.bytes.len() as u64, Some(manifest.media_type.clone())))
        };
        held.map(|held| (held.size, held.media_type.clone())).or_else(in_memory)
    }

    /// For registries that do not say how long a manifest is: it is fetched, and kept.
    async fn measured(&self, pull: &Pull, digest: &Digest, what: &What, permission: Permission) -> Result<Found> {
        let whole = Pull { method: Method::Get, range: None, ..pull.clone() };
        let found = Box::pin(self.content(&whole, digest, what, permission)).await?;
        let size = match &found.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, Some(size)) | Content::Through(_, Some(size)) => *size,
            _ => return Err(Error::new(Kind::Broken, "upstream does not say how long this is")),
        };
        Ok(Found { content: Content::Sized(size), ..found })
    }

    fn in_memory(
        &self,
        pull: &Pull,
        digest: &Digest,
        manifest: &Manifest,
        outcome: Outcome,
        stale: Option<Stale>,
    ) -> Found {
        manifest.vouch(&self.0.grants, &pull.key);
        let outcome = if stale.is_some() { Outcome::Stale } else { outcome };
        // The file is used as much as the memory is.
        self.0.index.touch(digest, self.0.clock.now());
        let content = Content::Memory(manifest.bytes.clone());
        Found { digest: digest.clone(), media_type: manifest.media_type.clone(), content, outcome, age: None, stale }
    }

    /// `None`: the file is gone, and the index knows it now.
    async fn held(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        held: Held,
        stale: Option<Stale>,
    ) -> Result<Option<Found>> {
        let blob = match self.opened(digest, &held).await {
            Ok(blob) if blob.size == held.size => blob,
            Err(error) if !is_missing(&error) => {
                // A broken cache breaks no pull.
                tracing::warn!(%error, "a cached file cannot be opened: it is passed through from upstream");
                return Box::pin(self.through(pull, what, digest.clone(), None)).await.map(Some);
            }
            _ => {
                tracing::warn!(%digest, "a cached file is gone or has another length: it is fetched again");
                self.0.sweep.remove(digest);
                return Ok(None);
            }
        };
        if let (What::Manifest(_), true) = (what, blob.size <= MAX_MANIFEST as u64) {
            // It is in memory from now on.
            self.0.sweep.opened.forget(digest);
            return Ok(match self.load(digest, blob.file, blob.size, held.media_type.as_deref()).await? {
                Some(manifest) => Some(self.in_memory(pull, digest, &manifest, Outcome::Hit, stale)),
                None => {
                    tracing::warn!(%digest, "a cached manifest is not what it was: it is fetched again");
                    self.0.sweep.remove(digest);
                    None
                }
            });
        }
        let media_type = held.media_type.clone().unwrap_or_else(|| OCTET_STREAM.into());
        let outcome = if stale.is_some() { Outcome::Stale } else { Outcome::Hit };
        let size = blob.size;
        let content = Content::File(Source::Held(blob, held), Some(size));
        Ok(Some(Found { digest: digest.clone(), media_type, content, outcome, age: None, stale }))
    }

    /// `None`: the bytes are not those of the digest.
    pub(super) async fn load(
        &self,
        digest: &Digest,
        file: Arc<std::fs::File>,
        size: u64,
        media_type: Option<&str>,
    ) -> Result<Option<Arc<Manifest>>> {
        let read = task::blocking(move || {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            let n = fs::read_at(&file, &mut bytes, 0)?;
            bytes.truncate(n);
            Ok::<_, std::io::Error>(Bytes::from(bytes))
        });
        let bytes = read.await.map_err(|error| Error::caused(Kind::Ours, "a cached file cannot be read", error))?;
        if Digest::of(digest.algorithm(), &bytes) != *digest {
            return Ok(None);
        }
        Ok(Some(self.keep_in_memory(digest, bytes, media_type)))
    }

    fn keep_in_memory(&self, digest: &Digest, bytes: Bytes, media_type: Option<&str>) -> Arc<Manifest> {
        let manifest = Arc::new(Manifest::read(bytes, media_type));
        self.0.manifests.keep(digest, manifest.clone());
        manifest
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
            let file = head.file.clone();
            if let Some(manifest) = self.load(&digest, file, size, Some(&head.media_type)).await?.filter(|_| small) {
                return Ok(self.in_memory(pull, &digest, &manifest, outcome, None));
            }
        }
        let media_type = if head.media_type.is_empty() { OCTET_STREAM.into() } else { head.media_type.clone() };
        if let Some(part) = self.far(pull, what, flight, &head).await {
            let (outcome, content) = (Outcome::Bypass, Content::Part(part));
            return Ok(Found { digest, media_type, content, outcome, age: None, stale: None });
        }
        let source = Source::Flight(head.file, flight.clone(), self.request(pull, what));
        let content = Content::File(source, head.total);
        Ok(Found { digest, media_type, content, outcome, age: None, stale: None })
    }

    /// What a client wants from far ahead of the fill comes straight from upstream, while the fill goes on. `None`: it is near, or
    /// upstream has no ranges.
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
        let requester = self.payer(pull);
        let part = self.0.upstream.fetch_range(&pull.site, &pull.repository, what, range, &requester).await.ok()?;
        (part.status() == StatusCode::PARTIAL_CONTENT).then_some(part)
    }

    /// Without the disk; a manifest at least stays in memory. `unused_response`: upstream's answer, if it was asked already.
    async fn through(
        &self,
        pull: &Pull,
        what: &What,
        digest: Digest,
        unused_response: Option<Fetched>,
    ) -> Result<Found> {
        let request = self.request(pull, what);
        let single = pull.range.as_ref().filter(|range| select(Some(range), u64::MAX) != Selection::Whole);
        if let (What::Blob(_), Some(range)) = (what, single) {
            let part = request
                .upstream
                .fetch_range(&request.site, &request.repository, what, range, &request.requester)
                .await?;
            self.record_grant(&pull.key, request.requester.grants_to().filter(|_| is_yes(&part)), &digest);
            // All of it is verified, a part cannot be.
            if part.status() != StatusCode::OK {
                return Ok(passed(digest, content_type(part.headers()), Content::Part(part)));
            }
        }
        let fetched = match unused_response.filter(|fetched| fetched.start == 0) {
            // Whoever asked for it was given what that yes is worth.
            Some(fetched) => fetched,
            None => {
                let fetched = request.fetch(0).await?;
                self.record_grant(&pull.key, fetched.grants_to(&request.requester), &digest);
                fetched
            }
        };
        let (total, media_type) = (fetched.total, fetched.media_type);
        if matches!(what, What::Manifest(_)) && total.is_none_or(|total| total <= MAX_MANIFEST as u64) {
            let bytes = self.0.upstream.collect(fetched.body, MAX_MANIFEST).await?;
            if Digest::of(digest.algorithm(), &bytes) != digest {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("upstream sent other bytes than those of {digest}; try again"),
                ));
            }
            let manifest = self.keep_in_memory(&digest, bytes, Some(&media_type));
            return Ok(self.in_memory(pull, &digest, &manifest, Outcome::Bypass, None));
        }
        let verify = Some((Hasher::new(digest.algorithm()), digest.clone()));
        let through = VerifyingBody::new(fetched.body, verify, total, self.0.upstream.idle_timeout());
        Ok(passed(digest, media_type, Content::Through(Box::new(through), total)))
    }
}

/// Who asks for a blob by HEAD may be about to push.
fn may_push(pull: &Pull, what: &What) -> bool {
    pull.method == Method::Head && matches!(what, What::Blob(_))
}

fn passed(digest: Digest, media_type: String, content: Content) -> Found {
    let media_type = if media_type.is_empty() { OCTET_STREAM.into() } else { media_type.into() };
    Found { digest, media_type, content, outcome: Outcome::Bypass, age: None, stale: None }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    crate::oci::media_type::essence(value.unwrap_or_default()).to_owned()
}
