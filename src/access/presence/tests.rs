use super::*;
use crate::clock::Clock;
use crate::oci::digest::Algorithm;
use crate::oci::manifest::ContentKind;
use crate::records::{Records, Table};

fn digest(n: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &n.to_be_bytes())
}

fn at(seconds: u64) -> SystemTime {
    crate::records::time(1_000_000 + seconds)
}

/// What a start has: records that are open, and what it read of them.
struct Start {
    journal: Journal,
    records: Records,
    restored: Restored,
}

fn start(path: &std::path::Path, now: SystemTime) -> Start {
    let mut restored = Restored::default();
    let (journal, records) = Journal::open(path, now, &mut |step| restored.read(step));
    Start { journal, records, restored }
}

fn empty(journal: &Journal) -> (Index, Presence) {
    let index = Index::new(journal.clone());
    (index.clone(), Presence::new(index, journal.clone()))
}

fn put(index: &Index, n: u64, media_type: Option<&str>, used: SystemTime) {
    drop(index.insert(&digest(n), 10, media_type, used));
}

#[test]
fn repositories_are_remembered_for_blobs_that_are_here() {
    let (index, presence) = empty(&Journal::off());
    put(&index, 0, None, at(0));
    let (hub, ghcr): (RepositoryKey, RepositoryKey) =
        ("docker.io/library/alpine".into(), "ghcr.io/library/alpine".into());
    presence.confirm(&hub, &digest(0), ContentKind::Blob);
    assert!(
        presence.is_confirmed(&hub, &digest(0), ContentKind::Blob)
            && !presence.is_confirmed(&ghcr, &digest(0), ContentKind::Blob)
    );
    presence.confirm(&ghcr, &digest(0), ContentKind::Blob);
    presence.confirm(&ghcr, &digest(9), ContentKind::Blob);
    assert!(presence.is_confirmed(&ghcr, &digest(0), ContentKind::Blob));
    assert!(!presence.is_confirmed(&ghcr, &digest(9), ContentKind::Blob), "it is not here");
    assert_eq!(presence.of(&ghcr, &digest(9), ContentKind::Blob), Present::Confirmed, "but known for a while");
    presence.remove(&ghcr, &digest(0), ContentKind::Blob);
    assert!(!presence.is_confirmed(&ghcr, &digest(0), ContentKind::Blob));
    // Evicted, and here again by another repository.
    assert_eq!(index.take(&digest(0)), Some(10));
    presence.forget(&digest(0));
    put(&index, 0, None, at(1));
    assert_eq!(presence.of(&hub, &digest(0), ContentKind::Blob), Present::Unknown);
}

/// A client has the last byte before the file is in its place, and may ask for the same in
/// another repository by then.
#[test]
fn what_was_said_of_a_digest_before_it_was_here_is_written_down_when_it_is() {
    let (index, presence) = empty(&Journal::off());
    let (first, then): (RepositoryKey, RepositoryKey) = ("r/first".into(), "r/then".into());
    presence.confirm(&then, &digest(0), ContentKind::Blob);
    put(&index, 0, None, at(0));
    presence.confirm(&first, &digest(0), ContentKind::Blob);
    assert!(!presence.is_confirmed(&then, &digest(0), ContentKind::Blob));
    assert_eq!(presence.of(&then, &digest(0), ContentKind::Blob), Present::Confirmed);
    assert!(presence.is_confirmed(&then, &digest(0), ContentKind::Blob));
}

/// A client has the last byte of a blob before it landed, and may have it removed by then.
#[test]
fn what_was_removed_while_it_came_stays_removed() {
    let (index, presence) = empty(&Journal::off());
    let key: RepositoryKey = "r/a".into();
    for is_removed in [false, true] {
        presence.confirm(&key, &digest(0), ContentKind::Blob);
        if is_removed {
            presence.remove(&key, &digest(0), ContentKind::Blob);
        }
        put(&index, 0, None, at(0));
        presence.landed(&key, &digest(0), ContentKind::Blob);
        assert_eq!(presence.is_confirmed(&key, &digest(0), ContentKind::Blob), !is_removed);
        index.forget(&digest(0));
        presence.forget(&digest(0));
    }
}

