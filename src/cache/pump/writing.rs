//! What a fill writes, hashes, notes and publishes.

use std::time::Duration;

use tokio::time::Instant;

use super::Pump;
use crate::cache::fill::{Also, PART, Written, write};
use crate::cache::flight::Lead;
use crate::error::{Error, Kind, Result};

/// What is here is noted so often while it changes, or after so many bytes.
const NOTED_EVERY: Duration = Duration::from_secs(1);
const NOTED_AFTER: u64 = 64 << 20;
/// Bytes that may be the end of a blob wait for the next, or until all is verified.
const HELD_BACK: u64 = 64 << 10;

impl Pump {
    /// Begins to write what is due, and to hash what is here. Tells whether there was something.
    pub(super) fn begin_write(&mut self) -> bool {
        let Some(partial) = self.at_rest.take() else { return false };
        let now = Instant::now();
        let mut chunks = std::mem::take(&mut self.left);
        chunks.extend(self.streams.take_due(now));
        let here = partial.here().bytes();
        let (since, noted) = self.noted;
        let is_to_note = here != noted && (now >= since + NOTED_EVERY || here >= noted + NOTED_AFTER);
        let is_to_hash = (self.is_whole() || self.total == Some(partial.len())) && partial.hashed() < partial.len();
        if chunks.is_empty() && !is_to_hash && !is_to_note {
            self.at_rest = Some(partial);
            return false;
        }
        if is_to_note {
            self.noted = (now, here);
        }
        let also = Also { hash: is_to_hash, note: is_to_note };
        self.writing = Some(Box::pin(write(partial, chunks, also)));
        true
    }

    pub(super) async fn written(&mut self, lead: &Lead, written: Written) -> Result<()> {
        let (partial, chunks, done) = written;
        self.streams.written();
        let partial = match done {
            Ok(()) => partial,
            Err(error) => self.fill.write_again(partial, &chunks, error).await?,
        };
        let last = chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        self.hashed = partial.hashed();
        let (here, is_all) = (partial.here().bytes(), self.total == Some(partial.len()));
        match self.total {
            // A part of what is short is verified, too.
            Some(_) if is_all => {}
            Some(_) => lead.publish(&chunks.iter().map(|(at, bytes)| *at..at + bytes.len() as u64).collect::<Vec<_>>()),
            // It may be the end.
            None if last == 0 => {}
            None => lead.publish(std::slice::from_ref(&(0..partial.len() - last.min(HELD_BACK)))),
        }
        self.at_rest = Some(partial);
        if let Some(reservation) = self.reservation.take_if(|room| here >= room.bytes() && !is_all) {
            let upto = here + if self.has_room { 1 } else { PART };
            self.reservation = Some(self.fill.go_on_in(lead, reservation, upto).await?);
        }
        self.brought += last;
        let parts = &self.fill.parts;
        parts.lending.bring(last);
        parts.metrics.upstream_bytes(&self.fill.pull.site.registry.name, last);
        let now = parts.now();
        if last > 0 && self.pace.is_slow(now, last) && !lead.flight().is_watched(now) {
            return Err(Error::new(Kind::Busy, "nobody reads it any more, and it comes too slowly"));
        }
        self.is_stale = true;
        Ok(())
    }
}
