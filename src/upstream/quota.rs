//! The books of each reply, and what is not asked because upstream would only refuse it.
//!
//! While a 429 of the pull limit stands, its charged's GETs of manifests are answered here, and so is everything of its while one of the abuse
//! limit does. HEADs go on under the pull limit: they are not counted, and say when pulls are left again; so do pulls of what is not counted
//! either. Token services have a limit of their own, for those who ask for tokens. The last pulls of the operator's quota may be reserved for
//! what is pinned.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::debug;

use super::client::Upstream;
use super::question::{Question, What};
use super::request::{About, Debit, RequestBody};
use super::requester::{Payer, Requester};
use crate::error::{Error, Kind, Reply, Result};
use crate::http::origin::Origin;
use crate::ledger::{Charged, Identity, Spending, Standing};
use crate::oci::name::Repository;
use crate::oci::rate_limit::{RateLimit, retry_after, source};
use crate::oci::route;
use crate::policy::chain::{Asked, Leg};
use crate::policy::quota::{Aim, Cost, Figures, Limit, limit_of};
use crate::policy::registry::Site;

/// Goes with a request for a token: whose that is to be. `None`: it is not to be seen. A request without this is nobody's.
#[derive(Clone, Copy)]
pub(super) struct Applicant(pub(super) Option<Identity>);

/// Goes with a 429: what it means, until when, and what can be done, in seawall's words.
#[derive(Clone)]
pub(super) struct ExplainedLimit(pub(super) Error);

/// One request, as the books see it.
pub(super) struct Ask {
    charged: Charged,
    cost: Cost,
    sent: SystemTime,
    /// Until it is answered.
    _spending: Option<Spending>,
}

/// Why a request is not sent.
enum Held {
    Standing(Standing),
    Reserved(Figures),
}

impl Held {
    fn word(&self) -> &'static str {
        match self {
            Held::Standing(standing) => standing.limit.as_str(),
            Held::Reserved(_) => "reserve",
        }
    }
}

impl Upstream {
    /// # Errors
    /// It is not to be sent now: [`Kind::Limited`], with the reason and what to do.
    pub(super) fn may_ask(&self, about: About<'_>, request: &Request<RequestBody>) -> Result<Ask> {
        let host = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let applicant = request.extensions().get().copied().unwrap_or(Applicant(Some(Identity::Anonymous)));
        let identity = about.debit.map(|debit| debit.charged).or(applicant.0);
        let charged = Charged {
            registry: about.registry.clone(),
            host: host.into(),
            identity: identity.unwrap_or(Identity::Anonymous),
        };
        let now = self.0.clock.now();
        let mut ask = Ask { charged, cost: cost(about.kind, request.method()), sent: now, _spending: None };
        let is_free_of_limits = identity.is_none() || (about.debit.is_none() && ask.cost != Cost::Token);
        let (site, repository) = about.debit.map(|debit| (debit.site, debit.repository)).unzip();
        let held = self.standing(&ask.charged, ask.cost, repository).filter(|_| !is_free_of_limits).map(Held::Standing);
        let held = held.map_or_else(|| self.spend(&mut ask, site, repository, about.cost.aim()), Err);
        let Err(held) = held else { return Ok(ask) };
        self.0.metrics.held_back(about.registry, held.word());
        debug!(registry = %about.registry, identity = ask.charged.identity.as_str(), why = held.word(), "not sent upstream");
        Err(refused(&held, &ask.charged, site, now))
    }

    /// Why a question is not sent now, if it is not: somebody else may be asked at once.
    pub(super) fn held_back(&self, question: Question<'_>) -> Option<Error> {
        let (charged, cost) = (charged(question), cost(question.what.kind(), question.method));
        if cost == Cost::Counted && self.0.ledger.would_doubt(&charged, self.0.clock.now()) {
            return None;
        }
        let standing = self.standing(&charged, cost, Some(question.known_as))?;
        self.0.metrics.held_back(&question.site.registry.name, standing.limit.as_str());
        Some(refused(&Held::Standing(standing), &charged, Some(question.site), self.0.clock.now()))
    }

