//! `/api/v1/ratelimits`: what is known of upstream's quotas.
//!
//! ```json
//! { "registries": [ {
//!     "name": "docker.io",
//!     "pulls": { "charged": 12, "spared": 340, "repositories": [ { "name": "library/alpine", "charged": 2, "spared": 99 } ] },
//!     "quotas": [ {
//!         "host": "registry-1.docker.io", "identity": "anonymous", "source": "203.0.113.7",
//!         "limit": 100, "remaining": 58, "window_seconds": 21600, "seen_at": "2026-11-21T12:00:00Z",
//!         "current": true, "per_hour": 12.5, "spent_at": null, "free_at": "2026-11-21T17:30:00Z" } ],
//!     "limited": [ {
//!         "host": "registry-1.docker.io", "identity": "account", "source": "ci", "limit": "pulls", "until": "2026-11-21T13:00:00Z" } ],
//!     "tokens": [ { "host": "auth.docker.io", … as in quotas } ] } ] }
//! ```
//!
//! - `identity`: `anonymous`, `account` (the operator's) or `client` (one with a credential of its
//!   own, told apart by `source` alone).
//! - `source`: as upstream names it; `null` where it does not.
//! - `current`: whether the window that the figures are of is not over. `per_hour`, `spent_at`,
//!   `free_at` are `null` then; `per_hour` too while less than a minute is known, `spent_at` where
//!   pulls outlast the window. `free_at` is the latest that can be.
//! - `limited`: the 429s that stand, by limit: `pulls`, `abuse` (all requests) or `tokens` (the
//!   token service's).
//! - `repositories`: those most charged first, then most spared; at most 500 of each registry are
//!   told apart.
//!
//! Times are RFC 3339, in UTC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::ledger::{Account, OfRepository, Pulls, QuotaOwner, Report, Standing};
use crate::operate::times::rfc3339 as time;
use crate::policy::quota::Figures;

#[derive(Default)]
struct Of {
    pulls: Pulls,
    repositories: Vec<OfRepository>,
    quotas: Vec<Value>,
    limited: Vec<Value>,
    tokens: Vec<Value>,
}

/// All of it.
pub(super) fn json(report: &Report, now: SystemTime) -> Value {
    let mut registries: BTreeMap<&Arc<str>, Of> = BTreeMap::new();
    for (registry, pulls, repositories) in &report.pulls {
        let mut repositories = repositories.clone();
        repositories.sort_by(|(a, of_a), (b, of_b)| {
            (of_b.charged, of_b.spared).cmp(&(of_a.charged, of_a.spared)).then_with(|| a.cmp(b))
        });
        let of = registries.entry(registry).or_default();
        (of.pulls, of.repositories) = (*pulls, repositories);
    }
    for (account, figures) in sorted(&report.quotas) {
        registries.entry(&account.owner.registry).or_default().quotas.push(quota(account, figures, now));
    }
    for (account, figures) in sorted(&report.tokens) {
        registries.entry(&account.owner.registry).or_default().tokens.push(quota(account, figures, now));
    }
    for (owner, standing) in &report.standing {
        registries.entry(&owner.registry).or_default().limited.push(limited(owner, standing));
    }
    let registries: Vec<Value> = registries.into_iter().map(|(name, of)| of.json(name)).collect();
    json!({ "registries": registries })
}

impl Of {
    fn json(self, name: &str) -> Value {
        let repositories = self
            .repositories
            .iter()
            .map(|(name, pulls)| json!({ "name": &**name, "charged": pulls.charged, "spared": pulls.spared }));
        json!({
            "name": name,
            "pulls": {
                "charged": self.pulls.charged,
                "spared": self.pulls.spared,
                "repositories": repositories.collect::<Vec<_>>(),
            },
            "quotas": self.quotas,
            "limited": self.limited,
            "tokens": self.tokens,
        })
    }
}

fn sorted(all: &[(Account, Figures)]) -> Vec<&(Account, Figures)> {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by_key(|(account, _)| (&account.owner.host, account.owner.identity.as_str(), &account.source));
    sorted
}

fn quota(account: &Account, figures: &Figures, now: SystemTime) -> Value {
    let forecast = figures.forecast(now);
    json!({
        "host": &*account.owner.host,
        "identity": account.owner.identity.as_str(),
        "source": Some(&*account.source).filter(|source| !source.is_empty()),
        "limit": figures.limit,
        "remaining": figures.remaining,
        "window_seconds": figures.window.map(|window| window.as_secs()),
        "seen_at": time(figures.at),
        "current": figures.hold(now),
        "per_hour": forecast.per_hour.map(|rate| (rate * 10.0).round() / 10.0),
        "spent_at": forecast.spent_at.map(time),
        "free_at": forecast.free_at.map(time),
    })
}

fn limited(owner: &QuotaOwner, standing: &Standing) -> Value {
    json!({
        "host": &*owner.host,
        "identity": owner.identity.as_str(),
        "source": standing.source.as_deref(),
        "limit": standing.limit.as_str(),
        "until": time(standing.until),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::{Identity, Ledger};
    use crate::oci::rate_limit::RateLimit;
    use crate::policy::quota::Limit;

    /// The names are others' scripts': they do not change.
    #[test]
    fn the_shape_is_that_of_the_documentation() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400 + seconds);
        let ledger = Ledger::default();
        let owner =
            |identity| QuotaOwner { registry: "docker.io".into(), host: "registry-1.docker.io".into(), identity };
        let said = |remaining, source: Option<&str>| RateLimit {
            limit: 100,
            remaining,
            window: Some(Duration::from_secs(3600)),
            source: source.map(str::to_owned),
        };
        let (anonymous, client) = (owner(Identity::Anonymous), owner(Identity::Client([7; 16])));
        ledger.record(&anonymous, &said(100, Some("203.0.113.7")), at(0), at(0));
        ledger.record(&anonymous, &said(90, Some("203.0.113.7")), at(600), at(600));
        ledger.record(&client, &said(1, None), at(600), at(600));
        ledger.limited(&client, Limit::Abuse, None, Some(Duration::from_secs(60)), at(600));
        ledger.charged(&anonymous.registry, "library/a");
        ledger.spared(&anonymous.registry, "library/b");
        let body = json(&ledger.report(at(600)), at(600));
        let expected = json!({ "registries": [{
            "name": "docker.io",
            "pulls": { "charged": 1, "spared": 1, "repositories": [
                { "name": "library/a", "charged": 1, "spared": 0 },
                { "name": "library/b", "charged": 0, "spared": 1 },
            ] },
            "quotas": [
                {
                    "host": "registry-1.docker.io", "identity": "anonymous", "source": "203.0.113.7",
                    "limit": 100, "remaining": 90, "window_seconds": 3600, "seen_at": "2026-11-21T12:10:00Z",
                    "current": true, "per_hour": 60.0, "spent_at": null, "free_at": "2026-11-21T13:00:00Z",
                },
                {
                    "host": "registry-1.docker.io", "identity": "client", "source": null,
                    "limit": 100, "remaining": 1, "window_seconds": 3600, "seen_at": "2026-11-21T12:10:00Z",
                    "current": true, "per_hour": null, "spent_at": null, "free_at": "2026-11-21T13:10:00Z",
                },
            ],
            "limited": [{
                "host": "registry-1.docker.io", "identity": "client", "source": null,
                "limit": "abuse", "until": "2026-11-21T12:11:00Z",
            }],
            "tokens": [],
        }] });
        assert_eq!(body, expected);
        assert_eq!(json(&Ledger::default().report(at(0)), at(0)), json!({ "registries": [] }));
    }
}
