//! `/api/v1/statistics` and `/api/v1/top`: what was counted, and who pulls most.
//!
//! ```json
//! { "span": "24h", "step_seconds": 60,
//!   "fields": ["at", "hit", "revalidated", "miss", "collapsed", "stale", "bypass", "served_cache_bytes", …],
//!   "points": [["2026-12-01T09:12:00Z", 12, 0, 1, 0, 0, 0, 48234496, …], …] }
//! ```
//! ```json
//! { "images": [ { "name": "docker.io/library/alpine", "pulls": 340, "pulls_at_least": 338, "bytes": 48234496 } ],
//!   "clients": [ { "name": "10.0.3.17", … as in images } ] }
//! ```
//!
//! - A point is a step of the wall clock, the oldest first; `at` is when it began, and the last is not
//!   over. A step in which seawall did not run, or the machine slept, is zeros.
//! - `fields`: those of [`Figure`].
//! - `pulls`: manifests in the last 20 to 24 hours, since the start at most. Of names without end only
//!   some have a counter: `pulls_at_least` is what is certain.
//!
//! Names of private repositories are among them, as in `/api/v1/images`. A name is a repository's or
//! an address: no path, no query, no credential.

use std::sync::{Arc, OnceLock};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::reply;
use crate::operate::history::History;
use crate::operate::status::Sources;
use crate::policy::series::{Figure, Span};
use crate::policy::top::Counted;

/// Of each list.
const MOST: usize = 50;

/// What is shown, once it serves.
type Shown = State<Arc<OnceLock<Sources>>>;

pub(super) async fn points(State(shown): Shown, RawQuery(query): RawQuery) -> Response {
    let Some(sources) = shown.get() else { return reply::starting() };
    match span(query.as_deref().unwrap_or_default()) {
        // A number a line would be 27,000 lines.
        Some(span) => {
            reply::typed(StatusCode::OK, "application/json", format!("{}\n", json_of(&sources.history, span)))
        }
        None => reply::text(StatusCode::BAD_REQUEST, "`span` is 24h or 30d, and nothing else is asked here\n"),
    }
}

pub(super) async fn top(State(shown): Shown) -> Response {
    let Some(sources) = shown.get() else { return reply::starting() };
    let leaders = sources.history.leaders(MOST);
    let named = |all: &[Counted]| all.iter().map(counted).collect::<Vec<_>>();
    let body = json!({ "images": named(&leaders.images), "clients": named(&leaders.clients) });
    reply::json(StatusCode::OK, &body)
}

/// `None`: the query says something else.
fn span(query: &str) -> Option<Span> {
    let mut asked = Span::Day;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let named = part.strip_prefix("span=")?;
        asked = Span::ALL.into_iter().find(|span| span.as_str() == named)?;
    }
    Some(asked)
}

fn json_of(history: &History, span: Span) -> Value {
    let points = history.points(span, span.length()).into_iter().map(|(at, point)| {
        let at = Value::from(humantime::format_rfc3339_seconds(at).to_string());
        let values = Figure::ALL.into_iter().map(|figure| point.get(figure).into());
        Value::Array(std::iter::once(at).chain(values).collect())
    });
    let fields = std::iter::once("at").chain(Figure::ALL.map(Figure::as_str));
    json!({
        "span": span.as_str(),
        "step_seconds": span.step(),
        "fields": fields.collect::<Vec<_>>(),
        "points": points.collect::<Vec<_>>(),
    })
}

fn counted(it: &Counted) -> Value {
    json!({
        "name": &*it.name,
        "pulls": it.pulls,
        "pulls_at_least": it.pulls.saturating_sub(it.over),
        "bytes": it.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::http::cache_status::Outcome;
    use crate::metrics::Metrics;
    use crate::records::Journal;

    #[test]
    fn what_is_asked_for() {
        for (query, asked) in [
            ("", Some(Span::Day)),
            ("span=24h", Some(Span::Day)),
            ("span=30d", Some(Span::Month)),
            ("span=", None),
            ("span=7d", None),
            ("from=24h", None),
            ("span=30d&x=1", None),
        ] {
            assert_eq!(span(query), asked, "{query:?}");
        }
    }

    #[test]
    fn a_point_has_a_value_for_each_field() {
        let metrics = Metrics::new();
        let history = History::new(&metrics, &Clock::system(), &Journal::off(), &[]);
        metrics.totals().pulled(Outcome::Miss);
        for span in Span::ALL {
            let body = json_of(&history, span);
            let (fields, points) = (body["fields"].as_array().unwrap(), body["points"].as_array().unwrap());
            assert_eq!((points.len(), &body["span"]), (span.length(), &span.as_str().into()));
            assert!(points.iter().all(|point| point.as_array().unwrap().len() == fields.len()));
            let miss = fields.iter().position(|field| field == "miss").unwrap();
            let last = &points[points.len() - 1];
            assert_eq!(last[miss], 1);
            assert!(last[0].as_str().unwrap().ends_with(":00Z"), "{last}");
        }
    }
}
