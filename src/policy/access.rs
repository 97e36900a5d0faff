//! May this requester read this? What upstream granted, and how long that is fresh.

use std::time::{Duration, SystemTime};

/// What is remembered of upstream's answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrantRecord {
    /// When upstream last opened the repository to an anonymous client.
    pub public: Option<SystemTime>,
    /// When upstream last opened it to this client's credential.
    pub own: Option<SystemTime>,
    /// When upstream last opened it to the operator's account, if this client may read with that.
    pub shared: Option<SystemTime>,
    /// When upstream last opened it to the login that this client proved before upstream became unreachable,
    /// if that is remembered.
    pub remembered: Option<SystemTime>,
    /// Upstream said that the repository holds this digest. True where no digest is asked for.
    pub holds: bool,
}

/// How long a grant is valid.
#[derive(Clone, Copy, Debug)]
pub struct GrantTtls {
    /// One to an anonymous client.
    pub public: Duration,
    /// One to a credential.
    pub own: Duration,
    /// One to a login, while upstream cannot be asked.
    pub offline: Duration,
}

/// Whether something `since` is no older than `limit`. `Duration::MAX` is forever. What a wrong
/// clock wrote down as of the future is as old as it is far away.
pub fn within(since: Option<SystemTime>, limit: Duration, now: SystemTime) -> bool {
    since.is_some_and(|at| now.duration_since(at).unwrap_or_else(|ahead| ahead.duration()) < limit)
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// A grant is fresh: it may be served without asking.
    Established,
    /// Upstream is asked first. While it cannot be, or answers 404, its last grant stands.
    Standing,
    /// The same, but a 404 ends it: some registries answer 404 to a requester that may not read.
    StandingUnlessNotFound,
    /// Upstream is asked first, and nothing is served unless it grants.
    Required,
}

impl Permission {
    /// Whether what is here may be served while upstream cannot be asked.
    pub fn usable_while_away(self) -> bool {
        self != Permission::Required
    }

    /// What is left of it where upstream says that there is no such thing.
    #[must_use]
    pub fn after_not_found(self) -> Permission {
        if self == Permission::StandingUnlessNotFound { Permission::Required } else { self }
    }

    /// The same, but "no such thing" ends it.
    #[must_use]
    pub fn unless_not_found(self) -> Permission {
        if self == Permission::Required { self } else { Permission::StandingUnlessNotFound }
    }
}

impl GrantRecord {
    /// What it permits.
    pub fn permission(&self, ttls: GrantTtls, now: SystemTime) -> Permission {
        let without_shared = GrantRecord { shared: None, ..*self };
        match () {
            () if self.is_fresh(ttls, now) => Permission::Established,
            () if without_shared.usable_while_away(ttls, now) => Permission::Standing,
            () if self.usable_while_away(ttls, now) => Permission::StandingUnlessNotFound,
            () => Permission::Required,
        }
    }

    /// A public repository is open to every credential, a private one to those that upstream
    /// granted it.
    fn is_fresh(&self, ttls: GrantTtls, now: SystemTime) -> bool {
        self.holds && (self.is_public(ttls, now) || within(self.own, ttls.own, now))
    }

    /// Whether upstream opened the repository to anonymous, and that is fresh.
    pub fn is_public(&self, ttls: GrantTtls, now: SystemTime) -> bool {
        within(self.public, ttls.public, now)
    }

    /// When upstream cannot be asked, its last grant to anonymous stands, and one for what the
    /// operator shares, however old; a grant to a credential only as long as it would have been
    /// fresh anyway, or as long as the operator said.
    fn usable_while_away(&self, ttls: GrantTtls, now: SystemTime) -> bool {
        let own = within(self.own, ttls.own, now) || within(self.remembered, ttls.offline, now);
        self.holds && (self.public.is_some() || self.shared.is_some() || own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let ttls = GrantTtls {
            public: Duration::from_secs(900),
            own: Duration::from_secs(300),
            offline: Duration::from_secs(7000),
        };
        for (public, own, shared, remembered, holds, granted, stands) in [
            (None, None, None, None, true, false, false),
            (ago(0), None, None, None, true, true, true),
            (ago(899), None, None, None, true, true, true),
            (ago(900), None, None, None, true, false, true),
            (ago(900_000), None, None, None, true, false, true),
            (None, ago(299), None, None, true, true, true),
            (None, ago(300), None, None, true, false, false),
            (ago(0), ago(0), None, ago(0), false, false, false),
            (None, None, None, ago(0), true, false, true),
            (None, None, None, ago(6999), true, false, true),
            (None, ago(300), None, ago(7000), true, false, false),
            (None, ago(300), ago(900_000), None, true, false, true),
            (None, None, ago(0), None, false, false, false),
        ] {
            let known = GrantRecord { public, own, shared, remembered, holds };
            let permission = known.permission(ttls, now);
            let answer = (permission == Permission::Established, permission.usable_while_away());
            assert_eq!(answer, (granted, stands), "{known:?}");
            // What stands by the operator's account alone ends with upstream's "no such thing".
            let without = GrantRecord { shared: None, ..known };
            let left = permission.after_not_found().usable_while_away();
            assert_eq!(left, without.permission(ttls, now).usable_while_away(), "{known:?}");
        }
    }

    #[test]
    fn forever_is_forever_and_the_future_is_not_believed_for_years() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(within(Some(SystemTime::UNIX_EPOCH), Duration::MAX, now));
        assert!(within(Some(now + Duration::from_secs(1)), Duration::from_secs(60), now));
        assert!(!within(Some(now + Duration::from_secs(60)), Duration::from_secs(60), now));
        assert!(!within(Some(now), Duration::ZERO, now), "a ttl of nothing is never fresh");
    }
}
