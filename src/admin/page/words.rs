//! Figures as people read them.

use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

/// `1.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `1,234,567`, for who wants to know exactly.
pub(super) fn exactly(count: u64, what: &str) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {what}")
}

/// `3 min`, in the largest unit of which there are two.
pub(super) fn span(time: Duration) -> String {
    let (count, unit) = match time.as_secs() {
        seconds if seconds < 120 => (seconds, "s"),
        seconds if seconds < 2 * 3600 => (seconds / 60, "min"),
        seconds if seconds < 48 * 3600 => (seconds / 3600, "h"),
        seconds => (seconds / (24 * 3600), "d"),
    };
    format!("{count} {unit}")
}

/// `3 min ago`.
pub(super) fn ago(at: SystemTime, now: SystemTime) -> String {
    match now.duration_since(at).unwrap_or_default() {
        time if time < Duration::from_secs(5) => "just now".to_owned(),
        time => format!("{} ago", span(time)),
    }
}

/// The same of what a report says, which is RFC 3339.
pub(super) fn told_ago(at: Option<&str>, now: SystemTime) -> String {
    let at = at.and_then(|at| humantime::parse_rfc3339(at).ok());
    at.map_or_else(|| "never".to_owned(), |at| ago(at, now))
}

/// `17:30 UTC`, with the day where it is not today's.
pub(super) fn until(at: SystemTime, now: SystemTime) -> String {
    let text = |at| humantime::format_rfc3339_seconds(at).to_string();
    let (end, today) = (text(at), text(now));
    let (day, time) = (&end[..10], &end[11..16]);
    if today.starts_with(day) { format!("{time} UTC") } else { format!("{day} {time} UTC") }
}

/// How much of a whole, from 0 to 100.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds);
        assert_eq!((size(0).as_str(), size(1_288_490_188).as_str()), ("0 B", "1.2 GiB"));
        assert_eq!((exactly(7, "B").as_str(), exactly(1_234_567, "B").as_str()), ("7 B", "1,234,567 B"));
        for (seconds, text) in
            [(0, "just now"), (90, "90 s ago"), (180, "3 min ago"), (7200, "2 h ago"), (259_200, "3 d ago")]
        {
            assert_eq!(ago(at(0), at(seconds)), text);
        }
        assert_eq!(ago(at(9), at(0)), "just now");
        assert_eq!(
            (until(at(60), at(0)), until(at(86_400), at(0))),
            ("08:01 UTC".into(), "2027-01-16 08:00 UTC".into())
        );
        assert_eq!((told_ago(None, at(0)), told_ago(Some("nonsense"), at(0))), ("never".into(), "never".into()));
        for (part, whole, expected) in [(0, 0, 0), (1, 2, 50), (9, 3, 100), (u64::MAX, u64::MAX, 100)] {
            assert_eq!(percent(part, whole), expected);
        }
    }
}
