use std::sync::Arc;

use super::*;
use crate::oci::digest::{Algorithm, Digest};
use crate::records::{Journal, seconds, time};
use crate::store::index::Index;

const PLACE: &str = "docker.io/a/b";

fn digest(n: u8) -> Digest {
    Digest::of(Algorithm::Sha256, &[n])
}

/// One that is open, and all that it says.
fn open(data: &Path, at: u64) -> (Database, Records) {
    let mut book = Database::closed(&data.join("index"), at);
    let records = book.open();
    (book, records)
}

/// Takes these words, of blobs and in a table.
fn write(book: &mut Database, blobs: &Mutex<Blobs>, n: u8, public: &str) -> Result<(), DatabaseError> {
    let mut entry = Entry::new(digest(n), 10, 1);
    entry.places.add(blobs.lock().places.of(PLACE));
    blobs.lock().add(entry);
    let mut batch = Changes::default();
    batch.blobs.insert(digest(n));
    batch.orders.insert((Table::Public, public.into()), Some(b"7".to_vec()));
    book.write(&mut batch, Some(blobs))
}

/// A data directory in which one blob and one public repository are written down.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut book, _) = open(dir.path(), 0);
    write(&mut book, &Mutex::default(), 0, PLACE).unwrap();
    dir
}

fn garble(path: &Path) {
    crate::fs::remove(path).unwrap();
    crate::fs::create_new(path, 0o600, &[0xa5; 5000]).unwrap();
}

fn garble_tables(data: &Path) {
    let files = crate::fs::list(&data.join("index")).unwrap().into_iter().filter(|found| found.is_file);
    files.for_each(|found| garble(&found.path));
}

/// What the next start knows: whether the blob of `written` is in its repository, and how many repositories are public.
fn known(records: &Records) -> (bool, usize) {
    let places = |entry: &Entry| entry.places.as_slice().iter().any(|place| records.blobs.places.name(*place) == PLACE);
    (records.blobs.entries.entry(&digest(0)).is_some_and(places), records.public.len())
}

fn names(data: &Path) -> Vec<String> {
    crate::fs::list(data).unwrap().into_iter().map(|found| found.name).collect()
}

#[test]
fn what_is_wrong_with_the_tables_costs_nothing_of_the_blobs_and_the_reverse() {
    let dir = written();
    garble_tables(dir.path());
    let (book, records) = open(dir.path(), 5);
    assert_eq!(known(&records), (true, 0));
    assert!(names(dir.path()).contains(&"index.corrupt-5".to_owned()));
    drop(book);

    let dir = written();
    garble(&dir.path().join("entries"));
    let (mut book, records) = open(dir.path(), 5);
    assert_eq!(known(&records), (false, 1));
    assert!(records.blobs.rewrite && names(dir.path()).contains(&"entries.corrupt-5".to_owned()));
    write(&mut book, &Mutex::default(), 0, "docker.io/c/d").unwrap();
    drop(book);
    assert_eq!(known(&open(dir.path(), 6).1), (true, 2), "what was said of permissions stands");
}

/// The disk is full when it starts, or somebody else has them.
#[test]
fn tables_that_are_away_cost_nothing_of_the_blobs() {
    let dir = written();
    let other = sled::open(dir.path().join("index")).unwrap();
    let (mut book, records) = open(dir.path(), 5);
    assert_eq!(known(&records), (true, 0));
    let blobs = Mutex::new(records.blobs);
    assert!(write(&mut book, &blobs, 1, "docker.io/c/d").is_err(), "the tables are away still");
    drop(other);
    write(&mut book, &blobs, 2, "docker.io/c/d").unwrap();
    drop(book);
    let (_, records) = open(dir.path(), 6);
    assert_eq!((known(&records).0, records.blobs.len()), (true, 3));
}

/// What an earlier version wrote meanwhile is seen when they come back.
#[test]
fn tables_that_come_back_with_older_blobs_cost_their_places() {
    let dir = written();
    let other = sled::open(dir.path().join("index")).unwrap();
    other.open_tree(OLD_BLOBS).unwrap().insert(b"any", b"thing").unwrap();
    let (mut book, records) = open(dir.path(), 5);
    let blobs = Mutex::new(records.blobs);
    drop(other);
    write(&mut book, &blobs, 1, "docker.io/c/d").unwrap();
    drop(book);
    let (_, records) = open(dir.path(), 6);
    assert_eq!((known(&records).0, records.blobs.len()), (false, 2));
}

