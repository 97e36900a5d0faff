//! What was ordered and is not known to be on disk: by key, the latest value of each, oldest first.
//!
//! It waits in memory while the disk takes nothing, so it has a bound. Beyond that what is new is
//! left out. What takes something out, and a refusal, which ends what was written, is never left out:
//! it is small, and there is no more of it than was written. Of blobs only the names wait, for the
//! index knows their latest facts; when there are too many, all that is known of blobs is written
//! again.
//!
//! Who orders waits for the lock around it, so nothing here goes through all that waits: what could
//! not be written is kept as it was, and becomes one with what came later where it is tried again
//! ([`Changes::and_then`]), outside the lock.

use std::time::{Duration, Instant};

use hashlink::{LinkedHashMap, LinkedHashSet};

use super::tables::Table;
use crate::oci::digest::Digest;

/// Orders that wait, at most, some 300 bytes each; and as many names of blobs.
const MOST: usize = 64_000;
/// Enough to write at once.
const PLENTY: usize = 4_000;
/// Attempts come further and further apart, to this many times the pace.
const SLOWEST: u32 = 64;

/// What is written under a key; nothing: it is taken out.
pub(super) type Orders = LinkedHashMap<(Table, Vec<u8>), Option<Vec<u8>>>;

/// What is to be written at once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) orders: Orders,
    /// Blobs whose rows the source gives when they are written.
    pub(super) blobs: LinkedHashSet<Digest>,
    /// All blobs are to be written, not those alone.
    pub(super) all_blobs: bool,
}

impl Changes {
    pub(super) fn len(&self) -> usize {
        self.orders.len() + self.blobs.len()
    }

    /// All of this, and of what came later.
    pub(super) fn and_then(mut self, newer: Changes) -> Changes {
        if self.len() == 0 && !self.all_blobs {
            return newer;
        }
        self.orders.extend(newer.orders);
        self.all_blobs |= newer.all_blobs;
        if !self.all_blobs {
            self.blobs.extend(newer.blobs);
        }
        self
    }
}

#[derive(Debug)]
pub(super) struct Backlog {
    waiting: Changes,
    /// Older than what waits: it could not be written.
    kept: Changes,
    pace: Duration,
    due: Option<Instant>,
    failures: u32,
    left_out: u64,
}

impl Backlog {
    /// Is written `pace` after the first order, and tried again so much later when that fails, then
    /// later still.
    pub(super) fn new(pace: Duration) -> Backlog {
        Backlog { waiting: Changes::default(), kept: Changes::default(), pace, due: None, failures: 0, left_out: 0 }
    }

    /// Takes an order in. Tells whether it is the first for which there is no room.
    pub(super) fn order(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>, now: Instant) -> bool {
        let key = (table, key);
        let (orders, kept) = (&mut self.waiting.orders, &self.kept.orders);
        let is_full = orders.len() + kept.len() >= MOST && table != Table::Refusals;
        if value.is_some() && is_full && !orders.contains_key(&key) && !kept.contains_key(&key) {
            self.left_out += 1;
            return self.left_out == 1;
        }
        orders.insert(key, value);
        self.hasten(now);
        false
    }

    /// What is known of this blob changed.
    pub(super) fn change(&mut self, digest: &Digest, now: Instant) {
        let (waiting, kept) = (&mut self.waiting, &self.kept);
        if !waiting.all_blobs && !kept.all_blobs && !kept.blobs.contains(digest) && !waiting.blobs.contains(digest) {
            if waiting.blobs.len() + kept.blobs.len() < MOST {
                waiting.blobs.insert(digest.clone());
            } else {
                waiting.all_blobs = true;
            }
        }
        self.hasten(now);
    }

    /// What was written of blobs is not what is known of them.
    pub(super) fn compact(&mut self, now: Instant) {
        self.waiting.all_blobs = true;
        self.hasten(now);
    }

    fn hasten(&mut self, now: Instant) {
        let soon = self.due.get_or_insert(now + self.pace);
        if self.failures == 0 && self.waiting.len() >= PLENTY {
            *soon = now;
        }
    }

    /// How long until the next attempt; nothing where there is nothing to write.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }

    /// Has what waits written at once, if the disk takes anything. Tells whether something waits.
    pub(super) fn hurry(&mut self, now: Instant) -> bool {
        let Some(due) = &mut self.due else { return false };
        if self.failures == 0 {
            *due = now;
        }
        true
    }

    /// Takes all of it out, to be written: what could not be written before, and what came later.
    pub(super) fn begin(&mut self) -> (Changes, Changes) {
        self.due = None;
        (std::mem::take(&mut self.kept), std::mem::take(&mut self.waiting))
    }

