//! A blob that is still coming: a file with holes, which of its bytes are here, and the hash over the
//! first of them.
//!
//! A hole reads as zeros, so nothing but the extents says what may be read. They are noted beside the
//! file, after the bytes that they name. What the system had not written to the disk by then is lost with
//! the system, and with it alone: who starts on the same boot believes the note, who starts on another
//! one begins anew.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::blob_file::BlobFile;
use crate::fs;
use crate::oci::digest::{Digest, Hasher};
use crate::policy::extents::Extents;

/// Some bytes of a blob.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    boot: String,
    file: BlobFile,
    digest: Digest,
    here: Extents,
    hasher: Hasher,
    hashed: u64,
}

/// What is noted: which bytes are here, as pairs of first and one after last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    boot: String,
    extents: Vec<(u64, u64)>,
}

/// Bytes that are hashed at a time, where they have to be read again.
const HASHED_AT_ONCE: u64 = 32 << 20;

/// Where the extents of a partial file are noted.
pub(super) fn note_path(path: &Path) -> PathBuf {
    fs::with_suffix(path, ".extents")
}

impl Partial {
    /// Opens it, with what the note beside it says, if that is to be believed; else it is begun anew:
    /// who reads the old one has it open.
    pub(super) fn open(path: PathBuf, digest: &Digest, boot: &str) -> fs::Result<Partial> {
        let mut file = fs::open_for_append(&path)?;
        let len = fs::len(&file, &path)?;
        let here = noted(&path, boot).filter(|here| here.ranges().last().is_none_or(|last| last.end <= len));
        if here.as_ref().is_none_or(Extents::is_empty) {
            forget_note(&path)?;
            if len > 0 {
                fs::remove(&path)?;
                file = fs::open_for_append(&path)?;
            }
        }
        let hasher = Hasher::new(digest.algorithm());
        let (boot, here) = (boot.to_owned(), here.unwrap_or_default());
        Ok(Partial { path, boot, file: BlobFile::new(file), digest: digest.clone(), here, hasher, hashed: 0 })
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

    /// Which bytes are here.
    pub fn here(&self) -> &Extents {
        &self.here
    }

    /// Bytes that are here from the first on, without a gap.
    pub fn len(&self) -> u64 {
        self.here.end_from(0)
    }

    /// Whether nothing is here yet.
    pub fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    /// Bytes that are hashed: the first.
    pub fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Writes what came, each with the place of its first byte, where nothing is yet.
    ///
    /// # Errors
    /// What was written of `chunks` may be in the file, but does not count.
    pub fn write(&mut self, chunks: &[(u64, Bytes)]) -> fs::Result<()> {
        for (at, chunk) in chunks {
            fs::write_at(self.file.file(), &self.path, chunk, *at)?;
        }
        for (at, chunk) in chunks {
            let end = at + chunk.len() as u64;
            self.here.add(*at..end);
            if *at == self.hashed {
                self.hasher.update(chunk);
                self.hashed = end;
            }
        }
        Ok(())
    }

    /// Hashes some of what is here and was not hashed as it came.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn hash_on(&mut self) -> fs::Result<()> {
        let end = self.len().min(self.hashed + HASHED_AT_ONCE);
        if self.hashed < end {
            let hasher = &mut self.hasher;
            fs::scan(self.file.file(), &self.path, self.hashed..end, |bytes| hasher.update(bytes))?;
            self.hashed = end;
        }
        Ok(())
    }

    /// Whether what is hashed is the blob.
    pub fn is_verified(&self) -> bool {
        self.hashed == self.len() && self.hasher.clone().finish() == self.digest
    }

    /// Notes which bytes are here.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&self) -> fs::Result<()> {
        let extents = self.here.ranges().iter().map(|range| (range.start, range.end)).collect();
        let note = Note { boot: self.boot.clone(), extents };
        let body = postcard::to_allocvec(&note).expect("text and numbers can be encoded");
        let sum = crc32fast::hash(&body).to_le_bytes();
        fs::replace_unsynced(&note_path(&self.path), &[&sum, body.as_slice()].concat())
    }

    pub(super) fn sync(&self) -> fs::Result<()> {
        fs::truncate(self.file.file(), &self.path, self.len())?;
        fs::sync(self.file.file(), &self.path)
    }
}

pub(super) fn forget_note(path: &Path) -> fs::Result<()> {
    fs::remove(&note_path(path))
}

/// How many bytes of a file are here, by what is noted.
pub(super) fn noted_bytes(path: &Path, boot: &str) -> Option<u64> {
    noted(path, boot).map(|here| here.bytes())
}

