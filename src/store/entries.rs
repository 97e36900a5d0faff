//! The blobs in order of last use, as small as they can be: about 110 bytes each, names of repositories and types apart.
//!
//! Entries stand in blocks that never move, and name each other by number, so a million of them cost no copy when one more comes. The
//! hash table is cut in shards for the same reason: one grows at a time. Every operation costs the same with a thousand and a million.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::access::repositories::RepositoryId;
use crate::oci::digest::Digest;

/// The number of an entry while it lives; another one's later.
pub(crate) type Slot = u32;

/// No entry.
const NONE: Slot = Slot::MAX;
/// Entries of one block.
const BLOCK: usize = 4096;
const SHARDS: usize = 256;

/// What is known of one blob.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) media_type: Option<Arc<str>>,
    /// Repositories that upstream was seen to have it in.
    pub(crate) places: InRepositories,
    /// Seconds since 1970, until 2106.
    pub(crate) used: u32,
    pub(crate) readers: u32,
    older: Slot,
    newer: Slot,
}

/// Most blobs are in one repository.
#[derive(Clone, Debug, Default)]
pub(crate) enum InRepositories {
    #[default]
    None,
    One(RepositoryId),
    Some(Box<[RepositoryId]>),
}

impl InRepositories {
    pub(crate) fn as_slice(&self) -> &[RepositoryId] {
        match self {
            InRepositories::None => &[],
            InRepositories::One(place) => std::slice::from_ref(place),
            InRepositories::Some(places) => places,
        }
    }

    /// Tells whether it is new.
    pub(crate) fn add(&mut self, place: RepositoryId) -> bool {
        if self.as_slice().contains(&place) {
            return false;
        }
        *self = self.as_slice().iter().copied().chain([place]).collect();
        true
    }

    /// Tells whether it was there.
    pub(crate) fn remove(&mut self, place: RepositoryId) -> bool {
        let before = self.as_slice().len();
        *self = self.as_slice().iter().copied().filter(|known| *known != place).collect();
        self.as_slice().len() < before
    }
}

impl FromIterator<RepositoryId> for InRepositories {
    fn from_iter<I: IntoIterator<Item = RepositoryId>>(places: I) -> InRepositories {
        let mut places = places.into_iter();
        match (places.next(), places.next()) {
            (None, _) => InRepositories::None,
            (Some(one), None) => InRepositories::One(one),
            (Some(one), Some(two)) => InRepositories::Some([one, two].into_iter().chain(places).collect()),
        }
    }
}

impl Entry {
    pub(crate) fn new(digest: Digest, size: u64, used: u32) -> Entry {
        let (media_type, places) = (None, InRepositories::None);
        Entry { digest, size, media_type, places, used, readers: 0, older: NONE, newer: NONE }
    }
}

type Blocks = Vec<Vec<Option<Entry>>>;

/// The blobs. An entry is found by its digest, or by its number.
#[derive(Debug)]
pub(crate) struct Entries {
    blocks: Blocks,
    free: Vec<Slot>,
    shards: Vec<HashTable<Slot>>,
    hasher: DefaultHashBuilder,
    oldest: Slot,
    newest: Slot,
    len: usize,
}

impl Default for Entries {
    fn default() -> Entries {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        let (blocks, free, hasher) = (Vec::new(), Vec::new(), DefaultHashBuilder::default());
        Entries { blocks, free, shards, hasher, oldest: NONE, newest: NONE, len: 0 }
    }
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Numbers given so far: all entries are below.
    pub(crate) fn slots(&self) -> Slot {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        (full + self.blocks.last().map_or(0, Vec::len)) as Slot
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&Entry> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)?.as_mut()
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<Slot> {
        let hash = self.hasher.hash_one(digest);
        self.shards[shard(hash)].find(hash, |slot| self.names(*slot, digest)).copied()
    }

    pub(crate) fn entry(&self, digest: &Digest) -> Option<&Entry> {
        self.at(self.find(digest)?)
    }

    pub(crate) fn entry_mut(&mut self, digest: &Digest) -> Option<&mut Entry> {
        self.at_mut(self.find(digest)?)
    }

    fn names(&self, slot: Slot, digest: &Digest) -> bool {
        self.at(slot).is_some_and(|entry| entry.digest == *digest)
    }

    /// Makes room for so many in all, so that no table grows while they are added.
    pub(crate) fn reserve(&mut self, count: usize) {
        // Digests are spread evenly, but not quite.
        let each = count / SHARDS + count / SHARDS / 8;
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        let again = |slot: &Slot| hasher.hash_one(&named(blocks, *slot).digest);
        self.shards.iter_mut().for_each(|shard| shard.reserve(each.saturating_sub(shard.len()), again));
    }

    /// Adds one that is not there, as the newest.
    pub(crate) fn add(&mut self, entry: Entry) -> Slot {
        let hash = self.hasher.hash_one(&entry.digest);
        let slot = self.place(entry);
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        let again = |slot: &Slot| hasher.hash_one(&named(blocks, *slot).digest);
        self.shards[shard(hash)].insert_unique(hash, slot, again);
        self.len += 1;
        self.link(slot);
        slot
    }

    fn place(&mut self, entry: Entry) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = Some(entry);
            return slot;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let slot = self.slots();
        self.blocks.last_mut().expect("one was added").push(Some(entry));
        slot
    }

    pub(crate) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let hash = self.hasher.hash_one(digest);
        let blocks = &self.blocks;
        let names = |slot: &Slot| named(blocks, *slot).digest == *digest;
        let (slot, _) = self.shards[shard(hash)].find_entry(hash, names).ok()?.remove();
        self.unlink(slot);
        self.free.push(slot);
        self.len -= 1;
        self.blocks[slot as usize / BLOCK][slot as usize % BLOCK].take()
    }

    /// Makes it the newest.
    pub(crate) fn renew(&mut self, slot: Slot) {
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
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = &Entry> {
        let next = |entry: &&Entry| self.at(entry.newer);
        std::iter::successors(self.at(self.oldest), next)
    }

    /// Puts all in the order of the time they say they were used.
    pub(crate) fn sort(&mut self) {
        let mut slots: Vec<(u32, Slot)> =
            (0..self.slots()).filter_map(|slot| Some((self.at(slot)?.used, slot))).collect();
        slots.sort_unstable();
        (self.oldest, self.newest) = (NONE, NONE);
        for (_, slot) in slots {
            self.link(slot);
        }
    }
}

fn named(blocks: &Blocks, slot: Slot) -> &Entry {
    let entry = blocks[slot as usize / BLOCK][slot as usize % BLOCK].as_ref();
    entry.expect("what is in the table has an entry")
}

fn shard(hash: u64) -> usize {
    // Neither the bits that choose the bucket nor those kept beside it.
    (hash >> 40) as usize % SHARDS
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
        assert!(size_of::<Option<Entry>>() <= 104, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn places_are_a_set() {
        let (a, b) = (RepositoryId::from(1), RepositoryId::from(2));
        let mut places = InRepositories::default();
        assert!(places.add(a) && !places.add(a) && places.add(b));
        assert_eq!(places.as_slice(), [a, b]);
        assert!(places.remove(a) && !places.remove(a));
        assert!(matches!(places, InRepositories::One(one) if one == b));
        assert!(places.remove(b) && places.as_slice().is_empty());
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
        /// Against a list: whatever is added, removed and used, the order and what is found are the same.
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
