//! Who pays for the bytes, and what upstream's yes to that is worth.

use super::content::Permission;
use super::{Cache, Pull};
use crate::error::{Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::name::RepositoryKey;
use crate::policy::access::GrantRecord;
use crate::upstream::What;
use crate::upstream::requester::{Credential, Payer, Requester};

impl Cache {
    /// Who asks upstream for bytes. The operator's account pays for clients that show no credential, and for what everybody may read.
    pub(super) fn payer(&self, pull: &Pull) -> Requester {
        let requester = self.requester_for_upstream(pull);
        if may_be_paid(pull) && self.is_open(&self.known(pull)) { requester.on_account_for_all() } else { requester }
    }

    /// The requester, known to be allowed where that is known: then other sources than the registry may be asked for it.
    pub(super) fn requester_for_upstream(&self, pull: &Pull) -> Requester {
        let known = self.0.grants.known(&pull.key, pull.requester.credential, None);
        let allowed = known.usable_while_away(self.0.grants.ttls(), self.0.clock.now());
        if allowed { pull.requester.clone().allowed() } else { pull.requester.clone() }
    }

    /// Before the account pays it must be known that everybody may read this: a HEAD for nobody, which costs nothing, tells.
    pub(super) async fn ask_before_paying(
        &self,
        pull: &Pull,
        digest: &Digest,
        what: &What,
        permission: Permission,
    ) -> Result<()> {
        if permission == Permission::Established
            || !may_be_paid(pull)
            || self.is_open(&self.known(pull))
            || self.is_here(digest)
        {
            return Ok(());
        }
        match Box::pin(self.ask_digest(pull, digest, what)).await {
            Err(error) if matches!(error.kind(), Kind::Refused | Kind::Unreachable | Kind::Timeout) => Err(error),
            // Some do not answer a HEAD of what they have: then it is fetched for nobody.
            _ => Ok(()),
        }
    }

    /// Upstream gave this digest, which is a yes to `who`, if to anybody: they may read here, and the digest is here.
    pub(super) fn record_grant(&self, key: &RepositoryKey, who: Option<Credential>, digest: &Digest) {
        if let Some(who) = who {
            self.0.grants.grant(key, who, self.0.clock.now());
        }
        self.0.grants.confirm_presence(key, digest);
    }

    fn known(&self, pull: &Pull) -> GrantRecord {
        self.0.grants.known(&pull.key, Credential::Anonymous, None)
    }

    fn is_open(&self, known: &GrantRecord) -> bool {
        known.is_public(self.0.grants.ttls(), self.0.clock.now())
    }
}

fn may_be_paid(pull: &Pull) -> bool {
    let nobody = pull.requester.credential == Credential::Anonymous && pull.requester.payer == Payer::Own;
    nobody && pull.site.registry.account.is_some()
}
