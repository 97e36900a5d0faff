//! Makes room: entry first, then file; never what is being read or filled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::{debug, error, info, warn};

use super::flight::{Flights, Joined};
use crate::access::presence::Presences;
use crate::clock::Clock;
use crate::fs;
use crate::metrics::Metrics;
use crate::oci::digest::Digest;
use crate::policy::access::within;
use crate::policy::admission::{Admission, Room, Wish};
use crate::policy::budget::Tenant;
use crate::store::blobs::footprint;
use crate::store::index::Index;
use crate::store::open_files::OpenFiles;
use crate::store::verification::Rot;
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
    /// Room for blobs on their way. Whoever makes room holds it meanwhile.
    pub reserved: Arc<Mutex<Reserved>>,
    /// When partials were last bounded.
    pub bounded: Arc<Mutex<Option<SystemTime>>>,
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

/// Partials that no fill goes on with: so many, and a quarter of the room.
const MOST_PARTIALS: usize = 10_000;
const BOUND_EVERY: Duration = Duration::from_secs(1);

/// Files are looked at for so long each time: 40,000 that the system knows of, 20 where it asks a
/// disk. Who opens one looks too.
const LOOKING: Duration = Duration::from_millis(200);

/// What blobs on their way take.
#[derive(Debug, Default)]
pub struct Reserved {
    /// Bytes that there is room for: they are here, or come next.
    bytes: u64,
    /// Bytes that are to come after those, for whom. Nothing makes room for them yet.
    owed: HashMap<Tenant, u64>,
}

impl Reserved {
    fn owed(&self) -> u64 {
        self.owed.values().sum()
    }

    fn pay(&mut self, tenant: Tenant, bytes: u64) {
        if let Some(owed) = self.owed.get_mut(&tenant) {
            *owed -= bytes;
            if *owed == 0 {
                self.owed.remove(&tenant);
            }
        }
    }
}

/// Room for a blob on its way, until it is in the index or given up.
#[derive(Debug)]
pub struct SpaceReservation {
    all: Arc<Mutex<Reserved>>,
    bytes: u64,
    owed: u64,
    tenant: Tenant,
}

impl SpaceReservation {
    /// Bytes that there is room for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What came is in the index from now on: at no moment is it there and here.
    pub fn kept<T>(mut self, insert: impl FnOnce() -> T) -> T {
        let all = self.all.clone();
        let mut all = all.lock();
        let inserted = insert();
        self.give_back(&mut all);
        drop(all);
        inserted
    }

    fn give_back(&mut self, all: &mut Reserved) {
        all.bytes -= std::mem::take(&mut self.bytes);
        all.pay(self.tenant, std::mem::take(&mut self.owed));
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        let all = self.all.clone();
        self.give_back(&mut all.lock());
    }
}

/// How a file goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// Who has it open reads on.
    Unlinked,
    /// It takes no room any more, whoever has it open: that is somebody who takes nothing.
    Cut,
}

/// Room is made for so many bytes ahead of those that came. What never comes evicts nothing.
const STEP: u64 = 8 << 20;

