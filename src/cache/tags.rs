//! What tags name: bindings of (registry, repository, tag, what the client accepts) to a digest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::pushes::Pushes;
use super::told::{self, Binding, Told, ToldTo};
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::name::{RepositoryKey, Tag};
use crate::policy::access::within;
use crate::records::{Journal, Table};
use crate::upstream::requester::Credential;

type Variants = Arc<[Told]>;

/// The bindings.
#[derive(Debug)]
pub struct Bindings {
    journal: Journal,
    bound: Cache<Arc<str>, Variants>,
    /// Digests that were advertised to clients for a tag: they are about to ask for them.
    advertised: Cache<(RepositoryKey, Digest, Credential), SystemTime>,
    /// Pushes through seawall.
    pub pushes: Pushes,
    /// Held while bindings are changed: an answer is bound before a push is known to be taken, and
    /// overtaken, or after it, and knows.
    changing: Mutex<()>,
}

/// `REGISTRY/REPOSITORY:TAG`
pub fn key(repository: &RepositoryKey, tag: &Tag) -> Arc<str> {
    [repository.as_str(), ":", tag.as_str()].concat().into()
}

/// Tags that are remembered: about 400 bytes each, 700 where one names something that never came.
const MOST: u64 = 200_000;
/// Credentials of clients that are remembered for a tag.
const MOST_CLIENTS: usize = 64;
/// A client asks for what was advertised to it within this time.
const ADVERTISED: Duration = Duration::from_secs(60);

impl Bindings {
    /// With what the journal knew.
    pub fn new(journal: Journal, known: Vec<(String, Vec<u8>)>) -> Bindings {
        let bound = lru(MOST);
        for (key, value) in known {
            let Some(variants) = told::read(&value) else { continue };
            bound.insert(key.into(), variants);
        }
        Bindings { journal, bound, advertised: lru(10_000), pushes: Pushes::default(), changing: Mutex::default() }
    }

    /// All that upstream told of a tag: whoever asks may use what it was told itself, and what
    /// anonymous was.
    pub fn told(&self, key: &Arc<str>) -> Arc<[Told]> {
        self.bound.get(key).unwrap_or_default()
    }

    /// The newest binding, for whomever it is.
    pub fn newest(&self, key: &Arc<str>) -> Option<Binding> {
        newest(&self.bound.get(key)?)
    }

    /// The tags that come after `after`, in order, at most `limit`, and what is newest of each. Who
    /// looks does not use them.
    pub fn known(&self, after: &str, limit: usize) -> Vec<(Arc<str>, Binding)> {
        let behind = self.bound.iter().filter(|(key, _)| ***key > *after);
        let mut known: Vec<(Arc<str>, Variants)> = behind.map(|(key, variants)| ((*key).clone(), variants)).collect();
        let by_name = |a: &(Arc<str>, Variants), b: &(Arc<str>, Variants)| a.0.cmp(&b.0);
        if known.len() > limit {
            known.select_nth_unstable_by(limit, by_name);
            known.truncate(limit);
        }
        known.sort_unstable_by(by_name);
        known.into_iter().filter_map(|(key, variants)| Some((key, newest(&variants)?))).collect()
    }

    /// Binds, or confirms, what upstream said to the question of `Binding::checked`, unless what
    /// it said to a later one is bound. A push that was taken since makes it old.
    pub fn bind(&self, key: &Arc<str>, told: Told, now: SystemTime) {
        let _changing = self.changing.lock();
        let known = self.told(key);
        let is_same = |other: &&Told| other.accept == told.accept && other.to == told.to;
        let (same, others): (Vec<_>, Vec<_>) = known.iter().partition(is_same);
        if same.iter().any(|known| is_later(&known.binding, told.binding.checked, now)) {
            return;
        }
        let overtaken = self.pushes.of(key).overtook(told.binding.checked, now);
        let told = Told { binding: Binding { overtaken, ..told.binding }, ..told };
        let mut all: Vec<Told> = others.into_iter().cloned().chain([told]).collect();
        drop_oldest(&mut all);
        self.set(key, all.into());
    }

    /// Upstream took a push, or a removal, of the tag: what is bound was asked for before. It is
    /// asked for again, and served while upstream cannot be asked.
    pub fn overtake(&self, key: &Arc<str>, now: SystemTime) {
        let _changing = self.changing.lock();
        self.pushes.note_taken(key, now);
        if let Some(known) = self.bound.get(key) {
            let old =
                |told: &Told| Told { binding: Binding { overtaken: true, ..told.binding.clone() }, ..told.clone() };
            self.set(key, known.iter().map(old).collect());
        }
    }

    /// Upstream said to one requester that there is no such tag, in answer to a question that was
    /// sent at `asked`: what that was told is forgotten, unless a later question was answered
    /// otherwise.
    pub fn forget(&self, key: &Arc<str>, to: ToldTo, asked: SystemTime, now: SystemTime) {
        let _changing = self.changing.lock();
        let Some(known) = self.bound.get(key) else { return };
        let is_over = |told: &&Told| told.to == to && !is_later(&told.binding, asked, now);
        if self.pushes.of(key).overtook(asked, now) || !known.iter().any(|told| is_over(&told)) {
            return;
        }
        // Earlier questions may be on their way.
        self.pushes.note_taken(key, asked);
        let left: Variants = known.iter().filter(|told| !is_over(told)).cloned().collect();
        if left.is_empty() {
            self.bound.invalidate(key);
            self.journal.remove(Table::Tags, key.to_string());
        } else {
            self.set(key, left);
        }
    }

    fn set(&self, key: &Arc<str>, variants: Variants) {
        self.journal.write(Table::Tags, key.to_string(), &told::written(&variants));
        self.bound.insert(key.clone(), variants);
    }

    /// A digest was advertised to `who` for a tag in a repository.
    pub fn advertise(&self, repository: &RepositoryKey, digest: &Digest, who: Credential, now: SystemTime) {
        self.advertised.insert((repository.clone(), digest.clone(), who), now);
    }

    /// Whether `who` asks for `digest` for a tag's sake: docker and containerd ask for what was
    /// advertised.
    pub fn was_advertised(
        &self,
        repository: &RepositoryKey,
        digest: &Digest,
        who: Credential,
        now: SystemTime,
    ) -> bool {
        within(self.advertised.get(&(repository.clone(), digest.clone(), who)), ADVERTISED, now)
    }
}

/// Whether a binding was asked for after `asked`. What a wrong clock wrote down as of the future is
/// not later than anything.
fn is_later(binding: &Binding, asked: SystemTime, now: SystemTime) -> bool {
    binding.checked > asked && binding.checked <= now
}

fn newest(variants: &[Told]) -> Option<Binding> {
    variants.iter().map(|told| &told.binding).max_by_key(|binding| binding.checked).cloned()
}

/// Each token of a CI job is a client of its own: the oldest ask again.
fn drop_oldest(all: &mut Vec<Told>) {
    let clients = all.iter().filter(|told| told.to.is_clients());
    if clients.clone().count() <= MOST_CLIENTS {
        return;
    }
    if let Some(oldest) = clients.map(|told| told.binding.checked).min() {
        all.retain(|told| !told.to.is_clients() || told.binding.checked > oldest);
    }
}

#[cfg(test)]
mod tests;
