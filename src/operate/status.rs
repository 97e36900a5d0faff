//! How a running seawall does: the sentences of `policy/verdict` and the figures behind them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::history::History;
use super::times::rfc3339 as time;
use super::traffic::Traffic;
use crate::ca::Root;
use crate::cache::{Cache, Coming};
use crate::clock::Clock;
use crate::ledger::{self, Identity, Ledger};
use crate::metrics::Metrics;
use crate::policy::quota::{Figures, Limit};
use crate::policy::registry::Registries;
use crate::policy::verdict::{Facts, Limited, Quota, verdict};

/// Hosts that are told of, those first that are needed.
const MOST_UNREACHABLE: usize = 100;
/// Blobs on their way that are told of.
const MOST_FILLS: usize = 100;

/// What it is read from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// What is here.
    pub cache: Cache,
    /// What upstream said of its quotas.
    pub ledger: Ledger,
    /// What is counted.
    pub metrics: Metrics,
    /// Whom it asks.
    pub registries: Arc<Registries>,
    /// What is remembered of the traffic.
    pub history: History,
    /// What clients are to trust.
    pub root: Arc<Root>,
    /// Where clients reach it.
    pub listeners: Vec<SocketAddr>,
    /// When it started.
    pub started: SystemTime,
    /// The time.
    pub clock: Clock,
}

/// All of it. Times are RFC 3339, in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The worst first; never empty.
    pub verdict: Vec<Sentence>,
    /// Of seawall.
    pub version: String,
    /// When it started.
    pub started_at: String,
    /// Since then.
    pub uptime_seconds: u64,
    /// Where clients reach it.
    pub listeners: Vec<SocketAddr>,
    /// What is on disk.
    pub cache: Room,
    /// Manifests that were pulled: what upstream counted, and what it did not have to.
    pub pulls: Pulls,
    /// Whether it is worth it.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Blobs that come now, the longest first; a hundred at most.
    pub fills: Vec<Fill>,
    /// Hosts that do not answer.
    pub unreachable: Vec<Unreachable>,
    /// What clients are to trust.
    pub certificate_authority: Authority,
}

/// One sentence or two for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// `ok`, `notice`, `warning` or `outage`.
    pub level: String,
    /// The same for a terminal.
    pub symbol: String,
    /// What it says.
    pub text: String,
}

/// What is on disk, and how much may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes of blobs.
    pub bytes: u64,
    /// Bytes that there may be.
    pub max_bytes: u64,
    /// How many blobs.
    pub blobs: u64,
    /// Blobs that come now.
    pub fills: usize,
    /// When the blob that would go next was last used.
    pub oldest_used_at: Option<String>,
    /// Damaged blobs that were found since the start.
    pub rotten: u64,
}

/// A blob that comes from upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// What it will be.
    pub digest: String,
    /// In which repository it was asked for first.
    pub repository: String,
    /// Bytes that are here.
    pub bytes: u64,
    /// Of so many, where upstream said it.
    pub total_bytes: Option<u64>,
    /// Since it was asked for.
    pub seconds: u64,
    /// Who reads it, or waits for it.
    pub readers: usize,
}

/// Manifests that clients pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulls {
    /// Upstream took them off a quota.
    pub charged: u64,
    /// It did not have to.
    pub spared: u64,
}

/// A host that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreachable {
    /// The registry's name.
    pub registry: String,
    /// Where it is asked.
    pub host: String,
    /// Since when.
    pub since: String,
    /// The last failure.
    pub why: String,
}

/// The certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// SHA-256 of its certificate.
    pub fingerprint_sha256: String,
    /// When that ends.
    pub not_after: String,
}

impl Sources {
    /// Reads all of it. Blocks for as long as a lock of the index is held.
    pub fn status(&self) -> Status {
        let now = self.clock.now();
        let fullness = self.cache.fullness();
        let unreachable = self.cache.unreachable();
        let books = self.ledger.report(now);
        let facts = Facts {
            unreachable: unreachable.clone(),
            limited: books.standing.iter().filter_map(limited).collect(),
            quotas: books.quotas.iter().filter_map(|(account, figures)| quota(account, figures, now)).collect(),
            full_since: fullness.full_since,
            distrust: self.metrics.distrust().report(now),
            rotten: self.metrics.count_rotten(),
            root_ends: self.root.not_after(),
        };
        let sentences = verdict(&facts, now).into_iter().map(|found| Sentence {
            level: found.level.as_str().to_owned(),
            symbol: found.level.symbol().to_owned(),
            text: found.text,
        });
        Status {
            verdict: sentences.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: time(self.started),
            uptime_seconds: now.duration_since(self.started).unwrap_or(Duration::ZERO).as_secs(),
            listeners: self.listeners.clone(),
            cache: Room {
                bytes: fullness.bytes,
                max_bytes: fullness.max_size,
                blobs: fullness.blobs,
                fills: self.cache.fills(),
                oldest_used_at: fullness.oldest_used.map(time),
                rotten: facts.rotten,
            },
            pulls: books.pulls.iter().fold(Pulls::default(), |sum, (_, of, _)| Pulls {
                charged: sum.charged + of.charged,
                spared: sum.spared + of.spared,
            }),
            traffic: self.history.traffic(),
            fills: self.cache.coming().into_iter().take(MOST_FILLS).map(|coming| fill(coming, now)).collect(),
            unreachable: unreachable.into_iter().take(MOST_UNREACHABLE).map(Unreachable::from).collect(),
            certificate_authority: Authority {
                fingerprint_sha256: self.root.fingerprint_sha256(),
                not_after: time(self.root.not_after()),
            },
        }
    }
}

impl From<crate::policy::verdict::Unreachable> for Unreachable {
    fn from(it: crate::policy::verdict::Unreachable) -> Unreachable {
        Unreachable { registry: it.registry, host: it.host, since: time(it.since), why: it.why }
    }
}

fn fill(coming: Coming, now: SystemTime) -> Fill {
    Fill {
        digest: coming.digest.to_string(),
        repository: coming.key.to_string(),
        bytes: coming.bytes,
        total_bytes: coming.total,
        seconds: now.duration_since(coming.since).unwrap_or(Duration::ZERO).as_secs(),
        readers: coming.readers,
    }
}

/// A client's own limit is no trouble of seawall's.
fn limited((owner, standing): &(ledger::QuotaOwner, ledger::Standing)) -> Option<Limited> {
    let is_account = is_account(owner.identity)?;
    (standing.limit != Limit::Tokens).then(|| Limited {
        registry: owner.registry.to_string(),
        is_account,
        is_abuse: standing.limit == Limit::Abuse,
        until: standing.until,
    })
}

fn quota(account: &ledger::Account, figures: &Figures, now: SystemTime) -> Option<Quota> {
    let is_account = is_account(account.owner.identity)?;
    let forecast = figures.forecast(now);
    figures.hold(now).then(|| Quota {
        registry: account.owner.registry.to_string(),
        is_account,
        limit: figures.limit,
        remaining: figures.remaining,
        spent_at: forecast.spent_at,
        free_at: forecast.free_at,
    })
}

/// `None`: it is a client's.
fn is_account(identity: Identity) -> Option<bool> {
    match identity {
        Identity::Anonymous => Some(false),
        Identity::Account => Some(true),
        Identity::Client(_) => None,
    }
}
