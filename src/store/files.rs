//! The files of a data directory.
//!
//! ```text
//! DATA/
//!   oci-layout                 with blobs/, an OCI image layout's
//!   blobs/sha256/<hex>         whole and verified: its name is its digest. Synced before it gets there, so true after anything.
//!   blobs/sha512/<hex>
//!   partial/sha256-<hex>       some bytes of a blob, and holes. Survives a kill and is resumed; after a power cut it is
//!                              begun anew.
//!   partial/….extents          which bytes of it are there, and on which boot of the machine they were written
//!   entries, index/            records, of blobs and of all else: what may be lost (see `records`)
//!   rotten/sha256-<hex>        what was a blob and has its digest no more: for a person to look at, a GiB at most
//!   secret.key                 what this installation signs and hashes with, 0600 (see `access/secret`); lost, it is made again
//!   lock                       held while a process runs here
//! ```
//!
//! Everything here blocks: callers are on threads of their own (`task::blocking`).

use std::fs::File;
use std::path::{Path, PathBuf};

use super::blob_file::BlobFile;
use super::partial::{Partial, forget_note, noted_bytes};
use super::verification::{Rot, Verification};
use crate::fs::{self, FsError};
use crate::oci::digest::{Algorithm, Digest};

/// The files of one data directory.
#[derive(Debug)]
pub struct Store {
    data: PathBuf,
    /// Which boot of the machine this is; empty if it does not say.
    boot: String,
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

/// What became of a blob that is one no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// It is in `rotten/`.
    Moved,
    /// It could not be kept, or is more than is kept.
    Removed,
}

impl Aside {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Aside::Moved => "moved to rotten/",
            Aside::Removed => "removed",
        }
    }
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

