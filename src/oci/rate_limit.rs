//! What a registry says about its quota. No standard fixes it; this is what Docker Hub sends, and
//! the older IETF drafts with it.

use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, header};

/// A quota and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Pulls in one window.
    pub limit: u64,
    /// Pulls that are left in this window.
    pub remaining: u64,
    /// How long the window is, where it is said.
    pub window: Option<Duration>,
    /// Whose quota it is, as the registry sees it: an address, an IPv6 /64 or an account.
    pub source: Option<String>,
}

impl RateLimit {
    /// Reads `ratelimit-limit` and `ratelimit-remaining`, else the same with `x-`. `None` when no
    /// family is complete: upstream does not count, or says nothing. On hosts other than registries
    /// the same names mean another quota.
    pub fn of(headers: &HeaderMap) -> Option<RateLimit> {
        let (limit, remaining) =
            [("ratelimit-limit", "ratelimit-remaining"), ("x-ratelimit-limit", "x-ratelimit-remaining")]
                .into_iter()
                .find_map(|(limit, remaining)| Some((numbers(headers, limit)?, numbers(headers, remaining)?)))?;
        Some(RateLimit {
            limit: limit.first,
            remaining: remaining.first,
            window: limit.window.or(remaining.window),
            source: source(headers),
        })
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3); a date that is past is no wait.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default()),
    }
}

/// Whose quota it is, as the registry sees it. Docker Hub says so on a 401 too, and without any
/// figures.
pub fn source(headers: &HeaderMap) -> Option<String> {
    let source = headers.get("docker-ratelimit-source")?.to_str().ok()?.trim();
    (!source.is_empty()).then(|| source.to_owned())
}

/// In seconds. A longer window is no window, and could overflow a clock.
const A_YEAR: u64 = 366 * 86_400;

struct Numbers {
    first: u64,
    window: Option<Duration>,
}

/// `100;w=21600`, or a list: `100, 100;w=60, 5000;w=3600`. The first number counts; its window is
/// that of the element with the same number, else the first there is.
fn numbers(headers: &HeaderMap, name: &str) -> Option<Numbers> {
    let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let elements: Vec<(u64, Option<Duration>)> = lines.flat_map(|l| l.split(',')).filter_map(element).collect();
    let (first, _) = *elements.first()?;
    let window = |same: bool| elements.iter().filter(|(n, _)| !same || *n == first).find_map(|(_, w)| *w);
    Some(Numbers { first, window: window(true).or(window(false)) })
}

fn element(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|p| {
        let (name, seconds) = p.split_once('=')?;
        let seconds = seconds.trim().parse().ok().filter(|s| (1..=A_YEAR).contains(s))?;
        name.trim().eq_ignore_ascii_case("w").then(|| Duration::from_secs(seconds))
    });
    Some((number, window))
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use ::http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[(&'static str, &'static str)]) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        RateLimit::of(&headers)
    }

    #[test]
    fn what_registries_send() {
        const L: &str = "ratelimit-limit";
        const R: &str = "ratelimit-remaining";
        const XL: &str = "x-ratelimit-limit";
        const XR: &str = "x-ratelimit-remaining";
        for (lines, expected) in [
            (&[(L, "100;w=21600"), (R, "99;w=21600")][..], Some((100, 99, Some(21600)))),
            (&[(L, "100;w=3600"), (R, "7;w=3600"), (XL, "200;w=60"), (XR, "1")], Some((100, 7, Some(3600)))),
            (&[(XL, "100;w=3600"), (XR, "0;w=3600")], Some((100, 0, Some(3600)))),
            (&[(L, "100"), (XL, "200"), (XR, "3")], Some((200, 3, None))),
            (&[(XL, "3000, 3000;w=60"), (XR, "2999")], Some((3000, 2999, Some(60)))),
            (&[(L, "5000, 100;w=60, 5000 ; W = 3600;q=x"), (R, "4")], Some((5000, 4, Some(3600)))),
            (&[(L, "5000, 100;w=60"), (R, "4")], Some((5000, 4, Some(60)))),
            (&[(L, "x, 10"), (L, "10;w=9"), (R, " 4 ;w=8")], Some((10, 4, Some(9)))),
            (&[(L, "10;w=0, 10;w=99999999999"), (R, "4;w=8")], Some((10, 4, Some(8)))),
            (&[(L, "100;w=21600")], None),
            (&[(L, "-1"), (R, "0")], None),
            (&[(L, ""), (R, "")], None),
            (&[(L, "18446744073709551616"), (R, "1")], None),
            (&[], None),
        ] {
            let row = of(lines).map(|r| (r.limit, r.remaining, r.window.map(|w| w.as_secs())));
            assert_eq!(row, expected, "{lines:?}");
        }
        let source = |v| of(&[(L, "1"), (R, "1"), ("docker-ratelimit-source", v)]).unwrap().source;
        assert_eq!(source("2600:6c5e:1340:1::").as_deref(), Some("2600:6c5e:1340:1::"));
        assert_eq!(source(" "), None);
    }

    #[test]
    fn when_to_come_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("60", Some(60)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:38 GMT", Some(1)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn any_time(value: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, value)]), SystemTime::UNIX_EPOCH);
            }
        }

        #[test]
        fn any_value(limit: Vec<u8>, remaining in "[0-9;w=, ]{0,12}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&limit) {
                headers.insert("ratelimit-limit", value);
            }
            headers.insert("ratelimit-remaining", HeaderValue::from_str(&remaining).unwrap());
            headers.insert("x-ratelimit-limit", HeaderValue::from_str(&remaining).unwrap());
            headers.insert("x-ratelimit-remaining", HeaderValue::from_str(&remaining).unwrap());
            RateLimit::of(&headers);
        }

        #[test]
        fn print_then_parse(limit: u64, remaining: u64, window in 1..=A_YEAR) {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", HeaderValue::from_str(&format!("{limit};w={window}")).unwrap());
            headers.insert("ratelimit-remaining", HeaderValue::from(remaining));
            let window = Some(Duration::from_secs(window));
            prop_assert_eq!(RateLimit::of(&headers), Some(RateLimit { limit, remaining, window, source: None }));
        }
    }
}
