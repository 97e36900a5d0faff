//! Makes room: entry first, then file. Never what is being read or filled.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::flight::Flights;
use crate::clock::Clock;
use crate::fs;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::policy::access::within;
use crate::policy::admission::{Admission, Room};
use crate::store::Store;
use crate::task;

/// Makes room. Clones share everything.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The files.
    pub store: Arc<Store>,
    /// What of them may go.
    pub index: Index,
    /// What must stay.
    pub flights: Flights,
    /// Counts.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Bytes.
    pub max_size: u64,
    /// Bytes.
    pub min_free: u64,
}

/// A partial that nobody went on with for this long is thrown away.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

impl Sweep {
    /// Makes room for `size` more bytes.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn make_room(&self, size: u64) -> fs::Result<Admission> {
        let sweep = self.clone();
        task::blocking(move || sweep.make_room_now(size)).await
    }

    fn make_room_now(&self, size: u64) -> fs::Result<Admission> {
        let room = self.room()?;
        let admission = room.admit(size);
        if let Admission::Keep { evict } = admission {
            self.evict(evict);
        }
        // What is being read does not go: there may still be too little room.
        Ok(match admission {
            Admission::Keep { evict } if evict > 0 && self.room()?.shortfall(size) > 0 => Admission::Through,
            other => other,
        })
    }

    fn room(&self) -> fs::Result<Room> {
        let (used, _) = self.index.size();
        Ok(Room { max_size: self.max_size, min_free: self.min_free, used, free: self.store.free_space()? })
    }

    /// Takes away the least recently used, `bytes` of them at least.
    fn evict(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let victims = self.index.evict(bytes);
        for digest in &victims {
            debug!(%digest, "evicted");
            if let Err(error) = self.store.remove(digest) {
                warn!(%error, "an evicted blob's file stays");
            }
        }
        self.metrics.evicted(victims.len() as u64);
        self.report();
    }

    /// Takes away one blob that is wrong.
    pub fn remove(&self, digest: &crate::oci::digest::Digest) {
        self.index.forget(digest);
        if let Err(error) = self.store.remove(digest) {
            warn!(%error, "a broken blob's file stays");
        }
        self.report();
    }

    /// Shows the size in the metrics.
    pub fn report(&self) {
        let (bytes, entries) = self.index.size();
        self.metrics.cache(bytes, entries);
    }

    /// At start and now and then: a smaller limit, a fuller disk, partials that nobody wants. Blocks.
    pub fn tidy(&self) {
        match self.room() {
            Ok(room) => self.evict(room.shortfall(0).min(room.used)),
            Err(error) => warn!(%error, "the free space is not known"),
        }
        let partials = self.store.list_partials().unwrap_or_else(|error| {
            warn!(%error, "the partial blobs are not known");
            Vec::new()
        });
        let now = self.clock.now();
        for partial in partials {
            let wanted = within(Some(partial.modified), ABANDONED, now) || self.flights.find(&partial.digest).is_some();
            if !wanted {
                info!(digest = %partial.digest, bytes = partial.size, "a partial blob that nobody went on with is removed");
                if let Err(error) = self.store.remove_partial(&partial.digest) {
                    warn!(%error, "a partial blob stays");
                }
            }
        }
        self.report();
    }
}
