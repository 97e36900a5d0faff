use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

fn stream(at: u64) -> Stream {
    Stream { at, until: None, brought: 0, rate: None, is_added: false }
}

fn added(at: u64, brought: u64) -> Stream {
    Stream { brought, is_added: true, ..stream(at) }
}

fn here(ranges: &[Range<u64>]) -> Extents {
    Extents::from_ranges(ranges.to_vec()).unwrap()
}

fn whole<'a>(here: &'a Extents, streams: &'a [Stream], wanted: &'a [Range<u64>]) -> Scene<'a> {
    let (is_whole, is_unsaid) = (true, false);
    Scene { total: 100 * MIB, here, streams, wanted, is_whole, is_unsaid, paying: 1, most: 4, horizon: 1 << 30 }
}

fn open(part: Range<u64>) -> Option<Step> {
    Some(Step::Open { part })
}

#[test]
fn all_is_wanted() {
    let (nothing, total) = (Extents::default(), 100 * MIB);
    let first = |part| Some(Step::Open { part });
    assert_eq!(whole(&nothing, &[], &[]).next(), first(0..total));
    assert_eq!(whole(&nothing, &[stream(0)], &[]).next(), None);
    let start = here(&[0..10 * MIB, 20 * MIB..30 * MIB]);
    assert_eq!(whole(&start, &[], &[]).next(), first(10 * MIB..20 * MIB));
    // One that is somewhere else is not at the first gap.
    assert_eq!(whole(&start, &[stream(30 * MIB)], &[]).next(), first(10 * MIB..20 * MIB));
    // It has come to what is here.
    let met = here(&[0..30 * MIB]);
    assert_eq!(whole(&met, &[stream(20 * MIB)], &[]).next(), Some(Step::Cut(0)));
    let all = [0..total];
    assert_eq!(whole(&here(&all), &[], &[]).next(), None);
}

#[test]
fn who_waits_for_what_does_not_come_soon_gets_a_connection() {
    let start = here(&[0..10 * MIB]);
    let at = |rate| [Stream { rate, ..stream(10 * MIB) }];
    let far = [50 * MIB + 5..51 * MIB];
    let there = || open(50 * MIB..100 * MIB);
    for (rate, expected) in [(None, there()), (Some(MIB), there()), (Some(1000 * MIB), None)] {
        assert_eq!(whole(&start, &at(rate), &far).next(), expected, "{rate:?}");
    }
    let near = [10 * MIB + 100 * KIB..11 * MIB];
    assert_eq!(whole(&start, &at(None), &near).next(), None, "it is there before another connection is");
    let unknown = at(None);
    let alone = Scene { most: 1, ..whole(&start, &unknown, &far) };
    assert_eq!(alone.next(), None, "segments = 1");
    // What another brings there.
    let both = [stream(10 * MIB), added(50 * MIB, 0)];
    assert_eq!(whole(&start, &both, &far).next(), None);
}

#[test]
fn who_feeds_nobody_gives_way_and_the_one_at_the_first_gap_never() {
    let start = here(&[0..10 * MIB]);
    let streams = [stream(10 * MIB), added(20 * MIB, 0), added(40 * MIB, 0), added(60 * MIB, 0)];
    let wanted = [60 * MIB..61 * MIB, 20 * MIB..30 * MIB, 80 * MIB..81 * MIB];
    assert_eq!(whole(&start, &streams, &wanted).next(), Some(Step::Cut(2)));
    let all_feed = [60 * MIB..61 * MIB, 20 * MIB..30 * MIB, 40 * MIB..41 * MIB, 80 * MIB..81 * MIB];
    assert_eq!(whole(&start, &streams, &all_feed).next(), None, "it waits in turn");
    let long = [stream(10 * MIB), added(20 * MIB, 8 * MIB), added(40 * MIB, 0), added(60 * MIB, 0)];
    assert_eq!(whole(&start, &long, &all_feed).next(), Some(Step::Cut(1)), "it brought enough");
    // Where more are there than pay, one that is done with its reader goes.
    let done = [stream(10 * MIB), added(20 * MIB, MIB)];
    assert_eq!(whole(&start, &done, &[]).next(), Some(Step::Cut(1)));
    let pays = Scene { paying: 2, ..whole(&start, &done, &[]) };
    assert_eq!(pays.next(), None);
}

