//! How registries answered `/v2/`, remembered across restarts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::rescue::ours;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::origin::Origin;
use crate::oci::challenge::{self, Challenge, Scheme};
use crate::oci::error::Code;
use crate::oci::name::Repository;
use crate::policy::access::within;
use crate::policy::sound;
use crate::records::{Journal, Table, seconds, time};

/// Name spaces that are remembered: a pattern such as `*.pkg.dev` has as many as clients ask for.
const NAMESPACES: usize = 4096;

/// How each registry answers `/v2/` to a client without credentials.
#[derive(Debug)]
pub struct Pings {
    journal: Journal,
    ttl: Duration,
    seen: RwLock<HashMap<Arc<str>, Ping>>,
}

/// One such answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Seconds since 1970. 0: `/v2/` was not asked for, this is how a pull was refused.
    at: u64,
    status: u16,
    challenges: Vec<String>,
}

impl Pings {
    /// The answers that the journal knew; each is repeated without asking for `ttl`.
    pub fn new(ttl: Duration, journal: Journal, known: &[(String, Vec<u8>)]) -> Pings {
        let read = |(namespace, value): &(String, Vec<u8>)| {
            Some((namespace.as_str().into(), serde_json::from_slice::<Ping>(value).ok()?))
        };
        Pings { journal, ttl, seen: RwLock::new(known.iter().filter_map(read).collect()) }
    }

    /// The challenges of each name space.
    pub fn challenges(&self) -> Vec<(Arc<str>, Vec<String>)> {
        self.seen.read().iter().map(|(namespace, ping)| (namespace.clone(), ping.challenges.clone())).collect()
    }

    /// The last answer known, however old.
    pub(crate) fn last(&self, namespace: &str) -> Option<Ping> {
        self.seen.read().get(namespace).cloned()
    }

    pub(crate) fn is_fresh(&self, ping: &Ping, now: SystemTime) -> bool {
        within(Some(time(ping.at)), self.ttl, now)
    }

    /// Keeps the challenges of a refused pull where `/v2/` was not asked for of late. They are of
    /// one repository, which is left out.
    pub(crate) fn learn(&self, namespace: &Arc<str>, challenges: &[Challenge], now: SystemTime) {
        let heard = general(challenges.iter().cloned());
        let is_news = match self.last(namespace) {
            None => true,
            // A registry may be open, and have closed repositories.
            Some(ping) if ping.status != StatusCode::UNAUTHORIZED || self.is_fresh(&ping, now) => false,
            Some(ping) => general(ping.parsed().into_iter()) != heard,
        };
        if is_news && !heard.is_empty() {
            self.keep(namespace, Ping::unauthorized(heard));
        }
    }

    /// Keeps the answer to a `/v2/`, if it says anything: a page with status 200 is none.
    pub(crate) fn remember(&self, namespace: &Arc<str>, status: StatusCode, headers: &HeaderMap, now: SystemTime) {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<String> = lines.filter_map(|line| line.to_str().ok().map(str::to_owned)).collect();
        if sound::is_ping(status, headers) {
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
    /// The answer of a registry that needs no credential.
    pub(crate) fn open() -> Ping {
        Ping { at: 0, status: StatusCode::OK.as_u16(), challenges: Vec::new() }
    }

    /// The answer of a registry that wants a credential, not got by asking for `/v2/`.
    pub(crate) fn unauthorized(challenges: Vec<String>) -> Ping {
        Ping { at: 0, status: StatusCode::UNAUTHORIZED.as_u16(), challenges }
    }

    pub(crate) fn parsed(&self) -> Vec<Challenge> {
        challenge::parse(self.challenges.iter().map(String::as_str))
    }

    /// The origin that clients are sent to for a token.
    pub(crate) fn realm(&self) -> Option<Origin> {
        let parsed = self.parsed();
        let bearer = parsed.iter().find(|challenge| challenge.scheme == Scheme::Bearer)?;
        Some(Origin::from_url(bearer.realm()?).ok()?.0)
    }

    /// Its challenges, for a client that wants to read `repository`.
    pub(crate) fn for_repository(&self, repository: &Repository) -> HeaderMap {
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

    /// The response that repeats it.
    pub(crate) fn response(&self, outcome: Outcome) -> Response<Body> {
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

/// The response to `/v2/` of a registry that needs no credential.
pub(crate) fn pong() -> Response<Body> {
    let mut response = Response::new(Body::full("{}"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
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
        assert_eq!(ping.for_repository(&repository)[header::WWW_AUTHENTICATE], expected);
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
