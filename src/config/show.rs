//! What is in force, key by key, and where each value was written. No secret is in it.
//!
//! 1. the keys are those of `config/keys.rs`, in their order;
//! 2. the value of each is what was written, else what the configuration made of nothing
//!    (`implied`, `Known`), else the default;
//! 3. what a URL says beside its host and path is left out of each text.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Value as Toml;

use super::keys::{Form, Key, PARTS, Part};
use super::problem::Place;
use super::tree::{self, HIDDEN, Kind, Table, Value};
use super::{Config, ConfigError, Overrides, builtin};
use crate::http::origin::{HostPattern, Origin};
use crate::policy::registry::Registry;

/// All that is in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The file that was read, if one was.
    pub source: Option<PathBuf>,
    /// The sections, and each of the operator's registries.
    pub groups: Vec<Group>,
    /// The registries that are built in and that no operator's replaces: what of them is not a
    /// default of every registry.
    pub builtin: Vec<Group>,
}

/// The keys of a section, or of one of the operator's registries.
#[derive(Clone, Debug)]
pub struct Group {
    /// `cache.tags`; of the top level `""`.
    pub path: &'static str,
    /// As TOML heads it, `[cache.tags]` or `[[registry]]`; of the top level `""`.
    pub header: String,
    /// In the order of the documentation.
    pub settings: Vec<Setting>,
}

