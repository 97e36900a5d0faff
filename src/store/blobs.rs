//! The entries with what they share: media types, the sum of their bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::entries::{Entries, Entry};
use super::slab::Slot;
use crate::oci::digest::Digest;

/// What is known of the blobs on this disk.
#[derive(Debug, Default)]
pub struct Blobs {
    pub(super) entries: Entries,
    types: Types,
    pub(super) bytes: u64,
    /// What they take of the disk: see [`footprint`].
    pub(super) taken: u64,
    /// Entries before this number have a size that was not compared with their file's yet.
    pub(super) unverified_sizes: Slot,
    /// Readers of blobs that were taken out. One of them and one of the blob that came again are not
    /// told apart: who leaves first is taken for one of before, so that no reader is forgotten.
    left_behind: HashMap<Digest, u32>,
}

/// What a file of this length takes of the disk: its blocks, and what names it. (The blocks that a file
/// has are not to be trusted while it is written.)
pub fn footprint(size: u64) -> u64 {
    size.div_ceil(4096).saturating_mul(4096).saturating_add(1024)
}

/// Types are few, so blobs share their names. Those seen last; an upstream may make up as many as
/// it likes.
#[derive(Debug, Default)]
struct Types(Vec<Arc<str>>);

const TYPES: usize = 32;

impl Types {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        if self.0.len() >= TYPES {
            self.0.remove(0);
        }
        self.0.push(name.into());
        name.into()
    }
}

impl Blobs {
    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for so many in all.
    pub fn reserve(&mut self, count: usize) {
        self.entries.reserve(count);
    }

    /// The shared name of a media type.
    pub fn typed(&mut self, media_type: &str) -> Arc<str> {
        self.types.shared(media_type)
    }

    /// Takes what was written down of a blob that is not known. `used` is in seconds since 1970.
    pub fn put(&mut self, digest: Digest, size: u64, used: u32, media_type: Option<Arc<str>>) {
        let mut entry = Entry::new(digest, size, used);
        entry.media_type = media_type;
        self.add(entry);
    }

    /// Forgets a blob; tells whether it was known.
    pub fn forget(&mut self, digest: &Digest) -> bool {
        self.remove(digest).is_some()
    }

    pub(super) fn add(&mut self, entry: Entry) -> Slot {
        self.bytes += entry.size;
        self.taken += footprint(entry.size);
        self.entries.add(entry)
    }

    /// A reader leaves.
    pub(super) fn leave(&mut self, digest: &Digest) {
        if let Some(readers) = self.left_behind.get_mut(digest) {
            *readers -= 1;
            if *readers == 0 {
                self.left_behind.remove(digest);
            }
        } else if let Some(entry) = self.entries.entry_mut(digest) {
            entry.readers = entry.readers.saturating_sub(1);
        }
    }

    /// Takes out a blob, whoever reads it.
    pub(super) fn take_out(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.remove(digest)?;
        if entry.readers > 0 {
            *self.left_behind.entry(digest.clone()).or_default() += entry.readers;
        }
        Some(entry)
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.bytes -= entry.size;
        self.taken -= footprint(entry.size);
        Some(entry)
    }
}
