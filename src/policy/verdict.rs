//! How it goes, for people: what is wrong, since when, what that means for pulls, and what to do. The
//! same sentences stand in `seawall status` and in the API.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is wrong.
    Fine,
    /// Worth knowing.
    Notice,
    /// It will go wrong, or does for some.
    Warning,
    /// Pulls fail.
    Outage,
}

impl Level {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Fine => "ok",
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::Outage => "outage",
        }
    }

    /// What stands before a line.
    pub fn symbol(self) -> &'static str {
        match self {
            Level::Fine => "✓",
            Level::Notice => "·",
            Level::Warning => "!",
            Level::Outage => "✗",
        }
    }
}

/// One sentence or two, and how bad that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// For people.
    pub text: String,
}

/// A host that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// The registry's name.
    pub registry: String,
    /// Where it is asked.
    pub host: String,
    /// When the first of the failures in a row was.
    pub since: SystemTime,
    /// What the last one was.
    pub why: String,
    /// What that host is to the registry.
    pub is: Part,
}

/// What a host is to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Without it nothing comes: the registry itself, where no other source is, or its token service.
    Needed,
    /// There is another source, or this is but where the registry sends clients to.
    Bridged,
    /// One of any number, whose name is a client's word: `*.pkg.dev`.
    Named,
}

/// A quota of seawall's own: anonymous's, or the operator's account's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The registry's name.
    pub registry: String,
    /// Whether it is an account's.
    pub is_account: bool,
    /// Pulls in one window.
    pub limit: u64,
    /// Pulls that are left.
    pub remaining: u64,
    /// When there are none left at the present rate.
    pub spent_at: Option<SystemTime>,
    /// When the window ends.
    pub free_at: Option<SystemTime>,
}

/// A registry that answered 429, and is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The registry's name.
    pub registry: String,
    /// Whether that was said to the operator's account.
    pub is_account: bool,
    /// Whether it is a limit of requests, and not the quota of pulls.
    pub is_abuse: bool,
    /// When it is asked again.
    pub until: SystemTime,
}

/// Clients that broke off their handshakes: they do not trust the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// How many.
    pub clients: usize,
    /// The last of them.
    pub last: IpAddr,
    /// When that was.
    pub at: SystemTime,
}

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Hosts that do not answer.
    pub unreachable: Vec<Unreachable>,
    /// 429s that stand.
    pub limited: Vec<Limited>,
    /// Quotas whose window is not over.
    pub quotas: Vec<Quota>,
    /// Since when downloads are not kept for want of room.
    pub full_since: Option<SystemTime>,
    /// Clients without the root.
    pub distrust: Option<Distrust>,
    /// Damaged blobs that were found since the start.
    pub rotten: u64,
    /// When the root's certificate ends.
    pub root_ends: SystemTime,
}

/// The end of a certificate that is near.
const NEAR: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 3600;

/// What is to be said, the worst first; never nothing.
pub fn verdict(facts: &Facts, now: SystemTime) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.unreachable.iter().filter_map(|it| unreachable(it, now)).collect();
    found.extend(named(&facts.unreachable));
    found.extend(facts.limited.iter().map(|it| limited(it, now)));
    let is_limited =
        |it: &Quota| facts.limited.iter().any(|by| by.registry == it.registry && by.is_account == it.is_account);
    found.extend(facts.quotas.iter().filter(|it| !is_limited(it)).filter_map(|it| scarce(it, now)));
    found.extend(facts.full_since.map(|since| full(since, now)));
    found.extend(facts.distrust.map(|it| distrust(it, now)));
    found.extend(root_ends(facts.root_ends, now));
    found.extend(rotten(facts.rotten));
    found.sort_by_key(|found| std::cmp::Reverse(found.level));
    if found.is_empty() {
        found.push(Finding { level: Level::Fine, text: fine(&facts.quotas, now) });
    }
    found
}

fn unreachable(it: &Unreachable, now: SystemTime) -> Option<Finding> {
    let Unreachable { registry, host, since, why, is } = it;
    let of = if registry == host { String::new() } else { format!(" ({registry})") };
    let (level, means) = match is {
        Part::Needed => (Level::Outage, "What is here is served; what is not here fails."),
        Part::Bridged => {
            (Level::Warning, "The registry itself can be asked; what needs this host fails, or takes another way.")
        }
        Part::Named => return None,
    };
    let since = moment(*since, now);
    Some(Finding { level, text: format!("{host}{of} does not answer since {since}: {why}. {means}") })
}

/// No client makes an outage of names that it thought of.
fn named(all: &[Unreachable]) -> Option<Finding> {
    let mut registries: Vec<_> = all.iter().filter(|it| it.is == Part::Named).map(|it| &*it.registry).collect();
    let hosts = registries.len();
    registries.dedup();
    let (count, do_not) = if hosts == 1 { ("1 host", "does not") } else { ("hosts", "do not") };
    let number = if hosts == 1 { String::new() } else { format!("{hosts} ") };
    let text = format!(
        "{number}{count} of {} that clients asked for {do_not} answer: /api/v1/status names them.",
        registries.join(", ")
    );
    (hosts > 0).then_some(Finding { level: Level::Notice, text })
}

