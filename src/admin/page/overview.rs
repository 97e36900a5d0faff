//! Whether it works, whether it is worth it, how long it lasts, what goes on.

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::frame::{Frame, page};
use super::line::Line;
use super::place::{Pages, Place, SaidIn};
use super::words::{exactly, percent, size, span, told_ago, until};
use crate::admin::reply;
use crate::ledger::Identity;
use crate::operate::history::History;
use crate::operate::jobs::{Job, State as JobState};
use crate::operate::status::{self, Sources, Status};
use crate::operate::traffic::{Amount, HitShare};
use crate::policy::series::{Figure, Span};
use crate::policy::top::Counted;

/// Repositories that are shown.
const TOP: usize = 5;

/// The first page.
#[derive(askama::Template)]
#[template(path = "overview.html", config = "src/admin/page/askama.toml")]
struct Overview {
    frame: Frame,
    verdict: Vec<Said>,
    spared: String,
    spared_exactly: String,
    spared_in_month: String,
    charged: u64,
    shares: String,
    lines: Vec<(&'static str, Line)>,
    top: Vec<Pulled>,
    bytes: String,
    bytes_exactly: String,
    max_bytes: String,
    percent: u64,
    blobs: u64,
    oldest: Option<String>,
    quotas: Vec<Gauge>,
    away: Vec<Away>,
    fills: Vec<Fill>,
    ca_end: String,
    fingerprint: String,
    up: String,
    listeners: String,
}

/// What comes.
#[derive(askama::Template)]
#[template(path = "live.html", config = "src/admin/page/askama.toml")]
struct Live {
    frame: Frame,
    fills: Vec<Fill>,
    job: Option<Work>,
}

/// A repository that was pulled much.
struct Pulled {
    name: String,
    pulls: u64,
    bytes: String,
}

/// A sentence of the verdict.
struct Said {
    level: String,
    symbol: String,
    text: String,
    link: Option<&'static str>,
}

/// A quota that holds now.
struct Gauge {
    registry: String,
    who: &'static str,
    remaining: u64,
    limit: u64,
    low: u64,
    end: Option<String>,
}

/// A host that does not answer.
pub(super) struct Away {
    pub(super) registry: String,
    pub(super) host: String,
    pub(super) since: String,
    pub(super) why: String,
}

/// A blob on its way.
struct Fill {
    repository: String,
    digest: String,
    short: String,
    bytes: String,
    percent: Option<u64>,
    total: String,
    took: String,
    readers: usize,
}

/// What was asked for last.
struct Work {
    state: &'static str,
    done: String,
    total: String,
    found: Option<String>,
}

pub(super) async fn overview(State(pages): State<Pages>, place: Place, said: SaidIn) -> Response {
    let Some(sources) = pages.desk.sources.get() else { return reply::starting() };
    let frame = pages.frame_of("/", &place, said.words());
    page(StatusCode::OK, &shown(frame, &pages, sources))
}

pub(super) async fn live(State(pages): State<Pages>, place: Place, said: SaidIn) -> Response {
    let Some(sources) = pages.desk.sources.get() else { return reply::starting() };
    let fills = sources.status().fills.iter().map(Fill::of).collect();
    let job = pages.desk.jobs.list().first().map(Work::of);
    page(StatusCode::OK, &Live { frame: pages.frame_of("/live", &place, said.words()), fills, job })
}

fn shown(frame: Frame, pages: &Pages, sources: &Sources) -> Overview {
    let (now, status) = (pages.desk.clock.now(), sources.status());
    let Status { cache, pulls, traffic, .. } = &status;
    Overview {
        frame,
        verdict: status.verdict.iter().map(Said::of).collect(),
        spared: amount(&traffic.spared.today),
        spared_exactly: exactly(traffic.spared.today.pulls, "manifest requests that no registry counted"),
        spared_in_month: amount(&traffic.spared.month),
        shares: shares(&traffic.hit_share.day),
        lines: lines(&sources.history),
        top: sources.history.leaders(TOP).images.iter().map(Pulled::of).collect(),
        charged: pulls.charged,
        bytes: size(cache.bytes),
        bytes_exactly: exactly(cache.bytes, "bytes"),
        max_bytes: size(cache.max_bytes),
        percent: percent(cache.bytes, cache.max_bytes),
        blobs: cache.blobs,
        oldest: cache.oldest_used_at.as_deref().map(|at| told_ago(Some(at), now)),
        quotas: gauges(pages, now),
        away: status.unreachable.iter().map(|host| Away::of(host, now)).collect(),
        fills: status.fills.iter().map(Fill::of).collect(),
        ca_end: status.certificate_authority.not_after[..10].to_owned(),
        fingerprint: status.certificate_authority.fingerprint_sha256.clone(),
        up: span(Duration::from_secs(status.uptime_seconds)),
        listeners: status.listeners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// A client's own quota is not shown: there may be many.
fn gauges(pages: &Pages, now: SystemTime) -> Vec<Gauge> {
    let quotas = pages.ledger.report(now).quotas;
    let own = quotas
        .into_iter()
        .filter(|(account, figures)| !matches!(account.owner.identity, Identity::Client(_)) && figures.hold(now));
    own.map(|(account, figures)| Gauge {
        registry: account.owner.registry.to_string(),
        who: if account.owner.identity == Identity::Account { "its account" } else { "" },
        remaining: figures.remaining,
        limit: figures.limit,
        low: figures.limit / 10,
        end: figures.forecast(now).free_at.map(|at| format!("all again at {}", until(at, now))),
    })
    .collect()
}

/// What is drawn of the last day.
fn lines(history: &History) -> Vec<(&'static str, Line)> {
    let line = |figure, what: fn(u64) -> String| Line::of(&history.series(Span::Day, figure).values, what);
    vec![
        ("Manifest requests that no registry counted", line(Figure::Spared, |count| exactly(count, "requests"))),
        ("Bytes from here", line(Figure::ServedCacheBytes, size)),
        ("Bytes from upstream", line(Figure::UpstreamBytes, size)),
    ]
}

fn amount(amount: &Amount) -> String {
    format!("{} pulls, {}", amount.pulls, size(amount.bytes))
}

fn shares(share: &HitShare) -> String {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.0} %", (share * 100.0).floor()));
    match (percent(share.requests), percent(share.bytes)) {
        (Some(requests), Some(bytes)) => format!("{requests} of pulls and {bytes} of bytes were here"),
        (Some(requests), None) => format!("{requests} of pulls were here"),
        (None, _) => "nothing was pulled".to_owned(),
    }
}

impl Said {
    fn of(sentence: &status::Sentence) -> Said {
        let status::Sentence { level, symbol, text } = sentence;
        let link = (text.contains("quota") || text.contains("pulls left")).then_some("/upstreams#quota");
        let link = link.or(text.contains("does not answer").then_some("/upstreams"));
        Said { level: level.clone(), symbol: symbol.clone(), text: text.clone(), link }
    }
}

impl Pulled {
    fn of(counted: &Counted) -> Pulled {
        Pulled { name: counted.name.to_string(), pulls: counted.pulls, bytes: size(counted.bytes) }
    }
}

impl Away {
    pub(super) fn of(host: &status::Unreachable, now: SystemTime) -> Away {
        let since = humantime::parse_rfc3339(&host.since).map_or_else(|_| String::new(), |at| until(at, now));
        let (registry, why) = (host.registry.clone(), host.why.clone());
        Away { registry, host: host.host.clone(), since: format!("since {since}"), why }
    }
}

impl Fill {
    fn of(fill: &status::Fill) -> Fill {
        Fill {
            repository: fill.repository.clone(),
            short: fill.digest.chars().take("sha256:".len() + 12).collect(),
            digest: fill.digest.clone(),
            bytes: size(fill.bytes),
            percent: fill.total_bytes.map(|total| percent(fill.bytes, total)),
            total: fill.total_bytes.map_or_else(|| "?".to_owned(), size),
            took: span(Duration::from_secs(fill.seconds)),
            readers: fill.readers,
        }
    }
}

impl Work {
    fn of(job: &Job) -> Work {
        let state = match job.state {
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Stopped => "ended by somebody",
        };
        let count = |name: &str| job.report.as_ref().and_then(|report| report.get(name)?.as_u64());
        let found = count("blobs").zip(count("rotten")).map(|(blobs, rotten)| match rotten {
            0 => format!("All {blobs} blobs are right"),
            rotten => format!("{rotten} of {blobs} blobs were damaged, and are fetched again when they are wanted"),
        });
        Work { state, done: size(job.done_bytes), total: size(job.total_bytes), found }
    }
}
