//! All that is known of blobs, and how it is written down and read.

use std::sync::Arc;

use hashlink::LinkedHashMap;

use super::entries::{Entries, Entry, Slot};
use super::log::{Frame, Known, Word};
use super::places::{Place, Places};
use crate::oci::digest::Digest;

/// What is known of blobs.
#[derive(Debug, Default)]
pub struct Blobs {
    pub(super) entries: Entries,
    pub(super) places: Places,
    types: Types,
    pub(super) bytes: u64,
    /// Whose length nobody compared with their files' yet: those before this number.
    pub(super) unmeasured: Slot,
    /// Not from the file where it is kept now.
    pub(super) imported: bool,
}

/// Types are few, so blobs share their names. Those seen last; an upstream may make up as many as it likes.
#[derive(Debug, Default)]
struct Types(Vec<Arc<str>>);

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

    pub(super) fn typed(&mut self, media_type: Option<&str>) -> Option<Arc<str>> {
        media_type.map(|name| self.types.shared(name))
    }

    pub(super) fn add(&mut self, entry: Entry) -> Slot {
        self.bytes += entry.size;
        self.entries.add(entry)
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.entries.remove(digest)?;
        self.bytes -= entry.size;
        Some(entry)
    }

    /// What was written down.
    pub(super) fn take_in(&mut self, frame: &Frame<'_>) {
        let mut places: Vec<Option<Place>> = vec![None; frame.strings.len()];
        let mut media = LinkedHashMap::new();
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

    /// The last word on each of these.
    pub(super) fn frame_of<'a>(&self, digests: impl Iterator<Item = &'a Digest>) -> Vec<u8> {
        let mut draft = Draft::default();
        digests.for_each(|digest| draft.add(self, digest, self.entries.entry(digest)));
        draft.frame.encoded()
    }

    /// So many entries from `first` on; nothing behind the last.
    pub(super) fn frame_from(&self, first: Slot, count: Slot) -> Option<Vec<u8>> {
        let mut draft = Draft::default();
        if first >= self.entries.slots() {
            return None;
        }
        for entry in (first..first.saturating_add(count)).filter_map(|slot| self.entries.at(slot)) {
            draft.add(self, &entry.digest, Some(entry));
        }
        Some(draft.frame.encoded())
    }
}

#[derive(Default)]
struct Draft<'a> {
    frame: Frame<'a>,
    numbers: LinkedHashMap<&'a str, u32>,
}

impl<'a> Draft<'a> {
    fn add<'b: 'a>(&mut self, blobs: &'b Blobs, digest: &'b Digest, entry: Option<&'b Entry>) {
        let known = entry.map(|entry| Known {
            size: entry.size,
            used: entry.used,
            media_type: entry.media_type.as_deref().map(|name| self.number(name)),
            places: entry.places.as_slice().iter().map(|place| self.number(blobs.places.name(*place))).collect(),
        });
        self.frame.words.push(Word { digest: digest.as_bytes(), known });
    }

    fn number(&mut self, text: &'a str) -> u32 {
        let strings = &mut self.frame.strings;
        *self.numbers.entry(text).or_insert_with(|| {
            strings.push(text);
            strings.len() as u32 - 1
        })
    }
}
