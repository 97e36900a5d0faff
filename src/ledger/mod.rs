//! The books of upstream's quota: what it last said, what was charged, what was spared, and which
//! of its refusals stand.
//!
//! - Figures are kept for each owner (anonymous requests, the operator's account, a client with a
//!   credential of its own) and the source that upstream names; of clients, the source alone tells
//!   them apart where there is one: their tokens change every few minutes.
//! - A refusal (429) holds for one owner at one host, whichever token a client that upstream names
//!   presents. One credential's is never another's.
//! - `kept` is what is stored for the next start. Clients' figures and refusals are not: a
//!   fingerprint means nothing in another process.

mod account;
mod books;
mod bounded;
mod kept;
mod pending;
mod pulls;
mod standing;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tracing::warn;

use crate::oci::rate_limit::RateLimit;
use crate::policy::quota::{Aim, Figures, Limit, may_spend, stands_until};

pub use account::{Account, Identity, QuotaOwner};
pub use books::Keeper;
use books::QuotaBooks;
use bounded::Bounded;
pub use kept::Kept;
pub use pulls::{OfRepository, Pulls};
pub use standing::Standing;

/// All that is known of quota, for an operator.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Manifest requests of each registry and its repositories.
    pub pulls: Vec<(Arc<str>, Pulls, Vec<OfRepository>)>,
    /// Pull quotas of registries.
    pub quotas: Vec<(Account, Figures)>,
    /// Quotas of token services.
    pub tokens: Vec<(Account, Figures)>,
    /// The 429s that hold now.
    pub standing: Vec<(QuotaOwner, Standing)>,
}

/// The books. Clones share one.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<QuotaBooks>>);

impl Ledger {
    /// Takes over what another run wrote down, and tells `keeper` from now on. What is no longer so
    /// is taken out.
    pub fn restore(&self, kept: &[(String, Vec<u8>)], keeper: Keeper, now: SystemTime) {
        let mut books = self.0.lock();
        books.keeper = Some(keeper);
        for (key, value) in kept {
            match serde_json::from_slice::<Kept>(value).ok().and_then(|kept| kept.restored(now)) {
                Some(kept::Restored::Figures(account, figures)) => {
                    books.figures.insert(account.owner.identity, account, figures);
                }
                Some(kept::Restored::Standing(owner, standing)) => {
                    books.standings.insert(&owner, standing);
                }
                Some(kept::Restored::Pulls(registry, pulls, repositories)) => {
                    books.pulls.restore(registry, pulls, repositories);
                }
                None => books.forget(|| key.clone()),
            }
        }
    }

    /// Writes down what a reply of a registry said to a request that was `sent` then. A pull limit
    /// that upstream itself says is over stands no longer; what it said before it is no such word.
    pub fn record(&self, owner: &QuotaOwner, said: &RateLimit, sent: SystemTime, now: SystemTime) {
        let mut books = self.0.lock();
        books.standings.learn(owner, said.source.as_deref());
        match books.standings.find(owner, Limit::Pulls) {
            Some(standing) if said.remaining == 0 => {
                standing.doubted = standing.doubted.and(Standing::doubted_after(Limit::Pulls, None, now));
            }
            Some(standing) if standing.since <= sent => books.end(owner, Limit::Pulls),
            _ => {}
        }
        let account = Account::of(owner, said.source.as_deref());
        let identity = account.owner.identity;
        let figures = match books.figures.find(identity, &account) {
            Some(figures) => {
                figures.update(said, now);
                figures
            }
            None => {
                if let Some(old) = books.figures.insert(identity, account.clone(), Figures::new(said, now)) {
                    books.forget(|| kept::figures_key(&old));
                }
                let Some(new) = books.figures.find(identity, &account) else { return };
                new
            }
        };
        if let Some(percent) = figures.warning() {
            warn_of(&account, percent, figures, now);
        }
        let figures = figures.clone();
        books.write(|| kept::figures_key(&account), || Kept::figures(&account, &figures));
    }

