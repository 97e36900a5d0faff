//! Finds names of registries that lead back to seawall. Where DNS is overridden, and seawall asks
//! the resolver that is overridden, it would ask itself for ever.
//!
//! 1. Every host that is dialled for a registry is resolved as it would be for a pull; nothing else
//!    is looked up.
//! 2. An address is seawall's own if it listens there. Behind a redirect of ports or a balancer it
//!    does not: so those of this machine and of private networks are shown a ClientHello. Who
//!    answers with a certificate of seawall's own root is a seawall: this one if it knows a request
//!    of this process (`Via`), else another before the registry, which is as it should be.
//! 3. What was found is logged, and is not dialled for that host: see [`OwnAddresses`](super::own).
//!    It is looked at again every minute as long as there is any.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::Dialer;
use super::error::ADVICE;
use crate::http::origin::{Host, HostPattern, Origin, Scheme};
use crate::http::via::Pseudonym;
use crate::policy::guard::{self, Network};
use crate::policy::registry::{Registries, Registry};

/// Names that are looked up at a time.
const AT_A_TIME: usize = 16;
/// A TCP connection, a TLS handshake and a question within a site.
const PATIENCE: Duration = Duration::from_secs(2);

/// A host of a registry whose addresses are all a seawall's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The registry's name.
    pub registry: Arc<str>,
    /// The host that is dialled for it.
    pub host: Host,
    /// The address that it leads to.
    pub address: SocketAddr,
    /// How it is known that a seawall is there.
    pub evidence: Evidence,
}

/// How it is known that a seawall is at an address. The weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// What answers there has a certificate of this root: this seawall, or another with the same
    /// root before the registry.
    Root,
    /// What answers there recognised a request of this process.
    Signature,
    /// This process listens there, or will.
    Listener,
}

/// Prints one sentence about names that lead to this seawall, and what to do.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a>(pub &'a [Loop]);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, addresses) = listed(self.0);
        let resolve = if self.0.len() == 1 { "resolves" } else { "resolve" };
        write!(f, "{names} {resolve} to me ({addresses}): {ADVICE}")
    }
}

/// Prints one sentence about names that lead to this seawall, or to another one.
#[derive(Clone, Copy, Debug)]
pub struct Doubt<'a>(pub &'a [Loop]);

impl fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, addresses) = listed(self.0);
        write!(f, "{names}: a seawall with this root answers there ({addresses}). If it is not another one: {ADVICE}")
    }
}

fn listed(found: &[Loop]) -> (String, String) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for Loop { registry, host, address, .. } in found {
        let host = host.to_string();
        names.push(if **registry == host { host } else { format!("{registry} ({host})") });
        addresses.push(address.to_string());
    }
    addresses.sort();
    addresses.dedup();
    (names.join(", "), addresses.join(", "))
}

/// Whether others can be led to these listeners by DNS: not where only this machine reaches them,
/// and on a port that no registry has.
pub fn may_be_overridden(listeners: &[SocketAddr]) -> bool {
    listeners.iter().any(|listener| listener.port() == 443 || !listener.ip().to_canonical().is_loopback())
}

/// Looks at every host that is dialled for `registries`; `root_pem` is seawall's own root, if it
/// has one yet. What proves to be this process is not dialled from then on, until it is looked for
/// again. What `enough` cuts off is not known.
pub async fn find(
    dialer: &Dialer,
    registries: &Registries,
    root_pem: Option<&str>,
    enough: impl Future<Output = ()>,
) -> Vec<Loop> {
    let tls = root_pem.and_then(trusting_only);
    let looking = registries.iter().flat_map(origins).map(|(registry, origin)| {
        let tls = tls.as_ref();
        async move { look(dialer, registry, origin, tls).await }.boxed()
    });
    let looking = futures_util::stream::iter(looking.collect::<Vec<_>>()).buffer_unordered(AT_A_TIME);
    let looked: Vec<Looked> = looking.take_until(std::pin::pin!(enough)).collect().await;
    dialer.set_found(looked.iter().flat_map(|looked| looked.proven.iter().cloned()).collect());
    let mut loops: Vec<Loop> = looked.into_iter().filter_map(|looked| looked.is_loop).collect();
    loops.sort_by_cached_key(|found| (found.registry.clone(), found.host.to_string()));
    loops
}

/// What was seen of one host.
struct Looked {
    is_loop: Option<Loop>,
    /// Where it is this process that answers, though it does not listen there.
    proven: Vec<(Host, SocketAddr)>,
}

