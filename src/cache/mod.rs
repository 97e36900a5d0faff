//! A pull: admit, resolve, content.

use std::path::PathBuf;
use std::time::Duration;

pub use crate::policy::freshness::{Gone, Rule, Tags};

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
