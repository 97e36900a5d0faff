//! What upstream said of blobs that are here, in which repositories: the table, and its rows
//! together with the index's.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use super::repositories::{Held, HeldAs, RepositoryId, RepositoryIds, RepositorySet};
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Presence;
use crate::policy::stamp::Stamp;
use crate::records::{self, Batch, BlobRow, EncodedBatch, Reading, Row, RowSource};
use crate::store::blobs::Blobs;
use crate::store::index::{Facts, IndexFacts};
use crate::store::slab::{OfDigest, Slab};

/// Rows of one batch, and repositories of all its rows: so much is encoded at once.
const ROWS: usize = 1024;
const REPOSITORIES: usize = 4096;

/// The repositories of blobs that are here.
#[derive(Debug, Default)]
pub(super) struct Known {
    ids: RepositoryIds,
    by_digest: Slab<OfBlob>,
}

#[derive(Debug)]
struct OfBlob {
    digest: Digest,
    repositories: RepositorySet,
}

#[cfg(test)]
pub(super) const SIZE: usize = size_of::<Option<OfBlob>>();

impl OfDigest for OfBlob {
    fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl Known {
    /// Puts what is known now in place of what was known before.
    pub(super) fn set(&mut self, digest: &Digest, kind: ContentKind, key: &RepositoryKey, presence: Presence) {
        let held = Held { place: HeldAs::new(self.ids.of(key), kind), presence };
        match self.by_digest.get_mut(digest) {
            Some(known) => known.repositories.set(held),
            None => {
                self.by_digest.add(OfBlob { digest: digest.clone(), repositories: RepositorySet::One(held) });
            }
        }
    }

    /// Tells whether it was there.
    pub(super) fn remove(&mut self, digest: &Digest, kind: ContentKind, key: &RepositoryKey) -> bool {
        let (Some(known), Some(id)) = (self.by_digest.get_mut(digest), self.ids.find(key)) else { return false };
        known.repositories.remove(HeldAs::new(id, kind))
    }

    /// Forgets a blob that is no longer here.
    pub(super) fn forget(&mut self, digest: &Digest) {
        if let Some(slot) = self.by_digest.find(digest) {
            self.by_digest.take(slot);
        }
    }

    /// Forgets what was said in repositories of which that is true of the registry.
    pub(super) fn forget_said(&mut self, is_gone: &impl Fn(&str) -> bool) {
        let gone: HashSet<RepositoryId> = self.ids.of_registries(is_gone).collect();
        for slot in 0..self.by_digest.slots() {
            if let Some(blob) = self.by_digest.at_mut(slot) {
                let left = blob.repositories.as_slice().iter().filter(|held| !gone.contains(&held.place.repository()));
                blob.repositories = left.copied().collect();
            }
        }
    }

    pub(super) fn find(&self, digest: &Digest, kind: ContentKind, key: &RepositoryKey) -> Option<Presence> {
        let id = self.ids.find(key)?;
        self.by_digest.get(digest)?.repositories.find(HeldAs::new(id, kind))
    }

    /// The repositories in which upstream named a digest, as what, and what it said.
    pub(super) fn of(&self, digest: &Digest) -> impl Iterator<Item = (&RepositoryKey, ContentKind, Presence)> {
        let named = |held: &Held| (self.ids.key(held.place.repository()), held.place.kind(), held.presence);
        self.held(digest).iter().map(named)
    }

    fn held(&self, digest: &Digest) -> &[Held] {
        self.by_digest.get(digest).map_or(&[], |known| known.repositories.as_slice())
    }
}

/// What was written of blobs, read back: the index's part, and this table's.
#[derive(Debug, Default)]
pub struct Restored {
    /// What the index is restored with.
    pub(super) blobs: Blobs,
    pub(super) known: Known,
    /// The latest stamp of all.
    pub(super) latest: Stamp,
    /// The latest yes to anonymous, by repository.
    pub(super) opened: HashMap<RepositoryKey, Stamp>,
    /// The same to the operator's account.
    pub(super) shared: HashMap<RepositoryKey, Stamp>,
    /// What was written could not be read.
    pub(super) is_lost: bool,
}

impl Restored {
    /// Takes the next step of reading; tells how many blobs are known by now.
    pub fn read(&mut self, step: Reading<'_>) -> usize {
        match step {
            Reading::Expect(count) => {
                self.blobs.reserve(count);
                self.known.by_digest.reserve(count);
            }
            Reading::Batch(batch) => self.take_in(batch),
            Reading::Void => *self = Restored { is_lost: true, ..Restored::default() },
        }
        self.blobs.len()
    }