#[test]
fn more_where_more_pay() {
    let start = here(&[0..10 * MIB]);
    let one = [Stream { rate: Some(10 * MIB), ..stream(10 * MIB) }];
    let scene = Scene { paying: 2, ..whole(&start, &one, &[]) };
    assert_eq!(scene.next(), open(55 * MIB..100 * MIB), "the middle of what is left");
    let late = here(&[0..85 * MIB]);
    let one = [Stream { rate: Some(10 * MIB), ..stream(85 * MIB) }];
    assert_eq!(Scene { here: &late, streams: &one, ..scene }.next(), None, "there is nothing to gain");
    let slow = [Stream { rate: Some(MIB), ..stream(85 * MIB) }];
    assert_eq!(Scene { here: &late, streams: &slow, ..scene }.next(), open(92 * MIB + 512 * KIB..100 * MIB));
    let slow = [Stream { rate: Some(MIB), ..stream(93 * MIB) }];
    let late = here(&[0..93 * MIB]);
    assert_eq!(Scene { here: &late, streams: &slow, ..scene }.next(), None, "less than it is worth");
    let near = Scene { horizon: 50 * MIB, ..scene };
    let one = [Stream { rate: Some(10 * MIB), ..stream(10 * MIB) }];
    assert_eq!(Scene { streams: &one, ..near }.next(), open(30 * MIB..100 * MIB), "not far ahead of what is hashed");
}

#[test]
fn only_what_is_asked_for_in_steps_and_small_gaps_along() {
    let nothing = Extents::default();
    let wanted = [5 * MIB + 1..5 * MIB + 2, 9 * MIB..9 * MIB + 1, 5 * MIB + 100 * KIB..5 * MIB + 101 * KIB];
    let scene = Scene { is_whole: false, ..whole(&nothing, &[], &wanted) };
    let first = Some(Step::Open { part: 5 * MIB..5 * MIB + 104 * KIB });
    assert_eq!(scene.next(), first, "what is between is brought along");
    let brings = [Stream { until: Some(5 * MIB + 104 * KIB), ..stream(5 * MIB) }];
    assert_eq!(Scene { streams: &brings, ..scene }.next(), open(9 * MIB..9 * MIB + 4 * KIB));
    let end = 100 * MIB - 10..100 * MIB;
    let last = Scene { wanted: std::slice::from_ref(&end), ..scene };
    let first = Some(Step::Open { part: 100 * MIB - 4 * KIB..100 * MIB });
    assert_eq!(last.next(), first);
    assert_eq!(Scene { wanted: &[], ..scene }.next(), None);
    // Whoever wanted it has hung up.
    let much = [Stream { until: Some(50 * MIB), ..stream(20 * MIB) }];
    let left = Scene { wanted: &[], streams: &much, ..scene };
    assert_eq!(left.next(), Some(Step::Cut(0)));
    assert_eq!(Scene { is_unsaid: true, ..left }.next(), None, "somebody may want it");
    assert_eq!(Scene { most: 1, ..left }.next(), None, "segments = 1: all of it comes");
    assert_eq!(Scene { wanted: &[30 * MIB..31 * MIB], ..left }.next(), open(30 * MIB..31 * MIB));
    // Far behind what comes.
    let far = [0..50 * MIB, 40 * MIB..41 * MIB];
    let long = [Stream { until: Some(50 * MIB), ..stream(0) }];
    let behind = Scene { wanted: &far, streams: &long, ..scene };
    assert_eq!(behind.next(), open(40 * MIB..41 * MIB));
}

#[test]
fn where_all_is_to_come_small_islands_are_run_over() {
    let total = 100 * MIB;
    let islands: Extents = (0..700).map(|n| n * 140 * KIB + 8 * KIB..n * 140 * KIB + 12 * KIB).collect();
    let first = Some(Step::Open { part: 0..total });
    assert_eq!(whole(&islands, &[], &[]).next(), first, "one connection for all of them");
    for at in [8 * KIB, 10 * KIB, 12 * KIB, 50 * KIB] {
        let running = [Stream { until: Some(total), ..stream(at) }];
        let here: Extents = islands.ranges().iter().cloned().chain(std::iter::once(0..at)).collect();
        assert_eq!(whole(&here, &running, &[]).next(), None, "{at}");
    }
    let small = here(&[0..10]);
    let blob = Scene { total: 10, ..whole(&small, &[], &[]) };
    assert_eq!(blob.next(), None, "all of it is here");
}

