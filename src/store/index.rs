//! What is on disk, in memory: which blobs, how large, when last used, in which repositories upstream was seen to have them.
//!
//! - In the index means on disk: a file comes before its entry, and goes after it.
//! - Least recently used first is the order of the entries. What is being read is skipped.
//! - The [`journal`] behind it makes the next start warm. It may be lost: the files are the truth. A start reads their names only, and
//!   their lengths are compared while it serves (`unverified_sizes`): who opens one compares too.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tracing::warn;

use super::entries::{Entry, Slot};
use crate::oci::digest::Digest;
use crate::records::{Journal, seconds, time};

pub use super::blobs::Blobs;
pub use crate::access::repositories::RepositoryId;

/// The index. Clones share one.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) inner: Arc<Mutex<Blobs>>,
    journal: Journal,
}

/// A blob that is here. While it lives, nothing takes the blob away.
#[derive(Debug)]
pub struct Held {
    index: Index,
    digest: Digest,
    /// Bytes.
    pub size: u64,
    /// As upstream named it.
    pub media_type: Option<Arc<str>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(entry) = self.index.inner.lock().entries.entry_mut(&self.digest) {
            entry.readers = entry.readers.saturating_sub(1);
        }
    }
}

/// A use is written to the journal when the last one written is this old: the order of eviction after a restart is that good.
const COARSE: u32 = 60;
/// Blobs whose files are looked at in one go.
const AT_ONCE: Slot = 32;

impl Index {
    /// Empty.
    pub fn new(journal: Journal) -> Index {
        let inner = Arc::default();
        journal.follow(&inner);
        Index { inner, journal }
    }

