//! What an operator says of dialling.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::nameserver::NameServer;
use super::parent::Parent;
use crate::http::origin::Host;
use crate::policy::guard::Network;

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
    pub nameservers: Vec<NameServer>,
    /// Fixed addresses, trusted as given. No port: the one asked for.
    pub hosts: HashMap<Host, Fixed>,
    /// Asked for every other host, if there is one.
    pub proxy: Option<Parent>,
    /// Networks that nobody may make seawall dial: see policy/guard.
    pub deny_networks: Vec<Network>,
}

/// An address that the operator wrote down for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Where.
    pub ip: IpAddr,
    /// The port to use whatever was asked for.
    pub port: Option<u16>,
}
