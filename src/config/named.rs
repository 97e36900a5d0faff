//! What a variable's name means, and which key was meant by one that is none.

use super::keys::{Form, PARTS, Part};

/// The key whose own keys are names of the operator's.
const OPEN: [&str; 2] = ["upstream", "hosts"];

/// What a variable's name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Key,
    /// All keys of a section at once, as a TOML table.
    Section,
    Nothing,
}

/// What a name of these parts means: `cache`, `max_size`.
pub(super) fn meaning(parts: &[&str]) -> Meaning {
    let is_key = |path: &str| path == "admin" || all().any(|key| key == path);
    let is_section = |path: &str| sections().any(|part| part.path == path);
    let path = parts.join(".");
    match parts {
        [upstream, hosts, name] if [*upstream, *hosts] == OPEN && !name.is_empty() => Meaning::Key,
        // A dot is not what parts a variable's name.
        _ if parts.iter().any(|part| part.is_empty() || part.contains('.')) => Meaning::Nothing,
        _ if is_key(&path) => Meaning::Key,
        _ if is_section(&path) => Meaning::Section,
        _ => Meaning::Nothing,
    }
}

/// Why a variable whose name means nothing is ignored, and which was meant: most people forget an
/// underscore or the section.
pub(super) fn stray(path: &str) -> String {
    let meant = meant(path);
    match meant.as_slice() {
        [] => "no key has this name; a key's variable is SEAWALL_KEY or SEAWALL_SECTION__KEY".to_owned(),
        meant => format!("no key has this name, did you mean {}?", meant.join(" or ")),
    }
}

/// Why the name of a section alone is ignored.
pub(super) fn stray_section(path: &str) -> String {
    let is_in_it = |key: &String| key.rsplit_once('.').is_some_and(|(section, _)| section == path);
    let keys: Vec<_> = all().filter(is_in_it).map(|key| variable(&key)).collect();
    format!("names a section, and is no TOML table; its keys: {}", keys.join(", "))
}

fn meant(path: &str) -> Vec<String> {
    let below = |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    if let Some(key) = all().find(|key| below(key)) {
        return vec![variable(&key)];
    }
    let flat = |path: &str| path.replace('.', "_");
    let given = flat(path);
    let known: Vec<_> = all().chain(["admin".to_owned(), "config".to_owned()]).map(|key| (flat(&key), key)).collect();
    if let Some(near) = nearest(&given, known.iter().map(|(flat, _)| flat.as_str())) {
        return known.iter().filter(|(flat, _)| flat == near).map(|(_, key)| variable(key)).collect();
    }
    let ends = |key: &str| key.strip_suffix(given.as_str()).is_some_and(|before| before.ends_with('_'));
    known.iter().filter(|(flat, _)| !given.is_empty() && ends(flat)).map(|(_, key)| variable(key)).collect()
}

/// Keys that a variable can name.
fn all() -> impl Iterator<Item = String> {
    let full = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let keys = sections().flat_map(move |part| part.keys.iter().map(move |key| full(part.path, key.name)));
    let is_in_section = |part: &&Part| sections().any(|section| section.path == part.parent().0);
    let tables = PARTS.iter().filter(|part| part.form != Form::Section).filter(is_in_section);
    keys.chain(tables.map(|part| part.path.to_owned()))
}

/// What is there once. Tables such as `[[registry]]` no variable names key by key.
fn sections() -> impl Iterator<Item = &'static Part> {
    PARTS.iter().filter(|part| part.form == Form::Section)
}

/// The name of the variable for a key.
pub(super) fn variable(path: &str) -> String {
    format!("SEAWALL_{}", path.to_uppercase().replace('.', "__"))
}

/// The word that `given` most likely was meant to be: a third of its letters may differ.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given: String = given.to_lowercase().replace('-', "_").chars().take(64).collect();
    let distance = |word: &str| strsim::damerau_levenshtein(&given, &word.replace('-', "_"));
    let most = (given.chars().count() / 3).max(1);
    known.map(|word| (distance(word), word)).filter(|(d, _)| *d <= most).min().map(|(_, word)| word)
}
