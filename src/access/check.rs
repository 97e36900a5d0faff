//! One place that answers who may read what, and hears what upstream says of that.

use std::sync::Arc;
use std::time::SystemTime;

use super::grants::{Grants, Opened};
use super::logins::Logins;
use super::presence::Presence;
use super::secret::Secret;
use crate::clock::Clock;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::{GrantRecord, GrantTtls, Permission};
use crate::records::{Journal, Records};
use crate::task::Tasks;
use crate::upstream::requester::{Credential, Requester};

/// What is known of who may read what. Clones share it.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    grants: Grants,
    presence: Presence,
    logins: Logins,
    secret: Arc<Secret>,
    clock: Clock,
}

/// When an answer came.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: SystemTime,
    /// Of presences, until then.
    removals: u64,
}

impl Access {
    /// With what was recorded of grants and logins, which is taken out of `records`.
    pub fn new(
        ttls: GrantTtls,
        presence: Presence,
        secret: Arc<Secret>,
        journal: &Journal,
        records: &mut Records,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Access {
        let known = std::mem::take(&mut records.logins);
        let logins = Logins::new(ttls.offline, secret.clone(), journal.clone(), clock.clone(), tasks.clone(), known);
        let (public, shared) = (std::mem::take(&mut records.public), std::mem::take(&mut records.shared));
        let opened = Opened { public, shared };
        let grants = Grants::new(ttls, presence.clone(), journal.clone(), logins.clone(), opened);
        Access(Arc::new(Inner { grants, presence, logins, secret, clock: clock.clone() }))
    }

    /// Whether a requester may read a digest in a repository; without a digest, whether it may read
    /// there at all.
    pub fn check(
        &self,
        requester: &Requester,
        key: &RepositoryKey,
        content: Option<(&Digest, ContentKind)>,
    ) -> Permission {
        let record = self.0.grants.record(key, requester.credential, content);
        record.permission(self.0.grants.ttls(), self.now())
    }

    /// Records that upstream has a digest in a repository, and that it granted `who`, if given, to read there.
    pub fn record_grant(&self, key: &RepositoryKey, who: Option<Credential>, digest: &Digest, kind: ContentKind) {
        if let Some(who) = who {
            let now = self.now();
            self.0.grants.grant(key, who, now);
            self.0.grants.note_found(key, who, (digest, kind), now);
        }
        self.0.presence.confirm(key, digest, kind);
    }

    /// Upstream said to a requester that a repository has no such digest: what was granted to that
    /// requester alone opens it no longer, until upstream says otherwise.
    pub fn note_missing(&self, key: &RepositoryKey, requester: &Requester, content: (&Digest, ContentKind)) {
        if let Some(who) = requester.grants_to() {
            self.0.grants.note_missing(key, who, content, self.now());
        }
    }

    /// Whether that was upstream's last word of the digest to the requester.
    pub fn was_missing(&self, key: &RepositoryKey, requester: &Requester, content: (&Digest, ContentKind)) -> bool {
        requester.grants_to().is_some_and(|who| self.0.grants.was_missing(key, who, content))
    }

    /// Now, for [`Access::record_proved`].
    pub fn moment(&self) -> Moment {
        Moment { at: self.now(), removals: self.0.presence.removals() }
    }

    /// The same by an answer of then, which has been proved only now. What upstream refused since, or
    /// removed, stays so.
    pub fn record_proved(
        &self,
        key: &RepositoryKey,
        who: Option<Credential>,
        (digest, kind): (&Digest, ContentKind),
        then: Moment,
    ) {
        if let Some(who) = who {
            self.0.grants.grant_of(key, who, then.at);
            self.0.grants.note_found(key, who, (digest, kind), then.at);
        }
        self.0.presence.confirm_of(key, digest, kind, then.removals);
    }

    /// Upstream refused `who` in a repository.
    pub fn revoke(&self, key: &RepositoryKey, who: Credential) {
        self.0.grants.revoke(key, who, self.now());
    }

    /// Upstream refused the operator's account itself.
    pub fn account_refused(&self, key: &RepositoryKey) {
        self.0.grants.account_refused(key, self.now());
    }

    /// Which repository has which digest.
    pub fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// Logins that were good before upstream became unreachable.
    pub fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// What this installation alone knows.
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// Whether upstream's last answer was that anonymous may read a repository.
    pub fn is_public(&self, key: &RepositoryKey) -> bool {
        self.anonymous(key).permission(self.0.grants.ttls(), self.now()).usable_while_away()
    }

    /// Whether upstream granted a repository to anonymous, and that is fresh.
    pub(super) fn is_freshly_public(&self, key: &RepositoryKey) -> bool {
        self.anonymous(key).is_public(self.0.grants.ttls(), self.now())
    }

    /// Whether there is anything in a registry that upstream's last answer opens to anonymous, or
    /// to a login that is remembered.
    pub fn opens_some(&self, namespace: &str) -> bool {
        self.0.grants.opens_some(namespace) || self.0.logins.knows_some(namespace)
    }

    fn anonymous(&self, key: &RepositoryKey) -> GrantRecord {
        self.0.grants.record(key, Credential::Anonymous, None)
    }

    fn now(&self) -> SystemTime {
        self.0.clock.now()
    }
}
