//! What upstream granted, to whom, for which repository.
//!
//! - A grant to anonymous makes a repository public. It is written down, and stands while upstream
//!   cannot be asked.
//! - A grant to a credential is kept in memory, under a keyed hash. For a login it is written down
//!   if the operator says so: see [`logins`](super::logins).
//! - A grant to the operator's account, for what the operator shares, is written down too, and
//!   stands until upstream refuses the account.
//!
//! A grant opens what the repository is known to have: see [`presence`](super::presence).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::RwLock;

use super::logins::Logins;
use super::presence::{Presence, Present};
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::{GrantRecord, GrantTtls};
use crate::records::{Journal, Table, seconds, time};
use crate::upstream::requester::{Credential, Fingerprint};

/// The grants.
#[derive(Debug)]
pub struct Grants {
    ttls: GrantTtls,
    presence: Presence,
    journal: Journal,
    logins: Logins,
    public: RwLock<HashMap<RepositoryKey, SystemTime>>,
    shared: RwLock<HashMap<RepositoryKey, Shared>>,
    own: Cache<(RepositoryKey, Fingerprint), SystemTime>,
    /// Digests that a repository has not, by upstream's last word to who asked.
    missing: Cache<(RepositoryKey, Digest, ContentKind, Credential), SystemTime>,
    /// The latest refusals: a grant may be of an answer from before.
    refused: Cache<(RepositoryKey, Credential), SystemTime>,
}

/// A grant to the operator's account.
#[derive(Clone, Copy, Debug)]
struct Shared {
    at: SystemTime,
    /// Not once the account itself was refused.
    stands: bool,
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
    pub fn new(ttls: GrantTtls, presence: Presence, journal: Journal, logins: Logins, opened: Opened) -> Grants {
        let read = |known: Vec<(String, u64)>| {
            known.into_iter().map(|(repository, at)| (RepositoryKey::from(repository.as_str()), time(at)))
        };
        let public = read(opened.public).collect();
        let shared = read(opened.shared).map(|(repository, at)| (repository, Shared { at, stands: true })).collect();
        let (public, shared) = (RwLock::new(public), RwLock::new(shared));
        Grants {
            ttls,
            presence,
            journal,
            logins,
            public,
            shared,
            own: lru(100_000),
            missing: lru(50_000),
            refused: lru(10_000),
        }
    }

    /// How long grants are fresh.
    pub fn ttls(&self) -> GrantTtls {
        self.ttls
    }

    /// What is recorded of `who` in `repository`, and of a digest there if one is asked for.
    pub fn record(
        &self,
        repository: &RepositoryKey,
        who: Credential,
        content: Option<(&Digest, ContentKind)>,
    ) -> GrantRecord {
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
        let is_any = own.is_some() || shared.is_some() || remembered.is_some();
        if is_any && content.is_some_and(|content| self.was_missing(repository, who, content)) {
            (own, shared, remembered) = (None, None, None);
        }
        GrantRecord {
            public,
            own,
            shared,
            remembered,
            holds: content.is_none_or(|(digest, kind)| self.holds(repository, digest, kind)),
        }
    }

    /// A claim counts where it opens nothing that is closed: for what upstream has in some public
    /// repository.
    fn holds(&self, repository: &RepositoryKey, digest: &Digest, kind: ContentKind) -> bool {
        match self.presence.of(repository, digest, kind) {
            Present::Confirmed => true,
            Present::Inferred => {
                let public = self.public.read();
                self.presence.is_confirmed_where(digest, kind, |repository| public.contains_key(repository))
            }
            Present::Unknown => false,
        }
    }

