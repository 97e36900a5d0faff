//! A connection: who may connect, what its first bytes are, what it is for, the HTTP on it.

mod admission;
mod authenticator;
pub mod clients;
mod connect;
mod connection;
mod direct_tls;
mod first_words;
mod flush;
mod handshake;
mod http;
mod idle;
mod linger;
pub mod listener;
pub mod loops;
mod opening;
mod original;
mod password;
pub mod proxy_header;
pub mod shared;
pub mod sniff;
mod tcp;
mod transport;
pub mod tunnel;
mod watched;
mod written;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::addressee::OwnNames;
use crate::policy::intercept::Tunnels;
use crate::policy::users::Users;

/// What the configuration says of the data port, checked already.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses that clients connect to.
    pub listen: Vec<SocketAddr>,
    /// The networks whose clients may connect.
    pub allow: Vec<IpNet>,
    /// The users and their passwords; `None` if clients need none.
    pub users: Option<Arc<Users>>,
    /// The networks whose PROXY header is required, and believed.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Connections at once; one more waits in the backlog.
    pub max_connections: usize,
    /// Of these, those of one client (at least 1); one more is closed.
    pub max_per_client: usize,
    /// Where tunnels may go although no registry is there.
    pub tunnels: Tunnels,
    /// What clients call seawall itself, over TLS and as a host of plain HTTP.
    pub own_names: OwnNames,
    /// How long a client may take for its first bytes, its TLS handshake, its request head: each.
    pub patience: Duration,
    /// How long a tunnel or a kept connection may be silent.
    pub idle_timeout: Duration,
}
