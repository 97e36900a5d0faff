//! Manifest requests: what they cost, and what they did not.

use std::collections::HashMap;
use std::sync::Arc;

use hashlink::LruCache;
use serde::{Deserialize, Serialize};

/// Counts of manifest requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulls {
    /// Sent upstream and counted there.
    pub charged: u64,
    /// Answered without a counted request.
    pub spared: u64,
}

/// The name of a repository and its counts.
pub type OfRepository = (Arc<str>, Pulls);

/// Repositories of one registry that are counted for themselves; the least recently used go first.
/// Clients choose their names.
pub(super) const REPOSITORIES: usize = 500;

#[derive(Default)]
pub(super) struct PullCounts(HashMap<Arc<str>, RegistryCount>);

struct RegistryCount {
    total: Pulls,
    repositories: LruCache<Arc<str>, Pulls>,
    changed: bool,
}

impl Default for RegistryCount {
    fn default() -> RegistryCount {
        RegistryCount { total: Pulls::default(), repositories: LruCache::new(REPOSITORIES), changed: false }
    }
}

impl Pulls {
    fn add(&mut self, more: Pulls) {
        self.charged = self.charged.saturating_add(more.charged);
        self.spared = self.spared.saturating_add(more.spared);
    }
}

impl RegistryCount {
    /// In order of use: the last used is the last.
    fn repositories(&self) -> Vec<OfRepository> {
        self.repositories.iter().map(|(name, pulls)| (name.clone(), *pulls)).collect()
    }
}

impl PullCounts {
    pub(super) fn add(&mut self, registry: &Arc<str>, repository: &str, more: Pulls) {
        let count = self.0.entry(registry.clone()).or_default();
        count.changed = true;
        count.total.add(more);
        if let Some(pulls) = count.repositories.get_mut(repository) {
            pulls.add(more);
        } else {
            count.repositories.insert(repository.into(), more);
        }
    }

    pub(super) fn restore(&mut self, registry: Arc<str>, total: Pulls, repositories: Vec<OfRepository>) {
        let count = self.0.entry(registry).or_default();
        count.total.add(total);
        repositories.into_iter().for_each(|(name, pulls)| {
            count.repositories.insert(name, pulls);
        });
    }

    pub(super) fn total(&self, registry: &str) -> Pulls {
        self.0.get(registry).map(|count| count.total).unwrap_or_default()
    }

    pub(super) fn report(&self) -> Vec<(Arc<str>, Pulls, Vec<OfRepository>)> {
        self.0.iter().map(|(name, count)| (name.clone(), count.total, count.repositories())).collect()
    }

    /// Those that changed since the last time.
    pub(super) fn changed(&mut self) -> Vec<(Arc<str>, Pulls, Vec<OfRepository>)> {
        let changed = self.0.iter_mut().filter_map(|(name, count)| {
            std::mem::take(&mut count.changed).then(|| (name.clone(), count.total, count.repositories()))
        });
        changed.collect()
    }
}
