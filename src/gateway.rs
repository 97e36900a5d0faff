//! A request, from its head to its response: its target, whether it is a pull, and the rescue if it
//! fails.
//!
//! ```text
//! request        a token of seawall's own is taken out, its owner is carried beside the request
//! target         → a registry     → token host or realm → token::offline → token::service
//!                                 → oci/route → permitted → the fork
//!                                     /v2/   → challenges
//!                                     a pull → pulls → cache.get → deliver
//!                                     else   → pass (streamed untouched)
//!                → seawall itself → mirror (/v2/…: a pull from the registry that the path or `ns` names; else a page)
//!                → another host   → plain HTTP, forwarded if policy allows
//! any error      → rescue
//! (a request of seawall's own that came back is refused: 508)
//! ```

pub mod body;
mod challenges;
pub mod deliver;
pub(crate) mod mirror;
mod mirror_refusals;
mod next_page;
pub mod pages;
mod parts;
mod pass;
mod permitted;
pub mod pings;
mod pulls;
mod relay;
mod request;
pub(crate) mod rescue;
mod session;
pub mod target;
pub mod telemetry;
mod token;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use tracing::debug;

use self::body::Body;
use self::challenges::Challenges;
use self::mirror::{Mirror, is_mirrored, say_namespace};
use self::mirror_refusals::Refusals;
use self::pages::Pages;
use self::pass::Passthrough;
use self::permitted::permitted;
use self::pings::Pings;
use self::pulls::{Pulls, Reading, bad_route, list_of, on_behalf};
use self::relay::{Recipient, forward};
use self::request::{GatewayRequest, requester};
use self::rescue::{Facing, outcome, refused_connect, rescue};
pub use self::session::{Ingress, Session};
use self::target::{RequestTarget, target};
use self::telemetry::{Record, Telemetry};
use self::token::login_prompt::{Attempt, LoginPrompt};
use self::token::offline::Tokens;
use self::token::service::TokenService;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::oci::error::Code;
use crate::oci::route::{self, Route};
use crate::policy::addressee::OwnNames;
use crate::policy::budget::Tenant;
use crate::policy::intercept::{self, Tunnels, Verdict};
use crate::policy::registry::{Registries, Role, Site};
use crate::task::Tasks;
use crate::upstream::requester::{Payer, Requester};
use crate::upstream::{NO_REGISTRY, Upstream, leads_back};

/// What a gateway stands on.
pub struct Base {
    /// The registries that requests may be for.
    pub registries: Arc<Registries>,
    /// Answers pulls.
    pub cache: Cache,
    /// Sends requests to registries.
    pub upstream: Upstream,
    /// The pages for people.
    pub pages: Pages,
    /// How each registry answered `/v2/`.
    pub pings: Pings,
    /// What clients call seawall itself.
    pub own_names: OwnNames,
    /// Which other hosts may be reached.
    pub tunnels: Tunnels,
    /// Where requests are written down.
    pub telemetry: Telemetry,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// The time.
    pub clock: Clock,
}

/// Answers requests.
pub struct Gateway {
    registries: Arc<Registries>,
    cache: Cache,
    upstream: Upstream,
    own_names: OwnNames,
    tunnels: Tunnels,
    telemetry: Telemetry,
    refusals: Refusals,
    clock: Clock,
    challenges: Challenges,
    tokens: Tokens,
    login_prompt: LoginPrompt,
    pulls: Pulls,
    passthrough: Passthrough,
    mirror: Mirror,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// A gateway on what is there already.
    pub fn new(base: Base) -> Gateway {
        let Base { registries, cache, upstream, pages, pings, own_names, tunnels, telemetry, tasks, clock } = base;
        let challenges = Challenges {
            registries: registries.clone(),
            cache: cache.clone(),
            upstream: upstream.clone(),
            pings: Arc::new(pings),
            clock: clock.clone(),
        };
        let service = TokenService { cache: cache.clone(), upstream: upstream.clone(), clock: clock.clone() };
        let login_prompt = LoginPrompt { cache: cache.clone(), challenges: challenges.clone() };
        let pulls = Pulls { cache: cache.clone(), upstream: upstream.clone(), challenges: challenges.clone() };
        let passthrough =
            Passthrough { cache: cache.clone(), upstream: upstream.clone(), challenges: challenges.clone(), tasks };
        let mirror = Mirror {
            registries: registries.clone(),
            pages,
            pulls: pulls.clone(),
            upstream: upstream.clone(),
            clock: clock.clone(),
        };
        Gateway {
            registries,
            cache,
            upstream,
            own_names,
            tunnels,
            telemetry,
            refusals: Refusals::default(),
            clock,
            challenges,
            tokens: Tokens::new(service),
            login_prompt,
            pulls,
            passthrough,
            mirror,
        }
    }