/// Bytes that are kept of what is no blob any more.
const MOST_ROTTEN: u64 = 1 << 30;
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
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
        // What a kill left of a note.
        for found in fs::list(&data.join("partial"))?.into_iter().filter(|found| found.name.ends_with(".new")) {
            fs::remove(&found.path)?;
        }
        let boot = fs::read_to_string(Path::new(BOOT)).unwrap_or_default().trim().to_owned();
        Ok(Store { data: data.to_owned(), boot, _lock: lock })
    }

    /// Where the records' tables are.
    pub fn index_dir(&self) -> PathBuf {
        self.data.join("index")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.data.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.data.join("partial").join(flat(digest))
    }

    /// Opens a blob, to hash it again.
    pub fn verification(&self, digest: &Digest) -> fs::Result<Verification> {
        let Blob { file, size, .. } = self.blob(digest)?;
        Ok(Verification::new(file, size, digest))
    }

    /// Whether the disk takes anything, and gives it back. One that does not has not damaged this blob or
    /// that.
    pub fn is_working(&self) -> bool {
        let (probe, bytes) = (self.data.join("probe"), b"the disk takes this");
        let is_back = fs::replace(&probe, 0o600, bytes).and_then(|()| fs::read(&probe)).is_ok_and(|read| read == bytes);
        fs::remove(&probe).is_ok() && is_back
    }

    /// Whether what is wrong is the blob yet: another may have come in its place.
    pub fn is_blob(&self, digest: &Digest, rot: &Rot) -> bool {
        let path = self.blob_path(digest);
        match &rot.file {
            Some(file) => fs::is_named(file.file(), &path).unwrap_or(false),
            None => fs::open_plain(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidInput),
        }
    }

    /// Moves a blob away that is one no more, or removes it where that cannot be. The oldest
    /// files there are removed where that is too much in all.
    pub fn set_aside(&self, digest: &Digest) -> fs::Result<Aside> {
        let (dir, name) = (self.data.join("rotten"), flat(digest));
        if fs::create_dir(&dir).and_then(|()| fs::rename(&self.blob_path(digest), &dir.join(&name))).is_err() {
            return self.remove(digest).map(|()| Aside::Removed);
        }
        // What cannot be bounded now is with the next one.
        let _ = self.bound_rotten(&dir, &name);
        Ok(if fs::exists(&dir.join(&name)) { Aside::Moved } else { Aside::Removed })
    }

    /// The oldest go first, and what is `latest` last.
    fn bound_rotten(&self, dir: &Path, latest: &str) -> fs::Result<()> {
        let mut all = fs::list(dir)?;
        all.retain(|found| found.is_file && from_flat(&found.name).is_some());
        all.sort_by_key(|found| (found.name == latest, found.modified));
        let mut bytes: u64 = all.iter().map(|found| found.size).sum();
        for found in all {
            if bytes <= MOST_ROTTEN {
                break;
            }
            bytes -= found.size;
            fs::remove(&found.path)?;
        }
        Ok(())
    }

    /// Opens a blob.
    pub fn blob(&self, digest: &Digest) -> fs::Result<Blob> {
        let path = self.blob_path(digest);
        let file = fs::open_plain(&path)?;
        let size = fs::len(&file, &path)?;
        Ok(Blob { at_once: fs::answers_at_once(&file), file: BlobFile::new(file), size })
    }

    /// Whether a part of a blob is here.
    pub fn has_partial(&self, digest: &Digest) -> bool {
        fs::size(&self.partial_path(digest)).is_ok_and(|size| size > 0)
    }

    /// Opens what there is of a blob, to resume it.
    pub fn partial(&self, digest: &Digest) -> fs::Result<Partial> {
        Partial::open(self.partial_path(digest), digest, &self.boot)
    }

    /// Moves a whole, verified partial among the blobs. The last moment at which a crash loses it
    /// is the move. Its note goes before: what comes there later must not find it.
    pub fn commit(&self, partial: &Partial) -> fs::Result<()> {
        partial.sync()?;
        forget_note(partial.path())?;
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
        let path = self.partial_path(digest);
        forget_note(&path)?;
        fs::remove(&path)
    }

    /// Removes a partial without a byte in it.
    pub fn trim_partial(&self, digest: &Digest) -> fs::Result<()> {
        let path = self.partial_path(digest);
        match fs::size(&path) {
            Err(error) if is_missing(&error) => Ok(()),
            Ok(0) => self.remove_partial(digest),
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

    /// The length of these blobs. Looks at each file.
    pub fn bytes(&self, names: &[Digest]) -> u64 {
        names.iter().filter_map(|digest| self.look(digest).ok()).map(|found| found.size).sum()
    }

    /// Looks at the file of a blob.
    pub fn look(&self, digest: &Digest) -> fs::Result<Listed> {
        let (size, modified) = fs::size_and_modified(&self.blob_path(digest))?;
        Ok(Listed { digest: digest.clone(), size, modified })
    }

    /// All partials, with what of them is here. (What a file takes of the disk is not to be trusted just
    /// after it was written.)
    pub fn list_partials(&self) -> fs::Result<Vec<Listed>> {
        let found = fs::list(&self.data.join("partial"))?.into_iter().filter(|found| found.is_file);
        let read = |found: fs::Found| {
            let digest = from_flat(&found.name)?;
            let size = noted_bytes(&found.path, &self.boot).unwrap_or(found.size);
            Some(Listed { digest, size, modified: found.modified })
        };
        Ok(found.filter_map(read).collect())
    }

    /// Bytes that may still be written here.
    pub fn free_space(&self) -> fs::Result<u64> {
        fs::free_space(&self.data)
    }
}

/// A digest as a name in one directory for all algorithms.
fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

fn from_flat(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
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
        partial.write(&[(0, bytes::Bytes::copy_from_slice(bytes))]).unwrap();
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
                partial.write(&[(0, bytes::Bytes::copy_from_slice(&bytes[..cut]))]).unwrap();
                partial.note().unwrap();
            }
            let store = Store::open(dir.path()).unwrap();
            assert!(store.names().unwrap().is_empty(), "nothing half is among the blobs");
            let mut partial = store.partial(&digest).unwrap();
            assert_eq!(partial.len(), cut as u64);
            partial.write(&[(cut as u64, bytes::Bytes::copy_from_slice(&bytes[cut..]))]).unwrap();
            partial.hash_on().unwrap();
            assert!(partial.is_verified(), "what was there is hashed, too");
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
