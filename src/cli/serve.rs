//! `seawall serve`: start, say where, wait for a signal, drain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{log, writable};
use crate::config::{Config, Overrides};
use crate::daemon::Daemon;
use crate::task::FILE_THREADS;

pub(super) const EXAMPLE: &str = "\
Example: listen on every address, and on 443 for DNS override
  seawall serve --listen 0.0.0.0:3128 --listen 0.0.0.0:443 \\
    --data /var/lib/seawall";

/// Flags of `serve`. They win over the configuration.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Where clients connect; may be given more than once, in place of the configuration's
    /// [default: 127.0.0.1:3128]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<String>,
    /// Where health and metrics are, "" for nowhere [default: 127.0.0.1:3129]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// Where blobs, index and CA are kept [default: seawall-data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

impl ServeArgs {
    pub(super) fn overrides(&self) -> Overrides {
        let data = self.data.as_ref().map(|path| path.to_string_lossy().into_owned());
        Overrides { listen: self.listen.clone(), admin: self.admin.clone(), data }
    }
}

/// Serves until a signal. Returns when all has drained.
///
/// # Errors
/// What kept it from starting.
pub fn run(config: Config) -> anyhow::Result<()> {
    log::start(config.log);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().max_blocking_threads(FILE_THREADS).build().context("cannot start threads")?;
    let result = runtime.block_on(serve(config));
    // A thread that hangs in a read of a dead disk does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before anything else: a signal during a slow start is not lost.
    let mut signals = Signals::new().context("cannot receive signals")?;
    let (ca, admin, source) = (config.ca.dir.join("ca.crt"), config.admin.listen, config.source.clone());
    let source = source.map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), configuration = source, "seawall starts");

    writable::for_serve(&config)?;
    let daemon = tokio::select! {
        daemon = Daemon::start(config) => daemon?,
        () = signals.stop() => {
            tracing::info!("asked to stop before it had started");
            return Ok(());
        }
    };
    for address in daemon.addresses() {
        tracing::info!(%address, "listening");
    }
    if let Some(first) = daemon.addresses().first() {
        let ca = ca.display();
        tracing::info!("to try it: HTTPS_PROXY=http://{} and trust {ca}", reachable(*first));
    }
    if let Some(admin) = admin {
        tracing::info!("health and metrics: http://{}/", reachable(admin));
    }

    signals.stop().await;
    tracing::info!("draining: what runs is finished, a second signal ends it at once");
    tokio::select! {
        () = daemon.drain() => tracing::info!("stopped"),
        () = signals.stop() => {
            tracing::warn!("stopped at once: what still ran is broken off");
            // Not by returning: the runtime would wait for threads that read or write.
            std::process::exit(1);
        }
    }
    Ok(())
}

/// An address that a client on this machine can use for one that means every address.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at each signal to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: this version cannot reload its configuration; restart it");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_at_localhost() {
        for (address, reached) in
            [("0.0.0.0:3128", "127.0.0.1:3128"), ("[::]:3128", "[::1]:3128"), ("192.0.2.1:443", "192.0.2.1:443")]
        {
            assert_eq!(reachable(address.parse().unwrap()).to_string(), reached);
        }
    }
}
