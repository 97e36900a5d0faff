//! What hyper's client connects by: TCP and TLS on behalf of one registry, whose own hosts are
//! trusted, while others are guarded.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tower_service::Service;

use super::connect::{Dialer, Trust};
use super::error::{DialError, Phase};
use super::stream::Stream;
use crate::http::origin::{Host, Scheme, parse_authority};
use crate::policy::registry::Registry;

/// What a connection offers in ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, else HTTP/1.1.
    H2AndH1,
    /// HTTP/1.1 alone: a TCP connection for each transfer.
    H1,
}

/// Dials on behalf of one registry: its own hosts are named by the operator, others are not.
#[derive(Clone, Debug)]
pub struct Connector {
    dialer: Dialer,
    registry: Arc<Registry>,
}

impl Connector {
    /// A connector for the requests of `registry`.
    pub fn new(dialer: Dialer, registry: Arc<Registry>) -> Connector {
        Connector { dialer, registry }
    }

    /// Whether the host of `uri` is the registry, or its token service: not merely where one of
    /// them leads.
    pub(crate) fn is_own(&self, uri: &Uri) -> bool {
        origin(uri).is_ok_and(|(scheme, host, port)| self.registry.is_own(scheme, &host, port))
    }

    fn trust(&self, scheme: Scheme, host: &Host, port: u16) -> Trust {
        if self.registry.is_named(scheme, host, port) { Trust::Configured } else { Trust::Open }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (scheme, host, port) = origin(&uri)?;
            let trust = this.trust(scheme, &host, port);
            this.dialer.dial(&host, port, trust).await.map(TokioIo::new)
        })
    }
}

/// Connects hyper's client to `registry` and to what it refers to, in the clear or over TLS by the
/// URL's scheme: to the registry's own hosts with `own`, to others with `others`. Neither may name
/// protocols of its own.
pub fn https_connector(
    dialer: Dialer,
    registry: Arc<Registry>,
    own: ClientConfig,
    others: ClientConfig,
    alpn: Protocols,
) -> Https {
    let patience = dialer.connect_timeout();
    let connector = Connector::new(dialer, registry);
    let wrap = |mut tls: ClientConfig| match alpn {
        Protocols::H2AndH1 => {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
            builder.enable_all_versions().wrap_connector(connector.clone())
        }
        // The builder would name none, and who speaks h2 alone would not say so.
        Protocols::H1 => {
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            HttpsConnector::from((connector.clone(), tls))
        }
    };
    Https { own: wrap(own), others: wrap(others), connector, patience }
}

/// A connector whose handshakes end, and whose errors are [`DialError`]s all. hyper's pool keeps
/// connections by scheme, host and port, so none that showed a certificate is used for another
/// host.
#[derive(Clone, Debug)]
pub struct Https {
    own: HttpsConnector<Connector>,
    others: HttpsConnector<Connector>,
    connector: Connector,
    patience: Duration,
}

impl Service<Uri> for Https {
    type Response = MaybeHttpsStream<TokioIo<Stream>>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        // All alike: a `Connector` is always ready.
        self.own.poll_ready(cx).map_err(|error| tls_error(String::new(), error))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = if self.connector.is_own(&uri) { self.own.call(uri) } else { self.others.call(uri) };
        // The dialer keeps its own time and is the first to give up; what is left when twice that
        // has passed is TLS.
        let patience = self.patience;
        Box::pin(async move {
            match tokio::time::timeout(patience * 2, connecting).await {
                Ok(connected) => connected.map_err(|error| tls_error(host, error)),
                Err(_) => Err(DialError::Timeout { host, phase: Phase::Tls, after: patience }),
            }
        })
    }
}

/// What the dialer said, else it is TLS that failed.
fn tls_error(host: String, error: Box<dyn std::error::Error + Send + Sync>) -> DialError {
    match error.downcast::<DialError>() {
        Ok(dial) => *dial,
        Err(source) => DialError::Tls { host, source },
    }
}

fn origin(uri: &Uri) -> Result<(Scheme, Host, u16), DialError> {
    let scheme = if uri.scheme() == Some(&http::uri::Scheme::HTTP) { Scheme::Http } else { Scheme::Https };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (host, port) =
        parse_authority(authority, scheme.default_port()).ok_or_else(|| DialError::NoHost(authority.to_owned()))?;
    Ok((scheme, host, port))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use tokio::net::TcpListener;

    use super::*;
    use crate::dial::error::dial_error;
    use crate::dial::own::OwnAddresses;
    use crate::dial::settings::Settings;
    use crate::http::origin::Origin;
    use crate::policy::guard::Network;

    fn dialer(connect_timeout: Duration) -> Dialer {
        let settings = Settings {
            ca_pem: None,
            connect_timeout,
            idle_timeout: Duration::from_secs(5),
            upload_timeout: Duration::MAX,
            resolve_deadline: Duration::from_secs(2),
            nameservers: Vec::new(),
            hosts: HashMap::new(),
            proxy: None,
            deny_networks: vec![Network::Loopback],
        };
        Dialer::new(&settings, OwnAddresses::new()).unwrap()
    }

    fn host(text: &str) -> Host {
        text.parse().unwrap()
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn registry(upstream: &str) -> Arc<Registry> {
        Arc::new(Registry {
            name: "lab".into(),
            hosts: vec!["lab".parse().unwrap(), "*.lab.example".parse().unwrap()],
            auth_hosts: vec!["auth.lab.example:8443".parse().unwrap()],
            realms: vec!["login.example".parse().unwrap()],
            upstream: Some(Origin::from_url(upstream).unwrap().0),
            ..Registry::default()
        })
    }

    #[test]
    fn a_registry_is_trusted_with_its_own_hosts_only() {
        let connector = Connector::new(dialer(Duration::from_secs(5)), registry("https://real.example:444"));
        let trust = |name, port| connector.trust(Scheme::Https, &host(name), port);
        for (name, port) in [("real.example", 444), ("lab", 443), ("eu.lab.example", 443), ("auth.lab.example", 8443)] {
            assert_eq!(trust(name, port), Trust::Configured, "{name}:{port}");
        }
        assert_eq!(trust("login.example", 443), Trust::Configured);
        let own = |uri: &str| connector.is_own(&uri.parse().unwrap());
        assert!(own("https://real.example:444/x") && own("https://auth.lab.example:8443/token") && own("https://lab/"));
        assert!(!own("https://login.example/token") && !own("https://cdn.example/x") && !own("/x"));
        for (name, port) in [("real.example", 443), ("lab", 22), ("127.0.0.1", 443), ("cdn.example", 443)] {
            assert_eq!(trust(name, port), Trust::Open, "{name}:{port}");
        }
    }

    type Body = http_body_util::Empty<bytes::Bytes>;

    /// What hyper's client makes of asking for `url` on behalf of a registry at `upstream`.
    async fn ask(upstream: &str, url: &str, connect_timeout: Duration) -> hyper_util::client::legacy::Error {
        use crate::dial::tls::tls_config;
        let dialer = dialer(connect_timeout);
        let tls = tls_config(None, None, None).unwrap();
        let connector = https_connector(dialer, registry(upstream), tls.clone(), tls, Protocols::H2AndH1);
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
