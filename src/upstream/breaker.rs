//! Hosts that did not answer lately, the registries' and whoever else they send to: policy/breaker for each of them.
//!
//! 1. `Outages::admit`: a request gets a permit, or fails at once with what happened to those before it;
//! 2. `Permit::watch`: a question that is answered by silence counts as failed, while it is still waited for;
//! 3. `Permit::settle`: what came of it. A permit that is dropped unsettled was given up by who asked, and says nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::client::Upstream;
use super::describe::in_time;
use super::request::{About, NO_REGISTRY, RequestBody};
use crate::clock::{Clock, jitter};
use crate::dial::error::dial_error;
use crate::error::{Error, Kind, Reply, Result};
use crate::http::origin::Origin;
use crate::metrics::{Metrics, Running};
use crate::oci::route;
use crate::policy::breaker::{Breaker, Failed, Failure, Pass, State};
use crate::policy::chain::{Source, Tags};
use crate::policy::registry::Site;

/// Hosts that are known not to answer. A pattern such as `*.pkg.dev` has as many as clients ask for.
const HOSTS: usize = 4096;
/// A host that nobody asked for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A head of more bytes than this may be what a host does not get on with: nginx takes no longer field.
const LARGE_HEAD: usize = 8 << 10;
/// Of a question's patience. Less is somebody's impatience, more is waited for in vain.
const SILENCE: RangeInclusive<Duration> = Duration::from_millis(900)..=Duration::from_secs(5);

/// What is known of them. Clones share it.
#[derive(Clone)]
pub(super) struct Outages {
    hosts: Arc<Mutex<HashMap<Key, Host>>>,
    requests: Arc<AtomicU64>,
    clock: Clock,
    metrics: Metrics,
    silence: Duration,
}

/// A host as a registry reaches it, which has roots and certificates of its own.
type Key = (Arc<str>, Origin);

/// One that failed lately.
struct Host {
    breaker: Breaker,
    /// What the last failure was, and for a client to read.
    kind: Kind,
    why: String,
    /// Counted as long as it is not asked as usual.
    open: Option<Running>,
    asked: SystemTime,
}

/// A request may be sent.
pub(super) struct Permit {
    outages: Outages,
    key: Option<Key>,
    number: u64,
    subject: u64,
    asks: Asks,
    pass: Pass,
    sent: SystemTime,
    is_settled: bool,
}

/// Marks a request in a client's own words.
#[derive(Clone, Copy)]
pub(super) struct Passed;

/// What a request's failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// HEAD, a token: whoever is there answers that soon.
    Question,
    /// A GET: bytes may have to be brought from elsewhere first.
    Content,
    /// What a client says, which may be what does not get on: only dialling counts. Nobody makes an outage by asking for one.
    Whatever,
}

impl Outages {
    /// None. A question is silent after nine tenths of `resolve_deadline`: before those who wait that long leave.
    pub(super) fn new(clock: Clock, metrics: Metrics, resolve_deadline: Duration) -> Outages {
        let silence = resolve_deadline.mul_f64(0.9).clamp(*SILENCE.start(), *SILENCE.end());
        Outages { hosts: Arc::default(), requests: Arc::default(), clock, metrics, silence }
    }

    /// Whether `request` may be sent.
    ///
    /// # Errors
    /// Its host does not answer: see [`not_asked`].
    pub(super) fn admit(&self, about: About<'_>, request: &Request<RequestBody>) -> Result<Permit> {
        let (uri, now) = (request.uri(), self.clock.now());
        let origin = Origin::from_url(&uri.to_string()).ok().map(|(origin, _)| origin);
        // What is no registry is asked as its clients wish.
        let key = origin.filter(|_| **about.registry != *NO_REGISTRY).map(|origin| (about.registry.clone(), origin));
        let pass = key.as_ref().map_or(Ok(Pass::Free), |key| self.pass(key, now))?;
        if let (Pass::Trial(number), Some((_, upstream))) = (pass, &key) {
            debug!(%upstream, number, state = State::HalfOpen.as_str(), "one request shows whether it answers again");
        }
        Ok(Permit {
            outages: self.clone(),
            key,
            number: self.requests.fetch_add(1, Ordering::Relaxed),
            subject: subject(about.kind, uri),
            asks: asks(about, request),
            pass,
            sent: now,
            is_settled: false,
        })
    }

