//! What owners do with a repository at any time besides pushing to it, and what it is at a moment.

use std::collections::{BTreeMap, BTreeSet};

use super::registry::Registry;
use super::state::Repo;

/// What a repository is: who may read it (`None`: everybody), and what is there to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) readers: Option<BTreeSet<String>>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) manifests: BTreeSet<String>,
    pub(crate) blobs: BTreeSet<String>,
}

impl Registry {
    /// To who may not read a repository it says 404.
    pub(crate) fn hide(&self) {
        self.shared.state.lock().setup.hides = true;
    }

    /// This digest is answered with this status (412, 451), by tag as by digest.
    pub(crate) fn block(&self, repository: &str, digest: &str, status: u16) {
        self.shared.state.lock().repo(repository).blocked.insert(digest.to_owned(), status);
    }

    pub(crate) fn unblock(&self, repository: &str, digest: &str) {
        self.shared.state.lock().repo(repository).blocked.remove(digest);
    }

    /// Nothing is left of it: not its contents, nor who may read it.
    pub(crate) fn wipe(&self, repository: &str) {
        *self.shared.state.lock().repo(repository) = Repo::default();
    }

    /// Requests answered from now on say this as their moment.
    pub(crate) fn mark(&self, moment: usize) {
        self.shared.state.lock().moment = moment;
    }

    /// The number of the last token issued.
    pub(crate) fn issued(&self) -> u64 {
        self.shared.state.lock().serial
    }

    pub(crate) fn held(&self, repository: &str) -> Held {
        let mut state = self.shared.state.lock();
        let repo = state.repo(repository);
        let free = |digest: &&String| !repo.blocked.contains_key(*digest);
        Held {
            readers: repo.readers.clone(),
            tags: repo.tags.clone(),
            manifests: repo.manifests.keys().filter(free).cloned().collect(),
            blobs: repo.blobs.keys().filter(free).cloned().collect(),
        }
    }
}
