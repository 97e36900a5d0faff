//! The books of upstream's quota: what it last said, what was charged, what was spared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::oci::rate_limit::RateLimit;

/// The books. Clones share one.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    seen: HashMap<(Arc<str>, String), Seen>,
    pulls: HashMap<Arc<str>, Pulls>,
}

/// What upstream said of a quota, and when.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its words.
    pub limit: RateLimit,
    /// When they came.
    pub at: SystemTime,
}

/// Manifest requests of one registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulls {
    /// Asked upstream and counted there.
    pub charged: u64,
    /// Answered without that.
    pub spared: u64,
}

/// Sources of quota that are kept apart for one registry; what comes after them is not kept. Upstream chooses the names.
const SOURCES: usize = 64;

impl Ledger {
    /// Writes down what a reply of `registry` said.
    pub fn record(&self, registry: &Arc<str>, limit: RateLimit, now: SystemTime) {
        let mut books = self.0.lock();
        let key = (registry.clone(), limit.source.clone().unwrap_or_default());
        if books.seen.len() < SOURCES || books.seen.contains_key(&key) {
            books.seen.insert(key, Seen { limit, at: now });
        }
    }

    /// Counts a manifest GET that upstream counted.
    pub fn charged(&self, registry: &Arc<str>) {
        self.0.lock().pulls.entry(registry.clone()).or_default().charged += 1;
    }

    /// Counts a client's manifest request that cost nothing.
    pub fn spared(&self, registry: &Arc<str>) {
        self.0.lock().pulls.entry(registry.clone()).or_default().spared += 1;
    }

    /// What was charged and spared.
    pub fn pulls(&self, registry: &str) -> Pulls {
        self.0.lock().pulls.get(registry).copied().unwrap_or_default()
    }

    /// What was last said of each source.
    pub fn seen(&self, registry: &str) -> Vec<Seen> {
        let books = self.0.lock();
        books.seen.iter().filter(|((name, _), _)| **name == *registry).map(|(_, seen)| seen.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_and_names_are_bounded() {
        let (ledger, hub): (Ledger, Arc<str>) = (Ledger::default(), "docker.io".into());
        let limit =
            |remaining, source: &str| RateLimit { limit: 100, remaining, window: None, source: Some(source.into()) };
        ledger.record(&hub, limit(99, "a"), SystemTime::UNIX_EPOCH);
        ledger.record(&hub, limit(98, "a"), SystemTime::UNIX_EPOCH);
        assert_eq!(ledger.seen("docker.io").iter().map(|s| s.limit.remaining).collect::<Vec<_>>(), [98]);
        for n in 0..1000 {
            ledger.record(&hub, limit(1, &n.to_string()), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(ledger.seen("docker.io").len(), SOURCES);
        ledger.charged(&hub);
        ledger.spared(&hub);
        assert_eq!(ledger.pulls("docker.io"), Pulls { charged: 1, spared: 1 });
    }
}