    fn pass(&self, key: &Key, now: SystemTime) -> Result<Pass> {
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(key) else { return Ok(Pass::Free) };
        host.asked = now;
        host.breaker.admit(now).map_err(|wait| host.refusal(&key.1, wait))
    }

    /// Why it is not asked but by a trial.
    fn refusal(&self, key: &Key) -> Option<Error> {
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let host = hosts.get(key).filter(|host| host.breaker.is_away(now))?;
        // A copy of it: nothing is tried.
        Some(host.refusal(&key.1, host.breaker.clone().admit(now).err().unwrap_or_default()))
    }

    /// Why a request would not be sent.
    fn is_due(&self, key: &Key) -> Result<()> {
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let Some(host) = hosts.get(key) else { return Ok(()) };
        host.breaker.clone().admit(now).map(drop).map_err(|wait| host.refusal(&key.1, wait))
    }

    fn generation(&self, key: &Key) -> u64 {
        let now = self.clock.now();
        self.hosts.lock().get(key).map_or(0, |host| host.breaker.generation(now))
    }

    fn failed(&self, permit: &Permit, how: Failure, since: SystemTime, kind: Kind, why: impl FnOnce() -> String) {
        let Some(key) = &permit.key else { return };
        let failed = Failed { how, sent: permit.sent, since, at: self.clock.now() };
        let mut hosts = self.hosts.lock();
        if hosts.len() >= HOSTS && !hosts.contains_key(key) {
            forget_one(&mut hosts);
        }
        let host = hosts.entry(key.clone()).or_insert_with(|| Host::new(failed.at));
        let before = host.breaker.state();
        let changed = host.breaker.failed(permit.pass, failed, jitter());
        if host.breaker.state() == State::Closed || changed.is_some() {
            (host.kind, host.why) = (kind, why());
        }
        if (before, changed) == (State::Closed, Some(State::Open)) {
            host.open = Some(self.metrics.upstream_open(&key.0));
        }
        let why = changed.map(|_| host.why.clone());
        drop(hosts);
        let ((registry, upstream), Some(why)) = (key, why) else { return };
        match before {
            State::Closed => {
                warn!(%upstream, %registry, why, "does not answer: requests to it fail at once but for a trial every few seconds");
            }
            _ => debug!(%upstream, %registry, why, "a trial failed"),
        }
    }

    fn answered(&self, permit: &Permit) {
        let Some(key) = &permit.key else { return };
        let mut hosts = self.hosts.lock();
        let Some(host) = hosts.get_mut(key) else { return };
        host.open = None;
        let (changed, since) = (host.breaker.answered(self.clock.now()), host.breaker.since());
        drop(hosts);
        if changed.is_some() {
            let since = humantime::format_rfc3339_seconds(since);
            info!(upstream = %key.1, registry = %key.0, %since, "answers again");
        }
    }

    fn given_up(&self, permit: &Permit) {
        let Some(key) = &permit.key else { return };
        if let Some(host) = self.hosts.lock().get_mut(key) {
            host.breaker.given_up(permit.pass, self.clock.now());
        }
    }

    fn forget_old(&self) {
        let now = self.clock.now();
        self.hosts.lock().retain(|_, host| now.duration_since(host.asked).unwrap_or_default() < FORGOTTEN);
    }
}

fn forget_one(hosts: &mut HashMap<Key, Host>) {
    let longest = hosts.iter().min_by_key(|(_, host)| host.asked).map(|(key, _)| key.clone());
    longest.and_then(|key| hosts.remove(&key));
}

