//! The one place that reads a clock.
//!
//! Time here is the wall clock of the start plus what has passed since by the monotonic clock: it
//! never jumps, and what is written down with it still means something after a restart. Decisions
//! take `now` as an argument and never come here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Reads the time. Clones share one clock, so a test that moves one moves all.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    epoch: SystemTime,
    skew_millis: Arc<AtomicU64>,
}

impl Clock {
    /// The system's clock, read once; from here on it is monotonic.
    #[expect(clippy::disallowed_methods, reason = "this is the place they are kept for")]
    pub fn system() -> Clock {
        Clock { started: Instant::now(), epoch: SystemTime::now(), skew_millis: Arc::default() }
    }

    /// The present time. Never goes back while the process runs.
    pub fn now(&self) -> SystemTime {
        self.epoch + self.started.elapsed() + Duration::from_millis(self.skew_millis.load(Ordering::Relaxed))
    }

    /// The wall clock as it is set now, which may have jumped: the time that passes while the machine
    /// sleeps is in it alone.
    #[expect(clippy::disallowed_methods, reason = "this is the place they are kept for")]
    pub fn wall(&self) -> SystemTime {
        SystemTime::now() + Duration::from_millis(self.skew_millis.load(Ordering::Relaxed))
    }

    /// Moves this clock and its clones forward: a test's way to let a ttl run out without waiting
    /// for it.
    pub fn advance(&self, by: Duration) {
        self.skew_millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A random share of a wait, from 0 to 1, so that many who wait for the same do not end at once.
pub fn jitter() -> f64 {
    let mut byte = [0];
    // Without random bytes all end at once, which is no error.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_move_together_and_never_back() {
        let clock = Clock::system();
        let other = clock.clone();
        let before = clock.now();
        other.advance(Duration::from_secs(60));
        assert!(clock.now() >= before + Duration::from_secs(60));
    }
}
