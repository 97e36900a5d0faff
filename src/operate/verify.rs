//! Hashes everything in a cache: beside what a seawall serves, as a job, or in a data directory in which none
//! runs.

use serde::Serialize;
use serde_json::json;

use super::jobs::{Job, Jobs, Kind};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::oci::digest::Digest;
use crate::store::verification::Step;
use crate::store::{Store, is_missing};
use crate::task::Tasks;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Bytes of them that were hashed.
    pub bytes: u64,
    /// Files that had another digest than their name. They were moved away, and are fetched again when
    /// they are wanted.
    pub healed: Vec<Finding>,
    /// Files that could not be read, or not be moved away.
    pub failed: Vec<Finding>,
}

/// A blob with which something is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Its digest.
    pub digest: String,
    /// What that is, for people.
    pub why: String,
}

impl Finding {
    fn new(digest: &Digest, why: impl ToString) -> Finding {
        Finding { digest: digest.to_string(), why: why.to_string() }
    }
}

/// Begins to hash everything that is in a cache. Its report is a [`Pass`](crate::cache::Pass).
///
/// # Errors
/// That is being done: it is that job.
pub fn begin(cache: Cache, jobs: &Jobs, tasks: &Tasks, clock: Clock) -> Result<Job, Box<Job>> {
    let (job, running) = jobs.begin(Kind::Verify, cache.fullness().bytes, clock.now())?;
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let verified = tokio::select! {
            pass = cache.verify(|pass| running.advance(pass.bytes)) => pass,
            () = running.stopped() => return,
            () = stopping.stopping() => return,
        };
        running.finish(Ok(json!(verified)), clock.now());
    });
    Ok(job)
}

/// Hashes these blobs, and moves away what is none any more. `hashed`: bytes, as they are. Blocks.
pub fn everything(store: &Store, names: &[Digest], mut hashed: impl FnMut(u64)) -> Report {
    let mut report = Report::default();
    names.iter().for_each(|digest| report.verify(store, digest, &mut hashed));
    report
}

impl Report {
    fn verify(&mut self, store: &Store, digest: &Digest, hashed: &mut impl FnMut(u64)) {
        let opened = store.verification(digest);
        if opened.as_ref().is_err_and(is_missing) {
            return;
        }
        self.blobs += 1;
        let mut step = match opened {
            Ok(verification) => Step::More(verification, 0),
            Err(error) => return self.failed.push(Finding::new(digest, error)),
        };
        loop {
            match step {
                Step::More(rest, bytes) => {
                    self.bytes += bytes;
                    hashed(bytes);
                    step = match rest.step() {
                        Ok(next) => next,
                        Err(error) => return self.failed.push(Finding::new(digest, error)),
                    };
                }
                Step::Right(bytes) => {
                    self.bytes += bytes;
                    return hashed(bytes);
                }
                Step::Gone => return self.blobs -= 1,
                // The disk may be away, and the blob be right.
                Step::Rotten(rot) if rot.is_unreadable => return self.failed.push(Finding::new(digest, rot.why)),
                Step::Rotten(rot) => {
                    return match store.set_aside(digest) {
                        Ok(aside) => self.healed.push(Finding::new(digest, format!("{}, {}", rot.why, aside.as_str()))),
                        Err(error) => self.failed.push(Finding::new(digest, format!("{}; {error}", rot.why))),
                    };
                }
            }
        }
    }
}
