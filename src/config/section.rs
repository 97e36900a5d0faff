//! Reads a section key by key; a key that was not asked for is unknown, and the nearest known key
//! is named.

use std::collections::BTreeSet;

use super::keys::homes;
use super::named::nearest;
use super::problem::{Fault, Place, Problem};
use super::tree::{Table, Value};

/// A table that is being read.
pub(super) struct Section {
    path: String,
    place: Place,
    table: Table,
    asked: BTreeSet<&'static str>,
}

impl Section {
    /// `path` is for messages: `cache.tags`. Empty for the document.
    pub(super) fn new(path: &str, value: &Value) -> Result<Section, Fault> {
        let table = value.table()?.into_owned();
        Ok(Section { path: path.to_owned(), place: value.place.clone(), table, asked: BTreeSet::new() })
    }

    /// The section below this one; an empty one if nothing was written.
    pub(super) fn section(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Section {
        let path = self.path_of(key);
        let below = self.take(key, problems, |value| Section::new(&path, value));
        let none = Section { path, place: Place::Default, table: Table::new(), asked: BTreeSet::new() };
        below.unwrap_or(none)
    }

    /// What was written for `key`, if anything was and `read` understands it.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
        read: impl FnOnce(&Value) -> Result<T, Fault>,
    ) -> Option<T> {
        self.asked.insert(key);
        let (_, value) = self.table.get(key)?;
        read(value).map_err(|fault| problems.push(fault.of(&self.path_of(key)))).ok()
    }

    /// The same for a list, item by item.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
        read: impl Fn(&Value) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        self.take(key, problems, |value| value.items()?.iter().map(read).collect())
    }

    /// `cache.tags.ttl`; of no key, the section.
    pub(super) fn path_of(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            (path, "") => path.to_owned(),
            ("", key) => key.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Where `key` has its value from.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(Place::Default, |(_, value)| value.place.clone())
    }

    /// A problem with the value of `key`, whether it was written or not.
    pub(super) fn problem(&self, key: &str, what: impl Into<String>) -> Problem {
        Fault::at(self.place_of(key), what).of(&self.path_of(key))
    }

    /// `key` is missing.
    pub(super) fn missing(&self, key: &str, what: &str) -> Problem {
        Fault::at(self.place.clone(), what).of(&self.path_of(key))
    }

    /// What was written and not asked for is a problem.
    pub(super) fn end(self, problems: &mut Vec<Problem>) {
        for (key, (place, _)) in &self.table {
            if self.asked.contains(key.as_str()) {
                continue;
            }
            problems.push(Fault::at(place.clone(), self.unknown(key)).of(&self.path_of(key)));
        }
    }

    fn unknown(&self, key: &str) -> String {
        let valid: Vec<_> = self.asked.iter().copied().collect();
        let valid = format!("valid here: {}", valid.join(", "));
        if let Some(near) = nearest(key, self.asked.iter().copied()) {
            return format!("unknown key, did you mean `{near}`? {valid}");
        }
        match homes(key).split_last() {
            Some((home, [])) => format!("unknown key here, it belongs in {home}; {valid}"),
            Some((last, others)) => {
                format!("unknown key here, it belongs in {} or {last}; {valid}", others.join(", "))
            }
            None => format!("unknown key; {valid}"),
        }
    }
}

/// One of a list of words.
pub(super) fn word<T: Copy>(value: &Value, words: &[(&'static str, T)]) -> Result<T, Fault> {
    let names: Vec<_> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
    let names = names.join(", ");
    let text = value.text(&format!("one of {names}"))?;
    words.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let near = nearest(text, words.iter().map(|(name, _)| *name));
        let hint = near.map(|word| format!(", did you mean {word:?}?")).unwrap_or_default();
        value.fault(format!("{text:?} is not one of {names}{hint}"))
    })
}
