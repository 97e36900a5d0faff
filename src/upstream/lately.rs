//! What is remembered of sources for a while: who sent other bytes than those of a digest, who did not
//! send what it had named.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashlink::LruCache;
use parking_lot::Mutex;

use super::requester::Credential;
use crate::oci::digest::Digest;
use crate::oci::name::Repository;
use crate::policy::access::within;

/// Entries of each kind.
const MOST: usize = 4096;
/// Who sent wrong bytes is asked for them last for so long.
const WRONG: Duration = Duration::from_secs(3600);
/// Who did not send what it named does not get to name it for so long.
const UNSENT: Duration = Duration::from_secs(60);

/// What happened lately.
pub(super) struct Lately<K> {
    happened: Mutex<LruCache<K, SystemTime>>,
    remembered: Duration,
}

/// A source, by its name, sent wrong bytes of a digest.
pub(super) type WrongSenders = Lately<(Digest, Arc<str>)>;

/// A source did not send a manifest of a repository to whom it had, or others had, named it: what one
/// client is refused is nobody else's.
pub(super) type Unsent = Lately<(Digest, Arc<str>, Repository, Credential)>;

impl WrongSenders {
    pub(super) fn wrong() -> WrongSenders {
        Lately::for_so_long(WRONG)
    }
}

impl Unsent {
    pub(super) fn unsent() -> Unsent {
        Lately::for_so_long(UNSENT)
    }
}

impl<K: Hash + Eq> Lately<K> {
    fn for_so_long(remembered: Duration) -> Lately<K> {
        Lately { happened: Mutex::new(LruCache::new(MOST)), remembered }
    }

    pub(super) fn note(&self, what: K, now: SystemTime) {
        self.happened.lock().insert(what, now);
    }

    pub(super) fn has(&self, what: &K, now: SystemTime) -> bool {
        let at = self.happened.lock().peek(what).copied();
        within(at, self.remembered, now)
    }
}

impl<K> fmt::Debug for Lately<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lately")
    }
}