    /// Whether any repository of a registry is public, by upstream's last answer.
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
            // Upstream was asked as anonymous.
            Credential::Remembered(_) => {}
        }
    }

    /// Upstream told `who` that `repository` has no such digest.
    pub fn note_missing(
        &self,
        repository: &RepositoryKey,
        who: Credential,
        (digest, kind): (&Digest, ContentKind),
        now: SystemTime,
    ) {
        self.missing.insert((repository.clone(), digest.clone(), kind, who), now);
    }

    /// Upstream told `who` that it has one, by an answer of `then`: what it said since stands.
    pub fn note_found(
        &self,
        repository: &RepositoryKey,
        who: Credential,
        (digest, kind): (&Digest, ContentKind),
        then: SystemTime,
    ) {
        let content = (repository.clone(), digest.clone(), kind, who);
        if self.missing.get(&content).is_some_and(|missing| missing <= then) {
            self.missing.invalidate(&content);
        }
    }

    /// Whether upstream's last word of it to `who` was that there is no such digest.
    pub fn was_missing(&self, repository: &RepositoryKey, who: Credential, content: (&Digest, ContentKind)) -> bool {
        let (digest, kind) = content;
        self.missing.contains_key(&(repository.clone(), digest.clone(), kind, who))
    }

    /// Upstream let `who` read in `repository` by an answer of `then`, if it has neither refused nor
    /// granted that since.
    pub fn grant_of(&self, repository: &RepositoryKey, who: Credential, then: SystemTime) {
        let refused = self.refused.get(&(repository.clone(), who));
        let is_latest = |at: Option<SystemTime>| at.is_none_or(|at| at < then);
        if is_latest(refused) && is_latest(self.granted_at(repository, who)) {
            self.grant(repository, who, then);
        }
    }

    fn granted_at(&self, repository: &RepositoryKey, who: Credential) -> Option<SystemTime> {
        match who {
            Credential::Anonymous => self.public.read().get(repository).copied(),
            Credential::Account => self.shared.read().get(repository).map(|shared| shared.at),
            Credential::Known(print) => self.own.get(&(repository.clone(), print)),
            Credential::Remembered(_) => None,
        }
    }

    /// Upstream did not let `who` read in `repository`.
    pub fn revoke(&self, repository: &RepositoryKey, who: Credential, now: SystemTime) {
        self.refused.insert((repository.clone(), who.asked_as()), now);
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
            // Upstream was asked as anonymous.
            Credential::Anonymous | Credential::Remembered(_) => {
                if self.public.write().remove(repository).is_some() {
                    self.journal.remove(Table::Public, repository.to_string());
                }
            }
        }
    }

    /// Upstream refused the operator's account itself: what it was granted in `repository` is fresh
    /// for as long as any grant, and no outage makes that longer.
    pub fn account_refused(&self, repository: &RepositoryKey, now: SystemTime) {
        self.refused.insert((repository.clone(), Credential::Account), now);
        let mut shared = self.shared.write();
        let Some(known) = shared.get_mut(repository).filter(|known| known.stands) else { return };
        known.stands = false;
        self.journal.remove(Table::Shared, repository.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::policy::access::Permission;
    use crate::store::index::Index;
    use crate::upstream::requester::Keyring;

    const TTLS: GrantTtls =
        GrantTtls { public: Duration::from_secs(900), own: Duration::from_secs(300), offline: Duration::ZERO };

    fn grants(index: &Index) -> (Grants, Presence) {
        let presence = Presence::new(index.clone(), Journal::off());
        (Grants::new(TTLS, presence.clone(), Journal::off(), Logins::off(), Opened::default()), presence)
    }

    #[test]
    fn a_grant_is_for_one_repository_and_one_credential() {
        let (grants, presence) = grants(&Index::new(Journal::off()));
        let (ring, now) = (Keyring::new(), time(1000));
        let who = |text: &'static str| ring.requester(Some(&http::HeaderValue::from_static(text)), now).credential;
        let (alice, bob) = (who("Basic a"), who("Basic b"));
        let (app, other): (RepositoryKey, RepositoryKey) = ("docker.io/acme/app".into(), "docker.io/acme/other".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        grants.grant(&app, alice, now);
        let may = |repository, who, digest| {
            grants.record(repository, who, digest).permission(TTLS, now) == Permission::Established
        };
        assert!(may(&app, alice, None));
        assert!(!may(&app, bob, None) && !may(&other, alice, None) && !may(&app, Credential::Anonymous, None));
        assert!(!may(&app, alice, Some((&digest, ContentKind::Blob))), "upstream did not say that the digest is there");
        presence.confirm(&app, &digest, ContentKind::Blob);
        assert!(
            may(&app, alice, Some((&digest, ContentKind::Blob))) && !may(&app, bob, Some((&digest, ContentKind::Blob)))
        );
        grants.revoke(&app, alice, time(1010));
        assert!(!may(&app, alice, None));
        grants.grant_of(&app, alice, time(1010));
        assert!(!may(&app, alice, None), "the answer came before the refusal");
        grants.grant_of(&app, alice, time(1011));
        assert!(may(&app, alice, None));
        grants.grant(&app, alice, time(1300));
        grants.grant_of(&app, alice, time(1012));
        assert_eq!(grants.granted_at(&app, alice), Some(time(1300)), "no grant gets older");
        grants.revoke(&app, alice, time(1301));
        grants.grant(&app, Credential::Anonymous, now);
        assert!(may(&app, bob, None), "public is for all");
    }

    #[test]
    fn an_answer_from_before_the_accounts_refusal_is_no_grant_to_it() {
        let (grants, _) = grants(&Index::new(Journal::off()));
        let app = RepositoryKey::from("docker.io/acme/app");
        grants.grant(&app, Credential::Account, time(1000));
        grants.account_refused(&app, time(1010));
        grants.grant_of(&app, Credential::Account, time(1005));
        assert!(!grants.shared.read()[&app].stands);
        grants.grant_of(&app, Credential::Account, time(1011));
        assert!(grants.shared.read()[&app].stands);
    }

    /// Pitfall 46: some registries say 404 to whoever may not read.
    #[test]
    fn a_404_is_about_who_asked() {
        let (grants, presence) = grants(&Index::new(Journal::off()));
        let (ring, now) = (Keyring::new(), time(1000));
        let who = |text: &'static str| ring.requester(Some(&http::HeaderValue::from_static(text)), now).credential;
        let (alice, bob, app) = (who("Basic a"), who("Basic b"), RepositoryKey::from("docker.io/acme/app"));
        let digests = [b"1", b"2"].map(|bytes| Digest::of(Algorithm::Sha256, bytes));
        let (one, two) = ((&digests[0], ContentKind::Blob), (&digests[1], ContentKind::Blob));
        let as_manifest = (&digests[0], ContentKind::Manifest);
        [alice, bob].into_iter().for_each(|who| grants.grant(&app, who, now));
        [one, two, as_manifest].into_iter().for_each(|(digest, kind)| presence.confirm(&app, digest, kind));
        let may =
            |who, content| grants.record(&app, who, Some(content)).permission(TTLS, now) == Permission::Established;
        grants.note_missing(&app, bob, one, now);
        assert!(may(bob, as_manifest), "a manifest is no blob");
        assert!(!may(bob, one) && may(bob, two) && may(alice, one));
        grants.grant(&app, bob, now);
        assert!(!may(bob, one), "a grant by another digest is none for this");
        grants.grant(&app, Credential::Anonymous, now);
        assert!(may(bob, one), "public is for all");
        grants.revoke(&app, Credential::Anonymous, now);
        grants.note_found(&app, bob, one, time(999));
        assert!(!may(bob, one), "an answer from before the 404");
        grants.note_found(&app, bob, one, now);
        assert!(may(bob, one));
    }

    /// Whoever lists a private digest in a manifest of their own gets nothing by it.
    #[test]
    fn a_manifests_claim_opens_only_what_is_public_somewhere() {
        let index = Index::new(Journal::off());
        let (grants, presence) = grants(&index);
        let (private, public, evil): (RepositoryKey, RepositoryKey, RepositoryKey) =
            ("r/acme/app".into(), "r/a/b".into(), "r/e/vil".into());
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let now = time(1000);
        drop(index.insert(&digest, 1, None, now));
        presence.confirm(&private, &digest, ContentKind::Blob);
        grants.grant(&evil, Credential::Anonymous, now);
        presence.infer(&evil, [(digest.clone(), ContentKind::Blob)].iter());
        let may = |repository| {
            let record = grants.record(repository, Credential::Anonymous, Some((&digest, ContentKind::Blob)));
            record.permission(TTLS, now) == Permission::Established
        };
        assert!(!may(&evil));
        grants.grant(&public, Credential::Anonymous, now);
        assert!(!may(&evil), "public, but upstream did not say that it has this");
        presence.confirm(&public, &digest, ContentKind::Blob);
        assert!(may(&evil), "it opens nothing that is closed");
        presence.infer(&public, [(digest.clone(), ContentKind::Blob)].iter());
        assert!(may(&public), "a claim takes no confirmation back");
    }
}
