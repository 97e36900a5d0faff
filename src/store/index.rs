//! The index: which blobs are on this disk, how large, when last used, who reads them. In memory.
//!
//! - In the index means on disk: a file comes before its entry, and goes after it.
//! - The order of eviction is that of the entries: least recently used first. What is being read is
//!   skipped, unless its readers take nothing.
//! - Records behind it make the next start warm. They may be lost: the files are the truth. A start
//!   reads their names only, and their sizes are compared while it serves (`unverified_sizes`): who
//!   opens one compares too.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::warn;

use super::blobs::Blobs;
use super::entries::Entry;
use super::slab::Slot;
use crate::oci::digest::Digest;
use crate::records::{Journal, seconds, time};

/// The index. Clones share one.
#[derive(Clone, Debug)]
pub struct Index {
    inner: Arc<Mutex<Blobs>>,
    journal: Journal,
}

/// What is written down of a blob.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Length in bytes.
    pub size: u64,
    /// Last use in seconds since 1970.
    pub used: u32,
    /// As upstream named it.
    pub media_type: Option<Arc<str>>,
}

/// A blob by its number.
pub type Numbered = (Slot, Digest, Facts);

/// A blob that is here. While it lives and its reader takes something now and then, nothing takes the
/// blob away.
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
        self.index.inner.lock().leave(&self.digest);
    }
}

impl Held {
    /// Its reader took something.
    pub fn taken_from(&self, now: SystemTime) {
        self.index.touch(&self.digest, now);
    }
}

/// A blob that was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes.
    pub size: u64,
    /// Whether it has readers, who take nothing.
    pub is_read: bool,
}

/// Numbers that are gone through at once for [`IndexFacts::from`]: so long are blobs kept from
/// changing.
const LOOKED_AT: Slot = 4096;
/// A use is written to the journal once in this time: the order of eviction after a restart is that
/// good.
const COARSE: u32 = 60;
/// A reader that took nothing for so long keeps its blob no more: a stream without a window could keep
/// it for days.
pub const UNTAKEN: Duration = Duration::from_secs(30);
/// Blobs whose files are looked at in one go.
const AT_ONCE: Slot = 32;

impl Index {
    /// Empty.
    pub fn new(journal: Journal) -> Index {
        Index { inner: Arc::default(), journal }
    }

