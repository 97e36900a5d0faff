//! May this requester read this digest, as this kind, in this repository, now? A pure function of
//! what upstream said: [`Evidence::permission`].
//!
//! A yes covers the digest it was said of, and what that manifest lists if upstream had named it in
//! the repository by then: no other tag, no other digest, no other repository, nobody else. A yes
//! is as old as its question, a refusal as young as its answer; a yes is *valid* if it was asked
//! for after the latest refusal, and *fresh* while it is valid and younger than its ttl.
//!
//! 1. Granted: a fresh yes to anonymous, or to the requester.
//! 2. The bytes alone, recorded nowhere: a manifest that the requester may read lists the digest,
//!    and anonymous may read it in another repository.
//! 3. Else upstream is asked.
//! 4. While upstream is unreachable: the last valid yes to anonymous stands, and one to the
//!    operator's account for what is shared, and for a remembered login what was known by then.
//! 5. What this registry has never sent is fetched from it before it is served.

use std::time::{Duration, SystemTime};

use super::stamp::{Now, Stamp};
use crate::oci::digest::Digest;

/// Upstream's words of a digest itself, in a repository, as one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// When the first of them came.
    pub since: Stamp,
    /// When the latest of them came.
    pub last: Stamp,
    /// When the question was sent that the latest yes to anonymous answered.
    pub open: Option<Stamp>,
    /// The same of the operator's account.
    pub shared: Option<Stamp>,
    /// When upstream told anonymous that it may not have this digest, if that was its last word: no
    /// yes to a manifest that lists it is one to this.
    pub ended: Option<Stamp>,
    /// Whether the bytes came from this repository's registry, and were those of the digest.
    pub is_delivered: bool,
    /// Whether they were read in this repository.
    pub is_read: bool,
}

impl Presence {
    /// What is known after upstream named the digest (once more).
    #[must_use]
    pub fn named(before: Option<Presence>, came: Stamp) -> Presence {
        match before {
            None => Presence { since: came, last: came, ..Presence::default() },
            Some(known) => Presence { last: known.last.max(came), ..known },
        }
    }

    /// Whether it was there when a yes of `at` was asked for, and still while the manifest was that
    /// upstream has had since `listed`.
    pub fn is_covered(&self, at: Stamp, listed: Stamp) -> bool {
        self.since <= at && self.last >= listed
    }
}

/// Upstream's latest yes to one requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yes {
    /// When its question was sent.
    pub at: Stamp,
    /// The manifest that it was said of, if not of the digest itself.
    pub by: Option<Digest>,
    /// Whether that manifest merely claims that the repository has the digest.
    pub is_claim: bool,
}

impl Yes {
    /// The yes to what a manifest lists, where `before` was known. `presence` is the listed
    /// digest's, `at` the yes to the manifest, which upstream has had since `listed`.
    #[must_use]
    pub fn through(
        before: Option<&Yes>,
        manifest: &Digest,
        at: Stamp,
        listed: Stamp,
        presence: Option<Presence>,
    ) -> Yes {
        let is_claim = !presence.is_some_and(|presence| presence.is_covered(at, listed));
        match before {
            Some(before) if is_claim && !before.is_claim => before.clone(),
            Some(before) if before.at >= at && before.is_claim == is_claim => before.clone(),
            Some(before) if !before.is_claim => Yes { at: before.at.max(at), by: Some(manifest.clone()), is_claim },
            _ => Yes { at, by: Some(manifest.clone()), is_claim },
        }
    }
}

/// Whether anonymous may read a digest in another repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// By a fresh yes.
    pub is_open: bool,
    /// By a valid one: it stands if that registry is unreachable.
    pub stands: bool,
}

/// What is recorded that bears on one question.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Of the digest in the repository, as the kind asked for.
    pub presence: Option<Presence>,
    /// To the requester: to a credential, or the account's and anonymous's through a manifest.
    pub own: Option<Yes>,
    /// Anonymous's, through a manifest.
    pub anonymous: Option<Yes>,
    /// The latest refusal to the requester in this repository.
    pub refused: Option<Stamp>,
    /// … to anonymous.
    pub anonymous_refused: Option<Stamp>,
    /// When a yes to the requester's remembered login came last.
    pub login: Option<Stamp>,
    /// Whether the operator's account asks for this client.
    pub is_shared: bool,
    /// In other repositories.
    pub elsewhere: Elsewhere,
    /// The bytes came from this registry once, or anonymous may read them somewhere.
    pub is_proved: bool,
}

/// How long a yes is believed.
#[derive(Clone, Copy, Debug)]
pub struct GrantTtls {
    /// One to anonymous.
    pub public: Duration,
    /// One to a credential.
    pub own: Duration,
    /// One to a login, while upstream is unreachable.
    pub offline: Duration,
    /// One to anonymous, or to the account, while upstream is unreachable.
    pub stale: Duration,
}

