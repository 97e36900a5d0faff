//! Whether a file still is what its name says.

use std::path::Path;

use super::blob_file::BlobFile;
use crate::fs::{self, FsError};
use crate::oci::digest::{Digest, Hasher};

/// Bytes of one step.
const STEP: u64 = 1 << 20;

/// A file that is hashed again, a step at a time.
#[derive(Debug)]
pub struct Verification {
    pub(super) file: BlobFile,
    digest: Digest,
    hasher: Hasher,
    at: u64,
    size: u64,
}

/// What a step showed.
#[derive(Debug)]
pub enum Step {
    /// So many bytes more were hashed, and there are more.
    More(Verification, u64),
    /// All of it is right: so many bytes were the last.
    Right(u64),
    /// It is not what its name says.
    Rotten(Rot),
    /// It was removed meanwhile: nobody asks any more.
    Gone,
}

/// What is wrong with a file.
#[derive(Debug)]
pub struct Rot {
    /// `None`: it is no plain file.
    pub(super) file: Option<BlobFile>,
    /// For people: the digest it has, or why the disk cannot read it.
    pub why: String,
    /// Whether it cannot be read, which may be so for a moment.
    pub is_unreadable: bool,
}

impl Verification {
    pub(super) fn new(file: BlobFile, size: u64, digest: &Digest) -> Verification {
        Verification { file, digest: digest.clone(), hasher: Hasher::new(digest.algorithm()), at: 0, size }
    }

    /// Hashes the next bytes. Blocks.
    ///
    /// # Errors
    /// They cannot be read, and that says nothing about the disk they are on.
    pub fn step(mut self) -> fs::Result<Step> {
        // Open, it would keep its room as long as it is hashed.
        if !fs::has_name(self.file.file(), Path::new("a cached blob"))? {
            return Ok(Step::Gone);
        }
        let until = self.size.min(self.at + STEP);
        match self.file.scan(self.at..until, |bytes| self.hasher.update(bytes)) {
            Ok(()) => {}
            Err(error) if is_rot(&error) => return Ok(self.rotten(error.to_string(), true)),
            Err(error) => return Err(error),
        }
        let bytes = until - self.at;
        self.at = until;
        if until < self.size {
            return Ok(Step::More(self, bytes));
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(self.digest.algorithm()));
        let found = hasher.finish();
        Ok(if found == self.digest {
            Step::Right(bytes)
        } else {
            self.rotten(format!("its bytes have the digest {found}"), false)
        })
    }

    fn rotten(self, why: String, is_unreadable: bool) -> Step {
        Step::Rotten(Rot { file: Some(self.file), why, is_unreadable })
    }
}

impl Rot {
    /// What is there is no plain file, if that is what this error says.
    pub fn of(error: &FsError) -> Option<Rot> {
        let is_strange = matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::IsADirectory);
        is_strange.then(|| Rot { file: None, why: error.to_string(), is_unreadable: false })
    }
}

/// Whether a file that cannot be read is damaged, or was cut while it was read.
fn is_rot(error: &FsError) -> bool {
    error.is_damage() || error.kind() == std::io::ErrorKind::UnexpectedEof
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::store::{Aside, Store};

    #[test]
    fn a_file_is_hashed_in_steps_and_one_that_is_cut_meanwhile_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let bytes = vec![7; (2 * STEP + 5) as usize];
        let digest = Digest::of(Algorithm::Sha512, &bytes);
        let path = dir.path().join("blobs/sha512").join(digest.hex());
        fs::create_new(&path, 0o600, &bytes).unwrap();
        let more = |verification: Verification| match verification.step().unwrap() {
            Step::More(rest, STEP) => rest,
            other => panic!("{other:?}"),
        };
        let rest = more(more(store.verification(&digest).unwrap()));
        assert!(matches!(rest.step(), Ok(Step::Right(5))));
        let rest = more(store.verification(&digest).unwrap());
        fs::truncate(&fs::open_to_write(&path).unwrap(), &path, STEP + 1).unwrap();
        assert!(matches!(rest.step(), Ok(Step::Rotten(Rot { is_unreadable: true, .. }))));
        let short = more(store.verification(&digest).unwrap());
        assert!(matches!(short.step(), Ok(Step::Rotten(Rot { is_unreadable: false, .. }))));
    }

    #[test]
    fn what_is_no_plain_file_is_none_and_what_was_removed_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = Digest::of(Algorithm::Sha256, b"");
        let path = dir.path().join("blobs/sha256").join(digest.hex());
        fs::create_new(&path, 0o600, b"").unwrap();
        let open = store.verification(&digest).unwrap();
        fs::remove(&path).unwrap();
        assert!(matches!(open.step(), Ok(Step::Gone)));
        fs::create_dir(&path).unwrap();
        let rot = Rot::of(&store.verification(&digest).unwrap_err()).unwrap();
        assert!(store.is_blob(&digest, &rot));
        assert_eq!(store.set_aside(&digest).unwrap(), Aside::Moved);
        // Of which nobody opens the other end.
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert!(Rot::of(&store.verification(&digest).unwrap_err()).is_some());
        fs::remove(&path).unwrap();
        fs::create_new(&path, 0o600, b"").unwrap();
        assert!(!store.is_blob(&digest, &rot), "it is one again");
        assert!(Rot::of(&store.verification(&Digest::of(Algorithm::Sha256, b"x")).unwrap_err()).is_none());
    }

    /// Where it cannot be moved it is removed; what is not seawall's there stays.
    #[test]
    fn what_is_set_aside_is_bounded_and_goes_if_it_cannot_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let put = |n: u8, length: u64| {
            let digest = Digest::of(Algorithm::Sha256, &[n]);
            let path = dir.path().join("blobs/sha256").join(digest.hex());
            fs::truncate(&fs::open_for_append(&path).unwrap(), &path, length).unwrap();
            digest
        };
        let rotten = dir.path().join("rotten");
        fs::create_new(&rotten, 0o600, b"in the way").unwrap();
        assert_eq!(store.set_aside(&put(0, 10)).unwrap(), Aside::Removed);
        assert_eq!(store.names().unwrap(), []);
        fs::remove(&rotten).unwrap();
        store.set_aside(&put(1, 10)).unwrap();
        fs::create_new(&rotten.join("notes"), 0o600, b"a person's").unwrap();
        fs::create_dir(&rotten.join("more")).unwrap();
        let larger = put(2, 1 << 30);
        store.set_aside(&larger).unwrap();
        let mut left: Vec<_> = fs::list(&rotten).unwrap().into_iter().map(|found| found.name).collect();
        left.sort();
        assert_eq!(left, ["more".to_owned(), "notes".to_owned(), format!("sha256-{}", larger.hex())]);
    }
}
