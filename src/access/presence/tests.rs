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

fn empty(journal: &Journal) -> (Index, Presences) {
    let index = Index::new(journal.clone());
    (index.clone(), Presences::new(index, journal.clone()))
}

/// Upstream names a digest, in answer to a question of then.
fn name(presences: &Presences, key: &RepositoryKey, digest: &Digest, sent: u64) {
    let at = Stamp::from_micros;
    presences.change(key, (digest, ContentKind::Blob), at(sent), |before| Some(Presence::named(before, at(sent + 1))));
}

/// Whether it is kept with the blob.
fn is_kept(presences: &Presences, key: &RepositoryKey, digest: &Digest) -> bool {
    presences.known.lock().find(digest, ContentKind::Blob, key).is_some()
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
    name(&presence, &hub, &digest(0), 1);
    assert!(is_kept(&presence, &hub, &digest(0)) && !is_kept(&presence, &ghcr, &digest(0)));
    name(&presence, &ghcr, &digest(0), 1);
    name(&presence, &ghcr, &digest(9), 1);
    assert!(is_kept(&presence, &ghcr, &digest(0)));
    assert!(!is_kept(&presence, &ghcr, &digest(9)), "it is not here");
    assert!(presence.is_named(&ghcr, &digest(9), ContentKind::Blob), "but known for a while");
    presence.remove(&ghcr, &digest(0), ContentKind::Blob, Stamp::from_micros(9));
    assert!(!is_kept(&presence, &ghcr, &digest(0)));
    // Evicted, and here again by another repository.
    assert_eq!(index.take(&digest(0), at(0)).map(|taken| taken.size), Some(10));
    presence.forget(&digest(0));
    put(&index, 0, None, at(1));
    assert!(!presence.is_named(&hub, &digest(0), ContentKind::Blob));
}

/// A client has the last byte before the file is in its place, and may ask for the same in
/// another repository by then.
#[test]
fn what_was_said_of_a_digest_before_it_was_here_is_written_down_when_it_is() {
    let (index, presence) = empty(&Journal::off());
    let (first, then): (RepositoryKey, RepositoryKey) = ("r/first".into(), "r/then".into());
    name(&presence, &then, &digest(0), 1);
    put(&index, 0, None, at(0));
    name(&presence, &first, &digest(0), 1);
    assert!(!is_kept(&presence, &then, &digest(0)));
    assert!(presence.is_named(&then, &digest(0), ContentKind::Blob));
    assert!(is_kept(&presence, &then, &digest(0)));
}

/// A client has the last byte of a blob before it landed, and may have it removed by then.
#[test]
fn what_was_removed_while_it_came_stays_removed() {
    let (index, presence) = empty(&Journal::off());
    let key: RepositoryKey = "r/a".into();
    for is_removed in [false, true] {
        name(&presence, &key, &digest(0), if is_removed { 1 } else { 10 });
        if is_removed {
            presence.remove(&key, &digest(0), ContentKind::Blob, Stamp::from_micros(9));
        }
        put(&index, 0, None, at(0));
        presence.landed(&key, &digest(0), ContentKind::Blob);
        assert_eq!(is_kept(&presence, &key, &digest(0)), !is_removed);
        index.forget(&digest(0));
        presence.forget(&digest(0));
    }
}

#[test]
fn a_blob_that_comes_again_is_still_where_it_was_seen() {
    let (index, presence) = empty(&Journal::off());
    for key in ["docker.io/library/alpine", "docker.io/acme/app"] {
        put(&index, 0, None, at(2));
        name(&presence, &key.into(), &digest(0), 1);
    }
    let has = |key: &str| is_kept(&presence, &key.into(), &digest(0));
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
        name(&presence, &key, &digest(n), 1);
    }
    journal.write(Table::Challenges, "docker.io/a/b".into(), &7_u64);
    journal.close();
    let Start { journal, records, restored } = start(&path, at(9));
    assert_eq!(records.challenges, [("docker.io/a/b".to_owned(), b"7".to_vec())]);
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
    assert!(is_kept(&presence, &key, &digest(0)) && !is_kept(&presence, &key, &digest(1)));
    assert_eq!(index.hold(&digest(0), at(6)).unwrap().media_type.as_deref(), Some("application/x"));
    assert_eq!(index.oldest(at(0)), Some(digest(3)), "by the file's date where no record is");
}

