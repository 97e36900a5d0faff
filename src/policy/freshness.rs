//! Whether a tag is answered without asking upstream, and what follows from upstream's answer.
//!
//! 1. [`before`]: a binding that was confirmed less than its ttl ago is served, unless a push of the
//!    tag may have moved it; else upstream is asked.
//! 2. [`after`]: what is done with upstream's answer, or without one.
//!
//! A push that upstream took makes bindings of its tag that were asked for before its answer came
//! [overtaken](Pushed::overtook): they are not fresh any more, and stand like others while upstream
//! cannot be asked. A push that was refused changes nothing.

use std::time::{Duration, SystemTime};

use wildmatch::WildMatch;

use super::access::within;
use crate::error::Kind;

/// How tags age. `Duration::MAX` is forever.
#[derive(Clone, Debug)]
pub struct Tags {
    /// A tag asked less than this ago is not asked again.
    pub ttl: Duration,
    /// How long a tag may be served after upstream stopped answering.
    pub stale: Duration,
    /// What a 404 for a tag that is cached means.
    pub gone: Gone,
    /// First match wins.
    pub rules: Vec<Rule>,
}

/// What to do when upstream answers 404 for a tag that is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The tag is served, marked stale.
    Serve,
    /// The tag is deleted upstream: it is forgotten here.
    Forget,
}

/// A ttl for some tags.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Matches the whole of `REGISTRY/REPOSITORY:TAG`.
    pub names: WildMatch,
    /// In place of [`Tags::ttl`].
    pub ttl: Duration,
}

impl Tags {
    /// The ttl of `REGISTRY/REPOSITORY:TAG`.
    pub fn ttl_of(&self, name: &str) -> Duration {
        self.rules.iter().find(|rule| rule.names.matches(name)).map_or(self.ttl, |rule| rule.ttl)
    }
}

/// Whether upstream must be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The binding is fresh.
    Serve,
    /// Upstream is asked first.
    Ask,
}

/// Decides for a binding that was last confirmed at `checked` (`None`: there is no binding, or a
/// push overtook it), and a tag with these pushes.
pub fn before(checked: Option<SystemTime>, ttl: Duration, pushed: Pushed, now: SystemTime) -> Before {
    let is_fresh = within(checked, ttl, now) && !pushed.may_be_moving(now);
    if is_fresh { Before::Serve } else { Before::Ask }
}

/// Pushes and removals of one tag that came through seawall in the last [`REMEMBERED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// When upstream's answer came that it took the last one.
    pub taken: Option<SystemTime>,
    /// When all of the last one had left that still waits for upstream's answer.
    pub waiting: Option<SystemTime>,
}

/// How long it is remembered that a tag was pushed.
pub const REMEMBERED: Duration = Duration::from_secs(60);
/// How long upstream's answer to a push is waited for.
pub const ANSWERED: Duration = Duration::from_secs(10);

impl Pushed {
    /// Whether upstream may have moved the tag without having said so yet.
    pub fn may_be_moving(self, now: SystemTime) -> bool {
        within(self.waiting, ANSWERED, now)
    }

    /// Whether an answer that comes now, to a question that was sent at `sent`, may be what the tag
    /// named before a push. Of a question that is older than the memory of pushes nobody knows.
    pub fn overtook(self, sent: SystemTime, now: SystemTime) -> bool {
        self.taken.is_some_and(|taken| sent <= taken) || !within(Some(sent), REMEMBERED, now)
    }
}

/// Whether what is kept may be served to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// Why upstream gave no usable answer; [`Reason::as_str`] is the word of the metric and of the
/// warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// DNS, TCP or TLS failed.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// 5xx, or nonsense.
    Broken,
    /// Answered with 429.
    RateLimited,
    /// Deleted upstream: 404 for what is cached.
    Gone,
}

impl Reason {
    /// Why upstream could not be asked, if that is what an error says.
    pub fn of(kind: Kind) -> Option<Reason> {
        match kind {
            Kind::Unreachable | Kind::Forbidden | Kind::Looped => Some(Reason::Unreachable),
            // No answer in time, whoever kept it waiting.
            Kind::Timeout | Kind::Busy => Some(Reason::Timeout),
            Kind::Limited => Some(Reason::RateLimited),
            Kind::Broken | Kind::Corrupt => Some(Reason::Broken),
            Kind::Request
            | Kind::Misdirected
            | Kind::Rejected
            | Kind::Refused
            | Kind::Missing
            | Kind::Full
            | Kind::Ours => None,
        }
    }

    /// The word of the metric and of the warning.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unreachable => "unreachable",
            Reason::Timeout => "timeout",
            Reason::Broken => "error",
            Reason::RateLimited => "rate-limited",
            Reason::Gone => "gone",
        }
    }
}

/// Upstream's answer to a HEAD of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The digest that is bound already.
    Same,
    /// Another digest, or the first.
    Other,
    /// Upstream has no such tag: 404.
    Missing,
    /// 401 or 403, or the request was wrong in itself.
    Refused,
    /// No usable answer.
    Away(Reason),
}

