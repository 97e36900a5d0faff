//! All that is known of blobs, and how it is written down and read.

use std::collections::HashMap;
use std::sync::Arc;

use super::entries::{Entries, Entry, InRepositories, Slot};
use crate::access::repositories::{RepositoryId, RepositoryIds};
use crate::oci::digest::Digest;
use crate::records::log::{Batch, BlobRow, EncodedBatch, Row};

/// What is known of blobs.
#[derive(Debug, Default)]
pub struct Blobs {
    pub(crate) entries: Entries,
    pub(crate) places: RepositoryIds,
    pub(crate) types: Types,
    pub(crate) bytes: u64,
    /// Whose length nobody compared with their files' yet: those before this number.
    pub(crate) unverified_sizes: Slot,
    /// What is on disk of them is not this.
    pub(crate) rewrite: bool,
}

/// Words of one frame, places of all its blobs, entries looked at for it: so long are blobs kept from changing.
const WORDS: usize = 1024;
const PLACES: usize = 4096;
const LOOKED_AT: Slot = 4096;

/// Types are few, so blobs share their names. Those seen last; an upstream may make up as many as it likes.
#[derive(Debug, Default)]
pub(crate) struct Types(Vec<Arc<str>>);

const TYPES: usize = 32;

impl Types {
    fn shared(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        if self.0.len() >= TYPES {
            self.0.remove(0);
        }
        self.0.push(name.into());
        name.into()
    }
}

impl Blobs {
    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn typed(&mut self, media_type: Option<&str>) -> Option<Arc<str>> {
        media_type.map(|name| self.types.shared(name))
    }

    pub(crate) fn add(&mut self, entry: Entry) -> Slot {
        self.bytes += entry.size;
        self.entries.add(entry)
    }

    pub(crate) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.bytes -= entry.size;
        Some(entry)
    }

    /// What was written down.
    pub(crate) fn take_in(&mut self, frame: &Batch<'_>) {
        let mut places: Vec<Option<RepositoryId>> = vec![None; frame.strings.len()];
        let mut media = HashMap::new();
        for word in &frame.words {
            let Some(digest) = Digest::from_bytes(word.digest) else { continue };
            if self.entries.find(&digest).is_some() {
                self.remove(&digest);
            }
            let Some(known) = &word.known else { continue };
            let string = |n: u32| frame.strings.get(n as usize).copied();
            let mut entry = Entry::new(digest, known.size, known.used);
            if let Some(n) = known.media_type {
                entry.media_type =
                    media.entry(n).or_insert_with(|| string(n).map(|name| self.types.shared(name))).clone();
            }
            let place = |n: &u32| {
                let known = places.get_mut(*n as usize)?;
                Some(*known.get_or_insert_with(|| self.places.of(frame.strings[*n as usize])))
            };
            entry.places = known.places.iter().filter_map(place).collect();
            self.add(entry);
        }
    }

    /// Where upstream was seen to have them is not known.
    pub(crate) fn forget_places(&mut self) {
        for slot in 0..self.entries.slots() {
            if let Some(entry) = self.entries.at_mut(slot) {
                entry.places = InRepositories::None;
            }
        }
        (self.places, self.rewrite) = (RepositoryIds::default(), true);
    }

    /// The last word on the next of these.
    pub(crate) fn frame_of<'a>(&self, digests: &mut impl Iterator<Item = &'a Digest>) -> EncodedBatch {
        let mut draft = Draft::default();
        while !draft.is_full() {
            let Some(digest) = digests.next() else { break };
            draft.add(self, digest, self.entries.entry(digest));
        }
        draft.frame.encoded()
    }

    /// The entries from `first` on, and where to go on; nothing behind the last.
    pub(crate) fn frame_from(&self, first: Slot) -> Option<(EncodedBatch, Slot)> {
        let until = self.entries.slots().min(first.saturating_add(LOOKED_AT));
        if first >= until {
            return None;
        }
        let (mut draft, mut next) = (Draft::default(), first);
        while next < until && !draft.is_full() {
            if let Some(entry) = self.entries.at(next) {
                draft.add(self, &entry.digest, Some(entry));
            }
            next += 1;
        }
        Some((draft.frame.encoded(), next))
    }
}

#[derive(Default)]
struct Draft<'a> {
    frame: Batch<'a>,
    numbers: HashMap<&'a str, u32>,
    places: usize,
}

impl<'a> Draft<'a> {
    fn is_full(&self) -> bool {
        self.frame.words.len() >= WORDS || self.places >= PLACES
    }

    fn add(&mut self, blobs: &'a Blobs, digest: &'a Digest, entry: Option<&'a Entry>) {
        self.places += entry.map_or(0, |entry| entry.places.as_slice().len());
        let known = entry.map(|entry| BlobRow {
            size: entry.size,
            used: entry.used,
            media_type: entry.media_type.as_deref().map(|name| self.number(name)),
            places: entry.places.as_slice().iter().map(|place| self.number(blobs.places.name(*place))).collect(),
        });
        self.frame.words.push(Row { digest: digest.as_bytes(), known });
    }

    fn number(&mut self, text: &'a str) -> u32 {
        let strings = &mut self.frame.strings;
        *self.numbers.entry(text).or_insert_with(|| {
            strings.push(text);
            strings.len() as u32 - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    /// A few blobs that are in thousands of repositories do not make one frame of all of them.
    #[test]
    fn a_frame_ends_with_enough_places_as_with_enough_words() {
        for (count, each, frames) in [(3000_u64, 1, 3), (20, 2000, 7)] {
            let mut blobs = Blobs::default();
            let digests: Vec<Digest> = (0..count).map(|n| Digest::of(Algorithm::Sha256, &n.to_be_bytes())).collect();
            for digest in &digests {
                let mut entry = Entry::new(digest.clone(), 1, 1);
                entry.places = (0..each).map(|n| blobs.places.of(&format!("docker.io/a/{n}"))).collect();
                blobs.add(entry);
            }
            let of_all = std::iter::successors(blobs.frame_from(0), |(_, next)| blobs.frame_from(*next)).count();
            let mut changed = digests.iter().peekable();
            let mut of_changed = 0;
            while changed.peek().is_some() {
                blobs.frame_of(&mut changed);
                of_changed += 1;
            }
            assert_eq!((of_all, of_changed), (frames, frames), "{count} blobs");
        }
    }
}
