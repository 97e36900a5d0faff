//! What is counted, for `/metrics`. The names are the operator's: they do not change.
//!
//! Every label but `source` comes from the configuration or from a fixed list, so the number of
//! series is bounded; of `source`, which upstream chooses, only the first [`SOURCES`] are told
//! apart.

pub mod bounds;
pub mod distrust;
mod labels;
pub mod top;
pub mod totals;

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::policy::series::Figure;
use bounds::Bounds;
use distrust::Distrust;
use labels::{
    CodeLabels, LimitLabels, QuotaLabels, ReasonLabel, RegistryLabel, RequestLabels, ServedLabels, SourceLabels,
    StaleLabels, Status, UpstreamLabels,
};
use top::Top;
use totals::Totals;

/// The media type of [`Metrics::encode`]'s text (OpenMetrics 1.0, which Prometheus has read since
/// 2.5).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many rate limit sources (addresses, accounts) are told apart; the rest are one, `other`.
pub const SOURCES: usize = 256;

/// Seconds. Half a millisecond is a hit from memory, half a minute is where containerd gives up on
/// a header.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Counts everything. Clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    served_bytes: Family<ServedLabels, Counter>,
    upstream_requests: Family<UpstreamLabels, Counter>,
    upstream_bytes: Family<RegistryLabel, Counter>,
    upstream_open: Family<RegistryLabel, Gauge>,
    ratelimit_limit: Family<QuotaLabels, WholeGauge>,
    ratelimit_remaining: Family<QuotaLabels, WholeGauge>,
    ratelimit_window: Family<QuotaLabels, WholeGauge>,
    known_quotas: Mutex<HashSet<QuotaLabels>>,
    charged: Family<RegistryLabel, Counter>,
    spared: Family<RegistryLabel, Counter>,
    account_failures: Family<RegistryLabel, Counter>,
    limited: Family<LimitLabels, Counter>,
    held_back: Family<LimitLabels, Counter>,
    other_sources: Family<SourceLabels, Counter>,
    stale: Family<StaleLabels, Counter>,
    uncached: Family<ReasonLabel, Counter>,
    cache_bytes: WholeGauge,
    cache_entries: WholeGauge,
    evictions: Counter,
    verified_bytes: Counter,
    rotten: Counter,
    fills: Gauge,
    tunnels: Gauge,
    connections: Gauge,
    clients_refused: Family<ReasonLabel, Counter>,
    mirror_refused: Family<CodeLabels, Counter>,
    first_byte: Histogram,
    resolve: Histogram,
    bounds: Bounds,
    distrust: Distrust,
    totals: Totals,
    top: Top,
}

type WholeGauge = Gauge<u64, AtomicU64>;

/// Where the bytes that a client was sent came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Served {
    /// They were here.
    Cache,
    /// They came just now.
    Upstream,
}

impl Served {
    /// As in the label `source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Served::Cache => "cache",
            Served::Upstream => "upstream",
        }
    }
}

