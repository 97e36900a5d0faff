//! Hosts that did not answer lately, registries and the hosts that they redirect to: one
//! policy/breaker for each of them.
//!
//! A request asks by its permit (`permit.rs`). What is asked about a whole registry (`unreachable`,
//! `generation`) counts its other sources too.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::question::in_time;
use super::request::NO_REGISTRY;
use crate::clock::{Clock, jitter};
use crate::error::{Error, Kind, Reply, Result};
use crate::http::origin::Origin;
use crate::metrics::{Metrics, Running};
use crate::policy::breaker::{Breaker, Failed, Failure, Pass, State, Verdict};
use crate::policy::chain::{Source, Tags};
use crate::policy::registry::Site;
use crate::policy::verdict::{Part, Unreachable};

/// Hosts that are remembered as failing. A pattern such as `*.pkg.dev` has as many as clients ask
/// for.
const HOSTS: usize = 4096;
/// A host that was not asked for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The limits of the silence after which a question counts as failed. Less may be the host's usual
/// pace; who asked does not wait for more.
const SILENCE: RangeInclusive<Duration> = Duration::from_millis(900)..=Duration::from_secs(5);

/// A host as one registry reaches it: each registry has roots and certificates of its own.
pub(super) type Key = (Arc<str>, Origin);

/// The hosts that failed lately.
pub(super) struct Outages {
    hosts: Mutex<HashMap<Key, Host>>,
    requests: AtomicU64,
    pub(super) clock: Clock,
    metrics: Metrics,
    /// A question without an answer for this long counts as failed.
    pub(super) silence: Duration,
}

/// One host that failed lately.
struct Host {
    breaker: Breaker,
    kind: Kind,
    /// What the last failure was, for a client to read.
    why: String,
    /// Counts the host in the metrics while its breaker is open.
    open: Option<Running>,
    /// Whether a question of seawall's own is on its way.
    is_asked: bool,
    asked: SystemTime,
}

/// What went wrong with a request.
pub(super) struct Failing<W> {
    pub(super) failed: Failed,
    pub(super) kind: Kind,
    pub(super) why: W,
}

impl Outages {
    /// A question is silent after nine tenths of `resolve_deadline`: before those who wait that
    /// long leave.
    pub(super) fn new(clock: Clock, metrics: Metrics, resolve_deadline: Duration) -> Outages {
        let silence = resolve_deadline.mul_f64(0.9).clamp(*SILENCE.start(), *SILENCE.end());
        Outages { hosts: Mutex::default(), requests: AtomicU64::new(0), clock, metrics, silence }
    }

    /// The number of the next request.
    pub(super) fn next_number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Admits a request to a host, as any or as a trial.
    ///
    /// # Errors
    /// The host does not answer, and it is not time for a trial: see [`not_asked`].
    pub(super) fn admit(&self, key: &Key, now: SystemTime) -> Result<Pass> {
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(key) else { return Ok(Pass::Free) };
        host.asked = now;
        let pass = host.breaker.admit(now).map_err(|wait| host.refusal(&key.1, wait))?;
        drop(hosts);
        if let Pass::Trial(number) = pass {
            debug!(upstream = %key.1, number, state = State::HalfOpen.as_str(), "one request shows whether it answers again");
        }
        Ok(pass)
    }

    /// Counts a request that failed, or is silent. `true`: seawall is to ask a question of its own, and
    /// to say what became of it.
    #[must_use]
    pub(super) fn failed(&self, key: &Key, pass: Pass, failing: Failing<impl FnOnce() -> String>) -> bool {
        let Failing { failed, kind, why } = failing;
        let mut hosts = self.hosts.lock();
        if hosts.len() >= HOSTS && !hosts.contains_key(key) {
            forget_one(&mut hosts);
        }
        let host = hosts.entry(key.clone()).or_insert_with(|| Host::new(failed.at));
        let before = host.breaker.state();
        host.is_asked &= failed.how != Failure::Own;
        let verdict = host.breaker.failed(pass, failed, jitter());
        if host.breaker.state() == State::Closed || verdict == Verdict::Away {
            (host.kind, host.why) = (kind, why());
        }
        if verdict != Verdict::Away {
            return verdict == Verdict::Ask && !std::mem::replace(&mut host.is_asked, true);
        }
        if before == State::Closed {
            host.open = Some(self.metrics.upstream_open(&key.0));
        }
        let why = host.why.clone();
        drop(hosts);
        let (registry, upstream) = key;
        match before {
            State::Closed => {
                warn!(%upstream, %registry, why, "does not answer: requests to it fail at once but for a trial every few seconds");
            }
            _ => debug!(%upstream, %registry, why, "a trial failed"),
        }
        false
    }

