//! The 429s that stand: for whom, until when, and what ends them before.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::bounded::Bounded;
use super::{Account, Charged, Identity};
use crate::policy::quota::Limit;

/// A 429 that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of which limit.
    pub limit: Limit,
    /// When it came.
    pub since: SystemTime,
    /// Until when.
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

/// All of them. Tokens of one client change every few minutes: where upstream named its source, that is who it is.
#[derive(Default)]
pub(super) struct Standings {
    pulls: Bounded<Account, Standing>,
    abuse: Bounded<Account, Standing>,
    tokens: Bounded<Account, Standing>,
    /// What upstream called a client's credential last.
    names: Bounded<Charged, Arc<str>>,
}

impl Standings {
    fn of(&mut self, limit: Limit) -> &mut Bounded<Account, Standing> {
        match limit {
            Limit::Pulls => &mut self.pulls,
            Limit::Abuse => &mut self.abuse,
            Limit::Tokens => &mut self.tokens,
        }
    }

    /// Upstream named the source of this charged.
    pub(super) fn learn(&mut self, charged: &Charged, source: Option<&str>) {
        if let (Identity::Client(_), Some(source)) = (charged.identity, source) {
            self.names.insert(charged.identity, charged.clone(), source.into());
        }
    }

    /// By whose name this charged goes: a client's by its source, if upstream named it.
    pub(super) fn account(&mut self, charged: &Charged) -> Account {
        let source = match charged.identity {
            Identity::Client(_) => self.names.find(charged.identity, charged).cloned(),
            Identity::Anonymous | Identity::Account => None,
        };
        Account::of(charged, source.as_deref())
    }

    /// Returns whose had to go for it.
    pub(super) fn insert(&mut self, charged: &Charged, standing: Standing) -> Option<Charged> {
        let account = self.account(charged);
        self.of(standing.limit).insert(charged.identity, account, standing).map(|gone| gone.charged)
    }

    /// The one of this limit, over or not.
    pub(super) fn find(&mut self, charged: &Charged, limit: Limit) -> Option<&mut Standing> {
        let account = self.found_at(charged, limit)?;
        self.of(limit).find(charged.identity, &account)
    }

    pub(super) fn remove(&mut self, charged: &Charged, limit: Limit) {
        if let Some(account) = self.found_at(charged, limit) {
            self.of(limit).remove(charged.identity, &account);
        }
    }

    /// What came before upstream named the source is kept by the credential alone.
    fn found_at(&mut self, charged: &Charged, limit: Limit) -> Option<Account> {
        let accounts = [self.account(charged), Account::of(charged, None)];
        let all = self.of(limit);
        accounts.into_iter().find(|account| all.find(charged.identity, account).is_some())
    }

    /// Those that are not over.
    pub(super) fn report(&self, now: SystemTime) -> Vec<(Charged, Standing)> {
        let all = [&self.pulls, &self.abuse, &self.tokens].into_iter().flat_map(Bounded::iter);
        let current = all.filter(|(_, standing)| now < standing.until);
        current.map(|(account, standing)| (account.charged.clone(), standing.clone())).collect()
    }
}
