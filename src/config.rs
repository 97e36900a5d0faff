//! What the operator says, read once, checked once: from here on there are valid values only.
//!
//! 1. the file: `--config`, else `SEAWALL_CONFIG`, else `./seawall.toml`, else
//!    `/etc/seawall/seawall.toml`, else none;
//! 2. over it the variables, `SEAWALL_CACHE__MAX_SIZE=50GiB` for `max_size` in `[cache]`;
//! 3. over those the flags;
//! 4. each section becomes the settings of its module; all that is wrong is said at once, each with
//!    its place.
//!
//! A key that would do nothing is not accepted.

mod account;
mod admin;
pub mod builtin;
mod client_certificate;
mod clients;
mod doubts;
mod keys;
mod named;
mod own;
mod parent;
mod problem;
mod registries;
mod section;
pub mod show;
mod sources;
mod starter;
mod tree;
mod upstream;
mod variables;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::http::origin::HostPattern;
use crate::policy::addressee::OwnNames;
use crate::policy::registry::Registries;
use crate::server;
use crate::{ca, cache};

pub use admin::AdminSettings;
pub use clients::MAX_CONNECTIONS;
pub use problem::{ConfigError, Problem};
pub use starter::starter;

use problem::{Fault, Place};
use section::{Section, word};
use tree::{Kind, Value};

/// Where everything is kept if nobody says where: below the current directory, which is the user's
/// who tries it.
pub const DEFAULT_DATA: &str = "seawall-data";

/// Everything the configuration says, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that was read, if one was.
    pub source: Option<PathBuf>,
    /// Variables that name no key.
    pub strays: Vec<Problem>,
    /// Where everything is kept that outlives a restart.
    pub data: PathBuf,
    /// The data port.
    pub proxy: server::Settings,
    /// How registries are dialled.
    pub upstream: crate::dial::Settings,
    /// What is kept.
    pub cache: cache::Settings,
    /// The certificate authority.
    pub ca: ca::Settings,
    /// TLS to seawall itself.
    pub tls: ca::OwnTls,
    /// The registries: the operator's, then those built in.
    pub registries: Registries,
    /// The operator's listener.
    pub admin: AdminSettings,
    /// What is logged.
    pub log: LogSettings,
    /// How long a drain may take.
    pub drain: Duration,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What is worth a line. The environment's `RUST_LOG` wins.
    pub level: tracing::Level,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event.
    Text,
    /// An object a line, for machines.
    Json,
}

/// What the command line says over the configuration, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Each value of `--listen`.
    pub listen: Vec<String>,
    /// The value of `--admin`.
    pub admin: Option<String>,
    /// The value of `--data`.
    pub data: Option<String>,
}

impl Config {
    /// Reads the file at `path` (or where one is looked for), the variables `env` and the flags.
    ///
    /// # Errors
    /// All that is wrong, each with its place.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: Overrides,
    ) -> Result<Config, ConfigError> {
        Config::load_document(path, env, &flags).map(|(config, _)| config)
    }

    /// The same, and the document that it was read from, variables and flags put in.
    fn load_document(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<(Config, Value), ConfigError> {
        let env: Vec<_> = env.filter(|(name, _)| name.starts_with("SEAWALL_")).collect();
        let named = env.iter().find(|(name, path)| name == "SEAWALL_CONFIG" && !path.is_empty());
        let path = match (path, named) {
            (Some(path), _) => Some(path.to_owned()),
            (None, Some((_, path))) => Some(PathBuf::from(path)),
            (None, None) => {
                let usual = ["seawall.toml", "/etc/seawall/seawall.toml"].map(PathBuf::from);
                usual.into_iter().find(|path| crate::fs::exists(path))
            }
        };
        let text = match &path {
            Some(path) => crate::fs::read_to_string(path).map_err(|error| {
                let place = Place::Whole("configuration file".into());
                ConfigError { problems: vec![Fault::at(place, error.to_string()).of("")] }
            })?,
            None => String::new(),
        };
        Config::parse(path, &text, &env, flags)
    }

    /// The same, with the file's text at hand.
    fn parse(
        source: Option<PathBuf>,
        text: &str,
        env: &[(String, String)],
        flags: &Overrides,
    ) -> Result<(Config, Value), ConfigError> {
        let file: Arc<str> = source.as_deref().unwrap_or(Path::new("seawall.toml")).display().to_string().into();
        let mut document = tree::parse(&file, text).map_err(|fault| ConfigError { problems: vec![fault.of("")] })?;
        let mut problems = Vec::new();
        admin::lengthen(&mut document);
        let strays = variables::apply(&mut document, env, &mut problems);
        apply_flags(&mut document, flags);
        let config = match Section::new("", &document) {
            Ok(top) => Some(read(source, top, &mut problems)),
            Err(fault) => {
                problems.push(fault.of(""));
                None
            }
        };
        match config {
            Some(config) if problems.is_empty() => Ok((Config { strays, ..config }, document)),
            _ => {
                problems.sort_by_key(Problem::position);
                Err(ConfigError { problems })
            }
        }
    }

    /// The hosts of all registries that are not patterns, as `host` or `host:port`.
    pub fn registry_hosts(&self) -> Vec<String> {
        let hosts = self.registries.iter().flat_map(|registry| &registry.hosts);
        hosts.filter(|host| !host.is_wildcard()).map(HostPattern::authority).collect()
    }
}

