//! The root: `ca.crt` and `ca.key`, loaded or made.
//!
//! `ca.crt` may be a chain: the first certificate signs leaves and its key is `ca.key`; the others
//! are what it is signed by, and the last of them is what clients trust.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroizing;

use super::constraints::{self, Constraints};
use super::files::{create, is_there, paths, read_file};
use super::sign::{self, Key, Signer};
use super::{CaError, Permitted, Settings};
use crate::fs;
use crate::http::origin::Host;

/// Ten years: clients trust a root once, by hand.
const ROOT_LIFE: Duration = Duration::from_secs(3652 * 86_400);
/// How far before now a certificate starts: clocks differ.
const BACKDATED: Duration = Duration::from_secs(86_400);
/// From here on every start says that the root ends soon.
const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
/// How the subject of a root that was made here begins.
const OURS: &str = "O=seawall, CN=seawall CA ";

/// A CA that can sign leaves for what was configured: all of that was checked when it was loaded.
pub struct Root {
    path: PathBuf,
    signer: Signer,
    /// The first signs, the last is what clients trust; often they are one.
    chain: Vec<Facts>,
}

/// What was read of one certificate.
struct Facts {
    der: CertificateDer<'static>,
    subject: String,
    self_issued: bool,
    not_before: SystemTime,
    not_after: SystemTime,
    constraints: Constraints,
}

impl Root {
    /// Loads the root of `settings.dir`, or makes one there when neither `ca.crt` nor `ca.key`
    /// exists.
    pub fn load_or_create(settings: &Settings, now: SystemTime) -> Result<Root, CaError> {
        if let Some(root) = Root::load(settings, now)? {
            return Ok(root);
        }
        let (certificate_path, key_path) = paths(&settings.dir);
        fs::create_dir_of_owner(&settings.dir)?;
        // The user root may make it for a service, whose the directory is.
        let owner = fs::owner(&settings.dir)?;
        let (certificate, key) = make(settings, now)?;
        create(&key_path, owner, 0o600, key.to_pem().as_bytes())?;
        create(&certificate_path, owner, 0o644, certificate.as_bytes()).inspect_err(|_| drop(fs::remove(&key_path)))?;
        fs::sync_dir(&settings.dir)?;
        tracing::info!(path = %certificate_path.display(), "made a new CA: clients must trust it, see `seawall ca install`");
        Root::read(settings, now)
    }

    /// Whether there is a root in `settings.dir`, or half of one.
    pub fn is_there(settings: &Settings) -> Result<bool, CaError> {
        let (certificate, key) = paths(&settings.dir);
        Ok(is_there(&certificate)? || is_there(&key)?)
    }

    /// Loads the root of `settings.dir`; `None` when neither of its files exists.
    pub fn load(settings: &Settings, now: SystemTime) -> Result<Option<Root>, CaError> {
        let (certificate, key) = paths(&settings.dir);
        match (is_there(&certificate)?, is_there(&key)?) {
            (false, false) => Ok(None),
            (true, true) => Root::read(settings, now).map(Some),
            (true, false) => Err(CaError::HalfMade { present: certificate, missing: key }),
            (false, true) => Err(CaError::HalfMade { present: key, missing: certificate }),
        }
    }

