//! The token service of a registry: its answers, and the anonymous tokens that it issued before.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::request::ClientTokenRequest;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::Result;
use crate::gateway::body::Body;
use crate::gateway::relay::relay;
use crate::gateway::telemetry::Record;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::http::origin::Origin;
use crate::oci::challenge::{parse_token_reply, renamed_scopes};
use crate::oci::login::Login;
use crate::oci::route::Kind;
use crate::oci::token_request::{Scope, TokenRequest};
use crate::policy::registry::Site;
use crate::upstream::Transfer;
use crate::upstream::auth::SHORTEST_LIFE;
use crate::upstream::requester::Requester;
use crate::upstream::{Author, MAX_TOKEN_REPLY, Upstream};

/// Asks the token services of registries.
pub(crate) struct TokenService {
    pub(crate) cache: Cache,
    pub(crate) upstream: Upstream,
    pub(crate) clock: Clock,
}

impl TokenService {
    /// Answers a request for a token: an anonymous one with an anonymous token, any other as the
    /// token service does.
    ///
    /// # Errors
    /// The token service did not answer, or gave no anonymous token.
    pub(crate) async fn answer(
        &self,
        asked: ClientTokenRequest,
        site: &Site,
        origin: &Origin,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let target = renamed(&asked.target, site);
        match asked.is_anonymous {
            true => {
                let url = format!("{origin}{target}");
                self.anonymous((url, asked.wanted.as_ref()), site, requester, record).await
            }
            false => self.pass(asked, &target, site, origin, requester).await,
        }
    }

    /// The anonymous token that was last issued for `url`, while it is good, or one that is asked
    /// for, once for all clients that want it: by its URL alone, so that no cookie makes it
    /// another's.
    async fn anonymous(
        &self,
        (url, wanted): (String, Option<&TokenRequest>),
        site: &Site,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let now = self.clock.now();
        if let Some(token) = self.upstream.auth().token(&url, now).filter(|token| token.left(now) >= SHORTEST_LIFE) {
            record.outcome = Outcome::Hit;
            return Ok(issued(&token.value, token.left(now), cache_status(Outcome::Hit, None)));
        }
        // Nothing of the client's is sent, so the token can be none but an anonymous one.
        let author = self.author(&url, wanted, site);
        let token = self.upstream.token(site, url, requester, author).await?;
        Ok(issued(&token.value, token.left(now), cache_status(Outcome::Bypass, None)))
    }

    /// Whose words a request for a token is of. What a client wrote may be why it fails.
    fn author(&self, url: &str, wanted: Option<&TokenRequest>, site: &Site) -> Author {
        let scopes = wanted.map_or(&[][..], |wanted| &wanted.scopes);
        let mut repositories = scopes.iter().filter_map(Scope::repository);
        let is_usual =
            |name| self.upstream.auth().is_usual(&site.namespace, &site.registry.chain.at_registry(name), url);
        if repositories.next().is_some_and(is_usual) { Author::Seawall } else { Author::Client }
    }

    /// The token service's own answer. Whether it took the login is noted, if logins are
    /// remembered.
    async fn pass(
        &self,
        asked: ClientTokenRequest,
        target: &str,
        site: &Site,
        origin: &Origin,
        requester: &Requester,
    ) -> Result<Response<Body>> {
        let ClientTokenRequest { mut http, wanted, .. } = asked;
        let remembers = self.cache.access().logins().is_on();
        if remembers {
            // The token is read as it passes.
            http.request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let (registry, cost) = (&site.registry.name, &requester.cost);
        let response = self.upstream.pass(registry, Kind::Token, cost, origin, target, http).await?;
        let wanted = wanted.as_ref().filter(|_| remembers);
        match wanted.and_then(|wanted| Some((wanted, wanted.login.as_ref()?))) {
            Some((wanted, login)) => self.note_login(site, wanted, login, response).await,
            None => Ok(relay(response, self.upstream.idle_timeout())),
        }
    }

    /// Relays the answer to a login; whether it was good is remembered.
    async fn note_login(
        &self,
        site: &Site,
        wanted: &TokenRequest,
        login: &Login,
        response: Response<Transfer>,
    ) -> Result<Response<Body>> {
        let logins = self.cache.access().logins();
        let repositories = || wanted.scopes.iter().filter_map(|scope| Some(site.key(scope.repository()?))).collect();
        match response.status() {
            StatusCode::UNAUTHORIZED => logins.refused(&site.namespace, login, None),
            // ghcr.io answers so for one repository to a login that is good.
            StatusCode::FORBIDDEN => {
                logins.refused(&site.namespace, login, (!wanted.scopes.is_empty()).then(repositories));
            }
            StatusCode::OK => return self.note_token(site, login, response).await,
            _ => {}
        }
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    /// Relays a token; its fingerprint is remembered as that of the login.
    async fn note_token(&self, site: &Site, login: &Login, response: Response<Transfer>) -> Result<Response<Body>> {
        let (mut parts, body) = response.into_parts();
        let body: Bytes = self.upstream.collect(body, MAX_TOKEN_REPLY).await?;
        if let Some(reply) = parse_token_reply(&body) {
            let print = self.upstream.keyring().bearer(&reply.token);
            self.cache.access().logins().proved(&site.namespace, login, print, reply.expires_in);
        }
        let mut answer = Response::new(Body::full(body));
        *answer.headers_mut() = relayed(&std::mem::take(&mut parts.headers));
        answer.headers_mut().insert("cache-status", cache_status(Outcome::Bypass, None));
        Ok(answer)
    }
}

/// The path and query of a token request, with scopes for the name that a repository has upstream.
fn renamed(target: &str, site: &Site) -> String {
    let chain = &site.registry.chain;
    match target.split_once('?').filter(|_| !chain.is_plain()) {
        Some((path, query)) => {
            format!("{path}?{}", renamed_scopes(query, |repository| chain.at_registry(repository)))
        }
        None => target.to_owned(),
    }
}

/// A token reply (distribution-spec, auth/token.md), with what is left of the token's life.
pub(crate) fn issued(token: &str, left: Duration, cache_status: HeaderValue) -> Response<Body> {
    let reply = serde_json::json!({ "token": token, "access_token": token, "expires_in": left.as_secs() });
    let mut response = Response::new(Body::full(reply.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert("cache-status", cache_status);
    response
}