#[test]
fn pieces_in_any_order_go_together() {
    let nothing = Extents::default();
    let reverse: Vec<Range<u64>> = (0..50).rev().map(|n| 5 * MIB + n * 5000..5 * MIB + n * 5000 + 2000).collect();
    let scene = Scene { is_whole: false, ..whole(&nothing, &[], &reverse) };
    let all = 5 * MIB..ceil(5 * MIB + 49 * 5000 + 2000);
    assert_eq!(scene.next(), Some(Step::Open { part: all }));
}

/// A blob, and what its connections bring in no order.
#[derive(Debug)]
struct World {
    total: u64,
    here: Extents,
    streams: Vec<Stream>,
    wanted: Vec<Range<u64>>,
    is_whole: bool,
    paying: usize,
    most: usize,
    sent: u64,
    opened: usize,
}

impl World {
    fn waiting(&self) -> Vec<Range<u64>> {
        let from = |want: &Range<u64>| self.here.end_from(want.start).min(want.end)..want.end;
        self.wanted.iter().map(from).filter(|want| !want.is_empty()).collect()
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..100 {
            let wanted = self.waiting();
            let World { total, is_whole, paying, most, .. } = *self;
            let scene = Scene {
                total,
                here: &self.here,
                streams: &self.streams,
                wanted: &wanted,
                is_whole,
                is_unsaid: false,
                paying,
                most,
                horizon: u64::MAX,
            };
            match scene.next() {
                None => return Ok(()),
                Some(Step::Cut(n)) => drop(self.streams.remove(n)),
                Some(Step::Open { part }) => {
                    prop_assert!(part.start < part.end && part.end <= total, "{part:?}");
                    prop_assert_eq!(self.here.end_from(part.start), part.start, "it is here");
                    self.opened += 1;
                    let has_first = self.streams.iter().any(|stream| !stream.is_added);
                    self.streams.push(Stream { until: Some(part.end), is_added: has_first, ..stream(part.start) });
                    prop_assert!(self.streams.len() <= most.max(1) + 1);
                }
            }
        }
        Err(TestCaseError::fail("it never comes to rest"))
    }

    fn bring(&mut self, n: usize, bytes: u64) {
        let Some(stream) = self.streams.get_mut(n) else { return };
        let end = (stream.at + bytes).min(stream.until.unwrap_or(self.total));
        self.here.add(stream.at..end);
        self.sent += end - stream.at;
        stream.brought += end - stream.at;
        stream.rate = Some(bytes);
        stream.at = end;
    }
}

proptest! {
    /// Whatever is wanted and however it comes: it comes, and next to nothing twice.
    #[test]
    fn what_is_wanted_comes(
        total in 1..40 * MIB,
        whole in any::<bool>(),
        (paying, most) in (1..4usize, 1..6usize),
        wanted in prop::collection::vec((any::<prop::sample::Index>(), 1..4 * MIB), 0..6),
        moves in prop::collection::vec((0..6usize, 1..3 * MIB, 0..20u8), 0..60),
    ) {
        let mut world = World {
            total, here: Extents::default(), streams: Vec::new(), is_whole: whole, paying, most, sent: 0, opened: 0,
            wanted: wanted.into_iter().map(|(at, len)| {
                let start = at.index(total as usize) as u64;
                start..(start + len).min(total)
            }).collect(),
        };
        world.settle()?;
        let mut broken = 0;
        for (n, bytes, luck) in moves {
            if luck == 0 && n < world.streams.len() {
                world.streams.remove(n);
                broken += 1;
            } else {
                world.bring(n, bytes);
            }
            world.settle()?;
        }
        for _ in 0..2000 {
            if world.streams.is_empty() { break }
            (0..world.streams.len()).for_each(|n| world.bring(n, MIB));
            world.settle()?;
        }
        prop_assert!(world.streams.is_empty() && world.waiting().is_empty(), "{world:?}");
        prop_assert!(!whole || world.here.holds(&(0..total)));
        // A connection that meets another has brought a piece that was here by then.
        prop_assert!(world.sent <= world.here.bytes() + (world.opened + broken) as u64 * 3 * MIB);
        if !whole {
            let asked: u64 = world.wanted.iter().map(|want| want.end - want.start + 2 * STEP + JOINED).sum();
            prop_assert!(world.here.bytes() <= asked, "{} of {asked}", world.here.bytes());
        }
    }
}
