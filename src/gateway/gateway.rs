//! One request: whom it means, the fork, the rescue.
//!
//! ```text
//! (a request of seawall's own that came back: 508)
//! target → a registry → token host or realm → passing::token      (a token of nobody is remembered; offline_token while there is none)
//!                   → oci/route → /v2/    → ping::ping          (the challenge last seen)
//!                               → a pull  → cache.get → deliver
//!                               → else    → passing::pass       (streamed untouched)
//!      → itself     → mirror::own                            (/v2/…: the registry that the path or `ns` means; else a page)
//!      → another    → plain HTTP, forwarded if policy allows
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use tracing::debug;

use super::body::Body;
use super::deliver::{Asked, Negotiated, deliver};
use super::mirror::{is_mirrored, say_namespace};
use super::mirror_refusals::Refusals;
use super::pages::Pages;
use super::permitted::permitted;
use super::ping::Pings;
use super::rescue::{Facing, outcome, rescue};
use super::target::{RequestTarget, target};
use super::telemetry::{Record, Telemetry};
use super::token::offline::{self, Shown, Whose};
use super::{Ingress, Session};
use crate::cache::{self, Cache, Found, Pull, Wanted};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::headers::mark_sensitive;
use crate::oci::error::Code;
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Repository};
use crate::oci::route::{self, Route, RouteError};
use crate::policy::addressee::OwnNames;
use crate::policy::intercept::{self, Tunnels, Verdict};
use crate::policy::registry::{Registries, Role, Site};
use crate::upstream::client::{NO_REGISTRY, leads_back};
use crate::upstream::requester::{Credential, Payer, Requester};
use crate::upstream::{NO_REGISTRY, Upstream, What, leads_back};

/// Answers requests.
pub struct Gateway {
    /// Whom they may mean.
    pub registries: Arc<Registries>,
    /// Who answers pulls.
    pub cache: Cache,
    /// Who is asked everything else.
    pub upstream: Upstream,
    /// What people find.
    pub pages: Pages,
    /// How each registry answers `/v2/`.
    pub pings: Pings,
    /// What clients call seawall itself.
    pub own_names: OwnNames,
    /// Which other hosts may be reached.
    pub tunnels: Tunnels,
    /// Where it is written down.
    pub telemetry: Telemetry,
    /// What was refused as a mirror.
    pub refusals: Refusals,
    /// The time.
    pub clock: Clock,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// Never fails: every error becomes a response.
    pub async fn handle(&self, session: &Session, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(owner) =
            offline::take_own_token(request.headers_mut(), self.cache.access().secret(), self.clock.now())
        {
            request.extensions_mut().insert(owner);
        }
        mark_sensitive(request.headers_mut());
        let method = request.method().clone();
        let mut record = Box::new(Record::new(self.telemetry.clone(), session.peer, method.clone()));
        record.subject = request.uri().path().to_owned();
        let user_agent = request.headers().get(header::USER_AGENT).cloned();
        let last = sound(request.headers()).is_err();
        let asked = request.uri().clone();
        let (facing, answered) = self.answer(session, request, &mut record).await;
        let mut response = answered.unwrap_or_else(|error| {
            self.failed(session, &mut record, facing, (&method, &asked), &error);
            let mut response = rescue(&error, facing, record.kind, user_agent.as_ref());
            if error.kind() == Kind::Looped {
                self.upstream.sign(response.headers_mut());
            }
            response
        });
        if facing == Facing::Mirror {
            say_namespace(response.headers_mut(), &asked, &self.registries);
        }
        record.answered(response.status());
        if last {
            // What follows may be what another would read as this request's body.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if method == Method::HEAD {
            // A HEAD has the length of what is not sent (RFC 9110, 9.3.2).
            keep_length(&mut response);
            *response.body_mut() = Body::empty();
        }
        response.map(|body| body.recorded(record))
    }

    /// By whom it means.
    async fn answer(
        &self,
        session: &Session,
        request: Request<Incoming>,
        record: &mut Record,
    ) -> (Facing, Result<Response<Body>>) {
        let meant = sound(request.headers())
            .and_then(|()| self.not_looped(&request))
            .and_then(|()| target(session, &request, &self.registries, &self.own_names));
        match meant {
            Ok(RequestTarget::Own(here)) => (Facing::Mirror, Box::pin(self.own(request, &here, record)).await),
            Ok(RequestTarget::Other(origin)) => {
                (Facing::Registry, Box::pin(self.forward(request, &origin, record)).await)
            }
            Ok(RequestTarget::Registry { site, role, origin }) => {
                record.registry = site.registry.name.clone();
                (Facing::Registry, Box::pin(self.registry(request, site, role, &origin, record)).await)
            }
            Err(error) => (faced(session, &request), Err(error)),
        }
    }

