//! Every key of the configuration has a row in `docs/configuration.md`, and every row has a key.
//!
//! Which keys there are is asked of the configuration itself: of an unknown key it says which ones
//! are valid in its place. A key below which that is said too is a section.

use std::collections::BTreeSet;

use seawall::config::{Config, Overrides};

use crate::docs::{Tree, none, prose};

/// A key that no section has.
const STRANGER: &str = "zzz_stranger";

/// By their whole names: `cache.tags.ttl`.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) values: BTreeSet<String>,
    sections: BTreeSet<String>,
}

impl Keys {
    pub(crate) fn known() -> Keys {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seawall.toml");
        let valid_in = |path: &str, document: &str| {
            std::fs::write(&file, format!("{document}{STRANGER} = 1\n")).unwrap();
            let error = Config::load(Some(&file), std::iter::empty(), Overrides::default());
            let error = error.expect_err("no section has this key");
            valid_keys(path, error.problems().iter().map(ToString::to_string))
        };
        let mut keys = Keys::default();
        let mut open = vec![(String::new(), String::new())];
        while let Some((path, document)) = open.pop() {
            let valid = valid_in(&path, &document).expect("a section says which keys are valid");
            for path in valid.iter().map(|key| joined(&path, key)) {
                let headed = [format!("{document}[{path}]\n"), format!("{document}[[{path}]]\n")];
                match headed.into_iter().find(|document| valid_in(&path, document).is_some()) {
                    Some(document) => {
                        keys.sections.insert(path.clone());
                        open.push((path, document));
                    }
                    None => drop(keys.values.insert(path)),
                }
            }
        }
        keys
    }
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// What a problem with [`STRANGER`] says to be valid in the section at `path`.
fn valid_keys(path: &str, mut problems: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let unknown = format!(": {}: unknown key", joined(path, STRANGER));
    let problem = problems.find(|problem| problem.contains(&unknown))?;
    let (_, valid) = problem.split_once("valid here: ")?;
    Some(valid.split(", ").map(str::to_owned).collect())
}

/// The keys of the tables whose first column is called `key`. Their section is in the heading
/// above: `[cache.tags]`, `[[registry]]`; without one they are at the top level.
fn rows(page: &str) -> Vec<String> {
    let (mut section, mut column) = (String::new(), None);
    let mut rows = Vec::new();
    for (_, line) in prose(page) {
        if line.starts_with('#') {
            let named = line.split('`').nth(1).filter(|name| name.starts_with('['));
            section = named.map(|name| name.trim_matches(['[', ']']).to_owned()).unwrap_or_default();
        }
        let Some(cell) = line.strip_prefix('|').and_then(|row| row.split('|').next()) else {
            column = None;
            continue;
        };
        match column {
            None => column = Some(cell.trim()),
            Some("key") if !cell.starts_with("---") => {
                let names: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
                // A row without a name is a row without a key.
                let names = if names.is_empty() { vec![cell.trim()] } else { names };
                rows.extend(names.iter().map(|name| joined(&section, name)));
            }
            Some(_) => {}
        }
    }
    rows
}

/// Keys without a row, rows without a key, and rows that are there twice.
fn differences(keys: &Keys, rows: &[String]) -> Vec<String> {
    let shown: BTreeSet<_> = rows.iter().collect();
    let without_row = keys.values.iter().filter(|key| !shown.contains(key)).map(|key| format!("{key} has no row"));
    let is_key = |row: &str| keys.values.contains(row) || keys.sections.contains(row);
    let without_key = shown.iter().filter(|row| !is_key(row)).map(|row| format!("{row} is no key"));
    let is_twice = |row: &str| rows.iter().filter(|other| *other == row).count() > 1;
    let twice = shown.iter().filter(|row| is_twice(row)).map(|row| format!("{row} has two rows"));
    without_row.chain(without_key).chain(twice).collect()
}

#[test]
fn every_key_has_a_row_and_every_row_a_key() {
    let keys = Keys::known();
    for known in ["listen", "cache.tags.ttl", "cache.tags.rules.match", "registry.name", "registry.upstreams.url"] {
        assert!(keys.values.contains(known), "{known} was not found: {keys:#?}");
    }
    let page = &Tree::read().pages["docs/configuration.md"];
    none(&differences(&keys, &rows(page)));
}

#[test]
fn a_key_without_a_row_is_found_and_a_row_without_a_key() {
    let page = "## Top level\n| key | default |\n|---|---|\n| `data` | |\n\n## `[cache.tags]`\n| key | |\n|---|---|\n\
                | `ttl`, `stale` | |\n| `old` | |\n| `ttl` | |\n| nothing | |\n\n| other | |\n|---|---|\n| `x` | |\n";
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let values = set(&["cache.tags.stale", "cache.tags.ttl", "data", "listen"]);
    let keys = Keys { values, sections: set(&["cache", "cache.tags"]) };
    let expected = [
        "listen has no row",
        "cache.tags.nothing is no key",
        "cache.tags.old is no key",
        "cache.tags.ttl has two rows",
    ];
    assert_eq!(differences(&keys, &rows(page)), expected);
}

#[test]
fn what_is_valid_is_read_from_the_problem_with_the_stranger() {
    let problems = [
        "seawall.toml:2:1: cache.zzz_stranger: unknown key, did you mean `a`? valid here: a, b_c",
        "seawall.toml:2:1: zzz_stranger: unknown key; valid here: d",
    ];
    let valid = |path| valid_keys(path, problems.iter().map(ToString::to_string));
    assert_eq!(valid("cache").unwrap(), ["a", "b_c"]);
    assert_eq!(valid("").unwrap(), ["d"]);
    assert_eq!(valid("tls"), None);
}
