//! A stream that tells when something moves on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Learns of the traffic on a [`Watched`] stream.
pub(crate) trait Observer {
    /// A read gave this.
    fn read(&self, read: &Poll<io::Result<()>>);
    /// A write gave this.
    fn wrote(&self, written: &Poll<io::Result<usize>>);
    /// A flush gave this.
    fn flushed(&self, flushed: &Poll<io::Result<()>>);
}

/// A stream, and the observer of its traffic.
#[derive(Debug)]
pub(crate) struct Watched<T, O> {
    inner: T,
    observer: Arc<O>,
}

impl<T, O> Watched<T, O> {
    pub(crate) fn new(inner: T, observer: Arc<O>) -> Watched<T, O> {
        Watched { inner, observer }
    }

    pub(crate) fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: AsyncRead + Unpin, O: Observer> AsyncRead for Watched<T, O> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.observer.read(&read);
        read
    }
}

impl<T: AsyncWrite + Unpin, O: Observer> AsyncWrite for Watched<T, O> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.observer.wrote(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.observer.flushed(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.observer.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The time when something last moved.
#[derive(Debug)]
pub(crate) struct LastMoved {
    start: Instant,
    /// Milliseconds since the start.
    millis: AtomicU64,
}

impl LastMoved {
    /// It moved just now.
    pub(crate) fn new() -> LastMoved {
        LastMoved { start: Instant::now(), millis: AtomicU64::new(0) }
    }

    /// The time since this was made.
    pub(crate) fn since_start(&self) -> Duration {
        self.start.elapsed()
    }

    /// Something moves now.
    pub(crate) fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// How long until nothing has moved for `idle`; `None` if that is so already.
    pub(crate) fn rest(&self, idle: Duration) -> Option<Duration> {
        let until = self.start + Duration::from_millis(self.millis.load(Ordering::Relaxed)) + idle;
        Some(until.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// Resolves when nothing has moved for `idle`.
    pub(crate) async fn silence(&self, idle: Duration) {
        while let Some(rest) = self.rest(idle) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Any traffic is movement.
impl Observer for LastMoved {
    fn read(&self, read: &Poll<io::Result<()>>) {
        if read.is_ready() {
            self.touch();
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if written.is_ready() {
            self.touch();
        }
    }

    fn flushed(&self, _: &Poll<io::Result<()>>) {}
}
