//! The gate of upstream's quotas: what is not sent because upstream would only refuse it, and what
//! each response says of quota.
//!
//! While a 429 of the pull limit holds, GETs of manifests for the identity that it was said to are
//! answered here; while one of the abuse limit does, everything is. HEADs go on under the pull
//! limit: they are not counted, and say when pulls are left again; so do pulls of what is not
//! counted either. Token services have a limit of their own, for those who ask for tokens. The last
//! pulls of the operator's quota may be reserved for what is pinned. The numbers are kept by
//! [`Ledger`].

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tracing::debug;

use super::limit::Held;
use super::question::{Question, What};
use super::request::{About, Debit, RequestBody};
use super::requester::{Payer, Requester};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::http::origin::Origin;
use crate::ledger::{Identity, Ledger, QuotaOwner, Spending, Standing};
use crate::metrics::Metrics;
use crate::oci::name::Repository;
use crate::oci::rate_limit::{RateLimit, retry_after, source};
use crate::oci::route;
use crate::policy::chain::{Asked, Leg};
use crate::policy::quota::{Aim, Cost, Limit, limit_of};
use crate::policy::registry::Site;

/// Holds back what upstream would refuse, and keeps the books of its responses.
pub(super) struct QuotaGate {
    pub(super) ledger: Ledger,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

/// One request in the books.
pub(super) struct Booking {
    charged: QuotaOwner,
    cost: Cost,
    sent: SystemTime,
    /// The pull that is taken off the quota until the response says how many are left.
    _spending: Option<Spending>,
}

impl Booking {
    /// Whose quota the request counts against.
    pub(super) fn identity(&self) -> Identity {
        self.charged.identity
    }
}

impl QuotaGate {
    /// Books a request that is about to be sent.
    ///
    /// # Errors
    /// It is not to be sent now: [`Kind::Limited`], with the reason and what to do.
    pub(super) fn admit(&self, about: &About<'_>, request: &Request<RequestBody>) -> Result<Booking> {
        let host = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let identity = about.debit.map(|debit| debit.charged).or(about.applicant);
        let charged = QuotaOwner {
            registry: about.registry.clone(),
            host: host.into(),
            identity: identity.unwrap_or(Identity::Anonymous),
        };
        let now = self.clock.now();
        let mut booking = Booking { charged, cost: cost(about.kind, request.method()), sent: now, _spending: None };
        let has_no_limit = identity.is_none() || (about.debit.is_none() && booking.cost != Cost::Token);
        let (site, repository) = about.debit.map(|debit| (debit.site, debit.repository)).unzip();
        let standing = self.standing(&booking.charged, booking.cost, repository).filter(|_| !has_no_limit);
        let held = standing.map(Held::Standing);
        let held = held.or_else(|| self.spend(&mut booking, about.debit, about.cost.aim()).err());
        let Some(held) = held else { return Ok(booking) };
        self.metrics.held_back(about.registry, held.as_str());
        debug!(registry = %about.registry, identity = booking.charged.identity.as_str(), why = held.as_str(), "not sent upstream");
        Err(held.explained(&booking.charged, site, now))
    }

    /// Why a question is not sent now, if it is not: another identity may be asked with at once.
    pub(super) fn held_back(&self, question: &Question<'_>) -> Option<Error> {
        let (charged, cost) = (charged(question), cost(question.what.kind(), question.method));
        if cost == Cost::Counted && self.ledger.would_doubt(&charged, self.clock.now()) {
            return None;
        }
        let standing = self.standing(&charged, cost, Some(question.known_as))?;
        self.metrics.held_back(&question.site.registry.name, standing.limit.as_str());
        Some(Held::Standing(standing).explained(&charged, Some(question.site), self.clock.now()))
    }

    /// Why no source gives the bytes of a manifest now for want of quota; `None` if one may.
    pub(super) fn spent(
        &self,
        site: &Site,
        repository: &Repository,
        what: &What,
        requester: &Requester,
    ) -> Option<Error> {
        let fields = HeaderMap::new();
        let mut refused = None;
        for leg in site.registry.chain.legs(Asked::Bytes, requester.reach) {
            let (site, requester) = match leg {
                Leg::Registry => (site, requester.clone()),
                Leg::Source(source) => (&source.site, requester.at_source(source)),
            };
            for charged in payers(&requester) {
                let question = Question::new(site, repository, what, &requester, &Method::GET, &fields);
                let error = self.would_be_refused(&Question { charged, ..question })?;
                if matches!(leg, Leg::Registry) || refused.is_none() {
                    refused = Some(error);
                }
            }
        }
        refused
    }

    /// The 429 that a pull would get, as far as the books tell.
    pub(super) fn would_be_refused(&self, question: &Question<'_>) -> Option<Error> {
        let (ledger, now, charged) = (&self.ledger, self.clock.now(), charged(question));
        let (site, repository) = (question.site, question.known_as);
        if ledger.would_doubt(&charged, now) {
            return None;
        }
        let debit = Debit { site, repository, charged: charged.identity };
        let mut booking = Booking { charged, cost: Cost::Counted, sent: now, _spending: None };
        let held = self.standing(&booking.charged, booking.cost, Some(repository)).map(Held::Standing);
        let spent = || self.spend(&mut booking, Some(debit), question.requester.cost.aim()).err();
        if let Some(held) = held.or_else(spent) {
            return Some(held.explained(&booking.charged, Some(site), now));
        }
        let charged = &booking.charged;
        let none_left = ledger.figures(charged).is_some_and(|figures| figures.remaining == 0 && figures.hold(now));
        let is_counted = none_left && !ledger.is_uncounted(charged, repository.as_str());
        is_counted.then(|| Error::new(Kind::Limited, format!("{} says that no pulls are left", site.registry.name)))
    }