    /// The response to a request, which takes of this share. Every error becomes one.
    pub async fn handle(&self, session: &Session, tenant: Tenant, request: Request<Incoming>) -> Response<Body> {
        let request = GatewayRequest::read(request, self.cache.access().secret(), self.clock.now());
        let head = Head::of(&request.http);
        let mut record = Box::new(Record::new(self.telemetry.clone(), session.peer, tenant, head.method.clone()));
        record.subject = head.uri.path().to_owned();
        let (facing, answered) = self.answer(session, &head, request, &mut record).await;
        let mut response = answered.unwrap_or_else(|error| self.rescue(session, &head, facing, &mut record, &error));
        if facing == Facing::Mirror {
            say_namespace(response.headers_mut(), &head.uri, &self.registries);
        }
        record.answered(response.status());
        head.finish(&mut response);
        response.map(|body| body.recorded(record))
    }

    /// The answer of the request's target, and what the client takes seawall for.
    async fn answer(
        &self,
        session: &Session,
        head: &Head,
        request: GatewayRequest<Incoming>,
        record: &mut Record,
    ) -> (Facing, Result<Response<Body>>) {
        let framing = head.framing.clone();
        let meant = framing
            .and_then(|()| self.refuse_looped(&request.http))
            .and_then(|()| target(session, &request.http, &self.registries, &self.own_names));
        match meant {
            Ok(RequestTarget::Own(here)) => {
                (Facing::Mirror, Box::pin(self.mirror.answer(request.http, &here, record)).await)
            }
            Ok(RequestTarget::Other(origin)) => {
                (Facing::Registry, Box::pin(self.forward(request.http, &origin, record)).await)
            }
            Ok(RequestTarget::Registry { site, role, origin }) => {
                record.registry = site.registry.name.clone();
                (Facing::Registry, Box::pin(self.registry(request, site, role, &origin, record)).await)
            }
            Err(error) => (faced(session, &request.http), Err(error)),
        }
    }

    /// A registry or its token service, spoken to as itself.
    async fn registry(
        &self,
        request: GatewayRequest<Incoming>,
        site: Site,
        role: Role,
        origin: &Origin,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let requester = request.requester(self.upstream.keyring(), self.clock.now())?.of(record.tenant());
        record.cost = requester.cost.clone();
        let path = request.http.uri().path();
        if role == Role::Tokens || self.upstream.auth().is_realm(&site.namespace, origin, path) {
            return Box::pin(self.tokens.answer(request.http, &site, origin, &requester, record)).await;
        }
        let route = read_route(&request.http, &site, record)?;
        let requester = on_behalf(&site, route.repository(), requester);
        let pulled = route.repository().filter(|_| matches!(route, Route::Manifest { .. } | Route::Blob { .. }));
        if let Some(error) = pulled.and_then(|pulled| self.challenges.unasked(&site, pulled, &requester)) {
            return Err(error);
        }
        let attempt = self.attempt(&request, &site, &route, &requester);
        let request = request.http;
        // The fork: is this a pull?
        let answered = match route {
            Route::Ping => Box::pin(self.challenges.answer(request, &site, &requester, record)).await,
            Route::Manifest { repository, reference } => {
                self.pulls.manifest(&request, Reading { site, repository, requester }, reference, record).await
            }
            Route::Blob { repository, digest } => {
                self.pulls.blob(&request, Reading { site, repository, requester }, digest, record).await
            }
            Route::Tags { repository } | Route::Referrers { repository }
                if is_list_read_for(&request, &site, &requester) =>
            {
                let list = list_of(request.uri().path(), repository.as_str(), request.uri().query());
                Box::pin(self.pulls.list(&request, &Reading { site, repository, requester }, list)).await
            }
            other => Box::pin(self.passthrough.answer(request, &site, other, &requester, record)).await,
        };
        answered.map_err(|error| match attempt {
            Some(attempt) => self.login_prompt.instead_of(error, &attempt),
            None => error,
        })
    }

    /// What the client of a failed pull may be asked to log in for.
    fn attempt(
        &self,
        request: &GatewayRequest<Incoming>,
        site: &Site,
        route: &Route,
        requester: &Requester,
    ) -> Option<Attempt> {
        let presented = request.presented(requester);
        let repository = route.repository().filter(|_| self.login_prompt.is_possible(presented))?.clone();
        let reading = Reading { site: site.clone(), repository, requester: requester.clone() };
        Some(Attempt { reading, presented })
    }

    /// Another host than a registry's, by plain HTTP.
    async fn forward(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        match intercept::verdict(&self.registries, &self.tunnels, &origin.host, origin.port) {
            Verdict::Tunnel => {}
            Verdict::Refuse(reason) => {
                return Err(Error::request(Code::Denied, format!("{origin} is refused: {reason}")));
            }
            Verdict::Registry(site, _, scheme) => {
                let message = format!(
                    "{} is a registry that is spoken to by {}://; `hosts` of {} may name {origin} too",
                    origin.authority(),
                    scheme.as_str(),
                    site.registry.name
                );
                return Err(Error::new(Kind::Misdirected, message));
            }
        }
        let requester = requester(request.headers(), self.upstream.keyring(), self.clock.now())?.of(record.tenant());
        record.cost = requester.cost.clone();
        let recipient = Recipient { registry: &NO_REGISTRY.into(), origin, kind: route::Kind::Other };
        forward(&self.upstream, request, recipient, &requester).await
    }

