use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn hits(hits: u64) -> Point {
    let mut point = Point::default();
    point.set(Figure::Hit, hits);
    point
}

/// Minutes ago, and hits, of what is not empty.
fn seen(ring: &Ring, now: u64) -> Vec<(u64, u64)> {
    let newest = Span::Day.number(at(now));
    let all = ring.last(usize::MAX, at(now)).filter(|(_, point)| !point.is_empty());
    all.map(|(number, point)| (newest - number, point.get(Figure::Hit))).collect()
}

#[test]
fn a_point_is_where_its_minute_is_whatever_the_clock_did() {
    const T: u64 = 1_800_000_000;
    type Row<'a> = (&'a str, &'a [(u64, u64)], u64, &'a [(u64, u64)]);
    let rows: [Row<'_>; 9] = [
        ("a minute", &[(T, 1), (T + 59, 2)], T + 59, &[(0, 3)]),
        ("the next", &[(T, 1), (T + 60, 2)], T + 60, &[(1, 1), (0, 2)]),
        ("a sleep is empty", &[(T, 1), (T + 3 * 3600, 2)], T + 3 * 3600, &[(180, 1), (0, 2)]),
        ("nothing since", &[(T, 1)], T + 600, &[(10, 1)]),
        ("the oldest", &[(T, 1)], T + DAY - 60, &[(1439, 1)]),
        ("is over", &[(T, 1)], T + DAY, &[]),
        ("off for a day", &[(T, 1), (T + DAY, 2)], T + DAY, &[(0, 2)]),
        ("back by two minutes", &[(T, 1), (T + 120, 2), (T, 4), (T + 120, 8)], T + 120, &[(2, 5), (0, 10)]),
        ("1970 for a while", &[(T, 1), (T + 60, 2), (5, 4), (T + 120, 8)], T + 120, &[(2, 1), (1, 2), (0, 8)]),
    ];
    for (what, counted, now, expected) in rows {
        let mut ring = Ring::new(Span::Day);
        counted.iter().for_each(|(when, n)| {
            ring.add(at(*when), &hits(*n));
        });
        assert_eq!(seen(&ring, now), expected, "{what}");
    }
}

#[test]
fn a_clock_that_was_in_another_century_holds_up_nothing() {
    let mut ring = Ring::new(Span::Month);
    ring.add(at(4_000_000_000), &hits(1));
    ring.add(at(1_800_000_000), &hits(2));
    ring.add(SystemTime::UNIX_EPOCH - Duration::from_secs(9), &hits(4));
    assert_eq!(ring.sum(usize::MAX, at(1_800_000_000)), hits(2));
    assert_eq!(ring.sum(1, at(4_000_000_000)), hits(1));
    assert_eq!(ring.sum(usize::MAX, SystemTime::UNIX_EPOCH), hits(4));
    assert_eq!(ring.sum(0, at(1_800_000_000)), Point::default());
}

#[test]
fn shares_and_what_was_spared() {
    let mut point = Point::default();
    for (n, figure) in Figure::ALL.into_iter().enumerate() {
        assert_eq!(figure as usize, n, "the order of a point");
        point.set(figure, 1 << n);
    }
    assert_eq!((point.pulls(), point.from_cache()), (0b111_111, 0b010_011));
    assert_eq!((point.bytes(), point.bytes_spared()), (0b111 << 6, 0b011 << 6));
    let mut more = point;
    more.add(&point);
    assert_eq!(more.get(Figure::Hit), 2);
    assert_eq!(more.get(Figure::Clients), point.get(Figure::Clients), "the same ones, as far as is known");
    assert_eq!(more.since(&point).get(Figure::Fills), point.get(Figure::Fills));
    assert_eq!(point.since(&more).get(Figure::Fills), 0, "counters that begin again");
    more.set(Figure::Hit, u64::MAX);
    more.add(&point);
    assert_eq!((more.get(Figure::Hit), more.pulls()), (u64::MAX, u64::MAX));
}

#[test]
fn each_outcome_of_a_pull_has_a_figure() {
    for outcome in [Outcome::Hit, Outcome::Revalidated, Outcome::Miss, Outcome::Collapsed, Outcome::Stale] {
        assert_eq!(Figure::of(outcome).map(Figure::as_str), Some(outcome.as_str()));
        assert!(Figure::bytes_of(outcome).is_some());
    }
    for outcome in [Outcome::Denied, Outcome::Error] {
        assert_eq!((Figure::of(outcome), Figure::bytes_of(outcome)), (None, None));
    }
}

proptest! {
    /// The same as a map that forgets nothing, as far as it shows the time before `now`.
    #[test]
    fn a_ring_is_a_map_of_its_last_steps(counted in proptest::collection::vec((0..4 * DAY, 1_u64..9), 0..60)) {
        let mut clock = counted.clone();
        clock.sort();
        let mut ring = Ring::new(Span::Day);
        let mut all: BTreeMap<u64, u64> = BTreeMap::new();
        for (when, n) in &clock {
            ring.add(at(*when), &hits(*n));
            *all.entry(when / 60).or_default() += n;
        }
        let now = clock.last().map_or(0, |(when, _)| *when);
        let newest = now / 60;
        let expected: Vec<_> = all
            .into_iter()
            .filter(|(number, _)| number + 1440 > newest)
            .map(|(number, n)| (newest - number, n))
            .collect();
        prop_assert_eq!(seen(&ring, now), expected);
    }

    /// Whatever the clock does: what was just counted is there, and there is no panic.
    #[test]
    fn any_clock(counted in proptest::collection::vec((any::<u32>(), 1_u64..9), 1..60)) {
        for span in Span::ALL {
            let mut ring = Ring::new(span);
            for (when, n) in &counted {
                let when = at(u64::from(*when));
                let before = ring.sum(1, when);
                ring.add(when, &hits(*n));
                prop_assert_eq!(ring.sum(1, when).get(Figure::Hit), before.get(Figure::Hit) + n);
                prop_assert!(ring.last(usize::MAX, when).count() <= span.length());
            }
        }
    }

    /// A clock that goes back within the span loses nothing of it.
    #[test]
    fn back_and_forth_within_a_span(counted in proptest::collection::vec((0..DAY - 60, 1_u64..9), 0..60)) {
        let mut ring = Ring::new(Span::Day);
        let start = 1_800_000_000 / DAY * DAY;
        counted.iter().for_each(|(when, n)| {
            ring.add(at(start + when), &hits(*n));
        });
        let sum: u64 = counted.iter().map(|(_, n)| n).sum();
        prop_assert_eq!(ring.sum(usize::MAX, at(start + DAY - 60)).get(Figure::Hit), sum);
    }
}
