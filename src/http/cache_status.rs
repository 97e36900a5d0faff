//! What became of a request, in the words of `Cache-Status` (RFC 9211), the metrics and the log.

use ::http::HeaderValue;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served from here.
    Hit,
    /// Served from here, once upstream had said that it may be.
    Revalidated,
    /// Fetched for this request, and kept.
    Miss,
    /// Served from a fetch that another request began.
    Collapsed,
    /// Served from here although upstream could not be asked.
    Stale,
    /// Passed through without the cache.
    Bypass,
    /// Refused, by upstream or by a rule.
    Denied,
    /// Answered with an error of seawall's own.
    Error,
}

impl Outcome {
    /// The metrics' and the log's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Revalidated => "revalidated",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Stale => "stale",
            Outcome::Bypass => "bypass",
            Outcome::Denied => "denied",
            Outcome::Error => "error",
        }
    }
}

/// The value of `Cache-Status`. `detail` may be any text: it is written as a token where it is one,
/// else as a string.
///
/// `hit` and `fwd` exclude each other: a request that went upstream, or would have, is no hit.
/// What was refused or failed has neither.
pub fn cache_status(outcome: Outcome, detail: Option<&str>) -> HeaderValue {
    let words = match outcome {
        Outcome::Hit => "seawall; hit",
        Outcome::Revalidated => "seawall; fwd=stale; fwd-status=200",
        Outcome::Miss => "seawall; fwd=miss; stored",
        Outcome::Collapsed => "seawall; fwd=miss; collapsed",
        Outcome::Stale => "seawall; fwd=stale",
        Outcome::Bypass => "seawall; fwd=bypass",
        Outcome::Denied | Outcome::Error => "seawall",
    };
    let word = matches!(outcome, Outcome::Denied | Outcome::Error).then(|| outcome.as_str());
    let Some(detail) = detail.or(word) else { return HeaderValue::from_static(words) };
    let mut text = format!("{words}; detail=");
    if is_token(detail) {
        text.push_str(detail);
    } else {
        push_quoted(&mut text, detail, 512);
    }
    header(text)
}

/// The value of a `Warning` that clients show to people (distribution-spec, "Warnings"): `299 -
/// "seawall: …"`.
pub fn warning(text: &str) -> HeaderValue {
    let mut value = String::from("299 - ");
    push_quoted(&mut value, &format!("seawall: {text}"), 2000);
    header(value)
}

/// `sf-token = ( ALPHA / "*" ) *( tchar / ":" / "/" )` (RFC 8941, 3.3.4).
fn is_token(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*') && text.bytes().all(good)
}

/// A quoted string of at most `most` characters of `plain`: a header field has no others than
/// ASCII's, and clients need not take a warning of more than 4096 bytes.
fn push_quoted(text: &mut String, plain: &str, most: usize) {
    text.push('"');
    for c in plain.chars().take(most) {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            '\t' | '\r' | '\n' => text.push(' '),
            _ => text.push('?'),
        }
    }
    text.push('"');
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_the_design_says() {
        for (outcome, detail, text) in [
            (Outcome::Hit, None, "seawall; hit"),
            (Outcome::Revalidated, None, "seawall; fwd=stale; fwd-status=200"),
            (Outcome::Miss, None, "seawall; fwd=miss; stored"),
            (Outcome::Miss, Some("memory"), "seawall; fwd=miss; stored; detail=memory"),
            (Outcome::Collapsed, None, "seawall; fwd=miss; collapsed"),
            (Outcome::Stale, Some("429"), "seawall; fwd=stale; detail=\"429\""),
            (Outcome::Stale, Some("upstream-timeout"), "seawall; fwd=stale; detail=upstream-timeout"),
            (Outcome::Stale, Some("a \"b\" \\ é\n"), r#"seawall; fwd=stale; detail="a \"b\" \\ ? ""#),
            (Outcome::Bypass, None, "seawall; fwd=bypass"),
            (Outcome::Denied, None, "seawall; detail=denied"),
            (Outcome::Error, Some("dns"), "seawall; detail=dns"),
            (Outcome::Error, Some(""), "seawall; detail=\"\""),
        ] {
            assert_eq!(cache_status(outcome, detail), text);
        }
    }

    #[test]
    fn warnings() {
        assert_eq!(
            warning("served from cache, docker.io answered 429 until 12:40Z"),
            "299 - \"seawall: served from cache, docker.io answered 429 until 12:40Z\""
        );
        assert_eq!(warning("a\"b\\c\u{e9}\r\nd"), r#"299 - "seawall: a\"b\\c?  d""#);
        assert!(warning(&"\"".repeat(9000)).len() <= 4096);
    }

    proptest! {
        #[test]
        fn any_text(text: String) {
            warning(&text);
            let value = cache_status(Outcome::Stale, Some(&text));
            prop_assert!(value.to_str().is_ok());
        }
    }
}