    /// Why nobody gives the bytes of a manifest now, for want of quota, if so it is.
    pub fn spent(&self, site: &Site, repository: &Repository, what: &What, requester: &Requester) -> Option<Error> {
        let fields = HeaderMap::new();
        let mut refused = None;
        for leg in site.registry.chain.legs(Asked::Bytes, requester.reach) {
            let (site, requester) = match leg {
                Leg::Registry => (site, requester.clone()),
                Leg::Source(source) => (&source.site, requester.at_source(source)),
            };
            for charged in payers(&requester) {
                let (known_as, method) = (repository, &Method::GET);
                let question = Question {
                    site,
                    repository,
                    known_as,
                    what,
                    method,
                    fields: &fields,
                    requester: &requester,
                    charged,
                };
                let said = self.would_be_refused(question)?;
                if matches!(leg, Leg::Registry) || refused.is_none() {
                    refused = Some(said);
                }
            }
        }
        refused
    }

    /// The 429 that a pull would come to, as far as the books tell.
    fn would_be_refused(&self, question: Question<'_>) -> Option<Error> {
        let (ledger, now, charged) = (&self.0.ledger, self.0.clock.now(), charged(question));
        let (site, repository) = (question.site, question.known_as);
        if ledger.would_doubt(&charged, now) {
            return None;
        }
        let mut ask = Ask { charged, cost: Cost::Counted, sent: now, _spending: None };
        let held = self.standing(&ask.charged, ask.cost, Some(repository)).map(Held::Standing);
        let spent = || self.spend(&mut ask, Some(site), Some(repository), question.requester.cost.aim()).err();
        if let Some(held) = held.or_else(spent) {
            return Some(refused(&held, &ask.charged, Some(site), now));
        }
        let none_left = ledger.figures(&ask.charged).is_some_and(|figures| figures.remaining == 0 && figures.hold(now));
        let is_counted = none_left && !ledger.is_uncounted(&ask.charged, repository.as_str());
        is_counted.then(|| Error::new(Kind::Limited, format!("{} says that no pulls are left", site.registry.name)))
    }

    /// What the answer to this question, a 429, means for all that follow.
    pub(super) fn limited(&self, question: Question<'_>) -> Option<Error> {
        let (charged, cost) = (charged(question), cost(question.what.kind(), question.method));
        let standing = self.standing(&charged, cost, None)?;
        Some(refused(&Held::Standing(standing), &charged, Some(question.site), self.0.clock.now()))
    }

    /// A pull limit's end is a guess where upstream does not say it. Once a minute a HEAD of what is to be pulled, which is not counted,
    /// tells whether it still stands.
    pub(super) async fn ask_whether_it_stands(&self, question: Question<'_>, authorization: Option<HeaderValue>) {
        let is_counted = matches!(question.what, What::Manifest(_)) && question.method == Method::GET;
        if is_counted && self.0.ledger.doubts(&charged(question), self.0.clock.now()) {
            let head = Question { method: &Method::HEAD, ..question };
            let asked = async {
                match question.charged {
                    Identity::Account => Box::pin(self.follow(head, authorization)).await,
                    // Nobody may need a token first.
                    Identity::Anonymous | Identity::Client(_) => Box::pin(self.ask_as_client(head)).await,
                }
            };
            // What it says is in the books.
            let _ = tokio::time::timeout(self.0.resolve_deadline, asked).await;
        }
    }