/// What is done after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The binding is good for another ttl.
    Confirmed,
    /// The tag is bound to the new digest.
    Moved,
    /// The old binding is served, marked stale.
    Stale(Reason),
    /// The tag is deleted upstream: the binding is removed and the answer passed on.
    Forget,
    /// The answer is passed on.
    Fail,
}

/// Whether a binding that was last confirmed at `checked` may be served while there is no newer
/// answer.
pub fn may_be_stale(checked: SystemTime, tags: &Tags, now: SystemTime) -> bool {
    within(Some(checked), tags.stale, now)
}

/// Decides after `answer`. `checked`: when the binding was last confirmed, `None` if there is no
/// binding; `stands`: whether the client's grant holds while upstream is unreachable.
pub fn after(answer: Answer, checked: Option<SystemTime>, stands: Granted, tags: &Tags, now: SystemTime) -> After {
    let kept = checked.is_some();
    match answer {
        Answer::Same if kept => After::Confirmed,
        Answer::Same | Answer::Other => After::Moved,
        Answer::Refused => After::Fail,
        Answer::Missing if kept && tags.gone == Gone::Forget => After::Forget,
        Answer::Missing if kept && stands == Granted::Yes => After::Stale(Reason::Gone),
        Answer::Away(reason) if stands == Granted::Yes && within(checked, tags.stale, now) => After::Stale(reason),
        Answer::Missing | Answer::Away(_) => After::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(gone: Gone) -> Tags {
        let rule = |names: &str, seconds| Rule { names: WildMatch::new(names), ttl: Duration::from_secs(seconds) };
        let rules = vec![rule("*:latest", 30), rule("ghcr.io/acme/*:v*.*.*", 9999)];
        Tags { ttl: Duration::from_secs(60), stale: Duration::from_secs(3600), gone, rules }
    }

    /// Pitfall 10: freshness by a loose expression.
    #[test]
    fn rules_match_whole_names() {
        let tags = tags(Gone::Serve);
        for (name, seconds) in [
            ("docker.io/library/alpine:latest", 30),
            ("docker.io/library/alpine:latest-1", 60),
            ("docker.io/library/alpine:3.12", 60),
            ("ghcr.io/acme/app:v1.2.3", 9999),
            ("ghcr.io/other/app:v1.2.3", 60),
        ] {
            assert_eq!(tags.ttl_of(name).as_secs(), seconds, "{name}");
        }
    }

    #[test]
    fn asked_or_served() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let ttl = Duration::from_secs(60);
        let waiting = |seconds| Pushed { waiting: ago(seconds), taken: None };
        let taken = Pushed { waiting: None, taken: ago(30) };
        for (checked, pushed, expected) in [
            (ago(59), Pushed::default(), Before::Serve),
            (ago(60), Pushed::default(), Before::Ask),
            (None, Pushed::default(), Before::Ask),
            (ago(59), waiting(0), Before::Ask),
            (ago(0), waiting(9), Before::Ask),
            (ago(59), waiting(10), Before::Serve),
            // What it overtook says so itself.
            (ago(59), taken, Before::Serve),
        ] {
            assert_eq!(before(checked, ttl, pushed, now), expected, "{checked:?} {pushed:?}");
        }
    }

    #[test]
    fn a_push_overtakes_what_was_asked_before_its_answer_came() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| now - Duration::from_secs(seconds);
        for (taken, sent, expected) in [
            (None, 0, false),
            (None, 59, false),
            (None, 60, true),
            (Some(30), 31, true),
            (Some(30), 30, true),
            (Some(30), 29, false),
        ] {
            // One that waits has moved nothing yet; if it is taken, that overtakes what is bound now.
            for waiting in [None, Some(ago(1))] {
                let pushed = Pushed { taken: taken.map(ago), waiting };
                assert_eq!(pushed.overtook(ago(sent), now), expected, "{pushed:?}, asked {sent} s ago");
            }
        }
    }

    #[test]
    fn every_answer() {
        use After::{Confirmed, Fail, Forget, Moved, Stale};
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let away = Answer::Away(Reason::RateLimited);
        for (answer, checked, stands, gone, expected) in [
            (Answer::Same, ago(9), Granted::No, Gone::Serve, Confirmed),
            (Answer::Other, ago(9), Granted::No, Gone::Serve, Moved),
            (Answer::Other, None, Granted::No, Gone::Serve, Moved),
            (Answer::Refused, ago(9), Granted::Yes, Gone::Serve, Fail),
            (Answer::Missing, ago(9), Granted::Yes, Gone::Serve, Stale(Reason::Gone)),
            (Answer::Missing, ago(9), Granted::No, Gone::Serve, Fail),
            (Answer::Missing, ago(9), Granted::Yes, Gone::Forget, Forget),
            (Answer::Missing, None, Granted::Yes, Gone::Forget, Fail),
            (away, ago(9), Granted::Yes, Gone::Serve, Stale(Reason::RateLimited)),
            (away, ago(9), Granted::No, Gone::Serve, Fail),
            (away, ago(3600), Granted::Yes, Gone::Serve, Fail),
            (away, None, Granted::Yes, Gone::Serve, Fail),
        ] {
            let said = after(answer, checked, stands, &tags(gone), now);
            assert_eq!(said, expected, "{answer:?} {checked:?} {stands:?} {gone:?}");
        }
    }
}
