//! Dialling: the only way out of the process.
//!
//! 1. Fixed addresses of the configuration, else the resolver.
//! 2. Addresses of seawall itself are dropped: a loop.
//! 3. Unless the operator wrote the host down, addresses of forbidden networks are dropped: see `policy::guard`.
//! 4. What is left is dialled, IPv6 and IPv4 side by side (RFC 8305). Nothing is resolved twice.

use std::collections::HashMap;
use std::error::Error;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::dial_error::chain;
pub use super::dial_error::{DialError, Phase, dial_error};
pub use super::own::OwnAddresses;
use super::resolve::Resolver;
use super::{Fixed, Settings};
use crate::http::origin::{Host, Scheme, parse_authority};
use crate::policy::guard::{self, Network};
use crate::policy::registry::Registry;

/// Who named the host that is to be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator: wherever it is, it is meant.
    Configured,
    /// A client, a redirect or a token realm.
    Open,
}

/// Dials. Clones share one resolver and its answers.
#[derive(Clone, Debug)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resolver: Resolver,
    own: OwnAddresses,
    fixed: HashMap<Host, Fixed>,
    deny: Vec<Network>,
    connect_timeout: Duration,
    idle_timeout: Duration,
}

impl Dialer {
    /// Dials as `settings` say, and never to `own`.
    ///
    /// # Errors
    /// The name servers cannot be used.
    pub fn new(settings: &Settings, own: OwnAddresses) -> io::Result<Dialer> {
        Ok(Dialer(Arc::new(Inner {
            resolver: Resolver::new(&settings.nameservers)?,
            own,
            fixed: settings.hosts.clone(),
            deny: settings.deny_networks.clone(),
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
        })))
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.0.connect_timeout
    }

    /// A connection to `host`, named by whom `trust` says.
    ///
    /// # Errors
    /// See [`DialError`]; after `connect_timeout` in any case.
    pub async fn dial(&self, host: &Host, port: u16, trust: Trust) -> Result<TcpStream, DialError> {
        let after = self.0.connect_timeout;
        let dialling = async {
            let addresses = self.permitted(host, port, trust).await?;
            self.connect(host, addresses).await
        };
        let timed_out = || DialError::Timeout { host: host.to_string(), phase: Phase::Connect, after };
        tokio::time::timeout(after, dialling).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Where `host` is, and may be dialled.
    async fn permitted(&self, host: &Host, port: u16, trust: Trust) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(fixed) = self.0.fixed.get(host) {
            let address = SocketAddr::new(fixed.ip, fixed.port.unwrap_or(port));
            return self.permit(host, vec![address], Trust::Configured);
        }
        let ips = match host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => {
                let found = self.0.resolver.lookup(name).await;
                found.map_err(|source| DialError::Resolve { host: host.to_string(), source })?
            }
        };
        self.permit(host, ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(), trust)
    }

    /// Drops what must not be dialled. The first reason is told where nothing is left.
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

    fn check(&self, host: &Host, address: SocketAddr, trust: Trust) -> Result<(), DialError> {
        let host = || host.to_string();
        if self.0.own.contains(address) {
            return Err(DialError::Loop { host: host(), address });
        }
        match trust {
            Trust::Configured => Ok(()),
            Trust::Open => {
                guard::check(address.ip(), &self.0.deny).map_err(|refusal| DialError::Refused { host: host(), refusal })
            }
        }
    }

    async fn connect(&self, host: &Host, addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
        let mut connector = HttpConnector::new_with_resolver(Known(addresses));
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.0.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE / 3));
        connector.set_keepalive_retries(Some(3));
        connector.set_tcp_user_timeout(Some(self.0.idle_timeout));
        // No port: the one of each address holds. The name is not looked at: `Known` has the answer.
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

/// A resolver that has been asked already.
#[derive(Clone, Debug)]
struct Known(Vec<SocketAddr>);

impl Service<Name> for Known {
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

/// Dials what hyper's client asks for on behalf of one registry: its own hosts are the operator's word, others are not.
#[derive(Clone, Debug)]
pub struct Connector {
    dialer: Dialer,
    registry: Arc<Registry>,
}

impl Connector {
    /// For the requests of `registry`.
    pub fn new(dialer: Dialer, registry: Arc<Registry>) -> Connector {
        Connector { dialer, registry }
    }

