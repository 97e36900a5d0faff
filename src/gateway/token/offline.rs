//! A token of our own: while the token service is away, and for what the operator shares.
//!
//! Most clients ask for a token before they ask for an image, and theirs last minutes. What everybody may read is served from
//! here without upstream; this lets them get as far as asking for it. The token stands for nobody ([`own_token`]), and it never
//! leaves.
//!
//! A client that shows a credential gets one too where it wants what everybody may read: `docker login` is no reason to be without
//! `alpine` for the time of an outage. Its credential is not verified by that, and opens nothing.

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use super::request::TokenAsked;
use crate::access::own_token::{self, LIFE, Owner};
use crate::access::secret::Secret;
use crate::error::{Error, Kind, Reply, Result};
use crate::gateway::body::Body;
use crate::gateway::gateway::Gateway;
use crate::gateway::pass::{issued, relay, says_nothing};
use crate::gateway::telemetry::Record;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::http::origin::Origin;
use crate::oci::challenge::parse_token_reply;
use crate::oci::login::Login;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::oci::token_request::{Scope, TokenRequest};
use crate::policy::offline_token::{Author, Shows, may_stand_in};
use crate::policy::registry::Site;
use crate::upstream::MAX_TOKEN_REPLY;
use crate::upstream::limit::is_for_want_of_pulls;
use crate::upstream::requester::{Credential, LoginId, Requester};

/// No name and no password: what podman shows to a registry that wants Basic when it has no login for it.
const NOBODY: &str = "Og==";

/// How many times the deadline of a HEAD the token service has where only a remembered login can stand in for it: what that opens is
/// less than what it would.
const PATIENCE_WITH_LOGINS: u32 = 3;
/// Takes a token of our own out of a request, if there is one: what is left is what it means. Whom it stands for.
pub(crate) fn take_own_token(headers: &mut HeaderMap, secret: &Secret, now: std::time::SystemTime) -> Option<Owner> {
    let meant = |value: &HeaderValue| {
        let (scheme, shown) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") && own_token::is_own(shown) {
            return Some(own_token::owner(secret, shown, now));
        }
        (scheme.eq_ignore_ascii_case("basic") && shown == NOBODY).then_some(Owner::Nobody)
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (shown.next().and_then(meant), shown.next());
    let owner = first.filter(|_| second.is_none())?;
    headers.remove(header::AUTHORIZATION);
    Some(owner)
}

/// Whoever a token that was laid down stands for.
pub(crate) fn with_token_owner<B>(request: &Request<B>, requester: Requester) -> Requester {
    match request.extensions().get() {
        Some(Owner::Login(id)) => requester.representing(*id),
        Some(Owner::Nobody) | None => requester,
    }
}

/// Whether all that a token is wanted for is what the operator shares.
fn all_shared(site: &Site, wanted: &TokenRequest) -> bool {
    let shared = |scope: &Scope| matches!(scope, Scope::Pull(name) if site.registry.repositories.shares(name));
    site.registry.account.is_some() && !wanted.scopes.is_empty() && wanted.scopes.iter().all(shared)
}

/// Whose a pull is, for who has to tell them what went wrong.
pub(crate) struct Whose {
    pub(crate) site: Site,
    pub(crate) repository: Repository,
    pub(crate) requester: Requester,
    pub(crate) shown: Shown,
}

/// What a request has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing: it may not have been asked to.
    Nothing,
    /// A credential, or a token of ours.
    Something,
}

/// What a request showed before a token of ours was laid down.
pub(crate) fn presented<B>(request: &Request<B>, requester: &Requester) -> Shown {
    let laid_down = request.extensions().get::<Owner>().is_some();
    if requester.authorization.is_none() && !laid_down { Shown::Nothing } else { Shown::Something }
}

