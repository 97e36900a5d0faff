//! The one place that spawns: what runs is counted, and the drain waits for it.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks and knows how many run. Clones share one count.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Nothing runs yet.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Runs `work` beside everything else.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(work)
    }

    /// Says to all that they should come to an end; see [`Tasks::stopping`].
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Resolves once [`Tasks::stop`] was called.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether [`Tasks::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until nothing runs any more. Only after [`Tasks::stop`].
    pub async fn drained(&self) {
        self.tracker.wait().await;
    }

    /// How many run now.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}

/// Runs blocking `work` (file system, hashing) on a thread of its own.
///
/// # Panics
/// Passes on a panic of `work`.
#[expect(clippy::disallowed_methods, reason = "this is the place it is kept for")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime is going away and whoever waits here with it.
        Err(_) => std::future::pending().await,
    }
}
