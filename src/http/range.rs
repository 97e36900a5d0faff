//! Byte ranges (RFC 9110, 14).

use std::ops::Range;

use ::http::HeaderValue;

/// What a `Range` header asks of bytes of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them: `200`.
    Whole,
    /// These: `206`. Never empty, never beyond the end.
    Part(Range<u64>),
    /// Several, in the order in which they were asked for: `206`, `multipart/byteranges`. Together
    /// no more than all of it.
    Parts(Vec<Range<u64>>),
    /// None that are there: `416`.
    Unsatisfiable,
}

/// Which of `size` bytes to send.
///
/// Other units and what breaks the grammar are answered with the whole, which is always right (RFC
/// 9110, 14.2: "A server MAY ignore the Range header field"); so are more ranges than `MOST`, or
/// more bytes than there are. An empty body has no ranges.
pub fn select(range: Option<&HeaderValue>, size: u64) -> Selection {
    let Some(specs) = range.and_then(specs).filter(|_| size > 0) else { return Selection::Whole };
    if specs.contains(&Spec::Backward) {
        return Selection::Unsatisfiable;
    }
    let mut parts: Vec<Range<u64>> = Vec::new();
    for part in specs.iter().filter_map(|spec| spec.within(size)) {
        match parts.last_mut() {
            // 15.3.7.2: what overlaps may be coalesced.
            Some(last) if last.start <= part.start && part.start < last.end => last.end = last.end.max(part.end),
            _ => parts.push(part),
        }
    }
    let bytes = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.end - part.start));
    match parts.len() {
        0 => Selection::Unsatisfiable,
        1 => Selection::Part(parts.swap_remove(0)),
        2..=MOST if bytes.is_some_and(|bytes| bytes <= size) => Selection::Parts(parts),
        _ => Selection::Whole,
    }
}

/// Ranges of one request that are answered as such: containers/storage asks for 1024 at most.
const MOST: usize = 1024;

/// Where the one range asked for begins, when the length is not known yet. `None` when all is to be
/// sent, or the end has to be known first.
pub fn first_byte(range: Option<&HeaderValue>) -> Option<u64> {
    match specs(range?)?.as_slice() {
        [Spec::From(start) | Spec::FromTo(start, _)] => Some(*start).filter(|s| *s < u64::MAX),
        _ => None,
    }
}

/// What the first of the ranges asks for, when the length is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// From this byte on.
    From(u64),
    /// These.
    Part(Range<u64>),
    /// So many at the end.
    Last(u64),
}

/// The first of the ranges that are asked for, if not all is to be sent whatever the length is.
pub fn first(range: Option<&HeaderValue>) -> Option<First> {
    match specs(range?)?.first()? {
        Spec::From(0) | Spec::Backward => None,
        Spec::From(start) => Some(First::From(*start)),
        Spec::FromTo(start, last) => Some(First::Part(*start..last.saturating_add(1))).filter(|_| *start < u64::MAX),
        Spec::Last(length) => Some(First::Last(*length)).filter(|_| *length > 0),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `5-`
    From(u64),
    /// `5-9`: the last one is included.
    FromTo(u64, u64),
    /// `-5`
    Last(u64),
    /// `9-5`: "An int-range is invalid if the last-pos value is present and less than first-pos."
    /// (14.1.1)
    Backward,
}

impl Spec {
    /// What is there of it.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let part = match self {
            Spec::From(start) => start..size,
            // A last-pos beyond the end means the remainder (14.1.2).
            Spec::FromTo(start, last) => start..last.saturating_add(1).min(size),
            // 14.1.2: "If the selected representation is shorter than the specified suffix-length,
            // the entire representation is used."
            Spec::Last(length) => size - length.min(size)..size,
            Spec::Backward => return None,
        };
        (part.start < part.end).then_some(part)
    }
}

