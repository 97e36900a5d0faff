//! TLS to seawall itself: the names it has, and the operator's certificate for them, if there is
//! one.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::{CaError, Preferred};
use crate::http::origin::Host;
use crate::{fs, tls};

const DAY: Duration = Duration::from_secs(86_400);
/// From here on every start, and every day, says that it ends soon.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// How seawall itself is spoken to over TLS.
#[derive(Clone, Debug, Default)]
pub struct OwnTls {
    /// What is chosen for intercepted hosts; under its own names it is always http/1.1.
    pub preferred: Preferred,
    /// What clients call it. Empty: nothing is for it that comes over TLS.
    pub names: Vec<Host>,
    /// Instead of a leaf of the root.
    pub certificate: Option<ServerCertificate>,
}

/// Where the operator keeps a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, if that is in a file of its own.
    pub key: Option<PathBuf>,
}

impl CertificateFiles {
    /// Reads both as they are now.
    ///
    /// # Errors
    /// They cannot be read, or not be used for these names.
    pub fn read(&self, names: &[Host]) -> Result<ServerCertificate, CaError> {
        let read = |path: &PathBuf| fs::read(path).map(Zeroizing::new);
        let chain = read(&self.certificate)?;
        let key = self.key.as_ref().map_or_else(|| Ok(chain.clone()), read)?;
        let unusable = |error| CaError::Own(self.certificate.clone(), format!("cannot be used: {error}"));
        ServerCertificate::read(self.clone(), &chain, key, names).map_err(unusable)
    }
}

/// A certificate chain with its key. `Debug` shows neither.
#[derive(Clone)]
pub struct ServerCertificate {
    files: CertificateFiles,
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
    /// An encrypted key: a server has no one to type the passphrase.
    #[error(
        "its private key is encrypted, and seawall has no passphrase: `openssl pkey -in KEY -out PLAIN` decrypts it"
    )]
    Encrypted,
    /// The key belongs to another certificate.
    #[error(
        "the private key is not that of the first certificate: the server's own comes first, then those it is signed by"
    )]
    Mismatch,
    /// A key that TLS cannot be spoken with.
    #[error("its private key cannot be used: {0}")]
    UnusableKey(String),
    /// Clients refuse it (RFC 5280, 4.2.1.12).
    #[error("it is not for servers: its extended key usage has no serverAuth, so have one made that has")]
    NotForServers,
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
    /// Reads both, and holds them together and against the names. Whether it is in time is another
    /// question, of the start.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub fn read(
        files: CertificateFiles,
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
        let usage = facts.extended_key_usage().map_err(|error| unusable(&error))?;
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            return Err(ServerCertificateError::NotForServers);
        }
        for name in names {
            let server = server_name(name).ok_or_else(|| ServerCertificateError::NotFor(name.clone()))?;
            verify_server_name(&parsed, &server).map_err(|_| ServerCertificateError::NotFor(name.clone()))?;
        }
        certified(&chain, &key_pem)?;
        Ok(ServerCertificate { files, chain, key_pem, not_before, not_after })
    }

    /// Where it came from.
    pub fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// # Errors
    /// It has not begun, or is over.
    pub fn is_good_at(&self, now: SystemTime) -> Result<(), CaError> {
        let day = humantime::format_rfc3339_seconds;
        if now < self.not_before {
            let (begins, now) = (day(self.not_before), day(now));
            let why = format!("is not good before {begins}: it is {now} now, so look at the clock of this machine");
            return Err(CaError::Own(self.files.certificate.clone(), why));
        }
        if now >= self.not_after {
            let why = format!("has expired at {}: put a new one there", day(self.not_after));
            return Err(CaError::Own(self.files.certificate.clone(), why));
        }
        Ok(())
    }

    /// What is to be said of its end, if that is near.
    fn ends_soon(&self, now: SystemTime) -> Option<String> {
        let left = self.not_after.duration_since(now).ok().filter(|left| *left < ENDS_SOON)?;
        let (file, days) = (self.files.certificate.display(), left.as_secs() / DAY.as_secs());
        Some(format!(
            "tls.certificate_file {file} ends in {days} days: put a new one there, it is read without a restart"
        ))
    }

    fn is_same(&self, other: &ServerCertificate) -> bool {
        self.chain == other.chain && self.key_pem == other.key_pem
    }

    pub(super) fn certified(&self) -> Result<CertifiedKey, CaError> {
        let unusable = |error| CaError::Own(self.files.certificate.clone(), format!("cannot be used: {error}"));
        certified(&self.chain, &self.key_pem).map_err(unusable)
    }
}

