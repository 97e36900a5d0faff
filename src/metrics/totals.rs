//! What was counted since the start, of all registries together: what `operate/history` makes its
//! points of. The families of
//! counters cannot be summed without being printed.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::cache_status::Outcome;
use crate::policy::series::{Figure, Point};

/// The counters.
#[derive(Debug, Default)]
pub struct Totals([AtomicU64; Figure::ALL.len()]);

impl Totals {
    pub(super) fn add(&self, figure: Figure, more: u64) {
        self.0[figure as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// A manifest or a blob was asked for, and answered 2xx.
    pub fn pulled(&self, outcome: Outcome) {
        if let Some(figure) = Figure::of(outcome) {
            self.add(figure, 1);
        }
    }

    /// So many bytes of it went to the client.
    pub fn pulled_bytes(&self, outcome: Outcome, bytes: u64) {
        if let Some(figure) = Figure::bytes_of(outcome) {
            self.add(figure, bytes);
        }
    }

    /// Status 0: there was no answer.
    pub(super) fn upstream_request(&self, status: u16) {
        self.add(Figure::UpstreamRequests, 1);
        if status == 0 || status >= 500 {
            self.add(Figure::UpstreamFailures, 1);
        }
    }

    /// All of them.
    pub fn read(&self) -> Point {
        let mut point = Point::default();
        Figure::ALL.into_iter().for_each(|figure| point.set(figure, self.0[figure as usize].load(Ordering::Relaxed)));
        point
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn everything_is_counted_once() {
        let metrics = Metrics::new();
        for outcome in [Outcome::Hit, Outcome::Hit, Outcome::Collapsed, Outcome::Miss, Outcome::Denied] {
            metrics.totals().pulled(outcome);
            metrics.totals().pulled_bytes(outcome, 10);
        }
        for status in [200, 429, 500, 503, 0] {
            metrics.upstream_request("docker.io", "blob", "GET", status);
        }
        metrics.upstream_bytes("docker.io", 7);
        metrics.upstream_bytes("ghcr.io", 7);
        metrics.charged("docker.io");
        metrics.spared("docker.io");
        metrics.limited("docker.io", "pulls");
        metrics.evicted(3);
        drop(metrics.fill());
        let totals = metrics.totals().read();
        let counted = Figure::ALL.map(|figure| (figure, totals.get(figure))).into_iter().filter(|(_, n)| *n > 0);
        let expected = [
            (Figure::Hit, 2),
            (Figure::Miss, 1),
            (Figure::Collapsed, 1),
            (Figure::ServedCacheBytes, 20),
            (Figure::ServedSharedBytes, 10),
            (Figure::ServedUpstreamBytes, 10),
            (Figure::Charged, 1),
            (Figure::Spared, 1),
            (Figure::UpstreamRequests, 5),
            (Figure::UpstreamFailures, 3),
            (Figure::Limited, 1),
            (Figure::UpstreamBytes, 14),
            (Figure::Evictions, 3),
            (Figure::Fills, 1),
        ];
        assert_eq!(counted.collect::<Vec<_>>(), expected);
    }
}
