//! Sources that sent other bytes than those of a digest: the others are asked for it before them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashlink::LruCache;
use parking_lot::Mutex;

use crate::oci::digest::Digest;
use crate::policy::access::within;

/// Digests that are remembered, each of one source.
const MOST: usize = 4096;
/// For how long.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// They, by digest and the source's name.
pub(super) struct WrongSenders(Mutex<LruCache<(Digest, Arc<str>), SystemTime>>);

impl Default for WrongSenders {
    fn default() -> WrongSenders {
        WrongSenders(Mutex::new(LruCache::new(MOST)))
    }
}

impl fmt::Debug for WrongSenders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrongSenders")
    }
}

impl WrongSenders {
    pub(super) fn note(&self, digest: &Digest, source: &Arc<str>, now: SystemTime) {
        self.0.lock().insert((digest.clone(), source.clone()), now);
    }

    /// Whether it did so lately.
    pub(super) fn has(&self, digest: &Digest, source: &Arc<str>, now: SystemTime) -> bool {
        let at = self.0.lock().peek(&(digest.clone(), source.clone())).copied();
        within(at, REMEMBERED, now)
    }
}
