//! Whose yes upstream gave, for which repository, and what a repository was seen to hold.
//!
//! - A yes to nobody makes a repository public. It is written down, and stands while upstream cannot be asked.
//! - A yes to a credential is kept in memory, under a keyed hash.
//! - What a repository holds is kept with the blobs that are here (`index`), and for a while for those that a manifest listed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::RwLock;

use crate::index::Index;
use crate::index::journal::{Journal, Table, seconds, time};
use crate::oci::digest::Digest;
use crate::policy::access::{Belief, Known};
use crate::upstream::asker::{Credential, Fingerprint};

/// The grants.
#[derive(Debug)]
pub struct Grants {
    belief: Belief,
    index: Index,
    journal: Journal,
    public: RwLock<HashMap<Arc<str>, SystemTime>>,
    own: Cache<(Arc<str>, Fingerprint), SystemTime>,
    /// Digests that upstream said a repository holds, and that are not here.
    listed: Cache<(Arc<str>, Digest), ()>,
}

/// A public repository is written down again when the last time is this old.
const COARSE: Duration = Duration::from_secs(60);

impl Grants {
    /// With what the journal knew: `REGISTRY/REPOSITORY` and seconds since 1970.
    pub fn new(belief: Belief, index: Index, journal: Journal, public: Vec<(String, u64)>) -> Grants {
        let public = public.into_iter().map(|(place, at)| (place.into(), time(at))).collect();
        Grants {
            belief,
            index,
            journal,
            public: RwLock::new(public),
            own: Cache::new(100_000),
            listed: Cache::builder().max_capacity(50_000).time_to_idle(Duration::from_secs(3600)).build(),
        }
    }

    /// How long a yes is believed.
    pub fn belief(&self) -> Belief {
        self.belief
    }

    /// What is known of `who` in `place`, and of `digest` there if one is asked for.
    pub fn known(&self, place: &Arc<str>, who: Credential, digest: Option<&Digest>) -> Known {
        let own = match who {
            Credential::Anonymous => None,
            Credential::Known(print) => self.own.get(&(place.clone(), print)),
        };
        let public = self.public.read().get(place).copied();
        Known { public, own, holds: digest.is_none_or(|digest| self.holds(place, digest)) }
    }

    fn holds(&self, place: &Arc<str>, digest: &Digest) -> bool {
        self.index.is_seen_in(digest, place) || self.listed.contains_key(&(place.clone(), digest.clone()))
    }

    /// Upstream let `who` read in `place`.
    pub fn grant(&self, place: &Arc<str>, who: Credential, now: SystemTime) {
        let Credential::Anonymous = who else {
            return self.grant_own(place, who, now);
        };
        let before = self.public.write().insert(place.clone(), now);
        if before.is_none_or(|at| now.duration_since(at).unwrap_or_default() >= COARSE) {
            self.journal.write(Table::Public, place.to_string(), &seconds(now));
        }
    }

    fn grant_own(&self, place: &Arc<str>, who: Credential, now: SystemTime) {
        if let Credential::Known(print) = who {
            self.own.insert((place.clone(), print), now);
        }
    }

    /// Upstream did not let `who` read in `place`.
    pub fn revoke(&self, place: &Arc<str>, who: Credential) {
        match who {
            Credential::Known(print) => self.own.invalidate(&(place.clone(), print)),
            Credential::Anonymous => {
                if self.public.write().remove(place).is_some() {
                    self.journal.remove(Table::Public, place.to_string());
                }
            }
        }
    }

    /// Upstream has these in `place`.
    pub fn holds_all<'a>(&self, place: &Arc<str>, digests: impl Iterator<Item = &'a Digest>) {
        for digest in digests {
            if self.index.has(digest) {
                self.index.seen_in(digest, place);
            } else {
                self.listed.insert((place.clone(), digest.clone()), ());
            }
        }
    }

    /// Upstream no longer has this in `place`.
    pub fn holds_no_more(&self, place: &Arc<str>, digest: &Digest) {
        self.index.not_in(digest, place);
        self.listed.invalidate(&(place.clone(), digest.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::upstream::asker::Keyring;

    #[test]
    fn a_yes_is_for_one_repository_and_one_credential() {
        let index = Index::new(Journal::off());
        let belief = Belief { public: Duration::from_secs(900), own: Duration::from_secs(300) };
        let grants = Grants::new(belief, index, Journal::off(), Vec::new());
        let (ring, now) = (Keyring::new(), time(1000));
        let who = |text: &'static str| ring.asker(Some(&http::HeaderValue::from_static(text)), now).credential;
        let (alice, bob) = (who("Basic a"), who("Basic b"));
        let (app, other): (Arc<str>, Arc<str>) = ("docker.io/acme/app".into(), "docker.io/acme/other".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        grants.grant(&app, alice, now);
        let may = |place, who, digest| grants.known(place, who, digest).granted(belief, now);
        assert!(may(&app, alice, None));
        assert!(!may(&app, bob, None) && !may(&other, alice, None) && !may(&app, Credential::Anonymous, None));
        assert!(!may(&app, alice, Some(&digest)), "nobody said that the digest is there");
        grants.holds_all(&app, [&digest].into_iter());
        assert!(may(&app, alice, Some(&digest)) && !may(&app, bob, Some(&digest)));
        grants.revoke(&app, alice);
        assert!(!may(&app, alice, None));
        grants.grant(&app, Credential::Anonymous, now);
        assert!(may(&app, bob, None), "public is for all");
    }
}
