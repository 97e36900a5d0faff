//! What was ordered and is not known to be on disk: by key, the last word on each, oldest first.
//!
//! It waits in memory while the disk takes nothing, so it has a bound. Beyond that blobs are left out first: their files are the truth.
//! What takes something out (a permission, a login) is never left out: it is small, and there is no more of it than was written.

use std::time::{Duration, Instant};

use hashlink::LinkedHashMap;

use super::journal::Table;

/// Orders that wait, at most; some 300 bytes each.
const MOST: usize = 64_000;
/// Enough to write at once.
const PLENTY: usize = 4_000;
/// Attempts come further and further apart, to this many times the pace.
const SLOWEST: u32 = 64;

/// What is written under a key; nothing: it is taken out.
pub(super) type Orders = LinkedHashMap<(Table, Vec<u8>), Option<Vec<u8>>>;

#[derive(Debug)]
pub(super) struct Backlog {
    waiting: Orders,
    pace: Duration,
    due: Option<Instant>,
    failures: u32,
    left_out: u64,
}

impl Backlog {
    /// Is written `pace` after the first order, and tried again so much later when that fails, then later still.
    pub(super) fn new(pace: Duration) -> Backlog {
        Backlog { waiting: Orders::new(), pace, due: None, failures: 0, left_out: 0 }
    }

    /// Takes an order in. Tells whether it is the first for which there is no room.
    pub(super) fn order(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>, now: Instant) -> bool {
        let key = (table, key);
        let dispensable = matches!(table, Table::Blobs) || value.is_some();
        if dispensable && self.waiting.len() >= MOST && !self.waiting.contains_key(&key) {
            self.left_out += 1;
            return self.left_out == 1;
        }
        self.waiting.insert(key, value);
        let soon = self.due.get_or_insert(now + self.pace);
        if self.failures == 0 && self.waiting.len() >= PLENTY {
            *soon = now;
        }
        false
    }

    /// How long until the next attempt; nothing where there is nothing to write.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Takes all of it out, to be written.
    pub(super) fn begin(&mut self) -> Orders {
        self.due = None;
        std::mem::replace(&mut self.waiting, Orders::new())
    }

    /// It was written. Tells whether attempts had failed before.
    pub(super) fn written(&mut self) -> bool {
        self.left_out = 0;
        std::mem::take(&mut self.failures) > 0
    }

    /// It was not: what came meanwhile is newer. Tells whether this is the first failure.
    pub(super) fn failed(&mut self, mut orders: Orders, now: Instant) -> bool {
        orders.extend(std::mem::replace(&mut self.waiting, Orders::new()));
        self.waiting = orders;
        self.due = Some(now + self.pace * 2_u32.saturating_pow(self.failures).min(SLOWEST));
        self.failures += 1;
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any moment")]
    fn start() -> (Backlog, Instant) {
        (Backlog::new(PACE), Instant::now())
    }

    fn key(n: usize) -> Vec<u8> {
        n.to_string().into_bytes()
    }

    /// So many orders; which of them it says have no room.
    fn orders_for(backlog: &mut Backlog, table: Table, count: usize, now: Instant) -> Vec<usize> {
        (0..count).filter(|n| backlog.order(table, key(*n), Some(vec![]), now)).collect()
    }

    #[test]
    fn the_last_word_on_a_key_is_written_and_one_failure_does_not_bring_the_first_back() {
        let (mut backlog, now) = start();
        assert_eq!(backlog.wait(now), None);
        for value in [b"1", b"2"] {
            backlog.order(Table::Tags, key(0), Some(value.to_vec()), now);
        }
        backlog.order(Table::Tags, key(1), Some(vec![]), now + PACE / 2);
        assert_eq!((backlog.wait(now), backlog.waiting.len()), (Some(PACE), 2));
        let orders = backlog.begin();
        assert_eq!(orders[&(Table::Tags, key(0))], Some(b"2".to_vec()));
        backlog.order(Table::Tags, key(0), None, now);
        assert!(backlog.failed(orders, now));
        assert_eq!(backlog.begin()[&(Table::Tags, key(0))], None);
    }

    #[test]
    fn attempts_come_further_apart_and_orders_do_not_hasten_them() {
        let (mut backlog, now) = start();
        backlog.order(Table::Quota, key(0), None, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let orders = backlog.begin();
            backlog.failed(orders, now);
            orders_for(&mut backlog, Table::Tags, PLENTY, now);
            waits.push(backlog.wait(now).unwrap().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        backlog.begin();
        assert!(backlog.written() && !backlog.written());
        backlog.order(Table::Tags, key(0), None, now);
        assert_eq!(backlog.wait(now), Some(PACE));
    }

    #[test]
    fn plenty_is_written_at_once() {
        let (mut backlog, now) = start();
        orders_for(&mut backlog, Table::Blobs, PLENTY, now);
        assert_eq!(backlog.wait(now), Some(Duration::ZERO));
    }

    #[test]
    fn it_has_a_bound_and_what_is_taken_back_is_never_left_out() {
        let (mut backlog, now) = start();
        let first = orders_for(&mut backlog, Table::Blobs, MOST + 10, now);
        assert_eq!((first, backlog.waiting.len()), (vec![MOST], MOST), "said once");
        backlog.order(Table::Blobs, key(MOST), None, now);
        backlog.order(Table::Public, key(0), Some(vec![]), now);
        assert_eq!(backlog.waiting.len(), MOST);
        backlog.order(Table::Blobs, key(0), None, now);
        assert_eq!(backlog.waiting[&(Table::Blobs, key(0))], None, "what has a place keeps it");
        backlog.order(Table::Public, key(0), None, now);
        assert_eq!(backlog.waiting.len(), MOST + 1);
    }
}