/// All its addresses; it is a loop if all are a seawall's.
async fn look(dialer: &Dialer, registry: Arc<str>, origin: Origin, tls: Option<&TlsConnector>) -> Looked {
    let (mut proven, mut weakest) = (Vec::new(), Some(Evidence::Listener));
    let found = dialer.resolved(&origin.host, origin.port).await.unwrap_or_default();
    for address in &found {
        let seen = evidence(dialer, &origin, *address, tls).await;
        if seen == Some(Evidence::Signature) {
            proven.push((origin.host.clone(), *address));
        }
        weakest = weakest.and_then(|weakest| Some(weakest.min(seen?)));
        if weakest.is_none() {
            break;
        }
    }
    let is_loop = found.first().zip(weakest).map(|(address, evidence)| Loop {
        registry,
        host: origin.host.clone(),
        address: *address,
        evidence,
    });
    Looked { is_loop, proven }
}

/// How it is known that a seawall is at `address`; `None`: something else is.
async fn evidence(
    dialer: &Dialer,
    origin: &Origin,
    address: SocketAddr,
    tls: Option<&TlsConnector>,
) -> Option<Evidence> {
    if dialer.is_own(address) {
        return Some(Evidence::Listener);
    }
    let tls = tls.filter(|_| origin.scheme == Scheme::Https && is_near(address.ip()))?;
    tokio::time::timeout(PATIENCE, ask(address, origin, tls, dialer.pseudonym())).await.ok()?
}

/// The origins that are dialled for a registry: itself, its token hosts, its other sources.
/// Patterns name none.
fn origins(registry: &Arc<Registry>) -> Vec<(Arc<str>, Origin)> {
    let sources = registry.chain.before.iter().chain(&registry.chain.after).map(|source| source.site.origin.clone());
    let all = registry
        .upstream
        .iter()
        .cloned()
        .chain(registry.auth_hosts.iter().filter_map(HostPattern::origin))
        .chain(sources);
    let mut origins: Vec<(Arc<str>, Origin)> = Vec::new();
    for origin in all {
        if !origins.iter().any(|(_, known)| *known == origin) {
            origins.push((registry.name.clone(), origin));
        }
    }
    origins
}

/// Whether an address is of this site. Registries elsewhere are not asked whether they are seawall.
fn is_near(ip: IpAddr) -> bool {
    guard::check(ip, &[Network::Loopback, Network::LinkLocal, Network::Private]).is_err() || super::own::is_local(ip)
}

/// Asks who answers at `address` with a certificate that seawall's root signed for this very name.
async fn ask(address: SocketAddr, origin: &Origin, tls: &TlsConnector, via: &Pseudonym) -> Option<Evidence> {
    let name = match &origin.host {
        Host::Ip(ip) => ServerName::from(*ip),
        Host::Name(name) => ServerName::try_from(name.to_string()).ok()?,
    };
    let socket = TcpStream::connect(address).await.ok()?;
    let stream = tls.connect(name, socket).await.ok()?;
    let knows_it = recognised(stream, origin, via).await.unwrap_or(false);
    Some(if knows_it { Evidence::Signature } else { Evidence::Root })
}

/// Whether the other side recognises a request of this process. Another seawall at most asks the
/// registry for `/v2/`, which none counts.
async fn recognised(stream: TlsStream<TcpStream>, origin: &Origin, via: &Pseudonym) -> Option<bool> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::head("/v2/").header(header::HOST, origin.authority());
    let mut request = request.body(Empty::<Bytes>::new()).ok()?;
    via.sign(request.headers_mut());
    let mut asking = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut asking => response,
        _ = connection => asking.await,
    };
    let response = response.ok()?;
    Some(response.status() == StatusCode::LOOP_DETECTED && via.has_signed(response.headers()))
}

/// TLS that trusts seawall's own root alone.
fn trusting_only(root_pem: &str) -> Option<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).ok()?).ok()?;
    let provider = crate::tls::provider();
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::chain::{Chain, Missing, Source, Tags};
    use crate::policy::registry::Site;

    fn looped(registry: &str, host: &str) -> Loop {
        let (host, address) = (host.parse().unwrap(), "10.0.0.5:443".parse().unwrap());
        Loop { registry: registry.into(), host, address, evidence: Evidence::Listener }
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
        let origins = origins(&Arc::new(registry));
        let origins: Vec<_> = origins.iter().map(|(_, origin)| origin.to_string()).collect();
        assert_eq!(origins, ["https://real.example:444", "https://auth.example:8443", "https://mirror.example"]);
    }
}
