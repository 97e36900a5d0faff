//! The one writer: what changes waits in a queue, and a thread writes it.
//!
//! Nothing here is needed to serve. What cannot be read is set aside and begun again. While it
//! cannot be written, what changes waits in memory, within bounds, and is written when the disk
//! takes it. At most a second of it is lost when the process is killed.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use super::backlog::{Backlog, Changes};
use super::local::{Database, DatabaseError};
use super::rows::{ReadRows, RowSource};
use super::tables::{Records, Table, seconds};
use crate::oci::digest::Digest;

/// What changed is written this often, and tried again this much later when that fails.
const PACE: Duration = Duration::from_secs(1);
/// Who must not say something before it is on disk waits this long at most.
const BEFORE_IT_IS_SAID: Duration = Duration::from_secs(2);
/// The end waits this long for a disk that does not answer.
const AT_THE_END: Duration = Duration::from_secs(5);

/// Takes orders to write. Clones share one thread.
#[derive(Clone, Debug)]
pub struct Journal(Option<Arc<WriterHandle>>);

/// Dropped with the last clone: no more orders come.
#[derive(Debug)]
struct WriterHandle(Arc<Queue>);

/// Writes changes, with the rows of their blobs, and takes out of them what was written.
trait Write: FnMut(&mut Changes, Option<&RowSource>) -> Result<(), DatabaseError> + Send + 'static {}

impl<F: FnMut(&mut Changes, Option<&RowSource>) -> Result<(), DatabaseError> + Send + 'static> Write for F {}

/// Between those who order and the one who writes.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    /// Gives the rows of blobs.
    source: OnceLock<RowSource>,
    changed: Condvar,
    /// The number of the latest writing that succeeded.
    written: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    stage: Stage,
    /// The number of the latest writing that was begun. Each takes up what those before it left.
    begun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Closing,
    Closed,
}

impl Journal {
    /// One that keeps nothing.
    pub fn off() -> Journal {
        Journal(None)
    }

    /// Opens the journal in `dir` and reads all of it. What cannot be read is set aside as
    /// `index.corrupt-…`, with a line in the log; what cannot be opened now, because the disk is
    /// full, stays where it is and is written later.
    pub fn open(dir: &Path, now: SystemTime, read: &mut ReadRows<'_>) -> (Journal, Records) {
        let mut database = Database::closed(dir, seconds(now));
        let records = database.open(read);
        (Journal::with(PACE, move |changes, source| database.write(changes, source)), records)
    }

    /// One whose orders `write` gets, all that came within `pace` at once. It is dropped at the
    /// end.
    fn with(pace: Duration, write: impl Write) -> Journal {
        let state = Mutex::new(State { backlog: Backlog::new(pace), stage: Stage::Open, begun: 0 });
        let (written, _) = watch::channel(0);
        let queue = Arc::new(Queue { state, source: OnceLock::new(), changed: Condvar::new(), written });
        let shared = queue.clone();
        let spawned = std::thread::Builder::new().name("journal".into()).spawn(move || shared.work(write));
        match spawned {
            Ok(_) => Journal(Some(Arc::new(WriterHandle(queue)))),
            Err(error) => {
                warn!(%error, "no thread for the index: seawall goes on without one");
                Journal::off()
            }
        }
    }

    /// Asks `source` for the rows of blobs from now on; the first one stays.
    pub fn follow(&self, source: RowSource) {
        if let Some(handle) = &self.0 {
            handle.0.source.get_or_init(|| source);
        }
    }

    /// What is known of a blob changed, or the blob was removed.
    pub fn change(&self, digest: &Digest) {
        self.tell(|backlog, now| backlog.change(digest, now));
    }

    /// What was written of blobs is void: all rows are to be written again.
    pub fn compact(&self) {
        self.tell(Backlog::compact);
    }

    /// Writes a value under a key.
    pub fn write(&self, table: Table, key: String, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_vec(value) {
            self.order(table, key, Some(value));
        }
    }

    /// Takes out a key.
    pub fn remove(&self, table: Table, key: String) {
        self.order(table, key, None);
    }

    /// Waits until what was ordered so far is on disk. Not for long where the disk takes nothing.
    pub async fn settled(&self) {
        let Some(handle) = &self.0 else { return };
        let Some(last) = handle.0.hurry() else { return };
        let mut written = handle.0.written.subscribe();
        let on_disk = written.wait_for(|written| *written >= last);
        if tokio::time::timeout(BEFORE_IT_IS_SAID, on_disk).await.is_err() {
            warn!("a refusal is not on disk yet: a crash would forget it");
        }
    }

    /// Writes what was ordered and closes the file. Blocks.
    pub fn close(&self) {
        let Some(handle) = &self.0 else { return };
        let until = now() + AT_THE_END;
        let mut state = handle.0.close();
        while state.stage != Stage::Closed {
            if handle.0.changed.wait_until(&mut state, until).timed_out() {
                return warn!("the index is still being written: the next start knows less");
            }
        }
    }