    /// Ends the outage of a host that answered.
    pub(super) fn answered(&self, key: &Key) {
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(key) else { return };
        (host.open, host.is_asked) = (None, false);
        let (changed, since) = (host.breaker.answered(self.clock.now()), host.breaker.since());
        drop(hosts);
        if changed.is_some() {
            let since = humantime::format_rfc3339_seconds(since);
            info!(upstream = %key.1, registry = %key.0, %since, "answers again");
        }
    }

    /// Notes that a request was cancelled by those who waited for it.
    pub(super) fn given_up(&self, key: &Key, pass: Pass) {
        if let Some(host) = self.hosts.lock().get_mut(key) {
            host.breaker.given_up(pass, self.clock.now());
        }
    }

    /// Why requests to `site` fail now, but for trials; `None` also where another source answers
    /// that is believed what tags name.
    pub(super) fn unreachable(&self, site: &Site) -> Option<Error> {
        let error = self.refusal(&key(site))?;
        let mut believed = others(site).filter(|source| source.tags == Tags::Believed);
        believed.all(|source| self.refusal(&key(&source.site)).is_some()).then_some(error)
    }

    fn refusal(&self, key: &Key) -> Option<Error> {
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let host = hosts.get(key).filter(|host| host.breaker.is_away(now))?;
        // A copy of the breaker: nothing is tried.
        Some(host.refusal(&key.1, host.breaker.clone().admit(now).err().unwrap_or_default()))
    }

    /// The hosts of registries that do not answer now, those first that are needed.
    pub(super) fn report(&self, is: impl Fn(&str, &Origin) -> Part) -> Vec<Unreachable> {
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let is_registry = |registry: &str| registry != NO_REGISTRY;
        let away = hosts.iter().filter(|((registry, _), host)| is_registry(registry) && host.breaker.is_away(now));
        let away: Vec<_> = away.map(|(key, host)| (key.clone(), host.breaker.since(), host.why.clone())).collect();
        drop(hosts);
        let report = |((registry, origin), since, why): (Key, SystemTime, String)| Unreachable {
            is: is(&registry, &origin),
            host: origin.authority().to_string(),
            registry: registry.to_string(),
            since,
            why,
        };
        let mut away: Vec<_> = away.into_iter().map(report).collect();
        away.sort_by(|a, b| (a.is, &a.registry, &a.host).cmp(&(b.is, &b.registry, &b.host)));
        away
    }

    /// Whether a host is not known to be unreachable.
    ///
    /// # Errors
    /// It is.
    pub(super) fn is_answering(&self, key: &Key) -> Result<()> {
        self.refusal(key).map_or(Ok(()), Err)
    }

    /// Whether a request to `site` would be sent now.
    ///
    /// # Errors
    /// The host does not answer, and it is not time for a trial.
    pub(super) fn is_due(&self, site: &Site) -> Result<()> {
        let key = key(site);
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let Some(host) = hosts.get(&key) else { return Ok(()) };
        host.breaker.clone().admit(now).map(drop).map_err(|wait| host.refusal(&key.1, wait))
    }

    /// Part of the key of a question that many share. It changes after each failure, and when it is
    /// time for a trial: who asks then does not wait for an earlier question, which may never be
    /// answered. No value comes twice.
    pub(super) fn generation(&self, site: &Site) -> u64 {
        let of_one = |site: &Site| {
            let now = self.clock.now();
            self.hosts.lock().get(&key(site)).map_or(0, |host| host.breaker.generation(now))
        };
        of_one(site) + others(site).map(|source| of_one(&source.site)).sum::<u64>()
    }

    /// The result of `asking`, if it comes before the deadline. Who has a deadline has something to
    /// fall back on, and does not wait for a host that is unreachable. What `asking` has begun
    /// elsewhere by then goes on, and is the trial if one is due.
    ///
    /// # Errors
    /// Those of `asking`, that it took too long, and that the host is unreachable.
    pub(super) async fn in_time<T>(
        &self,
        site: &Site,
        deadline: Option<Duration>,
        asking: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match deadline.and_then(|_| self.unreachable(site)) {
            Some(unreachable) => asking.now_or_never().unwrap_or(Err(unreachable)),
            None => in_time(site, deadline, asking).await,
        }
    }

