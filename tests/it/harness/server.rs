//! The fake's listeners: one per host, each on its own loopback port, that can go down and come
//! back on the same one.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Body};
use super::body::Cut;
use super::faults::{self, Effect, Fault};
use super::image::Blob;
use super::record::{Ask, Seen};
use super::state::State;
use super::tls::{Alpn, Counting};
use super::wire::{Line, Metered, News, Wire};
use super::{auth, pull_side, push_side};

/// What the listeners of one registry share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) faults: Mutex<Vec<Fault>>,
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) accepted: AtomicU64,
    pub(super) open: AtomicUsize,
    pub(super) news: News,
}

pub(super) struct Host {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// Bound, never listening: the port stays ours while the host is down.
    _port: Socket,
    tls: Option<TlsAcceptor>,
    alpn: Alpn,
    /// Of clients, if they are asked for one.
    pub(super) certificates: Option<Arc<Counting>>,
    up: Mutex<Up>,
}

/// Cancelled: the host is down.
#[derive(Default)]
struct Up {
    token: CancellationToken,
    listening: Option<Socket>,
}

impl Host {
    pub(super) fn new(name: &str, tls: Option<TlsAcceptor>, alpn: Alpn, certificates: Option<Arc<Counting>>) -> Host {
        let port = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let addr = port.local_addr().expect("bound").as_socket().expect("an IP socket");
        Host { name: name.to_owned(), addr, _port: port, tls, alpn, certificates, up: Mutex::default() }
    }

    pub(super) fn up(self: &Arc<Host>, shared: &Arc<Shared>) {
        let mut up = self.up.lock();
        if up.listening.is_some() {
            return;
        }
        let socket = reserve(self.addr);
        socket.listen(1024).expect("the port is ours");
        up.listening = Some(socket.try_clone().expect("a descriptor"));
        up.token = CancellationToken::new();
        let listener = TcpListener::from_std(socket.into()).expect("a runtime");
        tokio::spawn(accept(self.clone(), shared.clone(), listener, up.token.clone()));
    }

    /// New connections are refused when this returns; the open ones end as soon as their tasks run.
    pub(super) fn down(&self) {
        let mut up = self.up.lock();
        up.token.cancel();
        if let Some(socket) = up.listening.take() {
            // Stops listening at once (Linux), while the task that accepts still holds the
            // descriptor.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn reserve(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    socket.bind(&addr.into()).expect("a loopback port");
    socket
}

async fn accept(host: Arc<Host>, shared: Arc<Shared>, listener: TcpListener, up: CancellationToken) {
    loop {
        let tcp = tokio::select! {
            biased;
            () = up.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => tcp,
                Err(_) => continue,
            },
        };
        let number = shared.accepted.fetch_add(1, SeqCst) + 1;
        let (host, shared, up) = (host.clone(), shared.clone(), up.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            shared.open.fetch_add(1, SeqCst);
            shared.news.tell();
            let serving = async {
                match &host.tls {
                    Some(tls) => {
                        if let Ok(io) = tls.accept(tcp).await {
                            connection(io, &host, &shared, number).await;
                        }
                    }
                    None => connection(tcp, &host, &shared, number).await,
                }
            };
            tokio::select! {
                () = up.cancelled() => {}
                () = serving => {}
            }
            shared.open.fetch_sub(1, SeqCst);
            shared.news.tell();
        });
    }
}

async fn connection<S>(io: S, host: &Arc<Host>, shared: &Arc<Shared>, number: u64)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wire = Arc::new(Wire::default());
    let io = TokioIo::new(Metered::new(io, wire.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let stream = wire.accept(request.version());
        let line = Line { wire: wire.clone(), stream, news: shared.news.clone() };
        serve(request, host.clone(), shared.clone(), line, number)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_header_list_size(64 << 10).max_concurrent_streams(10_000);
    let builder = match host.alpn {
        Alpn::H1 => builder.http1_only(),
        Alpn::H2 => builder.http2_only(),
        Alpn::None | Alpn::Both => builder,
    };
    // How it ended is the client's business, or a fault's.
    let _ = builder.serve_connection(io, service).await;
}

async fn serve(
    request: Request<Incoming>,
    host: Arc<Host>,
    shared: Arc<Shared>,
    line: Line,
    number: u64,
) -> Result<Response<Body>, Cut> {
    let (parts, incoming) = request.into_parts();
    let seen = Seen::new(&host.name, number, &parts);
    shared.seen.lock().push(seen.clone());
    shared.news.tell();
    let has_cdn = shared.state.lock().setup.cdn.is_some();
    let effects = faults::take(&mut shared.faults.lock(), &seen, has_cdn);
    for effect in &effects {
        if let Effect::HoldHead(gate) = effect {
            gate.arrive();
            gate.clone().opened().await;
        }
    }
    seen.fate.moment.store(shared.state.lock().moment, SeqCst);
    let answer = match instead(&effects)? {
        Some(answer) => answer,
        None => answer(&shared, &seen, incoming).await,
    };
    for effect in &effects {
        if let Effect::HoldAnswer(gate) = effect {
            gate.arrive();
            gate.clone().opened().await;
        }
    }
    Ok(answer.deliver(&seen, &effects, &line))
}

/// A fault's own answer.
fn instead(effects: &[Effect]) -> Result<Option<Answer>, Cut> {
    for effect in effects {
        match effect {
            Effect::HangUp => return Err(Cut),
            Effect::Answer { status, content_type, body } => {
                let status = StatusCode::from_u16(*status).expect("a status");
                return Ok(Some(Answer::new(status, content_type, Blob::new(body.clone()))));
            }
            Effect::Redirect(url) => {
                return Ok(Some(Answer::empty(StatusCode::TEMPORARY_REDIRECT).with("location", url)));
            }
            _ => {}
        }
    }
    Ok(None)
}

async fn answer(shared: &Shared, seen: &Seen, incoming: Incoming) -> Answer {
    let reads = [Method::GET, Method::HEAD].contains(&seen.method);
    let setup = shared.state.lock().setup.clone();
    match &seen.ask {
        Ask::Token if seen.host == setup.auth_host => {
            let form = push_side::received(incoming, seen, &shared.news).await.unwrap_or_default();
            return auth::token(&mut shared.state.lock(), seen, &form);
        }
        Ask::Signed { digest } if setup.cdn.as_ref() == Some(&seen.host) => {
            return pull_side::signed(&mut shared.state.lock(), seen, digest);
        }
        _ if seen.host != setup.host && !setup.aliases.contains(&seen.host) => {
            return Answer::text(StatusCode::NOT_FOUND, "this host does not have that\n");
        }
        _ => {}
    }
    let admitted = auth::admit(&shared.state.lock(), seen);
    let user = match admitted {
        Ok(user) => user,
        Err(refused) => return *refused,
    };
    if reads && !matches!(seen.ask, Ask::Upload { .. }) {
        return pull_side::answer(&mut shared.state.lock(), seen, user.as_deref());
    }
    push_side::answer(shared, seen, incoming).await
}
