//! The books of each reply, and what is not asked because upstream would only refuse it.
//!
//! While a 429 of the pull limit stands, its payer's GETs of manifests are answered here, and so is everything of its while one of the abuse
//! limit does. HEADs go on under the pull limit: they are not counted, and say when pulls are left again. The last pulls of the operator's quota
//! may be reserved for what is pinned.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tracing::debug;

use super::client::{About, RequestBody, Upstream};
use super::send::Question;
use crate::error::{Error, Kind, Reply, Result};
use crate::http::origin::Origin;
use crate::ledger::{Identity, Payer, Standing};
use crate::oci::name::Repository;
use crate::oci::rate_limit::{RateLimit, retry_after, source};
use crate::oci::route;
use crate::policy::quota::{Aim, Cost, Figures, Limit, limit_of, may_spend};
use crate::policy::registry::Site;

/// What a request is taken off, if upstream counts it.
#[derive(Clone, Copy)]
pub struct Debit<'a> {
    /// Whose.
    pub site: &'a Site,
    /// As the client calls it.
    pub repository: &'a Repository,
    /// Whose credential is shown.
    pub payer: Identity,
}

/// One request, as the books see it.
pub(super) struct Ask {
    payer: Payer,
    cost: Cost,
}

/// Why a request is not sent.
enum Held {
    Standing(Standing),
    Reserved(Figures),
}

impl Ask {
    fn of(question: Question<'_>) -> Ask {
        let site = question.site;
        let (registry, host) = (site.registry.name.clone(), authority(&site.origin));
        let payer = Payer { registry, host, identity: question.payer };
        Ask { payer, cost: cost(question.what.kind(), question.method) }
    }
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
        let payer = Payer {
            registry: about.registry.clone(),
            host: host.into(),
            identity: about.debit.map_or(Identity::Anonymous, |debit| debit.payer),
        };
        let ask = Ask { payer, cost: cost(about.kind, request.method()) };
        let Some(debit) = about.debit else { return Ok(ask) };
        let Some(held) = self.why_held(&ask, debit.site, about.bill.aim()) else { return Ok(ask) };
        self.0.metrics.held_back(about.registry, held.word());
        debug!(registry = %about.registry, identity = ask.payer.identity.as_str(), why = held.word(), "not sent upstream");
        Err(refused(&held, &ask.payer, debit.site, self.0.clock.now()))
    }

    /// Why a question is not sent now, if it is not: somebody else may be asked at once.
    pub(super) fn held_back(&self, question: Question<'_>) -> Option<Error> {
        let (ask, site) = (Ask::of(question), question.site);
        let held = self.why_held(&ask, site, question.asker.bill.aim())?;
        self.0.metrics.held_back(&site.registry.name, held.word());
        Some(refused(&held, &ask.payer, site, self.0.clock.now()))
    }

    /// The same of what was just answered 429.
    pub(super) fn held(&self, question: Question<'_>) -> Option<Error> {
        let ask = Ask::of(question);
        let held = self.why_held(&ask, question.site, question.asker.bill.aim())?;
        Some(refused(&held, &ask.payer, question.site, self.0.clock.now()))
    }

    fn why_held(&self, ask: &Ask, site: &Site, aim: Aim) -> Option<Held> {
        let (ledger, now) = (&self.0.ledger, self.0.clock.now());
        let mut limits = [Limit::Abuse, Limit::Pulls].into_iter().filter(|limit| limit.holds(ask.cost));
        if let Some(standing) = limits.find_map(|limit| ledger.standing(&ask.payer, limit, now)) {
            return Some(Held::Standing(standing));
        }
        let reserve = site.registry.reserve;
        // A client's own quota is its own.
        if reserve == 0 || ask.cost == Cost::Free || matches!(ask.payer.identity, Identity::Client(_)) {
            return None;
        }
        ledger.figures(&ask.payer).filter(|figures| !may_spend(figures, reserve, aim, now)).map(Held::Reserved)
    }

    /// Writes down what a reply says of quota.
    pub(super) fn keep_books(&self, about: About<'_>, ask: &Ask, response: &Response<Incoming>) {
        let (ledger, now, payer) = (&self.0.ledger, self.0.clock.now(), &ask.payer);
        let said = RateLimit::of(response.headers());
        let refused = response.status() == StatusCode::TOO_MANY_REQUESTS;
        // The same names mean another limit on token hosts (protocol 1.3: auth.docker.io).
        if about.kind == route::Kind::Token {
            if let Some(said) = &said {
                ledger.record_tokens(payer, said, now);
            }
            if refused {
                self.write_refusal(payer, Limit::Tokens, response.headers());
            }
            return;
        }
        let Some(debit) = about.debit else { return };
        if let Some(said) = said.as_ref().filter(|_| about.kind == route::Kind::Manifest) {
            let source = said.source.as_deref().unwrap_or(payer.identity.as_str());
            self.0.metrics.rate_limit(about.registry, source, said.limit, said.remaining, said.window);
            ledger.record(payer, said, now);
            if ask.cost == Cost::Counted && response.status() == StatusCode::OK {
                about.bill.add_charge();
                self.0.metrics.charged(about.registry);
                ledger.charged(about.registry, debit.repository.as_str());
            }
        }
        if refused {
            let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            self.write_refusal(
                payer,
                limit_of(ask.cost, content_type.unwrap_or_default(), said.as_ref()),
                response.headers(),
            );
        }
    }

    fn write_refusal(&self, payer: &Payer, limit: Limit, headers: &HeaderMap) {
        let now = self.0.clock.now();
        self.0.metrics.limited(&payer.registry, limit.as_str());
        self.0.ledger.limited(payer, limit, source(headers).as_deref(), retry_after(headers, now), now);
    }
}

