//! What is on disk, in memory: which blobs, how large, when last used, in which repositories upstream was seen to have them.
//!
//! - In the index means on disk: a file comes before its entry, and goes after it.
//! - Least recently used first is the order of the map. What is being read is skipped.
//! - The [`journal`] behind it makes the next start warm. It may be lost: the files are the truth.

mod backlog;
mod book;
pub mod journal;
mod places;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use crate::oci::digest::Digest;
use journal::{BlobRecord, Journal};
use places::Places;

pub use places::Place;

/// What is known of one blob.
#[derive(Debug)]
struct Entry {
    size: u64,
    used: SystemTime,
    media_type: Option<Arc<str>>,
    /// Repositories that upstream was seen to have it in.
    places: Vec<Place>,
    readers: u32,
}

#[derive(Debug, Default)]
struct Inner {
    /// Least recently used first.
    entries: LinkedHashMap<Digest, Entry>,
    places: Places,
    bytes: u64,
}

/// The index. Clones share one.
#[derive(Clone, Debug)]
pub struct Index {
    inner: Arc<Mutex<Inner>>,
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
        if let Some(entry) = self.index.inner.lock().entries.get_mut(&self.digest) {
            entry.readers = entry.readers.saturating_sub(1);
        }
    }
}

/// A use is written to the journal when the last one written is this old: the order of eviction after a restart is that good.
const COARSE: Duration = Duration::from_secs(60);

impl Index {
    /// Empty.
    pub fn new(journal: Journal) -> Index {
        Index { inner: Arc::default(), journal }
    }

    /// Fills it with the files that are there and what the journal knows of them; least recently used first. Returns those that
    /// have another length than they had: somebody cut or changed them, and they are the caller's to remove.
    pub fn restore(&self, files: Vec<(Digest, u64, SystemTime)>, mut records: journal::Records) -> Vec<Digest> {
        let mut changed = Vec::new();
        let mut known: Vec<_> = files
            .into_iter()
            .filter_map(|(digest, size, modified)| {
                if records.blobs.get(&digest).is_some_and(|record| record.size != size) {
                    changed.push(digest);
                    return None;
                }
                let record = records.blobs.remove(&digest);
                let used = record.as_ref().map_or(modified, |record| record.used());
                Some((digest, size, used, record))
            })
            .collect();
        known.sort_by_key(|(_, _, used, _)| *used);
        let mut inner = self.inner.lock();
        for (digest, size, used, record) in known {
            let record = record.unwrap_or_default();
            let places = record.places.iter().map(|name| inner.places.of(name)).collect();
            inner.bytes += size;
            let media_type = record.media_type.map(Arc::from);
            inner.entries.insert(digest, Entry { size, used, media_type, places, readers: 0 });
        }
        for orphan in records.blobs.into_keys() {
            self.journal.forget_blob(&orphan);
        }
        changed
    }

    /// A blob that is here, used now.
    pub fn hold(&self, digest: &Digest, now: SystemTime) -> Option<Held> {
        let mut inner = self.inner.lock();
        self.used(&mut inner, digest, now);
        let entry = inner.entries.get_mut(digest)?;
        entry.readers += 1;
        let (size, media_type) = (entry.size, entry.media_type.clone());
        Some(Held { index: self.clone(), digest: digest.clone(), size, media_type })
    }

