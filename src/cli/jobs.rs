//! Work that a running seawall does, looked after until it ends.

use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::api::Api;
use crate::operate::jobs::{Job, State};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// Begins what is asked for there, or joins who did, and gives its report.
///
/// # Errors
/// It came to nothing, or somebody ended it.
pub(super) fn done<T: DeserializeOwned>(api: &Api, path: &str) -> anyhow::Result<T> {
    let mut job: Job = api.post(path, &json!({}))?;
    let progress = progress(job.total_bytes);
    while job.state == State::Running {
        std::thread::sleep(EVERY);
        job = api.get(&format!("/api/v1/jobs/{}", job.id))?;
        progress.set_position(job.done_bytes);
    }
    progress.finish_and_clear();
    match job.state {
        State::Done => {
            let report = job.report.context("there is no report")?;
            Ok(serde_json::from_value(report)?)
        }
        State::Failed => bail!("{}", job.error.unwrap_or_default()),
        State::Running | State::Stopped => bail!("somebody ended it"),
    }
}

/// On a terminal alone.
pub(super) fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left");
    let progress = ProgressBar::new(bytes).with_style(style.expect("a template without faults"));
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}
