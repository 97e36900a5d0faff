//! Names of repositories as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

/// A repository of a name space: `docker.io/library/alpine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryId(u32);

#[cfg(test)]
impl From<u32> for RepositoryId {
    fn from(number: u32) -> RepositoryId {
        RepositoryId(number)
    }
}

/// The numbers given so far.
#[derive(Debug, Default)]
pub(crate) struct RepositoryIds {
    numbers: HashMap<Arc<str>, RepositoryId>,
    names: Vec<Arc<str>>,
}

impl RepositoryIds {
    /// The number of a name, a new one if it has none.
    pub(crate) fn of(&mut self, name: &str) -> RepositoryId {
        if let Some(place) = self.numbers.get(name) {
            return *place;
        }
        let place = RepositoryId(u32::try_from(self.names.len()).expect("fewer than four billion repositories"));
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, place);
        place
    }

    /// The number of a name, if it has one.
    pub(crate) fn find(&self, name: &str) -> Option<RepositoryId> {
        self.numbers.get(name).copied()
    }

    /// The name of a number.
    pub(crate) fn name(&self, place: RepositoryId) -> &str {
        &self.names[place.0 as usize]
    }
}
