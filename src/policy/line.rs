//! A line for places of which there are so many: who may have one now, and whose turn is next. Pure: it
//! hands tickets back, and whoever calls does the rest.
//!
//! Who is alone may have nearly all places. Where others hold some, or wait, a tenant has at most as
//! many as are still free beside a reserve, and all tenants of a block together at most half; the reserve is for
//! who has next to none, half of it for whose block has next to none, too. So whoever comes next finds a
//! place. Who waits is served in turns, tenant by
//! tenant.

use std::collections::{BTreeMap, VecDeque};

use super::budget::Tenant;

/// Networks without a place whose numbers are kept: most come back at once.
const REMEMBERED: usize = 1024;
/// A sixteenth of the places are for who has fewer than so many.
const LITTLE: usize = 2;
const RESERVE: usize = 16;
/// Tickets at once, of all: a tenant has at most as many as are still free.
const MOST_TICKETS: usize = 4096;

/// The number of a ticket. None comes twice.
pub type Number = u64;

/// Places, those who have one, and those who wait.
#[derive(Debug)]
pub struct Line<T> {
    most: usize,
    all: Share,
    members: Members,
    tickets: BTreeMap<Tenant, BTreeMap<Number, T>>,
    turns: VecDeque<Tenant>,
    next: Number,
}

/// What somebody has of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    held: usize,
    waiting: usize,
}

impl Share {
    /// Whether somebody else has a part in `all`.
    fn is_part_of(self, all: Share) -> bool {
        self != all
    }
}

/// The shares of tenants that had one lately, or wait, and of the blocks around them.
#[derive(Debug, Default)]
struct Members {
    tenants: BTreeMap<Tenant, Member>,
    blocks: Blocks,
    /// So many tenants were left when those without a share were last forgotten.
    left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    share: Share,
    /// The number of its block.
    block: usize,
}

#[derive(Debug, Default)]
struct Blocks {
    numbers: BTreeMap<Tenant, usize>,
    shares: Vec<(Tenant, Share)>,
}

impl Blocks {
    fn number(&mut self, block: Tenant) -> usize {
        *self.numbers.entry(block).or_insert_with(|| {
            self.shares.push((block, Share::default()));
            self.shares.len() - 1
        })
    }
}

impl Members {
    fn of(&mut self, tenant: Tenant) -> &mut Member {
        if self.tenants.len() > REMEMBERED.max(2 * self.left) {
            self.forget();
        }
        let blocks = &mut self.blocks;
        let new = || Member { share: Share::default(), block: blocks.number(tenant.block()) };
        self.tenants.entry(tenant).or_insert_with(new)
    }

    fn forget(&mut self) {
        self.tenants.retain(|_, member| member.share != Share::default());
        self.left = self.tenants.len();
        let before = std::mem::take(&mut self.blocks).shares;
        for member in self.tenants.values_mut() {
            let (block, share) = before[member.block];
            member.block = self.blocks.number(block);
            self.blocks.shares[member.block].1 = share;
        }
    }

    /// The shares of a tenant and of its block.
    fn shares(&mut self, tenant: Tenant) -> (Share, Share) {
        let Member { share, block } = *self.of(tenant);
        (share, self.blocks.shares[block].1)
    }

    fn change(&mut self, tenant: Tenant, change: impl Fn(&mut Share)) {
        let member = self.of(tenant);
        change(&mut member.share);
        let block = member.block;
        change(&mut self.blocks.shares[block].1);
    }
}

impl<T> Line<T> {
    /// A line for so many places.
    pub fn new(most: usize) -> Line<T> {
        let (tickets, turns) = (BTreeMap::new(), VecDeque::new());
        Line { most, all: Share::default(), members: Members::default(), tickets, turns, next: 0 }
    }

    /// Takes a place, if there is one now.
    pub fn take_now(&mut self, tenant: Tenant) -> bool {
        let may = self.may(tenant);
        if may {
            self.change(tenant, |share| share.held += 1);
        }
        may
    }

    /// A ticket for a place that there was not; its number.
    ///
    /// # Errors
    /// Too many wait: the ticket.
    pub fn wait(&mut self, tenant: Tenant, ticket: T) -> Result<Number, T> {
        if self.members.of(tenant).share.waiting >= MOST_TICKETS.saturating_sub(self.all.waiting) {
            return Err(ticket);
        }
        self.next += 1;
        let waiting = self.tickets.entry(tenant).or_default();
        if waiting.is_empty() {
            self.turns.push_back(tenant);
        }
        waiting.insert(self.next, ticket);
        self.change(tenant, |share| share.waiting += 1);
        Ok(self.next)
    }

