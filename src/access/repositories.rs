//! Repositories as small numbers, and sets of them: as what each has a digest.

use std::collections::HashMap;

use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;

/// The number of a repository, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A set of repositories, small where there is one: most blobs are in one.
#[derive(Clone, Debug, Default)]
pub(super) enum RepositorySet {
    #[default]
    None,
    One(HeldAs),
    /// In one word, so that a set takes two.
    #[expect(clippy::box_collection, reason = "a boxed slice is two words, and the set three")]
    Some(Box<Vec<HeldAs>>),
}

impl RepositorySet {
    pub(super) fn as_slice(&self) -> &[HeldAs] {
        match self {
            RepositorySet::None => &[],
            RepositorySet::One(id) => std::slice::from_ref(id),
            RepositorySet::Some(ids) => ids,
        }
    }

    /// Tells whether it is new.
    pub(super) fn add(&mut self, held: HeldAs) -> bool {
        if self.as_slice().contains(&held) {
            return false;
        }
        *self = self.as_slice().iter().copied().chain([held]).collect();
        true
    }

    /// Tells whether it was there.
    pub(super) fn remove(&mut self, held: HeldAs) -> bool {
        let before = self.as_slice().len();
        *self = self.as_slice().iter().copied().filter(|known| *known != held).collect();
        self.as_slice().len() < before
    }
}

impl FromIterator<HeldAs> for RepositorySet {
    fn from_iter<I: IntoIterator<Item = HeldAs>>(ids: I) -> RepositorySet {
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (None, _) => RepositorySet::None,
            (Some(one), None) => RepositorySet::One(one),
            (Some(one), Some(two)) => RepositorySet::Some(Box::new([one, two].into_iter().chain(ids).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_a_set() {
        let (a, b) =
            (HeldAs::new(RepositoryId(1), ContentKind::Blob), HeldAs::new(RepositoryId(1), ContentKind::Manifest));
        assert_eq!((a.repository(), a.kind(), b.kind()), (RepositoryId(1), ContentKind::Blob, ContentKind::Manifest));
        let mut set = RepositorySet::default();
        assert!(set.add(a) && !set.add(a) && set.add(b));
        assert_eq!(set.as_slice(), [a, b]);
        assert!(set.remove(a) && !set.remove(a));
        assert!(matches!(set, RepositorySet::One(one) if one == b));
        assert!(set.remove(b) && set.as_slice().is_empty());
    }
}
