//! When a broken transfer is taken up again.

use std::time::Duration;

/// Attempts in a row that may bring no byte before a fill gives up.
const FRUITLESS: u32 = 6;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt, after `fruitless` attempts in a row that brought no byte. `None`: give up.
///
/// `jitter` in 0..=1 spreads the attempts of many fills: the wait is half to all of 100 ms, 200 ms, 400 ms …
pub fn pause(fruitless: u32, jitter: f64) -> Option<Duration> {
    if fruitless >= FRUITLESS {
        return None;
    }
    let whole = FIRST.saturating_mul(1 << fruitless).min(LONGEST);
    Some(whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<_> = (0..8).map(|n| pause(n, 1.0).map(|d| d.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(800), Some(1600), Some(3200), None, None]);
        assert_eq!(pause(0, 0.0), Some(Duration::from_millis(50)));
    }
}