    /// A place is free again: the tickets of those who have one now, with their tenants.
    pub fn give_back(&mut self, tenant: Tenant) -> Vec<(Tenant, T)> {
        self.change(tenant, |share| share.held = share.held.saturating_sub(1));
        self.call()
    }

    /// The owner of a ticket waits no more: the tickets of those who have a place now.
    pub fn leave(&mut self, tenant: Tenant, number: Number) -> Vec<(Tenant, T)> {
        let Some(waiting) = self.tickets.get_mut(&tenant) else { return Vec::new() };
        if waiting.remove(&number).is_none() {
            return Vec::new();
        }
        if waiting.is_empty() {
            self.tickets.remove(&tenant);
            self.turns.retain(|other| *other != tenant);
        }
        self.change(tenant, |share| share.waiting -= 1);
        self.call()
    }

    /// Places that are taken, and tickets that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.all.held, self.all.waiting)
    }

    /// Gives places to those who wait and may have one.
    fn call(&mut self) -> Vec<(Tenant, T)> {
        let (mut called, mut passed) = (Vec::new(), 0);
        while passed < self.turns.len() && self.all.held < self.most {
            let Some(next) = self.turns.pop_front() else { break };
            if !self.may(next) {
                self.turns.push_back(next);
                passed += 1;
                continue;
            }
            let waiting = self.tickets.get_mut(&next);
            let ticket = waiting.and_then(BTreeMap::pop_first);
            if self.tickets.get(&next).is_some_and(|waiting| !waiting.is_empty()) {
                self.turns.push_back(next);
            } else {
                self.tickets.remove(&next);
            }
            if let Some((_, ticket)) = ticket {
                self.change(next, |share| (share.held, share.waiting) = (share.held + 1, share.waiting - 1));
                called.push((next, ticket));
            }
            passed = 0;
        }
        called
    }

    fn may(&mut self, tenant: Tenant) -> bool {
        let (own, block) = self.members.shares(tenant);
        let (free, reserve) = (self.most.saturating_sub(self.all.held), self.most / RESERVE);
        if free == 0 || block.is_part_of(self.all) && block.held >= self.most.div_ceil(2) {
            return false;
        }
        let may_have_little = own.held < LITTLE && (block.held < LITTLE || free > reserve / 2);
        may_have_little || free > reserve && (!own.is_part_of(self.all) || own.held < free - reserve)
    }

    fn change(&mut self, tenant: Tenant, change: impl Fn(&mut Share)) {
        change(&mut self.all);
        self.members.change(tenant, change);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(n: u8) -> Tenant {
        Tenant::of([10, 0, n, 1].into())
    }

    fn ask<T>(line: &mut Line<T>, tenant: Tenant, ticket: T) -> Option<T> {
        if line.take_now(tenant) {
            return Some(ticket);
        }
        assert!(line.wait(tenant, ticket).is_ok());
        None
    }

    fn granted(line: &mut Line<u16>, tenant: Tenant, asked: u16) -> usize {
        (0..asked).filter(|n| ask(line, tenant, *n).is_some()).count()
    }

    /// A fleet behind one address is as fast as it can be, and the next finds a place all the same.
    #[test]
    fn who_is_alone_has_all_but_the_reserve() {
        let mut line = Line::new(64);
        assert_eq!(granted(&mut line, tenant(1), 100), 60);
        assert_eq!(granted(&mut line, tenant(2), 100), 2, "who has next to none");
        assert_eq!(granted(&mut line, tenant(3), 100), 2);
        assert_eq!(line.counts(), (64, 236));
        // What the first gives back is for the others, until they have as many as are free.
        for _ in 0..24 {
            assert!(line.give_back(tenant(1)).iter().all(|(tenant, _)| *tenant != Tenant::of([10, 0, 1, 1].into())));
        }
    }

    #[test]
    fn where_others_hold_some_it_is_as_many_as_are_free() {
        let mut line = Line::new(64);
        assert!(line.take_now(tenant(9)));
        assert_eq!(granted(&mut line, tenant(1), 100), 30);
        assert_eq!(granted(&mut line, tenant(2), 100), 15);
        assert_eq!(granted(&mut line, tenant(3), 100), 7);
    }

    /// Many addresses of one block have half; a stranger finds its own.
    #[test]
    fn a_block_has_half_where_others_are() {
        let mut line = Line::new(64);
        assert!(line.take_now(tenant(9)));
        let taken: usize = (0..40).map(|n| granted(&mut line, Tenant::of([10, 0, 1, n].into()), 20)).sum();
        assert_eq!(taken, 32);
        assert_eq!(granted(&mut line, tenant(2), 20), 14);
    }

    /// However many addresses of one block come, another block finds a place, too.
    #[test]
    fn a_block_that_is_alone_leaves_some_of_the_reserve() {
        let mut line = Line::new(512);
        let first = granted(&mut line, Tenant::of([10, 0, 1, 0].into()), 600);
        let more: usize = (1..=255).map(|n| granted(&mut line, Tenant::of([10, 0, 1, n].into()), 4)).sum();
        assert_eq!((first, more), (480, 16));
        assert_eq!([2, 3, 4].map(|n| granted(&mut line, tenant(n), 10)), [2, 2, 2]);
    }

    #[test]
    fn who_waits_is_served_in_turns() {
        let mut line = Line::new(4);
        for (who, ticket) in [(1, 'a'), (1, 'b'), (2, 'c'), (3, 'd')] {
            assert!(ask(&mut line, tenant(who), ticket).is_some(), "{ticket}");
        }
        for (who, ticket) in [(1, 'e'), (1, 'f'), (2, 'g'), (3, 'h')] {
            assert!(ask(&mut line, tenant(who), ticket).is_none(), "{ticket}");
        }
        assert_eq!(line.give_back(tenant(1)), [(tenant(1), 'e')]);
        assert_eq!(line.give_back(tenant(2)), [(tenant(2), 'g')]);
        assert_eq!(line.give_back(tenant(2)), [(tenant(3), 'h')]);
        assert_eq!(line.give_back(tenant(3)), [], "the first has half");
        assert_eq!(line.give_back(tenant(1)), [(tenant(1), 'f')]);
        for who in [1, 1, 3] {
            assert_eq!(line.give_back(tenant(who)), []);
        }
        assert_eq!(line.counts(), (0, 0));
    }

    /// Networks come and go; who has something is not forgotten.
    #[test]
    fn who_has_nothing_is_forgotten() {
        let mut line: Line<()> = Line::new(1 << 20);
        assert!(line.take_now(tenant(9)));
        for n in 0..10_000_u32 {
            let passing = Tenant::of((0x0b00_0000 + 256 * n).to_be_bytes().into());
            assert!(line.take_now(passing) && line.give_back(passing).is_empty());
        }
        assert!(line.members.tenants.len() <= REMEMBERED + 1 && line.members.blocks.shares.len() <= REMEMBERED + 1);
        let one = Share { held: 1, waiting: 0 };
        assert_eq!(line.members.shares(tenant(9)), (one, one));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let mut line = Line::new(1);
        assert!(line.take_now(tenant(1)));
        let mut waiting = |n| std::iter::repeat_with(|| line.wait(tenant(n), ())).take_while(Result::is_ok).count();
        assert_eq!([waiting(1), waiting(2), waiting(3)], [2048, 1024, 512]);
    }

    proptest! {
        /// Nobody has a place too many, nobody who may have one waits, and all come to an end.
        #[test]
        fn any_order(steps in prop::collection::vec((0u8..5, 0u8..3), 0..400)) {
            let (mut line, mut held, mut waiting) = (Line::new(7), Vec::new(), Vec::new());
            let tenants = |called: Vec<(Tenant, ())>| called.into_iter().map(|(tenant, ())| tenant);
            for (who, step) in steps {
                match step {
                    0 if line.take_now(tenant(who)) => held.push(tenant(who)),
                    0 => waiting.push((tenant(who), line.wait(tenant(who), ()).unwrap())),
                    1 => if let Some(tenant) = held.pop() { held.extend(tenants(line.give_back(tenant))); },
                    // Some have been called already.
                    _ => if let Some((tenant, number)) = waiting.pop() { held.extend(tenants(line.leave(tenant, number))); },
                }
                prop_assert_eq!(line.counts().0, held.len());
                prop_assert!(held.len() <= 7);
                for tenant in line.turns.clone() { prop_assert!(!line.may(tenant)); }
            }
            while let Some(tenant) = held.pop() {
                held.extend(tenants(line.give_back(tenant)));
            }
            prop_assert_eq!(line.counts(), (0, 0));
            prop_assert!(line.tickets.is_empty() && line.turns.is_empty());
        }
    }
}
