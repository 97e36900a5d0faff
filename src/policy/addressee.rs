//! The host that a connection without CONNECT is for: the name in its ClientHello, else the address
//! it was sent to.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::http::origin::Host;

/// The names of seawall itself, and the ports it listens on. Clones share the lists.
#[derive(Clone, Debug, Default)]
pub struct OwnNames {
    names: Arc<[Host]>,
    ports: Arc<[u16]>,
}

impl OwnNames {
    /// The set of these names.
    pub fn new(names: &[Host]) -> OwnNames {
        OwnNames { names: names.into(), ports: Arc::default() }
    }

    /// The same, at these listeners.
    #[must_use]
    pub fn at(self, listeners: &[SocketAddr]) -> OwnNames {
        OwnNames { ports: listeners.iter().map(SocketAddr::port).collect(), ..self }
    }

    /// Whether `host:port` is seawall, for a client that came in as `reached`: one of its names, at
    /// one of its listeners or where it is for that client.
    pub fn means(&self, host: &Host, port: u16, reached: Reached) -> bool {
        (reached.is_at(port) || self.ports.contains(&port)) && self.contains(host)
    }

    /// Whether `host` is one of them.
    pub fn contains(&self, host: &Host) -> bool {
        self.names.contains(host)
    }

    fn has_address(&self) -> bool {
        self.names.iter().any(|name| matches!(name, Host::Ip(_)))
    }
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The local address of the socket.
    pub local: SocketAddr,
    /// Where its client sent it, if the kernel brought it here instead: REDIRECT, DNAT, TPROXY.
    /// Never an address of seawall.
    pub original: Option<SocketAddr>,
}

impl Reached {
    /// Where its client sent it.
    pub fn destination(&self) -> SocketAddr {
        self.original.unwrap_or(self.local)
    }

    /// Whether this is the port that its client sent it to, or that it came in at: where seawall
    /// is, for that client.
    pub fn is_at(&self, port: u16) -> bool {
        port == self.local.port() || port == self.destination().port()
    }

    /// The port that its client sent it to, if the kernel brought it to another.
    ///
    /// A balancer in the kernel (kube-proxy) translates like a REDIRECT does, mostly to the very
    /// same port: that one is a port of seawall's, and says nothing of the host that the client
    /// means.
    pub fn original_port(&self) -> Option<u16> {
        self.original.map(|original| original.port()).filter(|port| *port != self.local.port())
    }
}

/// The host that a TLS connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// seawall itself.
    Own,
    /// The host of this name. Its port follows from where the connection was sent.
    Named(Host),
    /// No host was named; this is the address that the connection was sent to.
    Sent(SocketAddr),
    /// There is no name, and no address that tells.
    Unknown,
}

/// The host that a ClientHello with this SNI, or without one, is for. A ClientHello never names an
/// address (RFC 6066, 3).
pub fn addressee(own: &OwnNames, sni: Option<&Host>, reached: Reached) -> Addressee {
    if let Some(name) = sni {
        return if own.contains(name) { Addressee::Own } else { Addressee::Named(name.clone()) };
    }
    if own.contains(&Host::from(reached.destination().ip())) {
        return Addressee::Own;
    }
    match reached.original {
        Some(original) => Addressee::Sent(original),
        // Behind a port mapping the address that was reached is another than the one that clients
        // know: a client that names no host and was not redirected means seawall.
        None if own.has_address() => Addressee::Own,
        None => Addressee::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(local: &str, original: Option<&str>) -> Reached {
        Reached { local: local.parse().unwrap(), original: original.map(|text| text.parse().unwrap()) }
    }

    #[test]
    fn by_name_then_by_address() {
        let names = |list: &[&str]| OwnNames::new(&list.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>());
        let both = names(&["seawall.corp.example", "10.1.2.3"]);
        let read = |own: &OwnNames, sni: Option<&str>, local, original| {
            let sni: Option<Host> = sni.map(|name| name.parse().unwrap());
            format!("{:?}", addressee(own, sni.as_ref(), reached(local, original)))
        };
        let far = Some("192.0.2.7:443");
        assert_eq!(read(&both, Some("Seawall.Corp.Example"), "10.1.2.3:3128", None), "Own");
        assert_eq!(read(&both, Some("seawall.corp.example"), "10.1.2.3:3128", far), "Own");
        assert_eq!(read(&both, Some("ghcr.io"), "10.1.2.3:3128", far), "Named(ghcr.io)");
        assert_eq!(read(&both, None, "10.1.2.3:3128", None), "Own");
        assert_eq!(read(&both, None, "[::ffff:10.1.2.3]:3128", None), "Own");
        assert_eq!(read(&both, None, "10.1.2.3:3128", far), "Sent(192.0.2.7:443)");
        assert_eq!(read(&both, None, "10.0.0.1:3128", Some("10.1.2.3:443")), "Own");
        assert_eq!(read(&both, None, "172.17.0.2:3128", None), "Own", "a container's port is mapped");
        assert_eq!(read(&names(&["seawall.corp.example"]), None, "10.1.2.3:3128", None), "Unknown");
        assert_eq!(read(&names(&[]), None, "10.1.2.3:3128", far), "Sent(192.0.2.7:443)");
    }

    #[test]
    fn itself_is_at_every_listener_of_its_own() {
        let listeners = ["0.0.0.0:3128", "0.0.0.0:443"].map(|text| text.parse().unwrap());
        let own = OwnNames::new(&["seawall.corp".parse().unwrap()]).at(&listeners);
        let means = |host: &str, port| own.means(&host.parse().unwrap(), port, reached("10.0.0.1:3128", None));
        assert!(means("seawall.corp", 3128) && means("seawall.corp", 443));
        assert!(!means("seawall.corp", 3129) && !means("other.corp", 443));
        let mapped = reached("10.0.0.1:3128", Some("10.0.0.9:8443"));
        assert!(own.means(&"seawall.corp".parse().unwrap(), 8443, mapped));
    }

    #[test]
    fn a_port_that_is_the_same_says_nothing() {
        assert_eq!(reached("10.0.0.1:3128", Some("192.0.2.7:443")).original_port(), Some(443));
        assert_eq!(reached("10.0.0.1:3128", Some("10.96.0.5:3128")).original_port(), None);
        assert_eq!(reached("10.0.0.1:3128", None).original_port(), None);
    }
}
