//! What is stored about quotas for the next start, as JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::account::{Account, Identity, QuotaOwner};
use super::pulls::{OfRepository, Pulls};
use super::standing::Standing;
use crate::oci::rate_limit::RateLimit;
use crate::policy::quota::{Figures, Limit};

/// How long figures are of interest after their window is over.
const OLD: Duration = Duration::from_secs(7 * 86_400);

/// Whose, where it means something in another process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Whose {
    Anonymous,
    Account,
}

/// One entry. Times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept(Entry);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Entry {
    Figures {
        registry: Arc<str>,
        host: Arc<str>,
        identity: Whose,
        source: Arc<str>,
        limit: u64,
        remaining: u64,
        window: Option<u64>,
        at: u64,
        began: u64,
        warned: u64,
    },
    Standing {
        registry: Arc<str>,
        host: Arc<str>,
        identity: Whose,
        of: Limit,
        until: u64,
        source: Option<Arc<str>>,
        allowed: Option<(u64, Option<u64>)>,
    },
    Pulls {
        registry: Arc<str>,
        total: Pulls,
        repositories: Vec<OfRepository>,
    },
}

/// What an entry means.
pub(super) enum Restored {
    Figures(Account, Figures),
    Standing(QuotaOwner, Standing),
    Pulls(Arc<str>, Pulls, Vec<OfRepository>),
}

pub(super) fn figures_key(account: &Account) -> String {
    let Account { owner, source } = account;
    format!("figures {} {} {} {source}", owner.registry, owner.host, owner.identity.as_str())
}

pub(super) fn standing_key(owner: &QuotaOwner, limit: Limit) -> String {
    format!("standing {} {} {} {}", owner.registry, owner.host, owner.identity.as_str(), limit.as_str())
}

pub(super) fn pulls_key(registry: &str) -> String {
    format!("pulls {registry}")
}

fn whose(identity: Identity) -> Option<Whose> {
    match identity {
        Identity::Anonymous => Some(Whose::Anonymous),
        Identity::Account => Some(Whose::Account),
        Identity::Client(_) => None,
    }
}

fn owner(registry: Arc<str>, host: Arc<str>, identity: Whose) -> QuotaOwner {
    let identity = match identity {
        Whose::Anonymous => Identity::Anonymous,
        Whose::Account => Identity::Account,
    };
    QuotaOwner { registry, host, identity }
}

impl Kept {
    pub(super) fn figures(account: &Account, figures: &Figures) -> Option<Kept> {
        let QuotaOwner { registry, host, identity } = account.owner.clone();
        Some(Kept(Entry::Figures {
            registry,
            host,
            identity: whose(identity)?,
            source: account.source.clone(),
            limit: figures.limit,
            remaining: figures.remaining,
            window: figures.window.map(|window| window.as_secs()),
            at: seconds(figures.at),
            began: seconds(figures.began),
            warned: figures.warned,
        }))
    }

    pub(super) fn standing(owner: &QuotaOwner, standing: &Standing) -> Option<Kept> {
        let QuotaOwner { registry, host, identity } = owner.clone();
        Some(Kept(Entry::Standing {
            registry,
            host,
            identity: whose(identity)?,
            of: standing.limit,
            until: seconds(standing.until),
            source: standing.source.clone(),
            allowed: standing.allowed.map(|(limit, window)| (limit, window.map(|window| window.as_secs()))),
        }))
    }

    pub(super) fn pulls(registry: &Arc<str>, total: Pulls, repositories: Vec<OfRepository>) -> Kept {
        Kept(Entry::Pulls { registry: registry.clone(), total, repositories })
    }

    /// `None`: it is over, or is nothing that was ever written.
    pub(super) fn restored(self, now: SystemTime) -> Option<Restored> {
        match self.0 {
            Entry::Figures { registry, host, identity, source, limit, remaining, window, at, began, warned } => {
                let said = RateLimit { limit, remaining, window: window.map(Duration::from_secs), source: None };
                let figures = Figures::restored(&said, time(at)?, time(began)?, warned);
                let until = figures.at.checked_add(said.window.unwrap_or_default().saturating_add(OLD))?;
                let account = Account { owner: owner(registry, host, identity), source };
                (now < until && figures.at <= now).then_some(Restored::Figures(account, figures))
            }
            Entry::Standing { registry, host, identity, of, until, source, allowed } => {
                let until = time(until)?;
                let allowed = allowed.map(|(limit, window)| (limit, window.map(Duration::from_secs)));
                let doubted = (of == Limit::Pulls).then_some(now);
                let standing = Standing { limit: of, since: now, until, doubted, source, allowed };
                (now < until && until <= now.checked_add(crate::policy::quota::LONGEST)?)
                    .then(|| Restored::Standing(owner(registry, host, identity), standing))
            }
            Entry::Pulls { registry, total, repositories } => Some(Restored::Pulls(registry, total, repositories)),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// `None` is what no clock shows.
fn time(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
