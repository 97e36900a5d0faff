//! Parts of files that go to a socket by sendfile(2), behind bytes that represent them.
//!
//! An HTTP library wants bytes, and the kernel copies what is in the page cache to a socket by
//! itself, or does not copy it at all. So a body [posts](Outbox::post) a part of a file and gives
//! the library bytes that represent it, from an address that nothing else has; the socket below the
//! library knows them by it, and sends the part instead.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::warn;

use super::{is_cached, read_at};

/// Bytes of one part at most.
pub const MOST: usize = 512 << 10;

/// Bytes that are read at a time where the page cache has them not.
const STEP: usize = 64 << 10;

/// Never read nor written, so the kernel has no memory for it.
static STAND_IN: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; MOST]));

/// The parts that one connection has still to send, in order. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Outbox(Arc<Mutex<VecDeque<Part>>>);

/// What keeps a file in its place while it is sent.
pub type Hold = Arc<dyn Any + Send + Sync>;

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    _hold: Hold,
    at: u64,
    len: usize,
    sent: usize,
}

impl Outbox {
    /// Stands for `len` bytes of `file` from `at`, at most [`MOST`]. They must be written to the
    /// socket of this outbox, and to no other; and the file must not change any more: until a
    /// client has acknowledged it, it is sent what is in the file then.
    pub fn post(&self, file: Arc<File>, at: u64, len: usize, hold: Hold) -> Bytes {
        let stand_in = STAND_IN.slice(..len.min(MOST));
        self.0.lock().push_back(Part { file, _hold: hold, at, len: stand_in.len(), sent: 0 });
        stand_in
    }

    /// What is left of the next part, if it is not in the page cache any more: a client that reads
    /// slowly has it wait here.
    pub fn uncached(&self) -> Option<Uncached> {
        let parts = self.0.lock();
        let part = parts.front()?;
        let (at, len) = (part.at + part.sent as u64, part.len - part.sent);
        (!is_cached(&part.file, at, len)).then(|| Uncached { file: part.file.clone(), at, len })
    }

    /// Sends of the part that `stand_in` represents what `socket` takes now.
    ///
    /// # Errors
    /// The socket's; the file is shorter; these bytes represent nothing that is next.
    pub fn send(&self, socket: impl AsFd, stand_in: &[u8]) -> io::Result<usize> {
        let mut parts = self.0.lock();
        let Some(part) = parts.front_mut().filter(|part| offset(stand_in) == Some(part.sent)) else {
            warn!("a part of a file was to be sent out of turn: the connection ends");
            return Err(io::Error::other("a part of a file was to be sent out of turn"));
        };
        let left = (part.len - part.sent).min(stand_in.len());
        let mut at = part.at + part.sent as u64;
        let sent = rustix::fs::sendfile(socket, &part.file, Some(&mut at), left)?;
        if sent == 0 {
            warn!(at, "a cached file is shorter than it should be: the connection ends");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cached file is shorter than it should be"));
        }
        part.sent += sent;
        if part.sent == part.len {
            parts.pop_front();
        }
        Ok(sent)
    }
}

/// A part that must be read from the disk first.
#[derive(Debug)]
pub struct Uncached {
    file: Arc<File>,
    at: u64,
    len: usize,
}

impl Uncached {
    /// Reads it, so that the page cache has it. Waits for the disk; what is wrong with the file is
    /// found when it is sent.
    pub fn read(self) {
        let (mut step, mut at) = (vec![0; STEP], self.at);
        let end = self.at + self.len as u64;
        while at < end && read_at(&self.file, &mut step, at).is_ok_and(|n| n == STEP) {
            at += STEP as u64;
        }
    }
}

/// Whether these bytes represent a part of a file.
pub fn is_stand_in(bytes: &[u8]) -> bool {
    offset(bytes).is_some()
}

/// Where in the bytes that represent parts these are.
fn offset(bytes: &[u8]) -> Option<usize> {
    let offset = bytes.as_ptr().addr().checked_sub(STAND_IN.as_ptr().addr())?;
    (offset < MOST).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    fn file(text: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Arc::new(file)
    }

    fn read(mut socket: &UnixStream, count: usize) -> Vec<u8> {
        let mut read = vec![0; count];
        socket.read_exact(&mut read).unwrap();
        read
    }

    #[test]
    fn parts_go_in_order_and_in_pieces() {
        let (near, far) = UnixStream::pair().unwrap();
        let (outbox, file) = (Outbox::default(), file(b"0123456789"));
        let first = outbox.post(file.clone(), 2, 4, Arc::new(()));
        let second = outbox.post(file, 8, 2, Arc::new(()));
        assert_eq!(outbox.send(&near, &first[..3]).unwrap(), 3);
        assert_eq!(outbox.send(&near, &first[3..]).unwrap(), 1);
        assert_eq!(outbox.send(&near, &second).unwrap(), 2);
        assert_eq!(read(&far, 6), b"234589");
        assert!(outbox.0.lock().is_empty());
    }

    #[test]
    fn what_stands_for_nothing_that_is_next_is_never_sent() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (outbox, file) = (Outbox::default(), file(b"0123456789"));
        let posted = outbox.post(file.clone(), 0, 10, Arc::new(()));
        for wrong in [&posted[1..], b"0123456789".as_slice()] {
            assert_eq!(outbox.send(&near, wrong).unwrap_err().kind(), io::ErrorKind::Other);
        }
        assert!(Outbox::default().send(&near, &posted).is_err(), "another connection's");
        assert!(is_stand_in(&posted[5..]) && !is_stand_in(b"0123456789"));
    }

    #[test]
    fn a_file_is_held_until_its_part_is_sent() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (outbox, hold) = (Outbox::default(), Arc::new("held"));
        let posted = outbox.post(file(b"0123456789"), 0, 10, hold.clone());
        outbox.send(&near, &posted[..4]).unwrap();
        assert_eq!(Arc::strong_count(&hold), 2);
        outbox.send(&near, &posted[4..]).unwrap();
        assert_eq!(Arc::strong_count(&hold), 1);
    }

    #[test]
    fn what_is_cached_need_not_be_read_first() {
        let outbox = Outbox::default();
        assert!(outbox.uncached().is_none());
        let file = file(b"0123456789");
        let _posted = outbox.post(file.clone(), 0, 10, Arc::new(()));
        assert!(outbox.uncached().is_none());
        // As what is not in the page cache: its last byte cannot be had at once.
        let outbox = Outbox::default();
        let _beyond = outbox.post(file, 8, 10, Arc::new(()));
        outbox.uncached().unwrap().read();
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (outbox, file) = (Outbox::default(), file(b"0123"));
        let posted = outbox.post(file, 4, 2, Arc::new(()));
        assert_eq!(outbox.send(&near, &posted).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_socket_that_is_full_takes_the_rest_later() {
        const PARTS: usize = 8;
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let text: Vec<u8> = (0..PARTS * MOST).map(|i| (i / 7) as u8).collect();
        let (outbox, file) = (Outbox::default(), file(&text));
        let posted = (0..PARTS).map(|n| outbox.post(file.clone(), (n * MOST) as u64, MOST, Arc::new(())));
        let (mut sent, mut got, mut waited) = (0, Vec::new(), 0);
        for mut left in posted.collect::<Vec<_>>() {
            while !left.is_empty() {
                match outbox.send(&near, &left) {
                    Ok(n) => {
                        sent += n;
                        left = left.slice(n..);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        waited += 1;
                        got.extend(read(&far, sent - got.len()));
                    }
                }
            }
        }
        got.extend(read(&far, sent - got.len()));
        assert!(waited > 0 && got == text);
    }
}
