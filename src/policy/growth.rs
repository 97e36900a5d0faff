//! Whether one more connection of a fill pays: by what all fills bring together, since a fill that only
//! takes from the others gains nothing. Pure.

use std::time::{Duration, SystemTime};

use super::access::within;

/// A new connection has come up to its speed by then, and was measured.
const TRIED_FOR: Duration = Duration::from_secs(1);
/// After one that did not pay: then twice as long, and so on.
const PAUSE: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(300);

/// Bytes a second, a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of all fills.
    pub all: u64,
    /// Of this one.
    pub own: u64,
}

/// How many connections pay.
#[derive(Clone, Debug)]
pub struct Growth {
    pays: usize,
    most: usize,
    pause: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Rests { since: SystemTime, pause: Duration },
    Tries { since: SystemTime, before: Rates },
}

/// What a trial showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// So many pay.
    Pays(usize),
    /// One more does not.
    PaysNot,
}

impl Growth {
    /// From `pays` on, which paid there a while ago, up to `most`.
    pub fn new(pays: usize, most: usize, now: SystemTime) -> Growth {
        let most = most.max(1);
        let state = State::Rests { since: now, pause: Duration::ZERO };
        Growth { pays: pays.clamp(1, most), most, pause: PAUSE, state }
    }

    /// How many there may be now.
    pub fn paying(&self) -> usize {
        match self.state {
            State::Rests { .. } => self.pays,
            State::Tries { .. } => self.pays + 1,
        }
    }

    /// Judges what is now: `streams` connections that bring so much. `may`: nothing speaks against one more.
    pub fn judge(&mut self, now: SystemTime, rates: Rates, streams: usize, may: bool) -> Option<Shown> {
        match self.state {
            State::Rests { since, pause } => {
                let is_over = !within(Some(since), pause, now);
                if is_over && may && rates.own > 0 && streams == self.pays && self.pays < self.most {
                    self.state = State::Tries { since: now, before: rates };
                }
                None
            }
            // There was nothing for it to do.
            State::Tries { since, .. } if !may || streams <= self.pays && !within(Some(since), TRIED_FOR / 2, now) => {
                self.rest(now, Duration::ZERO);
                None
            }
            State::Tries { since, .. } if within(Some(since), TRIED_FOR, now) => None,
            State::Tries { before, .. } => {
                let one = before.own / self.pays as u64;
                if rates.all >= before.all.saturating_add(one / 2) {
                    self.pays += 1;
                    self.pause = PAUSE;
                    self.rest(now, Duration::ZERO);
                    return Some(Shown::Pays(self.pays));
                }
                self.rest(now, self.pause);
                self.pause = (self.pause * 2).min(MOST_PAUSE);
                Some(Shown::PaysNot)
            }
        }
    }

    /// One goes, since others need it more.
    pub fn shrink(&mut self, now: SystemTime) {
        self.pays = self.pays.saturating_sub(1).max(1);
        self.rest(now, PAUSE);
    }

    fn rest(&mut self, since: SystemTime, pause: Duration) {
        self.state = State::Rests { since, pause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const MS: Duration = Duration::from_millis(1);

    /// Fills that share a link, each connection of which is limited, too.
    struct Link {
        whole: u64,
        one: u64,
        others: u64,
    }

    impl Link {
        fn rates(&self, streams: u64) -> Rates {
            let wanted = (streams + self.others) * self.one;
            let each = if wanted > self.whole { self.whole / (streams + self.others) } else { self.one };
            Rates { all: each * (streams + self.others), own: each * streams }
        }

        /// How many connections a fill has after that time, and how often it tried one that did not pay.
        fn grown(&self, most: usize, seconds: u32) -> (usize, usize) {
            let mut now = SystemTime::UNIX_EPOCH;
            let (mut growth, mut failed) = (Growth::new(1, most, now), 0);
            for _ in 0..seconds * 10 {
                now += MS * 100;
                let streams = growth.paying();
                if growth.judge(now, self.rates(streams as u64), streams, true) == Some(Shown::PaysNot) {
                    failed += 1;
                }
            }
            (growth.pays, failed)
        }
    }

    #[test]
    fn it_grows_where_each_connection_is_slow_and_the_link_is_not() {
        let link = Link { whole: 1000 * MB, one: 25 * MB, others: 0 };
        assert_eq!(link.grown(4, 5), (4, 0), "within five seconds");
        assert_eq!(link.grown(1, 60), (1, 0), "segments = 1");
        let narrow = Link { whole: 60 * MB, ..link };
        assert_eq!(narrow.grown(8, 60).0, 2);
    }

    #[test]
    fn who_only_takes_from_the_others_does_not_grow() {
        let full = Link { whole: 100 * MB, one: 25 * MB, others: 10 };
        let (pays, failed) = full.grown(8, 60);
        assert_eq!(pays, 1);
        assert!((3..=5).contains(&failed), "after 5 s, 10, 20 and 40: {failed}");
    }

    #[test]
    fn it_does_not_try_where_something_speaks_against_it_or_there_is_nothing_to_do() {
        let (mut now, rates) = (SystemTime::UNIX_EPOCH, Rates { all: MB, own: MB });
        let mut growth = Growth::new(1, 4, now);
        assert_eq!(growth.judge(now, rates, 1, false), None);
        assert_eq!(growth.paying(), 1);
        assert_eq!(growth.judge(now, Rates { own: 0, ..rates }, 1, true), None);
        assert_eq!(growth.paying(), 1, "nothing comes");
        growth.judge(now, rates, 1, true);
        assert_eq!(growth.paying(), 2);
        now += MS * 700;
        assert_eq!(growth.judge(now, rates, 1, true), None);
        assert_eq!(growth.paying(), 1, "no gap was large enough");
        growth.judge(now, rates, 1, true);
        growth.judge(now, rates, 2, false);
        assert_eq!(growth.paying(), 1, "somebody waits for a first one");
    }

    #[test]
    fn it_begins_with_what_paid_before_and_shrinks() {
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(Growth::new(9, 4, now).paying(), 4);
        let mut growth = Growth::new(2, 4, now);
        growth.shrink(now);
        growth.shrink(now);
        assert_eq!(growth.paying(), 1);
        growth.judge(now + MS, Rates { all: MB, own: MB }, 1, true);
        assert_eq!(growth.paying(), 1, "it rests");
    }
}