/// What is noted beside a file, if it is whole and of this boot.
fn noted(path: &Path, boot: &str) -> Option<Extents> {
    let bytes = fs::read(&note_path(path)).ok()?;
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    let is_whole = crc32fast::hash(body) == u32::from_le_bytes(*sum);
    let note: Note = is_whole.then(|| postcard::from_bytes(body).ok()).flatten()?;
    let is_believed = !boot.is_empty() && note.boot == boot;
    let ranges = note.extents.into_iter().map(|(start, end)| start..end);
    is_believed.then(|| Extents::from_ranges(ranges)).flatten()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::oci::digest::Algorithm;

    const BYTES: &[u8] = b"some bytes that come in no order";

    fn opened(dir: &Path, boot: &str) -> Partial {
        let digest = Digest::of(Algorithm::Sha256, BYTES);
        Partial::open(dir.join("sha256-x"), &digest, boot).unwrap()
    }

    fn put(partial: &mut Partial, part: Range<usize>) {
        partial.write(&[(part.start as u64, Bytes::from_static(&BYTES[part]))]).unwrap();
    }

    #[test]
    fn parts_in_no_order_are_the_blob_once_all_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = opened(dir.path(), "b");
        put(&mut partial, 20..32);
        put(&mut partial, 0..5);
        assert_eq!((partial.len(), partial.hashed()), (5, 5));
        put(&mut partial, 5..20);
        assert_eq!((partial.len(), partial.hashed()), (32, 20));
        assert!(!partial.is_verified(), "not all is hashed");
        partial.hash_on().unwrap();
        assert!(partial.is_verified());
    }

    #[test]
    fn a_note_is_believed_on_the_same_boot_alone() {
        let dir = tempfile::tempdir().unwrap();
        let begin = || {
            let mut partial = opened(dir.path(), "b");
            put(&mut partial, 0..5);
            put(&mut partial, 9..12);
            partial.note().unwrap();
        };
        begin();
        let partial = opened(dir.path(), "b");
        assert_eq!(partial.here().ranges(), [0..5, 9..12]);
        assert_eq!(partial.hashed(), 0, "it is hashed when that is needed");
        for boot in ["c", ""] {
            assert!(opened(dir.path(), boot).is_empty(), "{boot}");
            begin();
        }
        fs::replace_unsynced(&note_path(&dir.path().join("sha256-x")), b"xxxxyyyy").unwrap();
        assert!(opened(dir.path(), "b").is_empty(), "a note that is broken");
        begin();
        fs::replace_unsynced(&dir.path().join("sha256-x"), &BYTES[..11]).unwrap();
        assert!(opened(dir.path(), "b").is_empty(), "a file that is shorter than its note");
        begin();
        fs::remove(&dir.path().join("sha256-x")).unwrap();
        assert!(opened(dir.path(), "b").is_empty(), "a note without its file");
        drop(opened(dir.path(), "b"));
        assert!(opened(dir.path(), "b").is_empty());
    }

    /// Killed after each write, each byte of a note and each rename, the process goes on with bytes of the
    /// blob alone; and with all that a note named which was whole.
    #[test]
    fn a_crash_at_any_step_of_a_note_believes_no_byte_that_is_not_here() {
        let parts = [20..32, 0..5, 9..12, 5..9, 12..20];
        for (killed, half) in (0..parts.len()).flat_map(|killed| [(killed, false), (killed, true)]) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("sha256-x");
            let mut partial = opened(dir.path(), "b");
            let mut noted = vec![Vec::new()];
            for part in &parts[..killed] {
                put(&mut partial, part.clone());
                partial.note().unwrap();
                noted.push(fs::read(&note_path(&path)).unwrap());
            }
            let end = if half { parts[killed].len() / 2 } else { parts[killed].len() };
            fs::write_at(partial.file.file(), &path, &BYTES[parts[killed].clone()][..end], parts[killed].start as u64)
                .unwrap();
            let file = fs::read(&path).unwrap();
            let last = noted.pop().unwrap();
            for cut in 0..=last.len() {
                for note in [&last[..cut], noted.last().map_or(&[][..], Vec::as_slice)] {
                    fs::replace_unsynced(&path, &file).unwrap();
                    fs::replace_unsynced(&note_path(&path), note).unwrap();
                    fs::replace_unsynced(&fs::with_suffix(&note_path(&path), ".new"), &last[..cut]).unwrap();
                    let again = opened(dir.path(), "b");
                    let is_whole = note == last.as_slice();
                    let expected = if is_whole { partial.here().bytes() } else { 0 };
                    assert!(again.here().bytes() >= expected, "killed in part {killed}, {cut} bytes of its note");
                    for here in again.here().ranges() {
                        let mut read = vec![0; (here.end - here.start) as usize];
                        assert_eq!(again.file().read_at(&mut read, here.start).unwrap(), read.len());
                        assert_eq!(read, BYTES[here.start as usize..here.end as usize]);
                    }
                }
            }
        }
    }

    #[test]
    fn who_reads_the_old_one_keeps_it_where_it_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut partial = opened(dir.path(), "b");
        put(&mut partial, 0..5);
        let reader = partial.file();
        let mut again = opened(dir.path(), "c");
        put(&mut again, 9..12);
        let mut read = [0; 5];
        assert_eq!(reader.read_at(&mut read, 0).unwrap(), 5);
        assert_eq!(&read, &BYTES[..5]);
    }
}
