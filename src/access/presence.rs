//! What upstream said of digests, in which repository, as what: [`Presence`] by digest, kind and
//! repository.
//!
//! Of blobs that are here it is kept with them, on disk; of others in memory, for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashlink::LruCache;
use parking_lot::Mutex;

use super::known::{Known, Restored, rows};
use super::refusals::Lasting;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Presence;
use crate::policy::stamp::Stamp;
use crate::records::Journal;
use crate::store::index::Index;

/// The presences. Clones share them.
#[derive(Clone, Debug)]
pub struct Presences {
    index: Index,
    journal: Journal,
    /// Of blobs that are here.
    known: Arc<Mutex<Known>>,
    /// The rest. Locked after `known`, where both are.
    passing: Arc<Mutex<Passing>>,
}

/// A digest in a repository, and as what.
type Place = (RepositoryKey, Digest, ContentKind);

/// What upstream said of a digest in one repository.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) key: RepositoryKey,
    pub(super) kind: ContentKind,
    pub(super) presence: Presence,
}

#[derive(Debug)]
struct Passing {
    /// Of digests that are not here.
    known: LruCache<Place, Presence>,
    /// When a digest was removed upstream, by a request through seawall: an answer to an earlier
    /// question says nothing.
    removed: LruCache<Place, Stamp>,
    /// The latest yes to anonymous, by repository; and to the operator's account.
    opened: HashMap<RepositoryKey, Stamp>,
    shared: HashMap<RepositoryKey, Stamp>,
    /// The latest that was read at start.
    latest: Stamp,
}

/// Digests that are not here, and that were removed.
const MOST: usize = 50_000;
/// Repositories whose latest yes is remembered: beyond, the next start knows them.
const MOST_OPENED: usize = 500_000;
/// Of what is known already it is written down again in which minute it was said last.
const COARSE: Duration = Duration::from_secs(60);

impl Presences {
    /// Empty, beside an index whose rows it completes from now on.
    pub fn new(index: Index, journal: Journal) -> Presences {
        let known = Arc::default();
        journal.follow(rows(index.facts(), &known));
        let passing = Passing {
            known: LruCache::new(MOST),
            removed: LruCache::new(MOST),
            opened: HashMap::new(),
            shared: HashMap::new(),
            latest: Stamp::default(),
        };
        Presences { index, journal, known, passing: Arc::new(Mutex::new(passing)) }
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
        let mut passing = self.passing.lock();
        (passing.opened, passing.shared, passing.latest) = (restored.opened, restored.shared, restored.latest);
        drop((known, passing));
        if restored.is_lost {
            self.journal.compact();
        }
    }

    /// Forgets all that was said by registries of which `is_gone` is true. (At start.)
    pub(super) fn forget_said(&self, is_gone: impl Fn(&str) -> bool) {
        self.known.lock().forget_said(&is_gone);
        let mut passing = self.passing.lock();
        passing.opened.retain(|key, _| !is_gone(key.namespace()));
        passing.shared.retain(|key, _| !is_gone(key.namespace()));
        drop(passing);
        self.journal.compact();
    }

    /// The latest stamp that was read at start.
    pub(super) fn latest(&self) -> Stamp {
        self.passing.lock().latest
    }

    /// What upstream said of a digest in a repository.
    pub(super) fn find(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) -> Option<Presence> {
        let mut known = self.known.lock();
        if let Some(presence) = known.find(digest, kind, key) {
            return Some(presence);
        }
        let place = (key.clone(), digest.clone(), kind);
        let presence = self.passing.lock().known.get(&place).copied()?;
        // It may have come since by another repository: what is here is kept with it.
        if self.index.has(digest) {
            known.set(digest, kind, key, presence);
            drop(known);
            self.passing.lock().known.remove(&place);
            self.journal.change(digest);
        }
        Some(presence)
    }

    /// Changes what is known of a digest in a repository by an answer to a question of `sent`. No
    /// answer is about what was removed since.
    pub fn change(
        &self,
        key: &RepositoryKey,
        (digest, kind): (&Digest, ContentKind),
        sent: Stamp,
        change: impl FnOnce(Option<Presence>) -> Option<Presence>,
    ) {
        let mut known = self.known.lock();
        let mut passing = self.passing.lock();
        let place = (key.clone(), digest.clone(), kind);
        if passing.removed.peek(&place).is_some_and(|removed| *removed >= sent) {
            return;
        }
        let here = known.find(digest, kind, key);
        let before = here.or_else(|| passing.known.peek(&place).copied());
        let Some(presence) = change(before) else { return };
        if let Some(open) = presence.open.filter(|_| before.is_none_or(|before| before.open != presence.open)) {
            note(&mut passing.opened, key, open);
        }
        if let Some(at) = presence.shared.filter(|_| before.is_none_or(|before| before.shared != presence.shared)) {
            note(&mut passing.shared, key, at);
        }
        if !self.index.has(digest) {
            passing.known.insert(place, presence);
            return;
        }
        passing.known.remove(&place);
        drop(passing);
        known.set(digest, kind, key, presence);
        drop(known);
        if here.is_none_or(|here| is_news(here, presence)) {
            self.journal.change(digest);
        }
    }

