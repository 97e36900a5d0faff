//! Fetches one blob, for all who want it.
//!
//! 1. what is here of it is hashed, and resumed, where who came first may read it;
//! 2. upstream is asked for the rest, with the credential of who came first: its answer is a yes if
//!    it names the digest, else once the bytes have proved it;
//! 3. room is made;
//! 4. chunks coalesce, and are hashed and written on a thread while the next ones arrive; what is
//!    written is published, the last of it only when the digest is verified;
//! 5. a transfer that breaks is resumed through the registry's URL, as long as attempts bring
//!    bytes;
//! 6. file, then index, then landing.
//!
//! It waits for no reader and does not die with one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::admit::Admission;
use super::coalesce::{End, WriteCoalescer};
use super::flight::{Head, Lead};
use super::keep::land;
use super::overlap;
use super::parts::Parts;
use super::pull::{Pull, content_kind};
use super::sweep::SpaceReservation;
use super::through::BlobRequest;
use crate::access::Inquiry;
use crate::clock::jitter;
use crate::error::{Error, Kind, Result};
use crate::fs::FsError;
use crate::lane::Place;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Verdict;
use crate::policy::admission::Wish;
use crate::policy::budget::{Pace, Tenant};
use crate::policy::retry;
use crate::store::Partial;
use crate::task;
use crate::upstream::breaker::not_asked;
use crate::upstream::{Fetched, Proves, What};

/// A blob to fetch.
pub(super) struct Fill {
    pub(super) parts: Arc<Parts>,
    pub(super) admission: Arc<Admission>,
    /// Of who came first.
    pub(super) pull: Pull,
    pub(super) what: What,
    /// Whether it is known that they may read it: see [`Cleared`](super::admit::Cleared).
    pub(super) is_cleared: bool,
}

/// Upstream's answer, and the question that it answers.
struct Opened {
    partial: Partial,
    fetched: Fetched,
    inquiry: Inquiry,
    request: BlobRequest,
}

/// A blob that is whole and verified.
struct Filled {
    partial: Partial,
    media_type: Arc<str>,
    reservation: SpaceReservation,
}

impl Fill {
    fn kind(&self) -> ContentKind {
        content_kind(&self.what)
    }

    fn tenant(&self) -> Tenant {
        self.pull.requester.cost.applicants().first()
    }

    fn key(&self) -> &RepositoryKey {
        &self.pull.key
    }

    /// Fills, lands or fails.
    pub(super) async fn run(self, mut lead: Lead) {
        let _running = self.parts.metrics.fill();
        let digest = lead.flight().digest().clone();
        let is_asked = self.admission.is_asked_before_paying(&self.pull, &digest, &self.what);
        match self.fill(&mut lead, is_asked).await {
            Ok(filled) => self.keep(lead, filled).await,
            Err(error) => {
                debug!(%digest, %error, "fill failed");
                if !is_asked {
                    self.admission.after_refused_get(&self.pull, &digest, &self.what, &error).await;
                }
                self.put_away(lead.flight().digest().clone(), error.kind()).await;
                lead.fail(error);
                let sweep = self.parts.sweep.clone();
                task::blocking(move || sweep.bound_partials()).await;
            }
        }
    }

    /// What a failed fill leaves: the start of a blob, to resume; nothing where the disk is full.
    /// Who reads it has it open.
    async fn put_away(&self, digest: Digest, why: Kind) {
        let store = self.parts.store.clone();
        let put_away = task::blocking(move || match why {
            Kind::Full => store.remove_partial(&digest),
            _ => store.trim_partial(&digest),
        });
        if let Err(error) = put_away.await {
            warn!(%error, "a partial blob stays");
        }
    }

