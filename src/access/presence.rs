//! Which repository has which digest, as what, and who says so.
//!
//! - *Upstream's own answer*: one for that digest in that repository. For blobs that are here it is
//!   kept with them, on disk; for others it is kept in memory for a while.
//! - *What a manifest lists* is a claim of whoever wrote it, who may list what is not theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use moka::sync::Cache;
use parking_lot::Mutex;

use super::known::{Known, Restored, rows};
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::records::Journal;
use crate::store::index::Index;

/// The presences. Clones share one.
#[derive(Clone, Debug)]
pub struct Presence {
    index: Index,
    journal: Journal,
    /// Of blobs that are here.
    known: Arc<Mutex<Known>>,
    /// Of digests that are not here, or are claimed only.
    passing: Cache<(RepositoryKey, Digest, ContentKind), Source>,
    /// Counts removals, and the latest of each digest by that count.
    removals: Arc<AtomicU64>,
    removed: Cache<(RepositoryKey, Digest, ContentKind), u64>,
}

/// Who says that a repository has a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Upstream,
    Manifest,
}

/// What is known of a digest in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Present {
    /// Upstream said that it is there.
    Confirmed,
    /// A manifest in the repository lists it.
    Inferred,
    Unknown,
}

impl Presence {
    /// Empty, beside an index whose rows it completes from now on.
    pub fn new(index: Index, journal: Journal) -> Presence {
        let known = Arc::default();
        journal.follow(rows(index.facts(), &known));
        Presence { index, journal, known, passing: lru(50_000), removals: Arc::default(), removed: lru(10_000) }
    }

    /// Fills the index and this with what was read, as far as its files are there (see
    /// [`Index::restore`]).
    pub fn restore(
        &self,
        files: Vec<Digest>,
        restored: Restored,
        look: impl Fn(&Digest) -> crate::fs::Result<(u64, SystemTime)>,
    ) {
        *self.known.lock() = restored.known;
        let removed = self.index.restore(files, restored.blobs, look);
        let mut known = self.known.lock();
        removed.iter().for_each(|digest| known.forget(digest));
        drop(known);
        if restored.is_lost {
            self.journal.compact();
        }
    }

    /// Upstream said that a repository has this.
    pub fn confirm(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        if !self.keep(key, digest, kind) {
            self.passing.insert((key.clone(), digest.clone(), kind), Source::Upstream);
        }
    }

    /// How many removals there were so far: what is confirmed by an answer of now, later on, is to
    /// say so (see [`Presence::confirm_of`]).
    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// Upstream said that a repository has this, when there had been so many removals. What was
    /// removed since stays removed.
    pub(super) fn confirm_of(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind, removals: u64) {
        let removed = self.removed.get(&(key.clone(), digest.clone(), kind));
        if removed.is_none_or(|removed| removed <= removals) {
            self.confirm(key, digest, kind);
        }
    }

    /// A blob came that upstream was asked for in a repository: its answer is kept with the blob.
    /// What was removed upstream meanwhile stays removed.
    pub fn landed(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        if self.passing.get(&(key.clone(), digest.clone(), kind)) == Some(Source::Upstream) {
            self.keep(key, digest, kind);
        }
    }

    /// Keeps a presence with a blob. False, if the blob is not here. Whoever takes its entry out of
    /// the index afterwards forgets it here afterwards.
    fn keep(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) -> bool {
        let mut known = self.known.lock();
        if !self.index.has(digest) {
            return false;
        }
        let is_new = known.add(digest, kind, key);
        drop(known);
        if is_new {
            self.journal.change(digest);
        }
        true
    }

    /// A manifest that upstream has in a repository lists these.
    pub fn infer<'a>(&self, key: &RepositoryKey, listed: impl Iterator<Item = &'a (Digest, ContentKind)>) {
        for (digest, kind) in listed {
            self.passing.entry((key.clone(), digest.clone(), *kind)).or_insert(Source::Manifest);
        }
    }

    /// Upstream no longer has this in a repository.
    pub fn remove(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        if self.known.lock().remove(digest, kind, key) {
            self.journal.change(digest);
        }
        let removals = self.removals.fetch_add(1, Ordering::SeqCst) + 1;
        self.removed.insert((key.clone(), digest.clone(), kind), removals);
        self.passing.invalidate(&(key.clone(), digest.clone(), kind));
    }

    /// A blob is no longer here.
    pub fn forget(&self, digest: &Digest) {
        self.known.lock().forget(digest);
    }

    /// Whether upstream said that a repository has a blob that is here.
    pub fn is_confirmed(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) -> bool {
        self.known.lock().has(digest, kind, key)
    }

    /// Whether upstream said so of any repository of which `wanted` is true.
    pub(super) fn is_confirmed_where(
        &self,
        digest: &Digest,
        kind: ContentKind,
        wanted: impl Fn(&RepositoryKey) -> bool,
    ) -> bool {
        self.known.lock().of(digest, kind).any(wanted)
    }

    pub(super) fn of(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) -> Present {
        if self.is_confirmed(key, digest, kind) {
            return Present::Confirmed;
        }
        match self.passing.get(&(key.clone(), digest.clone(), kind)) {
            Some(Source::Upstream) => {
                // It may have come since by another repository: what is here is written down.
                self.keep(key, digest, kind);
                Present::Confirmed
            }
            Some(Source::Manifest) => Present::Inferred,
            None => Present::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
