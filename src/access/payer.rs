//! Whose login goes upstream, and who pays for the bytes.

use super::check::Access;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Verdict;
use crate::policy::registry::Site;
use crate::upstream::requester::{Credential, Payer, Requester};

impl Access {
    /// Who asks upstream for the bytes of a digest. The operator's account pays for requesters
    /// without a credential, for what anonymous may read; other sources than the registry are asked
    /// for who may read.
    pub fn payer(
        &self,
        requester: &Requester,
        site: &Site,
        key: &RepositoryKey,
        content: (&Digest, ContentKind),
    ) -> Requester {
        let permission = self.check(requester, key, content).permission;
        let asking = if permission.verdict != Verdict::Ask { requester.clone().granted() } else { requester.clone() };
        let pays = may_be_paid(requester, site) && self.is_freshly_open(key, content);
        if pays { asking.on_account_for_all() } else { asking }
    }

    /// Whether it must be found out first that anonymous may read this, since the operator's account
    /// would pay for it, or an account of another source.
    pub fn needs_asking_before_paying(&self, requester: &Requester, site: &Site, kind: ContentKind) -> bool {
        // No registry counts blobs: they are fetched as anonymous.
        may_be_paid(requester, site) && kind == ContentKind::Manifest || site.registry.chain.has_closed_sources()
    }
}

fn may_be_paid(requester: &Requester, site: &Site) -> bool {
    let is_anonymous = requester.credential == Credential::Anonymous && requester.payer == Payer::Own;
    is_anonymous && site.registry.account.is_some()
}