fn apply_flags(document: &mut Value, flags: &Overrides) {
    let Kind::Table(table) = &mut document.kind else { return };
    let raw = |place: &Place, text: &String| Value { place: place.clone(), kind: Kind::Raw(text.clone()) };
    if !flags.listen.is_empty() {
        let place = Place::Flag("--listen");
        let items = flags.listen.iter().map(|text| raw(&place, text)).collect();
        table.insert("listen".to_owned(), (place.clone(), Value { place, kind: Kind::List(items) }));
    }
    if let Some(text) = &flags.data {
        let place = Place::Flag("--data");
        table.insert("data".to_owned(), (place.clone(), raw(&place, text)));
    }
    if let Some(text) = &flags.admin {
        // A document is a table, and the key in it one by now, or wrong: then that is said.
        let _ = document.set(&admin::path(&["admin"]), raw(&Place::Flag("--admin"), text));
    }
}

fn read(source: Option<PathBuf>, mut top: Section, problems: &mut Vec<Problem>) -> Config {
    let seconds = Duration::from_secs;
    let listen = top.list("listen", problems, words::listen);
    let listen = listen.unwrap_or_else(|| vec![SocketAddr::from(([127, 0, 0, 1], 3128))]);
    check_listeners(&top, &listen, problems);
    let mut section = top.section("admin", problems);
    let admin = admin::read(&mut section, &listen, problems);
    section.end(problems);
    let data = top.take("data", problems, directory).flatten().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let drain = top.take("drain_timeout", problems, words::pause).unwrap_or(seconds(30));
    let patience = top.take("client_timeout", problems, words::timeout).unwrap_or(seconds(10));

    let mut section = top.section("log", problems);
    let log = read_log(&mut section, problems);
    section.end(problems);

    let mut registries = registries::read(&mut top, problems);

    let mut section = top.section("tls", problems);
    let tls = own::read(&mut section, &registries, problems);
    section.end(problems);

    let mut section = top.section("ca", problems);
    let ca = read_ca(&mut section, &data, &registries, &tls, problems);
    section.end(problems);

    let mut tunnel = top.section("tunnel", problems);
    let mut clients = top.section("clients", problems);
    let own_names = OwnNames::new(&tls.names);
    let proxy = clients::read(listen, patience, own_names, &mut clients, &mut tunnel, problems);
    clients.end(problems);

    let mut section = top.section("upstream", problems);
    let own: Vec<SocketAddr> = proxy.listen.iter().copied().chain(admin.listen).collect();
    let upstream = upstream::read(&mut section, &mut tunnel, &own, problems);
    let segments = section.take("segments", problems, |value| words::segments(value, 1)).unwrap_or(4);
    registries.iter_mut().filter(|registry| registry.segments == 0).for_each(|registry| registry.segments = segments);
    section.end(problems);
    tunnel.end(problems);

    let mut section = top.section("cache", problems);
    let cache = read_cache(&mut section, &data, problems);
    section.end(problems);
    top.end(problems);

    let registries = Registries::new(registries);
    Config { source, strays: Vec::new(), data, proxy, upstream, cache, ca, tls, registries, admin, log, drain }
}

fn check_listeners(top: &Section, listen: &[SocketAddr], problems: &mut Vec<Problem>) {
    if listen.is_empty() {
        problems.push(top.problem("listen", "must name at least one address; valid: [\"127.0.0.1:3128\"]"));
    }
    for (n, address) in listen.iter().enumerate() {
        if let Some(other) = listen[n + 1..].iter().find(|other| admin::is_same(*address, **other)) {
            problems.push(top.problem("listen", format!("{address} and {other} are the same port twice")));
        }
    }
}

impl Config {
    /// The file of the operator's token.
    pub fn token_file(&self) -> PathBuf {
        self.admin.token_file.clone().unwrap_or_else(|| self.data.join("admin.token"))
    }
}