    async fn fill(&self, lead: &mut Lead, is_asked: bool) -> Result<Filled> {
        if is_asked {
            self.admission.before_paying(&self.pull, lead.flight().digest(), &self.what).await?;
        }
        let Opened { mut partial, mut fetched, inquiry, request } = self.open(lead).await?;
        let (total, proves) = (fetched.total, fetched.proves);
        let mut reservation = match self.make_room(partial.len(), total).await {
            Ok(reservation) => reservation,
            Err(error) => {
                lead.leave_response(fetched);
                return Err(error);
            }
        };
        let media_type: Arc<str> = fetched.media_type.as_str().into();
        let warnings = std::mem::take(&mut fetched.warnings);
        let head = Head { file: partial.file(), total, media_type: media_type.clone(), warnings };
        // What the account was sent says nothing of who asked.
        let granted = Some(&inquiry).filter(|_| matches!(proves, Proves::Grant(_)));
        lead.flow(granted, head, readable(&partial, total, 1));
        let mut fruitless = 0;
        loop {
            let before = partial.len();
            let end;
            (partial, reservation, end) = self.pump(lead, partial, fetched, total, reservation).await?;
            let error = match end {
                End::Clean if total.is_none_or(|total| partial.len() == total) => break,
                End::Clean => Error::new(Kind::Broken, "upstream sent fewer bytes than it said"),
                End::Broken(error) => error,
            };
            fruitless = if partial.len() > before { 0 } else { fruitless + 1 };
            fetched = self.resume(&request, &partial, total, &mut fruitless, error).await?;
        }
        let partial = self.verify(lead, partial, &inquiry, proves).await?;
        Ok(Filled { partial, media_type, reservation })
    }

    /// What is here of the blob, and the rest from upstream, if upstream goes on with the very bytes
    /// that are here: somebody else may have fetched them, from another registry, and a name, a length
    /// or a page is not enough to give them away. Else it begins anew.
    async fn open(&self, lead: &Lead) -> Result<Opened> {
        let (store, digest) = (self.parts.store.clone(), lead.flight().digest().clone());
        let request = self.parts.request(&self.pull, &self.what, &digest);
        let inquiry = self.parts.inquire(&self.pull);
        if self.must_ask_first(&digest).await {
            // A refusal is not to take longer where something is here.
            self.fetch(&request, &inquiry, &digest, None, 0).await?;
        }
        // Before the file: who waits for one holds none.
        let place = request.place().await?;
        let mut partial = task::blocking(move || store.partial(&digest)).await.map_err(no_room)?;
        let (digest, here) = (partial.digest().clone(), partial.len());
        let end = if here == 0 { None } else { overlap::end_of(partial.file(), here).await };
        let from = end.as_ref().map_or(0, |end| here - end.len() as u64);
        let mut fetched = self.fetch(&request, &inquiry, &digest, Some(place), from).await;
        // As long as the blob, or longer, and not the blob: nothing here is right.
        let whole = here > 0 && partial.is_verified();
        let is_wrong = from > 0 && !whole && is_as_long_as_all(&partial, &fetched);
        if is_wrong && !fetched.as_ref().is_ok_and(|fetched| fetched.start == 0) {
            // Its place first: who waits for one holds none.
            drop(fetched);
            fetched = self.fetch(&request, &inquiry, &digest, None, 0).await;
        }
        let mut fetched = fetched?;
        if let Some(end) = end.filter(|_| fetched.start > 0)
            && !overlap::begins_with(&mut fetched, &end, self.parts.upstream.idle_timeout()).await?
        {
            drop(fetched);
            fetched = self.fetch(&request, &inquiry, &digest, None, 0).await?;
        }
        if fetched.start == 0 && here > 0 {
            partial = self.anew(partial).await?;
        } else if whole && fetched.total != Some(here) {
            let host = &self.pull.site.origin.host;
            return Err(Error::new(Kind::Broken, format!("{host} returned another length than that of the digest")));
        }
        if !partial.is_empty() {
            info!(%digest, from = partial.len(), "resuming a partial blob");
        }
        Ok(Opened { partial, fetched, inquiry, request })
    }

    /// Whether upstream refused a question by HEAD, which comes first where a part of the blob is here:
    /// to hash it takes as long as it is.
    async fn must_ask_first(&self, digest: &Digest) -> bool {
        let is_known = || self.parts.check(&self.pull, (digest, self.kind())).permission.verdict != Verdict::Ask;
        if self.is_cleared || is_known() {
            return false;
        }
        let (store, name) = (self.parts.store.clone(), digest.clone());
        let has_partial = task::blocking(move || store.has_partial(&name)).await;
        has_partial && self.admission.ask(&self.pull, digest, &self.what).await.is_err()
    }

    /// Asks, in its place or in one that it waits for, and hears the answer.
    async fn fetch(
        &self,
        request: &BlobRequest,
        inquiry: &Inquiry,
        digest: &Digest,
        place: Option<Place>,
        from: u64,
    ) -> Result<Fetched> {
        let fetched = match place {
            Some(place) => request.fetch_in(place, from).await,
            None => request.fetch(from).await,
        };
        let content = (digest, self.kind());
        match &fetched {
            Ok(fetched) if fetched.is_named => self.parts.access.hear(inquiry, fetched.proves, content),
            Ok(_) => {}
            Err(error) => self.parts.denied(inquiry, Some(content), error).await,
        }
        fetched
    }