    /// Makes a new root in place of the one that is there, which becomes `ca.crt.old` and
    /// `ca.key.old` (an older one that had these names is overwritten). Takes no interest in
    /// whether the old one is still good. Each file belongs to whom it belonged. Refuses to replace
    /// a root that was not made by seawall.
    pub fn renew(settings: &Settings, now: SystemTime) -> Result<Root, CaError> {
        let (certificate_path, key_path) = paths(&settings.dir);
        if !Root::is_there(settings)? {
            return Root::load_or_create(settings, now);
        }
        let (has_certificate, has_key) = (is_there(&certificate_path)?, is_there(&key_path)?);
        let was_ours = has_certificate
            && read_chain(&certificate_path)?.first().is_some_and(|der| {
                x509_parser::parse_x509_certificate(der).is_ok_and(|(_, c)| c.subject().to_string().starts_with(OURS))
            });
        if !was_ours {
            return Err(CaError::NotOurs(certificate_path));
        }
        let (certificate, key) = make(settings, now)?;
        // Copies first, so that a crash between any two steps never leaves a directory without a
        // root: the next start would quietly make a third one there.
        let owner = fs::owner(&certificate_path)?;
        let key_owner = if has_key { fs::owner(&key_path)? } else { owner };
        fs::replace_for(&fs::with_suffix(&certificate_path, ".old"), owner, 0o600, &read_file(&certificate_path)?)?;
        if has_key {
            fs::replace_for(
                &fs::with_suffix(&key_path, ".old"),
                key_owner,
                0o600,
                &Zeroizing::new(read_file(&key_path)?),
            )?;
        }
        fs::replace_for(&key_path, key_owner, 0o600, key.to_pem().as_bytes())?;
        fs::replace_for(&certificate_path, owner, 0o644, certificate.as_bytes())?;
        fs::sync_dir(&settings.dir)?;
        Root::read(settings, now)
    }

    fn read(settings: &Settings, now: SystemTime) -> Result<Root, CaError> {
        let (path, key_path) = paths(&settings.dir);
        let ders = read_chain(&path)?;
        let chain = ders.iter().map(|der| inspect(&path, der, now)).collect::<Result<Vec<_>, _>>()?;
        let signer = signer(&path, &key_path, &ders)?;
        let root = Root { path, signer, chain };
        let wanted = constraints::normalised(&settings.permitted)?;
        root.covers(&wanted)?;
        root.signs(&wanted, now)?;
        let left = root.not_after().duration_since(now).unwrap_or_default();
        if left < ENDS_SOON {
            tracing::warn!(path = %root.path.display(), days = left.as_secs() / 86_400, "the CA ends soon: `seawall ca renew`, then install it again");
        }
        Ok(root)
    }

    fn covers(&self, wanted: &[Permitted]) -> Result<(), CaError> {
        let outside = wanted.iter().find(|part| !self.chain.iter().all(|c| c.constraints.cover(part)));
        let Some(name) = outside else { return Ok(()) };
        let remedy = match self.is_ours() {
            true => {
                "run `seawall ca renew` and install the new root on every client. What will be needed later can be named \
                 beforehand in [ca] names"
            }
            false => "it has to come with a certificate that is constrained to it too, or not constrained",
        };
        Err(CaError::Outside { path: self.path.clone(), name: name.clone(), remedy })
    }

    /// A leaf on trial: what webpki refuses, clients will.
    fn signs(&self, wanted: &[Permitted], now: SystemTime) -> Result<(), CaError> {
        let host = match wanted.first() {
            Some(Permitted::Dns(name)) => Host::Name(name.as_str().into()),
            Some(Permitted::Ip(ip)) => Host::Ip(*ip),
            None => Host::Name("seawall.invalid".into()),
        };
        if !self.permits(&host) {
            return Ok(());
        }
        let (leaf, _, _) = self.mint(std::slice::from_ref(&host), 1, now)?;
        self.verify(&leaf, &host, now).map_err(|refusal| CaError::Certificate {
            path: self.path.clone(),
            why: format!(
                "a certificate that it signed for {host} is refused: {refusal}. The file must hold the CA's own \
                 certificate first, then those it is signed by"
            ),
        })
    }

