//! The bytes of a digest: here, on their way, or to be fetched. Whoever gets them has upstream's
//! grant for this repository and digest.

use std::sync::Arc;
use std::time::SystemTime;

use http::{Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::warn;

use super::admit::{Admission, Admitted, Cleared, Reading};
use super::fill::Fill;
use super::flight::{Asking, Flight, Joined, Lead, Seat};
use super::found::{Content, Found, Stale, content_type, or_octets};
use super::manifests::Manifest;
use super::negative::NegativeCache;
use super::parts::Parts;
use super::progress::Head;
use super::pull::{Method, Pull, content_kind};
use super::reader::{Kept, Source};
use super::through::VerifyingBody;
use super::word::Word;
use crate::access::Inquiry;
use crate::error::{Error, Fault, Kind, Result};
use crate::http::cache_status::Outcome;
use crate::http::range::{Selection, first_byte, parse_content_range, select};
use crate::http::warnings::Warnings;
use crate::oci::digest::{Digest, Hasher};
use crate::oci::manifest::{ContentKind, MAX_MANIFEST};
use crate::oci::media_type::OCTET_STREAM;
use crate::policy::budget::LEAST_OF_ANSWER;
use crate::store::index::Held;
use crate::store::{Blob, is_missing};
use crate::upstream::{Fetched, Proves, Transfer, What, paced_at};

/// How far behind what a client asks for a fill may be. Further, and the client gets its bytes
/// straight from upstream. Less would send each of a client's parallel range requests upstream.
const FAR: u64 = 32 << 20;
/// A client whose leader was refused, or vanished, leads or follows again.
const ATTEMPTS: u32 = 4;

/// Bytes of a manifest that are answered from memory, whoever reads them: what every answer may have
/// there.
const LONG: u64 = LEAST_OF_ANSWER;

/// Whether upstream would say so again to who asks with the same credential.
fn is_final(error: &Error) -> bool {
    error.kind().fault() == Fault::Upstream
}

/// Whether a 206 is of all bytes there are.
fn covers_all(part: &Response<Incoming>) -> bool {
    let range = part.headers().get(header::CONTENT_RANGE).filter(|_| part.status() == StatusCode::PARTIAL_CONTENT);
    range
        .and_then(parse_content_range)
        .is_some_and(|range| range.start == 0 && range.total == Some(range.end_exclusive))
}

/// Finds the bytes of digests.
pub(super) struct Contents {
    pub(super) parts: Arc<Parts>,
    pub(super) admission: Arc<Admission>,
    /// Manifests that did not come a moment ago.
    pub(super) negative: NegativeCache,
}

impl Contents {
    pub(super) fn new(parts: Arc<Parts>) -> Contents {
        let admission = Arc::new(Admission::new(parts.clone()));
        Contents { parts, admission, negative: NegativeCache::default() }
    }

    /// Finds the bytes of a digest for who may read them.
    pub(super) async fn find(&self, pull: &Pull, digest: &Digest, what: &What, cleared: Cleared<'_>) -> Result<Found> {
        if pull.method == Method::Head {
            return Box::pin(self.describe(pull, digest, what, cleared)).await;
        }
        let parts = &self.parts;
        for _ in 0..ATTEMPTS {
            if let Some(manifest) = parts.manifests.find(digest) {
                let Some(reading) = self.admission.reading(pull, digest, what, cleared).await? else { break };
                return Ok(self.in_memory(pull, digest, &manifest, reading));
            }
            let asking = || Some(asking(pull, what, self.now()));
            match parts.flights.join_asking(digest, || parts.index.hold(digest, self.now()), asking) {
                Joined::Held(held) => {
                    let Some(reading) = self.admission.reading(pull, digest, what, cleared).await? else { break };
                    if let Some(found) = Box::pin(self.held(pull, digest, what, held, reading)).await? {
                        return Ok(found);
                    }
                }
                Joined::Follow(seat) => {
                    if let Some(found) = Box::pin(self.follow(pull, digest, what, seat, cleared)).await? {
                        return Ok(found);
                    }
                }
                Joined::Lead(lead) => return Box::pin(self.lead(pull, digest, what, lead, cleared)).await,
            }
        }
        // Never with another requester's answer, nor with what is here: this one's own has to prove
        // itself.
        Box::pin(self.through(pull, what, digest.clone(), None)).await
    }

    fn now(&self) -> SystemTime {
        self.parts.now()
    }

    /// Brings what is not here.
    async fn lead(&self, pull: &Pull, digest: &Digest, what: &What, lead: Lead, cleared: Cleared<'_>) -> Result<Found> {
        let (parts, seat) = (&self.parts, Seat::at(lead.flight()));
        if pull.range.is_none() {
            // Also if it hangs up before there is anything to read.
            seat.wants_all();
        }
        let fill = Fill {
            parts: parts.clone(),
            admission: self.admission.clone(),
            pull: pull.clone(),
            what: what.clone(),
            digest: digest.clone(),
            is_cleared: cleared.is_yes(),
        };
        parts.tasks.spawn(Arc::new(fill).run(lead));
        let led = Box::pin(self.flown(pull, what, seat, Outcome::Miss)).await;
        if let Err(error) = &led {
            self.negative.note_failure(pull, digest, error, self.now());
        }
        led
    }

    /// Reads what another requester's fill brings. `None`: that came to nothing, and this one tries
    /// for itself.
    async fn follow(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        seat: Seat,
        cleared: Cleared<'_>,
    ) -> Result<Option<Found>> {
        let flight = &seat.flight().clone();
        let content = (digest, content_kind(what));
        // Upstream's answer to who leads is the one this client would get. All others ask for
        // themselves, and wait for none.
        let is_same = flight.was_asked_for(&pull.key, pull.requester.credential, content.1);
        flight.stand_beside(pull.requester.cost.applicants().first());
        if is_same && let Some(error) = flight.flowing().await.err().filter(is_final) {
            return Err(error);
        }
        // What anonymous is sent, everybody may be.
        let is_near = flight.was_asked_in(&pull.key, content.1);
        let is_shared =
            |inquiry: &Inquiry| self.parts.access.is_believed(inquiry, content) && (is_same || inquiry.is_anonymous());
        if is_near && flight.inquiry().is_some_and(is_shared) {
            return Box::pin(self.flown_for(pull, what, seat, None)).await;
        }
        let admitted = self.admission.admit(pull, digest, what, cleared).await?;
        // What another registry sends is not verified yet: it is fetched from this one.
        if !flight.was_asked_at(pull.key.namespace()) || self.is_silent(flight).await {
            let found = Box::pin(self.through(pull, what, digest.clone(), None)).await?;
            // Nobody learns what others pull elsewhere.
            return Ok(Some(Found { outcome: Outcome::Miss, ..found }));
        }
        let stale = match admitted {
            Admitted::Granted(_, basis) => basis.stale(),
            Admitted::Unproved(word) if self.is_of_that_length(flight, word.as_ref()).await => {
                self.hear_once_verified(flight.clone(), word, content.1);
                None
            }
            Admitted::Unproved(_) => {
                return Box::pin(self.through(pull, what, digest.clone(), None)).await.map(Some);
            }
        };
        Box::pin(self.flown_for(pull, what, seat, stale)).await
    }

    /// What another's fill brings. `None`: it failed.
    async fn flown_for(&self, pull: &Pull, what: &What, seat: Seat, stale: Option<Stale>) -> Result<Option<Found>> {
        let (flight, kind) = (seat.flight(), content_kind(what));
        let is_same = flight.was_asked_for(&pull.key, pull.requester.credential, kind);
        // Nobody learns what others pull elsewhere.
        let outcome = if flight.was_asked_in(&pull.key, kind) { Outcome::Collapsed } else { Outcome::Miss };
        match Box::pin(self.flown(pull, what, seat, outcome)).await {
            Ok(found) => Ok(Some(Found { stale, ..found })),
            Err(error) if is_same && is_final(&error) => Err(error),
            // Another client's refusal, or another source's.
            Err(_) => Ok(None),
        }
    }

    /// Of bytes on their way the length is enough: they have to prove themselves.
    async fn is_of_that_length(&self, flight: &Flight, word: Option<&Word>) -> bool {
        let Some(size) = word.and_then(|word| word.said.size) else { return false };
        flight.flowing().await.is_ok_and(|head| head.total == Some(size))
    }

    /// An answer that named no digest is a yes once the bytes of its length are those of the digest.
    fn hear_once_verified(&self, flight: Arc<Flight>, word: Option<Word>, kind: ContentKind) {
        let (Some(Word { said, inquiry, .. }), access) = (word, self.parts.access.clone()) else { return };
        self.parts.tasks.spawn(async move {
            if flight.verified().await.is_ok() {
                access.hear(&inquiry, said.proves, (flight.digest(), kind));
            }
        });
    }

    /// Whether another's source still says nothing after the time that a question may take: this
    /// client has one of its own.
    async fn is_silent(&self, flight: &Flight) -> bool {
        tokio::time::timeout(self.parts.upstream.resolve_deadline(), flight.flowing()).await.is_err()
    }

    /// What is long is read from its file: many answers that nobody reads would keep as many manifests in
    /// memory.
    pub(super) async fn spare_memory(&self, found: Found) -> Found {
        let Content::Memory(bytes) = &found.content else { return found };
        if bytes.len() as u64 <= LONG {
            return found;
        }
        let Some(held) = self.parts.index.hold(&found.digest, self.now()) else { return found };
        match self.parts.opened(&found.digest, &held).await {
            Ok(blob) if blob.size == bytes.len() as u64 => Found { content: self.file(blob, held), ..found },
            _ => found,
        }
    }

    fn file(&self, blob: Blob, held: Held) -> Content {
        let size = Some(blob.size);
        Content::File(Source { from: Kept::Held(blob, held), clock: self.parts.clock.clone() }, size)
    }

    fn in_memory(&self, pull: &Pull, digest: &Digest, manifest: &Manifest, reading: Reading) -> Found {
        let Reading { outcome, stale, given } = reading;
        if let Some(given) = given {
            let access = &self.parts.access;
            manifest.give(&pull.key, pull.requester.credential, given, |listed| {
                access.give(&pull.requester, &pull.key, digest, given, listed);
            });
        }
        let outcome = if stale.is_some() { Outcome::Stale } else { outcome };
        // The file is used as much as the memory is.
        self.parts.index.touch(digest, self.now());
        let content = Content::Memory(manifest.bytes.clone());
        Found { stale, ..Found::new(digest.clone(), manifest.media_type.clone(), content, outcome) }
    }

    /// How a manifest is read that came just now.
    fn read_now(&self, pull: &Pull, digest: &Digest, outcome: Outcome) -> Reading {
        let given = self.parts.check(pull, (digest, ContentKind::Manifest)).given;
        Reading { outcome, stale: None, given }
    }

    /// A blob that is here. `None`: its file is missing, and the index knows it now.
    async fn held(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        held: Held,
        reading: Reading,
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
            return Ok(loaded.map(|manifest| self.in_memory(pull, digest, &manifest, reading)));
        }
        let media_type = held.media_type.clone().unwrap_or_else(|| OCTET_STREAM.into());
        let content = self.file(blob, held);
        let outcome = if reading.stale.is_some() { Outcome::Stale } else { reading.outcome };
        Ok(Some(Found { stale: reading.stale, ..Found::new(digest.clone(), media_type, content, outcome) }))
    }

    /// A blob on its way.
    async fn flown(&self, pull: &Pull, what: &What, seat: Seat, outcome: Outcome) -> Result<Found> {
        let flight = seat.flight();
        let digest = flight.digest().clone();
        let head = match flight.flowing().await {
            Err(error) if error.kind() == Kind::Full => {
                return self.through(pull, what, digest, flight.take_unused_response()).await;
            }
            other => other?,
        };
        // Not those of another repository.
        let is_near = flight.was_asked_in(&pull.key, content_kind(what));
        let warnings = if is_near { head.warnings.clone() } else { Warnings::default() };
        let small = matches!(what, What::Manifest(_)) && head.total.is_none_or(|total| total <= MAX_MANIFEST as u64);
        // A response without a body has no last chunk that could be held back.
        if small || head.total == Some(0) {
            let size = match flight.verified().await {
                Err(error) if error.kind() == Kind::Full => return self.through(pull, what, digest, None).await,
                other => other?,
            };
            let loaded = self.parts.manifests.load(&digest, head.file.clone(), size, Some(&head.media_type)).await?;
            if let Some(manifest) = loaded.filter(|_| small) {
                let reading = self.read_now(pull, &digest, outcome);
                return Ok(Found { warnings, ..self.in_memory(pull, &digest, &manifest, reading) });
            }
        }
        if head.is_packed && pull.range.is_some() {
            seat.wants_all();
            flight.verified().await?;
        }
        let media_type = or_octets(&head.media_type);
        if let Some(part) = self.far(pull, what, flight, &head).await {
            return Ok(Found::new(digest, media_type, Content::Part(part), Outcome::Bypass));
        }
        let request = self.parts.request(pull, what, &digest);
        let total = head.total.or(request.named);
        let from = Kept::Flight(head.file, seat, Box::new(request));
        let source = Source { from, clock: self.parts.clock.clone() };
        Ok(Found { warnings, ..Found::new(digest, media_type, Content::File(source, total), outcome) })
    }

    /// What a client wants from far ahead of a fill that has one connection comes straight from upstream,
    /// while the fill goes on. `None`: it is near, or upstream has no ranges.
    async fn far(&self, pull: &Pull, what: &What, flight: &Flight, head: &Head) -> Option<Response<Transfer>> {
        let range = pull.range.as_ref().filter(|_| !head.has_segments)?;
        let start = match head.total.map(|total| select(Some(range), total)) {
            Some(Selection::Part(part)) => part.start,
            Some(_) => return None,
            None => first_byte(Some(range))?,
        };
        if start <= flight.flown()?.saturating_add(FAR) {
            return None;
        }
        let (answer, place) = self.parts.request(pull, what, flight.digest()).fetch_range(range).await.ok()?;
        let part = paced_at(place, answer.response);
        (part.status() == StatusCode::PARTIAL_CONTENT).then_some(part)
    }

    /// Without the disk; a manifest at least stays in memory. `unused`: upstream's answer, if it
    /// was asked already.
    async fn through(&self, pull: &Pull, what: &What, digest: Digest, unused: Option<Fetched>) -> Result<Found> {
        let (parts, request) = (&self.parts, self.parts.request(pull, what, &digest));
        let (inquiry, content) = (parts.inquire(pull), (&digest, content_kind(what)));
        // Who asked may be another: what it says was heard when it came.
        let mut ready = unused.filter(|fetched| fetched.start == 0);
        ready = ready.map(|fetched| Fetched { proves: Proves::Nothing, ..fetched });
        let single = pull.range.as_ref().filter(|range| matches!(select(Some(range), u64::MAX), Selection::Part(_)));
        if let (What::Blob(_), Some(range)) = (what, single) {
            let (answer, place) = match request.fetch_range(range).await {
                Ok(answer) => answer,
                Err(error) => return Err(self.refused_through(pull, what, &digest, &inquiry, error).await),
            };
            if answer.names.is_some() {
                parts.access.hear(&inquiry, answer.proves(&request.requester), content);
            }
            // All of it is verified, however it was asked for; a part cannot be.
            let is_all = covers_all(&answer.response);
            if !is_all && answer.response.status() != StatusCode::OK {
                let part = paced_at(place, answer.response);
                return Ok(Found::passed(digest, content_type(part.headers()), Content::Part(part)));
            }
            if is_all {
                ready = Some(Fetched { is_named: false, ..Fetched::of(answer, &request.requester).at(place) });
            }
        }
        let fetched = match ready {
            Some(fetched) => fetched,
            None => match request.fetch(0).await {
                Ok(fetched) => fetched,
                Err(error) => return Err(self.refused_through(pull, what, &digest, &inquiry, error).await),
            },
        };
        if fetched.is_named {
            parts.access.hear(&inquiry, fetched.proves, content);
        }
        let Fetched { total, media_type, proves, warnings, .. } = fetched;
        let total = total.or(request.named);
        if matches!(what, What::Manifest(_)) && total.is_none_or(|total| total <= MAX_MANIFEST as u64) {
            let bytes = parts.upstream.collect(fetched.body, MAX_MANIFEST).await?;
            if Digest::of(digest.algorithm(), &bytes) != digest {
                let message = format!("upstream sent other bytes than those of {digest}; try again");
                return Err(Error::new(Kind::Corrupt, message));
            }
            parts.access.deliver_and_read(&inquiry, proves, content);
            let manifest = parts.manifests.read(&digest, bytes, Some(&media_type));
            let reading = self.read_now(pull, &digest, Outcome::Bypass);
            return Ok(Found { warnings, ..self.in_memory(pull, &digest, &manifest, reading) });
        }
        let access = parts.access.clone();
        let proved = (digest.clone(), content.1);
        let once_verified = move || access.deliver_and_read(&inquiry, proves, (&proved.0, proved.1));
        let verify = Some((Hasher::new(digest.algorithm()), digest.clone()));
        let through = VerifyingBody::new(fetched.body.paced(), verify, total, parts.upstream.idle_timeout());
        let through = through.then(Box::new(once_verified));
        Ok(Found { warnings, ..Found::passed(digest, media_type, Content::Through(Box::new(through), total)) })
    }

    /// Hears a refusal, and takes as long for it as where the bytes are here or not.
    async fn refused_through(
        &self,
        pull: &Pull,
        what: &What,
        digest: &Digest,
        inquiry: &Inquiry,
        error: Error,
    ) -> Error {
        self.parts.denied(inquiry, Some((digest, content_kind(what))), &error).await;
        self.admission.after_refused_get(pull, digest, what, &error).await;
        error
    }
}

/// What a pull's lead asks upstream.
fn asking(pull: &Pull, what: &What, since: SystemTime) -> Asking {
    Asking {
        key: pull.key.clone(),
        credential: pull.requester.credential,
        kind: content_kind(what),
        cost: pull.requester.cost.clone(),
        since,
    }
}
