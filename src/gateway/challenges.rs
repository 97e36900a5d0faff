//! `/v2/`: how a registry asks clients to authenticate.
//!
//! 1. What a registry answered of late is repeated, without asking it.
//! 2. Else it is asked; while it is unreachable it is not waited for.
//! 3. If it cannot be asked, its last answer is repeated, or the challenge of any pull that it
//!    refused, since containerd and mirrors never ask for `/v2/`. The challenges of the best known
//!    registries are built in; of all others, if something is here that anonymous clients may read,
//!    the answer is that no credential is needed.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use super::pings::{Ping, Pings};
use super::relay::{Recipient, forward, is_word, relay, send};
use super::telemetry::Record;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::{Error, Kind, Reply, Result};
use crate::http::cache_status::Outcome;
use crate::http::origin::Origin;
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::offline_token::well_known;
use crate::policy::registry::{Registries, Site};
use crate::policy::sound;
use crate::upstream::requester::{Credential, Payer, Requester};
use crate::upstream::{Upstream, in_time};

/// How long a refusal of anonymous is repeated to who shows nothing.
const REPEATED: Duration = Duration::from_secs(60);

/// Knows the challenge of each registry, and answers `/v2/` with it.
#[derive(Clone)]
pub(crate) struct Challenges {
    pub(crate) registries: Arc<Registries>,
    pub(crate) cache: Cache,
    pub(crate) upstream: Upstream,
    pub(crate) pings: Arc<Pings>,
    pub(crate) clock: Clock,
}

impl Challenges {
    /// Answers `/v2/`: a client without credentials gets the challenge last seen, others the
    /// registry's own answer.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        site: &Site,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let recipient = Recipient { registry: &site.registry.name, origin: &site.origin, kind: route::Kind::Other };
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if requester.authorization.is_some() || !is_read {
            return forward(&self.upstream, request, recipient, requester).await;
        }
        // A token of our own represents a login: its client has authenticated already.
        let is_known = matches!(requester.credential, Credential::Remembered(_));
        let is_unreachable = self.upstream.unreachable(site).is_some();
        let now = self.clock.now();
        let last = self.pings.last(&site.namespace);
        if let Some(ping) = last.filter(|ping| !is_unreachable && !is_known && self.pings.is_fresh(ping, now)) {
            record.outcome = Outcome::Hit;
            return Ok(ping.response(Outcome::Hit));
        }
        let known = if is_known { Some(Ping::open()) } else { self.known(site) };
        let stale = |ping: &Ping, record: &mut Record| {
            record.outcome = Outcome::Stale;
            Ok(ping.response(Outcome::Stale))
        };
        // Pulls find out when it can be reached again.
        if let Some(ping) = known.as_ref().filter(|_| is_unreachable) {
            return stale(ping, record);
        }
        let deadline = known.as_ref().map(|_| self.upstream.resolve_deadline());
        let asking = Box::pin(send(&self.upstream, request, recipient, requester));
        match (in_time(site, deadline, asking).await, known) {
            (Ok(response), _) if is_word(&response, sound::is_ping) => {
                self.upstream.learn(site, response.headers());
                self.pings.remember(&site.namespace, response.status(), response.headers(), self.clock.now());
                Ok(relay(response, self.upstream.idle_timeout()))
            }
            (_, Some(ping)) => stale(&ping, record),
            (answered, None) => Ok(relay(answered?, self.upstream.idle_timeout())),
        }
    }

    /// Remembers the challenge that a registry gave while it was asked for a pull, if it was asked
    /// and gave one.
    pub(crate) fn note_challenge(&self, site: &Site, requester: &Requester) {
        if requester.cost.requests() > 0
            && let Some(challenges) = self.upstream.auth().challenges(&site.namespace)
        {
            self.pings.learn(&site.namespace, &challenges, self.clock.now());
        }
    }

    /// The refusal of a pull by a client that shows nothing, where the registry said so to anonymous
    /// a moment ago: it says that to all who show nothing.
    pub(crate) fn unasked(&self, site: &Site, repository: &Repository, requester: &Requester) -> Option<Error> {
        let (access, key) = (self.cache.access(), site.key(repository));
        let shows_nothing = requester.credential == Credential::Anonymous
            && requester.payer == Payer::Own
            && requester.authorization.is_none();
        // What was open once may be so still: some registries open tags, not repositories.
        if !shows_nothing || access.was_ever_public(&key) || !access.was_anonymous_refused(&key, REPEATED) {
            return None;
        }
        let headers = Some(self.for_repository(site, repository)).filter(|headers| !headers.is_empty())?;
        let reply = Reply { status: StatusCode::UNAUTHORIZED, headers, body: bytes::Bytes::new() };
        // As where upstream is asked by HEAD: nobody learns who pulled lately.
        Some(Error::replied(Kind::Refused, format!("{} answered 401", site.origin.host), reply))
    }

    /// The challenge that asks a client without credentials to log in for `repository` when the
    /// registry cannot: empty if none is known.
    pub(crate) fn for_repository(&self, site: &Site, repository: &Repository) -> HeaderMap {
        self.known(site).map(|ping| ping.for_repository(repository)).unwrap_or_default()
    }

    /// The answer to `/v2/` when the registry gives none.
    fn known(&self, site: &Site) -> Option<Ping> {
        let namespace = &site.namespace;
        let is_ours = |origin: &Origin| self.registries.by_host(origin.scheme, &origin.host, origin.port).is_some();
        let ping = self.pings.last(namespace).or_else(|| self.presumed(site));
        match ping {
            // Its token service is not behind seawall, which can issue no token for it: what is
            // public needs none.
            Some(ping) if ping.realm().is_some_and(|realm| !is_ours(&realm)) => {
                Some(if self.cache.access().opens_some(namespace) { Ping::open() } else { ping })
            }
            Some(ping) => Some(ping),
            None => self.cache.access().opens_some(namespace).then(Ping::open),
        }
    }

    /// The built-in challenge of a well-known registry, if something is here that a client could go
    /// on to ask for.
    fn presumed(&self, site: &Site) -> Option<Ping> {
        let line = well_known(&site.registry.name)?;
        let ping = Ping::unauthorized(vec![line.to_owned()]);
        let is_its_own = ping.realm().is_some_and(|realm| site.registry.is_realm(&realm));
        if !is_its_own || !self.cache.access().opens_some(&site.namespace) {
            return None;
        }
        if self.upstream.auth().challenges(&site.namespace).is_none() {
            self.upstream.auth().learn(&site.namespace, &ping.parsed().into());
        }
        Some(ping)
    }
}
