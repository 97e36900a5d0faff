//! A client with raw control over how it reaches a proxy: CONNECT, DNS override, mirror or absolute-form; ALPN or none;
//! SNI, Host and dialled address each on its own. One connection per request, as docker; or one kept (`connect`).
//!
//! ```ignore
//! let client = Client::via_connect(proxy, &ca_pem).h2();
//! let reply = client.get("https://registry-1.docker.io/v2/").header("authorization", "Bearer …").send().await?;
//! let mut open = client.get(url).open().await?;
//! let start = open.read_exactly(1000).await?;
//! drop(open); // hangs up
//! ```
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a client needs no drain")]

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::faults::PATIENCE;
use super::tls::{self, Alpn, Sni};

#[derive(Debug)]
pub(crate) enum ClientError {
    Tcp(std::io::Error),
    /// The proxy refused CONNECT: status, reason phrase, headers and what came with them.
    Refused(u16, String, String),
    Tls(std::io::Error),
    /// No response, or the body broke off.
    Http(hyper::Error),
    /// A pull that went wrong: at which step, why.
    Pull(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for ClientError {}

#[derive(Clone)]
enum Way {
    /// CONNECT for https, absolute-form for http.
    Proxy(SocketAddr),
    /// Whatever the URL's host: that address.
    Address(SocketAddr),
    /// As DNS would say.
    Resolving(HashMap<String, SocketAddr>),
}

#[derive(Clone)]
pub(crate) struct Client {
    way: Way,
    ca_pem: String,
    alpn: Alpn,
    server_name: Option<String>,
    sni: Sni,
    proxy_user: Option<(String, String)>,
    preamble: Bytes,
    tls: Arc<ClientConfig>,
}

impl Client {
    fn new(way: Way, ca_pem: &str) -> Client {
        let (alpn, sni) = (Alpn::None, Sni::Sent);
        let tls = tls::trusting(ca_pem, alpn, sni);
        let ca_pem = ca_pem.to_owned();
        Client { way, ca_pem, alpn, server_name: None, sni, proxy_user: None, preamble: Bytes::new(), tls }
    }

    /// `HTTPS_PROXY=http://proxy`: https by CONNECT, http in absolute-form.
    pub(crate) fn via_connect(proxy: SocketAddr, ca_pem: &str) -> Client {
        Client::new(Way::Proxy(proxy), ca_pem)
    }

    /// DNS override: every host is this address; https says its name by SNI.
    pub(crate) fn direct_tls(addr: SocketAddr, ca_pem: &str) -> Client {
        Client::new(Way::Address(addr), ca_pem)
    }

    /// http URLs to one address in origin-form: a mirror.
    pub(crate) fn plain(addr: SocketAddr) -> Client {
        Client::new(Way::Address(addr), "")
    }

    /// No proxy: straight to the fakes.
    pub(crate) fn resolving(hosts: HashMap<String, SocketAddr>, ca_pem: &str) -> Client {
        Client::new(Way::Resolving(hosts), ca_pem)
    }

    fn offering(mut self, alpn: Alpn, sni: Sni) -> Client {
        (self.alpn, self.sni) = (alpn, sni);
        self.tls = tls::trusting(&self.ca_pem, alpn, sni);
        self
    }

    /// The default offers no ALPN. Without TLS, `H2` is h2 with prior knowledge.
    pub(crate) fn alpn(self, alpn: Alpn) -> Client {
        let sni = self.sni;
        self.offering(alpn, sni)
    }

    pub(crate) fn h2(self) -> Client {
        self.alpn(Alpn::H2)
    }

    pub(crate) fn no_sni(self) -> Client {
        let alpn = self.alpn;
        self.offering(alpn, Sni::Absent)
    }

    /// SNI, and the name the certificate must have, instead of the URL's host.
    pub(crate) fn sni(mut self, name: &str) -> Client {
        self.server_name = Some(name.to_owned());
        self
    }

    /// `Proxy-Authorization: Basic` on CONNECT and in absolute-form.
    pub(crate) fn proxy_user(mut self, user: &str, password: &str) -> Client {
        self.proxy_user = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Sent before anything else on a connection: a PROXY protocol header.
    pub(crate) fn preamble(mut self, bytes: impl Into<Bytes>) -> Client {
        self.preamble = bytes.into();
        self
    }

    pub(crate) fn get(&self, url: &str) -> Ask<'_> {
        self.request(Method::GET, url)
    }

    pub(crate) fn head(&self, url: &str) -> Ask<'_> {
        self.request(Method::HEAD, url)
    }

    pub(crate) fn request(&self, method: Method, url: &str) -> Ask<'_> {
        Ask::new(Carrier::Client(self), method, url)
    }

