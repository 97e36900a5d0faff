//! `/v2/`: is this a registry, and how does it want to be convinced?
//!
//! 1. What a registry said of late is said again, without asking.
//! 2. It is asked; while it is away it is not waited for.
//! 3. It cannot be asked: what it said last stands, or the challenge of any pull that it refused, since containerd and mirrors never
//!    ask for `/v2/`. Of the best known registries the challenge is known without; of all others, if everybody may read something that
//!    is here, it is that nobody has to show anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::gateway::Gateway;
use super::pass::{relay, says_nothing};
use super::rescue::ours;
use super::telemetry::Record;
use crate::error::Result;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::origin::Origin;
use crate::oci::challenge::{self, Challenge, Scheme};
use crate::oci::error::Code;
use crate::oci::name::Repository;
use crate::oci::route::Kind;
use crate::policy::access::within;
use crate::policy::offline_token::well_known;
use crate::policy::registry::Site;
use crate::records::{Journal, Table, seconds, time};
use crate::upstream::in_time;
use crate::upstream::requester::{Credential, Requester};

/// How each registry answers `/v2/` to a client without credentials.
#[derive(Debug)]
pub struct Pings {
    journal: Journal,
    ttl: Duration,
    seen: RwLock<HashMap<Arc<str>, Ping>>,
}

/// Name spaces that are remembered: a pattern such as `*.pkg.dev` has as many as clients ask for.
const NAMESPACES: usize = 4096;

/// One such answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ping {
    /// Seconds since 1970. 0: nobody asked for `/v2/`, this is what a pull was told.
    at: u64,
    status: u16,
    challenges: Vec<String>,
}

impl Pings {
    /// With what the journal knew; an answer is believed for `ttl`.
    pub fn new(ttl: Duration, journal: Journal, known: &[(String, Vec<u8>)]) -> Pings {
        let read = |(namespace, value): &(String, Vec<u8>)| {
            Some((namespace.as_str().into(), serde_json::from_slice::<Ping>(value).ok()?))
        };
        Pings { journal, ttl, seen: RwLock::new(known.iter().filter_map(read).collect()) }
    }

    /// All challenges, by name space.
    pub fn challenges(&self) -> Vec<(Arc<str>, Vec<String>)> {
        self.seen.read().iter().map(|(namespace, ping)| (namespace.clone(), ping.challenges.clone())).collect()
    }

    /// Keeps the challenges of a refused pull where `/v2/` was not asked for of late. They are of one repository, which is left out.
    fn learn(&self, namespace: &Arc<str>, challenges: &[Challenge], now: SystemTime) {
        let heard = general(challenges.iter().cloned());
        let is_news = match self.last(namespace) {
            None => true,
            // A registry may be open, and have closed repositories.
            Some(ping) if ping.status != StatusCode::UNAUTHORIZED || self.is_fresh(&ping, now) => false,
            Some(ping) => general(ping.parsed().into_iter()) != heard,
        };
        if is_news && !heard.is_empty() {
            self.keep(namespace, Ping { at: 0, status: StatusCode::UNAUTHORIZED.as_u16(), challenges: heard });
        }
    }

    fn is_fresh(&self, ping: &Ping, now: SystemTime) -> bool {
        within(Some(time(ping.at)), self.ttl, now)
    }

    fn last(&self, namespace: &str) -> Option<Ping> {
        self.seen.read().get(namespace).cloned()
    }

    /// Keeps the answer to a `/v2/`, if it says anything.
    fn remember(&self, namespace: &Arc<str>, status: StatusCode, headers: &HeaderMap, now: SystemTime) {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<String> = lines.filter_map(|line| line.to_str().ok().map(str::to_owned)).collect();
        if status == StatusCode::OK || (status == StatusCode::UNAUTHORIZED && !challenges.is_empty()) {
            self.keep(namespace, Ping { at: seconds(now), status: status.as_u16(), challenges });
        }
    }

    fn keep(&self, namespace: &Arc<str>, ping: Ping) {
        let mut seen = self.seen.write();
        if seen.len() >= NAMESPACES && !seen.contains_key(namespace) {
            let oldest = seen.iter().min_by_key(|(_, ping)| ping.at).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
                self.journal.remove(Table::Challenges, oldest.to_string());
            }
        }
        self.journal.write(Table::Challenges, namespace.to_string(), &ping);
        seen.insert(namespace.clone(), ping);
    }
}

