//! What was given to connections and is not written yet: each chunk of an answer is lent to its
//! connection until the last of its bytes has gone, and an answer waits for what it lent before.
//!
//! hyper takes a body before its client has opened a window for it, and lets go of it while HTTP/2 still
//! holds its bytes: the life of a body says nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::metrics::bounds::Level;
use crate::policy::budget::Unwritten;

/// Bytes of the answers on one connection, and of whom it is one.
#[derive(Debug)]
pub(crate) struct OfConnection {
    all: Level,
    tenant: Arc<AtomicU64>,
    bytes: AtomicU64,
}

/// Those of one answer. Who waits lent something, and is woken when that is written: by nobody else's
/// writes, which may be many.
#[derive(Debug)]
pub(crate) struct OfAnswer {
    connection: Arc<OfConnection>,
    bytes: AtomicU64,
    waiting: AtomicWaker,
}

impl OfConnection {
    pub(crate) fn new(all: Level, tenant: Arc<AtomicU64>) -> Arc<OfConnection> {
        Arc::new(OfConnection { all, tenant, bytes: AtomicU64::new(0) })
    }

    pub(crate) fn answer(self: &Arc<Self>) -> Arc<OfAnswer> {
        Arc::new(OfAnswer { connection: self.clone(), bytes: AtomicU64::new(0), waiting: AtomicWaker::new() })
    }
}

impl OfAnswer {
    /// Bytes that may be given now. 0: not now, and the task is woken when that may be otherwise.
    pub(crate) fn room(&self, cx: &Context<'_>) -> u64 {
        match self.held().room() {
            0 => {
                self.waiting.register(cx.waker());
                // Something may have been written meanwhile.
                self.held().room()
            }
            room => room,
        }
    }

    /// Whether it waits until its client takes something.
    pub(crate) fn is_full(&self) -> bool {
        self.held().room() == 0
    }

    /// The same bytes, which count until they are written.
    pub(crate) fn lend(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let count = cost(&bytes);
        self.connection.all.add(count);
        for bytes in self.counters() {
            bytes.fetch_add(count, Ordering::SeqCst);
        }
        Bytes::from_owner(Lent { bytes, answer: self.clone() })
    }

    fn take_back(&self, count: u64) {
        self.connection.all.sub(count);
        for bytes in self.counters() {
            bytes.fetch_sub(count, Ordering::SeqCst);
        }
        self.waiting.wake();
    }

    fn counters(&self) -> [&AtomicU64; 3] {
        [&self.connection.tenant, &self.connection.bytes, &self.bytes]
    }

    fn held(&self) -> Unwritten {
        let [tenant, connection, answer] = self.counters().map(|bytes| bytes.load(Ordering::SeqCst));
        Unwritten { all: self.connection.all.read(), tenant, connection, answer }
    }
}

/// A chunk counts as what it takes: its bytes, and what there is to each however few they are.
fn cost(bytes: &Bytes) -> u64 {
    (bytes.len() as u64).max(LEAST)
}

const LEAST: u64 = 1 << 10;

/// A chunk on its way out.
struct Lent {
    bytes: Bytes,
    answer: Arc<OfAnswer>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.answer.take_back(cost(&self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;
    use crate::policy::budget::{LEAST_OF_ANSWER, MOST_OF_CONNECTION};

    #[test]
    fn what_is_written_is_given_back_and_no_answer_waits_for_another() {
        let all = Level::default();
        let connection = OfConnection::new(all.clone(), Arc::default());
        let (first, second) = (connection.answer(), connection.answer());
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        let mut lent = Vec::new();
        while first.room(&cx) > 0 {
            lent.push(first.lend(Bytes::from_static(&[0; 64 << 10])));
        }
        assert_eq!(all.read(), MOST_OF_CONNECTION / 2);
        assert!(second.room(&cx) >= LEAST_OF_ANSWER);
        let mut half = lent.pop().unwrap();
        let rest = half.split_off(100);
        drop(half);
        assert_eq!(first.room(&cx), 0, "a part of a chunk is still there");
        drop(rest);
        assert!(first.room(&cx) > 0);
        drop((lent, first, second));
        assert_eq!(all.read(), 0);
    }
}
