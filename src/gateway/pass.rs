//! What is no pull: tokens, uploads, lists. Passed on, except where the answer is known already. `/v2/` is in [`ping`](super::ping).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::body::Body;
use super::gateway::Gateway;
use super::telemetry::Record;
use super::token::request::TokenAsked;
use super::upload;
use crate::error::Result;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::http::origin::Origin;
use crate::oci::challenge::renamed_scopes;
use crate::oci::name::Reference;
use crate::oci::route::{Kind, Route};
use crate::policy::registry::Site;
use crate::upstream::auth::SHORTEST_LIFE;
use crate::upstream::requester::Requester;

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
    /// The token service. A request without credentials gets the token that was last issued to nobody, while it is good, or one that
    /// is asked for it, once for all who ask: by its URL alone, so that no cookie makes it somebody's.
    pub(crate) async fn token(
        &self,
        asked: TokenAsked,
        site: &Site,
        origin: &Origin,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let TokenAsked { target, mut request, wanted, is_nobodys, .. } = asked;
        let target = renamed(target, site);
        if self.cache.access().logins().is_on() {
            // The token is read as it passes.
            request.request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if !is_nobodys {
            let (registry, cost) = (&site.registry.name, &requester.cost);
            let response = self.upstream.pass(registry, Kind::Token, cost, origin, &target, request).await?;
            return match wanted.filter(|wanted| wanted.login.is_some() && self.cache.access().logins().is_on()) {
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
        let token = self.upstream.token(site, url, requester).await?;
        Ok(issued(&token.value, token.left(now), cache_status(Outcome::Bypass, None)))
    }

    /// Everything else that is for a registry.
    pub(crate) async fn pass(
        &self,
        request: Request<Incoming>,
        site: &Site,
        route: Route,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.outcome = Outcome::Bypass;
        if let Route::PushManifest { .. } = route {
            // Before it is sent as well: the client may be gone when the answer comes.
            self.changed(site, &route);
        }
        let response = self.sent(request, &site.registry.name, &site.origin, route.kind(), requester).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.upstream.learn(site, response.headers());
            self.challenge_seen(site, requester);
            self.cache.access().login_refused(site, requester);
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
                    self.cache.tag_changed(&site.key(repository), tag);
                }
            }
            Route::DeleteManifest { repository, reference: Reference::Tag(tag) } => {
                self.cache.tag_changed(&site.key(repository), tag);
            }
            Route::DeleteManifest { repository, reference: Reference::Digest(digest) }
            | Route::DeleteBlob { repository, digest } => self.cache.digest_removed(&site.key(repository), digest),
            _ => {}
        }
    }

    pub(crate) async fn pass_to(
        &self,
        request: Request<Incoming>,
        registry: &Arc<str>,
        origin: &Origin,
        kind: Kind,
        requester: &Requester,
    ) -> Result<Response<Body>> {
        let response = self.sent(request, registry, origin, kind, requester).await?;
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    pub(crate) async fn sent(
        &self,
        request: Request<Incoming>,
        registry: &Arc<str>,
        origin: &Origin,
        kind: Kind,
        requester: &Requester,
    ) -> Result<Response<Incoming>> {
        let target = target(&request);
        let (parts, body) = request.into_parts();
        let request = upload::forward(parts.headers, parts.method, body);
        self.upstream.pass(registry, kind, &requester.cost, origin, &target, request).await
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

pub(crate) fn target(request: &Request<Incoming>) -> String {
    request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// 5xx and 429: what is known stands.
pub(crate) fn says_nothing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// A token reply (distribution-spec, auth/token.md), with what is left of the token's life.
pub(crate) fn issued(token: &str, left: Duration, cache_status: HeaderValue) -> Response<Body> {
    let reply = serde_json::json!({ "token": token, "access_token": token, "expires_in": left.as_secs() });
    let mut response = Response::new(Body::full(reply.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("cache-status", cache_status);
    response
}
