//! A blob that is still coming: its first bytes, and the hash over them.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::blob_file::BlobFile;
use crate::fs;
use crate::oci::digest::{Digest, Hasher};

/// The first bytes of a blob.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: BlobFile,
    digest: Digest,
    hasher: Hasher,
    len: u64,
}

impl Partial {
    /// Opens it, and hashes what is there: 1.9 GB/s, so a layer of 20 GB takes ten seconds to be
    /// resumed.
    pub(super) fn open(path: PathBuf, digest: &Digest) -> fs::Result<Partial> {
        let file = fs::open_for_append(&path)?;
        let len = fs::len(&file, &path)?;
        let mut hasher = Hasher::new(digest.algorithm());
        fs::scan(&file, &path, len, |bytes| hasher.update(bytes))?;
        Ok(Partial { path, file: BlobFile::new(file), digest: digest.clone(), hasher, len })
    }

    /// The digest of the whole.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, for those who read while it grows.
    pub fn file(&self) -> BlobFile {
        self.file.clone()
    }

    /// Bytes that are here.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is here yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds to the end.
    ///
    /// # Errors
    /// What was written of `chunks` may be in the file, but does not count: [`Partial::len`] is as
    /// before.
    pub fn append(&mut self, chunks: &[Bytes]) -> fs::Result<()> {
        let mut at = self.len;
        for chunk in chunks {
            fs::write_at(self.file.file(), &self.path, chunk, at)?;
            at += chunk.len() as u64;
        }
        for chunk in chunks {
            self.hasher.update(chunk);
        }
        self.len = at;
        Ok(())
    }

    /// Whether what is here is the blob.
    pub fn is_verified(&self) -> bool {
        self.hasher.clone().finish() == self.digest
    }

    pub(super) fn sync(&self) -> fs::Result<()> {
        // Room that was taken for a length upstream only claimed.
        fs::truncate(self.file.file(), &self.path, self.len)?;
        fs::sync(self.file.file(), &self.path)
    }
}
