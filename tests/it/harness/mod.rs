//! Test doubles on loopback: a fake registry that counts and can fail, and a client that can ask in
//! every way.
//!
//! `tls` the test root · `image` contents · `state` what a registry holds · `held` what its owners do,
//! and what it is at a moment · `record` what it saw ·
//! `faults` what it does wrong · `wire`, `body`, `answer` how an answer leaves · `auth`,
//! `pull_side`, `push_side` what it answers · `server` its listeners · `registry` the builder and
//! handle · `client`, `exchange`, `pull` the other side · `forward`, `socks` a company's proxy ·
//! `dns` a name server · `process` seawall on its own · `selftest…` the harness's own tests.

mod answer;
mod auth;
mod body;
pub(crate) mod client;
mod dns;
pub(crate) mod exchange;
pub(crate) mod faults;
mod forward;
mod held;
pub(crate) mod image;
mod log;
mod process;
pub(crate) mod pull;
mod pull_side;
mod push_side;
pub(crate) mod record;
mod registry;
mod seawall;
mod selftest;
mod selftest_faults;
mod server;
mod socks;
mod state;
mod tls;
mod wire;

pub(crate) use client::{Client, Raw};
pub(crate) use dns::{Dns, Over};
pub(crate) use exchange::ClientError;
pub(crate) use faults::{Fault, Gate};
pub(crate) use forward::ForwardProxy;
pub(crate) use held::Held;
pub(crate) use image::{Algorithm, Blob, Hash, Image, sha256};
pub(crate) use log::{Log, alone};
pub(crate) use process::{Process, Room};
pub(crate) use pull::{Pull, Style};
pub(crate) use record::{End, Seen};
pub(crate) use registry::Registry;
pub(crate) use seawall::Seawall;
pub(crate) use socks::Socks;
pub(crate) use state::ANONYMOUS_SOURCE;
pub(crate) use tls::{Alpn, Pki, Sni, server_name, trusting};

/// `Cache-Status` of what was here, once upstream had confirmed it.
pub(crate) const REVALIDATED: &str = "seawall; fwd=stale; fwd-status=200";

/// Whether a `Cache-Status` says that the bytes were here.
pub(crate) fn was_here(cache_status: &str) -> bool {
    cache_status.contains("hit") || cache_status == REVALIDATED
}