    fn standing(&self, charged: &Charged, cost: Cost, repository: Option<&Repository>) -> Option<Standing> {
        let (ledger, now) = (&self.0.ledger, self.0.clock.now());
        let mut limits = [Limit::Abuse, Limit::Pulls, Limit::Tokens].into_iter().filter(|limit| limit.holds(cost));
        let standing = limits.find_map(|limit| ledger.standing(charged, limit, now))?;
        let is_uncounted = |repository: &Repository| ledger.is_uncounted(charged, repository.as_str());
        let is_free = standing.limit == Limit::Pulls && repository.is_some_and(is_uncounted);
        (!is_free).then_some(standing)
    }

    /// A pull, off what is above the reserve. A client's own quota is its own.
    fn spend(
        &self,
        ask: &mut Ask,
        site: Option<&Site>,
        repository: Option<&Repository>,
        aim: Aim,
    ) -> std::result::Result<(), Held> {
        let (ledger, charged) = (&self.0.ledger, &ask.charged);
        let (Some(site), Some(repository)) = (site, repository) else { return Ok(()) };
        let is_ours = !matches!(charged.identity, Identity::Client(_));
        if site.registry.reserve == 0 || ask.cost != Cost::Counted || !is_ours {
            return Ok(());
        }
        if ledger.is_uncounted(charged, repository.as_str()) {
            return Ok(());
        }
        let spending = ledger.spend(charged, site.registry.reserve, aim, ask.sent).map_err(Held::Reserved)?;
        ask._spending = Some(spending);
        Ok(())
    }

    /// Writes down what a reply says of quota.
    pub(super) fn keep_books(&self, about: About<'_>, ask: &Ask, response: &mut Response<Incoming>) {
        let (ledger, now, charged) = (&self.0.ledger, self.0.clock.now(), &ask.charged);
        let said = RateLimit::of(response.headers());
        let is_limited = response.status() == StatusCode::TOO_MANY_REQUESTS;
        match (ask.cost, about.debit) {
            // The same names mean another limit on token hosts (protocol 1.3: auth.docker.io).
            (Cost::Token, _) => {
                if let Some(said) = &said {
                    ledger.record_tokens(charged, said, now);
                }
            }
            (_, Some(debit)) if about.kind == route::Kind::Manifest => {
                self.note_quota(about, ask, debit, said.as_ref(), response.status());
            }
            // One endpoint that is asked too often is not all of them.
            (_, Some(_)) if matches!(about.kind, route::Kind::Tags | route::Kind::Referrers) => return,
            (_, Some(_)) => {}
            (_, None) => return,
        }
        if is_limited {
            let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let limit = limit_of(ask.cost, content_type.unwrap_or_default(), said.as_ref());
            self.0.metrics.limited(&charged.registry, limit.as_str());
            let (source, wait) = (source(response.headers()), retry_after(response.headers(), now));
            let standing = ledger.limited(charged, limit, source.as_deref(), wait, now);
            let site = about.debit.map(|debit| debit.site);
            response.extensions_mut().insert(ExplainedLimit(refused(&Held::Standing(standing), charged, site, now)));
        }
    }

    fn note_quota(&self, about: About<'_>, ask: &Ask, debit: Debit<'_>, said: Option<&RateLimit>, status: StatusCode) {
        let (ledger, now, charged, repository) =
            (&self.0.ledger, self.0.clock.now(), &ask.charged, debit.repository.as_str());
        let Some(said) = said else {
            match status {
                StatusCode::OK => ledger.counts_not(charged, repository),
                StatusCode::TOO_MANY_REQUESTS => ledger.counts(charged, repository),
                _ => {}
            }
            return;
        };
        let source = said.source.as_deref().unwrap_or(charged.identity.as_str());
        self.0.metrics.rate_limit(about.registry, source, said.limit, said.remaining, said.window);
        ledger.record(charged, said, ask.sent, now);
        ledger.counts(charged, repository);
        if ask.cost == Cost::Counted && status == StatusCode::OK {
            about.cost.add_charge();
            self.0.metrics.charged(about.registry);
            ledger.charged(about.registry, repository);
        }
    }
}

