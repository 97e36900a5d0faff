//! Values by digest, as small as they can be: blocks of values that never move, and a hash table of
//! their numbers.
//!
//! Values name each other by number, so a million of them cost no copy when one more comes. The
//! hash table is cut in shards for the same reason: one grows at a time. Every operation costs the
//! same with a thousand and a million.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::oci::digest::Digest;

/// The number of a value while it lives; another one's later.
pub type Slot = u32;

/// Values of one block.
const BLOCK: usize = 4096;
const SHARDS: usize = 256;

/// A value that knows whose it is.
pub trait OfDigest {
    /// The digest it is found by.
    fn digest(&self) -> &Digest;
}

type Blocks<T> = Vec<Vec<Option<T>>>;

/// The values. One is found by its digest, or by its number.
#[derive(Debug)]
pub struct Slab<T> {
    blocks: Blocks<T>,
    free: Vec<Slot>,
    shards: Vec<HashTable<Slot>>,
    hasher: DefaultHashBuilder,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        let shards = (0..SHARDS).map(|_| HashTable::new()).collect();
        Slab { blocks: Vec::new(), free: Vec::new(), shards, hasher: DefaultHashBuilder::default(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Numbers given so far: all values are below.
    pub fn slots(&self) -> Slot {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        (full + self.blocks.last().map_or(0, Vec::len)) as Slot
    }

    /// The value of a number.
    pub fn at(&self, slot: Slot) -> Option<&T> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)?.as_ref()
    }

    /// The value of a number, to change it.
    pub fn at_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)?.as_mut()
    }
}

impl<T: OfDigest> Slab<T> {
    /// The number of a digest's value.
    pub fn find(&self, digest: &Digest) -> Option<Slot> {
        let hash = self.hasher.hash_one(digest);
        let is_meant = |slot: &Slot| self.at(*slot).is_some_and(|value| value.digest() == digest);
        self.shards[shard(hash)].find(hash, is_meant).copied()
    }

    /// The value of a digest.
    pub fn get(&self, digest: &Digest) -> Option<&T> {
        self.at(self.find(digest)?)
    }

    /// The value of a digest, to change it.
    pub fn get_mut(&mut self, digest: &Digest) -> Option<&mut T> {
        self.at_mut(self.find(digest)?)
    }

    /// Makes room for so many in all, so that no table grows while they are added.
    pub fn reserve(&mut self, count: usize) {
        // Digests are spread evenly, but not quite.
        let each = count / SHARDS + count / SHARDS / 8;
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        let again = |slot: &Slot| hasher.hash_one(named(blocks, *slot).digest());
        self.shards.iter_mut().for_each(|shard| shard.reserve(each.saturating_sub(shard.len()), again));
    }

    /// Adds a value of a digest that has none.
    pub fn add(&mut self, value: T) -> Slot {
        let hash = self.hasher.hash_one(value.digest());
        let slot = self.place(value);
        let (blocks, hasher) = (&self.blocks, &self.hasher);
        let again = |slot: &Slot| hasher.hash_one(named(blocks, *slot).digest());
        self.shards[shard(hash)].insert_unique(hash, slot, again);
        self.len += 1;
        slot
    }

    fn place(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.blocks[slot as usize / BLOCK][slot as usize % BLOCK] = Some(value);
            return slot;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let slot = self.slots();
        self.blocks.last_mut().expect("one was added").push(Some(value));
        slot
    }

    /// Takes the value of a number out.
    pub fn take(&mut self, slot: Slot) -> Option<T> {
        let hash = self.hasher.hash_one(self.at(slot)?.digest());
        if let Ok(found) = self.shards[shard(hash)].find_entry(hash, |known| *known == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.len -= 1;
        self.at_slot(slot).take()
    }

    fn at_slot(&mut self, slot: Slot) -> &mut Option<T> {
        &mut self.blocks[slot as usize / BLOCK][slot as usize % BLOCK]
    }
}

fn named<T>(blocks: &Blocks<T>, slot: Slot) -> &T {
    let value = blocks[slot as usize / BLOCK][slot as usize % BLOCK].as_ref();
    value.expect("what is in the table has a value")
}

fn shard(hash: u64) -> usize {
    // Neither the bits that choose the bucket nor those kept beside it.
    (hash >> 40) as usize % SHARDS
}
