//! The parent proxy: in some companies the only way from this machine to the registries.
//!
//! 1. The dialler connects to the parent, over TLS if that is how it is spoken to.
//! 2. The parent is asked for the host: CONNECT (RFC 9110 9.3.6), in plain HTTP's case as well, or
//!    SOCKS 5 (RFC 1928, 1929).
//! 3. From there on the connection is the host's.
//!
//! CONNECT is hyper's own client: hyper-util's `Tunnel` loses the status text, and what the host
//! says at once.

use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;
use zeroize::Zeroizing;

use super::error::ParentError;
use super::stream::Stream;
use super::tls::{TlsError, tls_config};
use crate::http::origin::Host;
use crate::http::via::Pseudonym;
use crate::policy::no_proxy::NoProxy;

/// A parent proxy, and the hosts that it is not asked for.
#[derive(Clone, Debug)]
pub struct Parent {
    /// The protocol that it is asked by.
    pub protocol: Protocol,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What seawall authenticates with, if it has to.
    pub credentials: Option<Credentials>,
    /// Hosts that are dialled without it.
    pub no_proxy: NoProxy,
}

impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The protocol of a parent proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http://`: CONNECT.
    Http,
    /// `https://`: CONNECT within TLS.
    Https,
    /// `socks5://`: names are resolved here, as curl does.
    Socks5,
    /// `socks5h://`: the parent resolves names.
    Socks5h,
}

impl Protocol {
    /// All of them, by the scheme of a URL.
    pub const ALL: [(&str, Protocol); 4] = [
        ("http", Protocol::Http),
        ("https", Protocol::Https),
        ("socks5", Protocol::Socks5),
        ("socks5h", Protocol::Socks5h),
    ];

    /// The port where none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Protocol::Http => 80,
            Protocol::Https => 443,
            Protocol::Socks5 | Protocol::Socks5h => 1080,
        }
    }

    /// Whether names are resolved here, so that the guard sees their addresses.
    pub(crate) fn resolves_here(self) -> bool {
        self == Protocol::Socks5
    }
}

