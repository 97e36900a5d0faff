//! A name server that says what a test wants, in every way that name servers are asked.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How it is asked, and what it makes of that.
pub(crate) enum Over {
    Udp,
    /// UDP answers are cut short (RFC 1035 4.1.1: TC); over TCP they are whole.
    Truncated,
    Tcp,
    Tls(Arc<ServerConfig>),
    /// At `/dns-query`.
    Https(Arc<ServerConfig>),
    /// It takes questions, and says nothing.
    Silent,
    /// It answers with this RCODE.
    Fails(u8),
}

const TRUNCATED: u8 = 2;

/// Dropped: it answers no more.
pub(crate) struct Dns {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _running: DropGuard,
}

type Answers = Arc<dyn Fn(&str, usize) -> Vec<Ipv4Addr> + Send + Sync>;

#[derive(Clone)]
struct Responder {
    answer: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    rcode: u8,
}

impl Dns {
    /// `answer` is given the name and how often its A was asked for before. There is no AAAA, and
    /// nothing may be kept.
    pub(crate) async fn start(answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + Sync + 'static) -> Dns {
        Dns::over(Over::Udp, answer).await
    }

    pub(crate) async fn over(over: Over, answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + Sync + 'static) -> Dns {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let addr = listener.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let rcode = if let Over::Fails(code) = over { code } else { 0 };
        let responder = Responder { answer: Arc::new(answer), asked: asked.clone(), rcode };
        let running = CancellationToken::new();
        let (stopped, datagrams) = (running.clone(), running.clone());
        match over {
            Over::Udp | Over::Truncated | Over::Fails(_) | Over::Silent => {
                let socket = UdpSocket::bind(addr).await.expect("the same port");
                let by = if matches!(over, Over::Truncated) { TRUNCATED } else { 0 };
                if !matches!(over, Over::Silent) {
                    tokio::spawn(datagrams.run_until_cancelled_owned(datagrams_of(socket, responder.clone(), by)));
                    tokio::spawn(stopped.run_until_cancelled_owned(streams(listener, responder, None)));
                } else {
                    tokio::spawn(stopped.run_until_cancelled_owned(hears(socket, listener, responder)));
                }
            }
            Over::Tcp => {
                tokio::spawn(stopped.run_until_cancelled_owned(streams(listener, responder, None)));
            }
            Over::Tls(tls) => {
                tokio::spawn(stopped.run_until_cancelled_owned(streams(listener, responder, Some(tls.into()))));
            }
            Over::Https(tls) => {
                tokio::spawn(stopped.run_until_cancelled_owned(https(listener, responder, tls.into())));
            }
        }
        Dns { addr, asked, _running: running.drop_guard() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The names whose A was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn datagrams_of(socket: UdpSocket, responder: Responder, flags: u8) {
    let mut query = [0; 512];
    while let Ok((length, client)) = socket.recv_from(&mut query).await {
        let mut reply = if flags == TRUNCATED { cut(&query[..length]) } else { responder.reply(&query[..length]) };
        reply[2] |= flags;
        let _ = socket.send_to(&reply, client).await;
    }
}

/// The question alone.
fn cut(query: &[u8]) -> Vec<u8> {
    let (_, _, question) = read(query);
    [&query[..2], &[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0], &question].concat()
}

/// What it is asked it remembers.
async fn hears(socket: UdpSocket, _listener: TcpListener, responder: Responder) {
    let mut query = [0; 512];
    while let Ok((length, _)) = socket.recv_from(&mut query).await {
        responder.reply(&query[..length]);
    }
}

/// RFC 1035 4.2.2, RFC 7858: two bytes of length before each message.
async fn streams(listener: TcpListener, responder: Responder, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (responder, tls) = (responder.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => stream_of(stream, responder).await,
                Some(tls) => stream_of(tls.accept(stream).await?, responder).await,
            }
        });
    }
}

async fn stream_of(mut stream: impl AsyncRead + AsyncWrite + Unpin, responder: Responder) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        let reply = responder.reply(&query);
        stream.write_all(&[&u16::try_from(reply.len()).expect("short").to_be_bytes()[..], &reply].concat()).await?;
    }
}

/// RFC 8484, over HTTP/2.
async fn https(listener: TcpListener, responder: Responder, tls: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let (responder, tls) = (responder.clone(), tls.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let responder = responder.clone();
                async move {
                    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/dns-message");
                    if request.uri().path() != "/dns-query" {
                        return Ok(Response::builder().status(404).body(Full::default()).expect("a response"));
                    }
                    let query = request.into_body().collect().await.expect("a body").to_bytes();
                    let reply = Full::new(Bytes::from(responder.reply(&query)));
                    let response = Response::builder().header(header::CONTENT_TYPE, "application/dns-message");
                    Ok::<_, Infallible>(response.body(reply).expect("a response"))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Responder {
    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let (name, is_a, question) = read(query);
        let mut answers = Vec::new();
        if is_a {
            let before = self.asked.lock().iter().filter(|other| **other == name).count();
            self.asked.lock().push(name.clone());
            answers = (self.answer)(&name, before);
        }
        let count = u8::try_from(answers.len()).expect("few");
        let mut reply = query[..2].to_vec();
        reply.extend([0x81, 0x80 | self.rcode, 0, 1, 0, count, 0, 0, 0, 0]);
        reply.extend(question);
        for ip in answers {
            // The name above, A, IN, a TTL of 0, four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            reply.extend(ip.octets());
        }
        reply
    }
}

/// The name, whether A is wanted, and the question as it is.
fn read(query: &[u8]) -> (String, bool, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), query[at + 1..at + 3] == [0, 1], query[12..at + 5].to_vec())
}
