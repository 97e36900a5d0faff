//! One exchange on one connection: the request as the test wrote it, the answer whole or step by
//! step.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a client needs no drain")]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc};

use super::client::{Client, basic};
use super::faults::PATIENCE;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no connection: {0}")]
    Tcp(std::io::Error),
    /// The proxy's answer to CONNECT: status, reason phrase, all of it as text.
    #[error("CONNECT refused: {0} {1}\n{2}")]
    Refused(u16, String, String),
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    /// No answer, or the body broke off.
    #[error("broken off: {0}")]
    Http(hyper::Error),
    /// A pull that went wrong: where, and after which requests.
    #[error("{0}")]
    Pull(String),
}

pub(super) enum Sender {
    H1(Box<Mutex<http1::SendRequest<Payload>>>),
    H2(http2::SendRequest<Payload>),
}

pub(super) async fn h1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: S) -> Result<Sender, ClientError> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(ClientError::Http)?;
    tokio::spawn(connection);
    Ok(Sender::H1(Box::new(Mutex::new(sender))))
}

pub(super) async fn h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: S) -> Result<Sender, ClientError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(64 << 10);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(ClientError::Http)?;
    tokio::spawn(connection);
    Ok(Sender::H2(sender))
}

/// One connection; h1 takes one request after the other, h2 any number at once.
pub(crate) struct Connection {
    pub(super) sender: Sender,
    /// The whole URL on the request line.
    pub(super) absolute: bool,
    /// `Proxy-Authorization` of every request.
    pub(super) authorization: Option<String>,
    pub(super) peer: Option<Vec<u8>>,
    pub(super) resumed: bool,
}

