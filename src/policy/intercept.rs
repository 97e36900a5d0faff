//! What is done with a host that a client wants to talk to, named by CONNECT or in a ClientHello,
//! or that a connection was sent to.

use std::fmt;
use std::sync::Arc;

use wildmatch::WildMatch;

use super::registry::{Registries, Role, Site};
use crate::http::origin::{Host, Scheme};

/// What is done with a connection to a host.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The host is a registry or its token service, which clients speak to so: seawall answers in its
    /// place.
    Registry(Site, Role, Scheme),
    /// The host is no registry: bytes are forwarded without being read.
    Tunnel,
    /// The connection is refused.
    Refuse(Reason),
}

/// Where tunnels may go although no registry is there: `[tunnel]` in the configuration.
#[derive(Clone, Debug)]
pub struct Tunnels {
    /// Globs of hosts.
    pub hosts: Vec<WildMatch>,
    /// The ports that may be tunnelled to.
    pub ports: Vec<u16>,
}

/// Why a host is not tunnelled to. Printed, it is what the client reads in the status text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a port for tunnels.
    Port(u16),
    /// Not a host for tunnels.
    Host(Host),
    /// The upstream of a registry whose repositories are not all permitted: a tunnel goes round that.
    Upstream(Host, Arc<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Port(port) => write!(f, "port {port} is not in tunnel.ports"),
            Reason::Upstream(host, registry) => {
                write!(f, "{host} is an upstream of {registry}, which has `allow` or `deny`: name it in its `hosts`")
            }
            Reason::Host(host) => write!(f, "{host} is no configured registry and not in tunnel.hosts"),
        }
    }
}

/// Decides on `host:port`. A registry is known at its own port whatever `tunnels` says; TLS is
/// preferred where two registries share host and port.
pub fn verdict(registries: &Registries, tunnels: &Tunnels, host: &Host, port: u16) -> Verdict {
    for scheme in [Scheme::Https, Scheme::Http] {
        if let Some((site, role)) = registries.by_host(scheme, host, port) {
            return Verdict::Registry(site, role, scheme);
        }
    }
    if !tunnels.ports.contains(&port) {
        return Verdict::Refuse(Reason::Port(port));
    }
    let name = host.to_string();
    if !tunnels.hosts.iter().any(|glob| glob.matches(&name)) {
        return Verdict::Refuse(Reason::Host(host.clone()));
    }
    if let Some(registry) = registries.restricted_upstream(host, port) {
        return Verdict::Refuse(Reason::Upstream(host.clone(), registry.name.clone()));
    }
    Verdict::Tunnel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::Registry;

    fn registries() -> Registries {
        let registry = |name: &str, host: &str, upstream: Option<&str>| Registry {
            name: name.into(),
            hosts: vec![host.parse().unwrap()],
            auth_hosts: vec!["auth.docker.io".parse().unwrap()],
            upstream: upstream.map(|url| Origin::from_url(url).unwrap().0),
            ..Registry::default()
        };
        Registries::new(vec![
            registry("docker.io", "registry-1.docker.io", Some("https://registry-1.docker.io")),
            registry("pkg.dev", "*.pkg.dev", None),
            registry("lab", "http://lab:5000", Some("http://lab:5000")),
            registry("quay.io", "quay.io", Some("http://mirror.lan:8081")),
        ])
    }

    fn decide(hosts: &[&str], ports: &[u16], host: &str, port: u16) -> String {
        let hosts: Vec<WildMatch> = hosts.iter().map(|glob| WildMatch::new(glob)).collect();
        let tunnels = Tunnels { hosts, ports: ports.to_vec() };
        match verdict(&registries(), &tunnels, &host.parse().unwrap(), port) {
            Verdict::Registry(site, role, scheme) => format!("{site:?} {role:?} by {}", scheme.as_str()),
            Verdict::Tunnel => "tunnel".to_owned(),
            Verdict::Refuse(reason) => reason.to_string(),
        }
    }

    #[test]
    fn registries_first_then_ports_then_hosts() {
        let open = |host, port| decide(&["*"], &[443], host, port);
        assert_eq!(open("registry-1.docker.io", 443), "docker.io at https://registry-1.docker.io Registry by https");
        assert_eq!(open("Registry-1.Docker.IO.", 443), "docker.io at https://registry-1.docker.io Registry by https");
        assert_eq!(open("auth.docker.io", 443), "docker.io at https://auth.docker.io Tokens by https");
        assert_eq!(open("eu.pkg.dev", 443), "eu.pkg.dev at https://eu.pkg.dev Registry by https");
        assert_eq!(open("lab", 5000), "lab at http://lab:5000 Registry by http");
        assert_eq!(open("quay.io", 443), "quay.io at http://mirror.lan:8081 Registry by https");
        assert_eq!(open("github.com", 443), "tunnel");
        assert_eq!(open("10.0.0.1", 443), "tunnel");
        assert_eq!(open("github.com", 22), "port 22 is not in tunnel.ports");
        assert_eq!(open("registry-1.docker.io", 80), "port 80 is not in tunnel.ports");
    }

    #[test]
    fn hosts_are_globs_and_none_refuses_all_but_registries() {
        let some = |host| decide(&["*.example.com", "10.*"], &[443], host, 443);
        assert_eq!(some("a.b.example.com"), "tunnel");
        assert_eq!(some("10.0.0.1"), "tunnel");
        assert_eq!(some("example.com"), "example.com is no configured registry and not in tunnel.hosts");
        let none = |host| decide(&[], &[443], host, 443);
        assert_eq!(none("github.com"), "github.com is no configured registry and not in tunnel.hosts");
        assert_eq!(none("eu.pkg.dev"), "eu.pkg.dev at https://eu.pkg.dev Registry by https");
    }
}
