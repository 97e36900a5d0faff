//! What is no pull: `/v2/`, tokens, uploads, lists. Passed on, except where the answer is known already.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::gateway::Gateway;
use super::record::Record;
use super::rescue::ours;
use super::token_asked::TokenAsked;
use super::upload;
use crate::error::Result;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::http::origin::Origin;
use crate::index::journal::{Journal, Table, seconds, time};
use crate::oci::challenge::{self, Scheme, renamed_scopes};
use crate::oci::error::Code;
use crate::oci::name::{Reference, Repository};
use crate::oci::route::{Kind, Route};
use crate::policy::access::within;
use crate::policy::registry::Site;
use crate::upstream::asker::{Asker, Credential};
use crate::upstream::auth::SHORTEST_LIFE;
use crate::upstream::in_time;

/// How each registry answered `/v2/` to a client without credentials.
#[derive(Debug)]
pub struct Pings {
    journal: Journal,
    ttl: Duration,
    seen: RwLock<HashMap<Arc<str>, Ping>>,
}

/// Name spaces that are remembered: a pattern such as `*.pkg.dev` has as many as clients ask for.
const NAMESPACES: usize = 4096;

/// One such answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ping {
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

    /// What a client without credentials is told when upstream cannot tell it: how to show some, to read `repository`.
    pub(super) fn challenge(&self, namespace: &str, repository: &Repository) -> HeaderMap {
        let lines = self.last(namespace).map(|ping| ping.challenges).unwrap_or_default();
        let mut headers = HeaderMap::new();
        for line in lines {
            let read = challenge::parse([line.as_str()].into_iter());
            let wants_scope = matches!(&read[..], [one] if one.scheme == Scheme::Bearer && one.scope().is_none());
            let line = if wants_scope { format!("{line},scope=\"repository:{repository}:pull\"") } else { line };
            if let Ok(value) = HeaderValue::try_from(line) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
        headers
    }

    /// Keeps the challenge of a refused pull, if `/v2/` was never asked for: containerd does not. It is for one repository, which is left
    /// out, and no answer to `/v2/` but for want of a better one.
    pub(super) fn learn(&self, namespace: &Arc<str>, headers: &HeaderMap) {
        if self.last(namespace).is_some() {
            return;
        }
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
        let mut general = HeaderMap::new();
        for challenge in challenge::parse(lines) {
            if let Ok(value) = HeaderValue::try_from(challenge.in_general().to_string()) {
                general.append(header::WWW_AUTHENTICATE, value);
            }
        }
        self.remember(namespace, StatusCode::UNAUTHORIZED, &general, SystemTime::UNIX_EPOCH);
    }

    fn fresh(&self, namespace: &str, now: SystemTime) -> Option<Ping> {
        self.last(namespace).filter(|ping| within(Some(time(ping.at)), self.ttl, now))
    }

    fn last(&self, namespace: &str) -> Option<Ping> {
        self.seen.read().get(namespace).cloned()
    }

    fn remember(&self, namespace: &Arc<str>, status: StatusCode, headers: &HeaderMap, now: SystemTime) {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let challenges: Vec<String> = lines.filter_map(|line| line.to_str().ok().map(str::to_owned)).collect();
        let telling = status == StatusCode::OK || (status == StatusCode::UNAUTHORIZED && !challenges.is_empty());
        if telling {
            let ping = Ping { at: seconds(now), status: status.as_u16(), challenges };
            let mut seen = self.seen.write();
            if seen.len() < NAMESPACES || seen.contains_key(namespace) {
                self.journal.write(Table::Challenges, namespace.to_string(), &ping);
                seen.insert(namespace.clone(), ping);
            }
        }
    }
}

impl Ping {
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

/// Upstream's answer as it comes.
pub fn relay(response: Response<Incoming>, idle: Duration) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers = relayed(&parts.headers);
    parts.headers.insert("cache-status", cache_status(Outcome::Bypass, None));
    parts.version = http::Version::default();
    parts.extensions = http::Extensions::new();
    Response::from_parts(parts, Body::upstream(body, idle))
}

impl Gateway {
    /// `/v2/`: the challenge last seen, for clients without credentials.
    pub(super) async fn ping(
        &self,
        request: Request<Incoming>,
        site: &Site,
        asker: &Asker,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let nobody = asker.authorization.is_none() && matches!(*request.method(), Method::GET | Method::HEAD);
        if !nobody {
            return self.pass_to(request, &site.registry.name, &site.origin, Kind::Other, asker).await;
        }
        // A token of our own stands for a login: its client is no stranger.
        let is_known = matches!(asker.credential, Credential::Remembered(_));
        if let Some(ping) = self.pings.fresh(&site.namespace, self.clock.now()).filter(|_| !is_known) {
            record.outcome = Outcome::Hit;
            return Ok(ping.answer(Outcome::Hit));
        }
        let known = self.pings.last(&site.namespace);
        let deadline = known.as_ref().map(|_| self.upstream.resolve_deadline());
        let asking = self.sent(request, &site.registry.name, &site.origin, Kind::Other, asker);
        match in_time(site, deadline, asking).await {
            Ok(response) if !says_nothing(response.status()) => {
                self.upstream.learn(site, response.headers());
                self.pings.remember(&site.namespace, response.status(), response.headers(), self.clock.now());
                Ok(relay(response, self.upstream.idle_timeout()))
            }
            _ if is_known => {
                record.outcome = Outcome::Stale;
                Ok(pong())
            }
            answered => match known {
                Some(ping) => {
                    record.outcome = Outcome::Stale;
                    Ok(ping.answer(Outcome::Stale))
                }
                None => Ok(relay(answered?, self.upstream.idle_timeout())),
            },
        }
    }

