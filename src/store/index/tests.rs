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
        index.insert(&digest(n), 10, None, "docker.io/library/alpine", at(n));
    }
    index
}

/// Takes out what is oldest until so many bytes are gone.
fn evict(index: &Index, bytes: u64) -> Vec<Digest> {
    let (mut gone, mut victims) = (0, Vec::new());
    while let Some(oldest) = index.oldest().filter(|_| gone < bytes) {
        gone += index.take(&oldest).unwrap();
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

#[test]
fn repositories_are_remembered_for_blobs_that_are_here() {
    let index = index(1);
    assert!(index.is_seen_in(&digest(0), "docker.io/library/alpine"));
    assert!(!index.is_seen_in(&digest(0), "ghcr.io/library/alpine"));
    index.seen_in(&digest(0), "ghcr.io/library/alpine");
    index.seen_in(&digest(9), "ghcr.io/library/alpine");
    assert!(index.is_seen_in(&digest(0), "ghcr.io/library/alpine"));
    assert!(!index.is_seen_in(&digest(9), "ghcr.io/library/alpine"));
    index.not_in(&digest(0), "ghcr.io/library/alpine");
    assert!(!index.is_seen_in(&digest(0), "ghcr.io/library/alpine"));
}

#[test]
fn a_warm_start_knows_what_the_last_one_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let (journal, _) = Journal::open(&path, at(0));
    let index = Index::new(journal.clone());
    index.insert(&digest(0), 10, Some("application/x".into()), "docker.io/a/b", at(5));
    index.insert(&digest(1), 10, None, "docker.io/a/b", at(1));
    index.insert(&digest(2), 10, None, "docker.io/a/b", at(2));
    journal.write(crate::records::Table::Public, "docker.io/a/b".into(), &7_u64);
    journal.close();
    let (journal, records) = Journal::open(&path, at(9));
    assert_eq!(records.public, [("docker.io/a/b".to_owned(), 7)]);
    let index = Index::new(journal);
    // 1 has gone meanwhile, 3 came by other ways.
    let files = vec![digest(0), digest(2), digest(3)];
    let looked_at = std::cell::RefCell::new(Vec::new());
    let look = |digest: &Digest| {
        looked_at.borrow_mut().push(digest.clone());
        Ok((7, at(1)))
    };
    index.restore(files, records.blobs, look);
    assert_eq!(*looked_at.borrow(), [digest(3)], "a start looks at no file that is known");
    assert_eq!((index.size(), index.has(&digest(1))), ((27, 3), false));
    assert_eq!((index.presumed(&digest(0)), index.presumed(&digest(9))), (Some(10), None));
    let mut unverified_sizes = index.unverified_sizes().unwrap();
    assert_eq!((index.unverified_sizes(), index.presumed(&digest(0))), (None, None));
    unverified_sizes.sort();
    let mut known = vec![(digest(0), 10), (digest(2), 10), (digest(3), 7)];
    known.sort();
    assert_eq!(unverified_sizes, known, "but later");
    assert!(index.is_seen_in(&digest(0), "docker.io/a/b"));
    assert_eq!(index.hold(&digest(0), at(6)).unwrap().media_type.as_deref(), Some("application/x"));
    assert_eq!(evict(&index, 1), [digest(3)], "by the file's date where the journal knows nothing");
}

/// Invariant 2: the index can be lost.
#[test]
fn a_corrupt_journal_is_set_aside_and_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let (journal, _) = Journal::open(&path, at(0));
    for n in 0..100 {
        journal.write(crate::records::Table::Public, format!("docker.io/a/{n}"), &n);
    }
    journal.close();
    drop(journal);
    for found in crate::fs::list(&path).unwrap() {
        if found.is_file {
            crate::fs::remove(&found.path).unwrap();
            crate::fs::create_new(&found.path, 0o600, &[0xa5; 5000]).unwrap();
        }
    }
    let (journal, records) = Journal::open(&path, at(1));
    assert!(records.public.is_empty());
    let beside: Vec<_> = crate::fs::list(dir.path()).unwrap().into_iter().map(|found| found.name).collect();
    assert!(beside.iter().any(|name| name.starts_with("index.corrupt-")), "{beside:?}");
    journal.write(crate::records::Table::Public, "docker.io/a/b".into(), &1_u64);
    journal.close();
    drop(journal);
    assert_eq!(Journal::open(&path, at(2)).1.public.len(), 1);
}

#[test]
fn a_blob_that_comes_again_is_still_where_it_was_seen() {
    let index = index(1);
    index.insert(&digest(0), 10, None, "docker.io/acme/app", at(2));
    let is_seen_in = |place| index.is_seen_in(&digest(0), place);
    assert!(is_seen_in("docker.io/library/alpine") && is_seen_in("docker.io/acme/app"));
    assert!(!is_seen_in("docker.io/acme/other"));
}

/// As versions before 0.2 wrote it: blobs in a table of sled.
#[test]
fn what_earlier_versions_wrote_is_read_and_moved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let old = r#"{"size":10,"used":1000005,"media_type":"application/x","places":["docker.io/a/b"]}"#;
    {
        let db = sled::open(&path).unwrap();
        db.insert("schema", b"1").unwrap();
        db.open_tree("blobs").unwrap().insert(digest(0).to_string(), old).unwrap();
        db.open_tree("public").unwrap().insert("docker.io/a/b", "7").unwrap();
    }
    for _ in 0..2 {
        let (journal, records) = Journal::open(&path, at(9));
        assert_eq!(records.public, [("docker.io/a/b".to_owned(), 7)]);
        let index = Index::new(journal.clone());
        index.restore(vec![digest(0)], records.blobs, |_| unreachable!("it is known"));
        assert!(index.is_seen_in(&digest(0), "docker.io/a/b"));
        assert_eq!(index.last_used(&digest(0)), Some(at(5)));
        assert_eq!(index.hold(&digest(0), at(6)).unwrap().media_type.as_deref(), Some("application/x"));
        journal.close();
    }
    let db = sled::open(&path).unwrap();
    assert!(!db.tree_names().contains(&"blobs".into()), "one place for it");
}

/// A journal that was lost is written again, or every start would look at every file.
#[test]
fn files_that_nobody_knew_are_known_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let files: Vec<Digest> = (0..2500).map(digest).collect();
    for expected in [2500, 0] {
        let (journal, records) = Journal::open(&path, at(0));
        let looks = std::cell::Cell::new(0);
        let index = Index::new(journal.clone());
        index.restore(files.clone(), records.blobs, |_| {
            looks.set(looks.get() + 1);
            Ok((1, at(1)))
        });
        assert_eq!((looks.get(), index.size()), (expected, (2500, 2500)));
        journal.close();
    }
}

/// Who asks for more holds up everybody else for so many numbers, not until some blob has one of them.
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

#[test]
fn a_file_that_cannot_be_looked_at_is_counted_and_one_new_file_is_one_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let entries = dir.path().join("entries");
    let mut lengths = Vec::new();
    for n in [1000, 1001, 1002] {
        let (journal, records) = Journal::open(&path, at(0));
        let index = Index::new(journal.clone());
        let files: Vec<Digest> = (0..n).map(digest).collect();
        index.restore(files, records.blobs, |digest| match digest == &self::digest(1001) {
            true => crate::fs::size_and_modified(&entries.join("below")),
            false => Ok((1, at(1))),
        });
        assert_eq!(index.size(), (n.min(1001), n));
        journal.close();
        lengths.push(crate::fs::size(&entries).unwrap());
    }
    assert!(lengths.is_sorted() && lengths[2] - lengths[0] < 200, "{lengths:?}");
}
