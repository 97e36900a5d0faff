//! All that is known of quota, and what of it is written down for the next start.

use std::fmt;
use std::sync::Arc;

use super::account::{Account, QuotaOwner};
use super::bounded::Bounded;
use super::kept::{self, Kept};
use super::pending::Pending;
use super::pulls::PullCounts;
use super::standing::{Standing, Standings};
use crate::policy::quota::{Figures, Limit};

/// Who writes down what the next start wants to know; `None` takes a key out.
pub type Keeper = Box<dyn Fn(String, Option<&Kept>) + Send>;

#[derive(Default)]
pub(super) struct QuotaBooks {
    pub(super) figures: Bounded<Account, Figures>,
    pub(super) tokens: Bounded<Account, Figures>,
    pub(super) standings: Standings,
    pub(super) uncounted: Bounded<(QuotaOwner, Arc<str>), ()>,
    pub(super) pending: Pending,
    pub(super) pulls: PullCounts,
    pub(super) keeper: Option<Keeper>,
}

impl fmt::Debug for QuotaBooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuotaBooks")
    }
}

impl QuotaBooks {
    pub(super) fn write(&self, key: impl FnOnce() -> String, kept: impl FnOnce() -> Option<Kept>) {
        if let (Some(keeper), Some(kept)) = (&self.keeper, kept()) {
            keeper(key(), Some(&kept));
        }
    }

    pub(super) fn forget(&self, key: impl FnOnce() -> String) {
        if let Some(keeper) = &self.keeper {
            keeper(key(), None);
        }
    }

    pub(super) fn stand(&mut self, owner: &QuotaOwner, standing: Standing) {
        let limit = standing.limit;
        self.write(|| kept::standing_key(owner, limit), || Kept::standing(owner, &standing));
        if let Some(old) = self.standings.insert(owner, standing) {
            self.forget(|| kept::standing_key(&old, limit));
        }
    }

    pub(super) fn end(&mut self, owner: &QuotaOwner, limit: Limit) {
        self.standings.remove(owner, limit);
        self.forget(|| kept::standing_key(owner, limit));
    }

    /// What upstream last said to this owner, by whatever source.
    pub(super) fn latest(&mut self, owner: &QuotaOwner) -> Option<&Figures> {
        let known_as = self.standings.account(owner);
        let is_same = |account: &Account| *account == known_as || account.owner == *owner;
        let ours = self.figures.iter().filter(|(account, _)| is_same(account));
        ours.map(|(_, figures)| figures).max_by_key(|figures| figures.at)
    }
}
