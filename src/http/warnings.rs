//! Upstream's `Warning: 299 - "…"`, which clients show to people (distribution-spec, "Warnings").

use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

/// What a registry may send of them with one answer, in bytes.
const MOST: usize = 4096;

/// The warnings of one answer. Most have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Warnings(Option<Arc<[Box<str>]>>);

impl Warnings {
    /// Those of an answer that are for people: code 299, no agent. Those beyond what a registry may
    /// send are left out.
    pub fn of(headers: &HeaderMap) -> Warnings {
        let mut left = MOST;
        let plain = headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok());
        let told = plain.filter(|text| text.starts_with("299 - \"")).map_while(|text| {
            left = left.checked_sub(text.len())?;
            Some(text.into())
        });
        let told: Vec<Box<str>> = told.collect();
        Warnings((!told.is_empty()).then(|| told.into()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The values of the fields.
    pub fn values(&self) -> impl Iterator<Item = HeaderValue> {
        self.0.iter().flat_map(|all| all.iter()).filter_map(|text| HeaderValue::try_from(&**text).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<HeaderValue> {
        let fields = values.iter().map(|value| (header::WARNING, HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        Warnings::of(&HeaderMap::from_iter(fields)).values().collect()
    }

    #[test]
    fn those_for_people() {
        let long = format!("299 - \"{}\"", "x".repeat(MOST));
        for (values, kept) in [
            (&[][..], &[][..]),
            (&["299 - \"deprecated\"", "299 - \"really\""], &["299 - \"deprecated\"", "299 - \"really\""]),
            (&["110 - \"Response is Stale\"", "299 host \"x\"", "299 - x", "299 - \"\u{e9}\""], &[]),
            (&["299 - \"first\"", &long], &["299 - \"first\""]),
        ] {
            assert_eq!(read(values), kept, "{values:?}");
        }
    }

    #[test]
    fn they_are_written_down() {
        let one = Warnings::of(&HeaderMap::from_iter([(header::WARNING, HeaderValue::from_static("299 - \"old\""))]));
        let written = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Warnings>(&written).unwrap(), one);
    }
}
