//! The 429s that stand: for whom, until when, and what ends them before.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::account::{Account, Identity, QuotaOwner};
use super::bounded::Bounded;
use crate::policy::quota::Limit;

/// A 429 that holds until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit that was reached.
    pub limit: Limit,
    /// When it came.
    pub since: SystemTime,
    /// When it ends.
    pub until: SystemTime,
    /// From when on upstream may be asked whether it still stands, where it did not say how long.
    pub doubted: Option<SystemTime>,
    /// Whose quota it is, as upstream said.
    pub source: Option<Arc<str>>,
    /// The whole quota, where that is known: pulls in a window.
    pub allowed: Option<(u64, Option<Duration>)>,
}

/// How long after upstream said so a 429 is not doubted.
const CERTAIN: Duration = Duration::from_secs(60);

impl Standing {
    /// When it is doubted next, if upstream has just said that it stands.
    pub(super) fn doubted_after(limit: Limit, retry_after: Option<Duration>, now: SystemTime) -> Option<SystemTime> {
        // Under other limits every question counts.
        (limit == Limit::Pulls && retry_after.is_none()).then(|| now + CERTAIN)
    }
}

/// All of them. Tokens of one client change every few minutes: where upstream named its source,
/// that is who it is.
#[derive(Default)]
pub(super) struct Standings {
    pulls: Bounded<Account, Standing>,
    abuse: Bounded<Account, Standing>,
    tokens: Bounded<Account, Standing>,
    /// What upstream called a client's credential last.
    names: Bounded<QuotaOwner, Arc<str>>,
}

impl Standings {
    fn of(&mut self, limit: Limit) -> &mut Bounded<Account, Standing> {
        match limit {
            Limit::Pulls => &mut self.pulls,
            Limit::Abuse => &mut self.abuse,
            Limit::Tokens => &mut self.tokens,
        }
    }

    /// Upstream named the source of this owner.
    pub(super) fn learn(&mut self, owner: &QuotaOwner, source: Option<&str>) {
        if let (Identity::Client(_), Some(source)) = (owner.identity, source) {
            self.names.insert(owner.identity, owner.clone(), source.into());
        }
    }

    /// By whose name this owner goes: a client's by its source, if upstream named it.
    pub(super) fn account(&mut self, owner: &QuotaOwner) -> Account {
        let source = match owner.identity {
            Identity::Client(_) => self.names.find(owner.identity, owner).cloned(),
            Identity::Anonymous | Identity::Account => None,
        };
        Account::of(owner, source.as_deref())
    }

    /// Returns whose had to go for it.
    pub(super) fn insert(&mut self, owner: &QuotaOwner, standing: Standing) -> Option<QuotaOwner> {
        let account = self.account(owner);
        self.of(standing.limit).insert(owner.identity, account, standing).map(|gone| gone.owner)
    }

    /// The one of this limit, over or not.
    pub(super) fn find(&mut self, owner: &QuotaOwner, limit: Limit) -> Option<&mut Standing> {
        let account = self.found_at(owner, limit)?;
        self.of(limit).find(owner.identity, &account)
    }

    pub(super) fn remove(&mut self, owner: &QuotaOwner, limit: Limit) {
        if let Some(account) = self.found_at(owner, limit) {
            self.of(limit).remove(owner.identity, &account);
        }
    }

    /// What came before upstream named the source is kept by the credential alone.
    fn found_at(&mut self, owner: &QuotaOwner, limit: Limit) -> Option<Account> {
        let accounts = [self.account(owner), Account::of(owner, None)];
        let all = self.of(limit);
        accounts.into_iter().find(|account| all.find(owner.identity, account).is_some())
    }

    /// Those that are not over.
    pub(super) fn report(&self, now: SystemTime) -> Vec<(QuotaOwner, Standing)> {
        let all = [&self.pulls, &self.abuse, &self.tokens].into_iter().flat_map(Bounded::iter);
        let current = all.filter(|(_, standing)| now < standing.until);
        current.map(|(account, standing)| (account.owner.clone(), standing.clone())).collect()
    }
}