    /// It was written. Tells whether attempts had failed before.
    pub(super) fn written(&mut self) -> bool {
        self.left_out = 0;
        std::mem::take(&mut self.failures) > 0
    }

    /// This of it was not. Tells whether this is the first failure.
    pub(super) fn failed(&mut self, left: Changes, now: Instant) -> bool {
        self.kept = left;
        self.due = Some(now + self.pace * 2_u32.saturating_pow(self.failures).min(SLOWEST));
        self.failures += 1;
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    const PACE: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any moment")]
    fn start() -> (Backlog, Instant) {
        (Backlog::new(PACE), Instant::now())
    }

    fn begin(backlog: &mut Backlog) -> Changes {
        let (kept, waiting) = backlog.begin();
        kept.and_then(waiting)
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
        let batch = begin(&mut backlog);
        assert_eq!(batch.orders[&(Table::Tags, key(0))], Some(b"2".to_vec()));
        backlog.order(Table::Tags, key(0), None, now);
        assert!(backlog.failed(batch, now));
        assert_eq!(begin(&mut backlog).orders[&(Table::Tags, key(0))], None);
    }

    #[test]
    fn attempts_come_further_apart_and_orders_do_not_hasten_them() {
        let (mut backlog, now) = start();
        backlog.order(Table::Quota, key(0), None, now);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let batch = begin(&mut backlog);
            backlog.failed(batch, now);
            orders_for(&mut backlog, Table::Tags, PLENTY, now);
            waits.push(backlog.wait(now).unwrap().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        begin(&mut backlog);
        assert!(backlog.written() && !backlog.written());
        backlog.order(Table::Tags, key(0), None, now);
        assert_eq!(backlog.wait(now), Some(PACE));
    }

    #[test]
    fn plenty_is_written_at_once() {
        let (mut backlog, now) = start();
        orders_for(&mut backlog, Table::Tags, PLENTY, now);
        assert_eq!(backlog.wait(now), Some(Duration::ZERO));
    }

    #[test]
    fn it_has_a_bound_and_what_is_taken_back_is_never_left_out() {
        let (mut backlog, now) = start();
        let first = orders_for(&mut backlog, Table::Tags, MOST + 10, now);
        assert_eq!((first, backlog.waiting.orders.len()), (vec![MOST], MOST), "said once");
        backlog.order(Table::Challenges, key(0), Some(vec![]), now);
        assert_eq!(backlog.waiting.len(), MOST);
        backlog.order(Table::Tags, key(0), None, now);
        assert_eq!(backlog.waiting.orders[&(Table::Tags, key(0))], None, "what has a place keeps it");
        backlog.order(Table::Challenges, key(0), None, now);
        assert_eq!(backlog.waiting.len(), MOST + 1);
    }

    #[test]
    fn of_too_many_blobs_all_are_written_anew_and_none_is_left_out() {
        let (mut backlog, now) = start();
        let digest = |n: usize| Digest::of(Algorithm::Sha256, &n.to_be_bytes());
        (0..MOST).for_each(|n| backlog.change(&digest(n), now));
        backlog.change(&digest(0), now);
        let batch = begin(&mut backlog);
        assert_eq!((batch.blobs.len(), batch.all_blobs), (MOST, false));
        backlog.failed(batch, now);
        backlog.change(&digest(0), now);
        assert!(!backlog.waiting.all_blobs, "its name waits already");
        backlog.change(&digest(MOST), now);
        let batch = begin(&mut backlog);
        assert!(batch.all_blobs);
        backlog.failed(batch, now);
        backlog.change(&digest(MOST), now);
        assert_eq!((backlog.waiting.blobs.len(), begin(&mut backlog).all_blobs), (0, true));
    }

    /// What was kept counts with what waits, and a key has one value at the end.
    #[test]
    fn what_could_not_be_written_is_not_gone_through_and_has_its_bound() {
        let (mut backlog, now) = start();
        orders_for(&mut backlog, Table::Tags, MOST - 1, now);
        let batch = begin(&mut backlog);
        backlog.failed(batch, now);
        assert_eq!((backlog.kept.len(), backlog.waiting.len()), (MOST - 1, 0));
        assert_eq!(orders_for(&mut backlog, Table::Challenges, 2, now), [1]);
        backlog.order(Table::Tags, key(0), Some(b"2".to_vec()), now);
        let batch = begin(&mut backlog);
        assert_eq!((batch.len(), &batch.orders[&(Table::Tags, key(0))]), (MOST, &Some(b"2".to_vec())));
    }
}