fn directory(value: &Value) -> Result<Option<PathBuf>, Fault> {
    let text = value.text("a directory")?;
    if text.contains('\0') {
        return Err(value.fault("a path cannot hold a NUL"));
    }
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn read_log(section: &mut Section, problems: &mut Vec<Problem>) -> LogSettings {
    use tracing::Level;
    // Not "trace": release builds have none.
    let levels = [("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogSettings {
        level: section.take("level", problems, |value| word(value, &levels)).unwrap_or(Level::INFO),
        format: section.take("format", problems, |value| word(value, &formats)).unwrap_or(LogFormat::Text),
    }
}

fn read_ca(
    section: &mut Section,
    data: &Path,
    registries: &[crate::policy::registry::Registry],
    tls: &ca::OwnTls,
    problems: &mut Vec<Problem>,
) -> ca::Settings {
    let mut names = section.list("names", problems, words::suffix).unwrap_or_default();
    if tls.certificate.is_none() {
        names.extend(tls.names.iter().cloned());
    }
    // The CA/Browser Forum's longest was 398 days; Apple refuses longer leaves.
    let leaf_days = section.take("leaf_days", problems, |value| value.whole(1, 397));
    ca::Settings {
        dir: section.take("dir", problems, directory).flatten().unwrap_or_else(|| data.join("ca")),
        permitted: builtin::permitted(registries.iter(), &names),
        constrained: section.take("constrained", problems, Value::truth).unwrap_or(true),
        leaf_days: leaf_days.and_then(|days| u32::try_from(days).ok()).unwrap_or(30),
    }
}

fn read_cache(section: &mut Section, data: &Path, problems: &mut Vec<Problem>) -> cache::Settings {
    let seconds = Duration::from_secs;
    let mut tags = section.section("tags", problems);
    let settings = cache::Tags {
        ttl: tags.take("ttl", problems, words::ttl).unwrap_or(seconds(60)),
        stale: tags.take("stale", problems, words::ttl).unwrap_or(Duration::MAX),
        gone: tags
            .take("gone", problems, |value| {
                word(value, &[("serve", cache::Gone::Serve), ("forget", cache::Gone::Forget)])
            })
            .unwrap_or(cache::Gone::Serve),
        rules: read_rules(&mut tags, problems),
    };
    tags.end(problems);
    cache::Settings {
        data: data.to_owned(),
        max_size: section.take("max_size", problems, words::some_size).unwrap_or(20 << 30),
        min_free: section.take("min_free", problems, words::size).unwrap_or(1 << 30),
        memory: section.take("memory", problems, words::size).unwrap_or(64 << 20),
        public_ttl: section.take("public_ttl", problems, words::ttl).unwrap_or(seconds(15 * 60)),
        grant_ttl: section.take("grant_ttl", problems, words::ttl).unwrap_or(seconds(5 * 60)),
        // A client whose access was revoked reads on for this long while upstream is unreachable:
        // the operator decides, so it is off.
        offline_grants: section.take("offline_grants", problems, offline_grants).unwrap_or(Duration::ZERO),
        verify_every: section.take("verify_every", problems, verify_every).unwrap_or(Some(seconds(7 * 24 * 3600))),
        tags: settings,
    }
}

/// `"0s"` and `"forever"` are never.
fn verify_every(value: &Value) -> Result<Option<Duration>, Fault> {
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    match words::ttl(value)? {
        every if Duration::ZERO < every && every < Duration::from_secs(1) => {
            Err(value.fault("is 1s at least; valid: \"7d\", \"0s\" for never"))
        }
        every => Ok((Duration::ZERO < every && every <= LONGEST).then_some(every)),
    }
}

/// `""` and `"0s"` are not at all.
fn offline_grants(value: &Value) -> Result<Duration, Fault> {
    const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);
    match &value.kind {
        Kind::Text(text) | Kind::Raw(text) if text.is_empty() => Ok(Duration::ZERO),
        Kind::Text(text) | Kind::Raw(text) if text.trim() == "forever" => {
            Err(value.fault("access that was revoked would come back with every outage; valid: \"7d\", \"0s\" for off"))
        }
        _ => match words::pause(value)? {
            time if time > LONGEST => Err(value.fault("is 90 days at most; valid: \"7d\", \"0s\" for off")),
            time => Ok(time),
        },
    }
}

/// Without rules written down, `latest` moves more often than other tags do.
fn read_rules(tags: &mut Section, problems: &mut Vec<Problem>) -> Vec<cache::Rule> {
    let path = tags.path_of("rules");
    let rules = tags.list("rules", problems, |value| Section::new(&path, value));
    let Some(rules) = rules else {
        return vec![cache::Rule { names: wildmatch::WildMatch::new("*:latest"), ttl: Duration::from_secs(30) }];
    };
    let mut read = Vec::new();
    for mut rule in rules {
        let before = problems.len();
        let names = rule.take("match", problems, words::tag_glob);
        let ttl = rule.take("ttl", problems, words::ttl);
        let missing = rule.missing("", "a rule needs both: { match = \"*:latest\", ttl = \"30s\" }");
        rule.end(problems);
        match (names, ttl) {
            (Some(names), Some(ttl)) => read.push(cache::Rule { names, ttl }),
            _ if problems.len() == before => problems.push(missing),
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests;