fn general(challenges: impl Iterator<Item = Challenge>) -> Vec<String> {
    challenges.map(|challenge| challenge.in_general().to_string()).collect()
}

impl Ping {
    /// Nobody has to show anything.
    fn open() -> Ping {
        Ping { at: 0, status: StatusCode::OK.as_u16(), challenges: Vec::new() }
    }

    fn parsed(&self) -> Vec<Challenge> {
        challenge::parse(self.challenges.iter().map(String::as_str))
    }

    /// The origin that clients are sent to for a token.
    fn realm(&self) -> Option<Origin> {
        let parsed = self.parsed();
        let bearer = parsed.iter().find(|challenge| challenge.scheme == Scheme::Bearer)?;
        Some(Origin::from_url(bearer.realm()?).ok()?.0)
    }

    /// Its challenges, to a client that wants to read `repository`.
    fn for_one(&self, repository: &Repository) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in &self.challenges {
            let read = challenge::parse([line.as_str()].into_iter());
            let wants_scope = matches!(&read[..], [one] if one.scheme == Scheme::Bearer && one.scope().is_none());
            let scope = if wants_scope { format!(",scope=\"repository:{repository}:pull\"") } else { String::new() };
            if let Ok(value) = HeaderValue::try_from(format!("{line}{scope}")) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
        headers
    }

    fn answer(&self, outcome: Outcome) -> Response<Body> {
        let mut response = match StatusCode::from_u16(self.status) {
            Ok(StatusCode::OK) | Err(_) => pong(),
            Ok(status) => ours(status, Code::Unauthorized, "authentication required"),
        };
        for line in &self.challenges {
            if let Ok(value) = HeaderValue::try_from(line) {
                response.headers_mut().append(header::WWW_AUTHENTICATE, value);
            }
        }
        let headers = response.headers_mut();
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        headers.insert("cache-status", cache_status(outcome, None));
        response
    }
}

