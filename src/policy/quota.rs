//! What upstream's figures mean: when a quota is spent, when it is free again, whether this pull
//! may take from it, how long a 429 holds.
//!
//! Windows are taken to be fixed, and to have begun when their figures were first seen: that is
//! never too early. Where they slide, or end sooner, upstream's next figures say so, and those come
//! with every HEAD.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::oci::rate_limit::RateLimit;

/// Which limit a 429 speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Pulls in a window: GETs of manifests. What is not counted is still answered.
    Pulls,
    /// Requests of any kind in a short time: none is answered.
    Abuse,
    /// Tokens and logins, at the token service.
    Tokens,
}

impl Limit {
    /// The word of the metrics and of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Pulls => "pulls",
            Limit::Abuse => "abuse",
            Limit::Tokens => "tokens",
        }
    }

    /// Whether a request of this sort has to wait for it.
    pub fn holds(self, cost: Cost) -> bool {
        match self {
            Limit::Pulls => cost == Cost::Counted,
            Limit::Abuse => cost != Cost::Token,
            Limit::Tokens => cost == Cost::Token,
        }
    }
}

/// Whether upstream counts a request as a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// A GET of a manifest.
    Counted,
    /// Anything else of a registry: HEAD, blobs, lists.
    Free,
    /// A token, or a login: of another service.
    Token,
}

/// Of a 429 to a request that costs this: which limit is it? Docker Hub's pull limit is JSON, its
/// abuse limit text.
pub fn limit_of(cost: Cost, content_type: &str, said: Option<&RateLimit>) -> Limit {
    let is_json = content_type.to_ascii_lowercase().contains("json");
    let is_spent = said.is_some_and(|said| said.remaining == 0);
    match cost {
        Cost::Token => Limit::Tokens,
        Cost::Counted if is_json || is_spent => Limit::Pulls,
        Cost::Counted | Cost::Free => Limit::Abuse,
    }
}

/// How long a 429 holds that does not say.
const UNSAID: Duration = Duration::from_secs(60);
/// How long one holds at most, whatever it says: then upstream is asked once more.
pub const LONGEST: Duration = Duration::from_secs(86_400);

/// Until when a 429 of `now` holds: what it says itself, else until the window ends, else a minute.
pub fn stands_until(
    limit: Limit,
    retry_after: Option<Duration>,
    figures: Option<&Figures>,
    now: SystemTime,
) -> SystemTime {
    let window = || figures.filter(|_| limit == Limit::Pulls)?.free_at()?.duration_since(now).ok();
    let wait = retry_after.or_else(window).unwrap_or(UNSAID);
    now + wait.clamp(Duration::from_secs(1), LONGEST)
}

/// Clients that do as `Retry-After` says, in silence: a minute at a time, four times and more
/// (containers/image: podman, skopeo, buildah, CRI-O). With an hour to wait their users see nothing
/// for minutes, and then that it failed.
const OBEDIENT: [&str; 6] = ["containers/", "skopeo/", "libpod/", "podman/", "buildah/", "cri-o/"];
/// What is worth waiting for.
const SHORT: Duration = Duration::from_secs(60);

/// Whether a client that calls itself `user_agent` gets `Retry-After` for `wait`, beside the
/// message that says so anyway.
pub fn is_told_to_wait(user_agent: &str, wait: Duration) -> bool {
    let obeys = |name: &&str| user_agent.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    wait <= SHORT || !OBEDIENT.iter().any(obeys)
}

/// What a pull is for, where the last pulls are kept for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// What is pinned: until there are pins of the operator's, what the client itself asks for by
    /// digest.
    Pinned,
    /// A tag, whatever it names now.
    Floating,
}

/// Whether a pull may be taken off the quota, when the last `reserve` are for what is pinned.
/// Figures of a window that is over say nothing.
pub fn may_spend(figures: &Figures, reserve: u64, aim: Aim, now: SystemTime) -> bool {
    aim == Aim::Pinned || figures.remaining > reserve || !figures.hold(now)
}

/// How long figures hold that come without a window.
const WITHOUT_WINDOW: Duration = Duration::from_secs(60);
/// How much of the past is the present rate.
const RECENT: Duration = Duration::from_secs(3600);
/// A rate of less than this is too short to mean something.
const SHORTEST: Duration = Duration::from_secs(60);
/// Points of the past that are kept, in the whole of [`RECENT`].
const POINTS: u32 = 30;
/// Parts of a quota, in percent, at which the operator is warned; the last first.
const WARNINGS: [u64; 2] = [10, 25];

