//! Whether a cache is worth it: how much of what was pulled was here, and what that spared.

use serde::{Deserialize, Serialize};

use super::history::History;
use crate::policy::series::{Figure, Point, Span};

/// Of pulls of manifests and blobs that were answered 2xx. Spans count the present minute, or hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// How much of it was here.
    pub hit_share: HitShares,
    /// What upstream did not have to send once more.
    pub spared: Spared,
}

/// Over the last while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HitShares {
    /// 5 minutes.
    #[serde(rename = "5m")]
    pub minutes: HitShare,
    /// An hour.
    #[serde(rename = "1h")]
    pub hour: HitShare,
    /// A day.
    #[serde(rename = "24h")]
    pub day: HitShare,
}

/// From 0 to 1; `None` where nothing was pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HitShare {
    /// Of requests.
    pub requests: Option<f64>,
    /// Of bytes that went to clients.
    pub bytes: Option<f64>,
}

/// Over the last while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spared {
    /// Since midnight, UTC.
    pub today: Amount,
    /// 30 days.
    #[serde(rename = "30d")]
    pub month: Amount,
}

/// Pulls, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Manifest requests that no registry counted.
    pub pulls: u64,
    /// Bytes that were here, or came for another client.
    pub bytes: u64,
}

impl History {
    /// All of it.
    pub fn traffic(&self) -> Traffic {
        let share = |minutes| HitShare::of(&self.sum(Span::Day, minutes));
        // The minutes of today that have begun: never more than the ring has.
        let of_today = Span::Day.number(self.now()) % Span::Day.length() as u64 + 1;
        let today = self.sum(Span::Day, usize::try_from(of_today).unwrap_or_default());
        Traffic {
            hit_share: HitShares { minutes: share(5), hour: share(60), day: share(Span::Day.length()) },
            spared: Spared {
                today: Amount::of(&today),
                month: Amount::of(&self.sum(Span::Month, Span::Month.length())),
            },
        }
    }
}

impl HitShare {
    fn of(sum: &Point) -> HitShare {
        HitShare {
            requests: share(sum.from_cache(), sum.pulls()),
            bytes: share(sum.get(Figure::ServedCacheBytes), sum.bytes()),
        }
    }
}

impl Amount {
    fn of(sum: &Point) -> Amount {
        Amount { pulls: sum.get(Figure::Spared), bytes: sum.bytes_spared() }
    }
}

/// To four digits, rounded down: what is not all is not 1.
fn share(part: u64, of: u64) -> Option<f64> {
    let ten_thousandths = (u128::from(part) * 10_000).checked_div(u128::from(of))?;
    Some(ten_thousandths as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (part, of, expected) in [
            (0, 0, None),
            (0, 1, Some(0.0)),
            (1, 1, Some(1.0)),
            (2, 3, Some(0.6666)),
            (999_999, 1_000_000, Some(0.9999)),
            (u64::MAX, u64::MAX, Some(1.0)),
        ] {
            assert_eq!(share(part, of), expected, "{part} of {of}");
        }
    }
}
