//! When something is said of a blob that takes long.

use std::time::Duration;

use tokio::time::Instant;

/// What takes no longer is not spoken of.
const EVERY: Duration = Duration::from_secs(30);

/// How long it has been so far.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    said: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Patience {
        Patience { began: now, said: now }
    }

    /// How long it has been, if that is to be said now.
    pub(super) fn is_over(&mut self, now: Instant) -> Option<Duration> {
        if now < self.said + EVERY {
            return None;
        }
        self.said = now;
        Some(now - self.began)
    }

    /// How long it was, if that was said.
    pub(super) fn ended(&self, now: Instant) -> Option<Duration> {
        (self.said > self.began).then(|| now - self.began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_said_every_half_minute_and_at_its_end() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut patience = Patience::new(began);
        assert_eq!((patience.is_over(at(29)), patience.ended(at(29))), (None, None));
        assert_eq!(patience.is_over(at(31)), Some(Duration::from_secs(31)));
        assert_eq!(patience.is_over(at(60)), None);
        assert_eq!(patience.is_over(at(61)), Some(Duration::from_secs(61)));
        assert_eq!(patience.ended(at(70)), Some(Duration::from_secs(70)));
    }
}
