//! Whose yes upstream gave, for which repository, and what a repository was seen to hold.
//!
//! - A yes to nobody makes a repository public. It is written down, and stands while upstream cannot be asked.
//! - A yes to a credential is kept in memory, under a keyed hash. For a login it is written down if the operator says so: see
//!   [`logins`](super::logins).
//! - A yes to the operator's account, for what the operator shares, is written down too, and stands until upstream refuses the account.
//! - What a repository holds is upstream's own word: an answer for that digest in that repository. It is kept with the blobs that are
//!   here (`index`), and for a while for those that are not.
//! - What a manifest lists is a claim of whoever wrote it, who may list what is not theirs. It counts where nothing is given away by
//!   that: for what upstream has in some public repository. For all else upstream is asked, by a HEAD that is not counted.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::RwLock;

use super::logins::Logins;
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::name::RepositoryKey;
use crate::policy::access::{GrantRecord, GrantTtls};
use crate::records::{Journal, Table, seconds, time};
use crate::store::index::Index;
use crate::upstream::requester::{Credential, Fingerprint};

/// The grants.
#[derive(Debug)]
pub struct Grants {
    ttls: GrantTtls,
    index: Index,
    journal: Journal,
    logins: Logins,
    public: RwLock<HashMap<RepositoryKey, SystemTime>>,
    shared: RwLock<HashMap<RepositoryKey, Shared>>,
    own: Cache<(RepositoryKey, Fingerprint), SystemTime>,
    /// Of digests that are not here, or are claimed only.
    facts: Cache<(RepositoryKey, Digest), Fact>,
}

/// A yes to the operator's account.
#[derive(Clone, Copy, Debug)]
struct Shared {
    at: SystemTime,
    /// Not once the account itself was refused.
    stands: bool,
}

/// Who says that a repository holds a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    /// Upstream.
    Word,
    /// A manifest.
    Claim,
}

/// What upstream opened: `REGISTRY/REPOSITORY` and seconds since 1970.
#[derive(Debug, Default)]
pub struct Opened {
    /// To everybody.
    pub public: Vec<(String, u64)>,
    /// To the operator's account.
    pub shared: Vec<(String, u64)>,
}

/// A repository is written down again when the last time is this old.
const COARSE: Duration = Duration::from_secs(60);

impl Grants {
    /// With what the journal knew.
    pub fn new(ttls: GrantTtls, index: Index, journal: Journal, logins: Logins, opened: Opened) -> Grants {
        let read = |known: Vec<(String, u64)>| {
            known.into_iter().map(|(repository, at)| (RepositoryKey::from(repository.as_str()), time(at)))
        };
        let public = read(opened.public).collect();
        let shared = read(opened.shared).map(|(repository, at)| (repository, Shared { at, stands: true })).collect();
        let (public, shared) = (RwLock::new(public), RwLock::new(shared));
        Grants { ttls, index, journal, logins, public, shared, own: lru(100_000), facts: lru(50_000) }
    }

    /// Whose logins are remembered.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    /// How long a yes is believed.
    pub fn ttls(&self) -> GrantTtls {
        self.ttls
    }

    /// What is known of `who` in `repository`, and of `digest` there if one is asked for.
    pub fn known(&self, repository: &RepositoryKey, who: Credential, digest: Option<&Digest>) -> GrantRecord {
        let (mut own, mut shared, mut remembered) = (None, None, None);
        match who {
            Credential::Anonymous => {}
            Credential::Account => {
                let known = self.shared.read().get(repository).copied();
                own = known.map(|known| known.at);
                shared = known.filter(|known| known.stands).map(|known| known.at);
            }
            Credential::Known(print) => {
                own = self.own.get(&(repository.clone(), print));
                remembered = self.logins.read_by(print, repository);
            }
            Credential::Remembered(login) => remembered = self.logins.read(login, repository),
        }
        let public = self.public.read().get(repository).copied();
        GrantRecord {
            public,
            own,
            shared,
            remembered,
            holds: digest.is_none_or(|digest| self.holds(repository, digest)),
        }
    }

