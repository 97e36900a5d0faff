//! The one place that spawns: what runs is counted, and the drain waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
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

    /// The result of `work`, which goes on for `most` when nobody waits for it any more.
    ///
    /// # Panics
    /// Passes on a panic of `work`.
    pub async fn outliving<F>(&self, most: Duration, work: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (mut result, waiting) = oneshot::channel();
        let running = self.spawn(async move {
            let mut work = std::pin::pin!(work);
            let done = tokio::select! {
                done = &mut work => Some(done),
                () = result.closed() => tokio::time::timeout(most, work).await.ok(),
            };
            // Whoever waited may have left.
            let _ = done.map(|done| result.send(done));
        });
        if let Ok(done) = waiting.await {
            return done;
        }
        match running.await {
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime is shutting down, and whoever waits here with it.
            _ => std::future::pending().await,
        }
    }

    /// Says to all that they should come to an end; see [`Tasks::stopping`].
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Whether [`Tasks::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves once [`Tasks::stop`] was called.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
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

/// Threads that work on files, of a runtime that serves: more are no faster, and each keeps memory of its
/// own, which adds up.
pub const FILE_THREADS: usize = 32;

/// Threads for what may last, or hang: names, passwords. Each kind has a bound of its own.
static BESIDE: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.thread_name("beside").max_blocking_threads(128).build().expect("a runtime that drives nothing")
});

/// Runs blocking `work` (file system, hashing) on a thread of its own, one of a few.
///
/// # Panics
/// Passes on a panic of `work`.
#[expect(clippy::disallowed_methods, reason = "this is the place it is kept for")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    result_of(tokio::task::spawn_blocking(work)).await
}

/// The same beside those few, for what may last, or hang, and has a bound of its own.
///
/// # Panics
/// Passes on a panic of `work`.
pub async fn blocking_beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    result_of(BESIDE.spawn_blocking(work)).await
}

async fn result_of<T>(thread: JoinHandle<T>) -> T {
    match thread.await {
        Ok(value) => value,
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime is shutting down, and whoever waits here with it.
        Err(_) => std::future::pending().await,
    }
}

/// Work that many ask for at once and that is done once: a HEAD of a tag, a token.
///
/// Nothing is remembered: who asks after the answer is there starts the work again. The work is
/// spawned, so it does not die with the first that asked.
pub struct Coalesced<K, T>(Arc<Mutex<HashMap<K, Running<T>>>>);

type Running<T> = Shared<BoxFuture<'static, T>>;

impl<K, T> Default for Coalesced<K, T> {
    fn default() -> Self {
        Coalesced(Arc::default())
    }
}

impl<K, T> Coalesced<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The result of `work` under `key`, begun here or already on its way.
    pub async fn run<F>(&self, key: K, work: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let running = {
            let mut all = self.0.lock();
            match all.get(&key) {
                Some(running) => running.clone(),
                None => {
                    let in_flight = InFlight { all: self.0.clone(), key: key.clone() };
                    let leaving = Leaving { work: work(), _in_flight: in_flight };
                    // Spawned when it is first polled, after the lock: a runtime that shuts down drops what
                    // is spawned at once, and that takes the lock.
                    let running = async move {
                        // Who waits for the answer is counted, the question alone has no one who waits.
                        match uncounted(leaving.run()).await {
                            Ok(value) => value,
                            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                            Err(_) => std::future::pending().await,
                        }
                    };
                    let running = running.boxed().shared();
                    all.insert(key, running.clone());
                    running
                }
            }
        };
        running.await
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place it is kept for")]
fn uncounted<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

struct Leaving<F, K: Eq + Hash, T> {
    work: F,
    _in_flight: InFlight<K, T>,
}

impl<F: Future, K: Eq + Hash, T> Leaving<F, K, T> {
    async fn run(self) -> F::Output {
        self.work.await
    }
}

/// Frees the key when the work ends, however it ends.
struct InFlight<K: Eq + Hash, T> {
    all: Arc<Mutex<HashMap<K, Running<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T> Drop for InFlight<K, T> {
    fn drop(&mut self) {
        let left = self.all.lock().remove(&self.key);
        // Dropped after the lock: it may hold the last waiter's waker.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_ask_and_one_works_and_then_it_is_forgotten() {
        let runs = Arc::new(AtomicU32::new(0));
        let coalesced: Coalesced<&str, u32> = Coalesced::default();
        let work = || {
            let runs = runs.clone();
            async move { runs.fetch_add(1, Ordering::Relaxed) }
        };
        let all = futures_util::future::join_all((0..10).map(|_| coalesced.run("k", work))).await;
        assert_eq!(all, [0; 10]);
        assert_eq!(coalesced.run("k", work).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_nobody_waits_for_goes_on_for_a_while() {
        let (tasks, done) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        let work = |seconds| {
            let done = done.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                done.fetch_add(1, Ordering::Relaxed)
            }
        };
        let most = Duration::from_secs(10);
        assert_eq!(tasks.outliving(most, work(60)).await, 0);
        for (seconds, expected) in [(9, 2), (11, 2)] {
            let left = tasks.outliving(most, work(seconds));
            assert!(tokio::time::timeout(Duration::from_millis(1), left).await.is_err());
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!((done.load(Ordering::Relaxed), tasks.running()), (expected, 0), "{seconds} s");
        }
    }

    /// The key is taken out in the same breath in which the work is spawned.
    #[test]
    fn work_that_begins_while_the_runtime_ends_waits_for_no_lock() {
        struct Asking(Coalesced<&'static str, ()>);
        impl Drop for Asking {
            fn drop(&mut self) {
                // As a task does that is polled while the runtime is shut down.
                let mut asked = std::pin::pin!(self.0.run("k", || async {}));
                assert!(futures_util::FutureExt::now_or_never(asked.as_mut()).is_none());
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let asking = Asking(Coalesced::default());
        runtime.spawn(async move {
            let _asking = asking;
            std::future::pending::<()>().await
        });
        let (ended, end) = std::sync::mpsc::channel();
        let ending = std::thread::spawn(move || {
            drop(runtime);
            ended.send(()).unwrap();
        });
        assert!(end.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for itself");
        ending.join().unwrap();
    }

    #[tokio::test]
    async fn the_work_outlives_who_began_it() {
        let coalesced: Coalesced<&str, u32> = Coalesced::default();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let first = coalesced.run("k", || async move {
            gone.await.expect("the test holds it");
            7
        });
        assert!(futures_util::poll!(Box::pin(first)).is_pending(), "begun, then dropped");
        let second = Box::pin(coalesced.run("k", || async { 8 }));
        go.send(()).unwrap();
        assert_eq!(second.await, 7);
    }
}
