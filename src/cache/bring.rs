//! Fetches one blob, or what is wanted of it, for all who want it.
//!
//! 1. what is here of it is resumed, where who came first may read it;
//! 2. upstream is asked for the rest, with the credential of who came first: its answer is a yes if
//!    it names the digest, else once the bytes have proved it (`open`);
//! 3. room is made;
//! 4. the bytes come, over one connection or several, and are published as they are written (`pump`);
//!    who asked for all has the last of them only when the digest is verified;
//! 5. file, then index, then landing. What nobody wants all of stays a partial file.
//!
//! It waits for no reader and does not die with one.

use std::sync::Arc;

use tracing::{debug, warn};

use super::fill::Fill;
use super::flight::Lead;
use super::keep::land;
use super::progress::Head;
use super::pump::{Came, Pump};
use super::sweep::SpaceReservation;
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::policy::extents::Extents;
use crate::store::Partial;
use crate::task;
use crate::upstream::{Proves, Source};

/// What is left of a fill that was begun.
struct Begun {
    pump: Pump,
    media_type: Arc<str>,
    inquiry: Inquiry,
    proves: Proves,
}

impl Fill {
    /// Fills, and lands, ends or fails.
    pub(super) async fn run(self: Arc<Fill>, lead: Lead) {
        let _running = self.parts.metrics.fill();
        let is_asked = self.admission.is_asked_before_paying(&self.pull, &self.digest, &self.what);
        match self.begin(&lead, is_asked).await {
            Ok(begun) => self.bring(lead, begun, is_asked).await,
            Err(error) => self.fail(lead, None, is_asked, error).await,
        }
    }

    /// There are never too many partial files for long.
    async fn bound_partials(&self) {
        let sweep = self.parts.sweep.clone();
        task::blocking(move || sweep.bound_partials()).await;
    }

    async fn begin(self: &Arc<Fill>, lead: &Lead, is_asked: bool) -> Result<Begun> {
        if is_asked {
            self.admission.before_paying(&self.pull, &self.digest, &self.what).await?;
        }
        let mut opened = self.open().await?;
        let (total, proves) = (opened.fetched.total, opened.fetched.proves);
        let here = opened.partial.here().bytes();
        let size = match opened.fetched.range.filter(|_| opened.is_part) {
            Some(part) => here.saturating_add(part.end_exclusive - part.start),
            None => total.unwrap_or(here),
        };
        let reservation = match self.make_room(here, total.map_or(size, |total| total.min(size))).await {
            Ok(reservation) => reservation,
            Err(error) => {
                if !opened.is_part {
                    lead.leave_response(opened.fetched);
                }
                return Err(error);
            }
        };
        let media_type: Arc<str> = opened.fetched.media_type.as_str().into();
        let warnings = std::mem::take(&mut opened.fetched.warnings);
        let is_packed = opened.fetched.is_packed;
        let (file, inquiry) = (opened.partial.file(), opened.inquiry.clone());
        // What the account was sent says nothing of who asked.
        let granted = Some(&inquiry).filter(|_| matches!(proves, Proves::Grant(_)));
        let readable = readable(opened.partial.here(), total);
        let pump = Pump::new(self.clone(), opened, reservation);
        let has_segments = pump.has_segments();
        let head = Head { file, total, media_type: media_type.clone(), warnings, is_packed, has_segments };
        lead.flow(granted, head, readable);
        Ok(Begun { pump, media_type, inquiry, proves })
    }

    async fn bring(&self, mut lead: Lead, begun: Begun, is_asked: bool) {
        let Begun { mut pump, media_type, inquiry, proves } = begun;
        let came = loop {
            match pump.run(&lead).await {
                Ok(Came::Whole) => break Ok(()),
                Ok(Came::Wanted) => {
                    let here = pump.note().await;
                    match lead.end_unless_wanted(&here) {
                        Ok(()) => return self.bound_partials().await,
                        Err(still) => lead = still,
                    }
                }
                Err(error) => break Err(error),
            }
        };
        pump.tell_end();
        let source = pump.source().clone();
        match (came, pump.stop().await) {
            (Ok(()), (Some(partial), Some(reservation))) => {
                match self.verify(&lead, partial, (&inquiry, proves), &source).await {
                    Ok(partial) => self.keep(lead, (partial, reservation), &media_type).await,
                    Err(error) => lead.fail(error),
                }
            }
            (came, (partial, _reservation)) => {
                let error = came.err().unwrap_or_else(|| Error::new(Kind::Full, "there is no room for what came"));
                self.fail(lead, partial, is_asked, error).await;
            }
        }
    }

    async fn fail(&self, lead: Lead, partial: Option<Partial>, is_asked: bool, error: Error) {
        debug!(digest = %self.digest, %error, "a fill failed");
        if !is_asked {
            self.admission.after_refused_get(&self.pull, &self.digest, &self.what, &error).await;
        }
        self.put_away(partial, error.kind()).await;
        lead.fail(error);
        self.bound_partials().await;
    }

    /// What a failed fill leaves: some of a blob, to resume; nothing where the disk is full. Who reads it
    /// has it open.
    async fn put_away(&self, partial: Option<Partial>, why: Kind) {
        let (store, digest) = (self.parts.store.clone(), self.digest.clone());
        let put_away = task::blocking(move || match (why, partial) {
            (Kind::Full, _) => store.remove_partial(&digest),
            (_, Some(partial)) if !partial.is_empty() => partial.note(),
            _ => store.trim_partial(&digest),
        });
        if let Err(error) = put_away.await {
            warn!(%error, "what is here of a blob is begun anew");
        }
    }

    async fn verify(
        &self,
        lead: &Lead,
        partial: Partial,
        (inquiry, proves): (&Inquiry, Proves),
        source: &Source,
    ) -> Result<Partial> {
        if partial.is_verified() {
            self.parts.access.deliver_and_read(inquiry, proves, (partial.digest(), self.kind()));
            lead.verify(partial.len());
            return Ok(partial);
        }
        self.parts.lending.came_wrong(partial.digest());
        self.parts.upstream.sent_wrong(partial.digest(), source);
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

    async fn keep(&self, lead: Lead, filled: (Partial, SpaceReservation), media_type: &str) {
        if land(&self.parts, lead, (&self.pull.key, self.kind()), filled, media_type).await {
            self.admission.learn_whether_public(&self.pull, (&self.digest, self.kind())).await;
        }
    }
}

/// What readers may have of what is here: not its last byte, where that is the end of the blob, or may be.
fn readable(here: &Extents, total: Option<u64>) -> Extents {
    let len = here.end_from(0);
    if total.is_some_and(|total| len < total) {
        return here.clone();
    }
    let mut readable = Extents::default();
    readable.add(0..len.saturating_sub(1));
    readable
}