    /// Writes down that there is no other answer than this error.
    fn failed(&self, session: &Session, record: &mut Record, facing: Facing, asked: (&Method, &Uri), error: &Error) {
        record.outcome = outcome(error);
        record.failed(error);
        debug!(%error, kind = error.kind().as_str(), "request failed");
        let (method, uri) = asked;
        if facing == Facing::Mirror && is_mirrored(method, uri) {
            self.refusals.note(&self.telemetry, session.peer, record, error);
        }
    }

    /// Counts a pull that the mirror asked a password for.
    pub(crate) fn unauthorized(&self, client: SocketAddr) {
        self.refusals.note_unauthorized(&self.telemetry, client);
    }

    /// A request that seawall sent, and that came back to it: what it was for is behind seawall itself. Where the address is one of
    /// seawall's own it is not dialled at all; a balancer, a port mapping or NAT in front of it are known only by this.
    pub(crate) fn not_looped(&self, request: &Request<Incoming>) -> Result<()> {
        if !self.upstream.has_sent(request.headers()) {
            return Ok(());
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().host().or(host).unwrap_or("the host");
        let error = Error::new(Kind::Looped, leads_back(host));
        self.refusals.say_looped(self.clock.now(), &error);
        Err(error)
    }

    /// A registry, spoken to as itself.
    async fn registry(
        &self,
        request: Request<Incoming>,
        site: Site,
        role: Role,
        origin: &crate::http::origin::Origin,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let requester = offline::with_token_owner(&request, self.requester(request.headers())?);
        record.cost = requester.cost.clone();
        let is_realm = self.upstream.auth().is_realm(&site.namespace, origin, request.uri().path());
        if role == Role::Tokens || is_realm {
            return Box::pin(self.token_or_stand_in(request, &site, origin, &requester, record)).await;
        }
        let uri = request.uri().clone();
        let route = route::route(request.method(), uri.path(), uri.query()).map_err(bad_route)?;
        record.kind = route.kind();
        if let Some(repository) = route.repository() {
            record.subject = repository.to_string();
        }
        permitted(&site, &route, &request)?;
        let requester = self.on_behalf(&site, route.repository(), requester);
        let shown = offline::presented(&request, &requester);
        let may_log_in = shown == Shown::Nothing || self.cache.access().logins().is_on();
        let whose = route.repository().filter(|_| may_log_in).map(|repository| Whose {
            site: site.clone(),
            repository: repository.clone(),
            requester: requester.clone(),
            shown,
        });
        let answered = match route {
            Route::Ping => Box::pin(self.ping(request, &site, &requester, record)).await,
            Route::Manifest { repository, reference } => {
                self.manifest(request, site, repository, reference, requester, record).await
            }
            Route::Blob { repository, digest } => {
                record.reference = digest.to_string();
                let pull = pull(&request, site, repository, Wanted::Blob(digest), requester);
                self.pulled(&pull, request.headers(), Negotiated::No, record).await
            }
            Route::Tags { ref repository } | Route::Referrers { ref repository }
                if (requester.payer == Payer::Account || !site.registry.chain.is_plain())
                    && *request.method() == Method::GET =>
            {
                let what = What::List(rest_of(uri.path(), repository.as_str(), uri.query()));
                Box::pin(self.as_asked(&request, &site, repository, &what, &requester)).await
            }
            other => Box::pin(self.pass(request, &site, other, &requester, record)).await,
        };
        answered.map_err(|error| match whose {
            Some(whose) => self.challenged(&whose, error),
            None => error,
        })
    }

    /// A client that shows no credential reads what the operator shares with the operator's account.
    pub(crate) fn on_behalf(&self, site: &Site, repository: Option<&Repository>, requester: Requester) -> Requester {
        let registry = &site.registry;
        let shared = registry.account.is_some() && repository.is_some_and(|r| registry.repositories.shares(r));
        match requester.credential {
            Credential::Anonymous if shared => requester.on_account(),
            _ => requester,
        }
    }

    pub(crate) async fn manifest(
        &self,
        request: Request<Incoming>,
        site: Site,
        repository: Repository,
        reference: Reference,
        requester: Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.reference = reference.to_string();
        let lines = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = Accept::of(lines);
        let negotiated = if reference.tag().is_some() { Negotiated::Yes } else { Negotiated::No };
        if accept.is_empty() && negotiated == Negotiated::Yes {
            // It wants something that is not kept here: schema 1, or a type of its own.
            let what = What::Manifest(reference);
            return Box::pin(self.as_asked(&request, &site, &repository, &what, &requester)).await;
        }
        let pull = pull(&request, site, repository, Wanted::Manifest(reference, accept), requester);
        self.pulled(&pull, request.headers(), negotiated, record).await
    }

    pub(crate) async fn pulled(
        &self,
        pull: &Pull,
        headers: &HeaderMap,
        negotiated: Negotiated,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let found = Box::pin(self.cache.get(pull)).await;
        self.challenge_seen(&pull.site, &pull.requester);
        let found = found?;
        record.outcome = found.outcome;
        let warned = warned(&found, &pull.site);
        let asked = Asked { method: pull.method, headers, negotiated, idle: self.upstream.idle_timeout() };
        Ok(deliver(found, asked, warned))
    }

    /// With the client's own fields and upstream's own answer, redirects followed. Nothing is kept.
    pub(crate) async fn as_asked(
        &self,
        request: &Request<Incoming>,
        site: &Site,
        repository: &Repository,
        what: &What,
        requester: &Requester,
    ) -> Result<Response<Body>> {
        let mut fields = HeaderMap::new();
        for value in request.headers().get_all(header::ACCEPT) {
            fields.append(header::ACCEPT, value.clone());
        }
        let method = request.method();
        let answer = self.upstream.fetch_as_asked(site, repository, what, method, &fields, requester).await?;
        Ok(super::pass::relay(answer.response, self.upstream.idle_timeout()))
    }

    /// For somebody who is no registry.
    async fn forward(
        &self,
        request: Request<Incoming>,
        origin: &crate::http::origin::Origin,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        match intercept::verdict(&self.registries, &self.tunnels, &origin.host, origin.port) {
            Verdict::Tunnel => {}
            Verdict::Refuse(reason) => {
                return Err(Error::request(Code::Denied, format!("{origin} is refused: {reason}")));
            }
            Verdict::Registry(site, _) => {
                let message =
                    format!("{origin} is a registry that is spoken to by {}://", site.registry.scheme().as_str());
                return Err(Error::new(Kind::Misdirected, message));
            }
        }
        let requester = self.requester(request.headers())?;
        record.cost = requester.cost.clone();
        self.pass_to(request, &NO_REGISTRY.into(), origin, route::Kind::Other, &requester).await
    }

    pub(crate) fn requester(&self, headers: &HeaderMap) -> Result<Requester> {
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let first = lines.next();
        if lines.next().is_some() {
            return Err(Error::new(Kind::Request, "more than one Authorization"));
        }
        Ok(self.upstream.keyring().requester(first, self.clock.now()).through(headers))
    }
}

/// Whom a client thinks it speaks to whose request means nobody: with a path alone, on a connection to seawall, a mirror.
fn faced<B>(session: &Session, request: &Request<B>) -> Facing {
    let is_path = request.uri().scheme().is_none() || request.version() == Version::HTTP_2;
    if is_path && matches!(session.ingress, Ingress::Own(_)) { Facing::Mirror } else { Facing::Registry }
}

/// A coding that is taken off without being understood changes what was sent (RFC 9112, 6.1).
fn sound(headers: &HeaderMap) -> Result<()> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if chunked && codings.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Kind::Request, "the only transfer coding that is understood is `chunked`, once"))
}