    fn order(&self, table: Table, key: String, value: Option<Vec<u8>>) {
        if self.tell(|backlog, now| backlog.order(table, key.into_bytes(), value, now)) == Some(true) {
            warn!("more waits to be written to the index than memory is spent on: the next start knows less");
        }
    }

    fn tell<T>(&self, what: impl FnOnce(&mut Backlog, Instant) -> T) -> Option<T> {
        self.0.as_ref()?.0.tell(what)
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl Queue {
    fn tell<T>(&self, what: impl FnOnce(&mut Backlog, Instant) -> T) -> Option<T> {
        let mut state = self.state.lock();
        if state.stage != Stage::Open {
            return None;
        }
        let now = now();
        let before = state.backlog.wait(now);
        let told = what(&mut state.backlog, now);
        if state.backlog.wait(now) != before {
            self.changed.notify_all();
        }
        Some(told)
    }

    /// The number of the writing with which all is written that was ordered so far, which begins at
    /// once.
    fn hurry(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.stage != Stage::Open {
            return None;
        }
        let waits = state.backlog.hurry(now());
        self.changed.notify_all();
        Some(state.begun + u64::from(waits))
    }

    fn close(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.stage == Stage::Open {
            state.stage = Stage::Closing;
            self.changed.notify_all();
        }
        state
    }

    /// Writes what has gathered, until the end.
    fn work(&self, mut write: impl Write) {
        let mut state = self.state.lock();
        loop {
            let closing = state.stage == Stage::Closing;
            match state.backlog.wait(now()) {
                None if closing => break,
                None => self.changed.wait(&mut state),
                Some(wait) if !closing && !wait.is_zero() => drop(self.changed.wait_for(&mut state, wait)),
                Some(_) => {
                    let (kept, waiting) = state.backlog.begin();
                    state.begun += 1;
                    let number = state.begun;
                    let source = self.source.get();
                    let written = MutexGuard::unlocked(&mut state, || {
                        let mut changes = kept.and_then(waiting);
                        write(&mut changes, source).map_err(|why| (why, Box::new(changes)))
                    });
                    if written.is_ok() {
                        self.written.send_replace(number);
                    }
                    match written {
                        Ok(()) if state.backlog.written() => info!("the index is written again"),
                        Ok(()) => {}
                        Err((why, left)) if closing => {
                            let lost = left.len();
                            warn!(%why, lost, "the index could not be written at the end: the next start knows less");
                        }
                        Err((why, left)) => {
                            if state.backlog.failed(*left, now()) {
                                warn!(%why, "the index cannot be written: what changes waits in memory until it can");
                            }
                        }
                    }
                }
            }
        }
        // The file is closed before that is said: who waits may open it again.
        MutexGuard::unlocked(&mut state, || drop(write));
        state.stage = Stage::Closed;
        self.changed.notify_all();
    }
}

/// Of the thread's own timer, which no test moves.
#[expect(clippy::disallowed_methods, reason = "a timer, not a time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    type Given = Vec<(String, Option<String>)>;

    /// A journal whose writer fails until it gets so many orders at once, and tells what it was
    /// given each time.
    fn failing(until: usize) -> (Journal, Receiver<Given>) {
        let (given, came) = channel();
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
        let journal = Journal::with(Duration::from_millis(1), move |changes: &mut Changes, _: Option<&RowSource>| {
            let orders = &changes.orders;
            given.send(orders.iter().map(|((_, key), value)| (text(key), value.as_ref().map(text))).collect()).unwrap();
            if orders.len() >= until {
                Ok(())
            } else {
                Err(DatabaseError::Unavailable("no space left on device".into()))
            }
        });
        (journal, came)
    }

    fn written(key: &str, value: &str) -> (String, Option<String>) {
        (key.to_owned(), Some(value.to_owned()))
    }

    #[test]
    fn what_could_not_be_written_is_written_later_with_the_last_word_on_each_key() {
        let (journal, came) = failing(3);
        journal.write(Table::Tags, "a".into(), &1);
        assert_eq!(came.recv().unwrap(), [written("a", "1")]);
        journal.write(Table::Tags, "b".into(), &2);
        journal.write(Table::Tags, "a".into(), &3);
        journal.remove(Table::Logins, "c".into());
        let last = || came.iter().find(|orders| orders.len() == 3).unwrap();
        assert_eq!(last(), [written("b", "2"), written("a", "3"), ("c".to_owned(), None)]);
        journal.close();
        // Nothing is written twice once it was written.
        journal.write(Table::Tags, "d".into(), &4);
        assert!(came.iter().all(|orders| orders.len() == 3));
    }

    #[test]
    fn the_end_is_one_more_attempt_and_no_more() {
        let (journal, came) = failing(usize::MAX);
        journal.write(Table::Tags, "a".into(), &1);
        came.recv().unwrap();
        journal.close();
        assert_eq!(came.iter().last().unwrap(), [written("a", "1")]);
    }

    #[test]
    fn who_orders_no_more_ends_it() {
        let (journal, came) = failing(0);
        journal.write(Table::Tags, "a".into(), &1);
        drop(journal);
        assert_eq!(came.iter().count(), 1);
    }
}
