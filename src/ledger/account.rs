//! Whose quota a request is taken off, and the name that it goes by.

use std::fmt;
use std::sync::Arc;

/// Whose quota a request is taken off.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Anonymous requests': counted by the address that upstream sees.
    Anonymous,
    /// The operator's account's.
    Account,
    /// A client's own, by a keyed hash of its credential.
    Client([u8; 16]),
}

impl Identity {
    /// The word of the log and of the API. A hash is not shown.
    pub fn as_str(&self) -> &'static str {
        match self {
            Identity::Anonymous => "anonymous",
            Identity::Account => "account",
            Identity::Client(_) => "client",
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose quota at which host: mirrors of one registry count for themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaOwner {
    /// The registry's name.
    pub registry: Arc<str>,
    /// The host that counts, with its port if that is not the usual one.
    pub host: Arc<str>,
    /// Whose quota it is.
    pub identity: Identity,
}

/// One quota: that of an owner, as far as upstream sees it as one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Whose it is. A client that upstream names has no hash here.
    pub owner: QuotaOwner,
    /// As upstream says: an address, an IPv6 /64, an account's name. Empty: it does not.
    pub source: Arc<str>,
}

impl Account {
    /// What the metrics call it: as upstream does, else by whose it is.
    pub fn label(&self) -> &str {
        if self.source.is_empty() { self.owner.identity.as_str() } else { &self.source }
    }

    pub(super) fn of(owner: &QuotaOwner, source: Option<&str>) -> Account {
        let identity = match owner.identity {
            Identity::Client(_) if source.is_some() => Identity::Client([0; 16]),
            other => other,
        };
        Account { owner: QuotaOwner { identity, ..owner.clone() }, source: source.unwrap_or_default().into() }
    }
}
