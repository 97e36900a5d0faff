//! Manifests that could not be had a moment ago, and why.

use std::time::{Duration, SystemTime};

use moka::sync::Cache;

use super::pull::{Pull, Wanted};
use crate::error::Error;
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::name::RepositoryKey;
use crate::policy::freshness::Reason;
use crate::upstream::requester::Credential;

/// Recent failures to fetch a manifest.
pub(super) struct NegativeCache(Cache<(RepositoryKey, Digest, Credential), (Error, SystemTime)>);

/// A manifest is not tried again for a tag's sake for so long, where something else can be served.
const RESTS: Duration = Duration::from_secs(10);

impl Default for NegativeCache {
    fn default() -> NegativeCache {
        NegativeCache(lru(10_000))
    }
}

impl NegativeCache {
    /// Notes that a manifest could not be fetched.
    pub(super) fn note_failure(&self, pull: &Pull, digest: &Digest, error: &Error, now: SystemTime) {
        if matches!(pull.wanted, Wanted::Manifest(..)) && Reason::of(error.kind()).is_some() {
            self.0.insert(key(pull, digest), (error.clone(), now + RESTS));
        }
    }

    /// Why it did not come lately.
    pub(super) fn failed_lately(&self, pull: &Pull, digest: &Digest, now: SystemTime) -> Option<Error> {
        let (error, until) = self.0.get(&key(pull, digest))?;
        (now < until).then_some(error)
    }
}

/// What one client shows may be why it fails.
fn key(pull: &Pull, digest: &Digest) -> (RepositoryKey, Digest, Credential) {
    (pull.key.clone(), digest.clone(), pull.requester.credential.asked_as())
}
