//! Points in the order of events, and how old they are.

use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

/// A point in the order of events, in microseconds since 1970. No two are the same, and a later
/// event has a later one, over restarts too (see `access/stamps`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(NonZeroU64);

/// Before all events.
impl Default for Stamp {
    fn default() -> Stamp {
        Stamp(NonZeroU64::MIN)
    }
}

impl Stamp {
    /// So many microseconds after 1970.
    pub fn from_micros(micros: u64) -> Stamp {
        NonZeroU64::new(micros).map_or_else(Stamp::default, Stamp)
    }

    /// A point of time.
    pub fn at(time: SystemTime) -> Stamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Stamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX / 2))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> u64 {
        self.0.get()
    }

    /// The time between an earlier stamp and this.
    #[must_use]
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_micros(self.micros().saturating_sub(earlier.micros()))
    }
}

/// The present, for questions of age.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// No event is later.
    pub at: Stamp,
    /// What was written down up to here by a clock that was ahead counts as old.
    pub horizon: Stamp,
}

impl Now {
    /// Whether a stamp is younger than a limit. `Duration::MAX` is forever.
    pub fn is_within(self, at: Stamp, limit: Duration) -> bool {
        limit == Duration::MAX || at > self.horizon && at <= self.at && self.at.since(at) < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_that_was_ahead_wrote_down_is_old() {
        let (minute, at) = (Duration::from_secs(60), Stamp::from_micros);
        let now = |horizon| Now { at: at(1_000_000_000), horizon: at(horizon) };
        assert!(now(0).is_within(at(940_000_001), minute));
        assert!(!now(0).is_within(at(940_000_000), minute));
        assert!(!now(990_000_000).is_within(at(990_000_000), minute));
        assert!(now(990_000_000).is_within(at(990_000_001), minute));
        assert!(now(990_000_000).is_within(at(1), Duration::MAX));
        assert!(!now(0).is_within(at(1_000_000_000), Duration::ZERO), "a ttl of nothing is never fresh");
    }
}