fn cost(kind: route::Kind, method: &Method) -> Cost {
    if kind == route::Kind::Manifest && method == Method::GET { Cost::Counted } else { Cost::Free }
}

/// As a request's URL has it.
fn authority(origin: &Origin) -> Arc<str> {
    origin.to_string().split_once("://").map_or("", |(_, authority)| authority).into()
}

fn refused(held: &Held, payer: &Payer, site: &Site, now: SystemTime) -> Error {
    let (registry, until) = (&site.registry.name, until(held, now));
    // Rounded up: who comes then is not sent away again.
    let wait = (until.duration_since(now).unwrap_or_default() + Duration::from_millis(999)).as_secs().max(1);
    let when = format!("{} (in {})", humantime::format_rfc3339_seconds(until), roughly(wait));
    let advice = advice(payer.identity, site);
    let message = match held {
        Held::Reserved(figures) => format!(
            "{} of {} pulls are left at {registry} until {when}, and the last {} are for what is asked for by digest: \
             wait, or {advice}",
            figures.remaining, figures.limit, site.registry.reserve
        ),
        Held::Standing(standing) if standing.limit == Limit::Abuse => {
            let whom = whom(payer.identity, standing);
            format!("{registry} wants no requests{whom} until {when}: wait; it had too many at once")
        }
        Held::Standing(standing) => {
            let (whom, quota) = (whom(payer.identity, standing), standing.allowed.map(allowance).unwrap_or_default());
            format!("{registry} allows no more pulls{whom}{quota} until {when}: wait, or {advice}")
        }
    };
    let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from(wait))]);
    Error::replied(Kind::Limited, message, Reply { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Bytes::new() })
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
fn advice(identity: Identity, site: &Site) -> &'static str {
    match identity {
        Identity::Client(_) => "use another account",
        _ if site.registry.account.is_some() => {
            "have its operator give seawall an account with a larger quota, or a mirror (upstreams)"
        }
        _ => "have its operator give seawall an account there (username and password_file), or a mirror (upstreams)",
    }
}
