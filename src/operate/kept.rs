//! A point as it is stored for the next start: JSON, under a key of which there are as many as a ring
//! has points.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::policy::series::{Figure, Point, Span};

/// One point. Figures that are 0 are left out, and those that this build does not know are passed
/// over.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The number of its step.
    number: u64,
    figures: BTreeMap<String, u64>,
}

/// Where the step of this number is kept.
pub(super) fn key(span: Span, number: u64) -> String {
    format!("{} {}", span.as_str(), span.position(number))
}

impl Kept {
    pub(super) fn new(number: u64, point: &Point) -> Kept {
        let figures = Figure::ALL.into_iter().map(|figure| (figure.as_str().to_owned(), point.get(figure)));
        Kept { number, figures: figures.filter(|(_, value)| *value > 0).collect() }
    }
}

/// What was kept under a key. `None`: nothing that was ever written.
pub(super) fn restored(key_read: &str, value: &[u8]) -> Option<(Span, u64, Point)> {
    let kept: Kept = serde_json::from_slice(value).ok()?;
    let span = Span::ALL.into_iter().find(|span| key(*span, kept.number) == key_read)?;
    let mut point = Point::default();
    Figure::ALL.into_iter().for_each(|figure| {
        point.set(figure, kept.figures.get(figure.as_str()).copied().unwrap_or_default());
    });
    Some((span, kept.number, point))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let mut point = Point::default();
        point.set(Figure::Hit, 7);
        point.set(Figure::UpstreamBytes, u64::MAX);
        let written = serde_json::to_string(&Kept::new(29_999_999, &point)).unwrap();
        assert_eq!(written, r#"{"number":29999999,"figures":{"hit":7,"upstream_bytes":18446744073709551615}}"#);
        let read = |key: &str, value: &str| restored(key, value.as_bytes());
        assert_eq!(read("24h 1438", &written), None);
        assert_eq!(read("24h 0", &written), None);
        assert_eq!(read(&key(Span::Day, 29_999_999), &written), Some((Span::Day, 29_999_999, point)));
        assert_eq!(read(&key(Span::Month, 29_999_999), &written), Some((Span::Month, 29_999_999, point)));
        let newer = r#"{"number":1,"figures":{"hit":7,"of another build":9}}"#;
        assert_eq!(read("30d 1", newer).map(|it| it.2.get(Figure::Hit)), Some(7));
    }

    proptest! {
        #[test]
        fn any_row(key in "(24h|30d) [0-9]{1,4}|.{0,9}", value: Vec<u8>, number: u64, hits: u64) {
            restored(&key, &value);
            let value = format!(r#"{{"number":{number},"figures":{{"hit":{hits}}}}}"#);
            restored(&key, value.as_bytes());
        }
    }
}
