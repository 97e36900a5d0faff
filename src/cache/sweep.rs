//! Makes room: entry first, then file. Never what is being read or filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::flight::{Flights, Joined};
use crate::clock::Clock;
use crate::fs;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
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
    /// Bytes on their way.
    pub coming: Arc<AtomicU64>,
}

/// A partial that nobody went on with for this long is thrown away.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Room for a blob that is on its way. Given back when it is dropped: by then the index counts the blob, or it will not come.
#[derive(Debug)]
pub struct Coming {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Sweep {
    /// Makes room for `size` more bytes. `None`: there is none to be made.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn make_room(&self, size: u64) -> fs::Result<Option<Coming>> {
        let sweep = self.clone();
        task::blocking(move || sweep.make_room_now(size)).await
    }

    fn make_room_now(&self, size: u64) -> fs::Result<Option<Coming>> {
        let Admission::Keep { evict } = self.room()?.admit(size) else { return Ok(None) };
        self.evict(evict);
        // What is being read does not go: there may still be too little room.
        if evict > 0 && self.room()?.shortfall(size) > 0 {
            return Ok(None);
        }
        self.coming.fetch_add(size, Ordering::Relaxed);
        Ok(Some(Coming { all: self.coming.clone(), bytes: size }))
    }

    fn room(&self) -> fs::Result<Room> {
        let (used, _) = self.index.size();
        let (coming, free) = (self.coming.load(Ordering::Relaxed), self.store.free_space()?);
        Ok(Room { max_size: self.max_size, min_free: self.min_free, used, coming, free })
    }

    /// Takes away the least recently used, `bytes` of them at least.
    fn evict(&self, bytes: u64) {
        let (mut gone, mut victims) = (0, 0);
        while let Some(oldest) = self.index.oldest().filter(|_| gone < bytes) {
            let mut size = None;
            self.remove_by(&oldest, || size = self.index.take(&oldest));
            let Some(size) = size else { continue };
            debug!(digest = %oldest, "evicted");
            gone += size;
            victims += 1;
        }
        if victims > 0 {
            self.metrics.evicted(victims);
            self.report();
        }
    }

    /// Takes away one blob that is wrong, whoever reads it.
    pub fn remove(&self, digest: &Digest) {
        self.remove_by(digest, || {
            self.index.forget(digest);
        });
        self.report();
    }

    /// Entry, then file, as a flight of its own: whoever wants the blob meanwhile waits, and fetches it anew. Otherwise a new file
    /// could come between the two, and be removed for the old one.
    fn remove_by(&self, digest: &Digest, take_out: impl FnOnce()) {
        let joined = self.flights.join(digest, || {
            take_out();
            None
        });
        let Joined::Lead(lead) = joined else { return };
        if !self.index.has(digest) {
            if let Err(error) = self.store.remove(digest) {
                warn!(%error, "a blob's file stays");
            }
        }
        drop(lead);
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
            // Found under its own flight, so that no fill goes on with it meanwhile.
            let abandoned = !within(Some(partial.modified), ABANDONED, now);
            if let (true, Joined::Lead(_lead)) = (abandoned, self.flights.join(&partial.digest, || None)) {
                info!(digest = %partial.digest, bytes = partial.size, "a partial blob that nobody went on with is removed");
                if let Err(error) = self.store.remove_partial(&partial.digest) {
                    warn!(%error, "a partial blob stays");
                }
            }
        }
        self.report();
    }
}
