//! TLS to seawall itself: the names it has, and the operator's certificate for them, if there is one.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::CaError;
use crate::http::origin::Host;

/// From here on every start says that it ends soon.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// How seawall itself is spoken to over TLS.
#[derive(Clone, Debug, Default)]
pub struct OwnTls {
    /// What clients call it. Empty: nothing is for it that comes over TLS.
    pub names: Vec<Host>,
    /// Instead of a leaf of the root.
    pub certificate: Option<ServerCertificate>,
}

/// A certificate chain with its key. `Debug` shows neither.
#[derive(Clone)]
pub struct ServerCertificate {
    chain: Vec<CertificateDer<'static>>,
    key_pem: Zeroizing<Vec<u8>>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate")
    }
}

/// Why a certificate cannot be shown. Says what to do; never holds a key.
#[derive(Debug, thiserror::Error)]
pub enum ServerCertificateError {
    /// Not PEM, or PEM of something else.
    #[error("it holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// No key in PEM.
    #[error("it holds no private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    /// Nobody could type the passphrase.
    #[error(
        "its private key is encrypted, and seawall has no passphrase: `openssl pkey -in KEY -out PLAIN` decrypts it"
    )]
    Encrypted,
    /// Strangers.
    #[error(
        "the private key is not that of the first certificate: the server's own comes first, then those it is signed by"
    )]
    Mismatch,
    /// A certificate that TLS cannot be spoken with.
    #[error("it cannot be used: {0}")]
    Unusable(String),
    /// It is somebody else's.
    #[error(
        "it is not good for {0}, which `tls.names` has: take it out there, or have a certificate made that names it"
    )]
    NotFor(Host),
}

impl ServerCertificate {
    /// Reads both, and holds them together and against the names. Whether it is in time is another question, of the start.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn read(
        chain_pem: &[u8],
        key_pem: Zeroizing<Vec<u8>>,
        names: &[Host],
    ) -> Result<ServerCertificate, ServerCertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem).collect();
        let chain = chain.map_err(|_| ServerCertificateError::NoCertificate)?;
        let first = chain.first().ok_or(ServerCertificateError::NoCertificate)?;
        let unusable = |error: &dyn fmt::Display| ServerCertificateError::Unusable(error.to_string());
        let (_, facts) = x509_parser::parse_x509_certificate(first).map_err(|error| unusable(&error))?;
        let at = |time: x509_parser::time::ASN1Time| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
        };
        let (not_before, not_after) = (at(facts.validity().not_before), at(facts.validity().not_after));
        let parsed = ParsedCertificate::try_from(first).map_err(|error| unusable(&error))?;
        for name in names {
            let server = server_name(name).ok_or_else(|| ServerCertificateError::NotFor(name.clone()))?;
            verify_server_name(&parsed, &server).map_err(|_| ServerCertificateError::NotFor(name.clone()))?;
        }
        certified(&chain, &key_pem)?;
        Ok(ServerCertificate { chain, key_pem, not_before, not_after })
    }

    /// # Errors
    /// It has not begun, or is over. That it ends soon is said in the log.
    pub(super) fn is_good_at(&self, now: SystemTime) -> Result<(), CaError> {
        let day = humantime::format_rfc3339_seconds;
        if now < self.not_before {
            let (begins, now) = (day(self.not_before), day(now));
            let why = format!("is not good before {begins}: it is {now} now, so look at the clock of this machine");
            return Err(CaError::Own(why));
        }
        if now >= self.not_after {
            return Err(CaError::Own(format!("has expired at {}: put a new one there", day(self.not_after))));
        }
        let left = self.not_after.duration_since(now).unwrap_or_default();
        if left < ENDS_SOON {
            let days = left.as_secs() / 86_400;
            tracing::warn!(days, "tls.certificate_file ends soon: put a new one there and start seawall anew");
        }
        Ok(())
    }

    pub(super) fn certified(&self) -> Result<CertifiedKey, CaError> {
        certified(&self.chain, &self.key_pem).map_err(|error| CaError::Own(error.to_string()))
    }
}

fn server_name(host: &Host) -> Option<ServerName<'_>> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_ref()).ok(),
        Host::Ip(ip) => Some(ServerName::IpAddress((*ip).into())),
    }
}

fn certified(chain: &[CertificateDer<'static>], key_pem: &[u8]) -> Result<CertifiedKey, ServerCertificateError> {
    // PKCS#8's label, and the header of the older kinds (RFC 1421).
    if key_pem.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(ServerCertificateError::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| ServerCertificateError::NoKey)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain.to_vec(), key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => ServerCertificateError::Mismatch,
        other => ServerCertificateError::Unusable(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_2030: Duration = Duration::from_secs(1_893_456_000);

    /// A certificate for these names that is good for the year before 2030, and its key, PEM.
    fn made(names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let end = SystemTime::UNIX_EPOCH + YEAR_2030;
        (params.not_before, params.not_after) = ((end - Duration::from_secs(365 * 86_400)).into(), end.into());
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn read(chain: &str, key: &str, names: &[&str]) -> Result<ServerCertificate, String> {
        let names: Vec<Host> = names.iter().map(|name| name.parse().unwrap()).collect();
        let key = Zeroizing::new(key.as_bytes().to_vec());
        ServerCertificate::read(chain.as_bytes(), key, &names).map_err(|error| error.to_string())
    }

    #[test]
    fn it_covers_the_names_and_has_its_key() {
        let (chain, key) = made(&["*.corp.example", "10.1.2.3"]);
        let good = read(&chain, &key, &["seawall.corp.example", "10.1.2.3"]).unwrap();
        assert_eq!(format!("{good:?}"), "ServerCertificate");
        read(&format!("{key}{chain}"), &format!("{chain}{key}"), &["seawall.corp.example"]).unwrap();
        for (chain, key, names, said) in [
            (&*chain, &*key, &["corp.example"][..], "not good for corp.example"),
            (&chain, &key, &["10.1.2.4"], "not good for 10.1.2.4"),
            (&chain, &made(&["a.example"]).1, &["10.1.2.3"], "the private key is not that of"),
            (&key, &key, &["10.1.2.3"], "it holds no certificate"),
            (&chain, &chain, &["10.1.2.3"], "it holds no private key"),
            (&chain, &key.replace("PRIVATE", "ENCRYPTED PRIVATE"), &["10.1.2.3"], "openssl pkey"),
        ] {
            let error = read(chain, key, names).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn it_is_looked_at_when_it_is_wanted() {
        let (chain, key) = made(&["seawall.corp.example"]);
        let good = read(&chain, &key, &["seawall.corp.example"]).unwrap();
        let end = SystemTime::UNIX_EPOCH + YEAR_2030;
        let said = |at| good.is_good_at(at).unwrap_err().to_string();
        good.is_good_at(end - Duration::from_secs(86_400)).unwrap();
        assert!(said(end).starts_with("tls.certificate_file has expired at 2030-01-01"), "{}", said(end));
        assert!(said(end - Duration::from_secs(400 * 86_400)).contains("look at the clock"));
    }
}