    /// Turns an error into the response, and writes down that there is no other.
    fn rescue(
        &self,
        session: &Session,
        head: &Head,
        facing: Facing,
        record: &mut Record,
        error: &Error,
    ) -> Response<Body> {
        record.outcome = outcome(error);
        record.failed(error);
        debug!(%error, kind = error.kind().as_str(), "request failed");
        if facing == Facing::Mirror && is_mirrored(&head.method, &head.uri) {
            self.refusals.note(&self.telemetry, session.peer, record, error);
        }
        self.signed(error, rescue(error, facing, record.kind, head.user_agent.as_ref()))
    }

    /// The response to a CONNECT that `error` forbids.
    pub(crate) fn refused_connect(&self, error: &Error) -> Response<Body> {
        self.signed(error, refused_connect(error.status(), error.message()))
    }

    /// Signs the response to a request of seawall's own that came back: so the seawall that sent it
    /// knows who refused it.
    fn signed(&self, error: &Error, mut response: Response<Body>) -> Response<Body> {
        if error.kind() == Kind::Looped {
            self.upstream.sign(response.headers_mut());
        }
        response
    }

    /// Counts a pull that the mirror wants a password for.
    pub(crate) fn note_unauthorized(&self, client: SocketAddr) {
        self.refusals.note_unauthorized(&self.telemetry, client);
    }

    /// Refuses a request that seawall sent, and that came back to it: the host it was sent to is
    /// seawall itself. An address of seawall's own is not dialled at all; a balancer, a port
    /// mapping or NAT in front of it are known only by this.
    ///
    /// # Errors
    /// It is one.
    pub(crate) fn refuse_looped(&self, request: &Request<Incoming>) -> Result<()> {
        if !self.upstream.has_sent(request.headers()) {
            return Ok(());
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().host().or(host).unwrap_or("the host");
        let error = Error::new(Kind::Looped, leads_back(host));
        self.refusals.say_looped(self.clock.now(), &error);
        Err(error)
    }
}

/// What a response depends on of its request's head.
struct Head {
    method: Method,
    uri: Uri,
    user_agent: Option<HeaderValue>,
    framing: Result<()>,
}

impl Head {
    fn of<B>(request: &Request<B>) -> Head {
        Head {
            method: request.method().clone(),
            uri: request.uri().clone(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            framing: check_framing(request.headers()),
        }
    }

    /// Gives a response the form that its request wants.
    fn finish(&self, response: &mut Response<Body>) {
        if self.framing.is_err() {
            // What follows on the connection may be what another would read as this request's body.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.method == Method::HEAD {
            // The response to a HEAD has the length of what is not sent (RFC 9110, 9.3.2).
            keep_length(response);
            *response.body_mut() = Body::empty();
        }
    }
}

/// The route of a request to a registry, if the operator permits it.
fn read_route(request: &Request<Incoming>, site: &Site, record: &mut Record) -> Result<Route> {
    let uri = request.uri();
    let route = route::route(request.method(), uri.path(), uri.query()).map_err(bad_route)?;
    record.kind = route.kind();
    if let Some(repository) = route.repository() {
        record.subject = repository.to_string();
    }
    permitted(site, &route, request)?;
    Ok(route)
}

/// Whether a list is read here instead of being passed: with the operator's account, or from one of
/// several sources.
fn is_list_read_for(request: &Request<Incoming>, site: &Site, requester: &Requester) -> bool {
    let is_special = requester.payer == Payer::Account || !site.registry.chain.is_plain();
    is_special && *request.method() == Method::GET
}

/// What a client takes seawall for whose request names no target: with a path alone, on a
/// connection to seawall, a mirror.
fn faced<B>(session: &Session, request: &Request<B>) -> Facing {
    let is_path = request.uri().scheme().is_none() || request.version() == Version::HTTP_2;
    if is_path && matches!(session.ingress, Ingress::Own(_)) { Facing::Mirror } else { Facing::Registry }
}

/// A coding that is removed without being understood changes what was sent (RFC 9112, 6.1).
fn check_framing(headers: &HeaderMap) -> Result<()> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_none_or(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if chunked && codings.next().is_none() {
        return Ok(());
    }
    Err(Error::new(Kind::Request, "the only transfer coding that is understood is `chunked`, once"))
}

fn keep_length(response: &mut Response<Body>) {
    use http_body::Body as _;
    let ours = response.body().is_ours() && response.status() != http::StatusCode::NOT_MODIFIED;
    let exact = response.body().size_hint().exact().filter(|_| ours);
    if let (None, Some(exact)) = (response.headers().get(header::CONTENT_LENGTH), exact) {
        response.headers_mut().insert(header::CONTENT_LENGTH, exact.into());
    }
}
