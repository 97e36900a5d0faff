//! Do the names of registries lead back here? Where DNS is overridden, and seawall asks the resolver that is overridden, it would
//! ask itself for ever.
//!
//! 1. Every host that is dialled for a registry is resolved as it would be for a pull; nobody is asked anything else.
//! 2. An address is seawall's own if it listens there. Behind a redirect of ports or a balancer it does not: so those of this machine
//!    and of private networks are shown a ClientHello, and who answers with a certificate of seawall's own root is seawall.
//! 3. What was found is said, and is dialled no more: see [`OwnAddresses`](super::own).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connect::Dialer;
use crate::http::origin::{Host, HostPattern, Origin, Scheme};
use crate::policy::guard::{self, Network};
use crate::policy::registry::{Registries, Registry};

/// What to do about it.
pub(super) const ADVICE: &str =
    "set upstream.nameservers to a resolver that is not overridden, or upstream.hosts to true addresses";

/// Names that are looked up at a time.
const AT_A_TIME: usize = 8;
/// A TCP connection and a TLS handshake within a site.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hosts of a registry whose addresses are all seawall's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The registry's name.
    pub registry: Arc<str>,
    /// The host that is dialled for it.
    pub host: Host,
    /// Where it leads.
    pub address: SocketAddr,
}

/// Prints one sentence for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a>(pub &'a [Loop]);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for Loop { registry, host, address } in self.0 {
            let host = host.to_string();
            names.push(if **registry == host { host } else { format!("{registry} ({host})") });
            addresses.push(address.to_string());
        }
        addresses.sort();
        addresses.dedup();
        let resolve = if self.0.len() == 1 { "resolves" } else { "resolve" };
        write!(f, "{} {resolve} to me ({}): {ADVICE}", names.join(", "), addresses.join(", "))
    }
}

/// Whether others can be led to these listeners by DNS: not where only this machine reaches them, and on a port that no registry has.
pub fn may_be_overridden(listeners: &[SocketAddr]) -> bool {
    listeners.iter().any(|listener| listener.port() == 443 || !listener.ip().to_canonical().is_loopback())
}

/// Looks at every host that is dialled for `registries`; `root_pem` is seawall's own root, if it has one yet.
pub async fn find(dialer: &Dialer, registries: &Registries, root_pem: Option<&str>) -> Vec<Loop> {
    let tls = root_pem.and_then(trusting_only);
    let places: Vec<_> = registries.iter().flat_map(places).collect();
    let looking = places.into_iter().map(|(registry, origin)| look(dialer, registry, origin, tls.as_ref()).boxed());
    let found: Vec<_> = futures_util::stream::iter(looking.collect::<Vec<_>>()).buffered(AT_A_TIME).collect().await;
    found.into_iter().flatten().collect()
}

async fn look(dialer: &Dialer, registry: Arc<str>, origin: Origin, tls: Option<&TlsConnector>) -> Option<Loop> {
    let address = leads_here(dialer, &origin, tls).await?;
    Some(Loop { registry, host: origin.host, address })
}

/// What is dialled for a registry: itself, its token hosts, its other sources; patterns are no places.
fn places(registry: &Arc<Registry>) -> Vec<(Arc<str>, Origin)> {
    let scheme = registry.scheme();
    let pattern = |pattern: &HostPattern| {
        let host = (!pattern.is_wildcard()).then(|| pattern.host().parse().ok()).flatten()?;
        Some(Origin { scheme, host, port: pattern.port().unwrap_or(scheme.default_port()) })
    };
    let sources = registry.chain.before.iter().chain(&registry.chain.after).map(|source| source.site.origin.clone());
    let all = registry.upstream.iter().cloned().chain(registry.auth_hosts.iter().filter_map(pattern)).chain(sources);
    let mut places: Vec<(Arc<str>, Origin)> = Vec::new();
    for origin in all {
        if !places.iter().any(|(_, known)| *known == origin) {
            places.push((registry.name.clone(), origin));
        }
    }
    places
}