    /// Fills it with the files that are there, and what the journal knows of them; least recently used first. `look` tells the length
    /// and the date of those that it does not know.
    pub fn restore(
        &self,
        files: Vec<Digest>,
        mut known: Blobs,
        look: impl Fn(&Digest) -> crate::fs::Result<(u64, SystemTime)>,
    ) {
        let mut is_there = vec![false; known.entries.slots() as usize];
        let mut news = Vec::new();
        for digest in files {
            match known.entries.find(&digest) {
                Some(slot) => is_there[slot as usize] = true,
                None => news.push(digest),
            }
        }
        let gone = (0..).zip(&is_there).filter(|(_, is_there)| !**is_there);
        let gone: Vec<Digest> = gone.filter_map(|(slot, _)| Some(known.entries.at(slot)?.digest.clone())).collect();
        for digest in &gone {
            known.remove(digest);
        }
        known.unverified_sizes = known.entries.slots();
        for digest in &news {
            let (size, modified) = match look(digest) {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    // Of another length than its file's: whoever opens it fetches it again.
                    warn!(%error, "nobody knows how long a cached file is");
                    (0, SystemTime::UNIX_EPOCH)
                }
            };
            known.add(Entry::new(digest.clone(), size, short(modified)));
        }
        known.entries.sort();
        let rewrite = known.rewrite;
        *self.inner.lock() = known;
        if rewrite {
            self.journal.compact();
        }
        gone.iter().chain(&news).for_each(|digest| self.journal.change(digest));
    }

    /// Some of the blobs whose files nobody looked at since the start, and how long they were. Nothing: there are no more of them.
    pub fn unverified_sizes(&self) -> Option<Vec<(Digest, u64)>> {
        let mut inner = self.inner.lock();
        let until = inner.unverified_sizes;
        inner.unverified_sizes = until.checked_sub(1)? / AT_ONCE * AT_ONCE;
        let slots = (inner.unverified_sizes..until).filter_map(|slot| inner.entries.at(slot));
        Some(slots.map(|entry| (entry.digest.clone(), entry.size)).collect())
    }

    /// How long a blob that is here is thought to be, if nobody looked at its file since the start.
    pub fn presumed(&self, digest: &Digest) -> Option<u64> {
        let inner = self.inner.lock();
        let slot = inner.entries.find(digest).filter(|slot| *slot < inner.unverified_sizes)?;
        inner.entries.at(slot).map(|entry| entry.size)
    }

    /// A blob that is here, used now.
    pub fn hold(&self, digest: &Digest, now: SystemTime) -> Option<Held> {
        let mut inner = self.inner.lock();
        let slot = self.used(&mut inner, digest, now)?;
        let entry = inner.entries.at_mut(slot)?;
        entry.readers += 1;
        let (size, media_type) = (entry.size, entry.media_type.clone());
        Some(Held { index: self.clone(), digest: digest.clone(), size, media_type })
    }

    /// Whether a blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.inner.lock().entries.find(digest).is_some()
    }

    /// When a blob that is here was last used, to the minute.
    pub fn last_used(&self, digest: &Digest) -> Option<SystemTime> {
        self.inner.lock().entries.entry(digest).map(|entry| time(entry.used.into()))
    }

    /// Adds a blob whose file is in its place.
    pub fn insert(&self, digest: &Digest, size: u64, media_type: Option<Arc<str>>, place: &str, now: SystemTime) {
        let mut inner = self.inner.lock();
        // It was here all along: a file that came again is the same file.
        let before = inner.remove(digest);
        let mut entry = Entry::new(digest.clone(), size, short(now));
        entry.media_type = inner.typed(media_type.as_deref());
        if let Some(before) = before {
            (entry.places, entry.readers) = (before.places, before.readers);
        }
        entry.places.add(inner.places.of(place));
        inner.add(entry);
        drop(inner);
        self.journal.change(digest);
    }

    /// Remembers that upstream has a blob in a repository. False, if the blob is not here.
    pub fn seen_in(&self, digest: &Digest, place: &str) -> bool {
        let mut inner = self.inner.lock();
        let Blobs { entries, places, .. } = &mut *inner;
        let Some(entry) = entries.entry_mut(digest) else { return false };
        if entry.places.add(places.of(place)) {
            self.journal.change(digest);
        }
        true
    }

    /// Forgets that upstream has a blob in a repository.
    pub fn not_in(&self, digest: &Digest, place: &str) {
        let mut inner = self.inner.lock();
        let Blobs { entries, places, .. } = &mut *inner;
        let (Some(entry), Some(place)) = (entries.entry_mut(digest), places.find(place)) else { return };
        if entry.places.remove(place) {
            self.journal.change(digest);
        }
    }

    /// Whether upstream was seen to have a blob, that is here, in a repository.
    pub fn is_seen_in(&self, digest: &Digest, place: &str) -> bool {
        let inner = self.inner.lock();
        let (Some(entry), Some(place)) = (inner.entries.entry(digest), inner.places.find(place)) else { return false };
        entry.places.as_slice().contains(&place)
    }

    /// Whether upstream was seen to have a blob, that is here, in a repository of which `wanted` is true.
    pub fn is_seen_where(&self, digest: &Digest, wanted: impl Fn(&str) -> bool) -> bool {
        let inner = self.inner.lock();
        let places = inner.entries.entry(digest).map_or(&[][..], |entry| entry.places.as_slice());
        places.iter().any(|place| wanted(inner.places.name(*place)))
    }

    /// A blob is used now.
    pub fn touch(&self, digest: &Digest, now: SystemTime) {
        self.used(&mut self.inner.lock(), digest, now);
    }

    /// Moves it to the end, and says so in the journal now and then.
    fn used(&self, inner: &mut Blobs, digest: &Digest, now: SystemTime) -> Option<Slot> {
        let slot = inner.entries.find(digest)?;
        inner.entries.renew(slot);
        let (entry, now) = (inner.entries.at_mut(slot)?, short(now));
        if now.saturating_sub(entry.used) >= COARSE {
            entry.used = now;
            self.journal.change(digest);
        }
        Some(slot)
    }

    /// The least recently used blob that nobody reads.
    pub fn oldest(&self) -> Option<Digest> {
        let inner = self.inner.lock();
        inner.entries.oldest_first().find(|entry| entry.readers == 0).map(|entry| entry.digest.clone())
    }

    /// Takes a blob out that nobody reads; its length. Its file is the caller's to remove.
    pub fn take(&self, digest: &Digest) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.entries.entry(digest).filter(|entry| entry.readers == 0)?;
        let entry = inner.remove(digest)?;
        self.journal.change(digest);
        Some(entry.size)
    }

    /// Takes a blob out whose file turned out to be missing or wrong, whoever reads it.
    pub fn forget(&self, digest: &Digest) {
        if self.inner.lock().remove(digest).is_some() {
            self.journal.change(digest);
        }
    }

    /// Takes out a blob whose file is not this long, if that is how long it is thought to be: it may have been fetched again since
    /// somebody looked. Tells whether it was taken out.
    pub fn forget_if(&self, digest: &Digest, size: u64) -> bool {
        let mut inner = self.inner.lock();
        let is_meant = inner.entries.entry(digest).is_some_and(|entry| entry.size == size);
        if is_meant && inner.remove(digest).is_some() {
            self.journal.change(digest);
        }
        is_meant
    }

    /// Bytes and number of blobs.
    pub fn size(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.bytes, inner.entries.len() as u64)
    }
}

/// In seconds since 1970; the last of them is in 2106.
fn short(time: SystemTime) -> u32 {
    u32::try_from(seconds(time)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
