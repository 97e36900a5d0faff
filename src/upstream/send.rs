//! A request to a registry, or to another source of it, carried through its challenge and its redirects.
//!
//! 1. with the client's own credential, or for nobody with a token of nobody, if one is known; `pay` asks with the operator's account;
//! 2. a 401 to nobody: learn the challenge, get a token, once more;
//! 3. redirects are followed; the credential stays behind when the origin changes, for good.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::auth::{SHORTEST_LIFE, Token, token_url};
use super::breaker::not_asked;
use super::client::Upstream;
use super::question::Question;
use super::request::{About, Debit, RequestBody, Wire, build};
use super::requester::{Credential, Payer, Requester};
use crate::dial::error::{DialError, dial_error};
use crate::error::{Error, Kind, Result};
use crate::http::origin::{Origin, Scheme};
use crate::oci::challenge::{self, Challenge, parse_token_reply};
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::redirect;
use crate::policy::registry::Site;

/// Marks a response that a redirect led to, at another origin: its refusals are not the registry's.
#[derive(Clone, Copy)]
struct ViaRedirect;

/// Whether a response came from where a redirect led, and not from the registry.
pub(super) fn is_via_redirect(response: &Response<Incoming>) -> bool {
    response.extensions().get::<ViaRedirect>().is_some()
}

/// Bytes of a token reply that are read.
pub const MAX_TOKEN_REPLY: usize = 256 << 10;

impl Upstream {
    /// The final response of one source: no redirect, no challenge that could be met. What is no success comes back as it is; a client
    /// that has shown no credential yet gets the challenge, so that it can.
    pub(super) async fn ask_one(&self, question: Question<'_>) -> Result<Response<Incoming>> {
        match question.requester.payer {
            Payer::Own => self.ask_as_client(question).await,
            Payer::Account | Payer::AccountForAll => self.ask_on_account(question).await,
        }
    }

