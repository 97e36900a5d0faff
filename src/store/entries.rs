//! What is known of the blobs on this disk, in order of last use.

use std::sync::Arc;

use super::slab::{OfDigest, Slab, Slot};
use crate::oci::digest::Digest;

/// No entry.
const NONE: Slot = Slot::MAX;

/// What is known of one blob.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
    pub(super) media_type: Option<Arc<str>>,
    /// Seconds since 1970, until 2106.
    pub(super) used: u32,
    pub(super) readers: u32,
    older: Slot,
    newer: Slot,
}

impl Entry {
    pub(super) fn new(digest: Digest, size: u64, used: u32) -> Entry {
        Entry { digest, size, media_type: None, used, readers: 0, older: NONE, newer: NONE }
    }
}

impl OfDigest for Entry {
    fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The entries, linked from the least to the most recently used.
#[derive(Debug)]
pub(super) struct Entries {
    slab: Slab<Entry>,
    oldest: Slot,
    newest: Slot,
}

impl Default for Entries {
    fn default() -> Entries {
        Entries { slab: Slab::default(), oldest: NONE, newest: NONE }
    }
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Numbers given so far: all entries are below.
    pub(super) fn slots(&self) -> Slot {
        self.slab.slots()
    }

    pub(super) fn at(&self, slot: Slot) -> Option<&Entry> {
        self.slab.at(slot)
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.slab.at_mut(slot)
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Slot> {
        self.slab.find(digest)
    }

    pub(super) fn entry(&self, digest: &Digest) -> Option<&Entry> {
        self.slab.get(digest)
    }

    pub(super) fn entry_mut(&mut self, digest: &Digest) -> Option<&mut Entry> {
        self.slab.get_mut(digest)
    }

    /// Makes room for so many in all, so that no table grows while they are added.
    pub(super) fn reserve(&mut self, count: usize) {
        self.slab.reserve(count);
    }

    /// Adds one that is not there, as the newest.
    pub(super) fn add(&mut self, entry: Entry) -> Slot {
        let slot = self.slab.add(entry);
        self.link(slot);
        slot
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let slot = self.slab.find(digest)?;
        self.unlink(slot);
        self.slab.take(slot)
    }

    /// Makes it the newest.
    pub(super) fn renew(&mut self, slot: Slot) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    fn link(&mut self, slot: Slot) {
        let newest = std::mem::replace(&mut self.newest, slot);
        if let Some(entry) = self.at_mut(slot) {
            (entry.older, entry.newer) = (newest, NONE);
        }
        match self.at_mut(newest) {
            Some(before) => before.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: Slot) {
        let Some((older, newer)) = self.at(slot).map(|entry| (entry.older, entry.newer)) else { return };
        match self.at_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.at_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Those that are there, the least recently used first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Entry> {
        let next = |entry: &&Entry| self.at(entry.newer);
        std::iter::successors(self.at(self.oldest), next)
    }

    /// Puts all in the order of the time they say they were used.
    pub(super) fn sort(&mut self) {
        let mut slots: Vec<(u32, Slot)> =
            (0..self.slots()).filter_map(|slot| Some((self.at(slot)?.used, slot))).collect();
        slots.sort_unstable();
        (self.oldest, self.newest) = (NONE, NONE);
        for (_, slot) in slots {
            self.link(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::digest::Algorithm;

    fn digest(n: u64) -> Digest {
        Digest::of(Algorithm::Sha256, &n.to_be_bytes())
    }

    fn order(entries: &Entries) -> Vec<u64> {
        entries.oldest_first().map(|entry| entry.size).collect()
    }

    /// What a million entries cost, by counting: an entry and its link, not the names.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<Entry>>() <= 88, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn the_order_is_that_of_the_times_after_a_sort() {
        let mut entries = Entries::default();
        for (n, used) in [(1, 30), (2, 10), (3, 20)] {
            entries.add(Entry::new(digest(n), n, used));
        }
        entries.sort();
        assert_eq!(order(&entries), [2, 3, 1]);
    }

    proptest! {
        /// Against a list: whatever is added, removed and used, the order and what is found are the
        /// same.
        #[test]
        fn it_is_a_list_in_order_of_use(steps in prop::collection::vec((0_u8..3, 0_u64..40), 0..200)) {
            let (mut entries, mut model) = (Entries::default(), Vec::new());
            for (step, n) in steps {
                let at = model.iter().position(|known| *known == n);
                prop_assert_eq!(entries.find(&digest(n)).is_some(), at.is_some());
                match (step, at) {
                    (0, None) => {
                        entries.add(Entry::new(digest(n), n, 0));
                        model.push(n);
                    }
                    (1, at) => {
                        prop_assert_eq!(entries.remove(&digest(n)).map(|entry| entry.size), at.map(|at| model.remove(at)));
                    }
                    (_, Some(at)) => {
                        let slot = entries.find(&digest(n)).unwrap();
                        entries.renew(slot);
                        model.remove(at);
                        model.push(n);
                    }
                    _ => {}
                }
                prop_assert_eq!(order(&entries), model.clone());
                prop_assert_eq!(entries.len(), model.len());
                prop_assert!(entries.slots() <= 40, "numbers are used again");
            }
        }
    }
}
