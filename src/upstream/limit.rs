//! Why a request is not sent though upstream could be reached, in the words of the client that
//! reads it: no pulls are left, or a limit holds.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::error::{Error, Kind, Reply};
use crate::ledger::{Identity, QuotaOwner, Standing};
use crate::policy::quota::{Figures, Limit};
use crate::policy::registry::Site;

/// Why a request is held back.
pub(super) enum Held {
    /// Upstream answered 429, and that still holds.
    Standing(Standing),
    /// The pulls that are left are reserved.
    Reserved(Figures),
}

impl Held {
    /// Its label in the metrics and the log.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Held::Standing(standing) => standing.limit.as_str(),
            Held::Reserved(_) => "reserve",
        }
    }

    /// The 429 that a client gets: what is used up, by whom, until when, and what can be done.
    pub(super) fn explained(&self, charged: &QuotaOwner, site: Option<&Site>, now: SystemTime) -> Error {
        let until = self.until(now);
        // Rounded up: a client that comes back then is not refused again.
        let wait = (until.duration_since(now).unwrap_or_default() + Duration::from_millis(999)).as_secs().max(1);
        let when = format!("{} (in {})", humantime::format_rfc3339_seconds(until), roughly(wait));
        let message = match self {
            Held::Reserved(figures) => reserved(figures, charged, site, &when),
            Held::Standing(standing) => limited(standing, charged, site, &when),
        };
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from(wait))]);
        let reply = Reply { status: StatusCode::TOO_MANY_REQUESTS, headers, body: Bytes::new() };
        let error = Error::replied(Kind::Limited, message, reply);
        match self {
            Held::Standing(standing) if standing.limit != Limit::Pulls => error,
            _ => error.because(NoPullsLeft),
        }
    }

    fn until(&self, now: SystemTime) -> SystemTime {
        match self {
            Held::Standing(standing) => standing.until,
            Held::Reserved(figures) => figures.free_at().unwrap_or(now + Duration::from_secs(60)),
        }
    }
}

fn reserved(figures: &Figures, charged: &QuotaOwner, site: Option<&Site>, when: &str) -> String {
    let (registry, advice) = (&charged.registry, advice(charged.identity, site));
    format!(
        "{} of {} pulls are left at {registry} until {when}, and the last {} are for what is asked for by digest: wait, or {advice}",
        figures.remaining,
        figures.limit,
        site.map_or(0, |site| site.registry.reserve)
    )
}

fn limited(standing: &Standing, charged: &QuotaOwner, site: Option<&Site>, when: &str) -> String {
    let (registry, advice) = (&charged.registry, advice(charged.identity, site));
    let (whom, quota) = (whom(charged.identity, standing), standing.allowed.map(allowance).unwrap_or_default());
    match standing.limit {
        Limit::Pulls => format!("{registry} allows no more pulls{whom}{quota} until {when}: wait, or {advice}"),
        Limit::Abuse => format!("{registry} accepts no requests{whom} until {when}: wait; there were too many at once"),
        Limit::Tokens => format!(
            "the token service of {registry} ({}) gives no tokens{whom} until {when}: wait; it was asked too often",
            charged.host
        ),
    }
}

/// The cause of an error about pulls that are used up: another identity may have some left.
#[derive(Debug, thiserror::Error)]
#[error("no pulls are left")]
struct NoPullsLeft;

/// Whether a 429 is for want of pulls, and not for too many requests at once.
pub fn is_for_want_of_pulls(error: &Error) -> bool {
    error.cause().is_some_and(|cause| cause.is::<NoPullsLeft>())
}

/// Seconds for a person to read: hours without seconds.
fn roughly(seconds: u64) -> humantime::FormattedDuration {
    let rounded = if seconds < 3600 { seconds } else { seconds.div_ceil(60) * 60 };
    humantime::format_duration(Duration::from_secs(rounded))
}

/// Whose quota it is, as upstream sees it. The name of the operator's account is not shown to
/// clients.
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