/// The operator's certificate as it is shown now, and what was said of it last.
pub(super) struct Shown {
    certificate: ServerCertificate,
    config: Arc<ServerConfig>,
    said: Option<(String, SystemTime)>,
}

impl Shown {
    /// Shows this one first.
    pub(super) fn new(certificate: ServerCertificate, config: Arc<ServerConfig>, now: SystemTime) -> Shown {
        let mut shown = Shown { certificate, config, said: None };
        shown.say(shown.certificate.ends_soon(now), now);
        shown
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn files(&self) -> CertificateFiles {
        self.certificate.files.clone()
    }

    /// Takes what was read in its place if that is another one and good; else says what is wrong.
    pub(super) fn replace(
        &mut self,
        read: Result<ServerCertificate, CaError>,
        config: impl FnOnce(CertifiedKey) -> Result<Arc<ServerConfig>, CaError>,
        now: SystemTime,
    ) {
        let renewed = read.and_then(|new| {
            new.is_good_at(now)?;
            if new.is_same(&self.certificate) {
                return Ok(None);
            }
            let config = config(new.certified()?)?;
            Ok(Some((new, config)))
        });
        let word = match renewed {
            Ok(None) => self.certificate.ends_soon(now),
            Ok(Some((new, config))) => {
                (self.certificate, self.config) = (new, config);
                let until = humantime::format_rfc3339_seconds(self.certificate.not_after);
                tracing::info!(%until, "a new tls.certificate_file is shown from now on");
                self.certificate.ends_soon(now)
            }
            Err(error) => Some(format!("{error}; the one that was read before is still shown")),
        };
        self.say(word, now);
    }

    /// What is not news is said once a day.
    fn say(&mut self, word: Option<String>, now: SystemTime) {
        let is_old = |(said, at): &(String, SystemTime)| {
            Some(said) == word.as_ref() && now.duration_since(*at).is_ok_and(|passed| passed < DAY)
        };
        if self.said.as_ref().is_some_and(is_old) {
            return;
        }
        if let Some(word) = &word {
            tracing::warn!("{word}");
        }
        self.said = word.map(|word| (word, now));
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
    CertifiedKey::from_der(chain.to_vec(), key, &tls::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => ServerCertificateError::Mismatch,
        other => ServerCertificateError::UnusableKey(other.to_string()),
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

    fn files() -> CertificateFiles {
        CertificateFiles { certificate: "own.pem".into(), key: None }
    }

    fn read(chain: &str, key: &str, names: &[&str]) -> Result<ServerCertificate, String> {
        let names: Vec<Host> = names.iter().map(|name| name.parse().unwrap()).collect();
        let key = Zeroizing::new(key.as_bytes().to_vec());
        ServerCertificate::read(files(), chain.as_bytes(), key, &names).map_err(|error| error.to_string())
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
    fn one_for_clients_alone_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["seawall.corp".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let error =
            read(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem(), &["seawall.corp"]).unwrap_err();
        assert!(error.starts_with("it is not for servers"), "{error}");
        params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        read(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem(), &["seawall.corp"]).unwrap();
    }

    #[test]
    fn its_end_is_said_from_two_weeks_on() {
        let (chain, key) = made(&["seawall.corp.example"]);
        let good = read(&chain, &key, &["seawall.corp.example"]).unwrap();
        let end = SystemTime::UNIX_EPOCH + YEAR_2030;
        assert_eq!(good.ends_soon(end - ENDS_SOON), None);
        let said = good.ends_soon(end - DAY * 3).unwrap();
        assert!(said.starts_with("tls.certificate_file own.pem ends in 3 days"), "{said}");
    }

    #[test]
    fn it_is_looked_at_when_it_is_wanted() {
        let (chain, key) = made(&["seawall.corp.example"]);
        let good = read(&chain, &key, &["seawall.corp.example"]).unwrap();
        let end = SystemTime::UNIX_EPOCH + YEAR_2030;
        let said = |at| good.is_good_at(at).unwrap_err().to_string();
        good.is_good_at(end - Duration::from_secs(86_400)).unwrap();
        assert!(said(end).starts_with("tls.certificate_file own.pem has expired at 2030-01-01"), "{}", said(end));
        assert!(said(end - Duration::from_secs(400 * 86_400)).contains("look at the clock"));
    }
}