    /// When a digest was removed from a repository, by a request through seawall.
    pub(super) fn removed(&self, key: &RepositoryKey, (digest, kind): (&Digest, ContentKind)) -> Option<Stamp> {
        let passing = self.passing.lock();
        if passing.removed.is_empty() {
            return None;
        }
        passing.removed.peek(&(key.clone(), digest.clone(), kind)).copied()
    }

    /// A blob came that upstream was asked for in a repository: what upstream said is kept with it.
    /// What was removed upstream meanwhile stays removed.
    pub fn landed(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        self.find(key, digest, kind);
    }

    /// Upstream no longer has this in a repository.
    pub(super) fn remove(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind, now: Stamp) {
        let mut known = self.known.lock();
        let before = known.find(digest, kind, key);
        let was_known = known.remove(digest, kind, key);
        if before.is_some_and(|before| before.is_delivered) {
            // That the registry sent the bytes stays so.
            let sent = Presence { is_delivered: true, ..Presence::named(None, now) };
            known.set(digest, kind, &RepositoryKey::of_registry(key.namespace()), sent);
        }
        let mut passing = self.passing.lock();
        let place = (key.clone(), digest.clone(), kind);
        passing.known.remove(&place);
        passing.removed.insert(place, now);
        drop((passing, known));
        if was_known {
            self.journal.change(digest);
        }
    }

    /// A blob is no longer here.
    pub fn forget(&self, digest: &Digest) {
        self.known.lock().forget(digest);
    }

    /// Whether upstream ever named a digest in a repository.
    pub fn is_named(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) -> bool {
        self.find(key, digest, kind).is_some()
    }

    /// What upstream said of a blob that is here, anywhere.
    pub(super) fn all(&self, digest: &Digest) -> Vec<Named> {
        let known = self.known.lock();
        let named = known.of(digest).map(|(key, kind, presence)| Named { key: key.clone(), kind, presence });
        named.collect()
    }

    /// When anonymous was last granted anything in a repository.
    pub(super) fn opened(&self, key: &RepositoryKey) -> Option<Stamp> {
        self.granted(Lasting::Anonymous, key)
    }

    /// When one of those whose grants are on disk was last granted anything in a repository.
    pub(super) fn granted(&self, who: Lasting, key: &RepositoryKey) -> Option<Stamp> {
        let passing = self.passing.lock();
        match who {
            Lasting::Anonymous => latest(&passing.opened, key),
            Lasting::Account => latest(&passing.shared, key),
        }
    }

    /// Whether that is so of any repository of which `is_wanted` is true.
    pub(super) fn is_any_open(&self, is_wanted: impl Fn(&RepositoryKey, Stamp) -> bool) -> bool {
        self.passing.lock().opened.iter().any(|(key, at)| is_wanted(key, *at))
    }
}

fn note(latest: &mut HashMap<RepositoryKey, Stamp>, key: &RepositoryKey, at: Stamp) {
    if let Some(latest) = latest.get_mut(key) {
        *latest = at.max(*latest);
    } else if latest.len() < MOST_OPENED {
        latest.insert(key.clone(), at);
    }
}

/// When there is no room for more, whatever is not among them may have been granted just now.
fn latest(latest: &HashMap<RepositoryKey, Stamp>, key: &RepositoryKey) -> Option<Stamp> {
    let known = latest.get(key).copied();
    known.or_else(|| (latest.len() >= MOST_OPENED).then_some(Stamp::from_micros(u64::MAX)))
}

/// Whether it has to be written down: what is new but for the minute.
fn is_news(before: Presence, now: Presence) -> bool {
    let minute = |at: Stamp| u128::from(at.micros()) / COARSE.as_micros();
    let coarse = |presence: Presence| {
        (
            presence.since,
            minute(presence.last),
            presence.open.map(minute),
            presence.shared.map(minute),
            presence.ended,
            (presence.is_delivered, presence.is_read),
        )
    };
    coarse(before) != coarse(now)
}

#[cfg(test)]
mod tests;
