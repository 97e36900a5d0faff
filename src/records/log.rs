//! Rows of blobs, on disk: `entries`, a file that only grows, read once and from front to back at
//! start.
//!
//! ```text
//! entries = magic frame*
//! frame   = head · body: a `Batch` in postcard's encoding
//! head    = length of body · CRC-32 of body · CRC-32 of these two, each a u32 LE
//! ```
//!
//! A later row of a blob takes the place of an earlier one. When as much was added as the file had,
//! it is compacted: written from what is in memory, beside the old one, and moved over it: so it is
//! never more than twice as long as it need be, and some MiB.
//!
//! After a kill its last frame may be torn: it is cut off. Anything else that is wrong makes all of
//! it wrong: an earlier row might say that a repository has a blob, and a later one, which cannot
//! be read, that it has it no more.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::rows::{Batch, HEAD};
use crate::fs::{self, FsError};

const MAGIC: &[u8; 8] = b"seawall3";
/// Bytes added at least, before it is compacted.
const LITTLE: u64 = 8 << 20;
/// Bytes of one step where there should be nothing but zeros.
const STEP: usize = 1 << 18;
/// Blobs that memory is taken for before any was read, at most: 20 MiB.
const GUESSED: u64 = 4 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// All before is whole.
    end: u64,
    /// Something may be behind.
    torn: bool,
    /// After a power cut its name might be the old one's.
    unsettled: bool,
    /// From this length on it is worth compacting.
    long: u64,
    /// Read from it.
    rows: u64,
}

/// The file, of which only the beginning was read.
#[derive(Debug)]
pub(super) struct Unread {
    path: PathBuf,
    file: File,
    length: u64,
}

/// Why it cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error("{0}")]
    Fs(#[from] FsError),
    #[error("{} is not what was written", .0.display())]
    Broken(PathBuf),
}

/// Where a new one is written.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// How long one is to grow that was, or would be, this long when compacted.
fn long(base: u64) -> u64 {
    base + base.max(LITTLE)
}

impl Unread {
    /// How many blobs it may know of, by its length.
    pub(super) fn guess(&self) -> usize {
        // One blob in one repository is 44 bytes, and what it shares with others; a short guess
        // costs time, nothing else.
        usize::try_from((self.length / 64).min(GUESSED)).unwrap_or(0)
    }

