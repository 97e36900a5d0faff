use std::path::Path;

use super::*;
use crate::oci::digest::Algorithm;
use crate::oci::manifest::ContentKind;
use crate::policy::access::Presence;
use crate::policy::stamp::Stamp;
use crate::records::Journal;
use crate::store::blobs::Blobs;
use crate::store::verification::Step;

fn digest(n: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &n.to_be_bytes())
}

/// One whose index took so many blobs of ten bytes for there, of which there are files of `length`
/// bytes.
fn sweep(data: &Path, count: u64, length: u64) -> Sweep {
    let store = Arc::new(Store::open(data).unwrap());
    let mut known = Blobs::default();
    for n in 0..count {
        put(&store, n, length);
        known.put(digest(n), 10, 0, None);
    }
    let index = Index::new(Journal::off());
    index.restore((0..count).map(digest).collect(), known, |_| unreachable!());
    let presences = Presences::new(index.clone(), Journal::off());
    let ((flights, reserved, metrics, opened), clock) = (Default::default(), Clock::system());
    Sweep {
        store,
        index,
        presences,
        flights,
        opened,
        reserved,
        bounded: Default::default(),
        metrics,
        clock,
        max_size: u64::MAX,
        min_free: 0,
    }
}

fn path(store: &Store, n: u64) -> std::path::PathBuf {
    store.index_dir().with_file_name("blobs/sha256").join(digest(n).hex())
}

fn put(store: &Store, n: u64, length: u64) {
    let path = path(store, n);
    fs::truncate(&fs::open_for_append(&path).unwrap(), &path, length).unwrap();
}

#[test]
fn what_others_cut_is_removed_in_steps_and_after_room_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = Sweep { max_size: 1500 * footprint(10), ..sweep(dir.path(), 2000, 7) };
    sweep.tidy(|| true);
    assert_eq!(sweep.index.size(), (15_000, 1500), "who stops waits for no look at files");
    let asked = std::cell::Cell::new(0);
    sweep.tidy(|| asked.replace(asked.get() + 1) == 1);
    let (_, left) = sweep.index.size();
    assert!((900..1500).contains(&left), "{left}: one step");
    (0..100).for_each(|_| sweep.tidy(|| false));
    assert_eq!(sweep.index.size(), (0, 0));
}

/// Between the look and the deed it was evicted, or is fetched again, or was.
#[test]
fn what_changed_since_it_was_looked_at_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep(dir.path(), 3, 7);
    let [evicted, again, on_its_way] = [0, 1, 2];
    sweep.index.take(&digest(evicted), sweep.clock.now()).unwrap();
    drop(sweep.index.insert(&digest(again), 7, None, std::time::SystemTime::UNIX_EPOCH));
    let Joined::Lead(_lead) = sweep.flights.join(&digest(on_its_way), || None) else { panic!("somebody fetches it") };
    for n in [evicted, again, on_its_way] {
        sweep.remove_cut(&digest(n), 10);
        assert_eq!(fs::exists(&path(&sweep.store, n)), n != evicted, "{n}: a file without an entry has no owner");
    }
    assert!(sweep.index.has(&digest(again)) && sweep.index.has(&digest(on_its_way)));
    assert_eq!(sweep.flights.count(), 1);
    drop(_lead);
    sweep.remove_cut(&digest(on_its_way), 10);
    assert!(!sweep.index.has(&digest(on_its_way)) && !fs::exists(&path(&sweep.store, on_its_way)));
}

/// Another repository that brings the blob later must not be taken for those that had it.
#[test]
fn what_is_removed_is_in_no_repository_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = Sweep { max_size: 3 * footprint(10), ..sweep(dir.path(), 4, 7) };
    let key: crate::oci::name::RepositoryKey = "docker.io/acme/app".into();
    let named = Presence::named(None, Stamp::from_micros(2));
    let name =
        |n| sweep.presences.change(&key, (&digest(n), ContentKind::Blob), Stamp::from_micros(1), |_| Some(named));
    (0..4).for_each(name);
    let has = |n: u64| sweep.presences.is_named(&key, &digest(n), ContentKind::Blob);
    sweep.remove(&digest(3));
    // A fill of the same blob is at it: the entry goes, the file is the fill's.
    let Joined::Lead(_lead) = sweep.flights.join(&digest(2), || None) else { panic!("it is on its way") };
    sweep.remove(&digest(2));
    assert_eq!([0, 1, 2, 3].map(has), [true, true, false, false]);
    sweep.evict(1);
    assert_eq!([0, 1].map(has), [false, true]);
    sweep.remove_cut(&digest(1), 10);
    assert!(!has(1));
}

/// What lands while room is made for another is counted once: neither goes through a full cache.
#[test]
fn what_lands_meanwhile_is_not_counted_twice() {
    const SIZE: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let sweep = Sweep { max_size: 8 * footprint(SIZE), ..sweep(dir.path(), 0, 0) };
    let fill = |first: u64| {
        for n in first..first + 2000 {
            let wish = Wish { size: SIZE, missing: SIZE };
            let room = sweep.begin_now(wish, SIZE, Tenant::own()).unwrap();
            let room = room.unwrap_or_else(|| panic!("{n} is not kept"));
            put(&sweep.store, n, 0);
            drop(room.kept(|| sweep.index.insert(&digest(n), SIZE, None, sweep.clock.now())));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| fill(0));
        scope.spawn(|| fill(10_000));
    });
    assert!(sweep.index.taken() <= sweep.max_size && sweep.reserved.lock().bytes == 0);
}

/// What was found wrong is gone by then, and another file is in its place, or on its way there.
#[test]
fn what_came_again_is_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let sweep = sweep(dir.path(), 2, 10);
    let rot = |n| match sweep.store.verification(&digest(n)).unwrap().step().unwrap() {
        Step::Rotten(rot) => rot,
        other => panic!("ten zeros are right: {other:?}"),
    };
    let (first, second) = (rot(0), rot(1));
    sweep.store.remove(&digest(0)).unwrap();
    put(&sweep.store, 0, 10);
    assert!(!sweep.set_aside(&digest(0), &first));
    let lead = sweep.flights.join(&digest(1), || None);
    assert!(!sweep.set_aside(&digest(1), &second), "it is on its way");
    assert_eq!((sweep.index.size().1, sweep.store.names().unwrap().len()), (2, 2));
    drop(lead);
    assert!(sweep.set_aside(&digest(1), &second));
    assert_eq!((sweep.index.size().1, sweep.store.names().unwrap()), (1, vec![digest(0)]));
    assert!(dir.path().join("rotten").join(format!("sha256-{}", digest(1).hex())).exists());
}
