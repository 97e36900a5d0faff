//! The configuration of a command, and what is said about it beside.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::log;
use crate::config::show::InForce;
use crate::config::{Config, Overrides};

/// # Errors
/// The configuration is wrong.
pub(super) fn load(path: Option<PathBuf>, flags: Overrides) -> anyhow::Result<Config> {
    let config = Config::load(path.as_deref(), environment(), flags)?;
    remark(&config);
    Ok(config)
}

/// What is in force, key by key.
///
/// # Errors
/// The configuration is wrong.
pub(super) fn load_in_force(path: Option<&Path>, flags: &Overrides) -> anyhow::Result<InForce> {
    let (config, shown) = Config::load_in_force(path, environment(), flags)?;
    remark(&config);
    Ok(shown)
}

/// A variable that is not UTF-8 is not ours, or wrong: it is read with its bad bytes replaced and
/// refused as such.
fn environment() -> impl Iterator<Item = (String, String)> {
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (lossy(name), lossy(value)))
}

/// Says what is valid and seldom meant.
fn remark(config: &Config) {
    for stray in &config.strays {
        eprintln!("seawall: ignored: {}", log::printable(&stray.to_string()));
    }
    for doubt in config.doubts() {
        eprintln!("seawall: warning: {doubt}");
    }
}