/// A quota, as upstream last said, and what it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Pulls in one window.
    pub limit: u64,
    /// Pulls that were left.
    pub remaining: u64,
    /// How long the window is, where it is said.
    pub window: Option<Duration>,
    /// When upstream said so.
    pub at: SystemTime,
    /// When this window was first seen.
    pub began: SystemTime,
    /// The least percentage of this window that was warned of; 100: none.
    pub warned: u64,
    past: VecDeque<(SystemTime, u64)>,
}

/// What is to be expected at the present rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Pulls an hour, over the recent past. `None`: not enough of it is known.
    pub per_hour: Option<f64>,
    /// When none will be left, if that is before the window ends.
    pub spent_at: Option<SystemTime>,
    /// When all will be there again, at the latest.
    pub free_at: Option<SystemTime>,
}

impl Figures {
    /// The first that upstream says.
    pub fn new(said: &RateLimit, now: SystemTime) -> Figures {
        let RateLimit { limit, remaining, window, .. } = *said;
        Figures { limit, remaining, window, at: now, began: now, warned: 100, past: VecDeque::from([(now, remaining)]) }
    }

    /// Those of another run of this process: when they were said, and when their window began.
    pub fn restored(said: &RateLimit, at: SystemTime, began: SystemTime, warned: u64) -> Figures {
        Figures { began: began.min(at), warned, ..Figures::new(said, at) }
    }

    /// What upstream says next. Replies may come in another order than they were sent: a small rise
    /// is no new window.
    pub fn update(&mut self, said: &RateLimit, now: SystemTime) {
        let rise = said.remaining.saturating_sub(self.remaining);
        let renewed = rise > said.limit / 10 || (self.remaining == 0 && rise > 0);
        if renewed || !self.hold(now) || said.limit != self.limit || said.window != self.window {
            *self = Figures::new(said, now);
            return;
        }
        (self.remaining, self.at) = (said.remaining, now);
        while self.past.len() > 1 && older(self.past[0].0, RECENT, now) {
            self.past.pop_front();
        }
        if self.past.back().is_none_or(|(at, _)| older(*at, RECENT / POINTS, now)) {
            self.past.push_back((now, said.remaining));
        }
    }

    /// Whether the window they are of is not over.
    pub fn hold(&self, now: SystemTime) -> bool {
        now < self.free_at().unwrap_or(self.at + WITHOUT_WINDOW)
    }

    /// When this window ends, at the latest.
    pub fn free_at(&self) -> Option<SystemTime> {
        Some(self.began + self.window?)
    }

    /// What is to be expected now.
    pub fn forecast(&self, now: SystemTime) -> Forecast {
        if !self.hold(now) {
            return Forecast { per_hour: None, spent_at: None, free_at: None };
        }
        let free_at = self.free_at();
        let oldest = self.past.iter().find(|(at, _)| !older(*at, RECENT, now)).or(self.past.back());
        let (since, had) = oldest.copied().unwrap_or((self.at, self.remaining));
        // Since then until now: a pause is part of the rate.
        let took = now.duration_since(since).unwrap_or_default();
        if took < SHORTEST {
            let spent_at = (self.remaining == 0).then_some(self.at);
            return Forecast { per_hour: None, spent_at, free_at };
        }
        let rate = had.saturating_sub(self.remaining) as f64 / took.as_secs_f64();
        let spent_at = if self.remaining == 0 {
            Some(self.at)
        } else {
            let left = Duration::try_from_secs_f64(self.remaining as f64 / rate).ok();
            left.and_then(|left| now.checked_add(left)).filter(|at| free_at.is_none_or(|free| *at < free))
        };
        Forecast { per_hour: Some(rate * 3600.0), spent_at, free_at }
    }

    /// The percentage that is to be warned of now: once for each in a window.
    pub fn warning(&mut self) -> Option<u64> {
        let left = |percent: u64| u128::from(self.remaining) * 100 <= u128::from(self.limit) * u128::from(percent);
        let percent = WARNINGS.into_iter().find(|percent| left(*percent)).filter(|_| self.limit > 0)?;
        let is_news = percent < self.warned;
        self.warned = self.warned.min(percent);
        is_news.then_some(percent)
    }
}