    /// The token service. A request without credentials gets the token that was last issued to nobody, while it is good, or one that
    /// is asked for it, once for all who ask: by its URL alone, so that no cookie makes it somebody's.
    pub(super) async fn token(
        &self,
        asked: TokenAsked,
        site: &Site,
        origin: &Origin,
        asker: &Asker,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let TokenAsked { target, query, mut request, wanted, .. } = asked;
        let target = renamed(target, site);
        if self.cache.logins().is_on() {
            // The token is read as it passes.
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if asker.authorization.is_some() || *request.method() != Method::GET || !is_nobodys(query.as_deref()) {
            let (registry, bill) = (&site.registry.name, &asker.bill);
            let response = self.upstream.pass(registry, Kind::Token, bill, origin, &target, request).await?;
            return match wanted.filter(|wanted| wanted.login.is_some() && self.cache.logins().is_on()) {
                Some(wanted) => self.noted(site, &wanted, response).await,
                None => Ok(relay(response, self.upstream.idle_timeout())),
            };
        }
        let url = format!("{origin}{target}");
        let now = self.clock.now();
        if let Some(token) = self.upstream.auth().token(&url, now).filter(|token| token.left(now) >= SHORTEST_LIFE) {
            record.outcome = Outcome::Hit;
            return Ok(issued(&token.value, token.left(now), cache_status(Outcome::Hit, None)));
        }
        // Asked in seawall's own words: nothing of the client's can make it anybody's token but nobody's.
        let token = self.upstream.token(site, url, asker).await?;
        Ok(issued(&token.value, token.left(now), cache_status(Outcome::Bypass, None)))
    }

    /// Everything else that is for a registry.
    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        site: &Site,
        route: Route,
        asker: &Asker,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.outcome = Outcome::Bypass;
        if let Route::PushManifest { .. } = route {
            // Before it is sent as well: the client may be gone when the answer comes.
            self.changed(site, &route);
        }
        let response = self.sent(request, &site.registry.name, &site.origin, route.kind(), asker).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.upstream.learn(site, response.headers());
        }
        if response.status().is_success() {
            self.changed(site, &route);
        }
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    /// What a push or a removal that upstream took means for what is known here.
    fn changed(&self, site: &Site, route: &Route) {
        match route {
            Route::PushManifest { repository, reference, tags } => {
                for tag in tags.iter().chain(reference.tag()) {
                    self.cache.tag_changed(site, repository, tag);
                }
            }
            Route::DeleteManifest { repository, reference: Reference::Tag(tag) } => {
                self.cache.tag_changed(site, repository, tag);
            }
            Route::DeleteManifest { repository, reference: Reference::Digest(digest) }
            | Route::DeleteBlob { repository, digest } => self.cache.digest_removed(site, repository, digest),
            _ => {}
        }
    }

    pub(super) async fn pass_to(
        &self,
        request: Request<Incoming>,
        registry: &Arc<str>,
        origin: &Origin,
        kind: Kind,
        asker: &Asker,
    ) -> Result<Response<Body>> {
        let response = self.sent(request, registry, origin, kind, asker).await?;
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    async fn sent(
        &self,
        request: Request<Incoming>,
        registry: &Arc<str>,
        origin: &Origin,
        kind: Kind,
        asker: &Asker,
    ) -> Result<Response<Incoming>> {
        let target = target(&request);
        let (parts, body) = request.into_parts();
        let request = upload::forward(parts.headers, parts.method, body);
        self.upstream.pass(registry, kind, &asker.bill, origin, &target, request).await
    }
}

/// A token for what a repository is called upstream.
fn renamed(target: String, site: &Site) -> String {
    let chain = &site.registry.chain;
    match target.split_once('?').filter(|_| !chain.is_plain()) {
        Some((path, query)) => {
            format!("{path}?{}", renamed_scopes(query, |repository| chain.at_registry(repository)))
        }
        None => target,
    }
}

pub(super) fn target(request: &Request<Incoming>) -> String {
    request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// 5xx and 429: what is known stands.
pub(super) fn says_nothing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Whether a request asks for a token, and its URL names nobody. What is not known may be a credential: `account`, `private_token`.
fn is_nobodys(query: Option<&str>) -> bool {
    let names =
        || query.into_iter().flat_map(|query| query.split('&')).map(|pair| pair.split('=').next().unwrap_or(pair));
    let known = |name| matches!(name, "" | "service" | "scope" | "client_id");
    names().all(known) && names().any(|name| matches!(name, "service" | "scope"))
}

/// A token reply (distribution-spec, auth/token.md), with what is left of the token's life.
pub(super) fn issued(token: &str, left: Duration, cache_status: HeaderValue) -> Response<Body> {
    let reply = serde_json::json!({ "token": token, "access_token": token, "expires_in": left.as_secs() });
    let mut response = Response::new(Body::full(reply.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("cache-status", cache_status);
    response
}