    /// Whether a blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.inner.lock().entries.contains_key(digest)
    }

    /// When a blob that is here was last used, to the minute.
    pub fn last_used(&self, digest: &Digest) -> Option<SystemTime> {
        self.inner.lock().entries.get(digest).map(|entry| entry.used)
    }

    /// Adds a blob whose file is in its place.
    pub fn insert(&self, digest: &Digest, size: u64, media_type: Option<Arc<str>>, place: &str, now: SystemTime) {
        let mut inner = self.inner.lock();
        let place = inner.places.of(place);
        // It was here all along: a file that came again is the same file.
        let before = inner.entries.get(digest);
        let (gone, readers) = before.map_or((0, 0), |before| (before.size, before.readers));
        let mut places = before.map(|before| before.places.clone()).unwrap_or_default();
        if !places.contains(&place) {
            places.push(place);
        }
        inner.bytes -= gone;
        inner.entries.insert(digest.clone(), Entry { size, used: now, media_type, places, readers });
        inner.entries.to_back(digest);
        inner.bytes += size;
        self.write_down(&inner, digest);
    }

    /// Remembers that upstream has a blob in a repository. False, if the blob is not here.
    pub fn seen_in(&self, digest: &Digest, place: &str) -> bool {
        let mut inner = self.inner.lock();
        let Inner { entries, places, .. } = &mut *inner;
        let Some(entry) = entries.get_mut(digest) else { return false };
        let place = places.of(place);
        if !entry.places.contains(&place) {
            entry.places.push(place);
            self.write_down(&inner, digest);
        }
        true
    }

    /// Forgets that upstream has a blob in a repository.
    pub fn not_in(&self, digest: &Digest, place: &str) {
        let mut inner = self.inner.lock();
        let Inner { entries, places, .. } = &mut *inner;
        let (Some(entry), Some(place)) = (entries.get_mut(digest), places.find(place)) else { return };
        let before = entry.places.len();
        entry.places.retain(|known| *known != place);
        if entry.places.len() < before {
            self.write_down(&inner, digest);
        }
    }

    /// Whether upstream was seen to have a blob, that is here, in a repository.
    pub fn is_seen_in(&self, digest: &Digest, place: &str) -> bool {
        let inner = self.inner.lock();
        let (Some(entry), Some(place)) = (inner.entries.get(digest), inner.places.find(place)) else { return false };
        entry.places.contains(&place)
    }

    /// Whether upstream was seen to have a blob, that is here, in a repository of which `wanted` is true.
    pub fn is_seen_where(&self, digest: &Digest, wanted: impl Fn(&str) -> bool) -> bool {
        let inner = self.inner.lock();
        let entry = inner.entries.get(digest);
        entry.is_some_and(|entry| entry.places.iter().any(|place| wanted(&inner.places.name(*place))))
    }

    /// A blob is used now.
    pub fn touch(&self, digest: &Digest, now: SystemTime) {
        let mut inner = self.inner.lock();
        self.used(&mut inner, digest, now);
    }

    /// Moves it to the end, and says so in the journal now and then.
    fn used(&self, inner: &mut Inner, digest: &Digest, now: SystemTime) {
        let Some(entry) = inner.entries.to_back(digest) else { return };
        if now.duration_since(entry.used).unwrap_or_default() >= COARSE {
            entry.used = now;
            self.write_down(inner, digest);
        }
    }

    /// The least recently used blob that nobody reads.
    pub fn oldest(&self) -> Option<Digest> {
        let inner = self.inner.lock();
        inner.entries.iter().find(|(_, entry)| entry.readers == 0).map(|(digest, _)| digest.clone())
    }

    /// Takes a blob out that nobody reads; its length. Its file is the caller's to remove.
    pub fn take(&self, digest: &Digest) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.entries.get(digest).filter(|entry| entry.readers == 0)?;
        self.take_out(&mut inner, digest)
    }

    /// Takes a blob out whose file turned out to be missing or wrong, whoever reads it.
    pub fn forget(&self, digest: &Digest) {
        self.take_out(&mut self.inner.lock(), digest);
    }

    fn take_out(&self, inner: &mut Inner, digest: &Digest) -> Option<u64> {
        let entry = inner.entries.remove(digest)?;
        inner.bytes -= entry.size;
        self.journal.forget_blob(digest);
        Some(entry.size)
    }

    /// Bytes and number of blobs.
    pub fn size(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.bytes, inner.entries.len() as u64)
    }

    fn write_down(&self, inner: &Inner, digest: &Digest) {
        let Some(entry) = inner.entries.get(digest) else { return };
        let places = entry.places.iter().map(|place| inner.places.name(*place)).collect();
        let media_type = entry.media_type.as_deref().map(str::to_owned);
        self.journal.write_blob(digest, &BlobRecord::new(entry.size, entry.used, media_type, places));
    }
}

#[cfg(test)]
mod tests;
