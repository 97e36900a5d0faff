//! `/api/v1/jobs`: work that takes longer than an answer.
//!
//! ```text
//! POST   /api/v1/verify     202 and the job; the one that runs, if one does
//! GET    /api/v1/jobs       those that run, and the last that ended, the newest first
//! GET    /api/v1/jobs/ID    one
//! DELETE /api/v1/jobs/ID    ends it
//! ```

use std::sync::{Arc, OnceLock};

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::reply;
use crate::clock::Clock;
use crate::operate::jobs::{Job, Jobs};
use crate::operate::status::Sources;
use crate::operate::verify;
use crate::task::Tasks;

/// Where work is asked for. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    /// What it is done to, once that is loaded.
    pub(super) sources: Arc<OnceLock<Sources>>,
    pub(super) jobs: Jobs,
    pub(super) tasks: Tasks,
    pub(super) clock: Clock,
}

pub(super) async fn verify(State(desk): State<Desk>) -> Response {
    let Some(sources) = desk.sources.get() else { return reply::starting() };
    let begun = verify::begin(sources.cache.clone(), &desk.jobs, &desk.tasks, desk.clock.clone());
    let job = begun.unwrap_or_else(|running| *running);
    reply::json(StatusCode::ACCEPTED, &json!(job))
}

pub(super) async fn listed(State(desk): State<Desk>) -> Response {
    reply::json(StatusCode::OK, &json!({ "jobs": desk.jobs.list() }))
}

pub(super) async fn one(State(desk): State<Desk>, Path(id): Path<String>) -> Response {
    found(id.parse().ok().and_then(|id| desk.jobs.find(id)))
}

pub(super) async fn ended(State(desk): State<Desk>, Path(id): Path<String>) -> Response {
    found(id.parse().ok().and_then(|id| desk.jobs.stop(id, desk.clock.now())))
}

fn found(job: Option<Job>) -> Response {
    match job {
        Some(job) => reply::json(StatusCode::OK, &json!(job)),
        None => reply::text(StatusCode::NOT_FOUND, "there is no such job: /api/v1/jobs lists them\n"),
    }
}
