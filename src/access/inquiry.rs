//! What is known when a question is sent to upstream, or a manifest is given.

use super::persons::Shared;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Evidence;
use crate::policy::stamp::Stamp;
use crate::upstream::requester::Credential;

/// A question that is about to be sent to upstream: only its answer is evidence.
#[derive(Clone, Debug)]
pub struct Inquiry {
    pub(super) key: RepositoryKey,
    /// Whom a refusal is to.
    pub(super) who: Credential,
    pub(super) sent: Stamp,
    /// Held until the answer comes: a refusal that came meanwhile is in it.
    pub(super) person: Shared,
}

impl Inquiry {
    /// The latest refusal to a requester that is known to who asked.
    pub(super) fn refused_to(&self, who: Credential) -> Option<Stamp> {
        if who == self.who { self.person.lock().refused() } else { None }
    }

    /// Whether it is that of the operator's account.
    pub fn is_accounts(&self) -> bool {
        self.who == Credential::Account
    }

    /// Whether it is anonymous's.
    pub fn is_anonymous(&self) -> bool {
        self.who == Credential::Anonymous
    }

    /// The repository that is asked about.
    pub fn key(&self) -> &RepositoryKey {
        &self.key
    }
}

/// The yes on which a manifest is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The requester's own.
    pub(super) own: Option<Stamp>,
    /// Anonymous's.
    pub(super) open: Option<Stamp>,
    /// When upstream first named the manifest.
    pub(super) since: Stamp,
}

impl Given {
    pub(super) fn of(evidence: &Evidence) -> Option<Given> {
        let (own, open) = (evidence.to_requester(), evidence.open());
        let given = Given { own, open, since: evidence.presence?.since };
        Some(given).filter(|_| own.is_some() || open.is_some())
    }
}
