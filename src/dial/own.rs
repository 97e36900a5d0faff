//! Which addresses lead back to seawall.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::http::origin::Host;

/// The addresses seawall listens at. Clones share one set, which is filled once the listeners are
/// bound.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses {
    listeners: Arc<RwLock<Vec<SocketAddr>>>,
    found: Arc<RwLock<HashSet<(Host, SocketAddr)>>>,
}

impl OwnAddresses {
    /// An empty set.
    pub fn new() -> OwnAddresses {
        OwnAddresses::default()
    }

    /// Adds the address of a listener.
    pub fn add(&self, listener: SocketAddr) {
        self.listeners.write().push(listener);
    }

    /// Replaces the pairs of host and address that were seen to come out at a listener. A reverse proxy in front (a Kubernetes ingress) tells hosts apart at one address: it leads some of them here, and others to where they
    /// belong.
    pub fn set_found(&self, found: HashSet<(Host, SocketAddr)>) {
        *self.found.write() = found;
    }

    /// Whether a connection to `address` was seen to come in here if it is for `host`.
    pub fn was_found(&self, host: &Host, address: SocketAddr) -> bool {
        let found = self.found.read();
        // The usual case: nothing was found, and no key is made.
        !found.is_empty() && found.contains(&(host.clone(), address))
    }

    /// Whether a connection to `address` would come in at one of the listeners.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = reached(address.ip());
        let listeners = self.listeners.read();
        listeners.iter().filter(|listener| listener.port() == address.port()).any(|listener| {
            let bound = listener.ip().to_canonical();
            bound == ip || (bound.is_unspecified() && is_local(ip))
        })
    }
}

/// The address that answers at `ip`: a connection to the wildcard comes to the loopback address.
fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Whether `ip` is this machine's: only its own addresses can be bound. A wildcard is reached at
/// each of them.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || (binds(ip) && (!binds_anything() || source_towards(ip) == Some(ip)))
}

fn binds(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether `net.ipv4.ip_nonlocal_bind` is set, as beside keepalived: then TEST-NET-1 (RFC 5737) can
/// be bound too.
fn binds_anything() -> bool {
    binds(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
}

/// The source address of a packet to `ip`: `ip` itself if that is this machine's. Nothing is sent.
fn source_towards(ip: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((ip, 9)).ok()?;
    socket.local_addr().ok().map(|from| from.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_of_one_host_and_until_the_next_look() {
        let own = OwnAddresses::new();
        let (hub, harbor): (Host, Host) = ("hub.test".parse().unwrap(), "harbor.test".parse().unwrap());
        let address = "10.0.0.5:443".parse().unwrap();
        own.set_found(HashSet::from([(hub.clone(), address)]));
        assert!(own.clone().was_found(&hub, address));
        assert!(!own.was_found(&harbor, address), "an ingress tells them apart");
        assert!(!own.contains(address));
        own.set_found(HashSet::new());
        assert!(!own.was_found(&hub, address));
    }

    #[test]
    fn a_listener_is_known_at_its_address_and_a_wildcard_at_all_of_them() {
        let own = OwnAddresses::new();
        assert!(!own.contains("127.0.0.1:443".parse().unwrap()));
        own.add("127.0.0.1:3128".parse().unwrap());
        own.clone().add("0.0.0.0:443".parse().unwrap());
        for ours in [
            "127.0.0.1:3128",
            "[::ffff:127.0.0.1]:3128",
            "127.0.0.1:443",
            "127.8.8.8:443",
            "0.0.0.0:443",
            "0.0.0.0:3128",
        ] {
            assert!(own.contains(ours.parse().unwrap()), "{ours}");
        }
        own.add("[::1]:3129".parse().unwrap());
        assert!(own.contains("[::]:3129".parse().unwrap()) && !own.contains("0.0.0.0:3129".parse().unwrap()));
        for other in
            ["127.0.0.2:3128", "[::]:3128", "127.0.0.1:80", "192.0.2.7:443", "1.1.1.1:443", "[2606:4700::1111]:443"]
        {
            assert!(!own.contains(other.parse().unwrap()), "{other}");
        }
    }
}
