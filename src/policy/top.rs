//! Who was most, of names without end, with a fixed number of counters.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, 2005): a name that has no counter takes that of
//! the one with the least, and its count; so a count is never too small, it is too large by at most
//! what was taken over, and whoever had more than the Nth part of all, of N counters, has one. Blobs
//! add bytes to a name that has a counter; they take none.
//!
//! [`Windows`] are several of them one after another, so that what was long ago is forgotten.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

/// Counters of a window.
pub const COUNTERS: usize = 256;
/// Windows, the present one among them.
const WINDOWS: usize = 6;
/// Of a window: all together reach 20 to 24 hours back.
const WINDOW: Duration = Duration::from_secs(4 * 3600);
/// Bytes of a name; what is longer is cut.
pub const LONGEST_NAME: usize = 256;

/// What one request adds to a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Manifests.
    pub pulls: u64,
    /// Bytes that were sent.
    pub bytes: u64,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The name.
    pub name: Box<str>,
    /// At most so many pulls.
    pub pulls: u64,
    /// So many of them may have been another's.
    pub over: u64,
    /// Bytes since it has a counter.
    pub bytes: u64,
}

/// The counters of one window.
#[derive(Clone, Debug)]
pub struct Sketch {
    capacity: usize,
    places: HashMap<u64, usize>,
    /// Apart from the rest: the least is looked for in 2 KiB.
    pulls: Vec<u64>,
    rest: Vec<Rest>,
}

#[derive(Clone, Debug)]
struct Rest {
    key: u64,
    name: Box<str>,
    over: u64,
    bytes: u64,
}

impl Sketch {
    /// Nothing was counted yet.
    pub fn new(capacity: usize) -> Sketch {
        Sketch { capacity: capacity.max(1), places: HashMap::new(), pulls: Vec::new(), rest: Vec::new() }
    }

    /// Adds to the name of this key, a hash that no client can foresee. The name is made only if it
    /// gets a counter.
    pub fn add(&mut self, key: u64, more: Weight, name: impl FnOnce() -> String) {
        if let Some(place) = self.places.get(&key) {
            self.pulls[*place] = self.pulls[*place].saturating_add(more.pulls);
            self.rest[*place].bytes = self.rest[*place].bytes.saturating_add(more.bytes);
            return;
        }
        if more.pulls == 0 {
            return;
        }
        let mut rest = Rest { key, name: bounded(name()), over: 0, bytes: more.bytes };
        if self.rest.len() < self.capacity {
            self.places.insert(key, self.rest.len());
            self.pulls.push(more.pulls);
            self.rest.push(rest);
            return;
        }
        let Some((place, least)) = self.least() else { return };
        rest.over = least;
        self.places.remove(&self.rest[place].key);
        self.places.insert(key, place);
        self.pulls[place] = least.saturating_add(more.pulls);
        self.rest[place] = rest;
    }

    fn least(&self) -> Option<(usize, u64)> {
        self.pulls.iter().copied().enumerate().min_by_key(|(_, pulls)| *pulls)
    }

    fn into_counted(self) -> Vec<Counted> {
        let all = self.pulls.into_iter().zip(self.rest);
        all.map(|(pulls, Rest { name, over, bytes, .. })| Counted { name, pulls, over, bytes }).collect()
    }

    fn counted(&self) -> impl Iterator<Item = Counted> {
        let all = self.pulls.iter().zip(&self.rest);
        all.map(|(pulls, it)| Counted { name: it.name.clone(), pulls: *pulls, over: it.over, bytes: it.bytes })
    }
}

fn bounded(mut name: String) -> Box<str> {
    let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.truncate(end.unwrap_or_default());
    name.into()
}

/// The present window, and those before it.
#[derive(Clone, Debug)]
pub struct Windows {
    present: Sketch,
    began: SystemTime,
    /// The latest first.
    past: VecDeque<Vec<Counted>>,
}

impl Windows {
    /// Nothing was counted yet.
    pub fn new(now: SystemTime) -> Windows {
        Windows { present: Sketch::new(COUNTERS), began: now, past: VecDeque::new() }
    }

    /// Adds to the present window: see [`Sketch::add`].
    pub fn add(&mut self, key: u64, more: Weight, name: impl FnOnce() -> String) {
        self.present.add(key, more, name);
    }

    /// Begins a window where the present one is over. A clock that goes back makes it longer.
    pub fn turn(&mut self, now: SystemTime) {
        let Ok(passed) = now.duration_since(self.began) else {
            self.began = now;
            return;
        };
        let passed = passed.as_secs() / WINDOW.as_secs();
        for _ in 0..passed.min(WINDOWS as u64) {
            let over = std::mem::replace(&mut self.present, Sketch::new(COUNTERS));
            self.past.push_front(over.into_counted());
            self.past.truncate(WINDOWS - 1);
        }
        if passed > 0 {
            self.began = now;
        }
    }