    /// Shows every frame to `each`.
    pub(super) fn read(self, mut each: impl FnMut(&Batch<'_>)) -> Result<Log, LogError> {
        let Unread { path, file, length } = self;
        let mut reader = Reader { file: &file, path: &path, body: Vec::new() };
        let (mut end, mut rows) = (MAGIC.len() as u64, 0);
        loop {
            match reader.frame(end, length)? {
                Next::Batch(frame, next) => {
                    each(&frame);
                    rows += frame.rows.len() as u64;
                    end = next;
                }
                Next::End => break,
                Next::Broken => return Err(LogError::Broken(path)),
            }
        }
        Ok(Log { torn: end < length, path, file, end, unsettled: false, long: long(end), rows })
    }
}

impl Log {
    /// The one that is there, if there is one.
    pub(super) fn find(path: &Path) -> Result<Option<Unread>, LogError> {
        // What a kill left of a new one.
        fs::remove(&beside(path)).ok();
        let file = match fs::open_to_write(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut magic = [0; MAGIC.len()];
        let read = fs::read_whole_at(&file, path, &mut magic, 0)?;
        if magic[..read] != *MAGIC {
            return Err(LogError::Broken(path.to_owned()));
        }
        Ok(Some(Unread { length: fs::len(&file, path)?, path: path.to_owned(), file }))
    }

    /// So many blobs are all that it says: the rest of what was read is old news.
    pub(super) fn holds(&mut self, blobs: usize) {
        self.long = long(self.end / self.rows.max(1) * (blobs as u64).min(self.rows));
    }

    /// Writes a new one, of these batches, in the place of what is there. After an error all is as
    /// before.
    pub(super) fn compact(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> Result<Log, LogError> {
        let beside = beside(path);
        let moved = write_all(&beside, frames).and_then(|written| fs::rename(&beside, path).map(|()| written));
        let (file, end) = moved.inspect_err(|_| drop(fs::remove(&beside)))?;
        Ok(Log { path: path.to_owned(), file, end, torn: false, unsettled: true, long: long(end), rows: 0 })
    }

    /// Makes its name survive a power cut.
    pub(super) fn settle(&mut self) -> Result<(), LogError> {
        if self.unsettled {
            self.path.parent().map_or(Ok(()), fs::sync_dir)?;
            self.unsettled = false;
        }
        Ok(())
    }

    /// Adds a frame, and syncs. After an error it is as before.
    pub(super) fn add(&mut self, frame: &[u8]) -> Result<(), LogError> {
        self.settle()?;
        if std::mem::replace(&mut self.torn, true) {
            fs::truncate(&self.file, &self.path, self.end)?;
        }
        fs::write_at(&self.file, &self.path, frame, self.end)?;
        fs::sync(&self.file, &self.path)?;
        self.end += frame.len() as u64;
        self.torn = false;
        Ok(())
    }

    /// Whether it is worth compacting.
    pub(super) fn is_long(&self) -> bool {
        self.end > self.long
    }

    /// It could not be compacted now.
    pub(super) fn put_off(&mut self) {
        self.long = self.end + LITTLE;
    }

    #[cfg(test)]
    pub(super) fn lengthen(&mut self) {
        self.long = 0;
    }
}

fn write_all(path: &Path, frames: impl Iterator<Item = Vec<u8>>) -> fs::Result<(File, u64)> {
    let file = fs::open_for_append(path)?;
    fs::truncate(&file, path, 0)?;
    fs::write_at(&file, path, MAGIC, 0)?;
    let mut end = MAGIC.len() as u64;
    for frame in frames {
        fs::write_at(&file, path, &frame, end)?;
        end += frame.len() as u64;
    }
    fs::sync(&file, path)?;
    Ok((file, end))
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
    Batch(Batch<'a>, u64),
    End,
    Broken,
}

impl Reader<'_> {
    fn bytes(&mut self, at: u64, length: u64) -> fs::Result<&[u8]> {
        self.body.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        let read = fs::read_whole_at(self.file, self.path, &mut self.body, at)?;
        Ok(&self.body[..read])
    }

    fn is_zero(&mut self, mut from: u64, length: u64) -> fs::Result<bool> {
        while from < length {
            let read = self.bytes(from, (length - from).min(STEP as u64))?;
            if read.is_empty() || read.iter().any(|byte| *byte != 0) {
                return Ok(read.is_empty());
            }
            from += read.len() as u64;
        }
        Ok(true)
    }

    /// The frame at `at` of a file of `length` bytes.
    fn frame(&mut self, at: u64, length: u64) -> fs::Result<Next<'_>> {
        let Some((said, sum)) = read_head(self.bytes(at, HEAD.min(length - at))?) else {
            // The file was made longer, and what it was made longer by did not reach the disk.
            let is_nothing = self.is_zero((at + HEAD).min(length), length)?;
            return Ok(if is_nothing { Next::End } else { Next::Broken });
        };
        let next = at + HEAD + u64::from(said);
        if next > length {
            return Ok(Next::End);
        }
        let body = self.bytes(at + HEAD, u64::from(said))?;
        let frame = (crc32fast::hash(body) == sum).then(|| postcard::from_bytes(body).ok()).flatten();
        Ok(match frame {
            Some(frame) => Next::Batch(frame, next),
            // A torn frame is the last.
            None if next == length => Next::End,
            None => Next::Broken,
        })
    }
}

#[cfg(test)]
mod tests;
