//! Which keys there are, and what a variable's name means. The sections ask for them one by one;
//! this list is for names and messages alone, and a test holds it to what is asked for.

/// Keys that a variable can name, by their section; those of the top level first.
pub(super) const KEYS: &[(&str, &[&str])] = &[
    ("", &["listen", "data", "drain_timeout", "client_timeout", "registry"]),
    ("admin", &["listen", "hosts", "token_file"]),
    ("log", &["level", "format"]),
    ("clients", &["allow", "users_file", "proxy_protocol_from", "max_connections", "max_per_client"]),
    ("tls", &["prefer", "names", "certificate_file", "key_file"]),
    ("ca", &["dir", "names", "constrained", "leaf_days"]),
    ("tunnel", &["hosts", "ports", "deny_networks"]),
    (
        "upstream",
        &[
            "ca_file",
            "connect_timeout",
            "idle_timeout",
            "upload_timeout",
            "resolve_deadline",
            "nameservers",
            "hosts",
            "proxy",
            "proxy_password_file",
            "no_proxy",
            "segments",
        ],
    ),
    ("cache", &["max_size", "min_free", "memory", "public_ttl", "grant_ttl", "offline_grants", "verify_every"]),
    ("cache.tags", &["ttl", "stale", "gone", "rules"]),
];

/// Keys of a registry: no variable names them one by one.
pub(super) const REGISTRY: &[&str] = &[
    "name",
    "aliases",
    "hosts",
    "auth_hosts",
    "ca_file",
    "client_certificate_file",
    "client_key_file",
    "realms",
    "redirects",
    "reserve",
    "segments",
    "upstreams",
    "username",
    "password_file",
    "docker_config",
    "share",
    "allow",
    "deny",
    "rewrite",
];

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
    let is_section = |path: &str| KEYS.iter().any(|(section, _)| *section == path);
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

/// The sections in which there is a key of this name, as a message calls them.
pub(super) fn homes(key: &str) -> Vec<String> {
    let has = |(_, keys): &&(&str, &[&str])| keys.contains(&key);
    let named = |(section, _): &(&str, _)| match *section {
        "" => "the top level, before the first [section]".to_owned(),
        section => format!("[{section}]"),
    };
    let registry = REGISTRY.contains(&key).then(|| "[[registry]]".to_owned());
    KEYS.iter().filter(has).map(named).chain(registry).collect()
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
    let (_, keys) = KEYS.iter().find(|(section, _)| *section == path).copied().unwrap_or_default();
    let keys: Vec<_> = keys.iter().map(|key| variable(&format!("{path}.{key}"))).collect();
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

fn all() -> impl Iterator<Item = String> {
    let full = |section: &str, key: &str| if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    KEYS.iter().flat_map(move |(section, keys)| keys.iter().map(move |key| full(section, key)))
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
