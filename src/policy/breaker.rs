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
//! opens anything; nor does one client, whose images they all may be: where it is alone to complain,
//! seawall asks a question of its own, and what becomes of that decides.

use std::time::{Duration, SystemTime};

use super::budget::Tenant;

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

/// What a request was about, and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What breaks together: an image that is broken there, asked for again and again, says nothing of
    /// the others.
    pub subject: u64,
    /// Whose request it was.
    pub client: Tenant,
}

/// How a host failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection: DNS, TCP, TLS.
    Unreachable,
    /// The connection broke, or a gateway answered that it gets none (502, 503, 504).
    Of(Asked),
    /// The request of this number is silent. It may be slow to answer, and goes on being so.
    Silent(u64, Asked),
    /// A question of seawall's own failed.
    Own,
}

impl Failure {
    /// How often it counts in one row.
    fn most(self) -> usize {
        match self {
            Failure::Unreachable | Failure::Own => ROW,
            Failure::Of(_) => 1,
            Failure::Silent(..) => ROW - 1,
        }
    }

    fn is_same(self, other: Failure) -> bool {
        match (self, other) {
            (Failure::Of(one), Failure::Of(other)) => one.subject == other.subject,
            (Failure::Silent(one, _), Failure::Silent(other, _)) => one == other,
            (one, other) => one == other,
        }
    }

    fn asked(self) -> Option<Asked> {
        match self {
            Failure::Of(asked) | Failure::Silent(_, asked) => Some(asked),
            Failure::Unreachable | Failure::Own => None,
        }
    }
}

/// Whether a row says that the host is away: no connection, or failures of two clients that asked for
/// different things.
fn is_proved(row: &[Failure]) -> bool {
    let asked = || row.iter().filter_map(|failure| failure.asked());
    let Some(first) = asked().next() else { return true };
    asked().any(|other| other.client != first.client) && asked().any(|other| other.subject != first.subject)
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// The host is away, or still is.
    Away,
    /// It may be: a question of seawall's own is to be asked.
    Ask,
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

    /// A request failed, or is silent.
    ///
    /// `jitter` in 0..=1 spreads the trials of many who lost the same host: the pause is half to
    /// all of 1 s, 2 s, 4 s, 5 s …
    pub fn failed(&mut self, pass: Pass, failed: Failed, jitter: f64) -> Verdict {
        match &mut self.phase {
            Phase::Closed { row, last } => {
                let is_news = last.is_none_or(|last| failed.since >= last)
                    && self.answered.is_none_or(|answered| failed.sent >= answered);
                let counted = row.iter().filter(|before| before.is_same(failed.how)).count();
                if !is_news || counted >= failed.how.most() {
                    return Verdict::Nothing;
                }
                if row.is_empty() {
                    self.since = failed.at;
                }
                if row.len() < ROW {
                    row.push(failed.how);
                    *last = Some(failed.at);
                    self.generation += 1;
                }
                match failed.how {
                    Failure::Own => self.open(0, failed.at, jitter),
                    _ if row.len() < ROW => Verdict::Nothing,
                    _ if is_proved(row) => self.open(0, failed.at, jitter),
                    _ => Verdict::Ask,
                }
            }
            Phase::HalfOpen { trials, .. } if failed.how == Failure::Own || pass == Pass::Trial(*trials) => {
                let trials = *trials;
                match failed.how.asked() {
                    Some(_) => Verdict::Ask,
                    None => self.open(trials, failed.at, jitter),
                }
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => Verdict::Nothing,
        }
    }

    fn open(&mut self, trials: u32, now: SystemTime, jitter: f64) -> Verdict {
        self.phase = Phase::Open { trials, until: now + pause(trials, jitter) };
        Verdict::Away
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
mod tests;
