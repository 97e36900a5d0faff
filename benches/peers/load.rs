//! h2load: many requests over kept connections, and what it says of them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::HOST;
use crate::report::Sample;
use crate::servers::{Server, says};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    H1,
    H2,
    /// HTTP/1.1 without TLS.
    Plain,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Protocol::H1 => "TLS h1",
            Protocol::H2 => "TLS h2",
            Protocol::Plain => "plain h1",
        }
    }

    pub(crate) fn address(self, server: &Server) -> SocketAddr {
        if self == Protocol::Plain { server.plain } else { server.tls }
    }
}

/// A burst of requests for one thing.
pub(crate) struct Burst<'a> {
    pub(crate) protocol: Protocol,
    /// From `/v2/` on.
    pub(crate) path: &'a str,
    pub(crate) accept: &'a str,
    /// What one answer is long.
    pub(crate) len: u64,
    pub(crate) requests: u64,
    pub(crate) connections: u64,
}

impl Burst<'_> {
    /// An error if a single answer is not 2xx or a byte is missing.
    pub(crate) fn run(&self, server: &Server, scratch: &Path) -> Result<Sample> {
        let log = scratch.join("h2load.tsv");
        let _ = std::fs::remove_file(&log);
        let address = self.protocol.address(server);
        let (requests, connections) = (self.requests.to_string(), self.connections.to_string());
        let mut command = Command::new("timeout");
        command.args(["300", "h2load", "-n", &requests, "-c", &connections, "-m", "1", "-H"]);
        command.arg(format!("accept: {}", self.accept)).arg(format!("--log-file={}", log.display()));
        command.arg(match self.protocol {
            Protocol::H2 => "--npn-list=h2",
            Protocol::H1 | Protocol::Plain => "--h1",
        });
        match self.protocol {
            Protocol::Plain => command.arg(format!("http://{address}/v2/{}", self.path)),
            _ => command.arg(format!("--connect-to={address}")).arg(format!("https://{HOST}/v2/{}", self.path)),
        };
        let before = server.cpu();
        let told = says(&mut command).context("h2load")?;
        let cpu = server.cpu() - before;
        let said = read(&told).with_context(|| format!("h2load said:\n{told}"))?;
        ensure!(said.good == self.requests, "{} of {} were 2xx:\n{told}", said.good, self.requests);
        ensure!(said.bytes == self.requests * self.len, "{} bytes came, not {}", said.bytes, self.requests * self.len);
        let latencies = latencies(&std::fs::read_to_string(&log)?);
        Ok(Sample { cpu, bytes: said.bytes, requests: self.requests, wall: said.took, latencies, cipher: said.cipher })
    }
}

#[derive(Debug, PartialEq)]
struct Said {
    good: u64,
    bytes: u64,
    took: Duration,
    cipher: String,
}

/// `finished in 1.23s, …`, `status codes: 8 2xx, …`, `traffic: 8.00MB (8390000) total, … 8.00MB
/// (8388608) data`.
fn read(text: &str) -> Result<Said> {
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default();
    let took = line("finished in ").split(',').next().unwrap_or_default();
    let good = line("status codes: ").split(' ').next().unwrap_or_default().parse()?;
    let data = line("traffic: ").rsplit('(').next().unwrap_or_default();
    let bytes = data.split(')').next().unwrap_or_default().parse()?;
    let cipher = [line("TLS Protocol: "), line("Cipher: ")].join(" ");
    Ok(Said { good, bytes, took: duration(took)?, cipher: cipher.trim().to_owned() })
}

/// As h2load writes it: `1.23s`, `815.20ms`, `12us`, `1m2s`.
fn duration(text: &str) -> Result<Duration> {
    let (minutes, text) = match text.split_once('m') {
        Some((minutes, seconds)) if seconds != "s" => (minutes.parse::<f64>()?, seconds),
        _ => (0.0, text),
    };
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    for (unit, seconds) in units {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(Duration::from_secs_f64(number.parse::<f64>()? * seconds + minutes * 60.0));
        }
    }
    bail!("no duration: {text:?}")
}

/// The third column, in microseconds.
fn latencies(log: &str) -> Vec<u64> {
    let mut all: Vec<u64> = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    all.sort_unstable();
    all
}