/// A key, its value, and where that is from.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name in the section.
    pub key: &'static str,
    /// Without secrets.
    pub value: Toml,
    /// Where it was written.
    pub from: Provenance,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Nowhere.
    Default,
    /// Nowhere, and it is what is known of that registry.
    BuiltIn,
    /// In a file, on this line, from 1.
    File(Arc<str>, usize),
    /// In a variable of the environment.
    Variable(Arc<str>),
    /// In a flag.
    Flag(&'static str),
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provenance::Default => f.write_str("default"),
            Provenance::BuiltIn => f.write_str("built in"),
            Provenance::File(file, line) => write!(f, "{file}:{line}"),
            Provenance::Variable(name) => write!(f, "environment variable {name}"),
            Provenance::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl From<&Place> for Provenance {
    fn from(place: &Place) -> Provenance {
        match place {
            Place::Default => Provenance::Default,
            Place::File { file, line, .. } => Provenance::File(file.clone(), *line),
            Place::Whole(file) => Provenance::File(file.clone(), 1),
            Place::Variable(name) => Provenance::Variable(name.clone()),
            Place::Flag(name) => Provenance::Flag(name),
        }
    }
}

impl Config {
    /// As [`Config::load`], and what is in force, key by key.
    ///
    /// # Errors
    /// All that is wrong, each with its place.
    pub fn load_in_force(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<(Config, InForce), ConfigError> {
        let (config, document) = Config::load_document(path, env, flags)?;
        let shown = in_force(&config, &document);
        Ok((config, shown))
    }
}

/// What holds where a key says nothing, and why.
type Implied = (Toml, Provenance);

/// `document` is what `config` was read from.
pub(super) fn in_force(config: &Config, document: &Value) -> InForce {
    let sections = PARTS.iter().filter(|part| part.form == Form::Section);
    let section = |part: &Part| group(part, at(document, part.path).as_ref(), |key| implied(config, part.path, key));
    let mut groups: Vec<_> = sections.map(section).collect();

    let part = PARTS.iter().find(|part| part.path == "registry").expect("the table has it");
    let written = at(document, part.path).map(|value| items(&value)).unwrap_or_default();
    let segments = at(document, "upstream.segments").map_or(Provenance::Default, |value| (&value.place).into());
    let known = Known { builtin: builtin::registries(), segments };
    let registry = |written: Option<&Value>, registry: &Registry| {
        let mut shown = group(part, written, |key| known.of(registry, key));
        // Each host is dialled itself, for which there is no word.
        shown.settings.retain(|setting| setting.key != "upstreams" || !is_empty(&setting.value));
        shown
    };
    let mut registries = config.registries.iter();
    groups.extend(written.iter().zip(registries.by_ref()).map(|(one, of)| registry(Some(one), of)));
    let builtin = registries.map(|of| {
        let mut shown = registry(None, of);
        shown.settings.retain(|setting| setting.from == Provenance::BuiltIn);
        shown
    });
    InForce { source: config.source.clone(), builtin: builtin.collect(), groups }
}

fn is_empty(value: &Toml) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn group(part: &Part, written: Option<&Value>, implied: impl Fn(&str) -> Option<Implied>) -> Group {
    let setting = |key: &'static str, default: &str| {
        let default = read_default(default);
        let implied = implied(key);
        let written = written.and_then(|value| at(value, key));
        let written = written.filter(|value| implied.is_none() || !says_nothing(&value.kind));
        let said = written.map(|value| (toml(key, &value, &default.kind), (&value.place).into()));
        let (value, from) = said.or(implied).unwrap_or_else(|| {
            let value = toml(key, &default, &default.kind);
            (value, Provenance::Default)
        });
        Setting { key, value, from }
    };
    let own = part.keys.iter().map(|Key { name, default, .. }| setting(name, default));
    let below = PARTS.iter().filter_map(|other| match (other.parent(), other.form) {
        ((parent, name), Form::Tables(none)) if parent == part.path && !parent.is_empty() => Some(setting(name, none)),
        _ => None,
    });
    Group { path: part.path, header: part.header(), settings: own.chain(below).collect() }
}

/// Where a default is worked out, this asks for it as well.
fn says_nothing(kind: &Kind) -> bool {
    match kind {
        Kind::Text(text) | Kind::Raw(text) => text.is_empty(),
        Kind::Whole(number) => *number == 0,
        _ => false,
    }
}

/// What a section's key is by default that depends on others.
fn implied(config: &Config, section: &str, key: &str) -> Option<Implied> {
    let path = |path: &Path| Toml::String(path.display().to_string());
    let value = match (section, key) {
        ("", "data") => path(&config.data),
        ("ca", "dir") => path(&config.ca.dir),
        ("clients", "max_per_client") => whole(config.proxy.max_per_client),
        _ => return None,
    };
    Some((value, Provenance::Default))
}

fn whole(number: usize) -> Toml {
    Toml::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// What is known of registries without a word of the operator's on them.
struct Known {
    builtin: Vec<Registry>,
    /// Where `upstream.segments` is from, which holds for each.
    segments: Provenance,
}

impl Known {
    fn of(&self, registry: &Registry, key: &str) -> Option<Implied> {
        if key == "segments" {
            return Some((whole(registry.segments), self.segments.clone()));
        }
        let value = of_itself(registry, key)?;
        let builtin = self.builtin.iter().find(|builtin| builtin.name == registry.name);
        let builtin = builtin.and_then(|builtin| of_itself(builtin, key));
        let is_builtin = !is_empty(&value) && builtin.as_ref() == Some(&value);
        Some((value, if is_builtin { Provenance::BuiltIn } else { Provenance::Default }))
    }
}

fn of_itself(registry: &Registry, key: &str) -> Option<Toml> {
    let text = |text: &dyn fmt::Display| Toml::String(text.to_string());
    let hosts = |hosts: &[HostPattern]| Toml::Array(hosts.iter().map(|host| text(host)).collect());
    Some(match key {
        "name" => text(&registry.name),
        "aliases" => Toml::Array(registry.aliases.iter().map(|alias| text(alias)).collect()),
        "hosts" => hosts(&registry.hosts),
        "auth_hosts" => hosts(&registry.auth_hosts),
        "realms" => hosts(&registry.realms),
        "upstreams" => {
            let source = |origin: &Origin| Toml::Table([("url".to_owned(), text(origin))].into_iter().collect());
            Toml::Array(registry.upstream.iter().map(source).collect())
        }
        _ => return None,
    })
}

fn read_default(text: &str) -> Value {
    let document = tree::parse(&"".into(), &format!("default = {text}")).expect("the table's defaults are TOML");
    at(&document, "default").expect("it was just written")
}

/// What was written at a path of keys; at the empty one, all of it.
fn at(value: &Value, path: &str) -> Option<Value> {
    let parts = path.split('.').filter(|part| !part.is_empty());
    parts
        .into_iter()
        .try_fold(value.clone(), |value, part| value.table().ok()?.get(part).map(|(_, below)| below.clone()))
}

fn items(value: &Value) -> Vec<Value> {
    value.items().map(|items| items.into_owned()).unwrap_or_default()
}

/// A value that was accepted for a key whose default is like `like`.
fn toml(key: &str, value: &Value, like: &Kind) -> Toml {
    let like_item = match like {
        Kind::List(items) => items.first().map_or(&Kind::Other("text"), |item| &item.kind),
        _ => &Kind::Other("text"),
    };
    match typed(value, like) {
        Kind::Text(text) | Kind::Raw(text) => Toml::String(without_secret(key, &text)),
        Kind::Whole(number) => Toml::Integer(number),
        Kind::Truth(truth) => Toml::Boolean(truth),
        Kind::List(items) => Toml::Array(items.iter().map(|item| toml(key, item, like_item)).collect()),
        Kind::Table(table) => {
            let one = |(key, (_, value)): (String, (Place, Value))| (key.clone(), toml(&key, &value, &value.kind));
            Toml::Table(Table::into_iter(table).map(one).collect())
        }
        Kind::Other(name) => Toml::String(name.to_owned()),
    }
}

/// What a variable or a flag says has the type that is wanted there.
fn typed(value: &Value, like: &Kind) -> Kind {
    let typed = match (&value.kind, like) {
        (Kind::Raw(_), Kind::List(_)) => Some(Kind::List(items(value))),
        (Kind::Raw(_), Kind::Table(_)) => value.table().ok().map(|table| Kind::Table(table.into_owned())),
        (Kind::Raw(_), Kind::Whole(_)) => value.whole(i64::MIN, i64::MAX).ok().map(Kind::Whole),
        (Kind::Raw(_), Kind::Truth(_)) => value.truth().ok().map(Kind::Truth),
        _ => None,
    };
    typed.unwrap_or_else(|| value.kind.clone())
}

/// A URL has its user and password, its query and its fragment hidden. `NAME@` of a name server is
/// none of them: it was found to be a host's.
fn without_secret(key: &str, text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://").filter(|_| key != "nameservers") else {
        return text.to_owned();
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => (format!("{HIDDEN}@"), rest),
        None => (String::new(), rest),
    };
    match rest.find(['?', '#']) {
        Some(end) => format!("{scheme}://{user}{}{HIDDEN}", &rest[..=end]),
        None => format!("{scheme}://{user}{rest}"),
    }
}
