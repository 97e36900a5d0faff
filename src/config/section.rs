//! Reads a section key by key; a key that was not asked for is unknown, and the nearest known key
//! is named.

use std::collections::BTreeSet;

use super::problem::{Fault, Place, Problem, UNKNOWN};
use super::tree::{Table, Value};

/// Where keys live that people put elsewhere. The sections ask for them; this is for messages
/// alone.
const HOMES: &[(&str, &[&str])] = &[
    ("the top level, before the first [section]", &["listen", "admin", "data", "drain_timeout", "client_timeout"]),
    ("[admin]", &["token_file"]),
    ("[log]", &["level", "format"]),
    ("[clients]", &["allow", "users_file", "proxy_protocol_from", "max_connections", "max_per_client"]),
    ("[tls]", &["certificate_file", "key_file"]),
    ("[ca]", &["dir", "names", "constrained", "leaf_days"]),
    ("[tunnel]", &["ports", "deny_networks"]),
    (
        "[upstream]",
        &[
            "connect_timeout",
            "idle_timeout",
            "upload_timeout",
            "resolve_deadline",
            "segments",
            "nameservers",
            "proxy",
            "no_proxy",
            "proxy_password_file",
        ],
    ),
    ("[cache]", &["max_size", "min_free", "memory", "public_ttl", "grant_ttl", "offline_grants", "verify_every"]),
    ("[cache.tags]", &["ttl", "stale", "gone", "rules"]),
    (
        "[[registry]]",
        &[
            "name",
            "aliases",
            "auth_hosts",
            "realms",
            "redirects",
            "upstreams",
            "username",
            "docker_config",
            "share",
            "deny",
            "reserve",
            "segments",
            "client_certificate_file",
            "client_key_file",
        ],
    ),
];

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
            let what = self.unknown(key, matches!(place, Place::Variable(_)));
            problems.push(Fault::at(place.clone(), what).of(&self.path_of(key)));
        }
    }

    fn unknown(&self, key: &str, in_variable: bool) -> String {
        let spelled = |known: &str| {
            if in_variable {
                format!("`SEAWALL_{}`", self.path_of(known).to_uppercase().replace('.', "__"))
            } else {
                format!("`{known}`")
            }
        };
        let valid: Vec<_> = self.asked.iter().copied().collect();
        let valid = format!("valid here: {}", valid.join(", "));
        if let Some(near) = nearest(key, self.asked.iter().copied()) {
            return format!("{UNKNOWN}, did you mean {}? {valid}", spelled(near));
        }
        match HOMES.iter().find(|(_, keys)| keys.contains(&key)) {
            Some((home, _)) => format!("{UNKNOWN} here, it belongs in {home}; {valid}"),
            None => format!("{UNKNOWN}; {valid}"),
        }
    }
}

/// The word that `given` most likely was meant to be: a third of its letters may differ.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given: String = given.to_lowercase().replace('-', "_").chars().take(64).collect();
    let distance = |word: &str| strsim::damerau_levenshtein(&given, &word.replace('-', "_"));
    let most = (given.chars().count() / 3).max(1);
    known.map(|word| (distance(word), word)).filter(|(d, _)| *d <= most).min().map(|(_, word)| word)
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