    /// The same of a token service: another quota, by the same names (docs/protocol.md 1.3).
    pub fn record_tokens(&self, owner: &QuotaOwner, said: &RateLimit, now: SystemTime) {
        let account = Account::of(owner, said.source.as_deref());
        let mut books = self.0.lock();
        match books.tokens.find(owner.identity, &account) {
            Some(figures) => figures.update(said, now),
            None => {
                books.tokens.insert(owner.identity, account, Figures::new(said, now));
            }
        }
    }

    /// Writes down a 429. `source` and `retry_after` are its own words.
    pub fn limited(
        &self,
        owner: &QuotaOwner,
        limit: Limit,
        source: Option<&str>,
        retry_after: Option<Duration>,
        now: SystemTime,
    ) -> Standing {
        let mut books = self.0.lock();
        books.standings.learn(owner, source);
        let account = Account::of(owner, source);
        let figures = books.figures.find(account.owner.identity, &account).cloned();
        let figures = figures.or_else(|| books.latest(owner).cloned());
        let figures = figures.as_ref();
        let standing = Standing {
            limit,
            since: now,
            until: stands_until(limit, retry_after, figures, now),
            doubted: Standing::doubted_after(limit, retry_after, now),
            source: source.map(Into::into),
            allowed: figures.filter(|_| limit == Limit::Pulls).map(|figures| (figures.limit, figures.window)),
        };
        let is_news = books.standings.find(owner, limit).is_none_or(|known| known.until <= now);
        if is_news && !matches!(owner.identity, Identity::Client(_)) {
            warn_of_limit(owner, &standing);
        }
        books.stand(owner, standing.clone());
        standing
    }

    /// The 429 of this limit that holds for this owner now.
    pub fn standing(&self, owner: &QuotaOwner, limit: Limit, now: SystemTime) -> Option<Standing> {
        let mut books = self.0.lock();
        let standing = books.standings.find(owner, limit)?.clone();
        if now < standing.until {
            return Some(standing);
        }
        books.end(owner, limit);
        None
    }

    /// Whether upstream should be asked, by what it does not count, if a pull limit still stands
    /// that it gave no end of. One who asks is told so for a while: it is they who ask.
    pub fn doubts(&self, owner: &QuotaOwner, now: SystemTime) -> bool {
        let mut books = self.0.lock();
        let Some(standing) = books.standings.find(owner, Limit::Pulls) else { return false };
        let is_doubted = standing.doubted.is_some_and(|from| from <= now) && now < standing.until;
        if is_doubted {
            standing.doubted = Standing::doubted_after(Limit::Pulls, None, now);
        }
        is_doubted
    }

    /// Whether the next pull of this owner begins with that question.
    pub fn would_doubt(&self, owner: &QuotaOwner, now: SystemTime) -> bool {
        let mut books = self.0.lock();
        books.standings.find(owner, Limit::Pulls).is_some_and(|s| s.doubted.is_some_and(|from| from <= now))
    }

    /// Upstream described this repository without a word of the quota of which it speaks elsewhere:
    /// its pulls are not counted (Docker Hub: sponsored images, those of verified publishers).
    pub fn counts_not(&self, owner: &QuotaOwner, repository: &str) {
        self.0.lock().uncounted.insert(owner.identity, (owner.clone(), repository.into()), ());
    }

    /// Upstream counts the pulls of this repository.
    pub fn counts(&self, owner: &QuotaOwner, repository: &str) {
        self.0.lock().uncounted.remove(owner.identity, &(owner.clone(), repository.into()));
    }

    /// Whether this owner's quota is known, and known not to be what this repository's pulls are
    /// taken off.
    pub fn is_uncounted(&self, owner: &QuotaOwner, repository: &str) -> bool {
        let mut books = self.0.lock();
        let key = (owner.clone(), repository.into());
        books.uncounted.find(owner.identity, &key).is_some() && books.latest(owner).is_some()
    }

