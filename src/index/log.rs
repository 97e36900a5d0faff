//! What is known of blobs, on disk: `index/entries`, a file that only grows, read once and from front to back at start.
//!
//! ```text
//! entries = magic frame*
//! frame   = head · body: a `Frame` in postcard's encoding
//! head    = length of body · CRC-32 of body · CRC-32 of these two, each a u32 LE
//! ```
//!
//! A later word on a blob takes the place of an earlier one. When as much was added as the file had, it is written anew from what is in
//! memory, beside the old one, and moved over it: so it is never more than twice as long as it need be, and some MiB.
//!
//! After a kill its last frame may be torn: it is cut off. Anything else that is wrong makes all of it wrong: an earlier word might say
//! that a repository has a blob, and a later one, which nobody can read, that it has it no more.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, FsError};

const MAGIC: &[u8; 8] = b"seawall1";
/// Added at least, before it is written anew.
const LITTLE: u64 = 8 << 20;
const HEAD: u64 = 12;

/// Some blobs, and the strings they share.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Frame<'a> {
    /// Types and repositories: blobs name them by their place here.
    #[serde(borrow)]
    pub(super) strings: Vec<&'a str>,
    #[serde(borrow)]
    pub(super) words: Vec<Word<'a>>,
}

/// The last word on a blob.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Word<'a> {
    /// 32 bytes are SHA-256, 64 are SHA-512.
    pub(super) digest: &'a [u8],
    /// Nothing: it is gone.
    pub(super) known: Option<Known>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Bytes.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) used: u32,
    pub(super) media_type: Option<u32>,
    pub(super) places: Vec<u32>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// All before is whole.
    end: u64,
    /// Something may be behind.
    torn: bool,
    /// How long it would be, or was, when written anew.
    base: u64,
    /// Read from it.
    words: u64,
}

/// Why it cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("{0}")]
    Fs(#[from] FsError),
    #[error("{} is not what was written", .0.display())]
    Broken(PathBuf),
}

fn path(dir: &Path) -> PathBuf {
    dir.join("entries")
}

impl Log {
    /// How many blobs the one in `dir` may know of, by its length.
    pub(super) fn guess(dir: &Path) -> usize {
        // One blob in one repository is 44 bytes, and what it shares with others; a short guess costs time, nothing else.
        fs::size(&path(dir)).map_or(0, |length| usize::try_from(length / 64).unwrap_or(0))
    }