/// The first of its addresses, if all are seawall's.
async fn leads_here(dialer: &Dialer, origin: &Origin, tls: Option<&TlsConnector>) -> Option<SocketAddr> {
    let found = dialer.resolved(&origin.host, origin.port).await?;
    for address in &found {
        if dialer.is_own(*address) {
            continue;
        }
        let tls = tls.filter(|_| origin.scheme == Scheme::Https && is_near(address.ip()))?;
        if !shows_our_leaf(*address, &origin.host, tls).await {
            return None;
        }
        dialer.add_own(*address);
    }
    found.first().copied()
}

/// Registries of the world are not: nobody there is bothered.
fn is_near(ip: IpAddr) -> bool {
    guard::check(ip, &[Network::Loopback, Network::LinkLocal, Network::Private]).is_err() || super::own::is_local(ip)
}

/// Whether who answers there has a key that seawall's root signed for this very name.
async fn shows_our_leaf(address: SocketAddr, host: &Host, tls: &TlsConnector) -> bool {
    let name = match host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Name(name) => match ServerName::try_from(name.to_string()) {
            Ok(name) => name,
            Err(_) => return false,
        },
    };
    let shaking = async {
        let socket = TcpStream::connect(address).await.ok()?;
        tls.connect(name, socket).await.ok()
    };
    matches!(tokio::time::timeout(PATIENCE, shaking).await, Ok(Some(_)))
}

/// Believes nobody but seawall.
fn trusting_only(root_pem: &str) -> Option<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).ok()?).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::chain::{Chain, Missing, Source, Tags};
    use crate::policy::registry::Site;

    fn looped(registry: &str, host: &str) -> Loop {
        Loop { registry: registry.into(), host: host.parse().unwrap(), address: "10.0.0.5:443".parse().unwrap() }
    }

    #[test]
    fn it_is_one_sentence_that_says_what_to_do() {
        let hub = looped("docker.io", "registry-1.docker.io");
        assert_eq!(
            Sentence(std::slice::from_ref(&hub)).to_string(),
            "docker.io (registry-1.docker.io) resolves to me (10.0.0.5:443): set upstream.nameservers to a resolver \
             that is not overridden, or upstream.hosts to true addresses"
        );
        let said = Sentence(&[hub, looped("ghcr.io", "ghcr.io")]).to_string();
        assert!(
            said.starts_with("docker.io (registry-1.docker.io), ghcr.io resolve to me (10.0.0.5:443): set "),
            "{said}"
        );
    }

    #[test]
    fn who_can_be_led_here() {
        let may = |listeners: &[&str]| {
            may_be_overridden(&listeners.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
        };
        assert!(!may(&["127.0.0.1:3128", "[::1]:3128"]));
        assert!(may(&["127.0.0.1:3128", "127.0.0.1:443"]) && may(&["0.0.0.0:3128"]) && may(&["10.0.0.5:3128"]));
    }

    #[test]
    fn what_is_dialled_is_looked_at() {
        let at = |url: &str| Origin::from_url(url).unwrap().0;
        let mut registry = Registry {
            name: "lab".into(),
            hosts: vec!["lab.example".parse().unwrap()],
            auth_hosts: vec!["auth.example:8443".parse().unwrap(), "*.lab.example".parse().unwrap()],
            upstream: Some(at("https://real.example:444")),
            ..Registry::default()
        };
        let site =
            Site { registry: Arc::new(registry.clone()), namespace: "x".into(), origin: at("https://mirror.example") };
        let source = Source { site, prefix: None, tags: Tags::Doubted, missing: Missing::Next };
        registry.chain = Chain { before: vec![source.clone()], after: vec![source], ..Chain::default() };
        let places = places(&Arc::new(registry));
        let places: Vec<_> = places.iter().map(|(_, origin)| origin.to_string()).collect();
        assert_eq!(places, ["https://real.example:444", "https://auth.example:8443", "https://mirror.example"]);
    }
}