    /// Takes a pull off what is left above the last `reserve`, unless these are what it is for.
    ///
    /// # Errors
    /// No more is left.
    pub fn spend(&self, owner: &QuotaOwner, reserve: u64, aim: Aim, now: SystemTime) -> Result<Spending, Figures> {
        let mut books = self.0.lock();
        let kept = reserve.saturating_add(books.pending.of(owner));
        match books.latest(owner).filter(|figures| !may_spend(figures, kept, aim, now)) {
            Some(figures) => Err(figures.clone()),
            None => {
                books.pending.add(owner);
                Ok(Spending { ledger: self.clone(), owner: owner.clone() })
            }
        }
    }

    /// What upstream last said to this owner.
    pub fn figures(&self, owner: &QuotaOwner) -> Option<Figures> {
        self.0.lock().latest(owner).cloned()
    }

    /// Counts a manifest GET that upstream counted.
    pub fn charged(&self, registry: &Arc<str>, repository: &str) {
        self.0.lock().pulls.add(registry, repository, Pulls { charged: 1, spared: 0 });
    }

    /// Counts a client's manifest request that cost nothing.
    pub fn spared(&self, registry: &Arc<str>, repository: &str) {
        self.0.lock().pulls.add(registry, repository, Pulls { charged: 0, spared: 1 });
    }

    /// What was charged and spared.
    pub fn pulls(&self, registry: &str) -> Pulls {
        self.0.lock().pulls.total(registry)
    }

    /// A copy of everything that is known.
    pub fn report(&self, now: SystemTime) -> Report {
        let books = self.0.lock();
        let copies = |figures: &Bounded<Account, Figures>| {
            figures.iter().map(|(account, figures)| (account.clone(), figures.clone())).collect()
        };
        Report {
            pulls: books.pulls.report(),
            quotas: copies(&books.figures),
            tokens: copies(&books.tokens),
            standing: books.standings.report(now),
        }
    }

    /// Writes down what was charged and spared since the last time: too often for each.
    pub fn save(&self) {
        let mut books = self.0.lock();
        for (registry, pulls, repositories) in books.pulls.changed() {
            books.write(|| kept::pulls_key(&registry), || Some(Kept::pulls(&registry, pulls, repositories)));
        }
    }
}

/// A pull that upstream was asked for and has not answered yet, until it is dropped.
#[derive(Debug)]
pub struct Spending {
    ledger: Ledger,
    owner: QuotaOwner,
}

impl Drop for Spending {
    fn drop(&mut self) {
        self.ledger.0.lock().pending.take(&self.owner);
    }
}

fn warn_of(account: &Account, percent: u64, figures: &Figures, now: SystemTime) {
    let forecast = figures.forecast(now);
    let time = |at: SystemTime| humantime::format_rfc3339_seconds(at);
    warn!(
        registry = %account.owner.registry,
        host = %account.owner.host,
        identity = account.owner.identity.as_str(),
        source = Some(&*account.source).filter(|source| !source.is_empty()),
        remaining = figures.remaining,
        limit = figures.limit,
        spent = forecast.spent_at.map(time).map(tracing::field::display),
        free = forecast.free_at.map(time).map(tracing::field::display),
        "no more than {percent} % of the pull quota is left"
    );
}

/// Of the operator's own; a client reads it in its answer.
fn warn_of_limit(owner: &QuotaOwner, standing: &Standing) {
    warn!(
        registry = %owner.registry,
        host = %owner.host,
        identity = owner.identity.as_str(),
        source = standing.source.as_deref(),
        limit = standing.limit.as_str(),
        until = %humantime::format_rfc3339_seconds(standing.until),
        "upstream answered 429: requests of this limit are held back"
    );
}

#[cfg(test)]
mod tests;
