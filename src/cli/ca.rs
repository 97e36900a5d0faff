//! (stub: comes by merge from branch ca) `seawall ca …`.

use crate::ca::Settings;

/// Shows, makes and installs the certificate authority.
#[derive(clap::Args, Debug)]
pub struct CaArgs {}

/// Runs it.
pub fn run(_args: CaArgs, _settings: &Settings, _registry_hosts: &[String]) -> anyhow::Result<()> {
    anyhow::bail!("not in this version")
}