/// It cannot be opened, and nothing can be put in its place either.
#[test]
fn a_log_that_cannot_be_opened_keeps_no_table_from_being_written() {
    let dir = written();
    crate::fs::remove(&dir.path().join("entries")).unwrap();
    crate::fs::create_dir(&dir.path().join("entries/below")).unwrap();
    let (mut book, records) = open(dir.path(), 5);
    assert_eq!(known(&records), (false, 1));
    assert!(write(&mut book, &Mutex::default(), 0, "docker.io/c/d").is_err());
    drop(book);
    assert_eq!(known(&open(dir.path(), 6).1), (false, 2));
}

/// sled is closed after an error; what it finds when it is opened again may be garbage.
#[test]
fn what_changes_after_the_tables_were_set_aside_is_there_after_a_restart() {
    let dir = written();
    let (mut book, records) = open(dir.path(), 5);
    let blobs = Mutex::new(records.blobs);
    drop(book.db.take());
    garble_tables(dir.path());
    write(&mut book, &blobs, 1, "docker.io/c/d").unwrap();
    assert!(names(dir.path()).contains(&"index.corrupt-5".to_owned()));
    drop(book.db.take());
    garble_tables(dir.path());
    write(&mut book, &blobs, 2, "docker.io/c/d").unwrap();
    drop(book);
    let (_, records) = open(dir.path(), 6);
    assert_eq!((known(&records), records.blobs.len()), ((true, 1), 3));
}

/// A log that was lost under a running book is written whole with the next word, whatever that is about.
#[test]
fn what_is_not_on_disk_is_written_with_the_next_word() {
    let dir = written();
    let (mut book, records) = open(dir.path(), 5);
    let blobs = Mutex::new(records.blobs);
    book.log = None;
    crate::fs::remove(&dir.path().join("entries")).unwrap();
    book.write(&mut Changes::default(), Some(&blobs)).unwrap();
    drop(book);
    assert_eq!(known(&open(dir.path(), 6).1), (true, 1));
}

/// Version 0.1 ran after this one and wrote a table of its own: who can tell what it saw upstream take away?
#[test]
fn where_there_are_two_words_on_blobs_no_place_is_taken_from_either() {
    let dir = written();
    {
        let db = sled::open(dir.path().join("index")).unwrap();
        let old = r#"{"size":12,"used":5,"places":["docker.io/a/b"]}"#;
        db.open_tree(OLD_BLOBS).unwrap().insert(digest(0).to_string(), old).unwrap();
    }
    for _ in 0..2 {
        let (journal, records) = Journal::open(&dir.path().join("index"), time(9));
        assert_eq!((known(&records), records.blobs.bytes), ((false, 1), 10));
        let index = Index::new(journal.clone());
        index.restore(vec![digest(0)], records.blobs, |_| unreachable!());
        journal.close();
    }
    let (book, _) = open(dir.path(), 9);
    assert!(!book.old && book.log.is_some(), "one place for it");
    assert_eq!(index_of(book).last_used(&digest(0)).map(seconds), Some(1));
}

fn index_of(book: Database) -> Index {
    let dir = book.dir.clone();
    drop(book);
    let (_, records) = Journal::open(&dir, time(9));
    let index = Index::new(Journal::off());
    *index.inner.lock() = records.blobs;
    index
}

/// The disk has room for a word, and none for all of them once more.
#[test]
fn a_log_that_cannot_be_written_anew_goes_on_growing() {
    let dir = written();
    let (mut book, records) = open(dir.path(), 5);
    let blobs = Arc::new(Mutex::new(records.blobs));
    crate::fs::create_dir(&dir.path().join("entries.new")).unwrap();
    book.log.as_mut().unwrap().lengthen();
    write(&mut book, &blobs, 1, PLACE).unwrap();
    assert!(!book.log.as_ref().unwrap().is_long(), "and it is not tried again with the next word");
    drop(book);
    assert_eq!(open(dir.path(), 6).1.blobs.len(), 2);
}
