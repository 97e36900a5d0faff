//! The files of a data directory.
//!
//! ```text
//! DATA/
//!   oci-layout                 with blobs/, an OCI image layout's
//!   blobs/sha256/<hex>         whole and verified: its name is its digest. Synced before it gets there, so true after anything.
//!   blobs/sha512/<hex>
//!   partial/sha256-<hex>       the first bytes of a blob, in order, nothing else. Survives a kill and is resumed;
//!                              after a power cut its end may be wrong, which the digest shows: it is removed then.
//!   entries, index/            records, of blobs and of all else: what may be lost (see `records`)
//!   secret.key                 what this installation signs and hashes with, 0600 (see `access/secret`); lost, it is made again
//!   lock                       held while a process runs here
//! ```
//!
//! Everything here blocks: callers are on threads of their own (`task::blocking`).

use std::fs::File;
use std::path::{Path, PathBuf};

use super::blob_file::BlobFile;
use super::partial::Partial;
use crate::fs::{self, FsError};
use crate::oci::digest::{Algorithm, Digest};

/// The files of one data directory.
#[derive(Debug)]
pub struct Store {
    data: PathBuf,
    _lock: File,
}

/// A blob, open.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its file.
    pub file: BlobFile,
    /// Its length in bytes.
    pub size: u64,
    /// See [`fs::answers_at_once`].
    pub at_once: bool,
}

/// A blob that is there.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// When it came.
    pub modified: std::time::SystemTime,
}

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

impl Store {
    /// Makes what is not there yet.
    ///
    /// # Errors
    /// It cannot be made, or another process has it.
    pub fn open(data: &Path) -> fs::Result<Store> {
        for dir in ["blobs/sha256", "blobs/sha512", "partial", "index"] {
            fs::create_dir(&data.join(dir))?;
        }
        let lock = fs::lock(&data.join("lock"))?;
        if !fs::exists(&data.join("oci-layout")) {
            fs::replace(&data.join("oci-layout"), 0o600, LAYOUT)?;
        }
        Ok(Store { data: data.to_owned(), _lock: lock })
    }

    /// Where the records' tables are.
    pub fn index_dir(&self) -> PathBuf {
        self.data.join("index")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.data.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.data.join("partial").join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    /// Opens a blob.
    pub fn blob(&self, digest: &Digest) -> fs::Result<Blob> {
        let path = self.blob_path(digest);
        let file = fs::open(&path)?;
        let size = fs::len(&file, &path)?;
        Ok(Blob { at_once: fs::answers_at_once(&file), file: BlobFile::new(file), size })
    }

    /// Whether a part of a blob is here.
    pub fn has_partial(&self, digest: &Digest) -> bool {
        fs::size(&self.partial_path(digest)).is_ok_and(|size| size > 0)
    }

    /// Opens what there is of a blob, to resume it.
    pub fn partial(&self, digest: &Digest) -> fs::Result<Partial> {
        Partial::open(self.partial_path(digest), digest)
    }

    /// Moves a whole, verified partial among the blobs. The last moment at which a crash loses it
    /// is the move.
    pub fn commit(&self, partial: &Partial) -> fs::Result<()> {
        partial.sync()?;
        let path = self.blob_path(partial.digest());
        fs::rename(partial.path(), &path)?;
        path.parent().map_or(Ok(()), fs::sync_dir)
    }

    /// Removes a blob.
    pub fn remove(&self, digest: &Digest) -> fs::Result<()> {
        fs::remove(&self.blob_path(digest))
    }

    /// Removes a blob, and gives its room back though somebody has it open. What they have not read
    /// is missing, and never wrong: their connection ends before its time.
    pub fn remove_and_cut(&self, digest: &Digest) -> fs::Result<()> {
        let path = self.blob_path(digest);
        let file = match fs::open_to_write(&path) {
            Err(error) if is_missing(&error) => return Ok(()),
            opened => opened?,
        };
        fs::remove(&path)?;
        // Somebody else's link is somebody else's file.
        if fs::has_name(&file, &path)? { Ok(()) } else { fs::truncate(&file, &path, 0) }
    }

    /// Removes what there is of a blob.
    pub fn remove_partial(&self, digest: &Digest) -> fs::Result<()> {
        fs::remove(&self.partial_path(digest))
    }

    /// Removes a partial without a byte in it.
    pub fn trim_partial(&self, digest: &Digest) -> fs::Result<()> {
        let path = self.partial_path(digest);
        match fs::size(&path) {
            Err(error) if is_missing(&error) => Ok(()),
            Ok(0) => fs::remove(&path),
            size => size.map(|_| ()),
        }
    }

    /// The names of all blobs, by what the directories say: no file is looked at. One that is not
    /// named as a digest is not one, and stays.
    pub fn names(&self) -> fs::Result<Vec<Digest>> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.data.join("blobs").join(algorithm.as_str());
            fs::names(&dir, |name| all.extend(Digest::from_hex(algorithm, name)))?;
        }
        Ok(all)
    }

    /// Looks at the file of a blob.
    pub fn look(&self, digest: &Digest) -> fs::Result<Listed> {
        let (size, modified) = fs::size_and_modified(&self.blob_path(digest))?;
        Ok(Listed { digest: digest.clone(), size, modified })
    }

    /// All partials.
    pub fn list_partials(&self) -> fs::Result<Vec<Listed>> {
        let found = fs::list(&self.data.join("partial"))?.into_iter().filter(|found| found.is_file);
        let read = |found: fs::Found| {
            let digest = found.name.replacen('-', ":", 1).parse().ok()?;
            Some(Listed { digest, size: found.size, modified: found.modified })
        };
        Ok(found.filter_map(read).collect())
    }

    /// Bytes that may still be written here.
    pub fn free_space(&self) -> fs::Result<u64> {
        fs::free_space(&self.data)
    }
}