pub(crate) fn pull(
    request: &Request<Incoming>,
    site: Site,
    repository: Repository,
    wanted: Wanted,
    requester: Requester,
) -> Pull {
    let method = if *request.method() == Method::HEAD { cache::Method::Head } else { cache::Method::Get };
    let range = request.headers().get(header::RANGE).filter(|_| method == cache::Method::Get).cloned();
    let key = site.key(&repository);
    Pull { site, repository, wanted, requester, method, range, key }
}

pub(crate) fn bad_route(error: RouteError) -> Error {
    Error::request(error.code(), error.to_string())
}

fn warned(found: &Found, site: &Site) -> Option<String> {
    let stale = found.stale.as_ref()?;
    Some(format!("served from cache ({}): {}", site.namespace, stale.message))
}

/// What follows the repository's name, without `ns`.
pub(crate) fn rest_of(path: &str, repository: &str, query: Option<&str>) -> String {
    let rest = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(repository)).unwrap_or_default();
    let kept: Vec<&str> =
        query.into_iter().flat_map(|q| q.split('&')).filter(|pair| !pair.starts_with("ns=")).collect();
    let rest = rest.trim_start_matches('/');
    if kept.is_empty() { rest.to_owned() } else { format!("{rest}?{}", kept.join("&")) }
}

fn keep_length(response: &mut Response<Body>) {
    use http_body::Body as _;
    let ours = response.body().is_ours() && response.status() != http::StatusCode::NOT_MODIFIED;
    let exact = response.body().size_hint().exact().filter(|_| ours);
    if let (None, Some(exact)) = (response.headers().get(header::CONTENT_LENGTH), exact) {
        response.headers_mut().insert(header::CONTENT_LENGTH, exact.into());
    }
}
