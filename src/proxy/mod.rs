//! From socket to bytes: who is at the door, which way in they took, what they are given.

mod authenticator;
mod batch;
pub mod body;
mod by_name;
pub mod clients;
pub mod conn;
mod connect;
pub mod deliver;
pub mod door;
mod entrance;
pub mod gateway;
mod line;
mod linger;
pub mod listener;
pub mod looped;
mod mirror;
mod next_page;
mod opening;
mod original;
pub mod pages;
pub mod passing;
mod password;
mod permitted;
pub mod ping;
pub mod proxy_header;
mod pulse;
pub mod record;
pub mod refused;
pub mod replay;
pub mod rescue;
mod serve;
pub mod sniff;
mod stand_in;
mod tcp;
mod token_asked;
pub mod tunnel;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use wildmatch::WildMatch;

use crate::http::origin::{Host, Origin, Scheme};
use crate::policy::addressee::{OwnNames, Reached};
use crate::policy::registry::{Role, Site};
use crate::policy::users::Users;

/// What the data port is told by the configuration: valid values only.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// Who may.
    pub allow: Vec<IpNet>,
    /// Who has a password; `None`: nobody needs one.
    pub users: Option<Arc<Users>>,
    /// Whose PROXY header is required, and believed.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Connections at once; one more waits in the backlog.
    pub max_connections: usize,
    /// Of these, those of one client (at least 1); one more is closed.
    pub max_per_client: usize,
    /// Hosts that may be tunnelled to though they are no registry.
    pub tunnel_hosts: Vec<WildMatch>,
    /// And on which ports.
    pub tunnel_ports: Vec<u16>,
    /// What clients call seawall itself, over TLS and as a host of plain HTTP.
    pub own_names: OwnNames,
    /// How long a client may take for its first bytes, its TLS handshake, its request head: each.
    pub patience: Duration,
    /// How long a tunnel or a kept connection may be silent.
    pub idle_timeout: Duration,
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct Session {
    /// The client.
    pub peer: SocketAddr,
    /// Where it came in.
    pub reached: Reached,
    /// How it came.
    pub way: Way,
}

/// The way in that a connection took.
#[derive(Clone, Debug)]
pub enum Way {
    /// Spoken to as a proxy or a mirror, or by a person: in the clear, or over TLS by a name of its own.
    Own(Scheme),
    /// Spoken to as if it were this host.
    Intercepted {
        /// The registry the host belongs to.
        site: Site,
        /// What the host is to it.
        role: Role,
        /// The host as the client named it, by CONNECT or SNI, else the address that the client sent this to.
        origin: Origin,
        /// What the client named in its ClientHello.
        sni: Option<Host>,
    },
}
