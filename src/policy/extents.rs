//! Which bytes of a blob are here. Pure.

use std::ops::Range;

/// Ranges in order, none empty, none touching the next; and how many bytes they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Range<u64>>, u64);

impl FromIterator<Range<u64>> for Extents {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Extents {
        let mut extents = Extents::default();
        ranges.into_iter().for_each(|range| extents.add(range));
        extents
    }
}

impl Extents {
    /// From ranges that were written down; `None` if they are no extents.
    pub fn from_ranges(ranges: impl IntoIterator<Item = Range<u64>>) -> Option<Extents> {
        let mut extents = Extents::default();
        for range in ranges {
            let is_next = extents.0.last().is_none_or(|last| last.end < range.start);
            if !is_next || range.is_empty() {
                return None;
            }
            extents.1 += range.end - range.start;
            extents.0.push(range);
        }
        Some(extents)
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Adds what came, which may be here already.
    pub fn add(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|range| range.end < new.start);
        let after = self.0.partition_point(|range| range.start <= new.end);
        let touched = &self.0[first..after];
        let start = touched.first().map_or(new.start, |range| range.start.min(new.start));
        let end = touched.last().map_or(new.end, |range| range.end.max(new.end));
        let before: u64 = touched.iter().map(|range| range.end - range.start).sum();
        self.1 = self.1 + (end - start) - before;
        self.0.splice(first..after, std::iter::once(start..end));
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.1
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the bytes end that are here without a gap from `at` on: `at` itself, where there are none.
    pub fn end_from(&self, at: u64) -> u64 {
        let behind = self.0.partition_point(|range| range.end <= at);
        self.0.get(behind).filter(|range| range.start <= at).map_or(at, |range| range.end)
    }

    /// Where the next bytes begin that are here, at `at` or behind it.
    pub fn next_from(&self, at: u64) -> Option<u64> {
        let behind = self.0.partition_point(|range| range.start < at);
        self.0.get(behind).map(|range| range.start)
    }

    /// Whether all of `part` is here.
    pub fn holds(&self, part: &Range<u64>) -> bool {
        part.is_empty() || self.end_from(part.start) >= part.end
    }

    /// What of `part` is not here, in order.
    pub fn gaps(&self, part: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = part.start;
        std::iter::from_fn(move || {
            let start = self.end_from(at);
            let end = self.next_from(start).unwrap_or(part.end).min(part.end);
            at = end;
            (start < end).then_some(start..end)
        })
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "they are lists of ranges")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 64;

    fn array(extents: &Extents) -> Vec<bool> {
        (0..SIZE).map(|at| extents.0.iter().any(|range| range.contains(&at))).collect()
    }

    proptest! {
        /// Against a plain array of bytes.
        #[test]
        fn they_are_what_was_added(added in prop::collection::vec((0..SIZE, 0..20u64), 0..20), part in (0..SIZE, 0..SIZE)) {
            let (mut extents, mut model) = (Extents::default(), vec![false; SIZE as usize]);
            for (start, len) in added {
                let range = start..(start + len).min(SIZE);
                range.clone().for_each(|at| model[at as usize] = true);
                extents.add(range);
            }
            prop_assert_eq!(&array(&extents), &model);
            prop_assert_eq!(Extents::from_ranges(extents.ranges().to_vec()), Some(extents.clone()), "in order and apart");
            prop_assert_eq!(extents.bytes(), model.iter().filter(|here| **here).count() as u64);
            let part = part.0.min(part.1)..part.0.max(part.1);
            for at in 0..SIZE {
                let end = (at..SIZE).find(|at| !model[*at as usize]).unwrap_or(SIZE);
                prop_assert_eq!(extents.end_from(at), end);
                let begins = |at: &u64| model[*at as usize] && (*at == 0 || !model[*at as usize - 1]);
                prop_assert_eq!(extents.next_from(at), (at..SIZE).find(begins));
            }
            let missing: Vec<u64> = extents.gaps(part.clone()).flatten().collect();
            let expected: Vec<u64> = part.clone().filter(|at| !model[*at as usize]).collect();
            prop_assert_eq!(extents.holds(&part), expected.is_empty());
            prop_assert_eq!(missing, expected);
        }
    }

    #[test]
    fn what_is_no_extents_is_refused() {
        for bad in [vec![3..3], vec![5..9, 2..3], vec![0..4, 4..6], vec![0..4, 3..6]] {
            assert_eq!(Extents::from_ranges(bad.clone()), None, "{bad:?}");
        }
    }

    #[test]
    fn the_next_extent_from_within_one_is_the_one_behind_it() {
        let extents = Extents::from_ranges([2..4, 8..9]).unwrap();
        assert_eq!([0, 2, 3, 8, 9].map(|at| extents.next_from(at)), [Some(2), Some(2), Some(8), Some(8), None]);
    }
}