    /// An empty partial in place of this one, which its readers still have.
    async fn anew(&self, partial: Partial) -> Result<Partial> {
        let (store, digest) = (self.parts.store.clone(), partial.digest().clone());
        drop(partial);
        let begin = move || {
            store.remove_partial(&digest)?;
            store.partial(&digest)
        };
        task::blocking(begin).await.map_err(no_room)
    }

    async fn make_room(&self, here: u64, total: Option<u64>) -> Result<SpaceReservation> {
        let size = total.unwrap_or(here);
        let wish = Wish { size, missing: size.saturating_sub(here) };
        let made = self.parts.sweep.begin(wish, self.tenant()).await.map_err(no_room)?;
        made.ok_or_else(|| self.full(&format!("there is no room for {} bytes", wish.missing)))
    }

    /// Makes room for what comes next. What nobody reads any more makes nothing else go.
    async fn go_on(&self, lead: &Lead, reservation: SpaceReservation, upto: u64) -> Result<SpaceReservation> {
        let is_read = lead.flight().is_watched(self.parts.now());
        let (reservation, has_room) = self.parts.sweep.go_on(reservation, upto, is_read).await.map_err(no_room)?;
        match (has_room, is_read) {
            (true, _) => Ok(reservation),
            (false, true) => Err(self.full(&format!("there is no room beyond {} bytes", reservation.bytes()))),
            (false, false) => {
                Err(Error::new(Kind::Busy, "nobody reads it any more, and there is no room for the rest"))
            }
        }
    }

    fn full(&self, why: &str) -> Error {
        warn!(why, "the cache is full: this download is passed through and not kept");
        self.parts.metrics.disk_full();
        Error::new(Kind::Full, "the cache is full")
    }

    /// Reads one body to its end. What was written counts, however it ends.
    async fn pump(
        &self,
        lead: &Lead,
        partial: Partial,
        fetched: Fetched,
        total: Option<u64>,
        mut reservation: SpaceReservation,
    ) -> Result<(Partial, SpaceReservation, End)> {
        let here = partial.len().saturating_sub(fetched.start);
        let mut incoming = WriteCoalescer::new(fetched.body, here, &self.parts.metrics.bounds().buffered);
        incoming.add(fetched.ahead);
        let mut at_rest = Some(partial);
        let mut writing = None;
        let mut pace = Pace::new(self.parts.now());
        loop {
            if let Some(partial) = at_rest.take() {
                if let Some(chunks) = incoming.take_due(Instant::now()) {
                    writing = Some(Box::pin(write(partial, chunks)));
                } else if let Some(end) = incoming.take_end() {
                    return Ok((partial, reservation, end));
                } else {
                    at_rest = Some(partial);
                }
            }
            let due = incoming.due().filter(|_| at_rest.is_some());
            tokio::select! {
                () = incoming.more(self.parts.upstream.idle_timeout()), if incoming.wants_more() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                (partial, last, written) = async { writing.as_mut().expect("checked by the guard").await }, if writing.is_some() => {
                    writing = None;
                    incoming.written();
                    let partial = match written {
                        Ok(()) => partial,
                        Err((chunks, error)) => self.write_again(partial, chunks, error).await?,
                    };
                    if total.is_some_and(|total| partial.len() > total) {
                        return Err(Error::new(Kind::Broken, "upstream sent more bytes than it said"));
                    }
                    if partial.len() >= reservation.bytes() && total != Some(partial.len()) {
                        reservation = self.go_on(lead, reservation, partial.len() + 1).await?;
                    }
                    let now = self.parts.now();
                    if pace.is_slow(now, last) && !lead.flight().is_watched(now) {
                        return Err(Error::new(Kind::Busy, "nobody reads it any more, and it comes too slowly"));
                    }
                    self.parts.metrics.upstream_bytes(&self.pull.site.registry.name, last);
                    lead.publish(readable(&partial, total, last));
                    at_rest = Some(partial);
                }
            }
        }
    }

    /// The disk is full, perhaps of what can go.
    async fn write_again(&self, partial: Partial, chunks: Vec<Bytes>, error: FsError) -> Result<Partial> {
        if !error.is_full() {
            return Err(no_room(error));
        }
        let missing = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>() + (64 << 20);
        let made = self.parts.sweep.make_room(Wish { size: 0, missing }).await;
        if !matches!(made, Ok(Some(_))) {
            return Err(self.full(&error.to_string()));
        }
        let (partial, _, written) = write(partial, chunks).await;
        written.map(|()| partial).map_err(|(_, error)| self.full(&error.to_string()))
    }

