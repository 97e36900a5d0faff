//! Registries: which answer, where they are asked, what they allow.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::frame::{Frame, page};
use super::overview::Away;
use super::place::{Pages, Place, SaidIn};
use super::words::{ago, until};
use crate::admin::reply;
use crate::ledger::{Account, Identity, Pulls, Report};
use crate::operate::status::Status;
use crate::policy::quota::{Figures, Limit};
use crate::policy::registry::Registry;

#[derive(askama::Template)]
#[template(path = "upstreams.html", config = "src/admin/page/askama.toml")]
struct Upstreams {
    frame: Frame,
    registries: Vec<Row>,
    books: Vec<Book>,
}

/// A registry.
struct Row {
    name: String,
    away: Vec<Away>,
    limits: Vec<String>,
    sources: String,
    charged: u64,
    spared: u64,
}

/// What one of them said of a quota.
struct Book {
    registry: String,
    who: &'static str,
    remaining: u64,
    limit: u64,
    source: String,
    seen: String,
    until: String,
}

/// Quotas that are shown: each client has one.
const MOST: usize = 200;

pub(super) async fn upstreams(State(pages): State<Pages>, place: Place, said: SaidIn) -> Response {
    let Some(sources) = pages.desk.sources.get() else { return reply::starting() };
    let (now, status) = (pages.desk.clock.now(), sources.status());
    let report = pages.ledger.report(now);
    let registries = sources.registries.iter().map(|registry| Row::of(registry, &status, &report, now)).collect();
    let mut quotas: Vec<_> = report.quotas.iter().filter(|(_, figures)| figures.hold(now)).collect();
    quotas.sort_by_key(|(account, figures)| (is_clients(account.owner.identity), figures.remaining));
    let books = quotas.into_iter().take(MOST).map(|(account, figures)| Book::of(account, figures, now)).collect();
    let frame = pages.frame_of("/upstreams", &place, said.words());
    page(StatusCode::OK, &Upstreams { frame, registries, books })
}

impl Row {
    fn of(registry: &Registry, status: &Status, report: &Report, now: SystemTime) -> Row {
        let name = &*registry.name;
        let pulls = report.pulls.iter().find(|(of, ..)| **of == *name).map_or(Pulls::default(), |(_, pulls, _)| *pulls);
        let stand = report.standing.iter().filter(|(owner, _)| *owner.registry == *name && !is_clients(owner.identity));
        let limits = stand.map(|(owner, standing)| {
            let (what, end) = (what_is_limited(standing.limit), until(standing.until, now));
            format!("{what} of {} until {end}", whose(owner.identity))
        });
        Row {
            name: name.to_owned(),
            away: status
                .unreachable
                .iter()
                .filter(|host| host.registry == name)
                .map(|host| Away::of(host, now))
                .collect(),
            limits: limits.collect(),
            sources: registry.asked_at(|_| "of the operator's".to_owned()).join(", "),
            charged: pulls.charged,
            spared: pulls.spared,
        }
    }
}

impl Book {
    fn of(account: &Account, figures: &Figures, now: SystemTime) -> Book {
        Book {
            registry: account.owner.registry.to_string(),
            who: whose(account.owner.identity),
            remaining: figures.remaining,
            limit: figures.limit,
            source: account.source.to_string(),
            seen: ago(figures.at, now),
            until: figures.forecast(now).free_at.map_or_else(String::new, |at| until(at, now)),
        }
    }
}

fn is_clients(identity: Identity) -> bool {
    matches!(identity, Identity::Client(_))
}

fn whose(identity: Identity) -> &'static str {
    match identity {
        Identity::Anonymous => "anonymous",
        Identity::Account => "the account",
        Identity::Client(_) => "a client",
    }
}

fn what_is_limited(limit: Limit) -> &'static str {
    match limit {
        Limit::Pulls => "no more pulls",
        Limit::Abuse => "no more requests",
        Limit::Tokens => "no more tokens",
    }
}