/// `200` to `/v2/`: this is a registry, and all may use it.
pub fn pong() -> Response<Body> {
    let mut response = Response::new(Body::full("{}"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
}

impl Gateway {
    /// `/v2/`: the challenge last seen, for clients without credentials.
    pub(crate) async fn ping(
        &self,
        request: Request<Incoming>,
        site: &Site,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let nobody = requester.authorization.is_none() && matches!(*request.method(), Method::GET | Method::HEAD);
        if !nobody {
            return self.pass_to(request, &site.registry.name, &site.origin, Kind::Other, requester).await;
        }
        // A token of our own stands for a login: its client is no stranger.
        let is_known = matches!(requester.credential, Credential::Remembered(_));
        let (last, away) = (self.pings.last(&site.namespace), self.upstream.unreachable(site).is_some());
        let now = self.clock.now();
        if let Some(ping) = last.filter(|ping| !away && !is_known && self.pings.is_fresh(ping, now)) {
            record.outcome = Outcome::Hit;
            return Ok(ping.answer(Outcome::Hit));
        }
        let known = if is_known { Some(Ping::open()) } else { self.stand_in_ping(site) };
        let stale = |ping: &Ping, record: &mut Record| {
            record.outcome = Outcome::Stale;
            Ok(ping.answer(Outcome::Stale))
        };
        // Pulls find out when it is back.
        if let Some(ping) = known.as_ref().filter(|_| away) {
            return stale(ping, record);
        }
        let deadline = known.as_ref().map(|_| self.upstream.resolve_deadline());
        let asking = self.sent(request, &site.registry.name, &site.origin, Kind::Other, requester);
        match (in_time(site, deadline, asking).await, known) {
            (Ok(response), _) if !says_nothing(response.status()) => {
                self.upstream.learn(site, response.headers());
                self.pings.remember(&site.namespace, response.status(), response.headers(), self.clock.now());
                Ok(relay(response, self.upstream.idle_timeout()))
            }
            (_, Some(ping)) => stale(&ping, record),
            (answered, None) => Ok(relay(answered?, self.upstream.idle_timeout())),
        }
    }

    /// Upstream was asked for a pull: how it wants to be convinced is known now, if it does.
    pub(crate) fn challenge_seen(&self, site: &Site, requester: &Requester) {
        if requester.cost.requests() > 0
            && let Some(challenges) = self.upstream.auth().challenges(&site.namespace)
        {
            self.pings.learn(&site.namespace, &challenges, self.clock.now());
        }
    }

    /// What a client without credentials is told when upstream cannot tell it: how to show some, to read `repository`.
    pub(crate) fn stand_in_challenge(&self, site: &Site, repository: &Repository) -> HeaderMap {
        self.stand_in_ping(site).map(|ping| ping.for_one(repository)).unwrap_or_default()
    }

    /// What `/v2/` is answered with when the registry does not.
    fn stand_in_ping(&self, site: &Site) -> Option<Ping> {
        let namespace = &site.namespace;
        let is_ours = |origin: &Origin| self.registries.by_host(origin.scheme, &origin.host, origin.port).is_some();
        let ping = self.pings.last(namespace).or_else(|| self.presumed(site));
        match ping {
            // Where tokens are had is none of seawall's business, and nobody can answer for it: what is public needs none.
            Some(ping) if ping.realm().is_some_and(|realm| !is_ours(&realm)) => {
                Some(if self.cache.access().opens_some(namespace) { Ping::open() } else { ping })
            }
            Some(ping) => Some(ping),
            None => self.cache.access().opens_some(namespace).then(Ping::open),
        }
    }

    /// The challenge of a registry that everybody knows, if something is here that a client could go on to ask for.
    fn presumed(&self, site: &Site) -> Option<Ping> {
        let line = well_known(&site.registry.name)?;
        let ping = Ping { at: 0, status: StatusCode::UNAUTHORIZED.as_u16(), challenges: vec![line.to_owned()] };
        let is_its_own = ping.realm().is_some_and(|realm| site.registry.is_realm(&realm));
        if !is_its_own || !self.cache.access().opens_some(&site.namespace) {
            return None;
        }
        if self.upstream.auth().challenges(&site.namespace).is_none() {
            self.upstream.auth().learn(&site.namespace, &ping.parsed().into());
        }
        Some(ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings() -> Pings {
        Pings::new(Duration::from_secs(900), Journal::off(), &[])
    }

    fn hear(pings: &Pings, line: &str, now: u64) {
        pings.learn(&"r".into(), &challenge::parse([line].into_iter()), time(now));
    }

    #[test]
    fn a_refused_pull_tells_how_the_registry_wants_to_be_asked() {
        let pings = pings();
        hear(&pings, r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull",error="invalid_token""#, 1000);
        let ping = pings.last("r").unwrap();
        assert_eq!((ping.at, ping.status), (0, 401));
        assert_eq!(ping.challenges, [r#"Bearer realm="https://a/t",service="s""#]);
        assert!(!pings.is_fresh(&ping, time(1000)), "`/v2/` itself was not asked for");
        let repository = "y/z".parse().unwrap();
        let expected = r#"Bearer realm="https://a/t",service="s",scope="repository:y/z:pull""#;
        assert_eq!(ping.for_one(&repository)[header::WWW_AUTHENTICATE], expected);
        hear(&pings, r#"Bearer realm="https://b/t?scope=repository:x:pull,push&a=b""#, 1001);
        assert_eq!(pings.last("r").unwrap().challenges, [r#"Bearer realm="https://b/t?a=b""#], "it moved");
    }

    #[test]
    fn an_answer_to_the_ping_itself_stands_while_it_is_fresh() {
        let pings = pings();
        let said = |status, line: &str, now| {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::try_from(line).unwrap());
            pings.remember(&"r".into(), status, &headers, time(now));
        };
        let realm = || pings.last("r").unwrap().realm().map(|origin| origin.host.to_string());
        said(StatusCode::UNAUTHORIZED, r#"Bearer realm="https://a/t""#, 10_000);
        hear(&pings, r#"Bearer realm="https://b/t""#, 10_800);
        assert_eq!(realm().as_deref(), Some("a"));
        hear(&pings, r#"Bearer realm="https://b/t""#, 10_900);
        assert_eq!(realm().as_deref(), Some("b"));
        said(StatusCode::OK, "", 20_000);
        hear(&pings, r#"Bearer realm="https://b/t""#, 30_000);
        assert_eq!(pings.last("r").unwrap().status, 200, "it is open, and has repositories that are not");
    }
}
