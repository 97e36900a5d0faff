//! Whether a host that did not answer lately is asked again: a circuit breaker.
//!
//! ```text
//! closed ── ROW failures in a row ──→ open ── its pause is over ──→ half-open: one request is the trial
//!   ↑                                  ↑ └──────────────────────────────┤ it fails, or is given up
//!   └──────────── any answer ──────────┴────────────────────────────────┘
//! ```
//!
//! An answer ends an outage whoever got it, also one that was asked for before. Failures are
//! evidence only one after another: of a hundred streams on a connection that broke one counts,
//! since the others had begun before it failed; and what was sent before the last answer says
//! nothing, however late it fails. No single request, and no single image that is broken there,
//! opens anything.

use std::time::{Duration, SystemTime};

/// Failures in a row that open. One is a blip; two may be one blip, since a request on a kept
/// connection that broke is sent again at once; the third is another request's. A host that is
/// silent is given up after as many deadlines.
const ROW: usize = 3;
/// Until the first trial, about. A trial is one request that fails or is answered, so it may be
/// early and often.
const FIRST: Duration = Duration::from_secs(1);
/// Until any later trial, at most: what comes back is asked again within this. Also how long a
/// trial that says nothing keeps others from being one.
pub const LONGEST: Duration = Duration::from_secs(5);

/// What is done with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They are sent.
    Closed,
    /// They fail at once.
    Open,
    /// One of them is on its way, the others fail at once.
    HalfOpen,
}

impl State {
    /// The log's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        }
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Not a trial: sent as any other.
    Free,
    /// As the trial of this number.
    Trial(u32),
}

/// How a host failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection: DNS, TCP, TLS.
    Unreachable,
    /// The connection broke, or a gateway answered that it gets none (502, 503, 504), for this
    /// subject: an image that is broken there, asked for again and again, says nothing of the
    /// others.
    Of(u64),
    /// The request of this number is silent. It may be slow to answer, and goes on being so.
    Silent(u64),
}

impl Failure {
    /// How often it counts in one row.
    fn most(self) -> usize {
        match self {
            Failure::Unreachable => ROW,
            Failure::Of(_) => 1,
            Failure::Silent(_) => ROW - 1,
        }
    }
}

/// A failure, and when.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// The kind of failure.
    pub how: Failure,
    /// When the request was sent.
    pub sent: SystemTime,
    /// Since when it failed: when it was sent, or the last time that its silence was counted.
    pub since: SystemTime,
    /// The time of the failure.
    pub at: SystemTime,
}

/// What is known of one host.
#[derive(Clone, Debug)]
pub struct Breaker {
    phase: Phase,
    since: SystemTime,
    answered: Option<SystemTime>,
    /// Goes up with each failure that counts and each trial, and never down.
    generation: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed { row: Vec<Failure>, last: Option<SystemTime> },
    Open { trials: u32, until: SystemTime },
    HalfOpen { trials: u32, began: SystemTime },
}

impl Breaker {
    /// Closed, at `now`.
    pub fn new(now: SystemTime) -> Breaker {
        Breaker { phase: Phase::closed(), since: now, answered: None, generation: 0 }
    }

    /// What is done with requests.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether the host is known not to answer: open, and tried lately. After a quiet night it may
    /// be back, and is worth waiting for.
    pub fn is_away(&self, now: SystemTime) -> bool {
        self.outage().is_some_and(|(_, until)| now < until + LONGEST)
    }

    /// When the first of the failures in a row was.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Whether a request may be sent.
    ///
    /// # Errors
    /// How long until the next one may be the trial.
    pub fn admit(&mut self, now: SystemTime) -> Result<Pass, Duration> {
        let Some((trials, until)) = self.outage() else { return Ok(Pass::Free) };
        match until.duration_since(now) {
            Ok(left) if !left.is_zero() => Err(left),
            _ => {
                self.generation += 1;
                self.phase = Phase::HalfOpen { trials: trials + 1, began: now };
                Ok(Pass::Trial(trials + 1))
            }
        }
    }

    /// The number of the present generation. Requests of different generations are not coalesced:
    /// one of this generation does not wait for an answer that an earlier one will never get. A new
    /// one begins after each failure, and when it is time for a trial.
    pub fn generation(&self, now: SystemTime) -> u64 {
        self.generation + u64::from(self.outage().is_some_and(|(_, until)| now >= until))
    }