impl Gateway {
    /// The token service's answer. If there is none in time, and the token is for what everybody may read here: the stand-in.
    pub(crate) async fn token_or_stand_in(
        &self,
        request: Request<Incoming>,
        site: &Site,
        origin: &Origin,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.kind = route::Kind::Token;
        let asked = TokenAsked::read(request, requester, self.upstream.idle_timeout()).await?;
        let (shows, wanted) = (asked.shows, asked.wanted.as_ref());
        if shows == Shows::Nothing && wanted.is_some_and(|wanted| all_shared(site, wanted)) {
            // What the operator shares needs no token, and none of the operator's leaves.
            record.outcome = Outcome::Hit;
            return Ok(self.own_token(Owner::Nobody, cache_status(Outcome::Hit, None)));
        }
        let writes_scopes = self.upstream.auth().writes_scopes(&site.namespace);
        let author = if writes_scopes { Author::Registry } else { Author::Client };
        let is_public = |repository: &_| self.cache.access().is_public(&site.key(repository));
        let may = wanted.is_some_and(|wanted| may_stand_in(wanted, shows, author, is_public));
        let login = wanted.and_then(|wanted| wanted.login.clone());
        let login = login.filter(|_| self.cache.access().logins().knows_some(&site.namespace));
        let deadline = self.upstream.resolve_deadline();
        let deadline = match (may, &login) {
            (true, _) => deadline,
            (false, Some(_)) => deadline * PATIENCE_WITH_LOGINS,
            (false, None) => return self.token(asked, site, origin, requester, record).await,
        };
        // Of those who want nobody's token none waits for a service that does not answer; what they began goes on, and is the trial.
        let at_once = may && asked.is_nobodys && self.upstream.unreachable(&site.at(origin.clone())).is_some();
        let mut asking = Box::pin(self.token(asked, site, origin, requester, record));
        let answered = match at_once {
            true => (&mut asking).now_or_never(),
            false => tokio::time::timeout(deadline, &mut asking).await.ok(),
        };
        let why = match &answered {
            Some(Ok(response)) if !says_nothing(response.status()) => return answered.expect("it was looked at"),
            Some(Ok(response)) => Error::new(Kind::Broken, format!("{} answered {}", origin.host, response.status())),
            Some(Err(error)) => error.clone(),
            None => Error::new(Kind::Timeout, format!("{} did not answer in time", origin.host)),
        };
        let owner = match (self.remembered(site, login.as_ref()).await, may, answered) {
            (Some(id), _, _) => Owner::Login(id),
            (None, true, _) => Owner::Nobody,
            (None, false, Some(answered)) => return answered,
            (None, false, None) => return asking.await,
        };
        drop(asking);
        record.failed(&why);
        record.outcome = Outcome::Stale;
        Ok(self.own_token(owner, cache_status(Outcome::Stale, Some(why.kind().as_str()))))
    }

    async fn remembered(&self, site: &Site, login: Option<&Login>) -> Option<LoginId> {
        self.cache.access().logins().recognised(&site.namespace, login?).await
    }