/// Whether an error says that there is no such file.
pub fn is_missing(error: &FsError) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(store: &Store, bytes: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let mut partial = store.partial(&digest).unwrap();
        partial.append(&[bytes::Bytes::copy_from_slice(bytes)]).unwrap();
        assert!(partial.is_verified());
        store.commit(&partial).unwrap();
        digest
    }

    /// Invariant 1: a file under `blobs/` has its own digest as its name.
    #[test]
    fn a_blob_is_named_by_its_digest_as_in_an_image_layout() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = filled(&store, b"hello");
        let path = dir.path().join("blobs/sha256").join(digest.hex());
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(store.blob(&digest).unwrap().size, 5);
        assert!(store.list_partials().unwrap().is_empty());
        assert_eq!(store.names().unwrap().len(), 1);
        store.remove(&digest).unwrap();
        assert!(is_missing(&store.blob(&digest).unwrap_err()));
    }

    /// A crash at each step of a commit: whatever is found afterwards is a whole blob or a partial
    /// that can be resumed.
    #[test]
    fn a_crash_at_any_step_of_a_commit_leaves_a_blob_or_a_partial() {
        let bytes = b"some bytes that are to be kept".as_slice();
        let digest = Digest::of(Algorithm::Sha256, bytes);
        for cut in 0..=bytes.len() {
            let dir = tempfile::tempdir().unwrap();
            {
                let store = Store::open(dir.path()).unwrap();
                let mut partial = store.partial(&digest).unwrap();
                partial.append(&[bytes::Bytes::copy_from_slice(&bytes[..cut])]).unwrap();
            }
            let store = Store::open(dir.path()).unwrap();
            assert!(store.names().unwrap().is_empty(), "nothing half is among the blobs");
            let mut partial = store.partial(&digest).unwrap();
            assert_eq!(partial.len(), cut as u64);
            partial.append(&[bytes::Bytes::copy_from_slice(&bytes[cut..])]).unwrap();
            assert!(partial.is_verified(), "the hash goes on over what was there");
            store.commit(&partial).unwrap();
            // The crash after the move: the blob is there, and the partial is not.
            drop((store, partial));
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.names().unwrap().len(), 1);
            assert!(store.list_partials().unwrap().is_empty());
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let _store = Store::open(dir.path()).unwrap();
        assert_eq!(Store::open(dir.path()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn strangers_among_the_blobs_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_new(&dir.path().join("blobs/sha256/README"), 0o600, b"x").unwrap();
        assert!(store.names().unwrap().is_empty());
    }
}
