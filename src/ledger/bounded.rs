//! Maps that upstream and clients choose the keys of: the least recently used goes first, and no
//! client's push out the operator's.

use std::hash::Hash;

use hashlink::LruCache;

use super::account::Identity;

/// Entries of each of the two.
pub(super) const MOST: usize = 512;

pub(super) struct Bounded<K, V> {
    ours: LruCache<K, V>,
    clients: LruCache<K, V>,
}

impl<K: Eq + Hash, V> Default for Bounded<K, V> {
    fn default() -> Bounded<K, V> {
        Bounded { ours: LruCache::new(MOST), clients: LruCache::new(MOST) }
    }
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    fn of(&mut self, identity: Identity) -> &mut LruCache<K, V> {
        match identity {
            Identity::Anonymous | Identity::Account => &mut self.ours,
            Identity::Client(_) => &mut self.clients,
        }
    }

    /// Returns the key that had to go.
    pub(super) fn insert(&mut self, identity: Identity, key: K, value: V) -> Option<K> {
        let map = self.of(identity);
        let full = map.len() >= MOST && !map.contains_key(&key);
        let gone = if full { map.remove_lru() } else { None };
        map.insert(key, value);
        gone.map(|(key, _)| key)
    }

    pub(super) fn find(&mut self, identity: Identity, key: &K) -> Option<&mut V> {
        self.of(identity).get_mut(key)
    }

    pub(super) fn remove(&mut self, identity: Identity, key: &K) -> Option<V> {
        self.of(identity).remove(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.ours.iter().chain(self.clients.iter())
    }
}
