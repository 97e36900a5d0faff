//! A close that loses nothing.
//!
//! A socket that is closed while bytes of its client are unread, or that gets some afterwards,
//! answers with RST, and the kernel throws away what it had still to send: the end of a download of
//! a client that reads slowly, or the answer to an upload that was refused half-way (RFC 9112
//! section 9.6). So the end is sent first (close_notify, FIN), and the client is read until it
//! hangs up too.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A client that sends nothing for this long after the end was sent has nothing more on its way.
const SILENCE: Duration = Duration::from_secs(2);
/// A client that sends on has this long to notice: below the shortest drain that makes sense,
/// beyond every round trip.
const LONGEST: Duration = Duration::from_secs(10);
/// As much as both kernels buffer for one connection, and more: a client that has not read the end
/// by then does not read.
const MOST: usize = 64 << 20;
/// Bytes that are read and dropped at once.
const PIECE: usize = 16 << 10;

/// A stream whose shutdown completes when the other side has hung up, or a little later.
#[derive(Debug)]
pub(crate) struct LingeringClose<T> {
    inner: T,
    farewell: Option<Farewell>,
}

/// The wait for the other side, after the end was sent.
#[derive(Debug)]
struct Farewell {
    until: Instant,
    silence: Pin<Box<Sleep>>,
    left: usize,
}

impl<T> LingeringClose<T> {
    pub(crate) fn new(inner: T) -> LingeringClose<T> {
        LingeringClose { inner, farewell: None }
    }

    pub(crate) fn into_inner(self) -> T {
        self.inner
    }
}

impl Farewell {
    fn new() -> Farewell {
        let now = Instant::now();
        Farewell { until: now + LONGEST, silence: Box::pin(tokio::time::sleep(SILENCE)), left: MOST }
    }

    /// Reads and drops bytes until the other side hangs up, is silent, or has sent too much.
    fn poll<T: AsyncRead + Unpin>(&mut self, inner: &mut T, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); PIECE];
        while self.left > 0 {
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *inner).poll_read(cx, &mut piece) {
                Poll::Pending => return self.silence.as_mut().poll(cx),
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.left = self.left.saturating_sub(piece.filled().len());
                    self.silence.as_mut().reset(self.until.min(Instant::now() + SILENCE));
                }
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for LingeringClose<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let LingeringClose { inner, farewell } = &mut *self;
        if farewell.is_none() {
            ready!(Pin::new(&mut *inner).poll_shutdown(cx))?;
        }
        farewell.get_or_insert_with(Farewell::new).poll(inner, cx).map(Ok)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::sleep;

    const ROOM: usize = 1 << 20;

    /// The end is said at once; tells how long it then took to let go.
    async fn let_go(client: impl AsyncFnOnce(DuplexStream)) -> Duration {
        let (near, mut far) = tokio::io::duplex(ROOM);
        let mut near = LingeringClose::new(near);
        let began = Instant::now();
        let closing = async {
            near.write_all(b"an answer").await.unwrap();
            near.shutdown().await.unwrap();
            began.elapsed()
        };
        let leaving = async {
            let mut text = String::new();
            far.read_to_string(&mut text).await.unwrap();
            assert_eq!((text.as_str(), began.elapsed()), ("an answer", Duration::ZERO));
            client(far).await;
        };
        tokio::join!(closing, leaving).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_hangs_up_is_not_waited_for() {
        assert_eq!(let_go(async |far| drop(far)).await, Duration::ZERO);
        let late = async |mut far: DuplexStream| {
            far.write_all(b"what was on its way").await.unwrap();
            sleep(SILENCE / 2).await;
        };
        assert_eq!(let_go(late).await, SILENCE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_keeps_silent_is_left_after_a_little() {
        let silent = async |far: DuplexStream| {
            sleep(LONGEST * 2).await;
            drop(far);
        };
        assert_eq!(let_go(silent).await.as_secs(), SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_on_is_left_in_the_end() {
        let talkative = async |mut far: DuplexStream| {
            for _ in 0..100 {
                sleep(SILENCE / 2).await;
                far.write_all(b".").await.unwrap();
            }
        };
        assert_eq!(let_go(talkative).await.as_secs(), LONGEST.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_without_end_is_left_at_once() {
        let (near, mut far) = tokio::io::duplex(ROOM);
        let mut near = LingeringClose::new(near);
        let flooding = async {
            let mut sent = 0;
            while far.write_all(&[0; PIECE]).await.is_ok() {
                sent += PIECE;
                tokio::task::yield_now().await;
                if sent > MOST + 2 * ROOM {
                    panic!("{sent} bytes were read");
                }
            }
        };
        let closing = async move { near.shutdown().await.unwrap() };
        let began = Instant::now();
        tokio::join!(closing, flooding);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
