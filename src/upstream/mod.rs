//! Everything that is asked of registries.
//!
//! - [`describe`](Upstream::describe): HEAD, which no registry counts: what does this tag name, may this client read this digest?
//! - [`fetch`](Upstream::fetch): GET of a digest, redirects followed here.
//! - [`pass`](Upstream::pass): anything else, streamed untouched.
//!
//! [`client`] sends, [`asker`] says for whom, [`quota`] keeps the books and holds back what would be refused, [`auth`] keeps challenges and tokens of nobody, `account` what is known of the
//! operator's logins: [`source`] reads them, `prove` shows them, `pay` asks with them; [`connect`] dials: straight, or
//! through the [`parent`] proxy; [`breaker`] knows who does not answer.

mod account;
pub mod asker;
pub mod auth;
pub mod breaker;
pub mod client;
mod describe;
mod fetch;
pub mod pace;
mod pass;
mod pay;
mod probe;
mod program;
mod prove;
pub mod quota;
mod send;
pub mod source;
mod sources;

pub mod connect;
pub mod connector;
pub mod dial_error;
pub mod loops;
pub mod nameserver;
pub mod own;
pub mod parent;
pub mod resolve;
pub mod stream;
pub mod tls;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::http::origin::Host;

pub use client::{RequestBody, Upstream};
pub use describe::{Description, in_time};
pub use fetch::Fetched;
pub use pay::is_bad_login;
pub use probe::Probed;
pub use send::{MAX_TOKEN_REPLY, What};
pub use sources::is_yes;

/// What the configuration says of dialling.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PEM of roots that are trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// TCP and TLS, each.
    pub connect_timeout: Duration,
    /// No byte for this long ends a transfer. There is no total.
    pub idle_timeout: Duration,
    /// A HEAD may take this long while a copy exists.
    pub resolve_deadline: Duration,
    /// Asked instead of the system's resolver, if any: the next where one is silent or errs.
    pub nameservers: Vec<nameserver::NameServer>,
    /// Fixed addresses, trusted as given. No port: the one asked for.
    pub hosts: HashMap<Host, Fixed>,
    /// Asked for every other host, if there is one.
    pub proxy: Option<parent::Parent>,
    /// Networks that nobody may make seawall dial: see policy/guard.
    pub deny_networks: Vec<crate::policy::guard::Network>,
}

/// An address that the operator wrote down for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Where.
    pub ip: IpAddr,
    /// The port to use whatever was asked for.
    pub port: Option<u16>,
}
