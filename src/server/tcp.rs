//! A TCP connection that sends parts of files by sendfile(2).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::fs::{Outbox, is_stand_in};
use crate::task;

/// A client's connection, and the parts of files that it has still to send.
pub(crate) struct Tcp {
    stream: TcpStream,
    outbox: Outbox,
    warming: Option<BoxFuture<'static, ()>>,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("stream", &self.stream).field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream) -> Tcp {
        Tcp { stream, outbox: Outbox::default(), warming: None }
    }

    /// Where bodies that are written to this connection in the clear may post parts of files.
    pub(crate) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Sends a part of a file from the page cache: if it must be read first, a thread waits for the
    /// disk.
    fn poll_part(&mut self, cx: &mut Context<'_>, stand_in: &[u8]) -> Poll<io::Result<usize>> {
        if self.warming.is_none()
            && let Some(uncached) = self.outbox.uncached()
        {
            self.warming = Some(task::blocking(|| uncached.read()).boxed());
        }
        if let Some(warming) = &mut self.warming {
            ready!(warming.poll_unpin(cx));
            self.warming = None;
        }
        self.poll_send(cx, || self.outbox.send(&self.stream, stand_in))
    }

    fn poll_send(&self, cx: &mut Context<'_>, mut send: impl FnMut() -> io::Result<usize>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, &mut send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match bufs.iter().position(|buf| is_stand_in(buf)) {
            None => Pin::new(&mut this.stream).poll_write_vectored(cx, bufs),
            Some(0) => this.poll_part(cx, &bufs[0]),
            // A response's head: its body follows in the same segment.
            Some(_) => this.poll_send(cx, || Ok(send(&this.stream, &bufs[0], SendFlags::MORE | SendFlags::NOSIGNAL)?)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