impl Sweep {
    /// Makes room for a blob and keeps it free. `None`: there is none to be made.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn make_room(&self, wish: Wish) -> fs::Result<Option<SpaceReservation>> {
        let sweep = self.clone();
        task::blocking(move || sweep.begin_now(wish, wish.size, Tenant::own())).await
    }

    /// The same for a blob that comes by and by: whether there would be room for all of it, beside what
    /// others still bring, and room for the first of it.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn begin(&self, wish: Wish, tenant: Tenant) -> fs::Result<Option<SpaceReservation>> {
        let (sweep, first) = (self.clone(), (wish.size - wish.missing) + wish.missing.min(STEP));
        task::blocking(move || sweep.begin_now(wish, first, tenant)).await
    }

    /// Makes room for more of a blob on its way: for `upto` bytes of it, and some ahead. `evicts`:
    /// whether others may have to go for it. Tells whether there is room.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn go_on(
        &self,
        mut reservation: SpaceReservation,
        upto: u64,
        evicts: bool,
    ) -> fs::Result<(SpaceReservation, bool)> {
        let sweep = self.clone();
        task::blocking(move || {
            let needed = upto.saturating_sub(reservation.bytes);
            let more = needed.max(STEP.min(reservation.owed));
            let mut all = sweep.reserved.lock();
            let has_room = sweep.clear(&all, Wish { size: more, missing: more }, evicts)?;
            if has_room {
                let paid = more.min(reservation.owed);
                (all.bytes, reservation.bytes) = (all.bytes + more, reservation.bytes + more);
                all.pay(reservation.tenant, paid);
                reservation.owed -= paid;
            }
            drop(all);
            Ok((reservation, has_room))
        })
        .await
    }

    fn begin_now(&self, wish: Wish, first: u64, tenant: Tenant) -> fs::Result<Option<SpaceReservation>> {
        // What it will count as once it is kept.
        let more = if wish.size > 0 { footprint(wish.size) - wish.size } else { 0 };
        let wish = Wish { size: wish.size + more, missing: wish.missing + more };
        let first = first + more;
        let mut all = self.reserved.lock();
        let (all_owed, owed) = (all.owed(), wish.size - first);
        // What is small is here before what is large: it does not wait for that.
        if owed > 0 {
            let whole = Wish { missing: wish.missing.saturating_add(all_owed), ..wish };
            // Ten half blobs are worth nothing, and one tenant has no more than half of the room.
            let its = all.owed.get(&tenant).copied().unwrap_or(0);
            let is_too_much = its > 0 && its.saturating_add(owed) > self.max_size / 2;
            if is_too_much || self.room(all.bytes + all_owed)?.admit(whole) == Admission::Through {
                return Ok(None);
            }
        }
        let first_wish = Wish { size: first, missing: wish.missing.saturating_sub(owed) };
        if !self.clear(&all, first_wish, true)? {
            return Ok(None);
        }
        all.bytes += first;
        if owed > 0 {
            *all.owed.entry(tenant).or_default() += owed;
        }
        Ok(Some(SpaceReservation { all: self.reserved.clone(), bytes: first, owed, tenant }))
    }

    /// Evicts what has to go; tells whether there is room then.
    fn clear(&self, all: &Reserved, wish: Wish, evicts: bool) -> fs::Result<bool> {
        loop {
            match self.room(all.bytes)?.admit(wish) {
                Admission::Keep { evict: 0 } => return Ok(true),
                // What is being read does not go; what became of the rest since, the next look tells.
                Admission::Keep { evict } if evicts && self.evict(evict) => {}
                _ => return Ok(false),
            }
        }
    }

    fn room(&self, reserved: u64) -> fs::Result<Room> {
        let used = self.index.taken();
        let (max_size, min_free) = (self.max_size, self.min_free);
        Ok(Room { max_size, min_free, used, reserved, free: self.store.free_space()? })
    }

    /// Evicts the least recently used blobs, `bytes` of them at least; tells whether any went.
    fn evict(&self, bytes: u64) -> bool {
        let (mut gone, mut victims) = (0, 0);
        let now = self.clock.now();
        while let Some(oldest) = self.index.oldest(now).filter(|_| gone < bytes) {
            let mut taken = None;
            let cut = || {
                taken = self.index.take(&oldest, now);
                if taken.is_some_and(|taken| taken.is_read) { Gone::Cut } else { Gone::Unlinked }
            };
            self.remove_by(&oldest, cut);
            let Some(taken) = taken else { continue };
            debug!(digest = %oldest, is_read = taken.is_read, "evicted");
            gone += footprint(taken.size);
            victims += 1;
        }
        if victims > 0 {
            self.metrics.evicted(victims);
            self.report();
        }
        victims > 0
    }

    /// Removes a blob that is wrong, whoever reads it.
    pub fn remove(&self, digest: &Digest) {
        self.remove_by(digest, || {
            self.index.forget(digest);
            Gone::Unlinked
        });
        self.report();
    }

    /// Moves a blob away that is one no more, whoever reads it: who wants it fetches it again. Tells
    /// whether it was that. A disk that takes nothing just now is no blob's fault.
    pub fn set_aside(&self, digest: &Digest, rot: &Rot) -> bool {
        let Joined::Lead(_lead) = self.flights.join(digest, || None) else { return false };
        if !self.store.is_blob(digest, rot) {
            return false;
        }
        let why = &rot.why;
        if rot.is_unreadable && !self.store.is_working() {
            warn!(%digest, why, "a cached blob cannot be read, nor anything be written to the data directory: look at the disk");
            return false;
        }
        self.index.forget(digest);
        self.presences.forget(digest);
        self.opened.forget(digest);
        let aside = self.store.set_aside(digest);
        self.report();
        match aside {
            Ok(aside) => {
                let aside = aside.as_str();
                error!(%digest, why, "a cached blob is damaged: its file is {aside}, and it is fetched again when it is wanted; look at the disk");
                true
            }
            Err(error) => {
                error!(%digest, why, %error, "a cached blob is damaged, and its file cannot be moved away: remove it");
                false
            }
        }
    }

    /// Entry, then file, as a flight of its own: whoever wants the blob meanwhile waits, and fetches
    /// it again. Otherwise a new file could come between the two, and be removed for the old one.
    /// With the entry goes which repositories have the blob, whoever removes the file.
    fn remove_by(&self, digest: &Digest, take_out: impl FnOnce() -> Gone) {
        let mut gone = Gone::Unlinked;
        let joined = self.flights.join(digest, || {
            gone = take_out();
            if !self.index.has(digest) {
                self.presences.forget(digest);
            }
            None
        });
        let Joined::Lead(_lead) = joined else { return };
        if self.index.has(digest) {
            return;
        }
        self.remove_file(digest, gone);
    }

    fn remove_file(&self, digest: &Digest, gone: Gone) {
        self.opened.forget(digest);
        let removed = match gone {
            Gone::Unlinked => self.store.remove(digest),
            Gone::Cut => self.store.remove_and_cut(digest),
        };
        if let Err(error) = removed {
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
            self.remove_file(digest, Gone::Unlinked);
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
        let over = match self.room(reserved.bytes) {
            Ok(room) => {
                let shortfall = room.shortfall(Wish::default());
                self.evict(shortfall.min(room.used));
                // Beside what is whole.
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

    /// After a fill that left a partial: there are never too many for long. Blocks.
    pub fn bound_partials(&self) {
        // One at a time, and not for each of a crowd: to list them takes as long as there are many.
        let Some(mut last) = self.bounded.try_lock() else { return };
        let now = self.clock.now();
        if within(*last, BOUND_EVERY, now) {
            return;
        }
        *last = Some(now);
        if let Err(error) = self.remove_partials(|_| 0) {
            warn!(%error, "partial blobs cannot be looked at");
        }
    }

    /// Removes the partials that no fill resumed, and the oldest of the others that are too many, or too
    /// much.
    fn remove_partials(&self, too_much: impl Fn(u64) -> u64) -> fs::Result<()> {
        let now = self.clock.now();
        let mut idle = self.store.list_partials()?;
        idle.retain(|partial| self.flights.find(&partial.digest).is_none());
        idle.sort_by_key(|partial| partial.modified);
        let mut bytes = idle.iter().map(|partial| footprint(partial.size)).sum();
        let mut count = idle.len();
        for partial in idle {
            let is_bounded = bytes <= self.max_size / 4 && count <= MOST_PARTIALS;
            if within(Some(partial.modified), ABANDONED, now) && is_bounded && too_much(bytes) == 0 {
                continue;
            }
            count -= 1;
            // As its own flight, so that no fill goes on with it meanwhile.
            let Joined::Lead(_lead) = self.flights.join(&partial.digest, || None) else { continue };
            info!(digest = %partial.digest, bytes = partial.size, "a partial blob that no fill resumes is removed");
            self.store.remove_partial(&partial.digest)?;
            bytes -= footprint(partial.size);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