    pub(super) async fn ask_as_client(&self, question: Question<'_>) -> Result<Response<Incoming>> {
        let Question { site, repository, requester, .. } = question;
        if requester.payer == Payer::Own && matches!(requester.credential, Credential::Known(_)) {
            let question = Question { charged: requester.credential.identity(), ..question };
            return self.follow(question, requester.authorization.clone()).await;
        }
        let sent = self.nobodys(site, repository).or_else(|| requester.authorization.clone());
        let response = self.follow(question, sent.clone()).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED if !is_via_redirect(&response) => {}
            StatusCode::FORBIDDEN
                if sent.is_some() && requester.authorization.is_none() && !is_via_redirect(&response) =>
            {
                return self.follow(question, None).await;
            }
            _ => return Ok(response),
        }
        let challenges = self.learn(site, response.headers());
        let challenged = self.refusal(&site.origin.host.to_string(), response).await;
        let known = || self.0.auth.token_url(&site.namespace, repository);
        let Some(url) = token_url(&challenges, repository).or_else(known) else { return Err(challenged) };
        let token = match self.fresh_token(site, url, sent.as_ref(), requester).await {
            Err(error) if error.kind() == Kind::Refused => return Err(challenged),
            token => token?,
        };
        let response = self.follow(question, Some(token)).await?;
        let refused = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if refused && requester.authorization.is_none() && !is_via_redirect(&response) {
            Err(challenged)
        } else {
            Ok(response)
        }
    }

    /// A token of nobody that is not the one that was refused.
    async fn fresh_token(
        &self,
        site: &Site,
        url: String,
        refused: Option<&HeaderValue>,
        requester: &Requester,
    ) -> Result<HeaderValue> {
        let known = self.0.auth.token(&url, self.0.clock.now()).map(|token| token.authorization());
        if let Some(token) = known.filter(|token| Some(token) != refused) {
            return Ok(token);
        }
        self.0.auth.drop_token(&url);
        Ok(self.token(site, url, requester).await?.authorization())
    }

    fn nobodys(&self, site: &Site, repository: &Repository) -> Option<HeaderValue> {
        let url = self.0.auth.token_url(&site.namespace, repository)?;
        self.0.auth.token(&url, self.0.clock.now()).map(|token| token.authorization())
    }

    /// Keeps the challenges of a response, if it has any.
    pub fn learn(&self, site: &Site, headers: &HeaderMap) -> Arc<[Challenge]> {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|line| line.to_str().ok());
        let challenges: Arc<[Challenge]> = challenge::parse(lines).into();
        self.0.auth.learn(&site.namespace, &challenges);
        challenges
    }

    pub(super) async fn follow(
        &self,
        question: Question<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>> {
        self.ask_whether_it_stands(question, authorization.clone()).await;
        let Question { site, repository, known_as, what, method, fields, requester, charged } = question;
        let (mut origin, mut target) = (site.origin.clone(), what.path(repository));
        let (mut credential, mut wire) = (authorization, what.wire());
        let debit = Some(Debit { site, repository: known_as, charged });
        let mut about = About { registry: &site.registry.name, kind: what.kind(), cost: &requester.cost, debit };
        for hop in 0.. {
            let request = || {
                build(method, &origin, &target, fields, credential.as_ref())
                    .map(|new| signed(new, requester.via.as_ref()))
            };
            let mut response = match self.send(about, wire, request()?).await {
                // The other side closed a kept connection just then. Nothing was lost by asking: this has no body.
                Err(error) if is_broken(&error) => self.send(about, wire, request()?).await?,
                // It speaks HTTP/2 alone.
                Err(error) if wire == Wire::H1 && dial(&error).is_some_and(DialError::wants_another_protocol) => {
                    wire = Wire::Any;
                    self.send(about, wire, request()?).await?
                }
                other => other?,
            };
            if !is_redirect(response.status()) {
                if origin != site.origin {
                    response.extensions_mut().insert(ViaRedirect);
                }
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = redirect::next(&origin, &target, location, hop)
                .map_err(|refused| Error::new(Kind::Broken, format!("{} sent {refused}", origin.host)))?;
            if next.origin != origin {
                credential = None;
                about.debit = None;
                wire = what.wire();
            }
            (origin, target) = (next.origin, next.target);
        }
        Err(Error::new(Kind::Broken, "too many redirects"))
    }

    /// A token for a request without credentials, new from upstream; many who want it cost one request.
    ///
    /// # Errors
    /// The token service said no, nothing, or something that is no token.
    pub async fn token(&self, site: &Site, url: String, requester: &Requester) -> Result<Arc<Token>> {
        // When it is time for a trial, nobody waits for what an earlier question will never hear.
        let turn = Origin::from_url(&url).map_or(0, |(origin, _)| self.generation(&site.at(origin)));
        let (upstream, site, cost, via) = (self.clone(), site.clone(), requester.cost.clone(), requester.via.clone());
        let asked = url.clone();
        let work = move || async move {
            // Who looked for one before another's came asks after it has come.
            let now = upstream.0.clock.now();
            if let Some(token) = upstream.0.auth.token(&asked, now).filter(|token| token.left(now) >= SHORTEST_LIFE) {
                return Ok(token);
            }
            let (origin, target) = Origin::from_url(&asked).map_err(|error| {
                Error::caused(Kind::Broken, format!("{} has no usable realm", site.namespace), error)
            })?;
            if origin.scheme == Scheme::Http && site.origin.scheme == Scheme::Https {
                return Err(Error::new(Kind::Broken, format!("{} sends for tokens in the clear", site.namespace)));
            }
            let request = signed(build(&Method::GET, &origin, &target, &HeaderMap::new(), None)?, via.as_ref());
            let about = About { registry: &site.registry.name, kind: route::Kind::Token, cost: &cost, debit: None };
            let response = upstream.send(about, Wire::Any, request).await?;
            if response.status() != StatusCode::OK {
                return Err(upstream.refusal(&origin.host.to_string(), response).await);
            }
            let body = upstream.collect(response.into_body(), MAX_TOKEN_REPLY).await?;
            upstream.remember_token(&asked, &body).ok_or_else(|| {
                Error::new(Kind::Broken, format!("{} answered a request for a token with something else", origin.host))
            })
        };
        self.0.tokens.run((url, turn), work).await
    }

    /// Keeps the token of a reply to a request without credentials.
    fn remember_token(&self, url: &str, body: &[u8]) -> Option<Arc<Token>> {
        let reply = parse_token_reply(body).filter(|reply| !reply.has_refresh_token)?;
        let now = self.0.clock.now();
        self.0.keyring.remember_anonymous(&reply.token, reply.expires_in, now);
        Some(self.0.auth.keep(url, reply, now))
    }

    /// All of a body, at most `most` bytes.
    pub async fn collect(&self, body: Incoming, most: usize) -> Result<Bytes> {
        let limited = http_body_util::Limited::new(body, most);
        match tokio::time::timeout(self.0.idle_timeout, limited.collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(Error::caused(Kind::Broken, "upstream's answer broke off, or is too long", error)),
            Err(_) => Err(Error::new(Kind::Timeout, "upstream's answer stopped coming")),
        }
    }
}

/// Signed by those who had the requester's request before.
fn signed(mut request: Request<RequestBody>, via: Option<&HeaderValue>) -> Request<RequestBody> {
    if let Some(via) = via {
        request.headers_mut().insert(header::VIA, via.clone());
    }
    request
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether a connection broke that was there.
fn is_broken(error: &Error) -> bool {
    error.kind() == Kind::Unreachable && dial(error).is_none() && not_asked(error).is_none()
}

fn dial(error: &Error) -> Option<&DialError> {
    error.cause().and_then(dial_error)
}
