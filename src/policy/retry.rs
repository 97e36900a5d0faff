//! When a broken transfer is resumed.

use std::time::{Duration, SystemTime};

/// Attempts in a row that may bring no byte before a fill gives up.
const FRUITLESS: u32 = 6;
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt, after `fruitless` attempts in a row that brought no
/// byte. `None`: give up.
///
/// `jitter` in 0..=1 spreads the attempts of many fills: the wait is half to all of 100 ms, 200 ms,
/// 400 ms …
pub fn pause(fruitless: u32, jitter: f64) -> Option<Duration> {
    if fruitless >= FRUITLESS {
        return None;
    }
    let whole = FIRST.saturating_mul(1 << fruitless).min(LONGEST);
    Some(whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
}

/// Between two attempts of all fills of a registry, in the long run: 20 a second. A registry that
/// comes back while a thousand transfers want to go on is asked by one of them after the other.
const APART: Duration = Duration::from_millis(50);
/// Attempts that need not wait for that: one break of a connection with the fills of a few images
/// on it.
const AT_ONCE: u32 = 20;

/// The budget that all fills of one registry share for attempts again: a bucket of twenty that
/// fills up every 50 ms (GCRA).
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// When all that was taken so far is paid back.
    even: Option<SystemTime>,
}

impl Pace {
    /// Takes one attempt, and says how long it has to wait.
    pub fn wait(&mut self, now: SystemTime) -> Duration {
        let even = self.even.map_or(now, |even| even.max(now)) + APART;
        self.even = Some(even);
        even.duration_since(now + APART * AT_ONCE).unwrap_or_default()
    }
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

    #[test]
    fn many_attempts_come_one_after_the_other() {
        let (mut pace, start) = (Pace::default(), SystemTime::UNIX_EPOCH);
        let waits: Vec<_> = (0..1020).map(|_| pace.wait(start).as_millis()).collect();
        assert_eq!(waits[..20], [0; 20]);
        assert_eq!(waits[20..24], [50, 100, 150, 200]);
        assert_eq!(waits[1019], 50_000);
        let later = start + Duration::from_secs(51);
        assert_eq!(pace.wait(later), Duration::ZERO, "paid back");
    }
}
