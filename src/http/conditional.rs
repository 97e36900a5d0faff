//! Conditional requests (RFC 9110, 13). What is served by digest has that digest as its entity tag.

use ::http::HeaderMap;
use ::http::header::{IF_NONE_MATCH, IF_RANGE};

/// Whether a GET or HEAD is answered with `304`: its `If-None-Match` names the digest of what would
/// be sent.
///
/// Entity tags are compared weakly, as they must be here (13.1.2); old registry tools send them
/// without quotes. `If-Modified-Since` is not looked at: what has a digest needs no date.
pub fn not_modified(headers: &HeaderMap, digest: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|line| names(line, digest))
}

/// Whether `Range` counts: there is no `If-Range`, or it names the digest of what would be sent
/// (RFC 9110, 13.1.5). It is compared strongly, and no date is that strong.
pub fn range_counts(headers: &HeaderMap, digest: &str) -> bool {
    let mut lines = headers.get_all(IF_RANGE).iter();
    let is_digest = |tag: &str| tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(digest);
    lines.all(|line| line.to_str().is_ok_and(|tag| is_digest(tag.trim())))
}

fn names(line: &str, digest: &str) -> bool {
    let mut rest = line.trim();
    if rest == "*" {
        return true;
    }
    while !rest.is_empty() {
        let element = rest.strip_prefix("W/").unwrap_or(rest);
        // A tag may hold commas, but neither quotes nor escapes (8.8.3).
        let (tag, after) = match element.strip_prefix('"') {
            Some(inside) => inside.split_once('"').unwrap_or((inside, "")),
            None => element.split_at(element.find([',', ' ', '\t']).unwrap_or(element.len())),
        };
        if tag == digest {
            return true;
        }
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    false
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(lines: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
        }
        not_modified(&headers, D)
    }

    #[test]
    fn a_range_of_another_representation_does_not_count() {
        for (line, expected) in
            [(format!("\"{D}\""), true), (format!("W/\"{D}\""), false), ("\"x\"".into(), false), (D.into(), false)]
        {
            let headers = HeaderMap::from_iter([(IF_RANGE, HeaderValue::try_from(line.as_str()).unwrap())]);
            assert_eq!(range_counts(&headers, D), expected, "{line}");
        }
        assert!(range_counts(&HeaderMap::new(), D));
        let date = HeaderMap::from_iter([(IF_RANGE, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"))]);
        assert!(!range_counts(&date, D));
    }

    #[test]
    fn the_same_digest_in_all_spellings() {
        for line in [
            "*",
            " * ",
            "\"D\"",
            "D",
            "W/\"D\"",
            "W/D",
            "\"x\", \"D\"",
            "x,D",
            "\"a,b\" , W/\"D\",",
            "\"never closed\", D",
        ] {
            assert!(check(&[&line.replace('D', D)]), "{line}");
        }
        assert!(check(&["\"x\"", D]));
    }

    #[test]
    fn another_digest() {
        for line in [
            "",
            ",",
            "\"\"",
            "x",
            "D2",
            "\"D",
            "\"D-gzip\"",
            "\"x,D\"",
            "\"x, D, y\"",
            "x*",
            "*, x",
            "w/\"D\"",
            "\"*\"",
        ] {
            assert_eq!(check(&[&line.replace('D', D)]), line == "\"D", "{line}");
        }
        assert!(!check(&[]));
        assert!(!check(&[&D.to_uppercase()]));
    }

    proptest! {
        #[test]
        fn any_value(line in "([W/,\" *]|sha256:|.){0,16}") {
            if let Ok(value) = HeaderValue::from_str(&line) {
                let mut headers = HeaderMap::new();
                headers.insert(IF_NONE_MATCH, value);
                prop_assert_eq!(not_modified(&headers, D), line.trim() == "*");
            }
        }
    }
}
