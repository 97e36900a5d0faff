//! Whether a file still is what its name says.

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
}

/// What is wrong with a file.
#[derive(Debug)]
pub struct Rot {
    pub(super) file: BlobFile,
    /// For people: the digest it has, or why the disk cannot read it.
    pub why: String,
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
        let until = self.size.min(self.at + STEP);
        match self.file.scan(self.at..until, |bytes| self.hasher.update(bytes)) {
            Ok(()) => {}
            Err(error) if is_rot(&error) => return Ok(self.rotten(error.to_string())),
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
            self.rotten(format!("its bytes have the digest {found}"))
        })
    }

    fn rotten(self, why: String) -> Step {
        Step::Rotten(Rot { file: self.file, why })
    }
}

/// Whether a file that cannot be read is damaged, or was cut while it was read.
fn is_rot(error: &FsError) -> bool {
    error.is_damage() || error.kind() == std::io::ErrorKind::UnexpectedEof
}
