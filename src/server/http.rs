//! HTTP on a connection: h1 or h2, its limits, when it ends, and what a CONNECT makes of it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::conn::auto::upgrade::downcast;
use hyper_util::server::graceful::GracefulConnection;
use parking_lot::Mutex;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::connect::{self, ConnectTarget};
use super::flush::Batched;
use super::idle::{IdleMonitor, Output, Tracked};
use super::linger::LingeringClose;
use super::password;
use super::shared::Conn;
use super::transport::{Socket, Transport};
use super::watched::Watched;
use super::written::OfConnection;
use crate::fs::Outbox;
use crate::gateway::body::Body;
use crate::gateway::rescue::{Facing, rescue};
use crate::gateway::{Ingress, Session};
use crate::lane::Place;
use crate::oci::route;
use crate::policy::users::UserId;
use crate::task::Tasks;

/// What a connection is after the HTTP on it.
pub(crate) enum Next {
    /// Nothing more: it ended.
    Done,
    /// The client's to use for what its CONNECT named.
    TakeOver {
        /// The connection without the HTTP.
        transport: Transport,
        /// The bytes that were read of it already: a client need not wait for the 200.
        ahead: Bytes,
        /// What the CONNECT named.
        target: ConnectTarget,
        /// Whose password it showed.
        user: Option<UserId>,
    },
}

/// A request head, and the header list of h2: bearer tokens of ECR, ACR and GitLab go beyond h2's
/// usual 16 KiB.
const MAX_HEAD: u32 = 64 << 10;
/// What hyper reads at most into memory before the request is known, and the buffer it writes from.
const MAX_BUFFER: usize = 64 << 10;
/// Header fields of a request; hyper's own default.
const MAX_HEADERS: usize = 100;
/// Per h2 connection. docker and containerd fetch three to six layers at once, buildkit some
/// dozens.
const MAX_STREAMS: u32 = 256;
/// Per h2 stream: what is read ahead for a slow client. hyper's 400 KiB halves the speed of a
/// single stream.
const MAX_SEND_BUFFER: usize = 1 << 20;
/// Bytes of requests that a connection may have sent before seawall reads them, which wait in memory:
/// enough for 8 MB/s over 30 ms. hyper's own is 1 MiB.
const WINDOW: u32 = 256 << 10;
/// An h2 peer that vanished is noticed after this time and as long again.
const PING: Duration = Duration::from_secs(20);

/// The stream that HTTP is read from and written to.
type Carried<T> = TokioIo<Watched<LingeringClose<T>, Output>>;

/// The CONNECT that was granted on a connection, if one was: it takes over when its 200 is sent.
/// Clones share it.
#[derive(Clone, Default)]
struct Granted(Arc<Mutex<Option<Box<Takeover>>>>);

/// A granted CONNECT.
struct Takeover {
    upgrade: OnUpgrade,
    target: ConnectTarget,
    user: Option<UserId>,
}

impl Granted {
    fn set(&self, takeover: Takeover) {
        *self.0.lock() = Some(Box::new(takeover));
    }

    /// What the connection is now that the HTTP on it ended.
    async fn next(&self, conn: &Conn) -> Next {
        let Some(granted) = self.0.lock().take() else { return Next::Done };
        let Takeover { upgrade, target, user } = *granted;
        match upgrade.await.map(take_transport) {
            Ok(Some((ahead, transport))) => Next::TakeOver { transport, ahead, target, user },
            Ok(None) => Next::Done,
            Err(error) => {
                debug!(peer = %conn.peer, %error, "the client left before its CONNECT was answered");
                Next::Done
            }
        }
    }
}

/// The transport beneath a connection that a CONNECT takes over, and the bytes that were read of it
/// already.
fn take_transport(upgraded: Upgraded) -> Option<(Bytes, Transport)> {
    let upgraded = match downcast::<Carried<Socket>>(upgraded) {
        Ok(parts) => {
            let (unread, transport) = parts.io.into_inner().into_inner().into_inner().into_parts();
            return Some((joined(parts.read_buf, unread), transport));
        }
        Err(upgraded) => upgraded,
    };
    let parts = downcast::<Carried<TlsStream<Socket>>>(upgraded).ok()?;
    Some((parts.read_buf, Transport::Tls(Box::new(parts.io.into_inner().into_inner().into_inner()))))
}

fn joined(first: Bytes, then: Bytes) -> Bytes {
    if then.is_empty() {
        return first;
    }
    let mut both = BytesMut::from(first);
    both.extend_from_slice(&then);
    both.freeze()
}

/// Serves in the clear. A CONNECT may take the connection over.
pub(crate) async fn plain(conn: &Conn, socket: Socket, ingress: Ingress) -> Next {
    let (monitor, granted) = (IdleMonitor::new(), Granted::default());
    let outbox = socket.inner().outbox();
    let service = Exchange::new(conn, ingress, &monitor, &granted).service(outbox);
    let stream = TokioIo::new(monitor.watching(LingeringClose::new(socket)));
    let builder = builder(conn).http1_only();
    drive(conn, &monitor, builder.serve_connection_with_upgrades(stream, service), |_| {}).await;
    granted.next(conn).await
}

