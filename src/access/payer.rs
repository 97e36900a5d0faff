//! Whose login goes upstream, and who pays for the bytes.

use super::check::Access;
use crate::oci::name::RepositoryKey;
use crate::policy::registry::Site;
use crate::upstream::requester::{Credential, Payer, Requester};

impl Access {
    /// Who asks upstream for bytes. The operator's account pays for requesters without a
    /// credential, for what anonymous may read.
    pub fn payer(&self, requester: &Requester, site: &Site, key: &RepositoryKey) -> Requester {
        let asking = self.requester_for_upstream(requester, key);
        let pays = may_be_paid(requester, site) && self.is_freshly_public(key);
        if pays { asking.on_account_for_all() } else { asking }
    }

    /// The requester, marked as granted where that is known: then other sources than the registry
    /// may be asked for it.
    pub fn requester_for_upstream(&self, requester: &Requester, key: &RepositoryKey) -> Requester {
        let is_granted = self.check(requester, key, None).usable_while_away();
        if is_granted { requester.clone().granted() } else { requester.clone() }
    }

    /// Whether it must be found out first that anonymous may read here, since the operator's
    /// account would pay.
    pub fn needs_asking_before_paying(&self, requester: &Requester, site: &Site, key: &RepositoryKey) -> bool {
        may_be_paid(requester, site) && !self.is_freshly_public(key)
    }
}

fn may_be_paid(requester: &Requester, site: &Site) -> bool {
    let is_anonymous = requester.credential == Credential::Anonymous && requester.payer == Payer::Own;
    is_anonymous && site.registry.account.is_some()
}
