//! The breaker's permit for one request:
//!
//! 1. [`Permit::admit`]: a request may be sent, or fails at once with what happened to those before
//!    it;
//! 2. [`Permit::watch`]: a question that is answered by silence counts as failed, while it is still
//!    waited for;
//! 3. [`Permit::settle`]: what came of it. A permit that is dropped unsettled was given up by who
//!    asked, and says nothing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, SystemTime};

use http::{Method, Request, StatusCode, Uri};
use http_body::Body as _;

use super::breaker::{Failing, Key, Outages};
use super::request::{About, Author, NO_REGISTRY, RequestBody};
use crate::dial::error::dial_error;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::oci::route;
use crate::policy::breaker::{Asked, Failed, Failure, Pass};

/// A head of more bytes than this may be the reason of a failure: nginx takes no longer field.
const LARGE_HEAD: usize = 8 << 10;

/// A request that may be sent.
pub(super) struct Permit<'a> {
    outages: &'a Outages,
    /// `None` for a host that belongs to no registry: it is asked as its clients wish; and for a request
    /// that can be done without.
    key: Option<Key>,
    number: u64,
    asked: Asked,
    proves: Proves,
    pass: Pass,
    sent: SystemTime,
    is_settled: bool,
    /// Asks a question of seawall's own.
    ask: &'a (dyn Fn(Key) + Sync),
}

/// Which failures of a request are evidence against its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proves {
    /// Of a HEAD or a request for a token, silence too: a host that works answers those soon.
    Silence,
    /// Of a GET not silence: bytes may have to be brought from elsewhere first.
    Failure,
    /// Of what a client wrote only failed dialling: the request may be the reason, and no client
    /// can make an outage by asking for one.
    Dialling,
}

impl<'a> Permit<'a> {
    /// A permit for `request`.
    ///
    /// # Errors
    /// The host does not answer: see [`not_asked`](super::breaker::not_asked).
    pub(super) fn admit(
        outages: &'a Outages,
        about: &About<'_>,
        request: &Request<RequestBody>,
        ask: &'a (dyn Fn(Key) + Sync),
    ) -> Result<Permit<'a>> {
        let (uri, sent) = (request.uri(), outages.clock.now());
        let origin = Origin::from_url(&uri.to_string()).ok().map(|(origin, _)| origin);
        let key = origin.filter(|_| **about.registry != *NO_REGISTRY).map(|origin| (about.registry.clone(), origin));
        if let Some(key) = key.as_ref().filter(|_| about.is_beside) {
            outages.is_answering(key)?;
        }
        let key = key.filter(|_| !about.is_beside);
        let pass = key.as_ref().map_or(Ok(Pass::Free), |key| outages.admit(key, sent))?;
        let (number, proves) = (outages.next_number(), proves(about, request));
        // What may hang for as long as its client likes decides alone for nobody.
        if let (Pass::Trial(_), Some(key)) = (pass, key.as_ref().filter(|_| proves != Proves::Silence)) {
            ask(key.clone());
        }
        let asked = Asked { subject: subject(about.kind, uri), client: about.cost.applicants().first() };
        Ok(Permit { outages, key, number, asked, proves, pass, sent, is_settled: false, ask })
    }

    /// The result of `work`. A silent question counts as failed each time that its patience ends;
    /// it goes on being waited for, as its answer may come yet.
    pub(super) async fn watch<F: Future>(&self, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        if self.proves != Proves::Silence {
            return work.await;
        }
        loop {
            let since = self.outages.clock.now();
            match tokio::time::timeout(self.outages.silence, &mut work).await {
                Ok(done) => return done,
                Err(_) => {
                    let why = || silent_for(self.outages.silence);
                    self.failed(Failure::Silent(self.number, self.asked), since, Kind::Timeout, why);
                }
            }
        }
    }

    /// Counts what came of the request: the status of its response, or its failure.
    pub(super) fn settle(mut self, answered: std::result::Result<StatusCode, &Error>) {
        match answered {
            Ok(status) if is_gateways(status) => {
                if self.proves == Proves::Dialling {
                    return;
                }
                let why = || format!("it answered {}", status.as_u16());
                self.failed(Failure::Of(self.asked), self.sent, Kind::Broken, why);
            }
            Ok(_) => {
                if let Some(key) = &self.key {
                    self.outages.answered(key);
                }
            }
            Err(error) => {
                let Some(failure) = self.failure(error) else { return };
                self.failed(failure, self.sent, error.kind(), || error.message().to_owned());
            }
        }
        self.is_settled = true;
    }

    fn failed(&self, how: Failure, since: SystemTime, kind: Kind, why: impl FnOnce() -> String) {
        let Some(key) = &self.key else { return };
        let failed = Failed { how, sent: self.sent, since, at: self.outages.clock.now() };
        if self.outages.failed(key, self.pass, Failing { failed, kind, why }) {
            (self.ask)(key.clone());
        }
    }

    /// The host's failure in an error, if it is the host's.
    fn failure(&self, error: &Error) -> Option<Failure> {
        let dial = error.cause().and_then(dial_error);
        match (dial, error.kind()) {
            // The host is there.
            (Some(dial), _) if dial.wants_another_protocol() => None,
            (Some(_), Kind::Unreachable | Kind::Timeout) => Some(Failure::Unreachable),
            _ if self.proves == Proves::Dialling => None,
            (_, Kind::Unreachable) => Some(Failure::Of(self.asked)),
            (_, Kind::Timeout) => Some(Failure::Silent(self.number, self.asked)),
            _ => None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // The others have a question beside them, which goes on.
        if let (false, Some(key), Proves::Silence) = (self.is_settled, &self.key, self.proves) {
            self.outages.given_up(key, self.pass);
        }
    }
}

/// What is said of a host that does not answer a question.
pub(super) fn silent_for(silence: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(silence))
}

/// What a gateway says of a host behind it that is not there. 500 is not among them: an application
/// says it that is there, and stumbles over one request.
pub(super) fn is_gateways(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

fn proves(about: &About<'_>, request: &Request<RequestBody>) -> Proves {
    let fields = request.headers().iter();
    let head = fields.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    if about.author == Author::Client || !request.body().is_end_stream() || head > LARGE_HEAD {
        return Proves::Dialling;
    }
    match *request.method() {
        Method::HEAD => Proves::Silence,
        _ if about.kind == route::Kind::Token => Proves::Silence,
        _ => Proves::Failure,
    }
}

/// A hash of what breaks together: a repository of a registry, the scope of a token; else a path.
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
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::upstream::request::no_body;
    use crate::upstream::requester::UpstreamCost;

    #[test]
    fn what_belongs_to_no_registry_is_never_held_back() {
        let outages = Outages::new(Clock::system(), Metrics::new(), Duration::from_secs(2));
        let is_open = |registry: &str| {
            let (registry, cost) = (registry.into(), UpstreamCost::default());
            let about = About::new(&registry, route::Kind::Manifest, &cost);
            let request = Request::head("https://harbor.test/v2/a/b/manifests/1").body(no_body()).unwrap();
            for _ in 0..3 {
                let Ok(permit) = Permit::admit(&outages, &about, &request, &|_| {}) else { return false };
                permit.failed(Failure::Unreachable, permit.sent, Kind::Unreachable, || "it is unreachable".to_owned());
            }
            Permit::admit(&outages, &about, &request, &|_| {}).is_err()
        };
        assert!(is_open("docker.io"));
        assert!(!is_open(NO_REGISTRY));
    }
}