/// Serves within TLS: what ALPN chose, h1 where it chose nothing. In h1 to seawall itself a CONNECT
/// may take the connection over.
pub(crate) async fn encrypted(conn: &Conn, stream: TlsStream<Socket>, ingress: Ingress) -> Next {
    let (monitor, granted) = (IdleMonitor::new(), Granted::default());
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let builder = if is_h2 { builder(conn).http2_only() } else { builder(conn).http1_only() };
    let takes_connect = !is_h2 && matches!(ingress, Ingress::Own(_));
    let service = Exchange::new(conn, ingress, &monitor, &granted).service(None);
    let stream = monitor.watching(LingeringClose::new(stream));
    if takes_connect {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        drive(conn, &monitor, connection, |_| {}).await;
    } else if is_h2 {
        let (stream, output) = Batched::new(stream);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        drive(conn, &monitor, connection, |cx| output.flush(cx)).await;
    } else {
        drive(conn, &monitor, builder.serve_connection(TokioIo::new(stream), service), |_| {}).await;
    }
    granted.next(conn).await
}

fn builder(conn: &Conn) -> Builder<Spawner> {
    let mut builder = Builder::new(Spawner(conn.shared.tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        // A head that does not come is silence: `IdleMonitor` sees to that without a timer for each
        // request.
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER)
        // A client may shut its side down and still read.
        .half_close(true)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER);
    builder
}

/// What the requests of a connection have in common.
struct Exchange {
    conn: Conn,
    session: Session,
    monitor: IdleMonitor,
    granted: Granted,
    unwritten: Arc<OfConnection>,
}

impl Exchange {
    fn new(conn: &Conn, ingress: Ingress, monitor: &IdleMonitor, granted: &Granted) -> Arc<Exchange> {
        let session = Session { peer: conn.peer, reached: conn.reached, ingress };
        let (conn, monitor, granted) = (conn.clone(), monitor.clone(), granted.clone());
        let unwritten = conn.unwritten();
        Arc::new(Exchange { conn, session, monitor, granted, unwritten })
    }

    /// Answers requests; parts of files are posted to `outbox`, if there is one.
    fn service(
        self: Arc<Self>,
        outbox: Option<Outbox>,
    ) -> impl Service<Request<Incoming>, Response = Response<Tracked>, Error = Infallible, Future: Send + 'static> {
        service_fn(move |request| {
            let (exchange, outbox, mut running) = (Arc::clone(&self), outbox.clone(), self.monitor.begin());
            // h2 would copy what represents a part of a file.
            let outbox = outbox.filter(|_| request.version() <= Version::HTTP_11);
            // In a box: hyper keeps its room in the connection, tens of KiB, also while nothing is
            // asked.
            Box::pin(async move {
                let (response, place) = exchange.answer_in_place(request).await;
                // A client whose window is closed is asked for no body at all.
                running.gave();
                let unwritten = exchange.unwritten.answer();
                Ok::<_, Infallible>(response.map(|body| Tracked {
                    body: body.posted_to(outbox),
                    running,
                    unwritten,
                    _place: place,
                }))
            })
        })
    }

    /// The answer, and its place among those that are open.
    async fn answer_in_place(&self, mut request: Request<Incoming>) -> (Response<Body>, Option<Place>) {
        // Who has no password has no place.
        let user = match password::demand(&self.conn, &self.session, &mut request).await {
            Ok(user) => user,
            Err(refused) => return (*refused, None),
        };
        match self.conn.shared.answers.enter(self.conn.tenant(user)).await {
            Ok(place) => (self.answer(request, user).await, Some(place)),
            Err(error) => (rescue(&error, Facing::Registry, route::Kind::Other, None), None),
        }
    }

    async fn answer(&self, request: Request<Incoming>, user: Option<UserId>) -> Response<Body> {
        if request.method() == Method::CONNECT {
            return Box::pin(self.connect(request, user)).await;
        }
        self.conn.shared.gateway.handle(&self.session, self.conn.tenant(user), request).await
    }

    /// Answers a CONNECT. One that is granted takes the connection over.
    async fn connect(&self, request: Request<Incoming>, user: Option<UserId>) -> Response<Body> {
        match connect::grant(&self.conn, &self.session, &request).await {
            Ok(target) => {
                self.granted.set(Takeover { upgrade: hyper::upgrade::on(request), target, user });
                connect::established()
            }
            Err(refused) => *refused,
        }
    }
}

/// Why a connection is ended from here.
enum End {
    Stop,
    Silence,
}

/// Drives a connection until its client ends it, it is silent for too long, or the process stops.
/// `after` runs after each poll.
async fn drive<C>(conn: &Conn, monitor: &IdleMonitor, connection: C, mut after: impl FnMut(&mut Context<'_>))
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let settings = &conn.shared.settings;
    let mut connection = pin!(connection);
    let mut polled = async |mut connection: Pin<&mut C>| {
        poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx);
            after(cx);
            ended
        })
        .await
    };
    // A set of futures polls those alone that were woken: neither is looked at for each request.
    let mut ends: FuturesUnordered<BoxFuture<'_, End>> = FuturesUnordered::new();
    ends.push(conn.shared.tasks.stopping().map(|()| End::Stop).boxed());
    ends.push(monitor.silence(settings.patience, settings.idle_timeout).map(|()| End::Silence).boxed());
    let ended = tokio::select! {
        biased;
        ended = polled(connection.as_mut()) => ended,
        Some(end) = ends.next() => {
            connection.as_mut().graceful_shutdown();
            // A head that came in part holds up no drain: a connection that is to stop has still to
            // be silent.
            let silent = async {
                if let End::Stop = end {
                    ends.next().await;
                }
                tokio::time::sleep(settings.patience).await;
            };
            tokio::select! {
                ended = polled(connection.as_mut()) => ended,
                () = silent => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        debug!(peer = %conn.peer, %error, "connection ended");
    }
}

/// hyper's tasks (one for each h2 stream) are counted like all others: the drain waits for them.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}