impl Connection {
    pub(crate) fn request(&self, method: Method, url: &str) -> Ask<'_> {
        Ask::new(Carrier::Connection(self), method, url)
    }

    /// The server's leaf, DER.
    pub(crate) fn peer_cert(&self) -> Option<&[u8]> {
        self.peer.as_deref()
    }

    /// Was the TLS session an earlier one of this client, resumed?
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    pub(crate) fn version(&self) -> Version {
        if matches!(self.sender, Sender::H1(_)) { Version::HTTP_11 } else { Version::HTTP_2 }
    }

    async fn exchange(&self, ask: Ask<'_>) -> Result<Response<Incoming>, ClientError> {
        let url: Uri = ask.url.parse().expect("a URL");
        let authority = ask.host.as_deref().unwrap_or(url.authority().expect("an absolute URL").as_str());
        let mut request = Request::new(ask.body);
        *request.method_mut() = ask.method;
        *request.headers_mut() = ask.headers;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let sending = async {
            match &self.sender {
                Sender::H1(sender) => {
                    *request.uri_mut() = if self.absolute { url.clone() } else { path.parse().expect("a path") };
                    if !request.headers().contains_key(header::HOST) {
                        let value = HeaderValue::from_str(authority).expect("a host");
                        request.headers_mut().insert(header::HOST, value);
                    }
                    if let Some(authorization) = &self.authorization {
                        let value = HeaderValue::from_str(authorization).expect("ASCII");
                        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
                    }
                    let mut sender = sender.lock().await;
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::H2(sender) => {
                    let scheme = url.scheme_str().unwrap_or("https");
                    *request.uri_mut() = format!("{scheme}://{authority}{path}").parse().expect("a URL");
                    *request.version_mut() = Version::HTTP_2;
                    let mut sender = sender.clone();
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sending).await;
        sent.unwrap_or_else(|_| panic!("no answer in time: {}", ask.url)).map_err(ClientError::Http)
    }
}

/// A body from a channel.
struct Fed(mpsc::Receiver<Bytes>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

pub(super) enum Carrier<'a> {
    Client(&'a Client),
    Connection(&'a Connection),
}

/// A request about to be made.
pub(crate) struct Ask<'a> {
    carrier: Carrier<'a>,
    method: Method,
    url: String,
    headers: HeaderMap,
    host: Option<String>,
    body: Payload,
}

type Payload = UnsyncBoxBody<Bytes, Infallible>;

impl<'a> Ask<'a> {
    pub(super) fn new(carrier: Carrier<'a>, method: Method, url: &str) -> Ask<'a> {
        Ask {
            carrier,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            host: None,
            body: Full::default().boxed_unsync(),
        }
    }

    /// Adds a line: the same name twice is two lines.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Ask<'a> {
        let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Ask<'a> {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn basic(self, user: &str, password: &str) -> Ask<'a> {
        self.header("authorization", &basic(user, password))
    }

    pub(crate) fn range(self, range: &str) -> Ask<'a> {
        self.header("range", range)
    }

    /// `Host` or `:authority` instead of the URL's.
    pub(crate) fn host(mut self, host: &str) -> Ask<'a> {
        self.host = Some(host.to_owned());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Ask<'a> {
        self.body = Full::new(body.into()).boxed_unsync();
        self
    }

    /// A body that the test gives piece by piece and ends by dropping the sender (chunked on h1,
    /// unless the test set `content-length`).
    pub(crate) fn fed(mut self) -> (mpsc::Sender<Bytes>, Ask<'a>) {
        let (sender, pieces) = mpsc::channel(1);
        self.body = Fed(pieces).boxed_unsync();
        (sender, self)
    }

    /// The answer's head, and its body step by step.
    pub(crate) async fn open(self) -> Result<Open, ClientError> {
        let (response, connection) = match self.carrier {
            Carrier::Connection(connection) => (connection.exchange(self).await?, None),
            Carrier::Client(client) => {
                let connection = client.connect(&self.url).await?;
                (connection.exchange(self).await?, Some(connection))
            }
        };
        let (head, body) = response.into_parts();
        Ok(Open {
            status: head.status,
            headers: head.headers,
            version: head.version,
            body,
            pending: BytesMut::new(),
            _connection: connection,
        })
    }

    /// The whole answer. `Reply::body` is an error when it broke off.
    pub(crate) async fn send(self) -> Result<Reply, ClientError> {
        let mut open = self.open().await?;
        let body = open.rest().await;
        Ok(Reply { status: open.status, headers: open.headers, version: open.version, body })
    }
}

/// An answer whose body is still coming. Dropped: the client hangs up (h2: resets the stream).
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    body: Incoming,
    pending: BytesMut,
    _connection: Option<Connection>,
}

impl Open {
    /// The next piece, as it comes; None at the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        if !self.pending.is_empty() {
            return Ok(Some(self.pending.split().freeze()));
        }
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("no bytes in time");
            match frame.transpose().map_err(ClientError::Http)?.map(|frame| frame.into_data()) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_trailers)) => {}
                None => return Ok(None),
            }
        }
    }

    /// Exactly the next `n` bytes; panics when the body ends before, cleanly.
    pub(crate) async fn read_exactly(&mut self, n: usize) -> Result<Bytes, ClientError> {
        let mut bytes = BytesMut::with_capacity(n);
        while bytes.len() < n {
            let mut piece = self.piece().await?.unwrap_or_else(|| panic!("{} of {n} bytes, then the end", bytes.len()));
            let extra = piece.split_off(piece.len().min(n - bytes.len()));
            self.pending.extend_from_slice(&extra);
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// All that is left; an error when it broke off.
    pub(crate) async fn rest(&mut self) -> Result<Bytes, ClientError> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// How many bytes came until it ended, and whether it ended cleanly.
    pub(crate) async fn until_end(&mut self) -> (u64, Result<(), ClientError>) {
        let mut bytes = 0;
        loop {
            match self.piece().await {
                Ok(Some(piece)) => bytes += piece.len() as u64,
                Ok(None) => return (bytes, Ok(())),
                Err(error) => return (bytes, Err(error)),
            }
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    pub(crate) body: Result<Bytes, ClientError>,
}

impl Reply {
    /// A header as text, "" when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body; panics when it broke off.
    pub(crate) fn bytes(&self) -> &Bytes {
        self.body.as_ref().expect("a whole body")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).expect("JSON")
    }
}