    /// What the answer to this question, a 429, means for all that follow.
    pub(super) fn limited(&self, question: &Question<'_>) -> Option<Error> {
        let (charged, cost) = (charged(question), cost(question.what.kind(), question.method));
        let standing = self.standing(&charged, cost, None)?;
        Some(Held::Standing(standing).explained(&charged, Some(question.site), self.clock.now()))
    }

    /// Whether a HEAD should tell first if a pull limit still holds whose end upstream did not say.
    /// True once a minute, for the first that asks.
    pub(super) fn doubts_limit(&self, question: &Question<'_>) -> bool {
        question.is_counted() && self.ledger.doubts(&charged(question), self.clock.now())
    }

    /// The limit that holds for a request, if one does.
    fn standing(&self, charged: &QuotaOwner, cost: Cost, repository: Option<&Repository>) -> Option<Standing> {
        let (ledger, now) = (&self.ledger, self.clock.now());
        let mut limits = [Limit::Abuse, Limit::Pulls, Limit::Tokens].into_iter().filter(|limit| limit.holds(cost));
        let standing = limits.find_map(|limit| ledger.standing(charged, limit, now))?;
        let is_uncounted = |repository: &Repository| ledger.is_uncounted(charged, repository.as_str());
        let is_free = standing.limit == Limit::Pulls && repository.is_some_and(is_uncounted);
        (!is_free).then_some(standing)
    }

    /// Takes a pull off what is above the reserve. A client's own quota has none.
    fn spend(&self, booking: &mut Booking, debit: Option<Debit<'_>>, aim: Aim) -> std::result::Result<(), Held> {
        let (ledger, charged) = (&self.ledger, &booking.charged);
        let Some(Debit { site, repository, .. }) = debit else { return Ok(()) };
        let is_ours = !matches!(charged.identity, Identity::Client(_));
        if site.registry.reserve == 0 || booking.cost != Cost::Counted || !is_ours {
            return Ok(());
        }
        if ledger.is_uncounted(charged, repository.as_str()) {
            return Ok(());
        }
        let spending = ledger.spend(charged, site.registry.reserve, aim, booking.sent).map_err(Held::Reserved)?;
        booking._spending = Some(spending);
        Ok(())
    }

    /// Writes down what a response says of quota. Of a 429: what it means.
    pub(super) fn record<B>(&self, about: &About<'_>, booking: &Booking, response: &Response<B>) -> Option<Error> {
        let (ledger, now, charged) = (&self.ledger, self.clock.now(), &booking.charged);
        let said = RateLimit::of(response.headers());
        match (booking.cost, about.debit) {
            // The same names mean another limit on token hosts (protocol 1.3: auth.docker.io).
            (Cost::Token, _) => {
                if let Some(said) = &said {
                    ledger.record_tokens(charged, said, now);
                }
            }
            (_, Some(debit)) if about.kind == route::Kind::Manifest => {
                self.record_pulls(about, booking, debit, said.as_ref(), response.status());
            }
            // One endpoint that is asked too often is not all of them.
            (_, Some(_)) if matches!(about.kind, route::Kind::Tags | route::Kind::Referrers) => return None,
            (_, Some(_)) => {}
            (_, None) => return None,
        }
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let limit = limit_of(booking.cost, content_type.unwrap_or_default(), said.as_ref());
        self.metrics.limited(&charged.registry, limit.as_str());
        let (source, wait) = (source(response.headers()), retry_after(response.headers(), now));
        let standing = ledger.limited(charged, limit, source.as_deref(), wait, now);
        Some(Held::Standing(standing).explained(charged, about.debit.map(|debit| debit.site), now))
    }

    fn record_pulls(
        &self,
        about: &About<'_>,
        booking: &Booking,
        debit: Debit<'_>,
        said: Option<&RateLimit>,
        status: StatusCode,
    ) {
        let (ledger, charged, repository) = (&self.ledger, &booking.charged, debit.repository.as_str());
        let Some(said) = said else {
            match status {
                StatusCode::OK => ledger.counts_not(charged, repository),
                StatusCode::TOO_MANY_REQUESTS => ledger.counts(charged, repository),
                _ => {}
            }
            return;
        };
        let source = said.source.as_deref().unwrap_or(charged.identity.as_str());
        self.metrics.rate_limit(about.registry, source, said.limit, said.remaining, said.window);
        ledger.record(charged, said, booking.sent, self.clock.now());
        ledger.counts(charged, repository);
        if booking.cost == Cost::Counted && status == StatusCode::OK {
            about.cost.add_charge();
            self.metrics.charged(about.registry);
            ledger.charged(about.registry, repository);
        }
    }
}

fn charged(question: &Question<'_>) -> QuotaOwner {
    let site = question.site;
    QuotaOwner { registry: site.registry.name.clone(), host: authority(&site.origin), identity: question.charged }
}

/// The identities that bytes are asked for with, until one gets them.
fn payers(requester: &Requester) -> impl Iterator<Item = Identity> {
    let (account, client) = match requester.payer {
        Payer::Own => (None, requester.credential.identity()),
        Payer::Account | Payer::AccountForAll => (Some(Identity::Account), Identity::Anonymous),
    };
    account.into_iter().chain([client])
}

fn cost(kind: route::Kind, method: &Method) -> Cost {
    match kind {
        route::Kind::Manifest if method == Method::GET => Cost::Counted,
        route::Kind::Token => Cost::Token,
        _ => Cost::Free,
    }
}

/// The authority as a request's URL has it.
fn authority(origin: &Origin) -> Arc<str> {
    origin.to_string().split_once("://").map_or("", |(_, authority)| authority).into()
}