#[test]
fn a_blob_that_comes_again_is_still_where_it_was_seen() {
    let (index, presence) = empty(&Journal::off());
    for key in ["docker.io/library/alpine", "docker.io/acme/app"] {
        put(&index, 0, None, at(2));
        presence.confirm(&key.into(), &digest(0), ContentKind::Blob);
    }
    let has = |key: &str| presence.is_confirmed(&key.into(), &digest(0), ContentKind::Blob);
    assert!(has("docker.io/library/alpine") && has("docker.io/acme/app"));
    assert!(!has("docker.io/acme/other"));
}

#[test]
fn a_warm_start_knows_what_the_last_one_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let key: RepositoryKey = "docker.io/a/b".into();
    let Start { journal, .. } = start(&path, at(0));
    let (index, presence) = empty(&journal);
    for (n, media_type, used) in [(0, Some("application/x"), 5), (1, None, 1), (2, None, 2)] {
        put(&index, n, media_type, at(used));
        presence.confirm(&key, &digest(n), ContentKind::Blob);
    }
    journal.write(Table::Public, "docker.io/a/b".into(), &7_u64);
    journal.close();
    let Start { journal, records, restored } = start(&path, at(9));
    assert_eq!(records.public, [("docker.io/a/b".to_owned(), 7)]);
    let (index, presence) = empty(&journal);
    // 1 was removed meanwhile, 3 came by other ways.
    let files = vec![digest(0), digest(2), digest(3)];
    let looked_at = std::cell::RefCell::new(Vec::new());
    let look = |digest: &Digest| {
        looked_at.borrow_mut().push(digest.clone());
        Ok((7, at(1)))
    };
    presence.restore(files, restored, look);
    assert_eq!(*looked_at.borrow(), [digest(3)], "a start looks at no file that is known");
    assert_eq!((index.size(), index.has(&digest(1))), ((27, 3), false));
    assert_eq!((index.presumed(&digest(0)), index.presumed(&digest(9))), (Some(10), None));
    let mut unverified = index.unverified_sizes().unwrap();
    assert_eq!((index.unverified_sizes(), index.presumed(&digest(0))), (None, None));
    unverified.sort();
    let mut known = vec![(digest(0), 10), (digest(2), 10), (digest(3), 7)];
    known.sort();
    assert_eq!(unverified, known, "but later");
    assert!(
        presence.is_confirmed(&key, &digest(0), ContentKind::Blob)
            && !presence.is_confirmed(&key, &digest(1), ContentKind::Blob)
    );
    assert_eq!(index.hold(&digest(0), at(6)).unwrap().media_type.as_deref(), Some("application/x"));
    assert_eq!(index.oldest(), Some(digest(3)), "by the file's date where no record is");
}

/// Invariant 2: the records can be lost.
#[test]
fn corrupt_records_are_set_aside_and_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let Start { journal, .. } = start(&path, at(0));
    for n in 0..100 {
        journal.write(Table::Public, format!("docker.io/a/{n}"), &n);
    }
    journal.close();
    drop(journal);
    for found in crate::fs::list(&path).unwrap() {
        if found.is_file {
            crate::fs::remove(&found.path).unwrap();
            crate::fs::create_new(&found.path, 0o600, &[0xa5; 5000]).unwrap();
        }
    }
    let Start { journal, records, .. } = start(&path, at(1));
    assert!(records.public.is_empty());
    let beside: Vec<_> = crate::fs::list(dir.path()).unwrap().into_iter().map(|found| found.name).collect();
    assert!(beside.iter().any(|name| name.starts_with("index.corrupt-")), "{beside:?}");
    journal.write(Table::Public, "docker.io/a/b".into(), &1_u64);
    journal.close();
    drop(journal);
    assert_eq!(start(&path, at(2)).records.public.len(), 1);
}

