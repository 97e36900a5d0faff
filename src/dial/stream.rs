//! The result of dialling: a connection straight to the host, or through the parent proxy.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::replay::Replay;

/// A connection to a host. What the host sent right behind the parent proxy's answer is read first.
pub type Stream = Replay<Io>;

/// The connection beneath.
#[derive(Debug)]
pub enum Io {
    /// To the host itself, or to a parent proxy in the clear.
    Tcp(TcpStream),
    /// To the parent proxy, that is: what is inside may be TLS again.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Replay::new(Bytes::new(), Io::Tcp(tcp))
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(tls: TlsStream<TcpStream>) -> Stream {
        Replay::new(Bytes::new(), Io::Tls(Box::new(tls)))
    }
}

impl Stream {
    /// The same connection, of which these bytes were read already.
    pub(crate) fn with_early(self, early: Bytes) -> Stream {
        Replay::new(early, self.into_parts().1)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        // Not `proxy(true)`, which is for requests in absolute-form: a tunnel is a connection to
        // the host itself.
        Connected::new().extra(Answered::default())
    }
}

/// Whether an answer came over a connection. All that is known of the connection shares one.
#[derive(Clone, Debug, Default)]
pub struct Answered(Arc<AtomicBool>);

impl Answered {
    /// An answer came.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one came before.
    pub fn has_answered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Io {
    fn pinned(&mut self) -> Pin<&mut (dyn Both + '_)> {
        match self {
            Io::Tcp(tcp) => Pin::new(tcp),
            Io::Tls(tls) => Pin::new(tls),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Tcp(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_came_early_is_read_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut stream = Stream::from(near).with_early(Bytes::from_static(b"SSH-2.0-"));
        far.write_all(b"x").await.unwrap();
        let mut three = [0; 3];
        stream.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"SSH");
        let mut rest = [0; 6];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"-2.0-x");
        stream.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }
}
