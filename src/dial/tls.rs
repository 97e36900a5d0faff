//! TLS to upstreams: which roots it trusts, and which certificate it shows.

use std::sync::{Arc, LazyLock};

use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

use crate::policy::client_certificate::ClientCertificate;

/// Why roots, or a client certificate, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The roots are no PEM text.
    #[error("the roots are not PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// The roots are a PEM text without a certificate.
    #[error("there is no certificate in the roots")]
    Empty,
    /// The file of a client certificate has none.
    #[error("there is no certificate (-----BEGIN CERTIFICATE-----) in it")]
    NoCertificate,
    /// The file of a client's key has none.
    #[error("there is no private key (-----BEGIN PRIVATE KEY-----) in it")]
    NoKey,
    /// The key needs a passphrase.
    #[error(
        "its private key is encrypted, and seawall has no passphrase: `openssl pkey -in KEY -out PLAIN` decrypts it"
    )]
    EncryptedKey,
    /// The key is another certificate's.
    #[error("the private key is not the certificate's")]
    Mismatch,
    /// A certificate that cannot be a root, or a provider without the protocol versions.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
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

/// A configuration that trusts the system's roots and those in the PEM texts, and shows `client` to
/// servers that ask. TLS 1.2 is the least.
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

/// Reads a client certificate and its key, and checks that they belong together.
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
