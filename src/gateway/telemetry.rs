//! One request, as the log and the metrics record it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use tracing::info;

use crate::clock::Clock;
use crate::error::Error;
use crate::http::cache_status::Outcome;
use crate::ledger::Ledger;
use crate::metrics::{Metrics, Served};
use crate::oci::route::{Kind, cut};
use crate::policy::budget::Tenant;
use crate::policy::top::Weight;
use crate::upstream::NO_REGISTRY;
use crate::upstream::requester::UpstreamCost;

/// The target of the lines of requests.
pub const REQUESTS: &str = "seawall::requests";

/// Where records are written to.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Counts requests and bytes.
    pub metrics: Metrics,
    /// The books of upstream's quota.
    pub ledger: Ledger,
    /// The time.
    pub clock: Clock,
}

/// The record of one request. It is written when it is dropped: after the last byte, or when the
/// client hung up.
#[derive(Debug)]
pub struct Record {
    telemetry: Telemetry,
    began: SystemTime,
    peer: SocketAddr,
    tenant: Tenant,
    method: Method,
    /// The registry's name; `-` where there is none.
    pub registry: Arc<str>,
    /// What was asked for.
    pub kind: Kind,
    /// The repository, or the path where there is none. Never a query.
    pub subject: String,
    /// Tag or digest.
    pub reference: String,
    /// How it was answered.
    pub outcome: Outcome,
    /// What it cost upstream.
    pub cost: Arc<UpstreamCost>,
    status: StatusCode,
    bytes: u64,
    end: End,
}

#[derive(Debug)]
enum End {
    Open,
    Clean,
    Broken(String),
}

/// The registry's name of every request at first: made once.
fn no_registry() -> Arc<str> {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| NO_REGISTRY.into());
    NAME.clone()
}

impl Record {
    /// A record of a request that begins now.
    pub fn new(telemetry: Telemetry, peer: SocketAddr, tenant: Tenant, method: Method) -> Record {
        Record {
            began: telemetry.clock.now(),
            telemetry,
            peer,
            tenant,
            method,
            registry: no_registry(),
            kind: Kind::Other,
            subject: String::new(),
            reference: String::new(),
            outcome: Outcome::Bypass,
            cost: Arc::default(),
            status: StatusCode::OK,
            bytes: 0,
            end: End::Open,
        }
    }

    /// Whose share it takes.
    pub fn tenant(&self) -> Tenant {
        self.tenant
    }

    /// Notes the status, and counts the request.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status;
        self.telemetry.metrics.request(&self.registry, self.kind.as_str(), self.outcome.as_str());
        if self.is_pull() {
            self.telemetry.metrics.totals().pulled(self.outcome);
        }
        let spared = self.kind == Kind::Manifest && self.cost.charged() == 0 && status.is_success();
        if spared && matches!(self.method, Method::GET | Method::HEAD) {
            self.telemetry.metrics.spared(&self.registry);
            self.telemetry.ledger.spared(&self.registry, &self.subject);
        }
    }

    /// Notes bytes that were sent to the client.
    pub fn carried(&mut self, bytes: u64) {
        if self.bytes == 0 {
            self.telemetry.metrics.first_byte(self.took());
        }
        self.bytes += bytes;
    }

    /// Notes that the body was sent whole.
    pub fn ended(&mut self) {
        self.end = End::Clean;
    }

    /// Notes that the body broke off.
    pub fn broke(&mut self, error: &Error) {
        self.end = End::Broken(error.to_string());
    }

    /// Notes what went wrong, for the log.
    pub fn failed(&mut self, error: &Error) {
        self.end = End::Broken(error.to_string());
    }

    /// Whether a manifest or a blob was asked for, and answered: what it names was granted.
    fn is_pull(&self) -> bool {
        let is_content = matches!(self.kind, Kind::Manifest | Kind::Blob);
        is_content && self.status.is_success() && matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Counts what was sent of a pull, and, unless that broke off, who pulled what.
    fn note_pull(&self) {
        if !self.is_pull() {
            return;
        }
        let metrics = &self.telemetry.metrics;
        metrics.totals().pulled_bytes(self.outcome, self.bytes);
        if matches!(self.end, End::Broken(_)) {
            return;
        }
        let weight = Weight { pulls: u64::from(self.kind == Kind::Manifest), bytes: self.bytes };
        metrics.top().note(&self.registry, &self.subject, self.peer.ip().to_canonical(), weight);
    }

    fn took(&self) -> Duration {
        self.telemetry.clock.now().duration_since(self.began).unwrap_or_default()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let served = match self.outcome {
            Outcome::Hit | Outcome::Revalidated | Outcome::Stale => Served::Cache,
            _ => Served::Upstream,
        };
        self.telemetry.metrics.served(&self.registry, served, self.bytes);
        self.note_pull();
        let error = match &self.end {
            End::Broken(why) => Some(cut(why)),
            End::Open | End::Clean => None,
        };
        info!(
            target: REQUESTS,
            client = %self.peer.ip().to_canonical(),
            method = %self.method,
            registry = %self.registry,
            repository = cut(&self.subject),
            reference = cut(&self.reference),
            status = self.status.as_u16(),
            outcome = self.outcome.as_str(),
            bytes = self.bytes,
            ms = u64::try_from(self.took().as_millis()).unwrap_or(u64::MAX),
            upstream = self.cost.requests(),
            source = self.cost.source(),
            error,
            "request"
        );
    }
}