impl Host {
    fn new(now: SystemTime) -> Host {
        Host { breaker: Breaker::new(now), kind: Kind::Unreachable, why: String::new(), open: None, asked: now }
    }

    /// RFC 9110, 10.2.3: `Retry-After` in whole seconds. The status is the one of a host that cannot be reached.
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

/// Its host is known not to answer, and is asked again after this.
#[derive(Debug, thiserror::Error)]
#[error("it was not asked")]
struct NotAsked(Duration);

/// If `error` says that its host is not asked now: until when not.
pub fn not_asked(error: &Error) -> Option<Duration> {
    error.cause()?.downcast_ref::<NotAsked>().map(|NotAsked(wait)| *wait)
}

impl Permit {
    /// The result of `work`. A question that is silent counts as failed each time that its patience ends; it goes on being waited for,
    /// as its answer may come yet.
    pub(super) async fn watch<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        if self.asks != Asks::Question {
            return work.await;
        }
        loop {
            let since = self.outages.clock.now();
            match tokio::time::timeout(self.outages.silence, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let silence = humantime::format_duration(self.outages.silence);
                    let why = || format!("no answer within {silence}");
                    self.outages.failed(self, Failure::Silent(self.number), since, Kind::Timeout, why);
                }
            }
        }
    }

    /// What came of it.
    pub(super) fn settle(mut self, answered: &Result<Response<Incoming>>) {
        match answered {
            Ok(response) if is_gateways(response.status()) => {
                if self.asks == Asks::Whatever {
                    return;
                }
                let why = || format!("it answered {}", response.status().as_u16());
                self.outages.failed(&self, Failure::Of(self.subject), self.sent, Kind::Broken, why);
            }
            Ok(_) => self.outages.answered(&self),
            Err(error) => {
                let Some(failure) = self.failure(error) else { return };
                self.outages.failed(&self, failure, self.sent, error.kind(), || error.message().to_owned());
            }
        }
        self.is_settled = true;
    }

    /// How an error is the host's, if it is.
    fn failure(&self, error: &Error) -> Option<Failure> {
        let dial = error.cause().and_then(dial_error);
        match (dial, error.kind()) {
            // It is there.
            (Some(dial), _) if dial.wants_another_protocol() => None,
            (Some(_), Kind::Unreachable | Kind::Timeout) => Some(Failure::Unreachable),
            _ if self.asks == Asks::Whatever => None,
            (_, Kind::Unreachable) => Some(Failure::Of(self.subject)),
            (_, Kind::Timeout) => Some(Failure::Silent(self.number)),
            _ => None,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_settled {
            self.outages.given_up(self);
        }
    }
}

impl Upstream {
    /// Why `site` is not asked now but by a trial, nor any other that is believed what its tags name, if so it is.
    pub fn away(&self, site: &Site) -> Option<Error> {
        let outages = &self.0.outages;
        let away = outages.refusal(&key(site))?;
        let mut believed = others(site).filter(|source| source.tags == Tags::Believed);
        believed.all(|source| outages.refusal(&key(&source.site)).is_some()).then_some(away)
    }

    /// Whether a request to `site` would be sent.
    ///
    /// # Errors
    /// Its host does not answer, and it is not time for a trial.
    pub fn is_due(&self, site: &Site) -> Result<()> {
        self.0.outages.is_due(&key(site))
    }

    /// Part of the key of a question that many share: another one after each failure, and when it is time for a trial, so that who asks
    /// then is not kept waiting for what an earlier question will never hear. None comes twice.
    pub fn generation(&self, site: &Site) -> u64 {
        let turn = |site: &Site| self.0.outages.generation(&key(site));
        turn(site) + others(site).map(|source| turn(&source.site)).sum::<u64>()
    }

