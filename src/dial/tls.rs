//! TLS to upstreams: whom it trusts, which HTTP it offers, how long it may take.

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tower_service::Service;
use tracing::warn;

use super::connect::Dialer;
use super::connector::Connector;
use super::error::{DialError, Phase};
use super::stream::Stream;
use crate::policy::client_certificate::ClientCertificate;
use crate::policy::registry::Registry;

/// Roots that are no certificates, or a client certificate that is none.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("the roots are not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// PEM without a certificate in it.
    #[error("there is no certificate in the roots")]
    Empty,
    /// A client certificate without a certificate.
    #[error("there is no certificate (-----BEGIN CERTIFICATE-----) in it")]
    NoCertificate,
    /// A client certificate without a key.
    #[error("there is no private key (-----BEGIN PRIVATE KEY-----) in it")]
    NoKey,
    /// A key that nobody could type the passphrase of.
    #[error(
        "its private key is encrypted, and seawall has no passphrase: `openssl pkey -in KEY -out PLAIN` decrypts it"
    )]
    EncryptedKey,
    /// A key and a certificate that are strangers.
    #[error("the private key is not the certificate's")]
    Mismatch,
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

/// Trusts the system's roots and those in the PEM texts given, and shows `client` to servers that ask. TLS 1.2 is the least.
///
/// # Errors
/// A PEM text has no certificate, or one that cannot be a root; the client's cannot be used.
pub fn tls_config(
    global_ca: Option<&[u8]>,
    registry_ca: Option<&[u8]>,
    client: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsError> {
    let mut roots = SYSTEM.clone();
    for pem in [global_ca, registry_ca].into_iter().flatten() {
        add_roots(&mut roots, pem)?;
    }
    let builder = ClientConfig::builder_with_provider(crate::tls::provider()).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    Ok(match client {
        Some(client) => {
            let ours = rustls::sign::SingleCertAndKey::from(certified(client)?);
            builder.with_client_cert_resolver(Arc::new(ours))
        }
        None => builder.with_no_client_auth(),
    })
}

/// Reads a client certificate and its key, and holds them together.
///
/// # Errors
/// What of them cannot be used.
pub fn certified(client: &ClientCertificate) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&client.chain_pem).collect::<Result<_, _>>()?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    // PKCS#8's label, and the header of the older kinds (RFC 1421).
    if client.key_pem.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(TlsError::EncryptedKey);
    }
    let key = PrivateKeyDer::from_pem_slice(&client.key_pem).map_err(|_| TlsError::NoKey)?;
    CertifiedKey::from_der(chain, key, &crate::tls::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        other => TlsError::Rustls(other),
    })
}

fn add_roots(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), TlsError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    if roots.len() == before { Err(TlsError::Empty) } else { Ok(()) }
}

/// Connects hyper's client to `registry` and to what it refers to, in the clear or over TLS by the URL's scheme: to the
/// registry's own hosts with `own`, to others with `others`. Neither may name protocols of its own.
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

/// A connector whose handshakes end, and whose errors are [`DialError`]s all. hyper's pool keeps connections by scheme, host
/// and port, so none that showed a certificate is used for another host.
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
        assert!(tls_config(Some(root().as_bytes()), None, None).unwrap().alpn_protocols.is_empty());
        assert!(matches!(tls_config(Some(b""), None, None), Err(TlsError::Empty)));
        assert!(matches!(tls_config(None, Some(b"-----BEGIN CERTIFICATE-----\n!"), None), Err(TlsError::Pem(_))));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(tls_config(None, Some(broken.as_bytes()), None), Err(TlsError::Rustls(_))));
    }

    /// A certificate and its key, PEM.
    fn leaf() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["seawall.corp".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let (chain, key) = leaf();
        let read = |chain: &str, key: &str| {
            let pem = |text: &str| zeroize::Zeroizing::new(text.as_bytes().to_vec());
            let client = ClientCertificate { chain_pem: pem(chain), key_pem: pem(key) };
            assert_eq!(format!("{client:?}"), "ClientCertificate");
            certified(&client).map(|_| ())
        };
        read(&chain, &key).unwrap();
        read(&format!("{key}{chain}"), &format!("{chain}{key}")).unwrap();
        assert!(matches!(read(&chain, &leaf().1), Err(TlsError::Mismatch)));
        assert!(matches!(read(&key, &key), Err(TlsError::NoCertificate)));
        assert!(matches!(read(&chain, &chain), Err(TlsError::NoKey)));
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert!(matches!(read(&chain, &encrypted), Err(TlsError::EncryptedKey)));
        let older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(matches!(read(&chain, older), Err(TlsError::EncryptedKey)));
    }
}