    /// Fills it with the files that are there and what was `known` of them, in order of last use.
    /// `look` tells the size and the date of those that were not known. Returns the blobs that were
    /// known and have no file any more.
    pub fn restore(
        &self,
        files: Vec<Digest>,
        mut known: Blobs,
        look: impl Fn(&Digest) -> crate::fs::Result<(u64, SystemTime)>,
    ) -> Vec<Digest> {
        let mut is_there = vec![false; known.entries.slots() as usize];
        let mut news = Vec::new();
        for digest in files {
            match known.entries.find(&digest) {
                Some(slot) => is_there[slot as usize] = true,
                None => news.push(digest),
            }
        }
        let removed = (0..).zip(&is_there).filter(|(_, is_there)| !**is_there);
        let removed: Vec<Digest> =
            removed.filter_map(|(slot, _)| Some(known.entries.at(slot)?.digest.clone())).collect();
        for digest in &removed {
            known.remove(digest);
        }
        known.unverified_sizes = known.entries.slots();
        for digest in &news {
            let (size, modified) = match look(digest) {
                Ok(found) => found,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    // Of another size than its file's: whoever opens it fetches it again.
                    warn!(%error, "the size of a cached file is not known");
                    (0, SystemTime::UNIX_EPOCH)
                }
            };
            known.add(Entry::new(digest.clone(), size, short(modified)));
        }
        known.entries.sort();
        *self.inner.lock() = known;
        removed.iter().chain(&news).for_each(|digest| self.journal.change(digest));
        removed
    }

    /// Its facts, for the writer of records.
    pub fn facts(&self) -> IndexFacts {
        IndexFacts(self.inner.clone())
    }

    /// Some of the blobs whose files were not looked at since the start, and their sizes. `None`:
    /// there are no more.
    pub fn unverified_sizes(&self) -> Option<Vec<(Digest, u64)>> {
        let mut inner = self.inner.lock();
        let until = inner.unverified_sizes;
        inner.unverified_sizes = until.checked_sub(1)? / AT_ONCE * AT_ONCE;
        let slots = (inner.unverified_sizes..until).filter_map(|slot| inner.entries.at(slot));
        Some(slots.map(|entry| (entry.digest.clone(), entry.size)).collect())
    }

    /// The size that a blob is thought to have, if its file was not looked at since the start.
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

    /// When a blob that is here was last used.
    pub fn last_used(&self, digest: &Digest) -> Option<SystemTime> {
        self.inner.lock().entries.entry(digest).map(|entry| time(entry.used.into()))
    }

    /// Adds a blob whose file is in its place, and holds it: nothing takes it away between the two.
    pub fn insert(&self, digest: &Digest, size: u64, media_type: Option<&str>, now: SystemTime) -> Held {
        let mut inner = self.inner.lock();
        // It was here all along: a file that came again is the same file, and who reads it goes on.
        let readers = inner.remove(digest).map_or(0, |before| before.readers);
        let media_type = media_type.map(|name| inner.typed(name));
        let mut entry = Entry::new(digest.clone(), size, short(now));
        (entry.media_type, entry.readers) = (media_type.clone(), readers + 1);
        inner.add(entry);
        drop(inner);
        self.journal.change(digest);
        Held { index: self.clone(), digest: digest.clone(), size, media_type }
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
        let before = std::mem::replace(&mut entry.used, now);
        if now / COARSE != before / COARSE {
            self.journal.change(digest);
        }
        Some(slot)
    }

    /// The least recently used blob that may go.
    pub fn oldest(&self, now: SystemTime) -> Option<Digest> {
        let inner = self.inner.lock();
        inner.entries.oldest_first().find(|entry| may_go(entry, now)).map(|entry| entry.digest.clone())
    }

    /// Takes out a blob that may go. Its file is the caller's to remove.
    pub fn take(&self, digest: &Digest, now: SystemTime) -> Option<Taken> {
        let mut inner = self.inner.lock();
        inner.entries.entry(digest).filter(|entry| may_go(entry, now))?;
        let entry = inner.take_out(digest)?;
        self.journal.change(digest);
        Some(Taken { size: entry.size, is_read: entry.readers > 0 })
    }

    /// Takes a blob out whose file turned out to be missing or wrong, whoever reads it.
    pub fn forget(&self, digest: &Digest) {
        if self.inner.lock().take_out(digest).is_some() {
            self.journal.change(digest);
        }
    }

    /// Takes out a blob whose file is not this long, if that is the size it is thought to have: it
    /// may have been fetched again since its file was looked at. Tells whether it was taken out.
    pub fn forget_if(&self, digest: &Digest, size: u64) -> bool {
        let mut inner = self.inner.lock();
        let is_meant = inner.entries.entry(digest).is_some_and(|entry| entry.size == size);
        if is_meant && inner.take_out(digest).is_some() {
            self.journal.change(digest);
        }
        is_meant
    }

    /// What the blobs take of the disk.
    pub fn taken(&self) -> u64 {
        self.inner.lock().taken
    }

    /// Bytes and number of blobs.
    pub fn size(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.bytes, inner.entries.len() as u64)
    }
}

/// What is written down of the blobs in an index. It has no journal: the journal's writer holds it,
/// and would keep itself alive.
#[derive(Clone, Debug)]
pub struct IndexFacts(Arc<Mutex<Blobs>>);

impl IndexFacts {
    #[cfg(test)]
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// What is written down of a blob that is here.
    pub fn of(&self, digest: &Digest) -> Option<Facts> {
        self.0.lock().entries.entry(digest).map(facts)
    }

    /// What is written down of the blobs from a number on, at most `most` of them, each with its
    /// number; and the number to go on with. `None`: there are no more.
    pub fn from(&self, first: Slot, most: usize) -> Option<(Vec<Numbered>, Slot)> {
        let inner = self.0.lock();
        let until = inner.entries.slots().min(first.saturating_add(LOOKED_AT));
        if first >= until {
            return None;
        }
        let (mut found, mut next) = (Vec::new(), first);
        while next < until && found.len() < most {
            found.extend(inner.entries.at(next).map(|entry| (next, entry.digest.clone(), facts(entry))));
            next += 1;
        }
        Some((found, next))
    }
}

fn may_go(entry: &Entry, now: SystemTime) -> bool {
    entry.readers == 0 || u64::from(short(now).saturating_sub(entry.used)) >= UNTAKEN.as_secs()
}

fn facts(entry: &Entry) -> Facts {
    Facts { size: entry.size, used: entry.used, media_type: entry.media_type.clone() }
}

/// In seconds since 1970; the last of them is in 2106.
fn short(time: SystemTime) -> u32 {
    u32::try_from(seconds(time)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
