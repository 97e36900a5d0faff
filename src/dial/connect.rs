//! Dialling: the only way out of the process.
//!
//! 1. Fixed addresses of the configuration, else the parent proxy if there is one for this host,
//!    else the resolver.
//! 2. Addresses of seawall itself are dropped: a loop.
//! 3. Unless the operator wrote the host down, addresses of forbidden networks are dropped: see
//!    `policy::guard`. Of a name that the parent resolves, the name is all that can be looked at.
//! 4. What is left is dialled, IPv6 and IPv4 side by side (RFC 8305), or asked for. Nothing is
//!    resolved twice.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::error::{DialError, Phase, chain};
use super::own::OwnAddresses;
use super::parent::{self, Parent};
use super::resolve::Resolver;
use super::settings::{Fixed, Settings};
use super::stream::Stream;
use crate::http::origin::Host;
use crate::http::via::Pseudonym;
use crate::policy::guard::{self, Network};

/// Who named the host that is to be dialled: the guard checks some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator: any address is meant.
    Configured,
    /// A client, a redirect or a token realm.
    Open,
}

/// Dials. Clones share one resolver and its answers.
#[derive(Clone, Debug)]
pub struct Dialer(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    resolver: Resolver,
    own: OwnAddresses,
    via: Pseudonym,
    fixed: HashMap<Host, Fixed>,
    parent: Option<(Parent, Option<Arc<rustls::ClientConfig>>)>,
    deny: Vec<Network>,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

impl Dialer {
    /// Dials as `settings` say, and never to `own`.
    ///
    /// # Errors
    /// The name servers cannot be used, or TLS to the parent proxy cannot be configured.
    pub fn new(settings: &Settings, own: OwnAddresses) -> io::Result<Dialer> {
        let parent = settings.proxy.as_ref().map(|parent| {
            let tls = parent::tls(parent, settings.ca_pem.as_deref()).map_err(io::Error::other)?;
            Ok::<_, io::Error>((parent.clone(), tls))
        });
        Ok(Dialer(Arc::new(Inner {
            resolver: Resolver::new(&settings.nameservers, settings.ca_pem.as_deref())?,
            own,
            via: Pseudonym::random(),
            fixed: settings.hosts.clone(),
            parent: parent.transpose()?,
            deny: settings.deny_networks.clone(),
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
        })))
    }

    /// The same, for hosts that clients name as they like: the look-ups of those keep none of a registry's
    /// waiting.
    #[must_use]
    pub fn apart(&self) -> Dialer {
        Dialer(Arc::new(Inner { resolver: self.0.resolver.apart(), ..Inner::clone(&self.0) }))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.0.connect_timeout
    }

    /// A connection to `host`.
    ///
    /// # Errors
    /// See [`DialError`]; after `connect_timeout` in any case.
    pub async fn dial(&self, host: &Host, port: u16, trust: Trust) -> Result<Stream, DialError> {
        let after = self.0.connect_timeout;
        let parent = self.parent_for(host, port);
        let dialling = async {
            match parent {
                Some((parent, tls)) => self.through(parent, tls.as_ref(), host, port, trust).await,
                None => {
                    let addresses = self.permitted(host, port, trust).await?;
                    self.connect(host, addresses).await.map(Stream::from)
                }
            }
        };
        let timed_out = || match parent {
            Some((parent, _)) => DialError::Timeout { host: parent.to_string(), phase: Phase::Parent, after },
            None => DialError::Timeout { host: host.to_string(), phase: Phase::Connect, after },
        };
        tokio::time::timeout(after, dialling).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// The parent proxy, unless `host` is dialled from here.
    fn parent_for(&self, host: &Host, port: u16) -> Option<&(Parent, Option<Arc<rustls::ClientConfig>>)> {
        let parent = self.0.parent.as_ref()?;
        let is_direct = self.0.fixed.contains_key(host) || parent.0.no_proxy.matches(host, port);
        (!is_direct).then_some(parent)
    }

    /// A connection to `host` by way of the parent proxy.
    async fn through(
        &self,
        parent: &Parent,
        tls: Option<&Arc<rustls::ClientConfig>>,
        host: &Host,
        port: u16,
        trust: Trust,
    ) -> Result<Stream, DialError> {
        let wanted = match host {
            Host::Name(_) if parent.protocol.resolves_here() => {
                let found = self.permitted(host, port, trust).await?;
                found.into_iter().map(|address| Host::from(address.ip())).collect()
            }
            Host::Name(name) => {
                self.check_name(host, name, trust)?;
                vec![host.clone()]
            }
            Host::Ip(ip) => {
                self.check(host, SocketAddr::new(*ip, port), trust)?;
                vec![host.clone()]
            }
        };
        let mut first = None;
        for host in wanted {
            let socket = self.to_parent(parent).await?;
            match parent.open(socket, tls, &self.0.via, &host, port).await {
                Ok(stream) => return Ok(stream),
                Err(source) => first = first.or(Some(DialError::Parent { parent: parent.to_string(), source })),
            }
        }
        Err(first.unwrap_or_else(|| DialError::NoHost(host.to_string())))
    }

    async fn to_parent(&self, parent: &Parent) -> Result<TcpStream, DialError> {
        let unreachable =
            |source| DialError::ParentUnreachable { parent: parent.to_string(), source: Box::new(source) };
        let addresses = self.permitted(&parent.host, parent.port, Trust::Configured).await.map_err(unreachable)?;
        self.connect(&parent.host, addresses).await.map_err(unreachable)
    }

    /// The addresses of `host` that may be dialled.
    async fn permitted(&self, host: &Host, port: u16, trust: Trust) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(fixed) = self.0.fixed.get(host) {
            let address = SocketAddr::new(fixed.ip, fixed.port.unwrap_or(port));
            return self.permit(host, vec![address], Trust::Configured);
        }
        let ips = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => {
                self.check_name(host, name, trust)?;
                let found = self.0.resolver.lookup(name).await;
                found.map_err(|source| DialError::Resolve { host: host.to_string(), source })?
            }
        };
        self.permit(host, ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(), trust)
    }

    /// The addresses that may be dialled; where none is left, the reason of the first.
    fn permit(&self, host: &Host, found: Vec<SocketAddr>, trust: Trust) -> Result<Vec<SocketAddr>, DialError> {
        let mut refused = None;
        let mut permitted = Vec::with_capacity(found.len());
        for address in found {
            match self.check(host, address, trust) {
                Ok(()) => permitted.push(address),
                Err(reason) => refused = refused.or(Some(reason)),
            }
        }
        match refused {
            Some(reason) if permitted.is_empty() => Err(reason),
            _ => Ok(permitted),
        }
    }

    fn check_name(&self, host: &Host, name: &str, trust: Trust) -> Result<(), DialError> {
        match trust {
            Trust::Configured => Ok(()),
            Trust::Open => guard::check_name(name, &self.0.deny)
                .map_err(|refusal| DialError::Refused { host: host.to_string(), refusal }),
        }
    }

    /// The addresses of `host`, seawall's own and forbidden ones included. `None`: it cannot be
    /// resolved, or a parent proxy resolves it.
    pub(crate) async fn resolved(&self, host: &Host, port: u16) -> Option<Vec<SocketAddr>> {
        if let Some(fixed) = self.0.fixed.get(host) {
            return Some(vec![SocketAddr::new(fixed.ip, fixed.port.unwrap_or(port))]);
        }
        let looked_up_there = self.parent_for(host, port).is_some_and(|(parent, _)| !parent.protocol.resolves_here());
        match host {
            Host::Ip(ip) => Some(vec![SocketAddr::new(*ip, port)]),
            Host::Name(_) if looked_up_there => None,
            Host::Name(name) => {
                let found =
                    tokio::time::timeout(self.0.connect_timeout, self.0.resolver.lookup(name)).await.ok()?.ok()?;
                Some(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
        }
    }

    /// Whether a connection to `address` comes in at a listener of seawall. A NAT64 beside this
    /// machine brings a translated address back.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        guard::disguises(address.ip()).any(|ip| self.0.own.contains(SocketAddr::new(ip, address.port())))
    }

    /// Replaces the addresses that lead here though no listener has them.
    pub(crate) fn set_found(&self, found: HashSet<(Host, SocketAddr)>) {
        self.0.own.set_found(found);
    }

    /// Signs what this process sends, so that it is recognised when it comes back.
    pub fn pseudonym(&self) -> &Pseudonym {
        &self.0.via
    }

    fn check(&self, host: &Host, address: SocketAddr, trust: Trust) -> Result<(), DialError> {
        if self.is_own(address) || self.0.own.was_found(host, address) {
            return Err(DialError::Loop { host: host.clone(), address });
        }
        let host = || host.to_string();
        match trust {
            Trust::Configured => Ok(()),
            Trust::Open => {
                guard::check(address.ip(), &self.0.deny).map_err(|refusal| DialError::Refused { host: host(), refusal })
            }
        }
    }

    async fn connect(&self, host: &Host, addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
        let mut connector = HttpConnector::new_with_resolver(StaticResolver(addresses));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.0.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE / 3));
        connector.set_keepalive_retries(Some(3));
        connector.set_tcp_user_timeout(Some(self.0.idle_timeout));
        // No port: the one of each address holds. The name is not looked at: `StaticResolver` has
        // the answer.
        let connected = connector.call(Uri::from_static("http://known")).await;
        connected
            .map(TokioIo::into_inner)
            .map_err(|error| DialError::Connect { host: host.to_string(), source: io_cause(&error) })
    }
}

