//! Hosts that did not answer lately, the registries' and whoever else they send to: policy/breaker for each of them.
//!
//! 1. [`Outages::admit`]: a request gets a permit, or fails at once with what happened to those before it;
//! 2. [`Permit::watch`]: a question that is answered by silence counts as failed, while it is still waited for;
//! 3. [`Permit::settle`]: what came of it. A permit that is dropped unsettled was given up by who asked, and says nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use super::client::{About, RequestBody, Upstream};
use super::connect::dial_error;
use super::describe::in_time;
use crate::clock::Clock;
use crate::error::{Error, Kind, Reply, Result};
use crate::http::origin::Origin;
use crate::metrics::{Metrics, Running};
use crate::oci::route;
use crate::policy::breaker::{Breaker, Failure, Pass, State};
use crate::policy::chain::{Source, Tags};
use crate::policy::registry::Site;
use crate::policy::retry::Pace;

/// Hosts that are known not to answer. A pattern such as `*.pkg.dev` has as many as clients ask for; what is too much is asked.
const HOSTS: usize = 4096;

/// What is known of them. Clones share it.
#[derive(Clone)]
pub(super) struct Outages {
    hosts: Arc<Mutex<HashMap<Origin, Host>>>,
    paces: Arc<Mutex<HashMap<Arc<str>, Pace>>>,
    clock: Clock,
    metrics: Metrics,
    silence: Duration,
}

/// One that failed since it last answered.
struct Host {
    breaker: Breaker,
    /// What the last failure was, for a client to read.
    why: String,
    /// Counted as long as it is not asked as usual.
    open: Option<Running>,
}

/// A request may be sent.
pub(super) struct Permit {
    outages: Outages,
    origin: Option<Origin>,
    registry: Arc<str>,
    subject: u64,
    asks: Asks,
    pass: Pass,
    began: SystemTime,
    is_settled: bool,
}

/// What a request's silence means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// HEAD, a token, `/v2/`: whoever is there answers that soon.
    Question,
    /// A GET: bytes may have to be brought from elsewhere first.
    Content,
    /// It has a body, which may be what does not get on: only dialling counts.
    Upload,
}

impl Outages {
    /// None. A question is silent after nine tenths of `resolve_deadline`: before those who wait that long leave. A deadline
    /// below a second is somebody's impatience, and no measure of a host.
    pub(super) fn new(clock: Clock, metrics: Metrics, resolve_deadline: Duration) -> Outages {
        let silence = resolve_deadline.max(Duration::from_secs(1)).mul_f64(0.9);
        Outages { hosts: Arc::default(), paces: Arc::default(), clock, metrics, silence }
    }

    /// Whether `request` may be sent.
    ///
    /// # Errors
    /// Its host does not answer.
    pub(super) fn admit(&self, about: About<'_>, request: &Request<RequestBody>) -> Result<Permit> {
        let (uri, now) = (request.uri(), self.clock.now());
        let origin = Origin::from_url(&uri.to_string()).ok().map(|(origin, _)| origin);
        let mut hosts = self.hosts.lock();
        let host = origin.as_ref().and_then(|origin| Some((origin, hosts.get_mut(origin)?)));
        let pass = match host {
            None => Pass::Free,
            Some((origin, host)) => host.breaker.admit(now).map_err(|wait| host.refusal(origin, wait))?,
        };
        drop(hosts);
        if let (Pass::Trial(number), Some(upstream)) = (pass, &origin) {
            debug!(%upstream, number, state = State::HalfOpen.as_str(), "one request shows whether it answers again");
        }
        Ok(Permit {
            outages: self.clone(),
            origin,
            registry: about.registry.clone(),
            subject: subject(uri),
            asks: asks(about, request.method()),
            pass,
            began: now,
            is_settled: false,
        })
    }

    fn refusal(&self, origin: &Origin) -> Option<Error> {
        let (now, hosts) = (self.clock.now(), self.hosts.lock());
        let host = hosts.get(origin).filter(|host| host.breaker.state() != State::Closed)?;
        // A copy of it: nothing is tried.
        Some(host.refusal(origin, host.breaker.clone().admit(now).err().unwrap_or_default()))
    }

    fn turn(&self, origin: &Origin) -> u32 {
        let now = self.clock.now();
        self.hosts.lock().get(origin).map_or(0, |host| host.breaker.turn(now))
    }

