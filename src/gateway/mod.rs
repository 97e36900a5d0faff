//! A request: which registry, which route, what it is given.

pub mod body;
mod challenges;
pub mod deliver;
pub mod gateway;
pub(crate) mod mirror;
mod mirror_refusals;
mod next_page;
pub mod pages;
mod pass;
mod permitted;
pub mod pings;
mod pulls;
mod relay;
mod request;
pub(crate) mod rescue;
pub mod target;
pub mod telemetry;
mod token;
mod upload;

use std::net::SocketAddr;

use crate::http::origin::{Host, Origin, Scheme};
use crate::policy::addressee::Reached;
use crate::policy::registry::{Role, Site};

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct Session {
    /// The client.
    pub peer: SocketAddr,
    /// Where it came in.
    pub reached: Reached,
    /// How it came.
    pub ingress: Ingress,
}

/// The way in that a connection took.
#[derive(Clone, Debug)]
pub enum Ingress {
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