    fn verify(&self, leaf: &CertificateDer<'_>, host: &Host, now: SystemTime) -> Result<(), rustls::Error> {
        let mut anchors = RootCertStore::empty();
        anchors.add(self.anchor().der.clone())?;
        let between: Vec<_> = self.chain[..self.chain.len() - 1].iter().map(|c| c.der.clone()).collect();
        let leaf = ParsedCertificate::try_from(leaf)?;
        let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let algorithms = crate::tls::provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &anchors,
            &between,
            UnixTime::since_unix_epoch(unix),
            algorithms,
        )?;
        let name = match host {
            Host::Name(name) => {
                ServerName::try_from(name.as_ref()).map_err(|e| rustls::Error::General(e.to_string()))?
            }
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        };
        verify_server_name(&leaf, &name)
    }

    fn signing(&self) -> &Facts {
        self.chain.first().expect("a chain is never empty")
    }

    fn anchor(&self) -> &Facts {
        self.chain.last().expect("a chain is never empty")
    }

    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Makes the certificate of these hosts, with a key of its own. The time is when it ends.
    pub(super) fn mint(
        &self,
        hosts: &[Host],
        days: u32,
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Key, SystemTime), CaError> {
        if let Some(host) = hosts.iter().find(|host| !self.permits(host)) {
            return Err(CaError::NotPermitted(host.clone()));
        }
        if hosts.is_empty() {
            return Err(CaError::Nameless);
        }
        self.is_good_at(now)?;
        let not_before = (now - BACKDATED).max(self.not_before());
        let not_after = (now + Duration::from_secs(u64::from(days) * 86_400)).min(self.not_after());
        let (certificate, key) = sign::leaf(self.signer(), hosts, not_before, not_after)?;
        Ok((certificate, key, not_after))
    }

    /// What is sent after a leaf: the certificates between it and what clients trust.
    pub(super) fn intermediates(&self) -> impl Iterator<Item = CertificateDer<'static>> + '_ {
        self.chain.iter().filter(|c| !c.self_issued).map(|c| c.der.clone())
    }

    /// The certificate that clients must trust, in PEM: the last of `ca.crt`.
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.anchor().der)
    }

    /// SHA-256 of the certificate that clients must trust, `AB:CD:…`.
    pub fn fingerprint_sha256(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.anchor().der);
        digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    }

    /// The subject of the certificate that clients must trust.
    pub fn subject(&self) -> &str {
        &self.anchor().subject
    }

    /// The subject of the certificate that signs leaves. Not [`Root::subject`] when `ca.crt` is a
    /// chain.
    pub fn issuer(&self) -> &str {
        &self.signing().subject
    }

    /// When the youngest certificate of the chain begins.
    pub fn not_before(&self) -> SystemTime {
        self.chain.iter().map(|c| c.not_before).max().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// When the first certificate of the chain ends; no leaf outlives it.
    pub fn not_after(&self) -> SystemTime {
        self.chain.iter().map(|c| c.not_after).min().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The name constraints, `permitted docker.io` say, a line each. Empty: it may sign for
    /// everything.
    pub fn constraints(&self) -> Vec<String> {
        self.chain.iter().flat_map(|c| c.constraints.lines()).collect()
    }

    /// Whether a leaf for this host would be believed.
    pub fn permits(&self, host: &Host) -> bool {
        self.chain.iter().all(|c| c.constraints.permits(host))
    }

    /// An error that says so when the chain is not good at this time.
    fn is_good_at(&self, now: SystemTime) -> Result<(), CaError> {
        self.chain.iter().try_for_each(|facts| in_time(&self.path, facts, now))
    }

    /// Where `ca.crt` is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Made by seawall, not by the operator's own CA.
    pub fn is_ours(&self) -> bool {
        self.signing().subject.starts_with(OURS)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("path", &self.path).field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

fn to_pem(der: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let base64 = data_encoding::BASE64.encode(der);
    for start in (0..base64.len()).step_by(64) {
        pem.push_str(&base64[start..base64.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// A new self-signed root and its key.
fn make(settings: &Settings, now: SystemTime) -> Result<(String, Key), CaError> {
    let key = Key::generate()?;
    let permitted = constraints::normalised(&settings.permitted)?;
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + ROOT_LIFE).into();
    params.serial_number = Some(sign::serial()?);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "seawall");
    // Two roots of one name confuse stores that look up by name: a part of the key tells them
    // apart.
    let id = params.key_identifier(&key);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("seawall CA {}", data_encoding::HEXLOWER.encode(&id[..4])));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // What name constraints do not reach: code signing, e-mail.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = settings.constrained.then(|| constraints::written(&permitted));
    let certificate = params.self_signed(&key)?;
    Ok((to_pem(certificate.der()), key))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let bytes = read_file(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(CaError::Certificate { path: path.to_owned(), why: "it holds no certificate in PEM".to_owned() }),
    }
}

/// Reads one certificate of the chain and checks what rcgen does not.
fn inspect(path: &Path, der: &CertificateDer<'static>, now: SystemTime) -> Result<Facts, CaError> {
    let refuse = |why: String| CaError::Certificate { path: path.to_owned(), why };
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|e| refuse(format!("it is no X.509 certificate ({e})")))?;
    let subject = certificate.subject().to_string();
    if let Some(lack) = lacks(&certificate) {
        return Err(refuse(format!("{subject:?} {lack}")));
    }
    let constraints = Constraints::of(&certificate)
        .ok_or_else(|| refuse(format!("the name constraints of {subject:?} cannot be read")))?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    let (not_before, not_after) = (at(certificate.validity().not_before), at(certificate.validity().not_after));
    let facts = Facts {
        der: der.clone(),
        self_issued: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        subject,
        not_before,
        not_after,
        constraints,
    };
    in_time(path, &facts, now)?;
    Ok(facts)
}

fn in_time(path: &Path, facts: &Facts, now: SystemTime) -> Result<(), CaError> {
    let day = humantime::format_rfc3339_seconds;
    let why = if now < facts.not_before {
        format!(
            "is not good before {}: it is {} now, so look at the clock of this machine",
            day(facts.not_before),
            day(now)
        )
    } else if now >= facts.not_after {
        let remedy = match facts.subject.starts_with(OURS) {
            true => "run `seawall ca renew` and install the new root on every client",
            false => "put a new one there",
        };
        format!("has expired at {} ({}): {remedy}", day(facts.not_after), facts.subject)
    } else {
        return Ok(());
    };
    Err(CaError::Dates { path: path.to_owned(), why })
}

/// What a certificate lacks to sign those of servers (RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.12).
fn lacks(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    if !certificate.basic_constraints().ok().flatten().is_some_and(|b| b.value.ca) {
        return Some("is not a CA (basicConstraints CA:TRUE is missing): it looks like the certificate of a server");
    }
    if !certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|u| u.value.key_cert_sign())) {
        return Some("may not sign certificates (keyUsage lacks keyCertSign)");
    }
    if !certificate.extended_key_usage().is_ok_and(|p| p.is_none_or(|p| p.value.server_auth || p.value.any)) {
        return Some("may not sign certificates of servers (extendedKeyUsage lacks serverAuth)");
    }
    if certificate.subject().as_raw().len() <= 2 {
        return Some("has an empty subject, which RFC 5280 4.1.2.6 forbids to a CA");
    }
    None
}

fn signer(path: &Path, key_path: &Path, chain: &[CertificateDer<'_>]) -> Result<Signer, CaError> {
    let pem = Zeroizing::new(read_file(key_path)?);
    let key = Key::from_pem(&pem).map_err(|why| CaError::Key { path: key_path.to_owned(), why })?;
    // A Secret of Kubernetes comes as 0440, root's, for the pod's group (`fsGroup`).
    if fs::mode(key_path)? & 0o037 != 0 {
        tracing::warn!(path = %key_path.display(), "others than its owner and group may read the CA's key: chmod 600");
    }
    let first = chain.first().expect("a chain is never empty");
    let unreadable = |_| CaError::Certificate { path: path.to_owned(), why: "it is no X.509 certificate".to_owned() };
    let (_, certificate) = x509_parser::parse_x509_certificate(first).map_err(unreadable)?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(CaError::Mismatch { certificate: path.to_owned(), key: key_path.to_owned() });
    }
    let key_id = certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    Ok(Signer::new(key, certificate.subject().as_raw(), key_id))
}

#[cfg(test)]
mod tests;