    fn failed(&self, permit: &Permit, failure: Failure, began: SystemTime, why: impl FnOnce() -> String) {
        let Some(origin) = &permit.origin else { return };
        let (now, mut hosts) = (self.clock.now(), self.hosts.lock());
        if hosts.len() >= HOSTS && !hosts.contains_key(origin) {
            hosts.retain(|_, host| host.breaker.state() != State::Closed);
            if hosts.len() >= HOSTS {
                return;
            }
        }
        let new = || Host { breaker: Breaker::new(now), why: String::new(), open: None };
        let host = hosts.entry(origin.clone()).or_insert_with(new);
        let before = host.breaker.state();
        let changed = host.breaker.failed(permit.pass, failure, began, now, jitter());
        if host.breaker.state() == State::Closed || changed.is_some() {
            host.why = why();
        }
        match (before, changed) {
            (State::Closed, Some(state)) => {
                host.open = Some(self.metrics.upstream_open(&permit.registry));
                let (why, state) = (&host.why, state.as_str());
                warn!(upstream = %origin, registry = %permit.registry, state, why, "does not answer: requests to it fail at once but for a trial every few seconds");
            }
            (_, Some(state)) => debug!(upstream = %origin, state = state.as_str(), why = host.why, "a trial failed"),
            (_, None) => {}
        }
    }

    fn answered(&self, permit: &Permit) {
        let Some(origin) = &permit.origin else { return };
        let Some(mut host) = self.hosts.lock().remove(origin) else { return };
        if let Some(state) = host.breaker.answered() {
            let since = humantime::format_rfc3339_seconds(host.breaker.since());
            info!(upstream = %origin, registry = %permit.registry, state = state.as_str(), %since, "answers again");
        }
    }

    fn given_up(&self, permit: &Permit) {
        let Some(origin) = &permit.origin else { return };
        if let Some(host) = self.hosts.lock().get_mut(origin) {
            host.breaker.given_up(permit.pass, self.clock.now());
        }
    }
}

impl Host {
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
        Error::replied(Kind::Unreachable, message, reply)
    }
}

/// If `error` says that its host is not asked now: until when not.
pub fn not_asked(error: &Error) -> Option<Duration> {
    let reply = error.reply().filter(|_| error.kind() == Kind::Unreachable)?;
    let seconds = reply.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
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
            let began = self.outages.clock.now();
            match tokio::time::timeout(self.outages.silence, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let silence = humantime::format_duration(self.outages.silence);
                    self.outages.failed(self, Failure::Silent, began, || format!("no answer within {silence}"));
                }
            }
        }
    }

    /// What came of it.
    pub(super) fn settle(mut self, answered: &Result<Response<Incoming>>) {
        match answered {
            Ok(response) if is_gateways(response.status()) => {
                let why = || format!("it answered {}", response.status().as_u16());
                self.outages.failed(&self, Failure::Answered(self.subject), self.began, why);
            }
            Ok(_) => self.outages.answered(&self),
            Err(error) if self.is_hosts(error) => {
                self.outages.failed(&self, Failure::Silent, self.began, || error.message().to_owned());
            }
            Err(_) => return,
        }
        self.is_settled = true;
    }

    /// Whether an error is the host's.
    fn is_hosts(&self, error: &Error) -> bool {
        let at_dialling = error.cause().is_some_and(|cause| dial_error(cause).is_some());
        matches!(error.kind(), Kind::Unreachable | Kind::Timeout)
            && (at_dialling || self.asks != Asks::Upload)
            // It is there, and speaks HTTP/2 alone.
            && !error.message().contains("NoApplicationProtocol")
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
        let away = outages.refusal(&site.origin)?;
        let mut believed = others(site).filter(|source| source.tags == Tags::Believed);
        believed.all(|source| outages.refusal(&source.site.origin).is_some()).then_some(away)
    }

    /// Part of the key of a question that many share: another one when it is time for a trial, so that who asks then is not kept
    /// waiting for what an earlier question will never hear. 0 while `site` answers.
    pub fn turn(&self, site: &Site) -> u32 {
        let turn = |site: &Site| self.0.outages.turn(&site.origin);
        turn(site) + others(site).map(|source| turn(&source.site)).sum::<u32>()
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

    /// How long until one more transfer of a registry may be taken up: see policy/retry.
    pub fn pace(&self, registry: &Arc<str>) -> Duration {
        let outages = &self.0.outages;
        outages.paces.lock().entry(registry.clone()).or_default().wait(outages.clock.now())
    }
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

fn asks(about: About<'_>, method: &Method) -> Asks {
    let is_small = matches!(about.kind, route::Kind::Token | route::Kind::Other);
    match *method {
        Method::HEAD => Asks::Question,
        Method::GET if is_small => Asks::Question,
        Method::GET => Asks::Content,
        _ => Asks::Upload,
    }
}

/// What stands for all that is broken together: a repository; else a path.
fn subject(uri: &Uri) -> u64 {
    let path = uri.path();
    let end = ["/manifests/", "/blobs/", "/tags/", "/referrers/"].iter().filter_map(|part| path.rfind(part)).max();
    let mut hasher = DefaultHasher::new();
    path[..end.unwrap_or(path.len())].hash(&mut hasher);
    hasher.finish()
}

/// 0 to 1, of random bytes.
pub fn jitter() -> f64 {
    let mut byte = [0];
    // Without random bytes there is no jitter, which is no harm.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
