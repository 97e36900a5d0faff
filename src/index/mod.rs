//! What is on disk, in memory: which blobs, how large, when last used, in which repositories upstream was seen to have them.
//!
//! - In the index means on disk: a file comes before its entry, and goes after it.
//! - Least recently used first is the order of the map. What is being read is skipped.
//! - The [`journal`] behind it makes the next start warm. It may be lost: the files are the truth.

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
        let entry = inner.entries.to_back(digest)?;
        entry.readers += 1;
        let coarse = now.duration_since(entry.used).unwrap_or_default() >= COARSE;
        let held = Held {
            index: self.clone(),
            digest: digest.clone(),
            size: entry.size,
            media_type: entry.media_type.clone(),
        };
        if coarse {
            entry.used = now;
            self.write_down(&inner, digest);
        }
        Some(held)
    }

    /// Whether a blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.inner.lock().entries.contains_key(digest)
    }

    /// Adds a blob whose file is in its place.
    pub fn insert(&self, digest: &Digest, size: u64, media_type: Option<Arc<str>>, place: &str, now: SystemTime) {
        let mut inner = self.inner.lock();
        let place = inner.places.of(place);
        if let Some(before) = inner.entries.get(digest) {
            // It was here all along: a file that came again is the same file.
            let gone = before.size;
            inner.bytes -= gone;
        }
        let readers = inner.entries.get(digest).map_or(0, |entry| entry.readers);
        inner.entries.insert(digest.clone(), Entry { size, used: now, media_type, places: vec![place], readers });
        inner.entries.to_back(digest);
        inner.bytes += size;
        self.write_down(&inner, digest);
    }

    /// Remembers that upstream has a blob in a repository. Nothing, if the blob is not here.
    pub fn seen_in(&self, digest: &Digest, place: &str) {
        let mut inner = self.inner.lock();
        let Inner { entries, places, .. } = &mut *inner;
        let Some(entry) = entries.get_mut(digest) else { return };
        let place = places.of(place);
        if !entry.places.contains(&place) {
            entry.places.push(place);
            self.write_down(&inner, digest);
        }
    }

    /// Forgets that upstream has a blob in a repository.
    pub fn not_in(&self, digest: &Digest, place: &str) {
        let mut inner = self.inner.lock();
        let Inner { entries, places, .. } = &mut *inner;
        let Some(entry) = entries.get_mut(digest) else { return };
        let place = places.of(place);
        entry.places.retain(|known| *known != place);
        self.write_down(&inner, digest);
    }

    /// Whether upstream was seen to have a blob, that is here, in a repository.
    pub fn is_seen_in(&self, digest: &Digest, place: &str) -> bool {
        let inner = self.inner.lock();
        let (Some(entry), Some(place)) = (inner.entries.get(digest), inner.places.find(place)) else { return false };
        entry.places.contains(&place)
    }

    /// Takes out the least recently used blobs that nobody reads, until `bytes` are gone or none is left. Their files are the
    /// caller's to remove.
    pub fn evict(&self, bytes: u64) -> Vec<Digest> {
        let mut inner = self.inner.lock();
        let (mut gone, mut victims) = (0, Vec::new());
        for (digest, entry) in &inner.entries {
            if gone >= bytes {
                break;
            }
            if entry.readers == 0 {
                gone += entry.size;
                victims.push(digest.clone());
            }
        }
        for digest in &victims {
            inner.entries.remove(digest);
            self.journal.forget_blob(digest);
        }
        inner.bytes -= gone;
        victims
    }

    /// Takes out one blob, whose file turned out to be missing or wrong.
    pub fn forget(&self, digest: &Digest) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.remove(digest) {
            inner.bytes -= entry.size;
            self.journal.forget_blob(digest);
        }
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