    fn trust(&self, scheme: Scheme, host: &Host, port: u16) -> Trust {
        let upstream = self.registry.upstream.as_ref();
        let is_upstream = upstream.is_some_and(|u| u.scheme == scheme && u.host == *host && u.port == port);
        let mut patterns = self.registry.hosts.iter().chain(&self.registry.auth_hosts);
        if is_upstream || patterns.any(|pattern| pattern.matches(host, port, scheme.default_port())) {
            Trust::Configured
        } else {
            Trust::Open
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let scheme = if uri.scheme() == Some(&http::uri::Scheme::HTTP) { Scheme::Http } else { Scheme::Https };
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let (host, port) = parse_authority(authority, scheme.default_port())
                .ok_or_else(|| DialError::NoHost(authority.to_owned()))?;
            let trust = this.trust(scheme, &host, port);
            this.dialer.dial(&host, port, trust).await.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use tokio::net::TcpListener;

    fn settings() -> Settings {
        Settings {
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(5),
            resolve_deadline: Duration::from_secs(2),
            nameservers: Vec::new(),
            hosts: HashMap::new(),
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

    fn registry(upstream: &str) -> Arc<Registry> {
        Arc::new(Registry {
            name: "lab".into(),
            hosts: vec!["lab".parse().unwrap(), "*.lab.example".parse().unwrap()],
            auth_hosts: vec!["auth.lab.example:8443".parse().unwrap()],
            upstream: Some(Origin::from_url(upstream).unwrap().0),
            ..Registry::default()
        })
    }

    #[test]
    fn a_registry_is_trusted_with_its_own_hosts_only() {
        let connector = Connector::new(dialer(&settings()), registry("https://real.example:444"));
        let trust = |name, port| connector.trust(Scheme::Https, &host(name), port);
        for (name, port) in [("real.example", 444), ("lab", 443), ("eu.lab.example", 443), ("auth.lab.example", 8443)] {
            assert_eq!(trust(name, port), Trust::Configured, "{name}:{port}");
        }
        for (name, port) in [("real.example", 443), ("lab", 22), ("127.0.0.1", 443), ("cdn.example", 443)] {
            assert_eq!(trust(name, port), Trust::Open, "{name}:{port}");
        }
    }

    type Body = http_body_util::Empty<bytes::Bytes>;

    /// What hyper's client makes of asking for `url` on behalf of a registry at `upstream`.
    async fn ask(upstream: &str, url: &str, connect_timeout: Duration) -> hyper_util::client::legacy::Error {
        use crate::upstream::tls::{Protocols, https_connector, tls_config};
        let dialer = dialer(&Settings { connect_timeout, ..settings() });
        let tls = tls_config(None, None).unwrap();
        let connector = https_connector(dialer, registry(upstream), tls, Protocols::H2AndH1);
        let executor = hyper_util::rt::TokioExecutor::new();
        let client = hyper_util::client::legacy::Client::builder(executor).build::<_, Body>(connector);
        client.get(url.parse().unwrap()).await.unwrap_err()
    }

    #[tokio::test]
    async fn the_reason_is_found_in_the_error_of_hypers_client() {
        let patience = Duration::from_secs(5);
        let (listener, port) = listener().await;
        let url = format!("http://127.0.0.1:{port}");
        let error = ask("https://lab", &url, patience).await;
        assert!(matches!(dial_error(&error), Some(DialError::Refused { .. })), "{error:?}");
        drop(listener);
        let error = ask(&url, &url, patience).await;
        assert!(matches!(dial_error(&error), Some(DialError::Connect { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_stalls_or_is_none_fails() {
        let (listener, port) = listener().await;
        let url = format!("https://127.0.0.1:{port}");
        let stalled = ask(&url, &url, Duration::from_millis(50)).await;
        let reason = dial_error(&stalled).unwrap();
        assert!(matches!(reason, DialError::Timeout { phase: Phase::Tls, .. }), "{reason}");
        let answer = async {
            use tokio::io::AsyncWriteExt;
            drop(listener.accept().await.unwrap());
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            socket
        };
        let (plain, _socket) = tokio::join!(ask(&url, &url, Duration::from_secs(5)), answer);
        let reason = dial_error(&plain).unwrap();
        assert!(matches!(reason, DialError::Tls { .. }), "{reason}");
    }
}