/// The ranges of a header; `None` when it is not understood. `bytes=` is case-insensitive (14.1),
/// empty elements of a list do not count (5.6.1.2).
fn specs(value: &HeaderValue) -> Option<Vec<Spec>> {
    let (unit, set) = value.to_str().ok()?.trim().split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs = set.split(',').map(|s| s.trim_matches([' ', '\t'])).filter(|s| !s.is_empty());
    specs.map(spec).collect::<Option<Vec<_>>>().filter(|specs| !specs.is_empty())
}

fn spec(text: &str) -> Option<Spec> {
    Some(match text.split_once('-')? {
        ("", length) => Spec::Last(number(length)?),
        (start, "") => Spec::From(number(start)?),
        (start, last) => match (number(start)?, number(last)?) {
            (start, last) if start <= last => Spec::FromTo(start, last),
            _ => Spec::Backward,
        },
    })
}

/// `1*DIGIT`; numbers that are too big stop at the biggest.
fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// The `Content-Range` of a `206`. `range` must not be empty.
pub fn content_range(range: &Range<u64>, total: u64) -> HeaderValue {
    debug_assert!(range.start < range.end && range.end <= total, "{range:?} of {total}");
    header(format!("bytes {}-{}/{total}", range.start, range.end.saturating_sub(1)))
}

/// The `Content-Range` of a `416`.
pub fn unsatisfied(total: u64) -> HeaderValue {
    header(format!("bytes */{total}"))
}

fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a header value")
}

/// What a `206` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte.
    pub start: u64,
    /// One after the last byte.
    pub end_exclusive: u64,
    /// Bytes of the whole, if the sender knows.
    pub total: Option<u64>,
}