    fn holds(&self, repository: &RepositoryKey, digest: &Digest) -> bool {
        if self.index.is_seen_in(digest, repository.as_str()) {
            return true;
        }
        match self.facts.get(&(repository.clone(), digest.clone())) {
            Some(Fact::Word) => {
                // It may have come since: what is here is written down.
                self.index.seen_in(digest, repository.as_str());
                true
            }
            Some(Fact::Claim) => {
                let public = self.public.read();
                self.index.is_seen_where(digest, |repository| public.contains_key(&RepositoryKey::from(repository)))
            }
            None => false,
        }
    }

    /// Whether any repository of a name space is public, by upstream's last word.
    pub fn opens_some(&self, namespace: &str) -> bool {
        let here = |repository: &RepositoryKey| repository.is_in(namespace);
        self.public.read().keys().any(here)
    }

    /// Upstream let `who` read in `repository`.
    pub fn grant(&self, repository: &RepositoryKey, who: Credential, now: SystemTime) {
        let is_old = |at: SystemTime| now.duration_since(at).unwrap_or_default() >= COARSE;
        match who {
            Credential::Anonymous => {
                let before = self.public.write().insert(repository.clone(), now);
                if before.is_none_or(is_old) {
                    self.journal.write(Table::Public, repository.to_string(), &seconds(now));
                }
            }
            Credential::Account => {
                let before = self.shared.write().insert(repository.clone(), Shared { at: now, stands: true });
                if before.is_none_or(|before| !before.stands || is_old(before.at)) {
                    self.journal.write(Table::Shared, repository.to_string(), &seconds(now));
                }
            }
            Credential::Known(print) => {
                self.own.insert((repository.clone(), print), now);
                self.logins.granted(print, repository);
            }
            // Nobody was asked for.
            Credential::Remembered(_) => {}
        }
    }

    /// Upstream did not let `who` read in `repository`.
    pub fn revoke(&self, repository: &RepositoryKey, who: Credential) {
        match who {
            Credential::Known(print) => {
                self.own.invalidate(&(repository.clone(), print));
                self.logins.revoked(print, repository);
            }
            Credential::Account => {
                if self.shared.write().remove(repository).is_some() {
                    self.journal.remove(Table::Shared, repository.to_string());
                }
            }
            // Nobody was asked for.
            Credential::Anonymous | Credential::Remembered(_) => {
                if self.public.write().remove(repository).is_some() {
                    self.journal.remove(Table::Public, repository.to_string());
                }
            }
        }
    }

    /// Upstream refused the operator's account itself: what it opened in `repository` is believed for as long as any yes, and no outage makes
    /// that longer.
    pub fn account_refused(&self, repository: &RepositoryKey) {
        let mut shared = self.shared.write();
        let Some(known) = shared.get_mut(repository).filter(|known| known.stands) else { return };
        known.stands = false;
        self.journal.remove(Table::Shared, repository.to_string());
    }

    /// Upstream said that it has this in `repository`.
    pub fn confirm_presence(&self, repository: &RepositoryKey, digest: &Digest) {
        if !self.index.seen_in(digest, repository.as_str()) {
            self.facts.insert((repository.clone(), digest.clone()), Fact::Word);
        }
    }

