//! Tokens of seawall's own: for what the operator shares, and while the token service cannot be
//! reached.
//!
//! Most clients ask for a token before they ask for an image, and their tokens last minutes. What
//! anonymous clients may read is served without upstream, and such a token lets a client get as far
//! as asking for it. It represents an anonymous client, or a login that was good before the outage
//! ([`own_token`]), and never leaves seawall.
//!
//! A client that shows a credential gets one too if it wants what anonymous clients may read:
//! `docker login` is no reason to be without `alpine` during an outage. Its credential is not
//! verified by that, and grants nothing.

use std::time::Duration;

use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use super::request::ClientTokenRequest;
use super::service::{TokenService, issued};
use crate::access::own_token::{self, LIFE, Owner};
use crate::error::{Error, Kind, Result};
use crate::gateway::body::Body;
use crate::gateway::relay::is_word;
use crate::gateway::telemetry::Record;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::origin::Origin;
use crate::oci::login::Login;
use crate::oci::route;
use crate::oci::token_request::{Scope, TokenRequest};
use crate::policy::offline_token::{Author, Shows, may_stand_in};
use crate::policy::registry::Site;
use crate::policy::sound;
use crate::upstream::requester::{LoginId, Requester};

/// The multiple of a HEAD's deadline that the token service has if only a remembered login could
/// answer instead: that grants less than the token service would.
const PATIENCE_WITH_LOGINS: u32 = 3;

/// Answers requests for tokens.
pub(crate) struct Tokens {
    service: TokenService,
}

/// What a token of seawall's own could represent if the token service does not answer.
struct Fallback {
    /// Whether it could represent an anonymous client.
    anonymous: bool,
    /// A login that may be one of those remembered.
    login: Option<Login>,
}

impl Tokens {
    pub(crate) fn new(service: TokenService) -> Tokens {
        Tokens { service }
    }

    /// The token service's answer. If there is none in time, and one of seawall's own could replace
    /// it: a token of seawall's own.
    ///
    /// # Errors
    /// The token service did not answer, and no token of seawall's own grants what is wanted.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        site: &Site,
        origin: &Origin,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.kind = route::Kind::Token;
        let upstream = &self.service.upstream;
        let asked = ClientTokenRequest::read(request, requester, upstream.idle_timeout()).await?;
        if wants_shared_only(site, &asked) {
            // What the operator shares needs no token, and none of the operator's leaves.
            record.outcome = Outcome::Hit;
            return Ok(self.own_token(Owner::Anonymous, cache_status(Outcome::Hit, None)));
        }
        let fallback = self.fallback(site, &asked);
        let Some(deadline) = fallback.deadline(upstream.resolve_deadline()) else {
            return self.service.answer(asked, site, origin, requester, record).await;
        };
        // No client that wants an anonymous token waits for a service that does not answer; what
        // was begun goes on, and is the trial.
        let is_unreachable =
            fallback.anonymous && asked.is_anonymous && upstream.unreachable(&site.at(origin.clone())).is_some();
        let mut asking = Box::pin(self.service.answer(asked, site, origin, requester, record));
        let answered = match is_unreachable {
            true => (&mut asking).now_or_never(),
            false => tokio::time::timeout(deadline, &mut asking).await.ok(),
        };
        let why = match &answered {
            Some(Ok(response)) if is_word(response, sound::is_token_reply) => {
                return answered.expect("it was looked at");
            }
            Some(Ok(response)) => Error::new(Kind::Broken, format!("{} answered {}", origin.host, response.status())),
            Some(Err(error)) => error.clone(),
            None => Error::new(Kind::Timeout, format!("{} did not answer in time", origin.host)),
        };
        let owner = match (self.remembered(site, fallback.login.as_ref()).await, fallback.anonymous, answered) {
            (Some(id), _, _) => Owner::Login(id),
            (None, true, _) => Owner::Anonymous,
            (None, false, Some(answered)) => return answered,
            (None, false, None) => return asking.await,
        };
        drop(asking);
        record.failed(&why);
        record.outcome = Outcome::Stale;
        Ok(self.own_token(owner, cache_status(Outcome::Stale, Some(why.kind().as_str()))))
    }

    fn fallback(&self, site: &Site, asked: &ClientTokenRequest) -> Fallback {
        let Some(wanted) = &asked.wanted else { return Fallback { anonymous: false, login: None } };
        let (cache, upstream) = (&self.service.cache, &self.service.upstream);
        let writes_scopes = upstream.auth().writes_scopes(&site.namespace);
        let author = if writes_scopes { Author::Registry } else { Author::Client };
        let is_public = |repository: &_| cache.access().is_public(&site.key(repository));
        let anonymous = may_stand_in(wanted, asked.shows, author, is_public);
        let login = wanted.login.clone().filter(|_| cache.access().logins().knows_some(&site.namespace));
        Fallback { anonymous, login }
    }

    async fn remembered(&self, site: &Site, login: Option<&Login>) -> Option<LoginId> {
        self.service.cache.access().logins().recognised(&site.namespace, login?).await
    }

    fn own_token(&self, owner: Owner, cache_status: HeaderValue) -> Response<Body> {
        let token = own_token::issue(self.service.cache.access().secret(), owner, self.service.clock.now());
        issued(&token, LIFE, cache_status)
    }
}

impl Fallback {
    /// How long the token service may take, if there is anything to fall back on.
    fn deadline(&self, of_a_head: Duration) -> Option<Duration> {
        match (self.anonymous, &self.login) {
            (true, _) => Some(of_a_head),
            (false, Some(_)) => Some(of_a_head * PATIENCE_WITH_LOGINS),
            (false, None) => None,
        }
    }
}

/// Whether a client that shows no credential wants a token for what the operator shares, and for
/// nothing else.
fn wants_shared_only(site: &Site, asked: &ClientTokenRequest) -> bool {
    asked.shows == Shows::Nothing && asked.wanted.as_ref().is_some_and(|wanted| is_all_shared(site, wanted))
}

fn is_all_shared(site: &Site, wanted: &TokenRequest) -> bool {
    let shared = |scope: &Scope| matches!(scope, Scope::Pull(name) if site.registry.repositories.shares(name));
    site.registry.account.is_some() && !wanted.scopes.is_empty() && wanted.scopes.iter().all(shared)
}
