//! The file of a blob, open to be read. No other module sees the file itself.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::{self, Hold, Outbox};

/// A file, whole or growing. Clones share one descriptor.
#[derive(Clone, Debug)]
pub struct BlobFile(Arc<File>);

impl BlobFile {
    pub(super) fn new(file: File) -> BlobFile {
        BlobFile(Arc::new(file))
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Reads at an offset, as much as there is and fits. Blocks.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        fs::read_at(&self.0, buffer, offset)
    }

    /// Reads at an offset what the page cache has; `None`: nothing of it, it would block.
    pub fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        fs::read_cached_at(&self.0, buffer, offset)
    }

    /// Shows a part to `each`, in order. Blocks.
    pub fn scan(&self, part: Range<u64>, each: impl FnMut(&[u8])) -> fs::Result<()> {
        fs::scan(&self.0, Path::new("a cached blob"), part, each)
    }

    /// Posts a part of the file to a connection, for the kernel to send: see [`Outbox::post`].
    pub fn post(&self, outbox: &Outbox, at: u64, len: usize, hold: Hold) -> Bytes {
        outbox.post(self.0.clone(), at, len, hold)
    }

    #[cfg(test)]
    pub(super) fn users(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}
