//! What is here is hashed again, now and then. A disk may change bytes, and every client of such a blob
//! would fail until a person finds its file.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{info, warn};

use super::get::Cache;
use super::parts::Parts;
use crate::clock::jitter;
use crate::oci::digest::Digest;
use crate::store::is_missing;
use crate::store::slab::Slot;
use crate::store::verification::{Rot, Step};
use crate::task;

/// Bytes a second at least, where there is little: it is done sooner.
const SLOWEST: u64 = 1 << 20;
/// Blobs that are listed at once.
const LISTED: usize = 64;
/// What cannot be read is read once more after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// Bytes a second, where a person waits for it: half of what a disk of today gives.
const ASKED_FOR: u64 = 128 << 20;
/// Between two looks at a cache without a blob.
const EMPTY: Duration = Duration::from_secs(60);

/// How fast bytes are read.
struct Rate {
    /// Bytes a second.
    rate: u64,
    due: Instant,
}

impl Rate {
    /// All of them in this time.
    fn of(bytes: u64, period: Duration) -> Rate {
        let rate = bytes as f64 / period.as_secs_f64().max(0.001);
        Rate::at((rate as u64).max(SLOWEST))
    }

    fn at(rate: u64) -> Rate {
        Rate { rate, due: Instant::now() }
    }

    /// Waits as long as so many bytes take. What took longer by itself is not made up for.
    async fn take(&mut self, bytes: u64) {
        let took = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.due = self.due.max(Instant::now()) + took;
        tokio::time::sleep_until(self.due).await;
    }
}

/// What a pass showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Blobs that were looked at.
    pub blobs: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Those that the disk had changed: they were moved away, and are fetched again when they are wanted.
    pub rotten: u64,
    /// Those that could not be read.
    pub unreadable: u64,
}

impl Cache {
    /// Hashes everything that is here once in `period`, again and again, until it is to stop.
    pub async fn keep_verified(self, period: Duration) {
        let parts = self.0.parts.clone();
        let verifying = async {
            loop {
                let (began, bytes) = (Instant::now(), parts.index.size().0);
                let pass = parts.verify_all(Rate::of(bytes, period), |_| {}).await;
                let Pass { blobs, bytes, rotten, unreadable } = pass;
                if blobs > 0 {
                    info!(blobs, bytes, rotten, unreadable, "all of the cache was hashed again");
                }
                tokio::time::sleep_until((began + period).max(Instant::now() + EMPTY.min(period))).await;
            }
        };
        tokio::select! {
            () = verifying => {}
            () = parts.tasks.stopping() => {}
        }
    }
}

impl Cache {
    /// Hashes everything that is here now, beside what is served. `advanced` is told how far it is.
    pub async fn verify(&self, advanced: impl Fn(&Pass)) -> Pass {
        self.0.parts.verify_all(Rate::at(ASKED_FOR), advanced).await
    }
}

impl Parts {
    /// Begins anywhere: a process that is often started again comes to everything, too.
    async fn verify_all(&self, mut rate: Rate, advanced: impl Fn(&Pass)) -> Pass {
        let facts = self.index.facts();
        let first = (self.index.size().1 as f64 * jitter()) as Slot;
        let mut pass = Pass::default();
        for (mut next, until) in [(first, Slot::MAX), (0, first)] {
            while let Some((some, after)) = facts.from(next, LISTED).filter(|_| next < until) {
                for (_, digest, _) in some.iter().filter(|(slot, ..)| *slot < until) {
                    self.verify(digest, &mut rate, &mut pass).await;
                    advanced(&pass);
                }
                next = after;
            }
        }
        pass
    }

    async fn verify(&self, digest: &Digest, rate: &mut Rate, pass: &mut Pass) {
        pass.blobs += 1;
        let Some(mut rot) = self.hash(digest, rate, pass).await else { return };
        if rot.is_unreadable {
            pass.unreadable += 1;
            if pass.unreadable > 1 {
                // A disk that gives nothing back would take all of the cache along.
                return warn!(%digest, why = rot.why, "one more cached blob cannot be read: look at the disk");
            }
            // A disk that comes back has damaged nothing.
            tokio::time::sleep(AGAIN).await;
            match self.hash(digest, rate, pass).await {
                Some(again) => rot = again,
                None => return,
            }
        }
        let (sweep, digest) = (self.sweep.clone(), digest.clone());
        if task::blocking_beside(move || sweep.set_aside(&digest, &rot)).await {
            pass.rotten += 1;
            self.metrics.rotten();
        }
    }

    /// What is wrong with a blob, if something is.
    async fn hash(&self, digest: &Digest, rate: &mut Rate, pass: &mut Pass) -> Option<Rot> {
        let (store, opened) = (self.store.clone(), digest.clone());
        let opened = task::blocking_beside(move || store.verification(&opened)).await;
        let mut step = opened.map(|verification| Step::More(verification, 0));
        loop {
            let (rest, bytes) = match step {
                Ok(Step::More(rest, bytes)) => (Some(rest), bytes),
                Ok(Step::Right(bytes)) => (None, bytes),
                Ok(Step::Rotten(rot)) => return Some(rot),
                Ok(Step::Gone) => return None,
                Err(error) => {
                    if let Some(rot) = Rot::of(&error) {
                        return Some(rot);
                    }
                    // Else it was evicted just now, or its file was removed, which others look for.
                    if !is_missing(&error) {
                        warn!(%digest, %error, "a cached blob cannot be read");
                    }
                    return None;
                }
            };
            pass.bytes += bytes;
            self.metrics.verified(bytes);
            rate.take(bytes).await;
            let rest = rest?;
            step = task::blocking_beside(move || rest.step()).await;
        }
    }
}
