//! TLS to upstreams: whom it trusts, which HTTP it offers, how long it may take.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::warn;

use super::connect::{Connector, DialError, Dialer, Phase};
use crate::policy::registry::Registry;

/// Roots that are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("the roots are not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// PEM without a certificate in it.
    #[error("there is no certificate in the roots")]
    Empty,
    /// A certificate that cannot be a root, or a provider without the protocol versions.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// What a connection offers in ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2, else HTTP/1.1.
    H2AndH1,
    /// HTTP/1.1 alone: a TCP connection for each transfer.
    H1,
}

/// The system's roots, or Mozilla's where it has none (a scratch image). Read once.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(%error, "a root of the system is left out");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
});

/// Trusts the system's roots and those in the PEM texts given.
///
/// # Errors
/// A PEM text has no certificate, or one that cannot be a root.
pub fn tls_config(global_ca: Option<&[u8]>, registry_ca: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let mut roots = SYSTEM.clone();
    for pem in [global_ca, registry_ca].into_iter().flatten() {
        add_roots(&mut roots, pem)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn add_roots(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), TlsError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    if roots.len() == before { Err(TlsError::Empty) } else { Ok(()) }
}

/// Connects hyper's client to `registry` and to what it refers to, in the clear or over TLS by the URL's scheme. `tls` must
/// not name protocols of its own.
pub fn https_connector(dialer: Dialer, registry: Arc<Registry>, tls: ClientConfig, alpn: Protocols) -> Https {
    let patience = dialer.connect_timeout();
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let connector = Connector::new(dialer, registry);
    let inner = match alpn {
        Protocols::H2AndH1 => builder.enable_all_versions().wrap_connector(connector),
        Protocols::H1 => builder.enable_http1().wrap_connector(connector),
    };
    Https { inner, patience }
}

/// A connector whose handshakes end, and whose errors are [`DialError`]s all.
#[derive(Clone, Debug)]
pub struct Https {
    inner: HttpsConnector<Connector>,
    patience: Duration,
}

impl Service<Uri> for Https {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        self.inner.poll_ready(cx).map_err(|error| tls_error(String::new(), error))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.inner.call(uri);
        // The dialer keeps its own time and is the first to give up; what is left when twice that has passed is TLS.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn roots_are_added_and_bad_ones_are_told() {
        let mut roots = RootCertStore::empty();
        add_roots(&mut roots, format!("{}{}", root(), root()).as_bytes()).unwrap();
        assert_eq!(roots.len(), 2);
        assert!(tls_config(Some(root().as_bytes()), None).unwrap().alpn_protocols.is_empty());
        assert!(matches!(tls_config(Some(b""), None), Err(TlsError::Empty)));
        assert!(matches!(tls_config(None, Some(b"-----BEGIN CERTIFICATE-----\n!")), Err(TlsError::Pem(_))));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(tls_config(None, Some(broken.as_bytes())), Err(TlsError::Rustls(_))));
    }
}