    /// Upstream's answer to a login, as it comes; whether it was good is remembered.
    pub(crate) async fn noted(
        &self,
        site: &Site,
        wanted: &TokenRequest,
        response: Response<Incoming>,
    ) -> Result<Response<Body>> {
        let (logins, Some(login)) = (self.cache.access().logins(), &wanted.login) else {
            return Ok(relay(response, self.upstream.idle_timeout()));
        };
        let repositories = || wanted.scopes.iter().filter_map(|scope| Some(site.key(scope.repository()?))).collect();
        match response.status() {
            StatusCode::UNAUTHORIZED => logins.refused(&site.namespace, login, None),
            // ghcr.io says this of a repository to whom it knows well.
            StatusCode::FORBIDDEN => {
                logins.refused(&site.namespace, login, (!wanted.scopes.is_empty()).then(repositories));
            }
            StatusCode::OK => {
                let (mut parts, body) = response.into_parts();
                let body = self.upstream.collect(body, MAX_TOKEN_REPLY).await?;
                if let Some(reply) = parse_token_reply(&body) {
                    let print = self.upstream.keyring().bearer(&reply.token);
                    logins.proved(&site.namespace, login, print, reply.expires_in);
                }
                let mut answer = Response::new(Body::full(body));
                *answer.headers_mut() = relayed(&std::mem::take(&mut parts.headers));
                answer.headers_mut().insert("cache-status", cache_status(Outcome::Bypass, None));
                return Ok(answer);
            }
            _ => {}
        }
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    /// What a client is told whose pull failed because upstream is away, if it may be somebody whose login is remembered, or because nobody's
    /// pulls are spent: to log in, as upstream would have told it. It is told so of every repository, whether it is there or not.
    pub(crate) fn challenged(&self, who: &Whose, error: Error) -> Error {
        let Whose { site, repository, requester, shown } = who;
        let is_refused = error.reply().is_some_and(|reply| reply.status == StatusCode::UNAUTHORIZED);
        if is_refused && error.kind() == Kind::Refused {
            self.cache.access().login_refused(site, requester);
        }
        let bearer =
            |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|b| b.eq_ignore_ascii_case(b"bearer "));
        let may_log_in = match requester.credential {
            Credential::Anonymous => true,
            // A token may have ended; a login that is shown itself was looked up already.
            Credential::Known(_) => requester.authorization.as_ref().is_some_and(bearer),
            Credential::Account | Credential::Remembered(_) => false,
        };
        // 429: nobody's pulls are spent, which need not be so of who logs in. Who shows nothing may have a login:
        // containerd waits to be asked for it, and what is public is asked for nobody until then.
        let may_pay = is_for_want_of_pulls(&error) && *shown == Shown::Nothing;
        let is_away = matches!(error.kind(), Kind::Unreachable | Kind::Timeout | Kind::Broken | Kind::Limited);
        if !may_pay && (!is_away || !may_log_in || self.cache.access().is_public(&site.key(repository))) {
            return error;
        }
        let may_be_known = may_pay || self.cache.access().logins().knows_some(&site.namespace);
        let headers = if may_be_known { self.stand_in_challenge(site, repository) } else { HeaderMap::new() };
        if headers.is_empty() {
            return error;
        }
        let reply = Reply { status: StatusCode::UNAUTHORIZED, headers, body: bytes::Bytes::new() };
        Error::replied(Kind::Refused, format!("authentication required ({})", error.message()), reply)
    }

    fn own_token(&self, owner: Owner, cache_status: HeaderValue) -> Response<Body> {
        issued(&own_token::issue(self.cache.access().secret(), owner, self.clock.now()), LIFE, cache_status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn what_is_laid_down_and_what_is_not() {
        let (secret, now) = (Secret::random(), std::time::SystemTime::UNIX_EPOCH);
        let alice = Owner::Login(LoginId([7; 24]));
        let token = own_token::issue(&secret, alice, now);
        let bearer = format!("bEARER  {token} ");
        let twice = [bearer.as_str(), "Bearer a"];
        let late = now + std::time::Duration::from_secs(3600);
        for (shown, now, left, owner) in [
            (&[bearer.as_str()][..], now, 0, Some(alice)),
            (&[bearer.as_str()], late, 0, Some(Owner::Nobody)),
            (&["Bearer seawall.forged"], now, 0, Some(Owner::Nobody)),
            (&["basic Og=="], now, 0, Some(Owner::Nobody)),
            (&["Bearer Og=="], now, 1, None),
            (&["Basic dTpw"], now, 1, None),
            (&["Bearer a"], now, 1, None),
            (&twice, now, 2, None),
            (&[], now, 0, None),
        ] {
            let mut headers = HeaderMap::new();
            for value in shown {
                headers.append(header::AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
            }
            assert_eq!(take_own_token(&mut headers, &secret, now), owner, "{shown:?}");
            assert_eq!(headers.get_all(header::AUTHORIZATION).iter().count(), left, "{shown:?}");
        }
    }

    /// Who shows a token of ours was asked to log in already: to be asked again is to be sent round for ever.
    #[test]
    fn a_token_of_ours_is_something() {
        let keyring = crate::upstream::requester::Keyring::new();
        let requester = |value: Option<&'static str>| {
            keyring.requester(value.map(HeaderValue::from_static).as_ref(), std::time::SystemTime::UNIX_EPOCH)
        };
        let mut request = Request::new(());
        assert_eq!(presented(&request, &requester(None)), Shown::Nothing);
        assert_eq!(presented(&request, &requester(Some("Bearer a"))), Shown::Something);
        request.extensions_mut().insert(Owner::Nobody);
        assert_eq!(presented(&request, &requester(None)), Shown::Something);
    }
}
