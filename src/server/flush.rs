//! The frames that h2 writes, sent together.
//!
//! h2 writes and flushes frame by frame: 9 bytes of header and 16 KiB of data are two TLS records
//! and one `writev`. Here its frames gather until there are four whole records of them, or until
//! the connection's task has nothing more to do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::cache::chunk::{Alignment, CHUNK, Chunk};

/// A stream that gathers what is written to it, until it is flushed or a chunk is full.
pub(crate) struct Batched<T>(Arc<Mutex<Batch<T>>>);

/// Sends what a [`Batched`] stream has gathered.
pub(crate) struct FlushHandle<T>(Arc<Mutex<Batch<T>>>);

struct Batch<T> {
    inner: T,
    /// What was written and not sent: `gathered` bytes, of which `sent` are sent already.
    waiting: Option<Chunk>,
    sent: usize,
    gathered: usize,
    failed: Option<io::Error>,
}

impl<T> Batched<T> {
    pub(crate) fn new(inner: T) -> (Batched<T>, FlushHandle<T>) {
        let batch = Arc::new(Mutex::new(Batch { inner, waiting: None, sent: 0, gathered: 0, failed: None }));
        (Batched(batch.clone()), FlushHandle(batch))
    }
}

impl<T: AsyncWrite + Unpin> FlushHandle<T> {
    /// Sends as much as can be sent now; the task is woken when the rest can be. To be called after
    /// each poll of the writer.
    pub(crate) fn flush(&self, cx: &mut Context<'_>) {
        let mut batch = self.0.lock();
        if batch.failed.is_some() {
            return;
        }
        if let Poll::Ready(Err(error)) = batch.flush(cx) {
            // The writer gets it at its next call.
            batch.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncWrite + Unpin> Batch<T> {
    fn gather(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.gathered == CHUNK {
            ready!(self.send(cx))?;
        }
        let mut room = self.waiting.get_or_insert_with(|| Chunk::take(Alignment::Gathered)).room_after(self.gathered);
        let before = self.gathered;
        for buf in bufs {
            let (now, later) = room.split_at_mut(buf.len().min(room.len()));
            now.copy_from_slice(&buf[..now.len()]);
            self.gathered += now.len();
            room = later;
        }
        Poll::Ready(Ok(self.gathered - before))
    }

    /// Sends all that was gathered.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Batch { inner, waiting, sent, gathered, .. } = self;
        let Some(chunk) = waiting else { return Poll::Ready(Ok(())) };
        while sent < gathered {
            let written = ready!(Pin::new(&mut *inner).poll_write(cx, &chunk.upto(*gathered)[*sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += written;
        }
        (*sent, *gathered, *waiting) = (0, 0, None);
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Batched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().gather(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing, since h2 flushes after each frame. [`FlushHandle::flush`] does it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().failed.take().map_or(Poll::Ready(Ok(())), |error| Poll::Ready(Err(error)))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.lock();
        if let Some(error) = batch.failed.take() {
            return Poll::Ready(Err(error));
        }
        ready!(batch.send(cx))?;
        Pin::new(&mut batch.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const FRAME: usize = 9 + (16 << 10);

    /// Takes up to so many bytes at once, and `room` in all until it is given more.
    struct Wire {
        at_once: usize,
        room: usize,
        writes: Vec<usize>,
        bytes: Vec<u8>,
        ended: bool,
    }

    impl Wire {
        fn new(at_once: usize, room: usize) -> Wire {
            Wire { at_once, room, writes: Vec::new(), bytes: Vec::new(), ended: false }
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let n = buf.len().min(self.at_once).min(self.room);
            if n == 0 {
                return Poll::Pending;
            }
            self.room -= n;
            self.writes.push(n);
            self.bytes.extend_from_slice(&buf[..n]);
            Poll::Ready(Ok(n))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.ended = true;
            Poll::Ready(Ok(()))
        }
    }

    fn frames(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| (0..FRAME).map(|i| (n * 31 + i * 7 + i / 251) as u8).collect()).collect()
    }

    /// As h2 does it: each frame in two pieces, flushed. Tells whether all could be written.
    fn write(stream: &mut Batched<Wire>, frames: &[Vec<u8>], cx: &mut Context<'_>) -> bool {
        for frame in frames {
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                let (head, data) = rest.split_at(rest.len().min(9));
                let bufs = [IoSlice::new(head), IoSlice::new(data)];
                match Pin::new(&mut *stream).poll_write_vectored(cx, &bufs) {
                    Poll::Ready(Ok(n)) => rest = &rest[n..],
                    Poll::Ready(Err(error)) => panic!("{error}"),
                    Poll::Pending => return false,
                }
            }
            assert!(Pin::new(&mut *stream).poll_flush(cx).is_ready());
        }
        true
    }

    #[test]
    fn frames_leave_in_whole_records_and_what_is_left_when_the_task_has_nothing_more_to_do() {
        let (mut stream, output) = Batched::new(Wire::new(usize::MAX, usize::MAX));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let frames = frames(8);
        assert!(write(&mut stream, &frames[..3], cx));
        assert!(output.0.lock().inner.writes.is_empty(), "nothing is flushed by frames");
        assert!(write(&mut stream, &frames[3..], cx));
        assert_eq!(output.0.lock().inner.writes, [CHUNK, CHUNK]);
        output.flush(cx);
        let wire = &output.0.lock().inner;
        assert_eq!(wire.writes, [CHUNK, CHUNK, 8 * FRAME - 2 * CHUNK]);
        assert!(wire.bytes == frames.concat(), "the bytes are those that were written");
    }

    #[test]
    fn a_wire_that_takes_little_gets_every_byte_once() {
        for (at_once, room) in [(1000, 5000), (FRAME, 40_000), (7, 70_007), (CHUNK, CHUNK)] {
            let (mut stream, output) = Batched::new(Wire::new(at_once, 0));
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let frames = frames(6);
            let mut waits = 0;
            for frame in &frames {
                // A frame that was written in part would be begun again by this test: each fits, or
                // nothing of it does.
                while output.0.lock().gathered + FRAME > CHUNK {
                    output.0.lock().inner.room += room;
                    output.flush(cx);
                    waits += 1;
                }
                assert!(write(&mut stream, std::slice::from_ref(frame), cx));
            }
            while output.0.lock().gathered > 0 {
                output.0.lock().inner.room += room;
                output.flush(cx);
                waits += 1;
            }
            assert!(waits > 1, "it never waited");
            assert!(output.0.lock().inner.bytes == frames.concat(), "{at_once} at once, {room} at a time");
        }
    }

    #[test]
    fn who_writes_waits_while_the_wire_is_full() {
        let (mut stream, output) = Batched::new(Wire::new(usize::MAX, 0));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(!write(&mut stream, &frames(5), cx));
        assert_eq!(output.0.lock().gathered, CHUNK, "no more is kept than one chunk");
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_gathered() {
        let (mut stream, output) = Batched::new(Wire::new(usize::MAX, usize::MAX));
        stream.write_all(b"goodbye").await.unwrap();
        std::future::poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await.unwrap();
        let wire = &output.0.lock().inner;
        assert_eq!((wire.bytes.as_slice(), wire.ended), (b"goodbye".as_slice(), true));
    }

    #[tokio::test]
    async fn an_error_is_told_to_who_writes_next() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        let (mut stream, output) = Batched::new(near);
        stream.write_all(b"unread").await.unwrap();
        output.flush(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    /// A task that neither writes nor flushes must not be woken for ever.
    #[tokio::test]
    async fn an_error_wakes_once_and_ends_a_shutdown() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        let (mut stream, output) = Batched::new(near);
        stream.write_all(b"unread").await.unwrap();
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(woken.clone());
        let cx = &mut Context::from_waker(&waker);
        (0..3).for_each(|_| output.flush(cx));
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(matches!(Pin::new(&mut stream).poll_shutdown(cx), Poll::Ready(Err(_))));
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn what_comes_is_read() {
        let (near, mut far) = tokio::io::duplex(10);
        let (mut stream, _output) = Batched::new(near);
        far.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }
}