    /// The first `most` by pulls, in all windows together.
    pub fn first(&self, most: usize) -> Vec<Counted> {
        let mut sums: HashMap<Box<str>, Counted> = HashMap::new();
        for one in self.present.counted().chain(self.past.iter().flatten().cloned()) {
            match sums.get_mut(&one.name) {
                Some(sum) => {
                    sum.pulls = sum.pulls.saturating_add(one.pulls);
                    sum.over = sum.over.saturating_add(one.over);
                    sum.bytes = sum.bytes.saturating_add(one.bytes);
                }
                None => drop(sums.insert(one.name.clone(), one)),
            }
        }
        let mut all: Vec<Counted> = sums.into_values().collect();
        all.sort_by(|a, b| b.pulls.cmp(&a.pulls).then_with(|| a.name.cmp(&b.name)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const PULL: Weight = Weight { pulls: 1, bytes: 10 };

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600)
    }

    fn names(windows: &Windows) -> Vec<(String, u64)> {
        windows.first(9).iter().map(|it| (it.name.to_string(), it.pulls)).collect()
    }

    impl Windows {
        /// Bytes on the heap.
        fn memory(&self) -> usize {
            let Sketch { places, pulls, rest, .. } = &self.present;
            let present = places.capacity() * 17 + pulls.capacity() * 8 + rest.capacity() * size_of::<Rest>();
            let names = rest.iter().map(|it| it.name.len()).sum::<usize>();
            let past = self.past.iter().flat_map(|past| past.iter().map(|it| size_of_val(it) + it.name.len()));
            present + names + past.sum::<usize>()
        }
    }

    /// docs/operating.md says 512 KiB of each list.
    #[test]
    fn a_million_names_cost_what_a_few_hundred_do() {
        let mut windows = Windows::new(at(0));
        let long = "x".repeat(LONGEST_NAME);
        for n in 0..1_000_000_u64 {
            windows.turn(at(n / 25_000));
            windows.add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), PULL, || format!("{n:07}{long}"));
            if n % 10 == 0 {
                windows.add(7, PULL, || "frequent".to_owned());
            }
        }
        assert!(windows.memory() <= 512 << 10, "{}", windows.memory());
        let first = &windows.first(1)[0];
        assert_eq!(&*first.name, "frequent");
        assert!(windows.first(usize::MAX).iter().all(|it| it.name.len() <= LONGEST_NAME));
    }

    #[test]
    fn blobs_add_bytes_and_take_no_counter() {
        let mut windows = Windows::new(at(0));
        windows.add(1, Weight { pulls: 0, bytes: 5 }, || "blob".to_owned());
        assert_eq!(windows.first(9), []);
        windows.add(1, PULL, || "image".to_owned());
        windows.add(1, Weight { pulls: 0, bytes: 5 }, || unreachable!("it has one"));
        assert_eq!(windows.first(9), [Counted { name: "image".into(), pulls: 1, over: 0, bytes: 15 }]);
    }

    #[test]
    fn what_was_a_day_ago_is_forgotten() {
        let mut windows = Windows::new(at(0));
        windows.add(1, PULL, || "a".to_owned());
        for (hours, expected) in [(3, &["a"][..]), (4, &["a"]), (20, &["a"]), (23, &["a"]), (24, &[])] {
            windows.turn(at(hours));
            let names = names(&windows);
            assert_eq!(names.iter().map(|it| &*it.0).collect::<Vec<_>>(), expected, "after {hours} h");
        }
        windows.add(2, PULL, || "b".to_owned());
        windows.turn(at(1000));
        assert_eq!(names(&windows), [], "a long sleep");
    }

    #[test]
    fn windows_are_summed_and_a_clock_that_goes_back_loses_nothing() {
        let mut windows = Windows::new(at(100));
        windows.add(1, PULL, || "a".to_owned());
        windows.turn(at(105));
        windows.add(1, PULL, || "a".to_owned());
        windows.add(2, PULL, || "b".to_owned());
        windows.turn(at(1));
        windows.add(2, PULL, || "b".to_owned());
        windows.add(2, PULL, || "b".to_owned());
        assert_eq!(names(&windows), [("b".to_owned(), 3), ("a".to_owned(), 2)]);
        windows.turn(at(5));
        windows.turn(SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(names(&windows).len(), 2);
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        assert_eq!(bounded("é".repeat(200)).len(), LONGEST_NAME);
        assert_eq!(bounded(format!("x{}", "é".repeat(200))).len(), LONGEST_NAME - 1);
    }

    proptest! {
        #[test]
        fn a_count_is_never_too_small_and_too_large_by_what_it_says(
            stream in proptest::collection::vec(0_u64..40, 0..400),
            capacity in 1_usize..20,
        ) {
            let mut sketch = Sketch::new(capacity);
            let mut truth: BTreeMap<String, u64> = BTreeMap::new();
            for key in &stream {
                sketch.add(*key, PULL, || key.to_string());
                *truth.entry(key.to_string()).or_default() += 1;
            }
            let counted: Vec<Counted> = sketch.counted().collect();
            prop_assert!(counted.len() <= capacity && sketch.places.len() == counted.len());
            for it in &counted {
                let true_count = truth[&*it.name];
                prop_assert!(it.pulls >= true_count && it.pulls - it.over <= true_count, "{:?} {}", it, true_count);
            }
            let all = stream.len() as u64;
            for (name, count) in truth {
                let is_frequent = count * capacity as u64 > all;
                prop_assert!(!is_frequent || counted.iter().any(|it| *it.name == *name), "{} of {}", count, all);
            }
        }
    }
}
