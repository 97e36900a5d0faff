//! A pull: admit, resolve, content.

use std::path::PathBuf;
use std::time::Duration;

use wildmatch::WildMatch;

/// What the configuration says of the cache.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `blobs/`, `partial/`, `index/`.
    pub data: PathBuf,
    /// Bytes; least recently used goes first.
    pub max_size: u64,
    /// Bytes of the file system left to others.
    pub min_free: u64,
    /// Bytes of manifests kept in memory.
    pub memory: u64,
    /// How long "anonymous may read this repository" is believed.
    pub public_ttl: Duration,
    /// How long upstream's yes to a credential is believed.
    pub grant_ttl: Duration,
    /// How tags age.
    pub tags: Tags,
}

/// How tags age. `Duration::MAX` is forever.
#[derive(Clone, Debug)]
pub struct Tags {
    /// A tag asked less than this ago is not asked again.
    pub ttl: Duration,
    /// How long a tag may be served after upstream stopped answering.
    pub stale: Duration,
    /// What a 404 for a tag that is here means.
    pub gone: Gone,
    /// First match wins.
    pub rules: Vec<Rule>,
}

/// What to do when upstream says 404 for a tag that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Serve it, with a warning.
    Serve,
    /// Believe it.
    Forget,
}

/// A ttl for some tags.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Over `REGISTRY/REPOSITORY:TAG`.
    pub names: WildMatch,
    /// In place of [`Tags::ttl`].
    pub ttl: Duration,
}