fn older(at: SystemTime, age: Duration, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|passed| passed >= age)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn said(remaining: u64, window: Option<u64>) -> RateLimit {
        RateLimit { limit: 100, remaining, window: window.map(Duration::from_secs), source: None }
    }

    fn figures(steps: &[(u64, u64)], window: u64) -> Figures {
        let mut figures = Figures::new(&said(steps[0].1, Some(window)), at(steps[0].0));
        for (when, remaining) in &steps[1..] {
            figures.update(&said(*remaining, Some(window)), at(*when));
        }
        figures
    }

    /// Docker Hub's two 429s (docs/protocol.md 1.4), and those of others.
    #[test]
    fn who_waits_in_silence_is_not_told_to_wait_for_hours() {
        for (user_agent, seconds, told) in [
            ("containers/5.24.2 (github.com/containers/image)", 61, false),
            ("skopeo/1.9.3", 3600, false),
            ("Buildah/1.28.2", 3600, false),
            ("containers/5.24.2 (github.com/containers/image)", 60, true),
            ("containerd/1.6.20+unknown", 3600, true),
            ("docker/20.10.24", 3600, true),
            ("é", 3600, true),
            ("", 3600, true),
        ] {
            assert_eq!(is_told_to_wait(user_agent, Duration::from_secs(seconds)), told, "{user_agent} {seconds}");
        }
    }

    #[test]
    fn which_limit_a_429_speaks_of() {
        use Cost::{Counted, Free, Token};
        let (spent, left) = (said(0, None), said(9, None));
        for (cost, content_type, said, limit) in [
            (Counted, "application/json", Some(&spent), Limit::Pulls),
            (Counted, "Application/JSON; charset=utf-8", None, Limit::Pulls),
            (Counted, "application/vnd.oci.error+json", None, Limit::Pulls),
            (Counted, "", Some(&spent), Limit::Pulls),
            (Counted, "text/plain; charset=utf-8", None, Limit::Abuse),
            (Counted, "text/plain", Some(&left), Limit::Abuse),
            (Counted, "", None, Limit::Abuse),
            // HEAD is answered when no pull is left: one that is not has another reason.
            (Free, "application/json", Some(&spent), Limit::Abuse),
            (Free, "text/plain", None, Limit::Abuse),
            (Token, "application/json", Some(&spent), Limit::Tokens),
            (Token, "text/plain", None, Limit::Tokens),
        ] {
            assert_eq!(limit_of(cost, content_type, said), limit, "{cost:?} {content_type:?}");
        }
        for (limit, held) in [
            (Limit::Pulls, [true, false, false]),
            (Limit::Abuse, [true, true, false]),
            (Limit::Tokens, [false, false, true]),
        ] {
            assert_eq!([Counted, Free, Token].map(|cost| limit.holds(cost)), held, "{limit:?}");
        }
    }

    #[test]
    fn how_long_a_429_stands() {
        let seen = figures(&[(0, 50)], 6 * HOUR);
        let endless = Figures::new(&said(0, None), at(0));
        let long = Figures::new(&said(0, Some(300 * 86_400)), at(0));
        for (limit, retry_after, figures, now, until) in [
            (Limit::Pulls, Some(30), Some(&seen), HOUR, HOUR + 30),
            (Limit::Pulls, None, Some(&seen), HOUR, 6 * HOUR),
            (Limit::Pulls, None, Some(&seen), 7 * HOUR, 7 * HOUR + 60),
            (Limit::Pulls, None, Some(&endless), HOUR, HOUR + 60),
            (Limit::Pulls, None, Some(&long), 0, 86_400),
            (Limit::Pulls, None, None, HOUR, HOUR + 60),
            (Limit::Pulls, Some(0), None, HOUR, HOUR + 1),
            (Limit::Abuse, None, Some(&seen), HOUR, HOUR + 60),
            (Limit::Abuse, Some(u64::MAX), None, 0, 86_400),
            (Limit::Tokens, Some(49), None, 0, 49),
        ] {
            let retry_after = retry_after.map(Duration::from_secs);
            let said = stands_until(limit, retry_after, figures, at(now));
            assert_eq!(said, at(until), "{limit:?} {retry_after:?} {now}");
        }
    }

    #[test]
    fn the_last_pulls_are_for_what_is_pinned() {
        let left = |remaining| figures(&[(0, remaining)], HOUR);
        for (remaining, reserve, aim, now, may) in [
            (11, 10, Aim::Floating, 0, true),
            (10, 10, Aim::Floating, 0, false),
            (10, 10, Aim::Pinned, 0, true),
            (0, 10, Aim::Pinned, 0, true),
            (1, 0, Aim::Floating, 0, true),
            (10, 10, Aim::Floating, HOUR - 1, false),
            (10, 10, Aim::Floating, HOUR, true),
        ] {
            assert_eq!(may_spend(&left(remaining), reserve, aim, at(now)), may, "{remaining} {reserve} {aim:?} {now}");
        }
    }

    #[test]
    fn it_is_foreseen_when_none_is_left() {
        let forecast = |steps: &[(u64, u64)], window, now| figures(steps, window).forecast(at(now));
        let plain = |f: Forecast| (f.per_hour.map(|rate| rate.round() as u64), f.spent_at, f.free_at);
        // Sixty in an hour, forty left: forty minutes more.
        let steps = [(0, 100), (1800, 70), (3599, 40)];
        let (rate, spent, free) = plain(forecast(&steps, 6 * HOUR, 3599));
        assert_eq!((rate, free), (Some(60), Some(at(6 * HOUR))));
        let spent = spent.unwrap().duration_since(at(3600)).unwrap().as_secs();
        assert!((2390..=2400).contains(&spent), "{spent}");
        // The window ends before.
        assert_eq!(plain(forecast(&[(0, 100), (1800, 99)], 2 * HOUR, 1800)), (Some(2), None, Some(at(2 * HOUR))));
        // A minute is the least that means something.
        assert_eq!(plain(forecast(&[(0, 100), (59, 1)], HOUR, 59)), (None, None, Some(at(HOUR))));
        assert_eq!(plain(forecast(&[(0, 100), (9, 0)], HOUR, 9)), (None, Some(at(9)), Some(at(HOUR))));
        // What was long ago is not the present rate.
        assert_eq!(plain(forecast(&[(0, 100), (600, 40), (8000, 40), (9000, 40)], 6 * HOUR, 9000)).0, Some(0));
        // Nothing is known of the next window.
        assert_eq!(plain(forecast(&[(0, 10)], HOUR, HOUR)), (None, None, None));
    }

    #[test]
    fn a_window_begins_when_its_figures_rise() {
        assert_eq!(figures(&[(0, 50), (10, 40)], HOUR).began, at(0));
        assert_eq!(figures(&[(0, 50), (10, 52)], HOUR).began, at(0), "replies that overtook each other");
        assert_eq!(figures(&[(0, 50), (10, 99)], HOUR).began, at(10));
        assert_eq!(figures(&[(0, 0), (10, 1)], HOUR).began, at(10));
        assert_eq!(figures(&[(0, 50), (HOUR, 49)], HOUR).began, at(HOUR), "it was over");
        let restored = Figures::restored(&said(5, Some(HOUR)), at(9), at(3), 10);
        assert_eq!((restored.at, restored.began, restored.free_at()), (at(9), at(3), Some(at(HOUR + 3))));
    }

    #[test]
    fn each_warning_comes_once_in_a_window() {
        let mut figures = Figures::new(&said(26, Some(HOUR)), at(0));
        let mut told = vec![figures.warning()];
        for (n, remaining) in [25, 24, 10, 9, 11, 0, 100, 8, 20].into_iter().enumerate() {
            figures.update(&said(remaining, Some(HOUR)), at(n as u64));
            told.push(figures.warning());
        }
        assert_eq!(told, [None, Some(25), None, Some(10), None, None, None, None, Some(10), Some(25)]);
        assert_eq!(Figures::new(&RateLimit { limit: 0, ..said(0, None) }, at(0)).warning(), None);
    }

    proptest! {
        /// Whatever upstream says, in whatever order: no overflow, and never more of the past than
        /// is bounded.
        #[test]
        fn any_figures(steps in proptest::collection::vec((0..u64::MAX, 0..u64::MAX, 0..100_000u64, 1..31_622_400u64), 1..60)) {
            let mut now = at(0);
            let mut figures = Figures::new(&said(1, None), now);
            for (limit, remaining, passed, window) in steps {
                now += Duration::from_secs(passed);
                let window = Some(Duration::from_secs(window)).filter(|_| passed % 3 > 0);
                figures.update(&RateLimit { limit, remaining, window, source: None }, now);
                figures.warning();
                let forecast = figures.forecast(now + Duration::from_secs(passed));
                prop_assert!(forecast.per_hour.is_none_or(|rate| rate >= 0.0));
                prop_assert!(figures.past.len() <= POINTS as usize + 2);
            }
        }
    }
}
