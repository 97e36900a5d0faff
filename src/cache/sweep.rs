//! Makes room: entry first, then file; never what is being read or filled.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::flight::{Flights, Joined};
use crate::access::presence::Presences;
use crate::clock::Clock;
use crate::fs;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::policy::access::within;
use crate::policy::admission::{Admission, Room, Wish};
use crate::store::index::Index;
use crate::store::open_files::OpenFiles;
use crate::store::{Store, is_missing};
use crate::task;

/// Makes room. Clones share everything.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The files.
    pub store: Arc<Store>,
    /// What of them may go.
    pub index: Index,
    /// The repositories of blobs, forgotten with them.
    pub presences: Presences,
    /// What must stay.
    pub flights: Flights,
    /// What is open: closed before its file goes.
    pub opened: OpenFiles,
    /// Bytes that blobs on their way will take. Whoever makes room holds it meanwhile.
    pub reserved: Arc<Mutex<u64>>,
    /// Counts.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Bytes.
    pub max_size: u64,
    /// Bytes.
    pub min_free: u64,
}

/// A partial blob that no fill resumed for this long is removed.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Files are looked at for so long each time: 40,000 that the system knows of, 20 where it asks a
/// disk. Who opens one looks too.
const LOOKING: Duration = Duration::from_millis(200);

/// Room for a blob on its way, until it is in the index or given up.
#[derive(Debug)]
pub struct SpaceReservation {
    reserved: Arc<Mutex<u64>>,
    bytes: u64,
}

impl SpaceReservation {
    /// For a blob of this size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The blob is larger than was known.
    pub fn add(&mut self, mut more: SpaceReservation) {
        self.bytes += std::mem::take(&mut more.bytes);
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        *self.reserved.lock() -= self.bytes;
    }
}

impl Sweep {
    /// Makes room for a blob and keeps it free. `None`: there is none to be made.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn make_room(&self, wish: Wish) -> fs::Result<Option<SpaceReservation>> {
        let sweep = self.clone();
        task::blocking(move || sweep.make_room_now(wish)).await
    }

    fn make_room_now(&self, wish: Wish) -> fs::Result<Option<SpaceReservation>> {
        let mut reserved = self.reserved.lock();
        let Admission::Keep { evict } = self.room(*reserved)?.admit(wish) else { return Ok(None) };
        self.evict(evict);
        // What is being read does not go: there may still be too little room.
        if evict > 0 && self.room(*reserved)?.shortfall(wish) > 0 {
            return Ok(None);
        }
        *reserved += wish.size;
        Ok(Some(SpaceReservation { reserved: self.reserved.clone(), bytes: wish.size }))
    }

    fn room(&self, reserved: u64) -> fs::Result<Room> {
        let (used, _) = self.index.size();
        let (max_size, min_free) = (self.max_size, self.min_free);
        Ok(Room { max_size, min_free, used, reserved, free: self.store.free_space()? })
    }

    /// Evicts the least recently used blobs, `bytes` of them at least.
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

    /// Removes a blob that is wrong, whoever reads it.
    pub fn remove(&self, digest: &Digest) {
        self.remove_by(digest, || self.index.forget(digest));
        self.report();
    }

    /// Entry, then file, as a flight of its own: whoever wants the blob meanwhile waits, and fetches
    /// it again. Otherwise a new file could come between the two, and be removed for the old one.
    /// With the entry goes which repositories have the blob, whoever removes the file.
    fn remove_by(&self, digest: &Digest, take_out: impl FnOnce()) {
        let joined = self.flights.join(digest, || {
            take_out();
            if !self.index.has(digest) {
                self.presences.forget(digest);
            }
            None
        });
        let Joined::Lead(_lead) = joined else { return };
        if self.index.has(digest) {
            return;
        }
        self.remove_file(digest);
    }

    fn remove_file(&self, digest: &Digest) {
        self.opened.forget(digest);
        if let Err(error) = self.store.remove(digest) {
            warn!(%error, "a blob's file stays");
        }
    }

    /// Looks at files that were there at the start: the index took their names for it. One that was
    /// cut or changed since is removed.
    fn measure(&self, is_stopping: impl Fn() -> bool) {
        let began = self.clock.now();
        while !is_stopping() && within(Some(began), LOOKING, self.clock.now()) {
            let Some(some) = self.index.unverified_sizes() else { return };
            some.iter().for_each(|(digest, size)| self.remove_cut(digest, *size));
        }
    }

    /// Removes a blob that was thought to be this long, if its file is not. Nothing was held
    /// meanwhile: it may have been evicted since, or be on its way, or be here again.
    fn remove_cut(&self, digest: &Digest, size: u64) {
        if !self.is_cut(digest, size) {
            return;
        }
        let Joined::Lead(_lead) = self.flights.join(digest, || None) else { return };
        if !self.is_cut(digest, size) {
            return;
        }
        if self.index.forget_if(digest, size) {
            self.presences.forget(digest);
            warn!(%digest, "a cached file is missing or has another length than it had: it is removed");
        }
        // Who evicts it just now has taken its entry, and left the file to this flight.
        if !self.index.has(digest) {
            self.remove_file(digest);
        }
    }

    /// Whether a file is missing, or not this long. One that cannot be looked at is neither, as far
    /// as can be said.
    fn is_cut(&self, digest: &Digest, size: u64) -> bool {
        self.store.look(digest).map_or_else(|error| is_missing(&error), |found| found.size != size)
    }

    /// Shows the size in the metrics.
    pub fn report(&self) {
        let (bytes, entries) = self.index.size();
        self.metrics.cache(bytes, entries);
    }

    /// At start and now and then: a smaller limit, a fuller disk, partials that no fill resumes,
    /// files that others cut. Blocks.
    pub fn tidy(&self, is_stopping: impl Fn() -> bool) {
        self.opened.tidy();
        let reserved = self.reserved.lock();
        let over = match self.room(*reserved) {
            Ok(room) => {
                let shortfall = room.shortfall(Wish::default());
                self.evict(shortfall.min(room.used));
                self.remove_partials(|bytes| room.shortfall(Wish { size: bytes, missing: 0 }))
            }
            Err(error) => Err(error),
        };
        drop(reserved);
        if let Err(error) = over {
            warn!(%error, "the disk cannot be tidied");
        }
        self.measure(is_stopping);
        self.report();
    }

    /// Removes the partials that no fill resumed, and the oldest of the others that are too much
    /// beside what is whole.
    fn remove_partials(&self, too_much: impl Fn(u64) -> u64) -> fs::Result<()> {
        let now = self.clock.now();
        let mut idle = self.store.list_partials()?;
        idle.retain(|partial| self.flights.find(&partial.digest).is_none());
        idle.sort_by_key(|partial| partial.modified);
        let mut bytes = idle.iter().map(|partial| partial.size).sum();
        for partial in idle {
            if within(Some(partial.modified), ABANDONED, now) && too_much(bytes) == 0 {
                continue;
            }
            // As its own flight, so that no fill goes on with it meanwhile.
            let Joined::Lead(_lead) = self.flights.join(&partial.digest, || None) else { continue };
            info!(digest = %partial.digest, bytes = partial.size, "a partial blob that no fill resumes is removed");
            self.store.remove_partial(&partial.digest)?;
            bytes -= partial.size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
