//! What one fill asks for: bytes of upstream, room and a thread of the disk.
//!
//! A first connection goes to the registry with the credential of who came first, and its answer is heard.
//! When it breaks it is resumed through the registry's URL, as long as attempts bring bytes.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::admit::Admission;
use super::coalesce::Chunk;
use super::flight::Lead;
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
use crate::policy::admission::Wish;
use crate::policy::budget::Tenant;
use crate::policy::retry;
use crate::store::Partial;
use crate::task;
use crate::upstream::breaker::not_asked;
use crate::upstream::{Fetched, Portion, Source, What};

/// A blob to fetch.
pub(super) struct Fill {
    pub(super) parts: Arc<Parts>,
    pub(super) admission: Arc<Admission>,
    /// Of who came first.
    pub(super) pull: Pull,
    pub(super) what: What,
    pub(super) digest: Digest,
    /// Whether it is known that they may read it: see [`Cleared`](super::admit::Cleared).
    pub(super) is_cleared: bool,
}

impl Fill {
    pub(super) fn kind(&self) -> ContentKind {
        content_kind(&self.what)
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn tenant(&self) -> Tenant {
        self.pull.requester.cost.applicants().first()
    }

    /// Room for so many bytes, of which so many are here.
    pub(super) async fn make_room(&self, here: u64, size: u64) -> Result<SpaceReservation> {
        let wish = Wish { size, missing: size.saturating_sub(here) };
        let made = self.parts.sweep.begin(wish, self.tenant()).await.map_err(no_room)?;
        made.ok_or_else(|| self.full(&format!("there is no room for {} bytes", wish.missing)))
    }

    /// Makes room for what comes next. What nobody reads any more makes nothing else go.
    pub(super) async fn go_on_in(
        &self,
        lead: &Lead,
        reservation: SpaceReservation,
        upto: u64,
    ) -> Result<SpaceReservation> {
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
        self.parts.full_since.lock().get_or_insert_with(|| self.parts.now());
        Error::new(Kind::Full, "the cache is full")
    }

    /// The disk is full, perhaps of what can go.
    pub(super) async fn write_again(&self, partial: Partial, chunks: &[Chunk], error: FsError) -> Result<Partial> {
        if !error.is_full() {
            return Err(no_room(error));
        }
        let missing = chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + (64 << 20);
        let made = self.parts.sweep.make_room(Wish { size: 0, missing }).await;
        if !matches!(made, Ok(Some(_))) {
            return Err(self.full(&error.to_string()));
        }
        let (partial, _, written) = write(partial, chunks.to_vec(), Also::default()).await;
        written.map(|()| partial).map_err(|error| self.full(&error.to_string()))
    }

    /// Asks, in its place or in one that it waits for, and hears the answer.
    pub(super) async fn fetch(
        &self,
        (request, inquiry): (&BlobRequest, &Inquiry),
        place: Option<Place>,
        portion: &Portion,
    ) -> Result<Fetched> {
        let fetched = match place {
            Some(place) => request.fetch_in(place, portion.clone()).await,
            None => request.fetch(portion.clone()).await,
        };
        let content = (self.digest(), self.kind());
        match &fetched {
            Ok(fetched) if fetched.is_named => self.parts.access.hear(inquiry, fetched.proves, content),
            Ok(_) => {}
            // There is nothing at that place, which says nothing of the blob.
            Err(error) if is_unsatisfied(error) => {}
            Err(error) => self.parts.denied(inquiry, Some(content), error).await,
        }
        fetched
    }

    /// A first connection for another part, from where the last one came, if that still sends it; else
    /// through the registry.
    pub(super) async fn go_on(
        &self,
        (request, inquiry): (&BlobRequest, &Inquiry),
        place: Option<Place>,
        portion: Portion,
        source: &Source,
    ) -> Result<Fetched> {
        let place = match place {
            Some(place) => place,
            None => request.place().await?,
        };
        let asked = if source.is_redirected() { request.fetch_beside(&portion, source).await } else { Ok(None) };
        if let Ok(Some(fetched)) = asked {
            return Ok(fetched.at(place));
        }
        let total = source.total;
        match self.fetch((request, inquiry), Some(place), &portion).await {
            Ok(fetched) => same_length(fetched, total),
            Err(error) if error.kind().is_answer() => Err(error),
            Err(error) => self.resume(request, &portion, total, 0, error).await,
        }
    }

    /// After a break: waits a little, asks for the rest.
    pub(super) async fn resume(
        &self,
        request: &BlobRequest,
        portion: &Portion,
        total: Option<u64>,
        mut fruitless: u32,
        mut error: Error,
    ) -> Result<Fetched> {
        let (tasks, idle) = (&self.parts.tasks, self.parts.upstream.idle_timeout());
        let silent = Instant::now();
        loop {
            let pause = retry::pause(fruitless, jitter()).ok_or_else(|| error.clone())?;
            debug!(%error, ?portion, "a download broke off: it is resumed");
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
            error = match request.fetch(portion.clone()).await {
                Ok(fetched) => return same_length(fetched, total),
                Err(error) if error.kind().is_answer() => return Err(error),
                Err(error) => error,
            };
            match not_asked(&error) {
                Some(_) if silent.elapsed() >= idle => return Err(error),
                Some(_) => {}
                None => fruitless += 1,
            }
        }
    }
}

/// Parts take so much room at a time.
pub(super) const PART: u64 = 256 << 10;

/// Whether there is nothing at the place that was asked for.
pub(super) fn is_unsatisfied(error: &Error) -> bool {
    error.status().as_u16() == 416
}

fn same_length(fetched: Fetched, total: Option<u64>) -> Result<Fetched> {
    if total.is_some() && fetched.total != total {
        return Err(Error::new(Kind::Broken, "upstream returned a different Content-Length on resume"));
    }
    Ok(fetched)
}

/// What is done while a thread has the file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Also {
    /// Hashes some of what is here.
    pub(super) hash: bool,
    /// Notes what is here.
    pub(super) note: bool,
}

/// A file that was written, and what to it.
pub(super) type Written = (Partial, Vec<Chunk>, std::result::Result<(), FsError>);

pub(super) async fn write(mut partial: Partial, chunks: Vec<Chunk>, also: Also) -> Written {
    task::blocking(move || {
        let mut written = partial.write(&chunks);
        if written.is_ok() && also.hash {
            written = partial.hash_on();
        }
        if also.note
            && let Err(error) = partial.note()
        {
            debug!(%error, "what is here of a blob is not noted");
        }
        (partial, chunks, written)
    })
    .await
}

pub(super) fn no_room(error: FsError) -> Error {
    warn!(%error, "the cache cannot be written: this download is passed through and not kept");
    Error::caused(Kind::Full, "the cache cannot be written", error)
}
