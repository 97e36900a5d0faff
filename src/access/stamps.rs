//! Gives the stamps of events.

use std::time::SystemTime;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::policy::stamp::{Now, Stamp};

/// Gives stamps that only grow: by what passes on the clock that never goes back, or on the wall
/// clock where that is more (the machine slept); and after all that was written down before.
#[derive(Debug)]
pub(super) struct Stamps {
    clock: Clock,
    horizon: Stamp,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Nanoseconds: what is the time now.
    now: u128,
    /// The latest stamp, in microseconds.
    latest: u64,
    clock: SystemTime,
    wall: SystemTime,
}

impl Stamps {
    /// Behind `written`, the latest that was written down.
    pub(super) fn after(written: Stamp, clock: Clock) -> Stamps {
        let (at, wall) = (clock.now(), clock.wall());
        let now = Stamp::at(at.max(wall));
        // What a clock that was ahead wrote down may be of any age.
        let horizon = if written > now { written } else { Stamp::default() };
        let (now, latest) = (u128::from(now.max(written).micros()) * 1000, written.micros());
        Stamps { clock, horizon, state: Mutex::new(State { now, latest, clock: at, wall }) }
    }

    /// The next stamp: later than all before it.
    pub(super) fn next(&self) -> Stamp {
        let mut state = self.state.lock();
        state.pass(&self.clock);
        state.latest = state.micros().max(state.latest + 1);
        Stamp::from_micros(state.latest)
    }

    /// The present: no stamp is later.
    pub(super) fn now(&self) -> Now {
        let mut state = self.state.lock();
        state.pass(&self.clock);
        Now { at: Stamp::from_micros(state.micros().max(state.latest)), horizon: self.horizon }
    }
}

impl State {
    fn pass(&mut self, clock: &Clock) {
        let (at, wall) = (clock.now(), clock.wall());
        let since = |now: SystemTime, before: SystemTime| now.duration_since(before).unwrap_or_default();
        self.now += since(at, self.clock).max(since(wall, self.wall)).as_nanos();
        (self.clock, self.wall) = (at, wall);
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.now / 1000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn stamps_only_grow() {
        let stamps = Stamps::after(Stamp::default(), Clock::system());
        let given: Vec<Stamp> = (0..1000).map(|_| stamps.next()).collect();
        assert!(given.is_sorted_by(|a, b| a < b));
        assert!(stamps.now().at >= given[999]);
    }

    /// A restart after the clock was set back.
    #[test]
    fn what_comes_after_a_restart_is_later_and_what_came_before_is_old() {
        let clock = Clock::system();
        let ahead = Stamp::at(clock.now() + Duration::from_secs(120));
        let stamps = Stamps::after(ahead, clock.clone());
        let (hour, first) = (Duration::from_secs(3600), stamps.next());
        assert!(first > ahead);
        assert!(!stamps.now().is_within(ahead, hour) && stamps.now().is_within(first, hour));
        clock.advance(2 * hour);
        assert!(!stamps.now().is_within(first, hour), "it ages all the same");
        assert!(Stamps::after(first, clock).now().horizon == Stamp::default(), "the clock is right again");
    }
}
