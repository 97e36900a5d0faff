//! TLS that seawall passes through, and that comes back to it.
//!
//! A host whose address is that of a balancer or a port mapping in front of seawall is dialled, and
//! seawall is reached again: the address is not one of its own, and there is no request to write a
//! `Via` in. But a ClientHello passes untouched, and no two are alike (32 random bytes, RFC 8446
//! 4.1.2): one that is passing through already has come back.

use std::collections::HashSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

type Fingerprint = [u8; 32];

/// The ClientHellos that pass through now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Relayed(Arc<Mutex<HashSet<Fingerprint>>>);

/// The passage of one of them, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Passage {
    relayed: Relayed,
    fingerprint: Fingerprint,
}

impl Relayed {
    /// Notes this one. `None`: it is passing through already, so it has come back.
    pub(crate) fn enter(&self, hello: &[u8]) -> Option<Passage> {
        let fingerprint = digest(&SHA256, hello).as_ref().try_into().expect("SHA-256 has 32 bytes");
        let is_new = self.0.lock().insert(fingerprint);
        is_new.then(|| Passage { relayed: self.clone(), fingerprint })
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.relayed.0.lock().remove(&self.fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_through_is_known_until_it_has_passed() {
        let relayed = Relayed::default();
        let first = relayed.enter(b"hello").unwrap();
        assert!(relayed.enter(b"hello").is_none());
        let other = relayed.enter(b"another").unwrap();
        drop(first);
        assert!(relayed.enter(b"hello").is_some());
        drop(other);
        assert!(relayed.0.lock().is_empty());
    }
}