/// A user and a password. `Debug` shows neither.
#[derive(Clone)]
pub struct Credentials {
    /// The name, in Basic or in SOCKS.
    pub user: String,
    /// The password, which may be empty.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The value of `Proxy-Authorization` (RFC 7617).
    fn basic(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new(format!("{}:{}", self.user, *self.password));
        let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(pair.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Characters of a status text that a message has.
const MOST_SAID: usize = 200;

/// The TLS of an `https://` parent: the roots are the same as a registry's, the protocol is
/// HTTP/1.1.
pub(crate) fn tls(parent: &Parent, ca_pem: Option<&[u8]>) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    if parent.protocol != Protocol::Https {
        return Ok(None);
    }
    let mut config = tls_config(ca_pem, None, None)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

impl Parent {
    /// Asks for `host:port` over a connection to the parent; `tls` is what [`tls`] made.
    pub(crate) async fn open(
        &self,
        socket: TcpStream,
        tls: Option<&Arc<ClientConfig>>,
        via: &Pseudonym,
        host: &Host,
        port: u16,
    ) -> Result<Stream, ParentError> {
        let authority = format!("{host}:{port}");
        match (self.protocol, tls) {
            (Protocol::Socks5 | Protocol::Socks5h, _) => self.socks(socket, authority).await,
            (Protocol::Http | Protocol::Https, None) => self.connect(Stream::from(socket), via, authority).await,
            (Protocol::Http | Protocol::Https, Some(tls)) => {
                let name = server_name(&self.host).map_err(|error| ParentError::Tls(std::io::Error::other(error)))?;
                let secured = TlsConnector::from(tls.clone()).connect(name, socket).await.map_err(ParentError::Tls)?;
                self.connect(Stream::from(secured), via, authority).await
            }
        }
    }

    async fn connect(&self, stream: Stream, via: &Pseudonym, authority: String) -> Result<Stream, ParentError> {
        let broken = |error| ParentError::Broken { host: authority.clone(), source: Box::new(error) };
        let mut builder = http1::Builder::new();
        let (mut sender, connection) =
            builder.title_case_headers(true).handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut connection = std::pin::pin!(connection.without_shutdown());
        let mut request = self.request(&authority)?;
        via.sign(request.headers_mut());
        let mut answering = std::pin::pin!(sender.send_request(request));
        // When the host is there, hyper is done with the connection at once, and may say so before
        // it gives the answer.
        let (response, ended) = tokio::select! {
            biased;
            response = &mut answering => (response, None),
            ended = &mut connection => (answering.await, Some(ended)),
        };
        let response = response.map_err(broken)?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(ParentError::Credentials),
            StatusCode::LOOP_DETECTED if via.has_signed(response.headers()) => return Err(ParentError::Itself),
            _ => return Err(ParentError::Said { host: authority, said: status_line(&response) }),
        }
        // hyper gives the connection back, with what it read too much.
        let ended = if let Some(ended) = ended { ended } else { connection.await };
        let parts = ended.map_err(broken)?;
        Ok(parts.io.into_inner().with_early(parts.read_buf))
    }

    fn request(&self, authority: &str) -> Result<Request<Empty<Bytes>>, ParentError> {
        let broken = |error: http::Error| ParentError::Broken { host: authority.to_owned(), source: Box::new(error) };
        let mut request = Request::connect(authority)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("seawall/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(broken)?;
        if let Some(value) = self.credentials.as_ref().and_then(Credentials::basic) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn socks(&self, socket: TcpStream, authority: String) -> Result<Stream, ParentError> {
        let refused =
            |source: Box<dyn std::error::Error + Send + Sync>| ParentError::Broken { host: authority.clone(), source };
        let to = format!("http://{authority}").parse::<Uri>().map_err(|error| refused(error.into()))?;
        let mut socks =
            SocksV5::new(Uri::from_static("http://parent"), ReadyStream(Some(OneByteReader(TokioIo::new(socket)))));
        if let Some(Credentials { user, password }) = &self.credentials {
            socks = socks.with_auth(user.clone(), password.to_string());
        }
        let opened = socks.call(to).await;
        opened.map(|OneByteReader(io)| Stream::from(io.into_inner())).map_err(|error| {
            // The type of the error has no public name.
            let text = error.to_string();
            let said = text.strip_prefix("SOCKS error: ").unwrap_or(&text).to_owned();
            match said.as_str() {
                "credentials not accepted" | "server does not support user/pass authentication" => {
                    ParentError::Credentials
                }
                _ => ParentError::Said { host: authority.clone(), said },
            }
        })
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.to_string()),
    }
}

fn status_line(response: &Response<Incoming>) -> String {
    let status = response.status();
    let text = match response.extensions().get::<ReasonPhrase>() {
        Some(phrase) if !phrase.as_bytes().is_empty() => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        _ => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    let shown = text.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect::<String>();
    format!("{} {shown}", status.as_u16()).trim_end().to_owned()
}

/// A connector with a connection at hand.
struct ReadyStream(Option<OneByteReader>);

impl Service<Uri> for ReadyStream {
    type Response = OneByteReader;
    type Error = std::io::Error;
    type Future = Ready<std::io::Result<OneByteReader>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| std::io::Error::other("one connection is for one host")))
    }
}

/// Reads a byte at a time. `SocksV5` drops what it read behind the reply, which is the host's: so
/// nothing may be read there.
struct OneByteReader(TokioIo<TcpStream>);

impl Read for OneByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut byte = [0];
        let mut one = hyper::rt::ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.0).poll_read(cx, one.unfilled()))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for OneByteReader {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn parent(protocol: Protocol) -> Parent {
        let password = Zeroizing::new("open sesame".to_owned());
        Parent {
            protocol,
            host: "proxy.corp".parse().unwrap(),
            port: 8080,
            credentials: Some(Credentials { user: "jane".to_owned(), password }),
            no_proxy: NoProxy::default(),
        }
    }

    /// What becomes of a connection to `host:22` when the parent answers its requests with
    /// `answers`.
    async fn open(protocol: Protocol, host: &str, answers: &[&[u8]]) -> (Result<String, String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let answering = async {
            let mut asked = Vec::new();
            for answer in answers {
                let mut some = [0; 1024];
                let length = far.read(&mut some).await.unwrap();
                asked.extend(&some[..length]);
                far.write_all(answer).await.unwrap();
            }
            drop(far);
            asked
        };
        let parent = parent(protocol);
        let host = host.parse().unwrap();
        let opening = async {
            let mut stream =
                parent.open(near, None, &Pseudonym::new(1), &host, 22).await.map_err(|error| error.to_string())?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            Ok(heard)
        };
        tokio::join!(opening, answering)
    }

    #[tokio::test]
    async fn answers_to_connect() {
        let asked = "CONNECT [2001:db9::1]:22 HTTP/1.1\r\nHost: [2001:db9::1]:22\r\n";
        for (answer, wanted) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Ok("")),
            // What a server that speaks first says, in the same packet.
            ("HTTP/1.1 200 OK\r\nVia: 1.1 squid\r\n\r\nSSH-2.0-x\r\n", Ok("SSH-2.0-x\r\n")),
            ("HTTP/1.0 200 Connection established\r\n\r\nx", Ok("x")),
            // RFC 9110 9.3.6: any 2xx, and a length means nothing.
            ("HTTP/1.1 201 Fine\r\nContent-Length: 5\r\n\r\nxyz", Ok("xyz")),
            (
                "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno!",
                Err("wants other credentials: check upstream.proxy"),
            ),
            (
                "HTTP/1.1 503 DNS says no\r\nContent-Length: 999\r\n\r\n",
                Err("refused a connection to [2001:db9::1]:22: 503 DNS says no"),
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: http://login.corp/\r\n\r\n",
                Err("refused a connection to [2001:db9::1]:22: 302 Found"),
            ),
            ("HTTP/1.1 403\r\n\r\n", Err("refused a connection to [2001:db9::1]:22: 403 Forbidden")),
            ("SSH-2.0-OpenSSH_9.6\r\n", Err("gave no connection to [2001:db9::1]:22: invalid HTTP version parsed")),
            ("", Err("gave no connection to [2001:db9::1]:22: connection closed before message completed")),
        ] {
            let (opened, heard) = open(Protocol::Http, "[2001:db9::1]", &[answer.as_bytes()]).await;
            assert_eq!(opened.as_deref().map_err(String::as_str), wanted, "{answer:?}");
            let heard = String::from_utf8(heard).unwrap();
            assert!(heard.starts_with(asked) && heard.ends_with("\r\n\r\n"), "{heard}");
            assert!(heard.contains("Proxy-Authorization: Basic amFuZTpvcGVuIHNlc2FtZQ==\r\n"), "{heard}");
        }
    }

    #[tokio::test]
    async fn answers_of_socks() {
        let known: [&[u8]; 2] = [&[5, 2], &[1, 0]];
        for (third, wanted) in [
            (&b"\x05\0\0\x01\0\0\0\0\0\0"[..], Ok("")),
            (b"\x05\0\0\x01\0\0\0\0\0\0SSH-2.0-x", Ok("SSH-2.0-x")),
            (b"\x05\0\0\x03\x01a\0\0SSH", Ok("SSH")),
            (b"\x05\x02\0\x01\0\0\0\0\0\0", Err("refused a connection to git.corp:22: connection not allowed")),
            (b"\x05\x04\0\x01\0\0\0\0\0\0", Err("refused a connection to git.corp:22: host unreachable")),
            (b"HTTP/1.1 400", Err("refused a connection to git.corp:22: failed parsing server response")),
            (b"", Err("refused a connection to git.corp:22: io error during SOCKS handshake")),
        ] {
            let (opened, heard) = open(Protocol::Socks5h, "git.corp", &[known[0], known[1], third]).await;
            assert_eq!(opened.as_deref().map_err(String::as_str), wanted, "{third:?}");
            assert_eq!(heard, b"\x05\x01\x02\x01\x04jane\x0bopen sesame\x05\x01\0\x03\x08git.corp\0\x16");
        }
        for answers in [&[&b"\x05\xff"[..]][..], &[b"\x05\x02", b"\x01\x01"]] {
            let (opened, _) = open(Protocol::Socks5h, "git.corp", answers).await;
            assert_eq!(opened.unwrap_err(), "wants other credentials: check upstream.proxy");
        }
        let (opened, heard) =
            open(Protocol::Socks5, "198.51.100.7", &[known[0], known[1], b"\x05\x05\0\x01\0\0\0\0\0\0"]).await;
        assert_eq!(opened.unwrap_err(), "refused a connection to 198.51.100.7:22: connection refused");
        assert!(heard.ends_with(b"\x05\x01\0\x01\xc6\x33\x64\x07\0\x16"));
    }

    #[test]
    fn debug_shows_no_credentials() {
        let shown = format!("{:?} {}", parent(Protocol::Http), parent(Protocol::Https));
        assert!(!shown.contains("sesame") && !shown.contains("jane") && shown.contains("proxy.corp"), "{shown}");
    }
}