    /// After a break: waits a little, asks for the rest.
    async fn resume(
        &self,
        request: &BlobRequest,
        partial: &Partial,
        total: Option<u64>,
        fruitless: &mut u32,
        mut error: Error,
    ) -> Result<Fetched> {
        let (tasks, idle) = (&self.parts.tasks, self.parts.upstream.idle_timeout());
        let silent = Instant::now();
        loop {
            let pause = retry::pause(*fruitless, jitter()).ok_or_else(|| error.clone())?;
            debug!(%error, at = partial.len(), "a download broke off: it is resumed");
            // While its host is known not to answer there is nothing to attempt, and nothing to
            // give up for.
            let away = not_asked(&error);
            tokio::select! {
                () = tokio::time::sleep(away.unwrap_or_default() + pause) => {}
                () = tasks.stopping(), if away.is_some() => return Err(error),
            }
            if let Err(still) = self.parts.upstream.is_due(&self.pull.site) {
                if silent.elapsed() >= idle {
                    return Err(still);
                }
                error = still;
                continue;
            }
            let turn = self.parts.upstream.retry_pacing(&self.pull.site.registry.name);
            tokio::select! {
                () = tokio::time::sleep(turn) => {}
                () = tasks.stopping(), if !turn.is_zero() => return Err(error),
            }
            error = match request.fetch(partial.len()).await {
                Ok(fetched) if fetched.total != total && total.is_some() => {
                    return Err(Error::new(Kind::Broken, "upstream returned a different Content-Length on resume"));
                }
                Ok(fetched) => return Ok(fetched),
                Err(error) if error.kind().is_answer() => return Err(error),
                Err(error) => error,
            };
            match not_asked(&error) {
                Some(_) if silent.elapsed() >= idle => return Err(error),
                Some(_) => {}
                None => *fruitless += 1,
            }
        }
    }

    async fn verify(&self, lead: &Lead, partial: Partial, inquiry: &Inquiry, proves: Proves) -> Result<Partial> {
        if partial.is_verified() {
            self.parts.access.deliver_and_read(inquiry, proves, (partial.digest(), self.kind()));
            lead.verify(partial.len());
            return Ok(partial);
        }
        let (store, digest) = (self.parts.store.clone(), partial.digest().clone());
        warn!(%digest, bytes = partial.len(), upstream = %self.pull.site.origin, "upstream sent other bytes than those of the digest: nothing is kept");
        let host = &self.pull.site.origin.host;
        let error = Error::new(Kind::Corrupt, format!("{host} sent other bytes than those of {digest}; try again"));
        drop(partial);
        if let Err(error) = task::blocking(move || store.remove_partial(&digest)).await {
            warn!(%error, "wrong bytes stay in a partial file");
        }
        Err(error)
    }

    async fn keep(&self, lead: Lead, filled: Filled) {
        let Filled { partial, media_type, reservation } = filled;
        let digest = partial.digest().clone();
        if land(&self.parts, lead, (self.key(), self.kind()), (partial, reservation), &media_type).await {
            self.admission.learn_whether_public(&self.pull, (&digest, self.kind())).await;
        }
    }
}

/// What readers may have: all but the last chunk, once that may be the end.
fn readable(partial: &Partial, total: Option<u64>, last: u64) -> u64 {
    match total {
        Some(total) if partial.len() < total => partial.len(),
        _ => partial.len() - last.min(partial.len()),
    }
}

fn is_as_long_as_all(partial: &Partial, answered: &Result<Fetched>) -> bool {
    match answered {
        Ok(fetched) => fetched.total.is_some_and(|total| partial.len() >= total),
        Err(error) => error.status().as_u16() == 416,
    }
}

type Written = (Partial, u64, std::result::Result<(), (Vec<Bytes>, FsError)>);

async fn write(mut partial: Partial, chunks: Vec<Bytes>) -> Written {
    task::blocking(move || {
        let last = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let written = partial.append(&chunks).map_err(|error| (chunks, error));
        (partial, last, written)
    })
    .await
}

fn no_room(error: FsError) -> Error {
    warn!(%error, "the cache cannot be written: this download is passed through and not kept");
    Error::caused(Kind::Full, "the cache cannot be written", error)
}
