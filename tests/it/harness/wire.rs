//! One accepted connection, metered: a body that is to break off must know that what it gave has
//! left.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// What a connection's bodies and its socket tell each other.
#[derive(Default)]
pub(crate) struct Wire {
    flushes: AtomicU64,
    streams: Mutex<Streams>,
    wakers: Mutex<Vec<Waker>>,
}

#[derive(Default)]
struct Streams {
    /// Opened by the client, not yet given to the service.
    opened: VecDeque<u32>,
    last: u32,
    /// What was written on each: HEADERS frames, bytes of DATA.
    written: HashMap<u32, (u64, u64)>,
}

/// When everything a body gave has left.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// h1: connection and body are one task; the flush after the body said Pending is the one that
    /// carries it.
    Flushed(u64),
    /// h2: the body's task is not the connection's, so look for the frames: a head, and that many
    /// bytes.
    Written { stream: u32, data: u64 },
}

impl Wire {
    /// The stream of the request that the service is given now. hyper gives them in the order in
    /// which they came.
    pub(crate) fn accept(&self, version: http::Version) -> Option<u32> {
        (version == http::Version::HTTP_2).then(|| self.streams.lock().opened.pop_front().expect("it came in"))
    }

    /// For a body that has given so many bytes and is now asked for more.
    pub(crate) fn mark(&self, stream: Option<u32>, data: u64) -> Mark {
        match stream {
            Some(stream) => Mark::Written { stream, data },
            None => Mark::Flushed(self.flushes.load(SeqCst) + 1),
        }
    }

    pub(crate) fn poll_past(&self, mark: Mark, cx: &mut Context<'_>) -> Poll<()> {
        // Registered first: news between the registration and the look would wake nobody.
        self.wakers.lock().push(cx.waker().clone());
        let past = match mark {
            Mark::Flushed(n) => self.flushes.load(SeqCst) >= n,
            Mark::Written { stream, data } => {
                self.streams.lock().written.get(&stream).is_some_and(|written| written.0 > 0 && written.1 >= data)
            }
        };
        if past { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Tells a waiting test that something happened; it looks for itself what.
#[derive(Clone)]
pub(crate) struct News(Arc<watch::Sender<()>>);

impl News {
    pub(crate) fn new() -> News {
        News(Arc::new(watch::Sender::new(())))
    }

    pub(crate) fn tell(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// What an answer leaves by.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) wire: Arc<Wire>,
    /// None on h1.
    pub(crate) stream: Option<u32>,
    pub(crate) news: News,
}

/// The socket under the HTTP server.
pub(crate) struct Metered<S> {
    io: S,
    wire: Arc<Wire>,
    inbound: Frames,
    outbound: Frames,
}

impl<S> Metered<S> {
    pub(crate) fn new(io: S, wire: Arc<Wire>) -> Metered<S> {
        Metered { io, wire, inbound: Frames::after(PREFACE), outbound: Frames::after(0) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let this = &mut *self;
        let streams = &mut *this.wire.streams.lock();
        this.inbound.read(&buf.filled()[before..], |frame| {
            if frame.kind == HEADERS && frame.stream > streams.last {
                streams.last = frame.stream;
                streams.opened.push_back(frame.stream);
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        let this = &mut *self;
        let streams = &mut *this.wire.streams.lock();
        this.outbound.read(&buf[..written], |frame| {
            let (heads, data) = streams.written.entry(frame.stream).or_default();
            match frame.kind {
                HEADERS if frame.payload == 0 => *heads += 1,
                DATA => *data += frame.payload,
                _ => {}
            }
        });
        this.wire.wake();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.wire.flushes.fetch_add(1, SeqCst);
        self.wire.wake();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The client's first bytes, before any frame (RFC 9113 3.4).
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Reads frame headers (RFC 9113 4.1) out of one direction of an h2 connection. On h1 it reads
/// nonsense that nobody asks for.
struct Frames {
    header: Vec<u8>,
    /// Bytes to the next header.
    left: usize,
}

/// A frame's header (payload 0), then each piece of its payload.
struct Piece {
    kind: u8,
    stream: u32,
    payload: u64,
}

impl Frames {
    fn after(left: usize) -> Frames {
        Frames { header: Vec::new(), left }
    }

    fn read(&mut self, mut bytes: &[u8], mut piece: impl FnMut(Piece)) {
        while !bytes.is_empty() {
            if self.left == 0 {
                if self.header.len() == 9 {
                    self.header.clear();
                }
                let n = (9 - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                if self.header.len() == 9 {
                    self.left = u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize;
                    self.tell(0, &mut piece);
                }
                continue;
            }
            let n = self.left.min(bytes.len());
            self.left -= n;
            bytes = &bytes[n..];
            if self.header.len() == 9 {
                self.tell(n as u64, &mut piece);
            }
        }
    }

    fn tell(&self, payload: u64, piece: &mut impl FnMut(Piece)) {
        let stream = u32::from_be_bytes([self.header[5] & 0x7f, self.header[6], self.header[7], self.header[8]]);
        piece(Piece { kind: self.header[3], stream, payload });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_split() {
        let mut bytes = vec![b'P'; PREFACE];
        bytes.extend([0, 0, 2, 4, 0, 0, 0, 0, 0, 9, 9]);
        bytes.extend([0, 0, 3, 0, 0, 0, 0, 0, 5, 7, 7, 7]);
        bytes.extend([0, 0, 0, 1, 5, 0x80, 0, 1, 1]);
        for step in 1..bytes.len() {
            let mut frames = Frames::after(PREFACE);
            let mut told = Vec::new();
            for part in bytes.chunks(step) {
                frames.read(part, |piece| told.push((piece.kind, piece.stream, piece.payload)));
            }
            let data: u64 = told.iter().filter(|piece| piece.0 == DATA && piece.1 == 5).map(|piece| piece.2).sum();
            assert_eq!((data, told.last()), (3, Some(&(HEADERS, 257, 0))), "in steps of {step}");
        }
    }
}
