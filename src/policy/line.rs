//! A line for places of which there are so many: who may have one now, and whose turn is next. Pure: it
//! hands tickets back, and whoever calls does the rest.
//!
//! A network has at most as many places as are still free, so that the next always finds some; one that is
//! alone has half of them. Who waits is served in turns, network by network.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::budget::Network;

/// Networks without a place whose number is kept: most come back at once.
const REMEMBERED: usize = 1024;

/// Places, those who have one, and those who wait.
#[derive(Debug)]
pub struct Line<T> {
    most: usize,
    taken: usize,
    /// Of networks that had one lately.
    held: BTreeMap<Network, usize>,
    waiting: HashMap<Network, VecDeque<T>>,
    turns: VecDeque<Network>,
}

impl<T> Line<T> {
    /// A line for so many places.
    pub fn new(most: usize) -> Line<T> {
        Line { most, taken: 0, held: BTreeMap::new(), waiting: HashMap::new(), turns: VecDeque::new() }
    }

    /// Takes a place, if there is one now.
    pub fn take_now(&mut self, network: Network) -> bool {
        let may = self.may(network);
        if may {
            self.take(network);
        }
        may
    }

    /// A ticket for a place that there was not.
    pub fn wait(&mut self, network: Network, ticket: T) {
        let waiting = self.waiting.entry(network).or_default();
        if waiting.is_empty() {
            self.turns.push_back(network);
        }
        waiting.push_back(ticket);
    }

    /// A place is free again: the tickets of those who have one now, with their networks.
    pub fn give_back(&mut self, network: Network) -> Vec<(Network, T)> {
        self.taken = self.taken.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&network) {
            *held = held.saturating_sub(1);
        }
        if self.held.len() > REMEMBERED {
            self.held.retain(|_, held| *held > 0);
        }
        let (mut called, mut passed) = (Vec::new(), 0);
        while passed < self.turns.len() {
            let Some(next) = self.turns.pop_front() else { break };
            if !self.may(next) {
                self.turns.push_back(next);
                passed += 1;
                continue;
            }
            let waiting = self.waiting.get_mut(&next);
            let ticket = waiting.and_then(VecDeque::pop_front);
            if self.waiting.get(&next).is_some_and(|waiting| !waiting.is_empty()) {
                self.turns.push_back(next);
            } else {
                self.waiting.remove(&next);
            }
            if let Some(ticket) = ticket {
                self.take(next);
                called.push((next, ticket));
            }
            passed = 0;
        }
        called
    }

    /// Tickets of a network whose owners do not wait any more.
    pub fn forget(&mut self, network: Network, is_gone: impl Fn(&T) -> bool) {
        let Some(waiting) = self.waiting.get_mut(&network) else { return };
        waiting.retain(|ticket| !is_gone(ticket));
        if waiting.is_empty() {
            self.waiting.remove(&network);
            self.turns.retain(|other| *other != network);
        }
    }

    /// Places that are taken, and tickets that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.taken, self.waiting.values().map(VecDeque::len).sum())
    }

    fn may(&self, network: Network) -> bool {
        self.held.get(&network).copied().unwrap_or(0) < self.most.saturating_sub(self.taken)
    }

    fn take(&mut self, network: Network) {
        self.taken += 1;
        *self.held.entry(network).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(n: u8) -> Network {
        Network::of([10, 0, 0, n].into())
    }

    fn ask<T>(line: &mut Line<T>, network: Network, ticket: T) -> Option<T> {
        if line.take_now(network) {
            return Some(ticket);
        }
        line.wait(network, ticket);
        None
    }

    #[test]
    fn who_is_alone_has_half_and_the_next_finds_a_place() {
        let mut line = Line::new(16);
        let granted = (0..16).filter(|n| ask(&mut line, network(1), *n).is_some()).count();
        assert_eq!((granted, line.counts()), (8, (8, 8)));
        assert!((0..4).all(|n| ask(&mut line, network(2), n).is_some()));
        assert!(ask(&mut line, network(2), 9).is_none());
        assert!(ask(&mut line, network(3), 9).is_some(), "the third, too");
    }

    #[test]
    fn who_waits_is_served_in_turns() {
        let mut line = Line::new(2);
        assert!(ask(&mut line, network(1), 'a').is_some());
        for (who, ticket) in [(1, 'b'), (1, 'c'), (2, 'd'), (3, 'e')] {
            assert_eq!(ask(&mut line, network(who), ticket).is_some(), ticket == 'd', "{ticket}");
        }
        // One is free beside the second's.
        assert_eq!(line.give_back(network(1)), [(network(1), 'b')]);
        assert_eq!(line.give_back(network(2)), [(network(3), 'e')]);
        assert_eq!(line.give_back(network(3)), []);
        assert_eq!(line.give_back(network(1)), [(network(1), 'c')]);
        assert_eq!(line.give_back(network(1)), []);
        assert_eq!(line.counts(), (0, 0));
    }

    proptest! {
        /// Nobody has a place too many, nobody who may have one waits, and all come to an end.
        #[test]
        fn any_order(steps in prop::collection::vec((0u8..5, any::<bool>()), 0..400)) {
            let (mut line, mut held) = (Line::new(7), Vec::new());
            for (who, asks) in steps {
                if asks {
                    held.extend(ask(&mut line, network(who), ()).map(|()| network(who)));
                } else if let Some(network) = held.pop() {
                    held.extend(line.give_back(network).into_iter().map(|(network, ())| network));
                }
                prop_assert_eq!(line.counts().0, held.len());
                prop_assert!(held.len() <= 7);
                prop_assert!(line.turns.iter().all(|network| !line.may(*network)));
            }
            while let Some(network) = held.pop() {
                held.extend(line.give_back(network).into_iter().map(|(network, ())| network));
            }
            prop_assert_eq!(line.counts(), (0, 0));
        }
    }
}
