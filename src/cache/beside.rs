//! What one fill knows of connections that it may add: whether they pay, and how those before did.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lending::{Lending, Lent, Lingering};
use super::parts::Parts;
use crate::clock::Clock;
use crate::policy::budget::Tenant;
use crate::policy::growth::{Growth, Rates, Shown};
use crate::upstream::Upstream;

/// Rates are those of the last so many looks, which are a tenth of a second apart.
const LOOKS: usize = 5;
const LATELY: Duration = Duration::from_millis(500);
/// After one failed none is added for so long, then twice as long.
const AGAIN: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 6;

/// Of one fill.
pub(super) struct Beside {
    lending: Arc<Lending>,
    upstream: Upstream,
    clock: Clock,
    growth: Growth,
    /// When, what all fills had brought by then, and this one.
    looks: VecDeque<(Instant, u64, u64)>,
    was_full: Option<Instant>,
    from: Option<Instant>,
    failed: u32,
    lingering: Option<Lingering>,
}

impl Beside {
    pub(super) fn new(parts: &Parts, host: &str, most: usize) -> Beside {
        let (lending, clock) = (parts.lending.clone(), parts.clock.clone());
        let growth = Growth::new(lending.paid(host), most, clock.now());
        let (looks, upstream) = (VecDeque::new(), parts.upstream.clone());
        Beside { lending, upstream, clock, growth, looks, was_full: None, from: None, failed: 0, lingering: None }
    }

    /// How many connections there may be because they pay: no more than there are, where one was refused.
    pub(super) fn paying(&self, host: &str, streams: usize) -> usize {
        let pays = self.growth.paying();
        if self.lending.is_held_off(host) { pays.min(streams.max(1)) } else { pays }
    }

    /// Whether the fill may wait for the next question, with its file open: only so many do.
    pub(super) fn lingers(&mut self) -> bool {
        if self.lingering.is_none() {
            self.lingering = self.lending.linger();
        }
        self.lingering.is_some()
    }

    /// It has something to do again.
    pub(super) fn is_back(&mut self) {
        self.lingering = None;
    }

    /// One answered.
    pub(super) fn worked(&mut self) {
        self.failed = 0;
    }

    /// One more, if it may be had.
    pub(super) fn lend(&self, host: &str, tenant: Tenant) -> Option<Lent> {
        let is_soon = self.from.is_some_and(|from| Instant::now() < from);
        if is_soon { None } else { self.lending.lend(host, tenant) }
    }

    /// One was refused, or failed.
    pub(super) fn failed(&mut self, host: &str) {
        self.lending.hold_off(host);
        self.from = Some(Instant::now() + AGAIN * (1 << self.failed.min(MOST_DOUBLINGS)));
        self.failed += 1;
    }

    /// Upstream waited for the disk.
    pub(super) fn was_full(&mut self, now: Instant) {
        self.was_full = Some(now);
    }

    /// Looks at what came, `own` of it by this fill over `streams` connections. `may`: whether one more
    /// would do anything.
    pub(super) fn judge(&mut self, now: Instant, own: u64, streams: usize, may: bool, host: &str) {
        self.looks.push_back((now, self.lending.brought(), own));
        if self.looks.len() <= LOOKS {
            return;
        }
        let Some((since, all_before, own_before)) = self.looks.pop_front() else { return };
        let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = |bytes: u64| bytes.saturating_mul(1000) / millis;
        let rates = Rates { all: rate(self.lending.brought() - all_before), own: rate(own - own_before) };
        let (clock, is_waited_for) = (self.clock.now(), self.upstream.is_full());
        // They are lent: who waits for a first one comes first.
        if is_waited_for && self.growth.paying() > 1 {
            self.growth.shrink(clock);
        }
        let is_ours = self.was_full.is_some_and(|at| now < at + LATELY);
        let may = may && !is_waited_for && !is_ours && !self.lending.is_held_off(host);
        match self.growth.judge(clock, rates, streams, may) {
            Some(Shown::Pays(count)) => self.lending.pays(host, count),
            Some(Shown::PaysNot) | None => {}
        }
    }
}