    /// Reads the one in `dir`, if there is one, and shows every frame to `each`.
    pub(super) fn read(dir: &Path, mut each: impl FnMut(&Frame<'_>)) -> Result<Option<Log>, LogError> {
        let path = path(dir);
        if !fs::exists(&path) {
            return Ok(None);
        }
        let file = fs::open_for_append(&path)?;
        let length = fs::len(&file, &path)?;
        let mut reader = Reader { file: &file, path: &path, body: Vec::new() };
        let (mut end, mut words) = (MAGIC.len() as u64, 0);
        if reader.bytes(0, end.min(length))? != MAGIC {
            return Err(LogError::Broken(path));
        }
        loop {
            match reader.frame(end, length)? {
                Next::Frame(frame, next) => {
                    each(&frame);
                    words += frame.words.len() as u64;
                    end = next;
                }
                Next::End => break,
                Next::Broken => return Err(LogError::Broken(path)),
            }
        }
        Ok(Some(Log { torn: end < length, path, file, end, base: end, words }))
    }

    /// So many blobs are all that it says: the rest of what was read is old news.
    pub(super) fn holds(&mut self, blobs: usize) {
        self.base = self.end / self.words.max(1) * (blobs as u64).min(self.words);
    }

    /// Writes one anew, of these frames, in the place of whatever is in `dir`.
    pub(super) fn write_anew(dir: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<Log, LogError> {
        fs::create_dir(dir)?;
        let (path, beside) = (path(dir), dir.join("entries.new"));
        let file = fs::open_for_append(&beside)?;
        fs::truncate(&file, &beside, 0)?;
        fs::write_at(&file, &beside, MAGIC, 0)?;
        let mut end = MAGIC.len() as u64;
        for frame in frames {
            fs::write_at(&file, &beside, &frame, end)?;
            end += frame.len() as u64;
        }
        fs::sync(&file, &beside)?;
        fs::rename(&beside, &path)?;
        fs::sync_dir(dir)?;
        Ok(Log { path, file, end, torn: false, base: end, words: 0 })
    }

    /// Adds a frame, and syncs. After an error it is as before.
    pub(super) fn add(&mut self, frame: &[u8]) -> Result<(), LogError> {
        if std::mem::replace(&mut self.torn, true) {
            fs::truncate(&self.file, &self.path, self.end)?;
        }
        fs::write_at(&self.file, &self.path, frame, self.end)?;
        fs::sync(&self.file, &self.path)?;
        self.end += frame.len() as u64;
        self.torn = false;
        Ok(())
    }

    /// Whether it is worth writing anew.
    pub(super) fn is_long(&self) -> bool {
        self.end - self.base > self.base.max(LITTLE)
    }
}

impl Frame<'_> {
    /// As it is written.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let room = vec![0; HEAD as usize];
        let mut bytes = postcard::to_extend(self, room).expect("memory is all that it takes, and has no end");
        let (head, body) = bytes.split_at_mut(HEAD as usize);
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let sum = crc32fast::hash(&head[..8]);
        head[8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Length and sum of the body, where a head is one.
fn read_head(head: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let said = (number(0)?, number(4)?);
    (number(8)? == crc32fast::hash(&head[..8])).then_some(said)
}

struct Reader<'a> {
    file: &'a File,
    path: &'a Path,
    body: Vec<u8>,
}

enum Next<'a> {
    Frame(Frame<'a>, u64),
    End,
    Broken,
}

impl Reader<'_> {
    fn bytes(&mut self, at: u64, length: u64) -> fs::Result<&[u8]> {
        self.body.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        let read = fs::read_whole_at(self.file, self.path, &mut self.body, at)?;
        Ok(&self.body[..read])
    }

    /// The frame at `at` of a file of `length` bytes.
    fn frame(&mut self, at: u64, length: u64) -> fs::Result<Next<'_>> {
        let Some((said, sum)) = read_head(self.bytes(at, HEAD.min(length - at))?) else {
            // The file was made longer, and what it was made longer by did not reach the disk.
            let behind = (at + HEAD).min(length);
            let rest = self.bytes(behind, length - behind)?;
            return Ok(if rest.iter().all(|byte| *byte == 0) { Next::End } else { Next::Broken });
        };
        let next = at + HEAD + u64::from(said);
        if next > length {
            return Ok(Next::End);
        }
        let body = self.bytes(at + HEAD, u64::from(said))?;
        let frame = (crc32fast::hash(body) == sum).then(|| postcard::from_bytes(body).ok()).flatten();
        Ok(match frame {
            Some(frame) => Next::Frame(frame, next),
            // A torn frame is the last.
            None if next == length => Next::End,
            None => Next::Broken,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u8) -> Vec<u8> {
        let known = Known { size: u64::from(n), used: 1, media_type: None, places: vec![0] };
        Frame { strings: vec!["docker.io/a/b"], words: vec![Word { digest: &[n; 32], known: Some(known) }] }.encoded()
    }

    /// What is read: the first bytes of the digests.
    fn read(dir: &Path) -> Result<Vec<u8>, LogError> {
        let mut read = Vec::new();
        Log::read(dir, |frame| read.extend(frame.words.iter().map(|word| word.digest[0])))?;
        Ok(read)
    }

    fn put(dir: &Path, bytes: &[u8]) {
        fs::remove(&path(dir)).unwrap();
        fs::create_new(&path(dir), 0o600, bytes).unwrap();
    }

    #[test]
    fn what_is_added_is_read_after_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let mut log = Log::write_anew(dir.path(), [frame(1), frame(2)].into_iter()).unwrap();
        log.add(&frame(3)).unwrap();
        let mut log = Log::read(dir.path(), |_| ()).unwrap().unwrap();
        log.add(&frame(4)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [1, 2, 3, 4]);
    }

    /// A kill at any byte of the last frame, whether the file is short or the rest of it is zeros.
    #[test]
    fn a_torn_end_is_cut_off_and_gone_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [MAGIC.to_vec(), frame(1), frame(2)].concat();
        let first = MAGIC.len() + frame(1).len();
        for cut in first..whole.len() {
            for zeros in [0, whole.len() - cut] {
                put(dir.path(), &[&whole[..cut], &vec![0; zeros][..]].concat());
                if zeros > 0 && whole[cut..].iter().all(|byte| *byte == 0) {
                    continue;
                }
                assert_eq!(read(dir.path()).unwrap(), [1], "{cut} {zeros}");
                let mut log = Log::read(dir.path(), |_| ()).unwrap().unwrap();
                log.add(&frame(3)).unwrap();
                assert_eq!(read(dir.path()).unwrap(), [1, 3], "{cut} {zeros}");
            }
        }
    }

    /// Who knows what a later word was? Perhaps that a repository has a blob no more.
    #[test]
    fn a_wrong_byte_before_the_end_makes_all_of_it_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [MAGIC.to_vec(), frame(1), frame(2), frame(3)].concat();
        let last = whole.len() - frame(3).len();
        for at in 0..last {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            put(dir.path(), &bytes);
            assert!(matches!(read(dir.path()), Err(LogError::Broken(_))), "{at}");
        }
    }

    #[test]
    fn it_is_long_when_as_much_was_added_as_it_need_have() {
        let dir = tempfile::tempdir().unwrap();
        let mib = || vec![0; 1 << 20].into_iter().collect::<Vec<u8>>();
        let mut log = Log::write_anew(dir.path(), std::iter::repeat_with(mib).take(10)).unwrap();
        let mut added = 0;
        while !log.is_long() {
            log.add(&mib()).unwrap();
            added += 1;
        }
        assert_eq!(added, 11);
        (log.words, log.end, log.base) = (100, 100 << 20, 100 << 20);
        log.holds(20);
        assert_eq!((log.base >> 20, log.is_long()), (20, true), "most of what was read is old news");
    }
}