/// A silent connection is probed after this, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The system's answer beneath hyper's "tcp connect error".
fn io_cause(error: &(dyn Error + 'static)) -> io::Error {
    let cause = chain(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(|io| (io.raw_os_error(), io)) {
        Some((Some(code), _)) => io::Error::from_raw_os_error(code),
        Some((None, io)) => io::Error::new(io.kind(), io.to_string()),
        None => io::Error::other(error.to_string()),
    }
}

/// A resolver with the answer at hand.
#[derive(Clone, Debug)]
struct StaticResolver(Vec<SocketAddr>);

impl Service<Name> for StaticResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn settings() -> Settings {
        Settings {
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            upload_timeout: Duration::MAX,
            resolve_deadline: Duration::from_secs(2),
            nameservers: Vec::new(),
            hosts: HashMap::new(),
            proxy: None,
            deny_networks: vec![Network::Loopback],
        }
    }

    fn dialer(settings: &Settings) -> Dialer {
        Dialer::new(settings, OwnAddresses::new()).unwrap()
    }

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn what_a_client_names_is_guarded_and_what_the_operator_wrote_is_not() {
        let (_listener, port) = listener().await;
        let dialer = dialer(&settings());
        for name in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let refused = dialer.dial(&host(name), port, Trust::Open).await.unwrap_err();
            assert!(matches!(refused, DialError::Refused { .. }), "{refused}");
            dialer.dial(&host(name), port, Trust::Configured).await.unwrap();
        }
    }

    #[tokio::test]
    async fn fixed_addresses_are_trusted_as_given_and_their_port_wins() {
        let (_listener, port) = listener().await;
        let ip = [127, 0, 0, 1].into();
        let mut settings = settings();
        settings.hosts.insert(host("with.port"), Fixed { ip, port: Some(port) });
        settings.hosts.insert(host("without.port"), Fixed { ip, port: None });
        let dialer = dialer(&settings);
        dialer.dial(&host("with.port"), 443, Trust::Open).await.unwrap();
        dialer.dial(&host("without.port"), port, Trust::Open).await.unwrap();
    }

    #[tokio::test]
    async fn seawall_never_dials_itself() {
        let (listener, port) = listener().await;
        let own = OwnAddresses::new();
        let mut settings = settings();
        let ip = [127, 0, 0, 1].into();
        settings.hosts.insert(host("ghcr.io"), Fixed { ip, port: Some(port) });
        let dialer = Dialer::new(&settings, own.clone()).unwrap();
        own.add(listener.local_addr().unwrap());
        for name in ["ghcr.io", "127.0.0.1"] {
            let refused = dialer.dial(&host(name), port, Trust::Configured).await.unwrap_err();
            assert!(matches!(refused, DialError::Loop { .. }), "{refused}");
        }
    }

    fn parent(protocol: parent::Protocol, host: &str, port: u16) -> Parent {
        Parent { protocol, host: host.parse().unwrap(), port, credentials: None, no_proxy: Default::default() }
    }

    #[tokio::test]
    async fn the_parent_proxy_is_never_seawall() {
        let (listener, port) = listener().await;
        let own = OwnAddresses::new();
        own.add(listener.local_addr().unwrap());
        for name in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            let settings = Settings { proxy: Some(parent(parent::Protocol::Http, name, port)), ..settings() };
            let dialer = Dialer::new(&settings, own.clone()).unwrap();
            let refused = dialer.dial(&host("ghcr.io"), 443, Trust::Configured).await.unwrap_err().to_string();
            let wanted = format!("the parent proxy {}:{port} is seawall itself", host(name));
            assert!(refused.starts_with(&wanted), "{refused}");
        }
    }

    /// Where the parent resolves names they are not looked up here; everything that can be seen is
    /// looked at.
    #[tokio::test]
    async fn what_is_asked_of_the_parent_is_guarded_too() {
        let closed = listener().await.1;
        let settings = Settings { proxy: Some(parent(parent::Protocol::Http, "127.0.0.1", closed)), ..settings() };
        let own = OwnAddresses::new();
        own.add("198.51.100.7:3128".parse().unwrap());
        let dialer = Dialer::new(&settings, own).unwrap();
        let said = async |name: &str, port, trust| dialer.dial(&host(name), port, trust).await.unwrap_err().to_string();
        let asked = format!("the parent proxy 127.0.0.1:{closed} cannot be reached: Connection refused (os error 111)");
        for (name, trust) in [
            ("no-such-host.invalid", Trust::Open),
            ("no-such-host.invalid", Trust::Configured),
            ("10.0.0.1", Trust::Open),
            ("x.localhost", Trust::Configured),
        ] {
            assert_eq!(said(name, 443, trust).await, asked, "{name}");
        }
        for name in ["x.localhost", "64:ff9b::7f00:1", "0.0.0.0"] {
            let refused = said(name, 443, Trust::Open).await;
            assert!(refused.contains("is refused"), "{refused}");
        }
        for name in ["198.51.100.7", "64:ff9b::c633:6407"] {
            let refused = said(name, 3128, Trust::Configured).await;
            assert!(refused.contains("is seawall itself"), "{refused}");
        }
    }

    #[tokio::test]
    async fn errors_say_what_happened() {
        let (listener, port) = listener().await;
        drop(listener);
        let dialer = dialer(&settings());
        let refused = dialer.dial(&host("127.0.0.1"), port, Trust::Configured).await.unwrap_err();
        assert_eq!(refused.to_string(), "127.0.0.1 cannot be reached: Connection refused (os error 111)");
        let unknown = dialer.dial(&host("no-such-host.invalid"), port, Trust::Open).await.unwrap_err();
        assert!(matches!(unknown, DialError::Resolve { .. }), "{unknown}");
    }
}