fn charged(question: Question<'_>) -> Charged {
    let site = question.site;
    Charged { registry: site.registry.name.clone(), host: authority(&site.origin), identity: question.charged }
}

/// With whose credentials bytes are asked for, until one gets them.
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

/// As a request's URL has it.
fn authority(origin: &Origin) -> Arc<str> {
    origin.to_string().split_once("://").map_or("", |(_, authority)| authority).into()
}

fn refused(held: &Held, charged: &Charged, site: Option<&Site>, now: SystemTime) -> Error {
    let (registry, until) = (&charged.registry, until(held, now));
    // Rounded up: who comes then is not sent away again.
    let wait = (until.duration_since(now).unwrap_or_default() + Duration::from_millis(999)).as_secs().max(1);
    let when = format!("{} (in {})", humantime::format_rfc3339_seconds(until), roughly(wait));
    let advice = advice(charged.identity, site);
    let message = match held {
        Held::Reserved(figures) => format!(
            "{} of {} pulls are left at {registry} until {when}, and the last {} are for what is asked for by digest: \
             wait, or {advice}",
            figures.remaining,
            figures.limit,
            site.map_or(0, |site| site.registry.reserve)
        ),
        Held::Standing(standing) => {
            let (whom, quota) = (whom(charged.identity, standing), standing.allowed.map(allowance).unwrap_or_default());
            match standing.limit {
                Limit::Pulls => format!("{registry} allows no more pulls{whom}{quota} until {when}: wait, or {advice}"),
                Limit::Abuse => {
                    format!("{registry} wants no requests{whom} until {when}: wait; it had too many at once")
                }
                Limit::Tokens => format!(
                    "the token service of {registry} ({}) gives no tokens{whom} until {when}: wait; it was asked too often",
                    charged.host
                ),
            }
        }
    };
    let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from(wait))]);
    let reply = Reply { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Bytes::new() };
    let error = Error::replied(Kind::Limited, message, reply);
    match held {
        Held::Standing(standing) if standing.limit != Limit::Pulls => error,
        _ => error.because(NoPullsLeft),
    }
}

/// Whose pulls are spent: somebody else may have some.
#[derive(Debug, thiserror::Error)]
#[error("no pulls are left")]
struct NoPullsLeft;

/// Whether a 429 is for want of pulls, and of those of who asked alone.
pub fn is_for_want_of_pulls(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.is::<NoPullsLeft>())
}

/// Seconds that a person reads: hours without seconds.
fn roughly(seconds: u64) -> humantime::FormattedDuration {
    let rounded = if seconds < 3600 { seconds } else { seconds.div_ceil(60) * 60 };
    humantime::format_duration(Duration::from_secs(rounded))
}

fn until(held: &Held, now: SystemTime) -> SystemTime {
    match held {
        Held::Standing(standing) => standing.until,
        Held::Reserved(figures) => figures.free_at().unwrap_or(now + Duration::from_secs(60)),
    }
}

/// Whose quota it is, as upstream sees it. The name of the operator's account is nobody else's business.
fn whom(identity: Identity, standing: &Standing) -> String {
    match (identity, &standing.source) {
        (Identity::Account, _) => " to seawall's own account".to_owned(),
        (_, Some(source)) => format!(" to {source}"),
        (_, None) => String::new(),
    }
}

fn allowance((limit, window): (u64, Option<Duration>)) -> String {
    let window = window.map(|window| format!(" in {}", humantime::format_duration(window))).unwrap_or_default();
    format!(" ({limit}{window})")
}

/// What can be done, and by whom.
fn advice(identity: Identity, site: Option<&Site>) -> &'static str {
    match identity {
        Identity::Client(_) => "use another account",
        _ if site.is_some_and(|site| site.registry.account.is_some()) => {
            "have its operator give seawall an account with a larger quota, or a mirror (upstreams)"
        }
        _ => "have its operator give seawall an account there (username and password_file), or a mirror (upstreams)",
    }
}