    /// A connection to the URL's host, for several requests.
    pub(crate) async fn connect(&self, url: &str) -> Result<Connection, ClientError> {
        let url = url.parse().expect("a URL");
        tokio::time::timeout(PATIENCE, self.dial(&url)).await.expect("no connection in time")
    }

    async fn dial(&self, url: &Uri) -> Result<Connection, ClientError> {
        let host = url.host().expect("an absolute URL");
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addr = match &self.way {
            Way::Proxy(addr) | Way::Address(addr) => *addr,
            Way::Resolving(hosts) => {
                let named = hosts.get(host).or_else(|| hosts.get(&format!("{host}:{port}"))).copied();
                named.or_else(|| format!("{host}:{port}").parse().ok()).expect("a host of a fake")
            }
        };
        let mut tcp = TcpStream::connect(addr).await.map_err(ClientError::Tcp)?;
        tcp.set_nodelay(true).map_err(ClientError::Tcp)?;
        tcp.write_all(&self.preamble).await.map_err(ClientError::Tcp)?;
        let proxied = matches!(self.way, Way::Proxy(_));
        if !secure {
            let sender = if self.alpn == Alpn::H2 { h2(tcp).await? } else { h1(tcp).await? };
            let authorization = self.proxy_user.as_ref().filter(|_| proxied).map(|user| basic(&user.0, &user.1));
            return Ok(Connection { sender, absolute: proxied, authorization, peer: None, resumed: false });
        }
        if proxied {
            tcp = self.tunnel(tcp, &format!("{host}:{port}")).await?;
        }
        let name = tls::server_name(self.server_name.as_deref().unwrap_or(host));
        let io = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.map_err(ClientError::Tls)?;
        let tls = io.get_ref().1;
        let peer = tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
        let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
        let is_h2 = tls.alpn_protocol() == Some(b"h2");
        let sender = if is_h2 { h2(io).await? } else { h1(io).await? };
        Ok(Connection { sender, absolute: false, authorization: None, peer, resumed })
    }

    async fn tunnel(&self, mut tcp: TcpStream, authority: &str) -> Result<TcpStream, ClientError> {
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: Go-http-client/1.1\r\n");
        if let Some((user, password)) = &self.proxy_user {
            head.push_str(&format!("Proxy-Authorization: {}\r\n", basic(user, password)));
        }
        head.push_str("\r\n");
        tcp.write_all(head.as_bytes()).await.map_err(ClientError::Tcp)?;
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            match tcp.read_u8().await {
                Ok(byte) => reply.push(byte),
                Err(error) if reply.is_empty() => return Err(ClientError::Tcp(error)),
                Err(_) => break,
            }
        }
        let head = String::from_utf8_lossy(&reply).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status == 200 {
            return Ok(tcp);
        }
        let reason = head.lines().next().and_then(|line| line.splitn(3, ' ').nth(2)).unwrap_or_default().to_owned();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        Err(ClientError::Refused(status, reason, head + &String::from_utf8_lossy(&rest)))
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

enum Sender {
    H1(Box<Mutex<http1::SendRequest<Full<Bytes>>>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

async fn h1<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: S) -> Result<Sender, ClientError> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(ClientError::Http)?;
    tokio::spawn(connection);
    Ok(Sender::H1(Box::new(Mutex::new(sender))))
}

async fn h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: S) -> Result<Sender, ClientError> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(64 << 10);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(ClientError::Http)?;
    tokio::spawn(connection);
    Ok(Sender::H2(sender))
}

/// One connection; h1 takes one request after the other, h2 any number at once.
pub(crate) struct Connection {
    sender: Sender,
    absolute: bool,
    authorization: Option<String>,
    peer: Option<Vec<u8>>,
    resumed: bool,
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
        let mut request = Request::new(Full::new(ask.body));
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

enum Carrier<'a> {
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
    body: Bytes,
}

impl<'a> Ask<'a> {
    fn new(carrier: Carrier<'a>, method: Method, url: &str) -> Ask<'a> {
        Ask { carrier, method, url: url.to_owned(), headers: HeaderMap::new(), host: None, body: Bytes::new() }
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
        self.body = body.into();
        self
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

/// Writes these bytes on a bare connection and gives back what came until the other side closed.
pub(crate) async fn raw(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut tcp = TcpStream::connect(addr).await.expect("a listener");
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let mut reply = Vec::new();
        let _ = tcp.read_to_end(&mut reply).await;
        reply
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the other side closes")
}
