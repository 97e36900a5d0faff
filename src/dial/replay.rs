//! A stream of which bytes were read ahead, and are read again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that is read from bytes that were read of it already, then from itself.
#[derive(Debug)]
pub struct Replay<T> {
    ahead: Bytes,
    inner: T,
}

impl<T> Replay<T> {
    /// `inner`, of which `ahead` was read already.
    pub fn new(ahead: Bytes, inner: T) -> Replay<T> {
        Replay { ahead, inner }
    }

    /// The stream.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The bytes that were not read again, and the stream.
    pub fn into_parts(self) -> (Bytes, T) {
        (self.ahead, self.inner)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Replay<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // Lets go of the buffer it was cut from.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replay<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_read_ahead_come_first_and_writes_pass() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut replay = Replay::new(Bytes::from_static(b"hello "), near);
        far.write_all(b"world").await.unwrap();
        let mut text = [0; 11];
        replay.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello world");
        replay.write_all(b"back").await.unwrap();
        let mut text = [0; 4];
        far.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"back");
        assert!(replay.into_parts().0.is_empty());
    }

    #[tokio::test]
    async fn what_was_not_read_again_is_handed_on() {
        let (near, _far) = tokio::io::duplex(64);
        let mut replay = Replay::new(Bytes::from_static(b"hello"), near);
        let mut text = [0; 2];
        replay.read_exact(&mut text).await.unwrap();
        assert_eq!(&replay.into_parts().0[..], b"llo");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_wherever_the_cut_is(bytes: Vec<u8>, cut: usize) {
            let cut = cut % (bytes.len() + 1);
            let (ahead, rest) = bytes.split_at(cut);
            let read = futures_util::FutureExt::now_or_never(async {
                let mut all = Vec::new();
                Replay::new(Bytes::copy_from_slice(ahead), rest).read_to_end(&mut all).await.unwrap();
                all
            });
            prop_assert_eq!(read.unwrap(), bytes);
        }
    }
}
