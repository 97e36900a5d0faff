//! Leaves: the certificate, the key and the TLS configuration of one host, made when it is first asked for.
//!
//! One configuration per host instead of one that looks at the SNI: the host may come from a CONNECT whose client sends
//! no SNI, as for an IP address. All share one ticketer, so a session resumes whichever configuration it meets again;
//! rustls itself compares the SNI then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SecureRandom as _;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::CertificateDer;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::root::{BACKDATED, Root};
use super::sign::Key;
use super::{CaError, Host};

/// Leaves in memory, a few KiB each. A registry with a wildcard has more hosts than one would like to keep.
const MOST_LEAVES: u64 = 1024;
/// Sessions of clients that know no tickets.
const MOST_SESSIONS: usize = 4096;

/// The TLS configurations of intercepted hosts.
pub struct Leaves {
    root: Arc<Root>,
    days: u32,
    kept: moka::sync::Cache<Host, Leaf>,
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Leaves {
    /// Leaves that are good for so many days, at most as long as the root.
    pub fn new(root: Arc<Root>, days: u32) -> Result<Leaves, CaError> {
        // Least recently used goes first: moka's own policy would not let a new host in while the others are in use.
        let kept = moka::sync::Cache::builder()
            .max_capacity(MOST_LEAVES)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Ok(Leaves {
            root,
            days: days.max(1),
            kept,
            provider: Arc::new(preferring(aes_in_hardware())),
            ticketer: provider::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(MOST_SESSIONS),
        })
    }

    /// The configuration to speak TLS as `host`: h2 and http/1.1 by ALPN, TLS 1.2 and 1.3. Kept; made anew, with a new
    /// key, when two thirds of the leaf's life have passed. Fails when the root may not sign for that host, or has expired.
    pub fn config_for(&self, host: &Host, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(leaf) = self.kept.get(host)
            && now < leaf.renew_at
        {
            return Ok(leaf.config);
        }
        // Two connections may both come here: each gets a good leaf, one is kept. Cheaper than a lock.
        let leaf = self.make(host, now)?;
        self.kept.insert(host.clone(), leaf.clone());
        Ok(leaf.config)
    }

    fn make(&self, host: &Host, now: SystemTime) -> Result<Leaf, CaError> {
        let (certificate, key, not_after) = mint(&self.root, host, self.days, now)?;
        let chain = std::iter::once(certificate).chain(self.root.intermediates()).collect();
        let key = provider::sign::any_ecdsa_type(&key.to_der())?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = aes_in_hardware();
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::clone(&self.sessions);
        // Clients keep the last one; a second is bytes for nobody.
        config.send_tls13_tickets = 1;
        let left = not_after.duration_since(now).unwrap_or_default();
        Ok(Leaf { config: Arc::new(config), renew_at: now + left * 2 / 3 })
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaves")
            .field("root", &self.root)
            .field("kept", &self.kept.entry_count())
            .finish_non_exhaustive()
    }
}

/// AES-128-GCM is the cheapest per byte where the processor knows AES (18.8 GB/s, AES-256 13.1, ChaCha20 2.4), the
/// dearest where it does not.
fn preferring(aes: bool) -> CryptoProvider {
    let mut provider = provider::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let name = format!("{:?}", suite.suite());
        match (name.contains("AES_128_GCM"), name.contains("CHACHA20")) {
            (true, _) => 1,
            (_, true) if aes => 3,
            (_, true) => 0,
            _ => 2,
        }
    });
    provider
}

fn aes_in_hardware() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// 127 random bits, positive (RFC 5280 4.1.2.2).
pub(super) fn serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // The top bit would make it negative; the one below keeps it 16 bytes long.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Makes the certificate of one host, with a key of its own. The time is when it ends.
pub(super) fn mint(
    root: &Root,
    host: &Host,
    days: u32,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, Key, SystemTime), CaError> {
    if !root.permits(host) {
        return Err(CaError::NotPermitted(host.clone()));
    }
    root.is_good_at(now)?;
    let not_after = (now + Duration::from_secs(u64::from(days) * 86_400)).min(root.not_after());
    let mut params = CertificateParams::default();
    params.not_before = (now - BACKDATED).max(root.not_before()).into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial()?);
    // The name is in the SAN alone: no client reads it here, it may be longer than the 64 bytes a common name has, and
    // OpenSSL takes an address here for a DNS name when it checks name constraints.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "seawall");
    params.subject_alt_names = vec![match host {
        Host::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
        Host::Ip(ip) => SanType::IpAddress(*ip),
    }];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = Key::generate()?;
    let certificate = root.signer().sign(&params, &key)?;
    Ok((certificate, key, not_after))
}

#[cfg(test)]
mod tests;
