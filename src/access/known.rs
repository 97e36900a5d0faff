//! Which repositories have which blobs that are here: the table, and its rows together with the
//! index's.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::repositories::{HeldAs, RepositoryId, RepositoryIds, RepositorySet};
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::records::{Batch, BlobRow, EncodedBatch, Reading, Row, RowSource};
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
    /// Tells whether it is new.
    pub(super) fn add(&mut self, digest: &Digest, kind: ContentKind, key: &RepositoryKey) -> bool {
        let held = HeldAs::new(self.ids.of(key), kind);
        match self.by_digest.get_mut(digest) {
            Some(known) => known.repositories.add(held),
            None => {
                self.by_digest.add(OfBlob { digest: digest.clone(), repositories: RepositorySet::One(held) });
                true
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

    pub(super) fn has(&self, digest: &Digest, kind: ContentKind, key: &RepositoryKey) -> bool {
        self.ids.find(key).is_some_and(|id| self.held(digest).contains(&HeldAs::new(id, kind)))
    }

    /// The repositories that have a digest as this.
    pub(super) fn of(&self, digest: &Digest, kind: ContentKind) -> impl Iterator<Item = &RepositoryKey> {
        let held = self.held(digest).iter().filter(move |held| held.kind() == kind);
        held.map(|held| self.ids.key(held.repository()))
    }

    fn held(&self, digest: &Digest) -> &[HeldAs] {
        self.by_digest.get(digest).map_or(&[], |known| known.repositories.as_slice())
    }
}

/// What was written of blobs, read back: the index's part, and this table's.
#[derive(Debug, Default)]
pub struct Restored {
    /// What the index is restored with.
    pub(super) blobs: Blobs,
    pub(super) known: Known,
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
            let held = |n: &u32| {
                let (position, kind) =
                    (*n as usize >> 1, if n & 1 == 1 { ContentKind::Manifest } else { ContentKind::Blob });
                let id = ids.get_mut(position)?;
                let id = *id.get_or_insert_with(|| self.known.ids.of(&batch.strings[position].into()));
                Some(HeldAs::new(id, kind))
            };
            let repositories: RepositorySet = known.repositories.iter().filter_map(held).collect();
            if !repositories.as_slice().is_empty() {
                self.known.by_digest.add(OfBlob { digest: digest.clone(), repositories });
            }
            self.blobs.put(digest, known.size, known.used, media_type);
        }
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
            let number = |held: &HeldAs| {
                let position = self.number(known.ids.key(held.repository()).as_str());
                position << 1 | u32::from(held.kind() == ContentKind::Manifest)
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