/// Something that runs now: counted until it is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    fn start(gauge: &Gauge) -> Running {
        gauge.inc();
        Running(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Nothing has been counted yet.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("seawall");
        let r = &mut registry;
        // The encoder appends `_total` to counters.
        let requests = family(r, "requests", "Requests of clients, by what became of them");
        let served_bytes = family(r, "served_bytes", "Body bytes sent to clients");
        let upstream_requests = family(r, "upstream_requests", "Requests sent upstream");
        let upstream_bytes = family(r, "upstream_bytes", "Body bytes received from upstream");
        let upstream_open = family(r, "upstream_open", "Hosts that do not answer and get a trial every few seconds");
        let ratelimit_limit = family(r, "ratelimit_limit", "Pulls that upstream allows in one window, as last said");
        let ratelimit_remaining = family(r, "ratelimit_remaining", "Pulls left in the window, as last said");
        let ratelimit_window = family(r, "ratelimit_window_seconds", "Length of the window, as last said");
        let charged = family(r, "pulls_charged", "Manifest GETs that upstream answered 200 with a quota header");
        let spared = family(r, "pulls_spared", "Manifest requests of clients answered without a charged GET");
        let account_failures =
            family(r, "account_failures", "Times the operator's account could not be read or was refused");
        let limited = family(r, "ratelimit_refusals", "Requests that upstream answered 429, by the limit");
        let held_back =
            family(r, "ratelimit_held_back", "Requests not sent upstream because of a limit or the reserve");
        let other_sources = family(r, "other_sources", "Answers of another source than the registry itself");
        let stale = family(r, "stale", "Tags served from the cache although upstream could not confirm them");
        let uncached = family(r, "uncached", "Bodies streamed through without being kept");
        let cache_bytes = registered(r, "cache_bytes", "Bytes of blobs on disk", WholeGauge::default());
        let cache_entries = registered(r, "cache_entries", "Blobs on disk", WholeGauge::default());
        let evictions = registered(r, "evictions", "Blobs removed to make room", Counter::default());
        let verified_bytes =
            registered(r, "verified_bytes", "Bytes on disk that were hashed again", Counter::default());
        let rotten =
            registered(r, "rotten", "Blobs on disk that had another digest than their name", Counter::default());
        let fills = registered(r, "fills", "Blobs being fetched now", Gauge::default());
        let tunnels = registered(r, "tunnels", "Tunnels open now", Gauge::default());
        let connections = registered(r, "connections", "Connections of clients open now", Gauge::default());
        let bounds = Bounds::new(r);
        let clients_refused = family(r, "clients_refused", "Connections and requests of clients refused, by reason");
        let mirror_refused =
            family(r, "mirror_refused", "Requests to a mirror that were refused: its clients ask the registry itself");
        let first_byte = registered(
            r,
            "first_byte_seconds",
            "From the end of a client's request head to the first byte of the response",
            Histogram::new(BUCKETS),
        );
        let resolve = registered(
            r,
            "resolve_seconds",
            "To find out what a tag means, upstream's answer included",
            Histogram::new(BUCKETS),
        );
        Metrics(Arc::new(Inner {
            registry,
            requests,
            served_bytes,
            upstream_requests,
            upstream_bytes,
            upstream_open,
            ratelimit_limit,
            ratelimit_remaining,
            ratelimit_window,
            known_quotas: Mutex::default(),
            charged,
            spared,
            account_failures,
            limited,
            held_back,
            other_sources,
            stale,
            uncached,
            cache_bytes,
            cache_entries,
            evictions,
            verified_bytes,
            rotten,
            fills,
            tunnels,
            connections,
            clients_refused,
            mirror_refused,
            first_byte,
            resolve,
            bounds,
            distrust: Distrust::default(),
            totals: Totals::default(),
            top: Top::default(),
        }))
    }

    /// How full is what all clients share.
    pub fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// Clients that do not trust the root.
    pub fn distrust(&self) -> &Distrust {
        &self.0.distrust
    }

    /// Who pulls most, and what.
    pub fn top(&self) -> &Top {
        &self.0.top
    }

    /// What was counted of all registries.
    pub fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// A client's request ended: `kind` as in oci/route, `outcome` as in `Cache-Status`.
    pub fn request(&self, registry: &str, kind: &'static str, outcome: &'static str) {
        self.0.requests.get_or_create(&RequestLabels { registry: registry.into(), kind, outcome }).inc();
    }

    /// Body bytes went to a client.
    pub fn served(&self, registry: &str, source: Served, bytes: u64) {
        let labels = ServedLabels { registry: registry.into(), source: source.as_str() };
        self.0.served_bytes.get_or_create(&labels).inc_by(bytes);
    }

    /// A request went upstream. Status 0: there was no answer (`none`).
    pub fn upstream_request(&self, registry: &str, kind: &'static str, method: &'static str, status: u16) {
        let labels = UpstreamLabels { registry: registry.into(), kind, method, status: Status(status) };
        self.0.upstream_requests.get_or_create(&labels).inc();
        self.0.totals.upstream_request(status);
    }

    /// Body bytes came from upstream.
    pub fn upstream_bytes(&self, registry: &str, bytes: u64) {
        self.0.upstream_bytes.get_or_create(&RegistryLabel { registry: registry.into() }).inc_by(bytes);
        self.0.totals.add(Figure::UpstreamBytes, bytes);
    }

    /// A host that this registry is asked at, or sends to, does not answer, and is spared requests.
    pub fn upstream_open(&self, registry: &str) -> Running {
        Running::start(&self.0.upstream_open.get_or_create(&RegistryLabel { registry: registry.into() }))
    }

    /// Upstream said how much of its quota is left. `source`: the address or account it counts for.
    pub fn rate_limit(&self, registry: &str, source: &str, limit: u64, remaining: u64, window: Option<Duration>) {
        let mut known = self.0.known_quotas.lock();
        let mut labels = QuotaLabels { registry: registry.into(), source: source.into() };
        if !known.contains(&labels) && known.len() >= SOURCES {
            labels.source = "other".to_owned();
        }
        known.insert(labels.clone());
        self.0.ratelimit_limit.get_or_create(&labels).set(limit);
        self.0.ratelimit_remaining.get_or_create(&labels).set(remaining);
        if let Some(window) = window {
            self.0.ratelimit_window.get_or_create(&labels).set(window.as_secs());
        }
    }

    /// Shows no figures but those of these (registry, source): the windows of all others are over.
    pub fn keep_rate_limits<'a>(&self, current: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let labels =
            |(registry, source): (&str, &str)| QuotaLabels { registry: registry.into(), source: source.into() };
        let current: HashSet<QuotaLabels> = current.into_iter().map(labels).collect();
        self.0.known_quotas.lock().retain(|labels| {
            let is_current = current.contains(labels);
            if !is_current {
                self.0.ratelimit_limit.remove(labels);
                self.0.ratelimit_remaining.remove(labels);
                self.0.ratelimit_window.remove(labels);
            }
            is_current
        });
    }

    /// Upstream took a pull off the quota.
    pub fn charged(&self, registry: &str) {
        self.0.charged.get_or_create(&RegistryLabel { registry: registry.into() }).inc();
        self.0.totals.add(Figure::Charged, 1);
    }

    /// Upstream answered 429. `limit` is a word of a fixed list.
    pub fn limited(&self, registry: &str, limit: &'static str) {
        self.0.limited.get_or_create(&LimitLabels { registry: registry.into(), limit }).inc();
        self.0.totals.add(Figure::Limited, 1);
    }

    /// A request was not sent upstream, which would have answered 429, or whose last pulls are
    /// reserved.
    pub fn held_back(&self, registry: &str, limit: &'static str) {
        self.0.held_back.get_or_create(&LimitLabels { registry: registry.into(), limit }).inc();
    }

    /// The operator's account could not be read, or was refused.
    pub fn account_failed(&self, registry: &str) {
        self.0.account_failures.get_or_create(&RegistryLabel { registry: registry.into() }).inc();
    }

    /// Another source than the registry itself answered.
    pub fn other_source(&self, registry: &str, source: &str) {
        let labels = SourceLabels { registry: registry.into(), source: source.into() };
        self.0.other_sources.get_or_create(&labels).inc();
    }

    /// A client got a manifest and the quota is as it was.
    pub fn spared(&self, registry: &str) {
        self.0.spared.get_or_create(&RegistryLabel { registry: registry.into() }).inc();
        self.0.totals.add(Figure::Spared, 1);
    }

    /// A tag was served that upstream could not confirm. `reason` is a word of a fixed list, never
    /// a message.
    pub fn stale(&self, registry: &str, reason: &'static str) {
        self.0.stale.get_or_create(&StaleLabels { registry: registry.into(), reason }).inc();
    }

    /// What is on disk now.
    pub fn cache(&self, bytes: u64, entries: u64) {
        self.0.cache_bytes.set(bytes);
        self.0.cache_entries.set(entries);
    }

    /// So many blobs made room.
    pub fn evicted(&self, blobs: u64) {
        self.0.evictions.inc_by(blobs);
        self.0.totals.add(Figure::Evictions, blobs);
    }

    /// So many bytes on disk were hashed again.
    pub fn verified(&self, bytes: u64) {
        self.0.verified_bytes.inc_by(bytes);
    }

    /// A blob on disk was none any more.
    pub fn rotten(&self) {
        self.0.rotten.inc();
    }

    /// How many those were.
    pub fn count_rotten(&self) -> u64 {
        self.0.rotten.get()
    }

    /// A body was streamed through uncached because the disk has no room.
    pub fn disk_full(&self) {
        self.0.uncached.get_or_create(&ReasonLabel { reason: "disk-full" }).inc();
    }

    /// A fill runs.
    pub fn fill(&self) -> Running {
        self.0.totals.add(Figure::Fills, 1);
        Running::start(&self.0.fills)
    }

    /// A tunnel is open.
    pub fn tunnel(&self) -> Running {
        Running::start(&self.0.tunnels)
    }

    /// A client is connected.
    pub fn connection(&self) -> Running {
        Running::start(&self.0.connections)
    }

    /// A client was refused. `reason` is a word of a fixed list, never a message.
    pub fn client_refused(&self, reason: &'static str) {
        self.0.clients_refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A mirror refused a request. `registry` is a configured one's name or `unknown`, `code` one
    /// of the distribution-spec's.
    pub fn mirror_refused(&self, registry: &str, code: &'static str) {
        self.0.mirror_refused.get_or_create(&CodeLabels { registry: registry.into(), code }).inc();
    }

    /// From the end of a client's request head to the first byte of the response.
    pub fn first_byte(&self, took: Duration) {
        self.0.first_byte.observe(took.as_secs_f64());
    }

    /// To find out what a tag means.
    pub fn resolve(&self, took: Duration) {
        self.0.resolve.observe(took.as_secs_f64());
    }

    /// All of it, as [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        encode(&mut text, &self.0.registry).expect("a String can always be written to");
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn registered<M: prometheus_client::registry::Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: Clone + Hash + Eq,
    M: Default,
    Family<L, M>: prometheus_client::registry::Metric,
{
    registered(registry, name, help, Family::default())
}

#[cfg(test)]
mod tests;
