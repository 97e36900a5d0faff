//! Whether the user who runs this may write where seawall keeps things: one sentence for every
//! command that has to.

use std::path::Path;

use anyhow::Context as _;

use crate::ca::{Root, Settings};
use crate::config::Config;

/// Where `serve` writes: the data, and the CA as long as there is none.
///
/// # Errors
/// Who would have to be able to, and what to do. A root that is there may not be read.
pub(super) fn for_serve(config: &Config) -> anyhow::Result<()> {
    check("the data directory", &config.data, "--data DIR, SEAWALL_DATA")?;
    if Root::is_there(&config.ca)? { Ok(()) } else { for_ca(&config.ca) }
}

/// Where a root is made, or renewed.
///
/// # Errors
/// Who would have to be able to, and what to do.
pub(super) fn for_ca(settings: &Settings) -> anyhow::Result<()> {
    let how = "`dir` of [ca], SEAWALL_CA__DIR; by default it is `ca` in the data directory: --data DIR, SEAWALL_DATA";
    check("the CA's directory", &settings.dir, how)
}

fn check(what: &str, dir: &Path, how: &str) -> anyhow::Result<()> {
    crate::fs::writable(dir).with_context(|| {
        let user = crate::fs::user();
        format!("{what} must be writable for {user}: give it to that user, or name another ({how})")
    })
}
