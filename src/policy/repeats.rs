//! How often the log says the same thing.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use super::access::within;
use super::clients::Notice;

/// Things that were said of late, so that each is said so many times in some time, and then counted.
/// The things are of a fixed list: none is forgotten.
#[derive(Debug)]
pub struct Repeats<K> {
    most: u64,
    window: Duration,
    said: HashMap<K, Said>,
}

#[derive(Debug)]
struct Said {
    since: SystemTime,
    times: u64,
    unsaid: u64,
}

impl<K: Hash + Eq> Repeats<K> {
    /// The same thing is said at most so many times in this time.
    pub fn new(most: u64, window: Duration) -> Repeats<K> {
        Repeats { most, window, said: HashMap::new() }
    }

    /// It happened once more.
    pub fn notice(&mut self, thing: K, now: SystemTime) -> Notice {
        let said = self.said.entry(thing).or_insert(Said { since: now, times: 0, unsaid: 0 });
        if !within(Some(said.since), self.window, now) {
            (said.since, said.times) = (now, 0);
        }
        if said.times < self.most {
            said.times += 1;
            return Notice::Say { unsaid: std::mem::take(&mut said.unsaid) };
        }
        said.unsaid += 1;
        Notice::Count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_storm_is_a_line_a_minute() {
        let (start, mut repeats) = (SystemTime::UNIX_EPOCH, Repeats::new(1, MINUTE));
        let say = |unsaid| Notice::Say { unsaid };
        assert_eq!(repeats.notice("denied", start), say(0));
        for _ in 0..1000 {
            assert_eq!(repeats.notice("denied", start + MINUTE / 2), Notice::Count);
        }
        assert_eq!(repeats.notice("too many", start), say(0));
        assert_eq!(repeats.notice("denied", start + MINUTE), say(1000));
        assert_eq!(repeats.notice("denied", start + MINUTE), Notice::Count);
        assert_eq!(repeats.said.len(), 2);
    }

    #[test]
    fn some_are_said_before_the_rest_is_counted() {
        let (start, mut repeats) = (SystemTime::UNIX_EPOCH, Repeats::new(3, MINUTE));
        let count =
            |repeats: &mut Repeats<()>, now| (0..10).filter(|_| repeats.notice((), now) != Notice::Count).count();
        assert_eq!(count(&mut repeats, start), 3);
        assert_eq!(count(&mut repeats, start + MINUTE / 2), 0);
        assert_eq!(repeats.notice((), start + MINUTE), Notice::Say { unsaid: 17 });
        assert_eq!(count(&mut repeats, start + MINUTE), 2);
    }
}
