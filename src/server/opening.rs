//! The opening of a connection: read until its first bytes tell what it is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use tokio::io::AsyncReadExt;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::linger::LingeringClose;
use super::sniff::{Hello, HelloError, HelloReader, Sniff, sniff};
use super::transport::{Socket, Transport};
use crate::dial::replay::Replay;

/// What a connection opened with.
pub(crate) enum Opening {
    /// An HTTP request.
    Http(Socket),
    /// A ClientHello.
    Tls(Box<Greeting>),
}

/// A connection whose ClientHello was read.
pub(crate) struct Greeting {
    hello: Hello,
    seen: Bytes,
    socket: Transport,
}

/// Why the opening of a connection could not be read.
#[derive(Debug)]
pub(crate) enum OpeningError {
    /// Too little came for too long.
    Slow,
    /// It closed before it had sent anything complete: a health check, a scanner, a connection
    /// opened ahead of need.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// Neither HTTP nor TLS.
    Garbage,
    /// TLS, but no ClientHello that can be read.
    Hello(String),
}

impl fmt::Display for OpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpeningError::Slow => f.write_str("its first bytes took too long"),
            OpeningError::Closed => f.write_str("it closed before it said anything complete"),
            OpeningError::Io(error) => write!(f, "{error}"),
            OpeningError::Garbage => f.write_str("neither HTTP nor TLS"),
            OpeningError::Hello(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for OpeningError {}

/// Reads on from `ahead` until the opening is known. The bytes are kept.
///
/// # Errors
/// After `patience` in any case. Bad TLS was answered with an alert.
pub(crate) async fn opening(socket: Transport, ahead: Bytes, patience: Duration) -> Result<Opening, OpeningError> {
    tokio::time::timeout(patience, read_opening(socket, ahead)).await.unwrap_or(Err(OpeningError::Slow))
}

async fn read_opening(mut socket: Transport, ahead: Bytes) -> Result<Opening, OpeningError> {
    let mut seen = BytesMut::from(ahead);
    loop {
        match sniff(&seen) {
            Sniff::Http => return Ok(Opening::Http(Replay::new(seen.freeze(), socket))),
            Sniff::Tls => return read_hello(socket, seen).await.map(|greeting| Opening::Tls(Box::new(greeting))),
            Sniff::Garbage => return Err(OpeningError::Garbage),
            Sniff::More => read_more(&mut socket, &mut seen).await?,
        }
    }
}

/// Reads a ClientHello of which this was seen.
///
/// # Errors
/// After `patience` in any case. Bad TLS was answered with an alert.
pub(crate) async fn greeting(socket: Transport, seen: BytesMut, patience: Duration) -> Result<Greeting, OpeningError> {
    tokio::time::timeout(patience, read_hello(socket, seen)).await.unwrap_or(Err(OpeningError::Slow))
}

async fn read_hello(mut socket: Transport, mut seen: BytesMut) -> Result<Greeting, OpeningError> {
    let mut reader = HelloReader::new();
    loop {
        match reader.read(&seen) {
            Ok(Some(hello)) => return Ok(Greeting { hello, seen: seen.freeze(), socket }),
            Ok(None) => read_more(&mut socket, &mut seen).await?,
            Err(failed) => return Err(send_alert(socket, failed).await),
        }
    }
}

async fn read_more(socket: &mut Transport, seen: &mut BytesMut) -> Result<(), OpeningError> {
    match socket.read_buf(seen).await {
        Ok(0) => Err(OpeningError::Closed),
        Ok(_) => Ok(()),
        Err(error) => Err(OpeningError::Io(error)),
    }
}

async fn send_alert(socket: Transport, failed: HelloError) -> OpeningError {
    send_last(socket, &failed.alert).await;
    OpeningError::Hello(failed.to_string())
}

/// Sends some last bytes and hangs up. A client that has left already does not get them.
pub(crate) async fn send_last(socket: Transport, bytes: &[u8]) {
    use tokio::io::AsyncWriteExt;
    let mut socket = LingeringClose::new(socket);
    let _ = socket.write_all(bytes).await;
    let _ = socket.shutdown().await;
}

/// A fatal alert (RFC 8446 6.2), for a client whose handshake ends here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Alert {
    /// Policy forbids it.
    AccessDenied = 49,
    /// The host could not be reached, or there is no leaf for it.
    InternalError = 80,
    /// The host is unknown here.
    UnrecognizedName = 112,
}

impl Greeting {
    /// The ClientHello, read.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The ClientHello as it was sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.seen[..self.hello.consumed.min(self.seen.len())]
    }

    /// The connection as if nothing had been read of it.
    pub(crate) fn into_unread(self) -> Socket {
        Replay::new(self.seen, self.socket)
    }

    /// Finishes the handshake as the host of `config`.
    ///
    /// # Errors
    /// The client does not trust the root, has no protocol version or cipher in common, or leaves.
    pub(crate) async fn accept(self, config: Arc<ServerConfig>) -> io::Result<TlsStream<Socket>> {
        let rest = Replay::new(self.seen.slice(self.hello.consumed..), self.socket);
        StartHandshake::from_parts(self.hello.accepted, rest).into_stream(config).await
    }

    /// Ends the handshake with an alert.
    pub(crate) async fn reject(self, alert: Alert) {
        send_last(self.socket, &[0x15, 3, 3, 0, 2, 2, alert as u8]).await;
    }
}
