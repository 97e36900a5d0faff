//! Files of blobs that stay open: whoever asks for one again needs no thread, no path and no
//! `open`, only a `stat`.
//!
//! What is open takes no room on the disk that eviction could not free: a blob that goes is closed
//! here ([`OpenFiles::forget`], by the sweep, between its entry and its file). Who puts one in
//! holds it in the index, so it cannot go in between.

use std::sync::Arc;

use hashlink::LruCache;
use parking_lot::Mutex;

use super::files::{Blob, Store};
use super::index::{Held, Index};
use crate::oci::digest::Digest;
use crate::{fs, task};

/// Descriptors, at most. Of 1,024 that a process has without asking for more.
const MOST: usize = 128;

/// Open files of blobs, least recently used first. Clones share them.
#[derive(Clone)]
pub struct OpenFiles(Arc<Mutex<LruCache<Digest, Blob>>>);

impl Default for OpenFiles {
    fn default() -> OpenFiles {
        OpenFiles(Arc::new(Mutex::new(LruCache::new(MOST))))
    }
}

impl std::fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenFiles")
    }
}

impl OpenFiles {
    /// The file of a blob that is held: the open one, or opened on a thread and kept open.
    pub async fn open(&self, store: &Arc<Store>, index: &Index, digest: &Digest, held: &Held) -> fs::Result<Blob> {
        if let Some(blob) = self.find(digest) {
            return Ok(blob);
        }
        let (files, name) = (store.clone(), digest.clone());
        let blob = task::blocking(move || files.blob(&name)).await?;
        if blob.at_once && blob.size == held.size {
            self.keep(digest, blob.clone());
            // It was taken out although it is held: it was found wrong meanwhile.
            if !index.has(digest) {
                self.forget(digest);
            }
        }
        Ok(blob)
    }

    /// A file that is open, still in its place, and as long as it was.
    fn find(&self, digest: &Digest) -> Option<Blob> {
        let blob = self.0.lock().get(digest).cloned()?;
        if fs::is_in_place(blob.file.file(), blob.size) {
            return Some(blob);
        }
        self.forget(digest);
        None
    }

    fn keep(&self, digest: &Digest, blob: Blob) {
        let mut open = self.0.lock();
        let least = (open.len() >= MOST && !open.contains_key(digest)).then(|| open.remove_lru()).flatten();
        let same = open.insert(digest.clone(), blob);
        drop(open);
        // Either may be the last one of its file: closed without the lock.
        drop((least, same));
    }

    /// Closes what was removed behind seawall's back, so that the disk has its room again.
    pub fn tidy(&self) {
        let all: Vec<(Digest, Blob)> =
            self.0.lock().iter().map(|(digest, blob)| (digest.clone(), blob.clone())).collect();
        for (digest, _) in all.iter().filter(|(_, blob)| !fs::is_in_place(blob.file.file(), blob.size)) {
            self.forget(digest);
        }
    }

    /// Closes a blob's file, as soon as its last reader is done.
    pub fn forget(&self, digest: &Digest) {
        let closed = self.0.lock().remove(digest);
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    fn put(dir: &std::path::Path, bytes: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        fs::replace(&dir.join("blobs/sha256").join(digest.hex()), 0o600, bytes).unwrap();
        digest
    }

    #[test]
    fn a_file_that_is_gone_or_changed_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (opened, digest) = (OpenFiles::default(), put(dir.path(), b"blob"));
        let path = dir.path().join("blobs/sha256").join(digest.hex());
        opened.keep(&digest, store.blob(&digest).unwrap());
        assert_eq!(opened.find(&digest).unwrap().size, 4);
        let file = fs::open_for_append(&path).unwrap();
        fs::truncate(&file, &path, 2).unwrap();
        assert!(opened.find(&digest).is_none(), "cut");
        assert!(opened.0.lock().is_empty(), "and closed");
        put(dir.path(), b"blob");
        opened.keep(&digest, store.blob(&digest).unwrap());
        store.remove(&digest).unwrap();
        assert!(opened.find(&digest).is_none(), "removed behind its back");
        put(dir.path(), b"blob");
        opened.keep(&digest, store.blob(&digest).unwrap());
        opened.tidy();
        assert_eq!(opened.0.lock().len(), 1);
        store.remove(&digest).unwrap();
        opened.tidy();
        assert!(opened.0.lock().is_empty(), "closed, though no request asks for it");
    }

    #[test]
    fn so_many_are_open_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let opened = OpenFiles::default();
        let all: Vec<Digest> = (0..=MOST).map(|n| put(dir.path(), n.to_string().as_bytes())).collect();
        let blobs: Vec<Blob> = all.iter().map(|digest| store.blob(digest).unwrap()).collect();
        all.iter().zip(&blobs).for_each(|(digest, blob)| opened.keep(digest, blob.clone()));
        assert!(opened.find(&all[0]).is_none() && opened.find(&all[1]).is_some());
        assert_eq!((blobs[0].file.users(), blobs[1].file.users()), (1, 2));
        opened.forget(&all[1]);
        assert_eq!(blobs[1].file.users(), 1, "closed: its room is free when the file goes");
    }
}