/// Reads the `Content-Range` of a `206`. `None` for a `416`'s, other units, and what is invalid: a
/// last byte before the first or beyond the end (RFC 9110, 14.4).
pub fn parse_content_range(value: &HeaderValue) -> Option<ContentRange> {
    let (unit, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let exact = |digits| number(digits).filter(|n| *n < u64::MAX);
    let total = if total == "*" { None } else { Some(exact(total)?) };
    let (start, end_exclusive) = (exact(start)?, exact(last)? + 1);
    let good = unit.eq_ignore_ascii_case("bytes") && start < end_exclusive && total.is_none_or(|t| end_exclusive <= t);
    good.then_some(ContentRange { start, end_exclusive, total })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    #[test]
    fn ranges_of_a_hundred_bytes() {
        use Selection::{Part, Parts, Unsatisfiable, Whole};
        for (text, expected, first) in [
            ("bytes=0-", Part(0..100), Some(0)),
            ("bytes=0-0", Part(0..1), Some(0)),
            ("bytes=99-", Part(99..100), Some(99)),
            ("bytes=5-9", Part(5..10), Some(5)),
            ("bytes=5-100", Part(5..100), Some(5)),
            ("bytes=5-99999999999999999999999", Part(5..100), Some(5)),
            ("bytes=5-18446744073709551615", Part(5..100), Some(5)),
            ("bytes=-1", Part(99..100), None),
            ("bytes=-100", Part(0..100), None),
            ("bytes=-999", Part(0..100), None),
            ("bytes=-99999999999999999999999", Part(0..100), None),
            ("bytes=-0", Unsatisfiable, None),
            ("bytes=100-", Unsatisfiable, Some(100)),
            ("bytes=100-200", Unsatisfiable, Some(100)),
            ("bytes=99999999999999999999999-", Unsatisfiable, None),
            ("Bytes= 5-9 ,", Part(5..10), Some(5)),
            ("bytes=,\t5-", Part(5..100), Some(5)),
            ("bytes=0-1,5-6", Parts(vec![0..2, 5..7]), None),
            ("bytes=5-6, 0-1,-3", Parts(vec![5..7, 0..2, 97..100]), None),
            ("bytes=0-1,2-3", Parts(vec![0..2, 2..4]), None),
            ("bytes=0-9,5-20,15-30", Part(0..31), None),
            ("bytes=0-1,100-", Part(0..2), None),
            ("bytes=100-,200-300", Unsatisfiable, None),
            ("bytes=0-60,30-99,0-1", Part(0..100), None),
            ("bytes=50-99,0-60", Whole, None),
            ("bytes=0-1,x", Whole, None),
            ("bytes=9-5", Unsatisfiable, None),
            ("bytes=0-1,9-5", Unsatisfiable, None),
            ("bytes=", Whole, None),
            ("bytes=-", Whole, None),
            ("bytes=--1", Whole, None),
            ("bytes=1-2-3", Whole, None),
            ("bytes=+1-2", Whole, None),
            ("bytes=1 -2", Whole, None),
            ("bytes =1-2", Whole, None),
            ("bytes 1-2", Whole, None),
            ("items=1-2", Whole, None),
            ("", Whole, None),
        ] {
            assert_eq!(select(Some(&value(text)), 100), expected, "{text}");
            assert_eq!(first_byte(Some(&value(text))), first, "{text}");
        }
        assert_eq!(select(None, 100), Whole);
        assert_eq!(first_byte(None), None);
        assert_eq!(select(Some(&HeaderValue::from_bytes(b"bytes=\xff").unwrap()), 100), Whole);
    }

    #[test]
    fn an_empty_body_has_no_ranges() {
        for text in ["bytes=0-", "bytes=-5", "bytes=5-9"] {
            assert_eq!(select(Some(&value(text)), 0), Selection::Whole);
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range(&(5..10), 100), "bytes 5-9/100");
        assert_eq!(unsatisfied(100), "bytes */100");
        let part = |start, end_exclusive, total| Some(ContentRange { start, end_exclusive, total });
        for (text, expected) in [
            ("bytes 0-0/1", part(0, 1, Some(1))),
            ("BYTES 5-9/100", part(5, 10, Some(100))),
            ("bytes 5-9/*", part(5, 10, None)),
            ("bytes */100", None),
            ("bytes 5-9/9", None),
            ("bytes 9-5/100", None),
            ("bytes 5-9", None),
            ("bytes=5-9/100", None),
            ("items 5-9/100", None),
            ("bytes -9/100", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-9/99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(parse_content_range(&value(text)), expected, "{text}");
        }
    }

    #[test]
    fn parts_that_cannot_be_counted_are_more_than_there_is() {
        assert_eq!(select(Some(&value("bytes=0-0,-1,1-")), u64::MAX), Selection::Whole);
    }

    proptest! {
        #[test]
        fn any_range_stays_within(
            text in "(bytes=)?([0-9]{0,22}-[0-9]{0,22},?|.){0,3}|bytes=([0-9]{0,2}-[0-9]{0,2},){2,5}",
            size in prop_oneof![any::<u64>(), 1..100u64, Just(u64::MAX)],
        ) {
            if let Ok(value) = HeaderValue::from_str(&text) {
                first_byte(Some(&value));
                parse_content_range(&value);
                let parts = match select(Some(&value), size) {
                    Selection::Part(part) => vec![part],
                    Selection::Parts(parts) => parts,
                    Selection::Whole | Selection::Unsatisfiable => return Ok(()),
                };
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= size));
                prop_assert!(parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>() <= size.into());
            }
        }

        #[test]
        fn print_then_parse(start in 0..u64::MAX / 2, length in 1..1_000_000u64, rest in 0..1_000_000u64) {
            let (end, total) = (start + length, start + length + rest);
            let expected = ContentRange { start, end_exclusive: end, total: Some(total) };
            prop_assert_eq!(parse_content_range(&content_range(&(start..end), total)), Some(expected));
            let asked = HeaderValue::try_from(format!("bytes={start}-{}", end - 1)).unwrap();
            prop_assert_eq!(select(Some(&asked), total), Selection::Part(start..end));
        }
    }
}
