//! Clients that broke off their TLS handshake since they do not trust the root.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hashlink::LruCache;
use parking_lot::Mutex;

use crate::policy::verdict;

/// Addresses that are remembered.
const MOST: usize = 1024;
/// Who did so longer ago is forgotten.
const LATELY: Duration = Duration::from_secs(3600);

/// Them. Clones share one.
#[derive(Clone)]
pub struct Distrust(Arc<Mutex<LruCache<IpAddr, SystemTime>>>);

impl Default for Distrust {
    fn default() -> Distrust {
        Distrust(Arc::new(Mutex::new(LruCache::new(MOST))))
    }
}

impl fmt::Debug for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Distrust")
    }
}

impl Distrust {
    /// One broke off.
    pub fn note(&self, client: IpAddr, now: SystemTime) {
        self.0.lock().insert(client, now);
    }

    /// One went on: it has the root by now.
    pub fn forget(&self, client: IpAddr) {
        self.0.lock().remove(&client);
    }

    /// Who lately broke off, and has not gone on since.
    pub fn report(&self, now: SystemTime) -> Option<verdict::Distrust> {
        let all = self.0.lock();
        let lately = |at: &SystemTime| now.duration_since(*at).is_ok_and(|passed| passed < LATELY);
        let (last, at) = all.iter().filter(|(_, at)| lately(at)).max_by_key(|(_, at)| **at)?;
        let clients = all.iter().filter(|(_, at)| lately(at)).count();
        Some(verdict::Distrust { clients, last: *last, at: *at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_is_forgotten_and_so_is_what_was_long_ago() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let distrust = Distrust::default();
        assert_eq!(distrust.report(at(0)), None);
        (1..=3).for_each(|n| distrust.note(client(n), at(u64::from(n))));
        assert_eq!(distrust.report(at(5)), Some(verdict::Distrust { clients: 3, last: client(3), at: at(3) }));
        distrust.forget(client(3));
        assert_eq!(distrust.report(at(5)), Some(verdict::Distrust { clients: 2, last: client(2), at: at(2) }));
        assert_eq!(distrust.report(at(3601)).map(|it| it.clients), Some(1));
        assert_eq!(distrust.report(at(3602)), None);
    }

    #[test]
    fn no_crowd_grows_it() {
        let distrust = Distrust::default();
        for n in 0..3000_u32 {
            distrust.note(IpAddr::from(n.to_be_bytes()), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(distrust.report(SystemTime::UNIX_EPOCH).unwrap().clients, MOST);
    }
}