    fn take_in(&mut self, batch: &Batch<'_>) {
        let mut ids: Vec<Option<RepositoryId>> = vec![None; batch.strings.len()];
        let mut types: HashMap<u32, Option<Arc<str>>> = HashMap::new();
        let (mut opened, mut shared) = (HashMap::new(), HashMap::new());
        for row in &batch.rows {
            let Some(digest) = Digest::from_bytes(row.digest) else { continue };
            // An earlier row of the same blob.
            if self.blobs.forget(&digest) {
                self.known.forget(&digest);
            }
            let Some(known) = &row.known else { continue };
            let media_type = known.media_type.and_then(|n| {
                let name = batch.strings.get(n as usize);
                types.entry(n).or_insert_with(|| name.map(|name| self.blobs.typed(name))).clone()
            });
            let held = |row: &records::Held| {
                let (position, kind) = (row.place as usize >> 3, kind(row.place));
                let id = ids.get_mut(position)?;
                let id = *id.get_or_insert_with(|| self.known.ids.of(&batch.strings[position].into()));
                let presence = presence(row);
                let stamps = [presence.open, presence.shared, presence.ended, Some(presence.last)];
                self.latest = stamps.into_iter().flatten().fold(self.latest, Stamp::max);
                for (latest, at) in [(&mut opened, presence.open), (&mut shared, presence.shared)] {
                    note(latest, id, at);
                }
                Some(Held { place: HeldAs::new(id, kind), presence })
            };
            let repositories: RepositorySet = known.repositories.iter().filter_map(held).collect();
            if !repositories.as_slice().is_empty() {
                self.known.by_digest.add(OfBlob { digest: digest.clone(), repositories });
            }
            self.blobs.put(digest, known.size, known.used, media_type);
        }
        for (all, of_batch) in [(&mut self.opened, opened), (&mut self.shared, shared)] {
            of_batch.into_iter().for_each(|(id, at)| note(all, self.known.ids.key(id).clone(), Some(at)));
        }
    }
}

fn note<K: Eq + Hash>(latest: &mut HashMap<K, Stamp>, key: K, at: Option<Stamp>) {
    if let Some(at) = at {
        let latest = latest.entry(key).or_default();
        *latest = at.max(*latest);
    }
}

fn kind(place: u32) -> ContentKind {
    if place & 1 == 1 { ContentKind::Manifest } else { ContentKind::Blob }
}

/// As it is written.
fn written(position: u32, held: &Held) -> records::Held {
    let Presence { since, last, open, shared, ended, is_delivered, is_read } = held.presence;
    let is_manifest = held.place.kind() == ContentKind::Manifest;
    let marks = u32::from(is_read) << 2 | u32::from(is_delivered) << 1 | u32::from(is_manifest);
    let from_last = |at: Stamp| at.micros().wrapping_sub(last.micros()).cast_signed();
    records::Held {
        place: position << 3 | marks,
        since: since.micros(),
        last: last.micros().saturating_sub(since.micros()),
        open: open.map(from_last),
        shared: shared.map(from_last),
        ended: ended.map(from_last),
    }
}

fn presence(row: &records::Held) -> Presence {
    let last = row.since.saturating_add(row.last);
    let at = |offset: i64| Stamp::from_micros(last.saturating_add_signed(offset));
    Presence {
        since: Stamp::from_micros(row.since),
        last: Stamp::from_micros(last),
        open: row.open.map(at),
        shared: row.shared.map(at),
        ended: row.ended.map(at),
        is_delivered: row.place & 2 == 2,
        is_read: row.place & 4 == 4,
    }
}

/// Gives the rows of blobs: size, last use and type from the index, repositories from this table.
/// The index's lock may be taken under the table's, never the other way round. A row may be of two
/// moments; a change between them is written again, as every change is.
pub(super) fn rows(facts: IndexFacts, known: &Arc<Mutex<Known>>) -> RowSource {
    let (some, all) = ((facts.clone(), known.clone()), (facts, known.clone()));
    RowSource {
        of: Box::new(move |digests| rows_of(&some.0, &some.1, digests).encoded()),
        from: Box::new(move |first| {
            let (draft, next) = rows_from(&all.0, &all.1, first)?;
            Some((draft.encoded(), next))
        }),
    }
}

fn rows_of(facts: &IndexFacts, known: &Mutex<Known>, digests: &mut dyn Iterator<Item = &Digest>) -> Draft {
    let (known, mut draft) = (known.lock(), Draft::default());
    while !draft.is_full() {
        let Some(digest) = digests.next() else { break };
        draft.add(&known, digest, facts.of(digest));
    }
    draft
}

fn rows_from(facts: &IndexFacts, known: &Mutex<Known>, first: u32) -> Option<(Draft, u32)> {
    let (found, mut next) = facts.from(first, ROWS)?;
    let (known, mut draft) = (known.lock(), Draft::default());
    for (slot, digest, facts) in found {
        if draft.is_full() {
            next = slot;
            break;
        }
        draft.add(&known, &digest, Some(facts));
    }
    Some((draft, next))
}

/// A batch that is being made.
#[derive(Default)]
struct Draft {
    strings: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    rows: Vec<(Digest, Option<BlobRow>)>,
    repositories: usize,
}

impl Draft {
    fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.repositories >= REPOSITORIES
    }

    fn add(&mut self, known: &Known, digest: &Digest, facts: Option<Facts>) {
        let row = facts.map(|Facts { size, used, media_type }| {
            let held = known.held(digest);
            self.repositories += held.len();
            let media_type = media_type.map(|name| self.number(&name));
            let number = |held: &Held| {
                let position = self.number(known.ids.key(held.place.repository()).as_str());
                written(position, held)
            };
            let repositories = held.iter().map(number).collect();
            BlobRow { size, used, media_type, repositories }
        });
        self.rows.push((digest.clone(), row));
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (text, number): (Arc<str>, _) = (text.into(), self.strings.len() as u32);
        self.strings.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    fn encoded(self) -> EncodedBatch {
        let strings = self.strings.iter().map(|text| &**text).collect();
        let (digests, known): (Vec<Digest>, Vec<Option<BlobRow>>) = self.rows.into_iter().unzip();
        let row = |(digest, known)| Row { digest: Digest::as_bytes(digest), known };
        Batch { strings, rows: digests.iter().zip(known).map(row).collect() }.encoded()
    }
}
