//! Caches of what may vanish, least recently used first. moka's own policy would keep dead tokens
//! and learn no new ones.

use std::hash::Hash;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// One of at most so many entries.
pub fn lru<K, V>(most: u64) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(most).eviction_policy(EvictionPolicy::lru()).build()
}
