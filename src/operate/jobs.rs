//! Work that takes longer than an answer: it is begun, looked after, and ended by whoever may.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::times::rfc3339;

/// Jobs that are remembered, those that run among them.
const MOST: usize = 64;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Everything on disk is hashed.
    Verify,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On its way.
    Running,
    /// Done: there is a report.
    Done,
    /// It came to nothing.
    Failed,
    /// Somebody ended it.
    Stopped,
}

/// One of them. Times are RFC 3339, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number, since the start of this process.
    pub id: u64,
    /// What is done.
    pub kind: Kind,
    /// How far it is.
    pub state: State,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Of so many.
    pub total_bytes: u64,
    /// What came of it.
    pub report: Option<Value>,
    /// Why nothing did.
    pub error: Option<String>,
}

/// All of them. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Jobs(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    last: u64,
    jobs: VecDeque<(Job, CancellationToken)>,
}

/// One that runs. Dropped unfinished it has failed.
#[derive(Debug)]
pub struct Running {
    jobs: Jobs,
    id: u64,
    stop: CancellationToken,
}

impl Jobs {
    /// Begins one.
    ///
    /// # Errors
    /// One of this kind runs: it is that.
    pub fn begin(&self, kind: Kind, total_bytes: u64, now: SystemTime) -> Result<(Job, Running), Box<Job>> {
        let mut list = self.0.lock();
        let running = |(job, _): &&(Job, _)| job.kind == kind && job.state == State::Running;
        if let Some((job, _)) = list.jobs.iter().find(running) {
            return Err(Box::new(job.clone()));
        }
        list.last += 1;
        let (id, stop) = (list.last, CancellationToken::new());
        let job = Job {
            id,
            kind,
            state: State::Running,
            started_at: rfc3339(now),
            ended_at: None,
            done_bytes: 0,
            total_bytes,
            report: None,
            error: None,
        };
        list.jobs.push_back((job.clone(), stop.clone()));
        // There is one of a kind that runs, and there are fewer kinds than are remembered.
        if list.jobs.len() > MOST
            && let Some(oldest) = list.jobs.iter().position(|(job, _)| job.state != State::Running)
        {
            list.jobs.remove(oldest);
        }
        Ok((job, Running { jobs: self.clone(), id, stop }))
    }

    /// All that are remembered, the newest first.
    pub fn list(&self) -> Vec<Job> {
        self.0.lock().jobs.iter().rev().map(|(job, _)| job.clone()).collect()
    }

    /// One of them.
    pub fn find(&self, id: u64) -> Option<Job> {
        self.0.lock().jobs.iter().find(|(job, _)| job.id == id).map(|(job, _)| job.clone())
    }

    /// Ends one that runs; what it has done stays done. `None`: there is no such job.
    pub fn stop(&self, id: u64, now: SystemTime) -> Option<Job> {
        if let Some((_, stop)) = self.0.lock().jobs.iter().find(|(job, _)| job.id == id) {
            stop.cancel();
        }
        self.end(id, State::Stopped, now, |_| {});
        self.find(id)
    }

    fn end(&self, id: u64, state: State, now: SystemTime, how: impl FnOnce(&mut Job)) {
        self.change(id, |job| {
            job.state = state;
            job.ended_at = Some(rfc3339(now));
            how(job);
        });
    }

    /// Of a job that has ended nothing changes.
    fn change(&self, id: u64, change: impl FnOnce(&mut Job)) {
        let mut list = self.0.lock();
        let running = |(job, _): &&mut (Job, _)| job.id == id && job.state == State::Running;
        if let Some((job, _)) = list.jobs.iter_mut().find(running) {
            change(job);
        }
    }
}

impl Running {
    /// Resolves when somebody ends it.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// So many bytes are done.
    pub fn advance(&self, done_bytes: u64) {
        self.jobs.change(self.id, |job| job.done_bytes = done_bytes);
    }

    /// It is done, or cannot be.
    pub fn finish(self, result: Result<Value, String>, now: SystemTime) {
        match result {
            Ok(report) => self.jobs.end(self.id, State::Done, now, |job| job.report = Some(report)),
            Err(error) => self.jobs.end(self.id, State::Failed, now, |job| job.error = Some(error)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.change(self.id, |job| {
            job.state = State::Failed;
            job.error = Some("it was broken off".to_owned());
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn one_of_a_kind_and_its_end() {
        let jobs = Jobs::default();
        let (job, running) = jobs.begin(Kind::Verify, 100, at(0)).unwrap();
        assert_eq!((job.id, job.state, job.total_bytes), (1, State::Running, 100));
        assert_eq!(jobs.begin(Kind::Verify, 1, at(1)).unwrap_err().id, 1);
        running.advance(40);
        assert_eq!(jobs.find(1).unwrap().done_bytes, 40);
        running.finish(Ok(json!({ "blobs": 3 })), at(2));
        let done = jobs.find(1).unwrap();
        assert_eq!((done.state, done.report), (State::Done, Some(json!({ "blobs": 3 }))));
        assert_eq!(done.ended_at.as_deref(), Some("2027-01-15T08:00:02Z"));
        assert_eq!(jobs.stop(1, at(3)).unwrap().state, State::Done, "what has ended stays so");
        assert_eq!((jobs.find(2), jobs.stop(2, at(3))), (None, None));
    }

    #[tokio::test]
    async fn who_ends_it() {
        let jobs = Jobs::default();
        let (_, running) = jobs.begin(Kind::Verify, 1, at(0)).unwrap();
        assert_eq!(jobs.stop(1, at(1)).unwrap().state, State::Stopped);
        running.stopped().await;
        running.finish(Ok(json!({})), at(2));
        assert_eq!(jobs.find(1).unwrap().state, State::Stopped);
        drop(jobs.begin(Kind::Verify, 1, at(3)).unwrap().1);
        let broken = jobs.find(2).unwrap();
        assert!(broken.state == State::Failed && broken.error.is_some());
    }

    #[test]
    fn the_last_are_remembered() {
        let jobs = Jobs::default();
        for _ in 0..3 * MOST {
            jobs.begin(Kind::Verify, 1, at(0)).unwrap().1.finish(Ok(json!({})), at(0));
        }
        let (kept, newest) = (jobs.list(), 3 * MOST as u64);
        assert_eq!((kept.len(), kept[0].id, kept[MOST - 1].id), (MOST, newest, newest - MOST as u64 + 1));
    }
}
