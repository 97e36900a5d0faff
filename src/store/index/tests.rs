use super::*;
use crate::oci::digest::Algorithm;

fn digest(n: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &n.to_be_bytes())
}

fn at(seconds: u64) -> SystemTime {
    crate::records::time(1_000_000 + seconds)
}

fn index(blobs: u64) -> Index {
    let index = Index::new(Journal::off());
    for n in 0..blobs {
        drop(index.insert(&digest(n), 10, None, at(n)));
    }
    index
}

/// Takes out what is oldest until so many bytes are gone.
fn evict(index: &Index, bytes: u64) -> Vec<Digest> {
    let (mut gone, mut victims) = (0, Vec::new());
    while let Some(oldest) = index.oldest(at(10)).filter(|_| gone < bytes) {
        gone += index.take(&oldest, at(10)).unwrap().size;
        victims.push(oldest);
    }
    victims
}

#[test]
fn the_least_recently_used_goes_first() {
    let index = index(4);
    drop(index.hold(&digest(0), at(10)));
    assert_eq!(evict(&index, 15), [digest(1), digest(2)]);
    assert_eq!(index.size(), (20, 2));
    assert!(index.has(&digest(0)) && index.has(&digest(3)));
}

/// Invariant 6, and pitfall 37: never something that is being read.
#[test]
fn what_is_being_read_is_not_evicted() {
    let index = index(2);
    let held = index.hold(&digest(0), at(10)).unwrap();
    let again = index.hold(&digest(0), at(10)).unwrap();
    assert_eq!(evict(&index, 1000), [digest(1)]);
    drop(held);
    assert!(evict(&index, 1000).is_empty());
    drop(again);
    assert_eq!(evict(&index, 1000), [digest(0)]);
    assert_eq!(index.size(), (0, 0));
}

/// Who asks for more holds up everybody else for so many numbers, not until some blob has one of
/// them.
#[test]
fn few_numbers_are_gone_through_at_once_where_most_blobs_are_gone() {
    let index = Index::new(Journal::off());
    let mut known = Blobs::default();
    for n in 0..5000 {
        known.add(Entry::new(digest(n), 10, 1));
    }
    index.restore((0..5000).map(digest).collect(), known, |_| unreachable!("it is known"));
    evict(&index, 49_990);
    let some: Vec<usize> = std::iter::from_fn(|| Some(index.unverified_sizes()?.len())).collect();
    assert_eq!((some.len(), some.iter().sum::<usize>()), (5000_usize.div_ceil(AT_ONCE as usize), 1));
}

/// Invariant 2: an eviction between "in the index" and "held" would leave a file without an entry.
/// There is no moment between.
#[test]
fn what_is_inserted_is_held_at_once() {
    let index = Index::new(Journal::off());
    let held = index.insert(&digest(0), 10, None, at(0));
    assert_eq!((index.oldest(at(0)), index.take(&digest(0), at(0))), (None, None), "nothing can be evicted");
    // It comes again while it is read: its reader still counts.
    drop(index.insert(&digest(0), 10, None, at(1)));
    assert_eq!(index.take(&digest(0), at(1)), None);
    drop(held);
    assert_eq!(index.take(&digest(0), at(1)), Some(Taken { size: 10, is_read: false }));
}

/// Who takes nothing keeps nothing; who takes something now and then does; and who reads what came again
/// is not taken for one of before.
#[test]
fn a_reader_that_takes_nothing_keeps_nothing() {
    let index = index(2);
    let (idle, busy) = (index.hold(&digest(0), at(10)).unwrap(), index.hold(&digest(1), at(10)).unwrap());
    busy.taken_from(at(35));
    assert_eq!(index.oldest(at(39)), None);
    assert_eq!(index.oldest(at(40)), Some(digest(0)));
    assert_eq!(index.take(&digest(0), at(40)), Some(Taken { size: 10, is_read: true }));
    assert_eq!(index.take(&digest(1), at(40)), None);
    let again = index.insert(&digest(0), 10, None, at(41));
    drop(idle);
    assert_eq!(index.take(&digest(0), at(41)), None, "it is read");
    drop(again);
    assert_eq!(index.take(&digest(0), at(41)), Some(Taken { size: 10, is_read: false }));
}
