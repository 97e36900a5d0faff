use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::rows::{Batch, BlobRow, Held, Row};
use super::*;
use crate::oci::digest::{Algorithm, Digest};

const REPOSITORY: &str = "docker.io/a/b";

/// Blobs and their repositories, as somebody else knows them.
#[derive(Clone, Default)]
struct Blobs(Arc<Mutex<BTreeMap<Digest, Vec<String>>>>);

impl Blobs {
    fn read(&self, step: Reading<'_>) -> usize {
        let mut blobs = self.0.lock();
        match step {
            Reading::Expect(_) => {}
            Reading::Batch(batch) => {
                for Row { digest, known } in &batch.rows {
                    let name = |held: &Held| batch.strings[held.place as usize].to_owned();
                    let repositories = known.as_ref().map(|row| row.repositories.iter().map(name).collect());
                    blobs.insert(Digest::from_bytes(digest).unwrap(), repositories.unwrap_or_default());
                }
            }
            Reading::Void => blobs.clear(),
        }
        blobs.len()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn add(&self, n: u8) {
        self.0.lock().insert(digest(n), vec![REPOSITORY.to_owned()]);
    }

    fn source(&self) -> RowSource {
        let (some, all) = (self.clone(), self.clone());
        RowSource {
            of: Box::new(move |digests| some.encoded(digests.cloned().collect())),
            from: Box::new(move |first| {
                let left: Vec<Digest> = all.0.lock().keys().skip(first as usize).cloned().collect();
                let next = first + left.len() as u32;
                (!left.is_empty()).then(|| (all.encoded(left), next))
            }),
        }
    }

    fn encoded(&self, digests: Vec<Digest>) -> super::super::rows::EncodedBatch {
        let blobs = self.0.lock();
        let row = || BlobRow {
            size: 10,
            used: 1,
            media_type: None,
            repositories: vec![Held { place: 0, since: 1, last: 0, open: None, shared: None, ended: None }],
        };
        let rows =
            digests.iter().map(|digest| Row { digest: digest.as_bytes(), known: blobs.contains_key(digest).then(row) });
        Batch { strings: vec![REPOSITORY], rows: rows.collect() }.encoded()
    }
}

fn digest(n: u8) -> Digest {
    Digest::of(Algorithm::Sha256, &[n])
}

/// One that is open, and all that it says.
fn open(data: &Path, at: u64) -> (Database, Records, Blobs) {
    let (mut database, blobs) = (Database::closed(&data.join("index"), at), Blobs::default());
    let records = database.open(&mut |step| blobs.read(step));
    (database, records, blobs)
}

/// Takes these facts, about a blob and in a table.
fn write(database: &mut Database, blobs: &Blobs, n: u8, public: &str) -> Result<(), DatabaseError> {
    blobs.add(n);
    let mut changes = Changes::default();
    changes.blobs.insert(digest(n));
    changes.orders.insert((Table::Challenges, public.into()), Some(b"7".to_vec()));
    database.write(&mut changes, Some(&blobs.source()))
}

/// A data directory in which one blob and one public repository are written down.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut database, _, blobs) = open(dir.path(), 0);
    write(&mut database, &blobs, 0, REPOSITORY).unwrap();
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

/// What the next start knows: whether the blob of `written` is in its repository, and how many
/// repositories are public.
fn known(records: &Records, blobs: &Blobs) -> (bool, usize) {
    let is_known = blobs.0.lock().get(&digest(0)).is_some_and(|repositories| repositories == &[REPOSITORY]);
    (is_known, records.challenges.len())
}

fn known_at(data: &Path, at: u64) -> (bool, usize) {
    let (_, records, blobs) = open(data, at);
    known(&records, &blobs)
}

fn names(data: &Path) -> Vec<String> {
    crate::fs::list(data).unwrap().into_iter().map(|found| found.name).collect()
}

#[test]
fn what_is_wrong_with_the_tables_costs_nothing_of_the_blobs_and_the_reverse() {
    let dir = written();
    garble_tables(dir.path());
    assert_eq!(known_at(dir.path(), 5), (true, 0));
    assert!(names(dir.path()).contains(&"index.corrupt-5".to_owned()));

    let dir = written();
    garble(&dir.path().join("entries"));
    let (mut database, records, blobs) = open(dir.path(), 5);
    assert_eq!(known(&records, &blobs), (false, 1));
    assert!(names(dir.path()).contains(&"entries.corrupt-5".to_owned()));
    write(&mut database, &blobs, 0, "docker.io/c/d").unwrap();
    drop(database);
    assert_eq!(known_at(dir.path(), 6), (true, 2), "what was said of grants stands");
}

/// What was read before the place that is wrong may have been taken back behind it.
#[test]
fn rows_before_one_that_is_wrong_are_void() {
    let dir = written();
    let (mut database, _, blobs) = open(dir.path(), 0);
    write(&mut database, &blobs, 1, REPOSITORY).unwrap();
    write(&mut database, &blobs, 2, REPOSITORY).unwrap();
    drop(database);
    let path = dir.path().join("entries");
    let mut bytes = crate::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    crate::fs::replace(&path, 0o600, &bytes).unwrap();
    assert_eq!(open(dir.path(), 5).2.len(), 0);
}

/// The disk is full when it starts, or another process has them.
#[test]
fn tables_that_are_unavailable_cost_nothing_of_the_blobs() {
    let dir = written();
    let other = sled::open(dir.path().join("index")).unwrap();
    let (mut database, records, blobs) = open(dir.path(), 5);
    assert_eq!(known(&records, &blobs), (true, 0));
    assert!(write(&mut database, &blobs, 1, "docker.io/c/d").is_err(), "the tables are unavailable still");
    drop(other);
    write(&mut database, &blobs, 2, "docker.io/c/d").unwrap();
    drop(database);
    let (_, records, blobs) = open(dir.path(), 6);
    assert_eq!((known(&records, &blobs).0, blobs.len()), (true, 3));
}

/// It cannot be opened, and nothing can be put in its place either.
#[test]
fn a_log_that_cannot_be_opened_keeps_no_table_from_being_written() {
    let dir = written();
    crate::fs::remove(&dir.path().join("entries")).unwrap();
    crate::fs::create_dir(&dir.path().join("entries/below")).unwrap();
    let (mut database, records, blobs) = open(dir.path(), 5);
    assert_eq!(known(&records, &blobs), (false, 1));
    assert!(write(&mut database, &blobs, 0, "docker.io/c/d").is_err());
    drop(database);
    assert_eq!(known_at(dir.path(), 6), (false, 2));
}

/// sled is closed after an error; what it finds when it is opened again may be garbage.
#[test]
fn what_changes_after_the_tables_were_set_aside_is_there_after_a_restart() {
    let dir = written();
    let (mut database, _, blobs) = open(dir.path(), 5);
    drop(database.db.take());
    garble_tables(dir.path());
    write(&mut database, &blobs, 1, "docker.io/c/d").unwrap();
    assert!(names(dir.path()).contains(&"index.corrupt-5".to_owned()));
    drop(database.db.take());
    garble_tables(dir.path());
    write(&mut database, &blobs, 2, "docker.io/c/d").unwrap();
    drop(database);
    let (_, records, blobs) = open(dir.path(), 6);
    assert_eq!((known(&records, &blobs), blobs.len()), ((true, 1), 3));
}

/// A log that was lost under a running database is written whole with the next change, whatever
/// that is about.
#[test]
fn what_is_not_on_disk_is_written_with_the_next_change() {
    let dir = written();
    let (mut database, _, blobs) = open(dir.path(), 5);
    database.log = None;
    crate::fs::remove(&dir.path().join("entries")).unwrap();
    database.write(&mut Changes::default(), Some(&blobs.source())).unwrap();
    drop(database);
    assert_eq!(known_at(dir.path(), 6), (true, 1));
}

/// The disk has room for a row, and none for all of them once more.
#[test]
fn a_log_that_cannot_be_compacted_goes_on_growing() {
    let dir = written();
    let (mut database, _, blobs) = open(dir.path(), 5);
    crate::fs::create_dir(&dir.path().join("entries.new")).unwrap();
    database.log.as_mut().unwrap().lengthen();
    write(&mut database, &blobs, 1, REPOSITORY).unwrap();
    assert!(!database.log.as_ref().unwrap().is_long(), "and it is not tried again with the next change");
    drop(database);
    assert_eq!(open(dir.path(), 6).2.len(), 2);
}