    /// Forgets hosts that were not asked for long.
    pub(super) fn tidy(&self) {
        let now = self.clock.now();
        self.hosts.lock().retain(|_, host| now.duration_since(host.asked).unwrap_or_default() < FORGOTTEN);
    }
}

fn forget_one(hosts: &mut HashMap<Key, Host>) {
    let longest = hosts.iter().min_by_key(|(_, host)| host.asked).map(|(key, _)| key.clone());
    longest.and_then(|key| hosts.remove(&key));
}

fn key(site: &Site) -> Key {
    (site.registry.name.clone(), site.origin.clone())
}

fn others(site: &Site) -> impl Iterator<Item = &Source> {
    let chain = &site.registry.chain;
    chain.before.iter().chain(&chain.after)
}

impl Host {
    fn new(now: SystemTime) -> Host {
        Host {
            breaker: Breaker::new(now),
            kind: Kind::Unreachable,
            why: String::new(),
            open: None,
            is_asked: false,
            asked: now,
        }
    }

    /// RFC 9110, 10.2.3: `Retry-After` in whole seconds. The status is the one of a host that
    /// cannot be reached.
    fn refusal(&self, origin: &Origin, wait: Duration) -> Error {
        let since = humantime::format_rfc3339_seconds(self.breaker.since());
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        let message = format!(
            "{} does not answer since {since} ({}): it is asked again in {seconds} s",
            origin.authority(),
            self.why
        );
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::try_from(seconds.to_string()) {
            headers.insert(header::RETRY_AFTER, value);
        }
        let reply = Reply { status: StatusCode::BAD_GATEWAY, headers, body: bytes::Bytes::new() };
        Error::replied(self.kind, message, reply).because(NotAsked(wait))
    }
}

/// The cause of an error about a host that was not asked, and how long it will not be.
#[derive(Debug, thiserror::Error)]
#[error("it was not asked")]
struct NotAsked(Duration);

/// How long the host of `error` will not be asked; `None` if `error` is of another kind.
pub fn not_asked(error: &Error) -> Option<Duration> {
    error.cause()?.downcast_ref::<NotAsked>().map(|NotAsked(wait)| *wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outages() -> Outages {
        Outages::new(Clock::system(), Metrics::new(), Duration::from_secs(2))
    }

    fn fail(outages: &Outages, registry: &str, host: &str) -> Option<Error> {
        let key = (registry.into(), Origin::https(host.parse().unwrap()));
        let now = outages.clock.now();
        let pass = match outages.admit(&key, now) {
            Ok(pass) => pass,
            Err(error) => return Some(error),
        };
        let failed = Failed { how: Failure::Unreachable, sent: now, since: now, at: outages.clock.now() };
        let why = || "it is unreachable".to_owned();
        assert!(!outages.failed(&key, pass, Failing { failed, kind: Kind::Unreachable, why }));
        None
    }

    fn is_open(outages: &Outages, registry: &str, host: &str) -> bool {
        (0..3).all(|_| fail(outages, registry, host).is_none()) && fail(outages, registry, host).is_some()
    }

    /// Another registry reaches the same host with other roots, or another certificate of its own.
    #[test]
    fn a_host_is_one_for_each_registry() {
        let outages = outages();
        assert!(is_open(&outages, "docker.io", "harbor.test"));
        assert!(fail(&outages, "harbor", "harbor.test").is_none());
    }

    #[test]
    fn hosts_that_are_not_asked_are_forgotten() {
        let outages = outages();
        assert!((0..HOSTS + 10).all(|n| is_open(&outages, "pkg.dev", &format!("h{n}.pkg.dev"))));
        assert_eq!(outages.hosts.lock().len(), HOSTS);
        outages.clock.advance(FORGOTTEN);
        assert!(is_open(&outages, "docker.io", "registry-1.docker.io"), "room for those that matter");
        outages.tidy();
        assert_eq!(outages.hosts.lock().len(), 1);
    }

    #[test]
    fn a_refusal_is_told_from_other_failures() {
        let outages = outages();
        assert!(is_open(&outages, "docker.io", "registry-1.docker.io"));
        let refused = fail(&outages, "docker.io", "registry-1.docker.io").unwrap();
        assert!(not_asked(&refused).unwrap() <= Duration::from_secs(1));
        assert_eq!(refused.reply().unwrap().headers[header::RETRY_AFTER], "1");
        assert!(not_asked(&Error::replied(Kind::Unreachable, "x", refused.reply().unwrap().clone())).is_none());
    }
}
