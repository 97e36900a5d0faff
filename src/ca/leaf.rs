//! Leaves: the certificate, the key and the TLS configuration of one host, made when it is first
//! asked for.
//!
//! One configuration per host instead of one that looks at the SNI: the host may come from a
//! CONNECT whose client sends no SNI, as for an IP address. seawall's own names have one among
//! them, so that a client which names none gets it, too. All share one ticketer, so a session
//! resumes whichever configuration it meets again; rustls itself compares the SNI then.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs as provider;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::own::{OwnTls, Shown};
use super::root::Root;
use super::{CaError, Preferred};
use crate::http::origin::Host;
use crate::tls;

/// Leaves in memory, a few KiB each. A registry with a wildcard has more hosts than one would like
/// to keep.
const MOST_LEAVES: u64 = 1024;
/// Sessions of clients that know no tickets.
const MOST_SESSIONS: usize = 4096;

/// The TLS configurations of intercepted hosts.
pub struct Leaves {
    root: Arc<Root>,
    days: u32,
    kept: moka::sync::Cache<Host, Leaf>,
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    preferred: Preferred,
    own: Own,
}

/// What seawall shows where it is spoken to by its own names.
enum Own {
    /// A leaf for all of them, made when it is first asked for. No names: no leaf.
    Leaf { names: Vec<Host>, kept: Mutex<Option<Leaf>> },
    /// The operator's certificate.
    Given { names: Vec<Host>, shown: Box<RwLock<Shown>> },
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

impl Leaves {
    /// Leaves that are good for so many days, at most as long as the root.
    pub fn new(root: Arc<Root>, days: u32) -> Result<Leaves, CaError> {
        // Least recently used goes first: moka's own policy would not let a new host in while the
        // others are in use.
        let kept = moka::sync::Cache::builder()
            .max_capacity(MOST_LEAVES)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Ok(Leaves {
            root,
            days: days.max(1),
            kept,
            ticketer: provider::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(MOST_SESSIONS),
            preferred: Preferred::default(),
            own: Own::Leaf { names: Vec::new(), kept: Mutex::default() },
        })
    }

    /// The same, where this protocol is chosen for intercepted hosts.
    pub fn preferring(self, preferred: Preferred) -> Leaves {
        Leaves { preferred, ..self }
    }

    /// The same, where seawall has these names of its own, and perhaps a certificate for them that
    /// is not of this root.
    ///
    /// # Errors
    /// The certificate is not good now, or TLS cannot be had of it.
    pub fn speaking_as(mut self, own: &OwnTls, now: SystemTime) -> Result<Leaves, CaError> {
        self.own = match &own.certificate {
            None => Own::Leaf { names: own.names.clone(), kept: Mutex::default() },
            Some(given) => {
                given.is_good_at(now)?;
                let config = self.config(given.certified()?, Preferred::H1)?;
                let shown = Shown::new(given.clone(), config, now);
                Own::Given { names: own.names.clone(), shown: Box::new(RwLock::new(shown)) }
            }
        };
        Ok(self)
    }

    /// The configuration to speak TLS as seawall itself, under any of its names: http/1.1 before h2
    /// by ALPN.
    ///
    /// # Errors
    /// It has no names, or the root has expired.
    pub fn own_config(&self, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        let (names, kept) = match &self.own {
            Own::Given { shown, .. } => return Ok(shown.read().config()),
            Own::Leaf { names, kept } => (names, kept),
        };
        // Held while one is made: a fraction of a millisecond, once in weeks.
        let mut kept = kept.lock();
        if let Some(leaf) = kept.as_ref().filter(|leaf| now < leaf.renew_at) {
            return Ok(Arc::clone(&leaf.config));
        }
        let leaf = self.make(names, Preferred::H1, now)?;
        Ok(Arc::clone(&kept.insert(leaf).config))
    }

    /// Reads the operator's certificate again, if there is one. What became of it is said in the
    /// log: a bad one changes nothing.
    pub fn reload_own(&self, now: SystemTime) {
        let Own::Given { names, shown } = &self.own else { return };
        let files = shown.read().files();
        let read = files.read(names);
        shown.write().replace(read, |certified| self.config(certified, Preferred::H1), now);
    }

    /// The configuration to speak TLS as `host`: h2 and http/1.1 by ALPN (h2 first by default), TLS
    /// 1.2 and 1.3. Kept; made again, with a new key, when two thirds of the leaf's life have
    /// passed. Fails when the root may not sign for that host, or has expired.
    pub fn config_for(&self, host: &Host, now: SystemTime) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(leaf) = self.kept.get(host)
            && now < leaf.renew_at
        {
            return Ok(leaf.config);
        }
        // Two connections may both come here: each gets a good leaf, one is kept. Cheaper than a
        // lock.
        let leaf = self.make(std::slice::from_ref(host), self.preferred, now)?;
        self.kept.insert(host.clone(), leaf.clone());
        Ok(leaf.config)
    }

    fn make(&self, hosts: &[Host], preferred: Preferred, now: SystemTime) -> Result<Leaf, CaError> {
        let (certificate, key, not_after) = self.root.mint(hosts, self.days, now)?;
        let chain = std::iter::once(certificate).chain(self.root.intermediates()).collect();
        let key = provider::sign::any_ecdsa_type(&key.to_der())?;
        let left = not_after.duration_since(now).unwrap_or_default();
        Ok(Leaf { config: self.config(CertifiedKey::new(chain, key), preferred)?, renew_at: now + left * 2 / 3 })
    }

    fn config(&self, certified: CertifiedKey, preferred: Preferred) -> Result<Arc<ServerConfig>, CaError> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        // The server's order holds.
        let protocols: [&[u8]; 2] = match preferred {
            Preferred::H2 => [b"h2", b"http/1.1"],
            Preferred::H1 => [b"http/1.1", b"h2"],
        };
        config.alpn_protocols = protocols.map(<[u8]>::to_vec).to_vec();
        config.ignore_client_order = tls::aes_in_hardware();
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::clone(&self.sessions);
        // Clients keep the last one; a second is wasted bytes.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
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

#[cfg(test)]
mod tests;
