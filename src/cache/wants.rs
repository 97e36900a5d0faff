//! What those who read a blob on its way want of it. Each has a seat as long as it reads: who has not
//! said yet what it wants is waited for.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::policy::extents::Extents;

/// What is wanted of one blob.
#[derive(Debug, Default)]
pub(super) struct Wants {
    seats: Mutex<Seats>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Want>,
    was_all_wanted: bool,
    /// Whose turn it is.
    turn: usize,
}

/// Of a seat.
#[derive(Debug)]
enum Want {
    Unsaid,
    All,
    /// What is not here of what was asked for.
    Parts(Vec<Range<u64>>),
}

/// Parts of one seat, and of all, that are looked at together: those behind come after them.
const MOST_OF_SEAT: usize = 64;
const MOST: usize = 256;

/// What is still waited for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Whether somebody ever wanted all of it.
    pub(super) all: bool,
    /// Whether somebody has not said yet what it wants.
    pub(super) is_unsaid: bool,
    /// Each from the first byte on that is not here.
    pub(super) parts: Vec<Range<u64>>,
}

impl Waiting {
    /// Whether nobody waits for anything.
    pub(super) fn is_over(&self) -> bool {
        !self.all && !self.is_unsaid && self.parts.is_empty()
    }
}

impl Wants {
    /// A new seat's number.
    pub(super) fn sit(&self) -> u64 {
        let mut seats = self.seats.lock();
        let number = seats.next;
        seats.next += 1;
        seats.all.insert(number, Want::Unsaid);
        number
    }

    /// It leaves.
    pub(super) fn leave(&self, number: u64) {
        self.seats.lock().all.remove(&number);
        self.changed.notify_one();
    }

    /// It wants all.
    pub(super) fn all(&self, number: u64) {
        self.say(number, Want::All);
    }

    /// It wants these, in this order.
    pub(super) fn parts(&self, number: u64, parts: Vec<Range<u64>>) {
        self.say(number, Want::Parts(parts));
    }

    fn say(&self, number: u64, want: Want) {
        let mut seats = self.seats.lock();
        seats.was_all_wanted |= matches!(want, Want::All);
        seats.all.insert(number, want);
        drop(seats);
        self.changed.notify_one();
    }

    /// Resolves when somebody said what it wants, or left.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is waited for where this is here: of each seat in turn, so that who asks for much at once does not
    /// stand before all others.
    pub(super) fn waiting(&self, here: &Extents) -> Waiting {
        let mut seats = self.seats.lock();
        let mut waiting = Waiting { all: seats.was_all_wanted, ..Waiting::default() };
        let mut of_seats: Vec<Vec<Range<u64>>> = Vec::new();
        for want in seats.all.values_mut() {
            match want {
                Want::Unsaid => waiting.is_unsaid = true,
                Want::All => {}
                Want::Parts(parts) => {
                    let here_of = parts.iter().take_while(|part| here.holds(part)).count();
                    parts.drain(..here_of);
                    let missing = |part: &Range<u64>| here.end_from(part.start).min(part.end)..part.end;
                    let some = parts.iter().take(MOST_OF_SEAT).map(missing).filter(|part| !part.is_empty());
                    of_seats.push(some.collect());
                }
            }
        }
        of_seats.retain(|parts| !parts.is_empty());
        if !of_seats.is_empty() {
            seats.turn = (seats.turn + 1) % of_seats.len();
            let turn = seats.turn;
            of_seats.rotate_left(turn);
        }
        let in_turn = (0..MOST_OF_SEAT).flat_map(|n| of_seats.iter().filter_map(move |parts| parts.get(n)));
        waiting.parts = in_turn.take(MOST).cloned().collect();
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_waited_for_no_more() {
        let (wants, mut here) = (Wants::default(), Extents::default());
        let (first, second) = (wants.sit(), wants.sit());
        assert!(wants.waiting(&here).is_unsaid);
        wants.parts(second, vec![100..200, 500..600]);
        wants.parts(first, std::iter::once(0..10).collect::<Vec<_>>());
        let parts = |here: &Extents| wants.waiting(here).parts;
        let mut first_ones: Vec<u64> = (0..2).map(|_| parts(&here)[0].start).collect();
        first_ones.sort_unstable();
        assert_eq!(first_ones, [0, 100], "each comes first in its turn");
        assert_eq!(parts(&here).len(), 3);
        here.add(0..150);
        assert_eq!(parts(&here), [150..200, 500..600]);
        here.add(150..700);
        assert!(wants.waiting(&here).is_over());
        wants.leave(first);
        let third = wants.sit();
        assert!(!wants.waiting(&here).is_over(), "it may want anything");
        wants.all(third);
        wants.leave(third);
        assert!(wants.waiting(&here).all, "what was begun for one is ended for all");
    }

    #[test]
    fn who_asks_for_very_much_at_once_is_looked_at_by_and_by() {
        let (wants, mut here) = (Wants::default(), Extents::default());
        let parts: Vec<Range<u64>> = (0..1024).map(|n| n * 1000..n * 1000 + 1).collect();
        for _ in 0..100 {
            wants.parts(wants.sit(), parts.clone());
        }
        let late = wants.sit();
        wants.parts(late, std::iter::once(5_000_000..5_000_001).collect());
        assert!(wants.waiting(&here).parts.contains(&(5_000_000..5_000_001)), "who came last is seen");
        let mut rounds = 0;
        loop {
            let waiting = wants.waiting(&here).parts;
            assert!(waiting.len() <= MOST);
            if waiting.is_empty() {
                break;
            }
            waiting.into_iter().for_each(|part| here.add(part));
            rounds += 1;
        }
        assert!(rounds <= 1024, "{rounds}");
    }
}
