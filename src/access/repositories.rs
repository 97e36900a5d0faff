//! Repositories as small numbers, and what upstream said of a blob in each.

use std::collections::HashMap;

use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Presence;

/// The number of a repository, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RepositoryId(u32);

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct RepositoryIds {
    numbers: HashMap<RepositoryKey, RepositoryId>,
    keys: Vec<RepositoryKey>,
}

impl RepositoryIds {
    /// The number of a repository, a new one if it has none.
    pub(super) fn of(&mut self, key: &RepositoryKey) -> RepositoryId {
        if let Some(id) = self.numbers.get(key) {
            return *id;
        }
        let id = RepositoryId(
            u32::try_from(self.keys.len())
                .ok()
                .filter(|id| *id < 1 << 31)
                .expect("fewer than two billion repositories"),
        );
        self.keys.push(key.clone());
        self.numbers.insert(key.clone(), id);
        id
    }

    /// The number of a repository, if it has one.
    pub(super) fn find(&self, key: &RepositoryKey) -> Option<RepositoryId> {
        self.numbers.get(key).copied()
    }

    /// The numbers of the repositories of registries of which that is true.
    pub(super) fn of_registries(&self, is_wanted: &impl Fn(&str) -> bool) -> impl Iterator<Item = RepositoryId> {
        let wanted = self.numbers.iter().filter(|(key, _)| is_wanted(key.namespace()));
        wanted.map(|(_, id)| *id)
    }

    /// The repository of a number.
    pub(super) fn key(&self, id: RepositoryId) -> &RepositoryKey {
        &self.keys[id.0 as usize]
    }
}

/// A repository, and as what it has a digest: one number, so that a set of one takes a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldAs(u32);

impl HeldAs {
    pub(super) fn new(id: RepositoryId, kind: ContentKind) -> HeldAs {
        HeldAs(id.0 << 1 | u32::from(kind == ContentKind::Manifest))
    }

    pub(super) fn repository(self) -> RepositoryId {
        RepositoryId(self.0 >> 1)
    }

    pub(super) fn kind(self) -> ContentKind {
        if self.0 & 1 == 1 { ContentKind::Manifest } else { ContentKind::Blob }
    }
}

/// What upstream said of a blob in one repository, as one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) place: HeldAs,
    pub(super) presence: Presence,
}

/// What upstream said of a blob, small where that is in one repository: most blobs are in one.
#[derive(Clone, Debug, Default)]
pub(super) enum RepositorySet {
    #[default]
    None,
    One(Held),
    /// In one word.
    #[expect(clippy::box_collection, reason = "a boxed slice is two words")]
    Some(Box<Vec<Held>>),
}

impl RepositorySet {
    pub(super) fn as_slice(&self) -> &[Held] {
        match self {
            RepositorySet::None => &[],
            RepositorySet::One(held) => std::slice::from_ref(held),
            RepositorySet::Some(held) => held,
        }
    }

    pub(super) fn find(&self, place: HeldAs) -> Option<Presence> {
        self.as_slice().iter().find(|held| held.place == place).map(|held| held.presence)
    }

    /// Puts what is known now in place of what was known before.
    pub(super) fn set(&mut self, held: Held) {
        let all = match self {
            RepositorySet::None => &mut [],
            RepositorySet::One(one) => std::slice::from_mut(one),
            RepositorySet::Some(all) => all.as_mut_slice(),
        };
        match all.iter_mut().find(|known| known.place == held.place) {
            Some(known) => *known = held,
            None => *self = self.as_slice().iter().copied().chain([held]).collect(),
        }
    }

    /// Tells whether it was there.
    pub(super) fn remove(&mut self, place: HeldAs) -> bool {
        let before = self.as_slice().len();
        *self = self.as_slice().iter().copied().filter(|known| known.place != place).collect();
        self.as_slice().len() < before
    }
}

impl FromIterator<Held> for RepositorySet {
    fn from_iter<I: IntoIterator<Item = Held>>(held: I) -> RepositorySet {
        let mut held = held.into_iter();
        match (held.next(), held.next()) {
            (None, _) => RepositorySet::None,
            (Some(one), None) => RepositorySet::One(one),
            (Some(one), Some(two)) => RepositorySet::Some(Box::new([one, two].into_iter().chain(held).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::stamp::Stamp;

    #[test]
    fn one_record_for_each_repository_and_kind() {
        let (a, b) =
            (HeldAs::new(RepositoryId(1), ContentKind::Blob), HeldAs::new(RepositoryId(1), ContentKind::Manifest));
        assert_eq!((a.repository(), a.kind(), b.kind()), (RepositoryId(1), ContentKind::Blob, ContentKind::Manifest));
        let at = |micros| Presence::named(None, Stamp::from_micros(micros));
        let mut set = RepositorySet::default();
        for (place, micros) in [(a, 1), (a, 2), (b, 3)] {
            set.set(Held { place, presence: at(micros) });
        }
        assert_eq!((set.find(a), set.find(b), set.as_slice().len()), (Some(at(2)), Some(at(3)), 2));
        assert!(set.remove(a) && !set.remove(a));
        assert!(matches!(set, RepositorySet::One(one) if one.place == b));
        assert!(set.remove(b) && set.as_slice().is_empty());
    }
}