/// Whether something `since` is no older than `limit`. `Duration::MAX` is forever. What a wrong
/// clock wrote down as of the future is as old as it is far away.
pub fn within(since: Option<SystemTime>, limit: Duration, now: SystemTime) -> bool {
    since.is_some_and(|at| now.duration_since(at).unwrap_or_else(|ahead| ahead.duration()) < limit)
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// While upstream answers.
    pub verdict: Verdict,
    /// While it is unreachable.
    pub standing: Standing,
    /// Whether the bytes here may be served at all: a registry that has never sent them may have
    /// named a digest that it does not have.
    pub is_proved: bool,
}

/// What is permitted while upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it.
    Granted,
    /// The bytes, to a GET, and nothing is recorded.
    Claimed,
    /// Upstream is asked.
    Ask,
}

/// What stands while upstream is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    None,
    /// The requester's own yes, as long as it is fresh.
    Own,
    /// Anonymous's, until it is refused.
    Anonymous,
    /// That of the account, or of a login.
    Login,
    /// What is claimed here, if it stands in another repository.
    Claimed,
}

impl Permission {
    /// Nothing is known.
    pub const REQUIRED: Permission = Permission { verdict: Verdict::Ask, standing: Standing::None, is_proved: false };

    /// Whether it is granted now.
    pub fn is_granted(self) -> bool {
        self.verdict == Verdict::Granted
    }

    /// Whether what is here may be served while upstream is unreachable.
    pub fn stands(self) -> bool {
        self.standing != Standing::None
    }
}

impl Evidence {
    /// What it permits.
    pub fn permission(&self, ttls: GrantTtls, now: Now) -> Permission {
        let own = self.is_own_fresh(ttls, now);
        let claimed = self.is_claimed(ttls, now);
        let verdict = match () {
            () if self.is_open(ttls, now) || own => Verdict::Granted,
            () if claimed && self.elsewhere.is_open => Verdict::Claimed,
            () => Verdict::Ask,
        };
        let standing = match () {
            () if self.open().is_some_and(|at| now.is_within(at, ttls.stale)) => Standing::Anonymous,
            () if own => Standing::Own,
            () if self.is_shared_valid(ttls, now) || self.is_remembered(ttls, now) => Standing::Login,
            () if claimed && (self.elsewhere.is_open || self.elsewhere.stands) => Standing::Claimed,
            () => Standing::None,
        };
        Permission { verdict, standing, is_proved: self.is_proved }
    }

    /// The manifests through which the digest was granted, or claimed: to the requester itself, and
    /// to anonymous.
    pub fn by(&self) -> impl Iterator<Item = &Digest> {
        [&self.own, &self.anonymous].into_iter().flatten().filter_map(|yes| yes.by.as_ref())
    }

    /// The valid yes to anonymous.
    pub fn open(&self) -> Option<Stamp> {
        self.presence?.open.filter(|open| Some(*open) > self.anonymous_refused)
    }

    /// The valid yes to the requester itself.
    pub fn to_requester(&self) -> Option<Stamp> {
        let own = self.own.as_ref().filter(|yes| !yes.is_claim).map(|yes| yes.at);
        own.max(self.shared()).filter(|at| Some(*at) > self.refused)
    }

    fn is_open(&self, ttls: GrantTtls, now: Now) -> bool {
        self.open().is_some_and(|at| now.is_within(at, ttls.public))
    }

    fn shared(&self) -> Option<Stamp> {
        self.presence?.shared.filter(|_| self.is_shared)
    }

    fn is_shared_valid(&self, ttls: GrantTtls, now: Now) -> bool {
        self.shared().is_some_and(|at| Some(at) > self.refused && now.is_within(at, ttls.stale))
    }

    fn is_own_fresh(&self, ttls: GrantTtls, now: Now) -> bool {
        self.to_requester().is_some_and(|at| now.is_within(at, ttls.own))
    }

    fn is_claimed(&self, ttls: GrantTtls, now: Now) -> bool {
        let fresh = |yes: &Option<Yes>, refused, ttl| {
            let claim = yes.as_ref().filter(|yes| yes.is_claim).map(|yes| yes.at);
            claim.is_some_and(|at| Some(at) > refused && now.is_within(at, ttl))
        };
        fresh(&self.own, self.refused, ttls.own) || fresh(&self.anonymous, self.anonymous_refused, ttls.public)
    }

    /// A login covers what upstream had named by the time of its last yes.
    fn is_remembered(&self, ttls: GrantTtls, now: Now) -> bool {
        let (Some(login), Some(presence)) = (self.login, self.presence) else { return false };
        login >= presence.since && now.is_within(login, ttls.offline)
    }
}

#[cfg(test)]
mod tests;
