//! A data directory with so many blobs, as seawall leaves it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use seawall::access::Restored;
use seawall::access::presence::Presences;
use seawall::oci::digest::{Algorithm, Digest};
use seawall::oci::manifest::ContentKind;
use seawall::policy::access::Presence;
use seawall::policy::stamp::Stamp;
use seawall::records::{Journal, Reading};
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
pub(crate) fn insert(index: &Index, presences: &Presences, count: u64, now: SystemTime) {
    for n in 0..count {
        let (used, repository) = (now - Duration::from_secs(count - n), format!("docker.io/acme/app{}", n / TOGETHER));
        drop(index.insert(&digest(n), SIZE, Some(TYPE), used));
        presences.change(&repository.as_str().into(), (&digest(n), ContentKind::Blob), Stamp::at(now), |_| {
            let at = Stamp::at(now);
            Some(Presence {
                since: at,
                last: at,
                open: Some(at),
                shared: None,
                ended: None,
                is_delivered: true,
                is_read: true,
            })
        });
    }
}

/// An index, and which repositories have its blobs.
pub(crate) fn empty(journal: &Journal) -> (Index, Presences) {
    let index = Index::new(journal.clone());
    (index.clone(), Presences::new(index, journal.clone()))
}

/// The records that are at `path`, and what they say of blobs.
pub(crate) fn open(path: &Path, now: SystemTime) -> (Journal, Restored) {
    let mut restored = Restored::default();
    let (journal, _) = Journal::open(path, now, &mut |step| restored.read(step));
    (journal, restored)
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
    let (journal, _) = open(&store.index_dir(), SystemTime::now());
    let (index, presences) = empty(&journal);
    insert(&index, &presences, count, SystemTime::now());
    journal.close();
    let (journal, mut restored) = open(&store.index_dir(), SystemTime::now());
    assert_eq!(restored.read(Reading::Expect(0)) as u64, count, "the journal was closed too early");
    journal.close();
}
