//! (stub: the lead writes it) Builds everything, wires it, drains on a signal.

use std::net::SocketAddr;

use crate::config::Config;

/// A running seawall.
#[derive(Debug)]
pub struct Daemon;

impl Daemon {
    /// Binds, loads, serves. Errors are the operator's to read.
    pub async fn start(_config: Config) -> anyhow::Result<Daemon> {
        Ok(Daemon)
    }

    /// Where clients reach it.
    pub fn addresses(&self) -> &[SocketAddr] {
        &[]
    }

    /// Stops accepting, waits for what runs up to the deadline of the configuration.
    pub async fn drain(self) {}
}
