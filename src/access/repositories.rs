//! Names of repositories as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

/// A repository of a name space: `docker.io/library/alpine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

#[cfg(test)]
impl From<u32> for Place {
    fn from(number: u32) -> Place {
        Place(number)
    }
}

/// The numbers given so far.
#[derive(Debug, Default)]
pub(crate) struct Places {
    numbers: HashMap<Arc<str>, Place>,
    names: Vec<Arc<str>>,
}

impl Places {
    /// The number of a name, a new one if it has none.
    pub(crate) fn of(&mut self, name: &str) -> Place {
        if let Some(place) = self.numbers.get(name) {
            return *place;
        }
        let place = Place(u32::try_from(self.names.len()).expect("fewer than four billion repositories"));
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, place);
        place
    }

    /// The number of a name, if it has one.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        self.numbers.get(name).copied()
    }

    /// The name of a number.
    pub(crate) fn name(&self, place: Place) -> &str {
        &self.names[place.0 as usize]
    }
}