    /// Trials so far, and when the next may be.
    fn outage(&self) -> Option<(u32, SystemTime)> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { trials, until } => Some((trials, until)),
            Phase::HalfOpen { trials, began } => Some((trials, began + LONGEST)),
        }
    }

    /// A request failed, or is silent. `Some`: this changed the state.
    ///
    /// `jitter` in 0..=1 spreads the trials of many who lost the same host: the pause is half to
    /// all of 1 s, 2 s, 4 s, 5 s …
    pub fn failed(&mut self, pass: Pass, failed: Failed, jitter: f64) -> Option<State> {
        match &mut self.phase {
            Phase::Closed { row, last } => {
                let is_news = last.is_none_or(|last| failed.since >= last)
                    && self.answered.is_none_or(|answered| failed.sent >= answered);
                let counted = row.iter().filter(|before| **before == failed.how).count();
                if !is_news || counted >= failed.how.most() {
                    return None;
                }
                if row.is_empty() {
                    self.since = failed.at;
                }
                row.push(failed.how);
                *last = Some(failed.at);
                self.generation += 1;
                if row.len() < ROW {
                    return None;
                }
                self.phase = Phase::Open { trials: 0, until: failed.at + pause(0, jitter) };
                Some(State::Open)
            }
            Phase::HalfOpen { trials, .. } if pass == Pass::Trial(*trials) => {
                let trials = *trials;
                self.phase = Phase::Open { trials, until: failed.at + pause(trials, jitter) };
                Some(State::Open)
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// The host answered. `Some`: this changed the state.
    pub fn answered(&mut self, now: SystemTime) -> Option<State> {
        let before = self.state();
        self.phase = Phase::closed();
        self.answered = Some(now);
        (before != State::Closed).then_some(State::Closed)
    }

    /// The request was dropped by its caller, and it says nothing of the host: the next one may be
    /// the trial.
    pub fn given_up(&mut self, pass: Pass, now: SystemTime) {
        if let Phase::HalfOpen { trials, .. } = self.phase
            && pass == Pass::Trial(trials)
        {
            self.phase = Phase::Open { trials, until: now };
        }
    }
}

impl Phase {
    fn closed() -> Phase {
        Phase::Closed { row: Vec::new(), last: None }
    }
}

fn pause(trials: u32, jitter: f64) -> Duration {
    let whole = FIRST.saturating_mul(1 << trials.min(8)).min(LONGEST);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn failed(how: Failure, since: u64, now: u64) -> Failed {
        Failed { how, sent: at(since), since: at(since), at: at(now) }
    }

    fn fail(breaker: &mut Breaker, began: u64, now: u64) -> Option<State> {
        breaker.failed(Pass::Free, failed(Failure::Unreachable, began, now), 1.0)
    }

    fn open() -> Breaker {
        let mut breaker = Breaker::new(at(0));
        assert_eq!(
            [fail(&mut breaker, 0, 0), fail(&mut breaker, 0, 0), fail(&mut breaker, 0, 0)],
            [None, None, Some(State::Open)]
        );
        breaker
    }

    #[test]
    fn three_in_a_row_open_and_what_overlaps_is_one() {
        for (failures, state) in [
            (vec![(0, 1), (2, 3)], State::Closed),
            (vec![(0, 1), (2, 3), (4, 5)], State::Open),
            // Streams of one connection.
            (vec![(0, 5), (1, 5), (2, 5), (3, 6), (4, 7)], State::Closed),
            (vec![(0, 5), (1, 6), (5, 7), (6, 7), (7, 8)], State::Open),
        ] {
            let mut breaker = Breaker::new(at(0));
            for (began, now) in &failures {
                fail(&mut breaker, *began, *now);
            }
            assert_eq!(breaker.state(), state, "{failures:?}");
        }
    }

    #[test]
    fn an_answer_begins_a_new_row() {
        let mut breaker = Breaker::new(at(0));
        for now in 0..20 {
            assert_eq!(fail(&mut breaker, now, now), None);
            assert_eq!(fail(&mut breaker, now, now), None);
            assert_eq!(breaker.answered(at(now)), None);
        }
    }

    #[test]
    fn what_one_image_or_one_request_does_opens_nothing() {
        use Failure::{Of, Silent, Unreachable};
        for (row, state) in [
            (vec![Of(1); 100], State::Closed),
            (vec![Of(1), Of(2), Of(1), Of(2), Of(1)], State::Closed),
            (vec![Of(1), Of(2), Of(3)], State::Open),
            (vec![Silent(1); 100], State::Closed),
            (vec![Silent(1), Silent(1), Silent(2)], State::Open),
            (vec![Silent(1), Of(1), Unreachable], State::Open),
        ] {
            let mut breaker = Breaker::new(at(0));
            for (how, now) in row.iter().zip(0..) {
                breaker.failed(Pass::Free, failed(*how, now, now), 1.0);
            }
            assert_eq!(breaker.state(), state, "{row:?}");
        }
    }

    /// What was swallowed before an outage goes on being silent after it.
    #[test]
    fn what_was_sent_before_the_last_answer_says_nothing() {
        let mut breaker = open();
        assert_eq!(breaker.answered(at(10)), Some(State::Closed));
        for (now, request) in (20..100).zip([1, 2, 3].into_iter().cycle()) {
            let late = Failed { how: Failure::Silent(request), sent: at(9), since: at(now), at: at(now) };
            assert_eq!(breaker.failed(Pass::Free, late, 1.0), None);
        }
    }

    #[test]
    fn a_trial_at_a_time_ever_later_until_one_is_answered() {
        let mut breaker = open();
        assert_eq!(breaker.since(), at(0));
        let mut now = 0;
        for (n, pause) in [1000, 2000, 4000, 5000, 5000].into_iter().enumerate() {
            let (trial, generation) = (u32::try_from(n).unwrap() + 1, breaker.generation(at(now)));
            assert_eq!(breaker.admit(at(now + pause - 1)), Err(Duration::from_millis(1)));
            now += pause;
            assert_eq!((breaker.generation(at(now)), breaker.admit(at(now))), (generation + 1, Ok(Pass::Trial(trial))));
            assert_eq!((breaker.state(), breaker.generation(at(now))), (State::HalfOpen, generation + 1));
            assert_eq!(breaker.admit(at(now)), Err(LONGEST), "one at a time");
            assert_eq!(fail(&mut breaker, now, now), None, "not the trial's");
            let vain = failed(Failure::Of(1), now, now);
            assert_eq!(breaker.failed(Pass::Trial(trial), vain, 1.0), Some(State::Open));
        }
        assert!(
            breaker.is_away(at(now + 9999)) && !breaker.is_away(at(now + 10_000)),
            "5 s after the next trial was due"
        );
        let generation = breaker.generation(at(now));
        assert_eq!(breaker.answered(at(now)), Some(State::Closed));
        assert_eq!(
            (breaker.admit(at(now)), breaker.generation(at(now))),
            (Ok(Pass::Free), generation),
            "none comes twice"
        );
    }

    #[test]
    fn a_trial_that_is_given_up_or_says_nothing_keeps_nobody() {
        let mut breaker = open();
        assert_eq!(breaker.admit(at(1000)), Ok(Pass::Trial(1)));
        breaker.given_up(Pass::Trial(1), at(1001));
        assert_eq!(breaker.admit(at(1001)), Ok(Pass::Trial(2)));
        assert_eq!(breaker.admit(at(6001)), Ok(Pass::Trial(3)));
        breaker.given_up(Pass::Trial(2), at(6002));
        let late = failed(Failure::Unreachable, 1001, 6002);
        assert_eq!(breaker.failed(Pass::Trial(2), late, 1.0), None, "long past");
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    proptest! {
        /// Whatever happens: no request is refused for longer than the longest pause, one answer ends
        /// it, trials do not overlap but where one says nothing, and no state is without a way out.
        #[test]
        fn whatever_happens(events in proptest::collection::vec((0u8..5, 0u64..3000, 0.0f64..1.0), 0..200)) {
            let (mut breaker, mut now, mut generation) = (Breaker::new(at(0)), 0, 0);
            let mut trial: Option<(Pass, u64)> = None;
            for (event, later, jitter) in events {
                now += later;
                match event {
                    0 => match breaker.admit(at(now)) {
                        Ok(pass @ Pass::Trial(_)) => {
                            prop_assert!(trial.is_none_or(|(_, began)| at(now) >= at(began) + LONGEST));
                            trial = Some((pass, now));
                        }
                        Ok(Pass::Free) => prop_assert_eq!(breaker.state(), State::Closed),
                        Err(wait) => {
                            prop_assert!(breaker.state() != State::Closed && wait <= LONGEST && !wait.is_zero());
                            let (next, mut other) = (at(now) + wait, breaker.clone());
                            prop_assert!(matches!(other.admit(next), Ok(Pass::Trial(_))));
                        }
                    },
                    1 => { breaker.failed(Pass::Free, failed(Failure::Silent(later % 3), now, now), jitter); }
                    2 => if let Some((pass, began)) = trial.take() {
                        breaker.failed(pass, failed(Failure::Of(later), began, now), jitter);
                        prop_assert!(breaker.state() != State::HalfOpen);
                    },
                    3 => if let Some((pass, _)) = trial.take() { breaker.given_up(pass, at(now)); },
                    _ => {
                        breaker.answered(at(now));
                        trial = None;
                        prop_assert_eq!(breaker.admit(at(now)), Ok(Pass::Free));
                    }
                }
                prop_assert!(breaker.generation >= generation);
                generation = breaker.generation;
            }
        }
    }
}
