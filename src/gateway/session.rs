//! What the gateway knows of the connection that a request came on.

use std::net::SocketAddr;

use crate::http::origin::{Host, Origin, Scheme};
use crate::policy::addressee::Reached;
use crate::policy::registry::{Role, Site};

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct Session {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it came in at, and the one its client sent it to.
    pub reached: Reached,
    /// What its client wants to speak to.
    pub ingress: Ingress,
}

/// What the client of a connection wants to speak to, as far as the connection tells.
#[derive(Clone, Debug)]
pub enum Ingress {
    /// seawall itself, as a proxy, a mirror or a web server: in the clear, or over TLS by one of
    /// its own names.
    Own(Scheme),
    /// A registry's host, which seawall answers for.
    Intercepted {
        /// The registry the host belongs to.
        site: Site,
        /// What the host is to it.
        role: Role,
        /// The host as the client named it, by CONNECT or SNI, else the address that the client
        /// sent the connection to.
        origin: Origin,
        /// The host that the client named in its ClientHello.
        sni: Option<Host>,
    },
}