    /// What `asking` finds out, if it does so in time. With a deadline there is something to fall back on: then nobody waits for
    /// a host that does not answer. What `asking` has begun elsewhere by then goes on, and is the trial if one is due.
    ///
    /// # Errors
    /// Its own, that it took too long, and that there is no use in waiting.
    pub async fn in_time<T>(
        &self,
        site: &Site,
        deadline: Option<Duration>,
        asking: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match deadline.and_then(|_| self.away(site)) {
            Some(away) => asking.now_or_never().unwrap_or(Err(away)),
            None => in_time(site, deadline, asking).await,
        }
    }

    /// Forgets hosts that nobody asks any more.
    pub fn tidy(&self) {
        self.0.outages.forget_old();
    }
}

fn key(site: &Site) -> Key {
    (site.registry.name.clone(), site.origin.clone())
}

fn others(site: &Site) -> impl Iterator<Item = &Source> {
    let chain = &site.registry.chain;
    chain.before.iter().chain(&chain.after)
}

/// What a gateway says of a host behind it that is not there. 500 is not among them: it is what an application says that is there
/// and stumbles over one request.
fn is_gateways(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

fn asks(about: About<'_>, request: &Request<RequestBody>) -> Asks {
    let fields = request.headers().iter();
    let head = fields.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if request.extensions().get::<Passed>().is_some() || !request.body().is_end_stream() || head > LARGE_HEAD {
        return Asks::Whatever;
    }
    match *request.method() {
        Method::HEAD => Asks::Question,
        _ if about.kind == route::Kind::Token => Asks::Question,
        _ => Asks::Content,
    }
}

/// What stands for all that is broken together: a repository of a registry, the scope of a token; else a path.
fn subject(kind: route::Kind, uri: &Uri) -> u64 {
    let path = uri.path();
    let parts = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
    let end = parts.iter().filter_map(|part| path.rfind(part)).max().filter(|_| path.starts_with("/v2/"));
    let mut hasher = DefaultHasher::new();
    path[..end.unwrap_or(path.len())].hash(&mut hasher);
    uri.query().filter(|_| kind == route::Kind::Token).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::request::no_body;
    use crate::upstream::requester::UpstreamCost;

    fn outages() -> Outages {
        Outages::new(Clock::system(), Metrics::new(), Duration::from_secs(2))
    }

    fn fail(outages: &Outages, registry: &str, host: &str) -> Option<Error> {
        let (registry, cost) = (registry.into(), UpstreamCost::default());
        let about = About { registry: &registry, kind: route::Kind::Manifest, cost: &cost, debit: None };
        let uri = format!("https://{host}/v2/a/b/manifests/1");
        let request = Request::head(uri).body(no_body()).unwrap();
        let permit = match outages.admit(about, &request) {
            Ok(permit) => permit,
            Err(error) => return Some(error),
        };
        outages.failed(&permit, Failure::Unreachable, permit.sent, Kind::Unreachable, || "it is away".to_owned());
        None
    }

    fn is_open(outages: &Outages, registry: &str, host: &str) -> bool {
        (0..3).all(|_| fail(outages, registry, host).is_none()) && fail(outages, registry, host).is_some()
    }

    /// Another registry reaches the same host with other roots, or another certificate of its own.
    #[test]
    fn a_host_is_one_for_each_registry_and_none_without() {
        let outages = outages();
        assert!(is_open(&outages, "docker.io", "harbor.test"));
        assert!(fail(&outages, "harbor", "harbor.test").is_none());
        assert!(!is_open(&outages, NO_REGISTRY, "harbor.test"));
    }

    #[test]
    fn hosts_that_nobody_asks_for_are_forgotten() {
        let outages = outages();
        assert!((0..HOSTS + 10).all(|n| is_open(&outages, "pkg.dev", &format!("h{n}.pkg.dev"))));
        assert_eq!(outages.hosts.lock().len(), HOSTS);
        outages.clock.advance(FORGOTTEN);
        assert!(is_open(&outages, "docker.io", "registry-1.docker.io"), "room for those that matter");
        outages.forget_old();
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