/// Invariant 2: the records can be lost.
#[test]
fn corrupt_records_are_set_aside_and_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let Start { journal, .. } = start(&path, at(0));
    for n in 0..100 {
        journal.write(Table::Challenges, format!("docker.io/a/{n}"), &n);
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
    assert!(records.challenges.is_empty());
    let beside: Vec<_> = crate::fs::list(dir.path()).unwrap().into_iter().map(|found| found.name).collect();
    assert!(beside.iter().any(|name| name.starts_with("index.corrupt-")), "{beside:?}");
    journal.write(Table::Challenges, "docker.io/a/b".into(), &1_u64);
    journal.close();
    drop(journal);
    assert_eq!(start(&path, at(2)).records.challenges.len(), 1);
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
            (0..each).for_each(|n| name(&presence, &format!("docker.io/a/{n}").as_str().into(), digest, 1));
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

/// Who can name repositories without end makes no table grow, and opens nothing: of a repository beyond,
/// all that is known is that it may have been granted just now, which outlives no refusal.
#[test]
fn so_many_open_repositories_are_known_and_no_more() {
    let mut opened = HashMap::new();
    let key = |n: usize| RepositoryKey::from(format!("docker.io/a/{n}").as_str());
    for n in 0..MOST_OPENED {
        note(&mut opened, &key(n), Stamp::from_micros(7));
    }
    assert_eq!(latest(&opened, &key(0)), Some(Stamp::from_micros(7)));
    for n in 0..3 {
        note(&mut opened, &key(MOST_OPENED + n), Stamp::from_micros(8));
        note(&mut opened, &key(n), Stamp::from_micros(9));
    }
    assert_eq!(opened.len(), MOST_OPENED);
    assert_eq!(latest(&opened, &key(0)), Some(Stamp::from_micros(9)));
    assert_eq!(latest(&opened, &key(MOST_OPENED)), Some(Stamp::from_micros(u64::MAX)));
}

/// What a million of them cost, by counting: the rest is digest and number.
#[test]
fn a_presence_is_small() {
    let size = super::super::known::SIZE;
    assert!(size <= 96, "{size}");
}

/// An answer to a question from before a removal is about what was there before.
#[test]
fn an_answer_from_before_a_removal_says_nothing() {
    let (index, presence) = empty(&Journal::off());
    let key: RepositoryKey = "r/a".into();
    put(&index, 0, None, at(0));
    presence.remove(&key, &digest(0), ContentKind::Blob, Stamp::from_micros(10));
    name(&presence, &key, &digest(0), 10);
    assert!(!presence.is_named(&key, &digest(0), ContentKind::Blob));
    name(&presence, &key, &digest(0), 11);
    assert!(presence.is_named(&key, &digest(0), ContentKind::Blob));
}

/// All that upstream said is there after a restart, with the latest stamp of all.
#[test]
fn what_upstream_said_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let (key, stamp): (RepositoryKey, _) = ("r/a".into(), Stamp::from_micros);
    let said = Presence {
        since: stamp(1_000_000),
        last: stamp(90_000_000),
        open: Some(stamp(89_999_999)),
        shared: Some(stamp(95_000_000)),
        ended: None,
        is_delivered: true,
        is_read: false,
    };
    let Start { journal, .. } = start(&path, at(0));
    let (index, presence) = empty(&journal);
    put(&index, 0, None, at(0));
    presence.change(&key, (&digest(0), ContentKind::Manifest), stamp(1), |_| Some(said));
    journal.close();
    let Start { journal, restored, .. } = start(&path, at(1));
    let (_, presence) = empty(&journal);
    presence.restore(vec![digest(0)], restored, |_| unreachable!());
    assert_eq!(presence.find(&key, &digest(0), ContentKind::Manifest), Some(said));
    assert_eq!(presence.find(&key, &digest(0), ContentKind::Blob), None);
    assert_eq!((presence.latest(), presence.opened(&key)), (stamp(95_000_000), said.open));
}
