//! One accepted connection, metered: a body that is to break off must know that what it gave has left.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// What a connection's bodies and its socket tell each other.
#[derive(Default)]
pub(crate) struct Wire {
    flushes: AtomicU64,
    /// Payload of h2 DATA frames written so far.
    data: AtomicU64,
    /// h2 HEADERS frames written so far.
    heads: AtomicU64,
    /// Answers, and bytes of their bodies, given to the HTTP server.
    answers: AtomicU64,
    given: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

/// When everything a body gave so far has left.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// h1: connection and body are one task; the flush after the body said Pending is the one that carries it.
    Flushed(u64),
    /// h2: the body's task is not the connection's, so count frames: heads and bytes.
    Frames { heads: u64, data: u64, idle: Idle },
}

/// A stream that the client reset leaves the counts short for ever: a connection on which nothing moves has sent all.
#[derive(Clone, Copy)]
pub(crate) struct Idle {
    data: u64,
    looks: u32,
}

const IDLE_LOOKS: u32 = 1000;

impl Wire {
    pub(crate) fn gave(&self, bytes: usize) {
        self.given.fetch_add(bytes as u64, SeqCst);
    }

    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, SeqCst);
    }

    pub(crate) fn mark(&self, version: http::Version) -> Mark {
        match version {
            http::Version::HTTP_2 => Mark::Frames {
                heads: self.answers.load(SeqCst),
                data: self.given.load(SeqCst),
                idle: Idle { data: 0, looks: 0 },
            },
            _ => Mark::Flushed(self.flushes.load(SeqCst) + 1),
        }
    }

    pub(crate) fn poll_past(&self, mark: &mut Mark, cx: &mut Context<'_>) -> Poll<()> {
        let past = match mark {
            Mark::Flushed(n) => {
                // Registered first: a flush between the registration and the look would wake nobody.
                self.wakers.lock().push(cx.waker().clone());
                self.flushes.load(SeqCst) >= *n
            }
            Mark::Frames { heads, data, idle } => {
                let sent = self.data.load(SeqCst);
                let looks = if idle.data == sent { idle.looks + 1 } else { 0 };
                *idle = Idle { data: sent, looks };
                cx.waker().wake_by_ref();
                (sent >= *data && self.heads.load(SeqCst) >= *heads) || looks > IDLE_LOOKS
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
    pub(crate) news: News,
}

/// The socket under the HTTP server.
pub(crate) struct Metered<S> {
    io: S,
    wire: Arc<Wire>,
    frames: Frames,
}

impl<S> Metered<S> {
    pub(crate) fn new(io: S, wire: Arc<Wire>) -> Metered<S> {
        Metered { io, wire, frames: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        let (heads, payload) = self.frames.sent_in(&buf[..written]);
        self.wire.heads.fetch_add(heads, SeqCst);
        self.wire.data.fetch_add(payload, SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.wire.flushes.fetch_add(1, SeqCst);
        self.wire.wake();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Reads the frame headers of what an h2 server writes (RFC 9113 4.1). On h1 it counts nonsense that nobody looks at.
#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    left: usize,
}

impl Frames {
    /// How many HEADERS frames began, how many bytes were DATA.
    fn sent_in(&mut self, mut written: &[u8]) -> (u64, u64) {
        let (mut heads, mut data) = (0, 0);
        while !written.is_empty() {
            if self.left > 0 {
                let n = self.left.min(written.len());
                self.left -= n;
                written = &written[n..];
                if self.header[3] == 0 {
                    data += n as u64;
                }
                continue;
            }
            if self.header.len() == 9 {
                self.header.clear();
            }
            let n = (9 - self.header.len()).min(written.len());
            self.header.extend_from_slice(&written[..n]);
            written = &written[n..];
            if self.header.len() == 9 {
                self.left = u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize;
                heads += u64::from(self.header[3] == 1);
            }
        }
        (heads, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_split() {
        let mut stream = vec![0, 0, 2, 4, 0, 0, 0, 0, 0, 9, 9];
        stream.extend([0, 0, 3, 0, 0, 0, 0, 0, 1, 7, 7, 7]);
        stream.extend([0, 0, 0, 1, 5, 0, 0, 0, 1]);
        for step in 1..stream.len() {
            let mut frames = Frames::default();
            let sums = stream.chunks(step).map(|part| frames.sent_in(part)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            assert_eq!(sums, (1, 3), "in steps of {step}");
        }
    }
}
