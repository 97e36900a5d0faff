//! A data directory with so many blobs, as seawall leaves it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use seawall::oci::digest::{Algorithm, Digest};
use seawall::records::Journal;
use seawall::store::Store;
use seawall::store::index::Index;

/// Bytes of each: a small layer.
const SIZE: u64 = 32 << 10;
/// Blobs of one repository.
const TOGETHER: u64 = 50;
const TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(crate) fn digest(n: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &n.to_be_bytes())
}

/// Puts blobs into the index, the first of them used longest ago.
pub(crate) fn insert(index: &Index, count: u64, now: SystemTime) {
    for n in 0..count {
        let (used, place) = (now - Duration::from_secs(count - n), format!("docker.io/acme/app{}", n / TOGETHER));
        index.insert(&digest(n), SIZE, Some(TYPE.into()), &place, used);
    }
}

/// The one for so many blobs. It is made at the first time.
pub(crate) fn directory(count: u64) -> PathBuf {
    let data = crate::place().join(format!("data-{count}"));
    let done = data.join("filled");
    if !done.exists() {
        println!("making {count} files in {} …", data.display());
        make(&data, count);
        std::fs::write(done, "").expect("written");
    }
    data
}

fn make(data: &Path, count: u64) {
    let store = Store::open(data).expect("a data directory");
    for n in 0..count {
        let file = std::fs::File::create(data.join("blobs/sha256").join(digest(n).hex())).expect("a file");
        file.set_len(SIZE).expect("a sparse file");
    }
    let (journal, _) = Journal::open(&store.index_dir(), SystemTime::now());
    insert(&Index::new(journal.clone()), count, SystemTime::now());
    journal.close();
    let (journal, records) = Journal::open(&store.index_dir(), SystemTime::now());
    assert_eq!(records.blobs.len() as u64, count, "the journal was closed too early");
    journal.close();
}
