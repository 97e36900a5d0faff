//! HTTP on a connection: h1 or h2, its limits, when it ends.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::body::Body;
use super::conn::Conn;
use super::linger::Linger;
use super::opening::Socket;
use super::{Session, Way, connect, password};
use crate::task::Tasks;

/// A request head, and the header list of h2: bearer tokens of ECR, ACR and GitLab go beyond h2's usual 16 KiB.
const MAX_HEAD: u32 = 64 << 10;
/// What hyper reads at most into memory before the request is known, and the room it has to write from.
const MAX_BUFFER: usize = 64 << 10;
/// hyper's own, said aloud.
const MAX_HEADERS: usize = 100;
/// Per h2 connection. docker and containerd fetch three to six layers at once, buildkit some dozens.
const MAX_STREAMS: u32 = 256;
/// Per h2 stream: what is read ahead of a slow client. hyper's 400 KiB halves the speed of a single stream.
const MAX_SEND_BUFFER: usize = 1 << 20;
/// An h2 peer that is gone is noticed after this and as long again.
const PING: Duration = Duration::from_secs(20);

/// Serves in the clear. A CONNECT may take the connection over.
pub(super) async fn plain(conn: Conn, socket: Socket, way: Way) {
    let pulse = Pulse::new();
    let builder = builder(&conn).http1_only();
    let service = service(conn.clone(), way, pulse.clone());
    finish(&conn, &pulse, builder.serve_connection_with_upgrades(TokioIo::new(Linger::new(socket)), service)).await;
}

/// Serves within TLS: what ALPN chose, h1 where it chose nothing.
pub(super) async fn encrypted(conn: Conn, stream: TlsStream<Socket>, way: Way) {
    let pulse = Pulse::new();
    let builder = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => builder(&conn).http2_only(),
        _ => builder(&conn).http1_only(),
    };
    let service = service(conn.clone(), way, pulse.clone());
    finish(&conn, &pulse, builder.serve_connection(TokioIo::new(Linger::new(stream)), service)).await;
}

fn builder(conn: &Conn) -> Builder<Spawner> {
    let mut builder = Builder::new(Spawner(conn.front.tasks.clone()));
    let idle_timeout = conn.front.settings.idle_timeout;
    builder
        .http1()
        .timer(TokioTimer::new())
        // Runs while a kept connection is idle, too; that a first head comes sooner is seen to by `Pulse`.
        .header_read_timeout(idle_timeout)
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
        .max_send_buf_size(MAX_SEND_BUFFER);
    builder
}

fn service(
    conn: Conn,
    way: Way,
    pulse: Pulse,
) -> impl Service<Request<Incoming>, Response = Response<Tracked>, Error = Infallible, Future: Send + 'static> {
    let session = Arc::new(Session { peer: conn.peer, way });
    service_fn(move |request| {
        let (conn, session, running) = (conn.clone(), session.clone(), pulse.begin());
        async move {
            let response = answer(&conn, &session, request).await;
            Ok::<_, Infallible>(response.map(|body| Tracked { body, _running: running }))
        }
    })
}

async fn answer(conn: &Conn, session: &Session, mut request: Request<Incoming>) -> Response<Body> {
    if let Err(refused) = password::demand(conn, session, &mut request).await {
        return *refused;
    }
    if request.method() == Method::CONNECT {
        return connect::answer(conn, session, request).await;
    }
    conn.front.gateway.handle(session, request).await
}

/// Drives a connection to its end: the client's, that of its silence, or the process's.
async fn finish<C>(conn: &Conn, pulse: &Pulse, connection: C)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let settings = &conn.front.settings;
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = conn.front.tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = pulse.silence(settings.patience, settings.idle_timeout) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(settings.patience, connection).await.unwrap_or(Ok(()))
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

/// How many requests a connection has had, and has.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    begun: u64,
    running: u64,
}

/// Knows when a connection has nothing to do.
#[derive(Clone, Debug)]
struct Pulse(watch::Sender<Requests>);

impl Pulse {
    fn new() -> Pulse {
        Pulse(watch::Sender::new(Requests::default()))
    }

    fn begin(&self) -> Running {
        self.0.send_modify(|requests| {
            requests.begun += 1;
            requests.running += 1;
        });
        Running(self.0.clone())
    }

    /// Resolves when there was no request for `patience` from the start, or for `idle` since the last one ended.
    async fn silence(&self, patience: Duration, idle: Duration) {
        let mut requests = self.0.subscribe();
        let mut begun = 0;
        let mut limit = patience;
        loop {
            let next = requests.wait_for(|now| now.begun > begun);
            if tokio::time::timeout(limit, next).await.is_err() {
                return;
            }
            // Both counts at one moment: a request that begins after it counts as the next. `self` holds the sender, so
            // there is an answer as long as this waits.
            let Ok(quiet) = requests.wait_for(|now| now.running == 0).await else { return };
            begun = quiet.begun;
            limit = idle;
        }
    }
}

/// A request that has not been answered to the last byte.
#[derive(Debug)]
struct Running(watch::Sender<Requests>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.running -= 1);
    }
}

/// A body whose request runs until it is dropped.
struct Tracked {
    body: Body,
    _running: Running,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = crate::error::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::error::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::time::{Instant, sleep};

    const PATIENCE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn no_first_request_is_silence_after_patience() {
        let began = Instant::now();
        Pulse::new().silence(PATIENCE, IDLE).await;
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_and_went_unseen_counts() {
        let pulse = Pulse::new();
        drop(pulse.begin());
        let began = Instant::now();
        pulse.silence(PATIENCE, IDLE).await;
        assert_eq!(began.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_it_takes() {
        let pulse = Pulse::new();
        let mut silence = Box::pin(pulse.silence(PATIENCE, IDLE));
        assert!((&mut silence).now_or_never().is_none());
        let first = pulse.begin();
        assert!((&mut silence).now_or_never().is_none());
        sleep(IDLE * 10).await;
        let second = pulse.begin();
        drop(first);
        assert!((&mut silence).now_or_never().is_none());
        sleep(IDLE * 10).await;
        assert!((&mut silence).now_or_never().is_none());
        drop(second);
        let ended = Instant::now();
        silence.await;
        assert_eq!(ended.elapsed().as_secs(), IDLE.as_secs());
    }
}
