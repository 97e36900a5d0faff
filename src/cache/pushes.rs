//! Which tags were pushed, or removed, through seawall a moment ago.
//!
//! What a push makes of a binding is decided in `policy/freshness`; this only remembers, for as
//! long as that looks back and for so many tags.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;

use crate::policy::access::within;
use crate::policy::freshness::{Pushed, REMEMBERED};

/// Tags with a push that upstream took; as many with pushes that wait for its answer.
const MOST: usize = 10_000;

/// The pushes of the last minute, by tag.
#[derive(Debug, Default)]
pub struct Pushes {
    taken: RwLock<Taken>,
    waiting: RwLock<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// When all of each had left, by tag.
    left: HashMap<Arc<str>, Vec<SystemTime>>,
    /// How many stamps that are.
    count: usize,
}

#[derive(Debug, Default)]
struct Taken {
    at: HashMap<Arc<str>, SystemTime>,
    /// The same, the oldest first, and what was replaced.
    order: VecDeque<(SystemTime, Arc<str>)>,
    /// When the last one was taken that there was no room for: any tag's may have been.
    left_out: Option<SystemTime>,
}

impl Pushes {
    /// What is known of a tag.
    pub fn of(&self, key: &Arc<str>) -> Pushed {
        let (taken, waiting) = (self.taken.read(), self.waiting.read());
        Pushed {
            taken: taken.at.get(key).copied().max(taken.left_out),
            waiting: waiting.left.get(key).and_then(|all| all.iter().max().copied()),
        }
    }

    /// When upstream last took a push of a tag: part of the key of a question that many share, as
    /// who asks after a push does not wait for an answer from before it.
    pub fn generation(&self, key: &Arc<str>) -> Option<SystemTime> {
        self.taken.read().at.get(key).copied()
    }

    /// Upstream took a push of a tag.
    pub fn note_taken(&self, key: &Arc<str>, now: SystemTime) {
        self.taken.write().note(key, now);
    }

    /// A push of these has left, and waits for upstream's answer. False: there is no room to
    /// remember that.
    pub fn note_waiting(&self, keys: &[Arc<str>], left: SystemTime) -> bool {
        let mut waiting = self.waiting.write();
        if waiting.count + keys.len() > MOST {
            return false;
        }
        waiting.count += keys.len();
        keys.iter().for_each(|key| waiting.left.entry(key.clone()).or_default().push(left));
        true
    }

    /// The answer to such a push came, or never will.
    pub fn end_waiting(&self, keys: &[Arc<str>], left: SystemTime) {
        let waiting = &mut *self.waiting.write();
        for key in keys {
            let Some(all) = waiting.left.get_mut(key) else { continue };
            if let Some(place) = all.iter().position(|one| *one == left) {
                all.swap_remove(place);
                waiting.count -= 1;
            }
            if all.is_empty() {
                waiting.left.remove(key);
            }
        }
    }
}

impl Taken {
    fn note(&mut self, key: &Arc<str>, now: SystemTime) {
        self.at.insert(key.clone(), now);
        self.order.push_back((now, key.clone()));
        while let Some((at, key)) = self.order.front() {
            let is_recent = within(Some(*at), REMEMBERED, now);
            if is_recent && self.order.len() <= MOST {
                break;
            }
            if is_recent {
                self.left_out = self.left_out.max(Some(*at));
            }
            if self.at.get(key) == Some(at) {
                self.at.remove(key);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::records::time;

    fn key(n: usize) -> Arc<str> {
        format!("r/a:{n}").into()
    }

    #[test]
    fn pushes_are_remembered_by_tag_for_a_minute() {
        let pushes = Pushes::default();
        pushes.note_taken(&key(1), time(1000));
        pushes.note_taken(&key(1), time(1030));
        assert_eq!((pushes.generation(&key(1)), pushes.generation(&key(2))), (Some(time(1030)), None));
        pushes.note_taken(&key(2), time(1061));
        assert_eq!((pushes.generation(&key(1)), pushes.generation(&key(2))), (Some(time(1030)), Some(time(1061))));
        pushes.note_taken(&key(2), time(1090));
        assert_eq!((pushes.generation(&key(1)), pushes.generation(&key(2))), (None, Some(time(1090))));
    }

    #[test]
    fn a_flood_of_pushes_is_bounded_and_loses_none_of_them() {
        let (pushes, begun) = (Pushes::default(), time(1000));
        let at = |n: usize| begun + Duration::from_millis(n as u64);
        (0..2 * MOST).for_each(|n| pushes.note_taken(&key(n), at(n)));
        assert!(pushes.taken.read().at.len() <= MOST && pushes.taken.read().order.len() <= MOST);
        assert_eq!(pushes.generation(&key(2 * MOST - 1)), Some(at(2 * MOST - 1)));
        assert_eq!(pushes.generation(&key(0)), None);
        assert_eq!(pushes.of(&key(0)).taken, Some(at(MOST - 1)), "as if any tag were pushed then");
        (0..2 * MOST).for_each(|_| pushes.note_taken(&key(0), at(3 * MOST)));
        assert!(pushes.taken.read().order.len() <= MOST, "one tag alone fills nothing either");
    }

    #[test]
    fn one_push_that_waits_ends_no_other() {
        let (pushes, both) = (Pushes::default(), [key(1), key(2)]);
        assert!(pushes.note_waiting(&both, time(1)) && pushes.note_waiting(&both[..1], time(2)));
        assert_eq!(pushes.of(&key(1)).waiting, Some(time(2)));
        pushes.end_waiting(&both, time(1));
        assert_eq!((pushes.of(&key(1)).waiting, pushes.of(&key(2)).waiting), (Some(time(2)), None));
        pushes.end_waiting(&both[..1], time(2));
        let waiting = pushes.waiting.read();
        assert!(waiting.left.is_empty() && waiting.count == 0);
        drop(waiting);
        let many: Vec<_> = (0..MOST).map(key).collect();
        assert!(pushes.note_waiting(&many, time(3)) && !pushes.note_waiting(&both, time(3)), "there is a bound");
    }
}