    /// A manifest that upstream has in `repository` lists these.
    pub fn infer_presence<'a>(&self, repository: &RepositoryKey, digests: impl Iterator<Item = &'a Digest>) {
        for digest in digests {
            self.facts.entry((repository.clone(), digest.clone())).or_insert(Fact::Claim);
        }
    }

    /// Upstream no longer has this in `repository`.
    pub fn remove_presence(&self, repository: &RepositoryKey, digest: &Digest) {
        self.index.not_in(digest, repository.as_str());
        self.facts.invalidate(&(repository.clone(), digest.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::upstream::requester::Keyring;

    #[test]
    fn a_yes_is_for_one_repository_and_one_credential() {
        let index = Index::new(Journal::off());
        let ttls =
            GrantTtls { public: Duration::from_secs(900), own: Duration::from_secs(300), offline: Duration::ZERO };
        let grants = Grants::new(ttls, index, Journal::off(), Logins::off(), Opened::default());
        let (ring, now) = (Keyring::new(), time(1000));
        let who = |text: &'static str| ring.requester(Some(&http::HeaderValue::from_static(text)), now).credential;
        let (alice, bob) = (who("Basic a"), who("Basic b"));
        let (app, other): (RepositoryKey, RepositoryKey) = ("docker.io/acme/app".into(), "docker.io/acme/other".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        grants.grant(&app, alice, now);
        let may = |repository, who, digest| grants.known(repository, who, digest).granted(ttls, now);
        assert!(may(&app, alice, None));
        assert!(!may(&app, bob, None) && !may(&other, alice, None) && !may(&app, Credential::Anonymous, None));
        assert!(!may(&app, alice, Some(&digest)), "nobody said that the digest is there");
        grants.confirm_presence(&app, &digest);
        assert!(may(&app, alice, Some(&digest)) && !may(&app, bob, Some(&digest)));
        grants.revoke(&app, alice);
        assert!(!may(&app, alice, None));
        grants.grant(&app, Credential::Anonymous, now);
        assert!(may(&app, bob, None), "public is for all");
    }

    /// A client has the last byte before the file is in its repository, and may ask for the same in another repository by then.
    #[test]
    fn what_was_said_of_a_digest_before_it_was_here_is_written_down_when_it_is() {
        let index = Index::new(Journal::off());
        let ttls = GrantTtls { public: Duration::ZERO, own: Duration::ZERO, offline: Duration::ZERO };
        let grants = Grants::new(ttls, index.clone(), Journal::off(), Logins::off(), Opened::default());
        let (first, then): (RepositoryKey, RepositoryKey) = ("r/first".into(), "r/then".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        grants.confirm_presence(&then, &digest);
        index.insert(&digest, 1, None, first.as_str(), time(1000));
        assert!(!index.is_seen_in(&digest, then.as_str()));
        assert!(grants.known(&then, Credential::Anonymous, Some(&digest)).holds);
        assert!(index.is_seen_in(&digest, then.as_str()));
    }

    /// Whoever lists a private digest in a manifest of their own gets nothing by it.
    #[test]
    fn a_manifests_claim_opens_only_what_is_public_somewhere() {
        let index = Index::new(Journal::off());
        let ttls =
            GrantTtls { public: Duration::from_secs(900), own: Duration::from_secs(300), offline: Duration::ZERO };
        let grants = Grants::new(ttls, index.clone(), Journal::off(), Logins::off(), Opened::default());
        let (private, public, evil): (RepositoryKey, RepositoryKey, RepositoryKey) =
            ("r/acme/app".into(), "r/a/b".into(), "r/e/vil".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let now = time(1000);
        index.insert(&digest, 1, None, private.as_str(), now);
        grants.grant(&evil, Credential::Anonymous, now);
        grants.infer_presence(&evil, [&digest].into_iter());
        let may = || grants.known(&evil, Credential::Anonymous, Some(&digest)).granted(ttls, now);
        assert!(!may());
        grants.grant(&public, Credential::Anonymous, now);
        assert!(!may(), "public, but nobody said that it holds this");
        grants.confirm_presence(&public, &digest);
        assert!(may(), "nothing is given away");
        grants.infer_presence(&public, [&digest].into_iter());
        assert!(
            grants.known(&public, Credential::Anonymous, Some(&digest)).granted(ttls, now),
            "a claim takes no word back"
        );
    }
}
