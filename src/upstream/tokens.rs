//! How registries want to be asked, and the tokens that they issue to anonymous requests. Those of
//! the operator's accounts are in `proofs`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::auth::{Auth, SHORTEST_LIFE, Token};
use super::client::Client;
use super::request::{About, Author, build, with_via};
use super::requester::{Keyring, Requester, UpstreamCost};
use crate::error::{Error, Kind, Result};
use crate::http::origin::{Origin, Scheme};
use crate::oci::challenge::{self, Challenge, parse_token_reply};
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;
use crate::task::Coalesced;

/// Bytes of a token reply that are read.
pub const MAX_TOKEN_REPLY: usize = 256 << 10;

/// Gets tokens for anonymous requests, and keeps them.
pub(super) struct Tokens {
    pub(super) client: Arc<Client>,
    /// The challenges and the tokens.
    pub(super) auth: Auth,
    pub(super) keyring: Keyring,
    /// Requests under way, by URL and by the generation of its host.
    asked: Coalesced<(String, u64), Result<Arc<Token>>>,
}

impl Tokens {
    pub(super) fn new(client: Arc<Client>) -> Tokens {
        Tokens { client, auth: Auth::default(), keyring: Keyring::new(), asked: Coalesced::default() }
    }

    /// Keeps the challenges of a response, if it has any.
    pub(super) fn learn(&self, site: &Site, headers: &HeaderMap) -> Arc<[Challenge]> {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
        let challenges: Arc<[Challenge]> = challenge::parse(lines).into();
        self.auth.learn(&site.namespace, &challenges);
        challenges
    }

    /// The anonymous token to read `repository`, if there is one that is good.
    pub(super) fn known(&self, site: &Site, repository: &Repository) -> Option<HeaderValue> {
        let url = self.auth.token_url(&site.namespace, repository)?;
        self.auth.token(&url, self.client.clock.now()).map(|token| token.authorization())
    }

    /// Drops the token to read `repository`, if it is the one that was refused.
    pub(super) fn refused(&self, site: &Site, repository: &Repository, shown: &HeaderValue) {
        let Some(url) = self.auth.token_url(&site.namespace, repository) else { return };
        let known = self.auth.token(&url, self.client.clock.now());
        if known.is_some_and(|known| known.authorization() == *shown) {
            self.auth.drop_token(&url);
        }
    }

    /// An anonymous token that is not the one that was refused.
    pub(super) async fn another(
        self: &Arc<Self>,
        site: &Site,
        url: String,
        refused: Option<&HeaderValue>,
        requester: &Requester,
    ) -> Result<HeaderValue> {
        let known = self.auth.token(&url, self.client.clock.now()).map(|token| token.authorization());
        if let Some(token) = known.filter(|token| Some(token) != refused) {
            return Ok(token);
        }
        self.auth.drop_token(&url);
        Ok(self.issued(site, url, requester, Author::Seawall).await?.authorization())
    }

    /// An anonymous token that is new; many who want it cost one request.
    ///
    /// # Errors
    /// The token service refused, did not answer, or answered with something that is no token.
    pub(super) async fn issued(
        self: &Arc<Self>,
        site: &Site,
        url: String,
        requester: &Requester,
        author: Author,
    ) -> Result<Arc<Token>> {
        // When it is time for a trial, no one waits for an earlier question that may never be
        // answered.
        let generation =
            Origin::from_url(&url).map_or(0, |(origin, _)| self.client.outages.generation(&site.at(origin)));
        let (tokens, site, cost, via) = (self.clone(), site.clone(), requester.cost.clone(), requester.via.clone());
        let asked = url.clone();
        let work = move || async move { tokens.issue(&site, &asked, &cost, (via.as_ref(), author)).await };
        self.asked.run((url, generation), work).await
    }

    async fn issue(
        &self,
        site: &Site,
        url: &str,
        cost: &UpstreamCost,
        (via, author): (Option<&HeaderValue>, Author),
    ) -> Result<Arc<Token>> {
        // Who looked for a token before another's came asks after it has come.
        let now = self.client.clock.now();
        if let Some(token) = self.auth.token(url, now).filter(|token| token.left(now) >= SHORTEST_LIFE) {
            return Ok(token);
        }
        let (origin, target) = Origin::from_url(url)
            .map_err(|error| Error::caused(Kind::Broken, format!("{} has no usable realm", site.namespace), error))?;
        if origin.scheme == Scheme::Http && site.origin.scheme == Scheme::Https {
            return Err(Error::new(Kind::Broken, format!("{} names a token service without TLS", site.namespace)));
        }
        let request = with_via(build(&Method::GET, &origin, &target, &HeaderMap::new(), None)?, via);
        let about = About { author, ..About::new(&site.registry.name, route::Kind::Token, cost) };
        let answer = self.client.send(about, request).await?;
        if answer.status() != StatusCode::OK {
            return Err(of_a_service(self.client.refusal(&origin.host.to_string(), answer).await));
        }
        let body = self.client.collect(answer.response.into_body(), MAX_TOKEN_REPLY).await?;
        self.keep(url, &body).ok_or_else(|| no_token(&origin))
    }

    /// Keeps the token of a reply to an anonymous request.
    fn keep(&self, url: &str, body: &[u8]) -> Option<Arc<Token>> {
        let reply = parse_token_reply(body).filter(|reply| !reply.has_refresh_token)?;
        let now = self.client.clock.now();
        self.keyring.remember_anonymous(&reply.token, reply.expires_in, now);
        Some(self.auth.keep(url, reply, now))
    }
}

/// A refusal of a token service is a word; that there is none, or that it is withheld, is said of the
/// service and of no content.
fn of_a_service(error: Error) -> Error {
    match error.kind() {
        Kind::Missing | Kind::Rejected => Error::new(Kind::Broken, error.message().to_owned()),
        _ => error,
    }
}

/// The error about a token service whose reply is no token.
pub(super) fn no_token(service: &Origin) -> Error {
    Error::new(Kind::Broken, format!("{} answered a request for a token without one", service.host))
}