/// Records that were lost are written again, or every start would look at every file.
#[test]
fn files_without_a_record_are_known_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let files: Vec<Digest> = (0..2500).map(digest).collect();
    for expected in [2500, 0] {
        let Start { journal, restored, .. } = start(&path, at(0));
        let looks = std::cell::Cell::new(0);
        let (index, presence) = empty(&journal);
        presence.restore(files.clone(), restored, |_| {
            looks.set(looks.get() + 1);
            Ok((1, at(1)))
        });
        assert_eq!((looks.get(), index.size()), (expected, (2500, 2500)));
        journal.close();
    }
}

#[test]
fn a_file_that_cannot_be_looked_at_is_counted_and_one_new_file_is_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let entries = dir.path().join("entries");
    let mut lengths = Vec::new();
    for n in [1000, 1001, 1002] {
        let Start { journal, restored, .. } = start(&path, at(0));
        let (index, presence) = empty(&journal);
        let files: Vec<Digest> = (0..n).map(digest).collect();
        presence.restore(files, restored, |digest| match digest == &self::digest(1001) {
            true => crate::fs::size_and_modified(&entries.join("below")),
            false => Ok((1, at(1))),
        });
        assert_eq!(index.size(), (n.min(1001), n));
        journal.close();
        lengths.push(crate::fs::size(&entries).unwrap());
    }
    assert!(lengths.is_sorted() && lengths[2] - lengths[0] < 200, "{lengths:?}");
}

/// A log that is wrong is written again whole, though nothing changes.
#[test]
fn rows_that_were_lost_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    crate::fs::replace(&dir.path().join("entries"), 0o600, b"not a log").unwrap();
    let Start { journal, restored, .. } = start(&path, at(0));
    let (_, presence) = empty(&journal);
    presence.restore(Vec::new(), restored, |_| unreachable!());
    journal.close();
    assert!(crate::fs::size(&dir.path().join("entries")).is_ok_and(|size| size == 8), "an empty log");
}

/// A few blobs that are in thousands of repositories do not make one batch of all of them.
#[test]
fn a_batch_ends_with_enough_repositories_as_with_enough_rows() {
    for (count, each, batches) in [(3000_u64, 1, 3), (20, 2000, 7)] {
        let (index, presence) = empty(&Journal::off());
        let digests: Vec<Digest> = (0..count).map(digest).collect();
        for (n, digest) in digests.iter().enumerate() {
            put(&index, n as u64, None, at(1));
            (0..each)
                .for_each(|n| presence.confirm(&format!("docker.io/a/{n}").as_str().into(), digest, ContentKind::Blob));
        }
        let source = rows(index.facts(), &presence.known);
        let of_all = std::iter::successors((source.from)(0), |(_, next)| (source.from)(*next)).count();
        let mut changed = digests.iter().peekable();
        let mut of_changed = 0;
        while changed.peek().is_some() {
            (source.of)(&mut changed);
            of_changed += 1;
        }
        assert_eq!((of_all, of_changed), (batches, batches), "{count} blobs");
    }
}

/// The writer asks for rows: what it asks must not keep it alive.
#[test]
fn who_drops_all_of_it_without_a_word_can_open_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let Start { journal, restored, .. } = start(&path, at(0));
    let (index, presence) = empty(&journal);
    presence.restore(Vec::new(), restored, |_| unreachable!());
    put(&index, 0, None, at(0));
    let facts = index.facts();
    drop((journal, index, presence));
    // The thread lets go of them when it ends.
    let until = std::time::Duration::from_secs(60);
    let (began, is_alone) = (Clock::system().now(), || facts.is_last());
    while !is_alone() && Clock::system().now().duration_since(began).unwrap() < until {
        std::thread::yield_now();
    }
    assert!(is_alone());
}

/// What a million of them cost, by counting: the rest is digest and number.
#[test]
fn a_presence_is_small() {
    let size = super::super::known::SIZE;
    assert!(size <= 56, "{size}");
}
