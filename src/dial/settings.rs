//! The settings of dialling.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::nameserver::NameServer;
use super::parent::Parent;
use crate::http::origin::Host;
use crate::policy::guard::Network;

/// How seawall dials, by its configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PEM of roots that are trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long connecting by TCP may take, and a TLS handshake.
    pub connect_timeout: Duration,
    /// No byte for this long ends a transfer. There is no total.
    pub idle_timeout: Duration,
    /// How long the answer to an upload is waited for that is all sent.
    pub upload_timeout: Duration,
    /// A HEAD may take this long while a copy exists.
    pub resolve_deadline: Duration,
    /// Name servers instead of the system's resolver, if any: the next is asked where one is silent
    /// or fails.
    pub nameservers: Vec<NameServer>,
    /// Addresses of hosts that are not resolved, trusted as given.
    pub hosts: HashMap<Host, Fixed>,
    /// The parent proxy for every other host, if there is one.
    pub proxy: Option<Parent>,
    /// Networks that are never dialled for a client: see policy/guard.
    pub deny_networks: Vec<Network>,
}

/// An address that the operator wrote down for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The address.
    pub ip: IpAddr,
    /// The port; `None`: the one that is asked for.
    pub port: Option<u16>,
}