fn limited(it: &Limited, now: SystemTime) -> Finding {
    let Limited { registry, is_account, is_abuse, until } = it;
    let (until, of) = (moment(*until, now), of_account(*is_account));
    let text = if *is_abuse {
        format!(
            "{registry}{of} answers 429, too many requests: it is left alone until {until}. What is here is served; new images wait."
        )
    } else {
        let advice = advice(*is_account);
        format!("The quota at {registry}{of} is spent until {until}. What is here is served; new images wait.{advice}")
    };
    Finding { level: Level::Outage, text }
}

/// A tenth is left, or less.
fn scarce(it: &Quota, now: SystemTime) -> Option<Finding> {
    if it.remaining.checked_mul(10).is_none_or(|tenfold| tenfold > it.limit) {
        return None;
    }
    let spent = it.spent_at.filter(|at| *at > now).map(|at| format!(" At this rate none is at {}.", moment(at, now)));
    let text = format!("{}.{}{}", left(it, now), spent.unwrap_or_default(), advice(it.is_account));
    Some(Finding { level: Level::Warning, text })
}

fn left(it: &Quota, now: SystemTime) -> String {
    let until = it.free_at.map(|at| format!(" until {}", moment(at, now)));
    let Quota { registry, is_account, remaining, limit, .. } = it;
    format!("{registry}{}: {remaining} of {limit} pulls left{}", of_account(*is_account), until.unwrap_or_default())
}

fn of_account(is_account: bool) -> &'static str {
    if is_account { " (its account)" } else { "" }
}

fn advice(is_account: bool) -> &'static str {
    if is_account { "" } else { " An account would help: docs/operating.md, \"Docker Hub's quota\"." }
}

fn full(since: SystemTime, now: SystemTime) -> Finding {
    let text = format!(
        "Downloads pass through and are not kept since {}: there is no room for them. Look at the disk, cache.max_size and cache.min_free.",
        moment(since, now)
    );
    Finding { level: Level::Warning, text }
}

fn distrust(it: Distrust, now: SystemTime) -> Finding {
    let (clients, do_not) = if it.clients == 1 { ("1 client", "does not") } else { ("clients", "do not") };
    let count = if it.clients == 1 { String::new() } else { format!("{} ", it.clients) };
    let text = format!(
        "{count}{clients} {do_not} trust seawall's root: their pulls fail, or go past the mirror. Last: {}, {}. To mend it: `seawall setup CLIENT` on those machines.",
        it.last.to_canonical(),
        ago(it.at, now)
    );
    Finding { level: Level::Warning, text }
}

fn root_ends(at: SystemTime, now: SystemTime) -> Option<Finding> {
    let todo = "`seawall ca renew`, and install it on the clients again";
    match at.duration_since(now) {
        Ok(left) if left > NEAR => None,
        Ok(left) => {
            let text = format!("The certificate authority ends in {}: {todo}.", span(left));
            Some(Finding { level: Level::Warning, text })
        }
        Err(_) => {
            let text = format!("The certificate authority ended on {}: clients refuse it. {todo}.", date(at));
            Some(Finding { level: Level::Outage, text })
        }
    }
}

fn rotten(count: u64) -> Option<Finding> {
    let (blobs, they) = if count == 1 { ("blob was", "it is") } else { ("blobs were", "they are") };
    let text = format!(
        "{count} {blobs} damaged on disk since the start: set aside, and {they} fetched again when wanted. Look at the disk."
    );
    (count > 0).then_some(Finding { level: Level::Warning, text })
}

fn fine(quotas: &[Quota], now: SystemTime) -> String {
    let quotas = quotas.iter().map(|it| format!(" {}.", left(it, now)));
    std::iter::once("Pulls work.".to_owned()).chain(quotas).collect()
}

/// A time of the day, where that is clear.
fn moment(at: SystemTime, now: SystemTime) -> String {
    let apart = now.duration_since(at).unwrap_or_else(|error| error.duration());
    let text = humantime::format_rfc3339_seconds(at).to_string();
    match text.get(11..16).zip(text.get(..10)) {
        Some((time, _)) if apart < Duration::from_secs(DAY / 2) => format!("{time} UTC"),
        Some((time, date)) => format!("{date} {time} UTC"),
        None => text,
    }
}

fn date(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.get(..10).map_or_else(|| text.clone(), str::to_owned)
}

fn ago(at: SystemTime, now: SystemTime) -> String {
    match now.duration_since(at) {
        Ok(passed) if passed >= Duration::from_secs(60) => format!("{} ago", span(passed)),
        _ => "just now".to_owned(),
    }
}

/// As people round it.
fn span(time: Duration) -> String {
    let (count, unit) = match time.as_secs() {
        seconds if seconds < 2 * 3600 => (seconds / 60, "minute"),
        seconds if seconds < 2 * DAY => (seconds / 3600, "hour"),
        seconds => (seconds / DAY, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
