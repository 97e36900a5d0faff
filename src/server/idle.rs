//! The idleness of a connection: it has no request, or its client has stopped taking what it asked
//! for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use super::watched::{LastMoved, Observer, Watched};
use super::written::OfAnswer;
use crate::error::Error;
use crate::gateway::body::Body;
use crate::lane::Place;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// Fewer bytes than this in one write are about the connection (h2: pings, acknowledgements,
/// windows), and no part of an answer.
const SMALL: usize = 128;

/// Watches a connection. Clones watch the same one. A request wakes no task: the one that waits for
/// silence looks again when there could be one.
#[derive(Clone, Debug)]
pub(crate) struct IdleMonitor(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    requests: Requests,
    output: Arc<Output>,
}

/// The requests that a connection has had, and has.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    running: AtomicU64,
    /// When the last one ended, in nanoseconds since the start.
    ended: AtomicU64,
}

/// What goes to the client.
#[derive(Debug)]
pub(crate) struct Output {
    moved: LastMoved,
    /// The kernel takes no more at the moment. It knows what the client acknowledges, and ends the
    /// connection where that is nothing for too long (TCP_USER_TIMEOUT, see `listener`).
    blocked: AtomicBool,
    /// Requests that wait for seawall: for an answer, or for more of it.
    owed: AtomicU64,
}

impl IdleMonitor {
    pub(crate) fn new() -> IdleMonitor {
        let output = Output { moved: LastMoved::new(), blocked: AtomicBool::new(false), owed: AtomicU64::new(0) };
        IdleMonitor(Arc::new(Watch { requests: Requests::default(), output: Arc::new(output) }))
    }

    pub(crate) fn begin(&self) -> Running {
        let Watch { requests, output } = &*self.0;
        requests.running.fetch_add(1, Ordering::Relaxed);
        requests.begun.fetch_add(1, Ordering::Relaxed);
        output.owed.fetch_add(1, Ordering::Relaxed);
        Running { monitor: self.clone(), is_owed: true }
    }

    /// The connection itself, its output watched.
    pub(crate) fn watching<T>(&self, inner: T) -> Watched<T, Output> {
        Watched::new(inner, self.0.output.clone())
    }

    /// Resolves when there was no request for `patience` from the start, or for `idle` since the
    /// last one ended and the last of its answer went; or when its client has taken nothing of any
    /// answer for `idle`.
    pub(crate) async fn silence(&self, patience: Duration, idle: Duration) {
        tokio::select! {
            () = self.no_request(patience, idle) => {}
            () = self.stall(idle) => {}
        }
    }

    async fn no_request(&self, patience: Duration, idle: Duration) {
        while let Some(rest) = self.0.rest(patience, idle) {
            tokio::time::sleep(rest).await;
        }
    }

    /// h2 has windows of its own: a client that opens none any more and answers pings would hold
    /// its answers for ever.
    async fn stall(&self, idle: Duration) {
        while let Some(rest) = self.0.output.rest(idle).or_else(|| (!self.is_stalled()).then_some(idle)) {
            tokio::time::sleep(rest).await;
        }
    }

    fn is_stalled(&self) -> bool {
        self.0.requests.running.load(Ordering::Relaxed) > 0 && self.0.output.owed.load(Ordering::Relaxed) == 0
    }
}

impl Watch {
    /// The time for which there can be no silence; `None` if there is one. A request that begins
    /// and ends meanwhile is known by when it ended, so a task that looks again after at most
    /// `idle` misses none.
    fn rest(&self, patience: Duration, idle: Duration) -> Option<Duration> {
        let some = |rest: Duration| Some(rest).filter(|rest| !rest.is_zero());
        let passed = self.output.moved.since_start();
        if self.requests.begun.load(Ordering::Relaxed) == 0 {
            return some(patience.saturating_sub(passed).min(idle));
        }
        // A request writes down when it ended before it stops running.
        if self.requests.running.load(Ordering::Acquire) > 0 {
            return Some(idle);
        }
        let ended = Duration::from_nanos(self.requests.ended.load(Ordering::Relaxed));
        // The answer may still wait here for a slow client.
        some((ended + idle).saturating_sub(passed)).or_else(|| self.output.rest(idle))
    }
}

impl Output {
    /// How long until nothing has moved for `idle`; `None` if that is so already.
    fn rest(&self, idle: Duration) -> Option<Duration> {
        if self.blocked.load(Ordering::Relaxed) {
            return Some(idle);
        }
        self.moved.rest(idle)
    }
}

impl Observer for Output {
    fn read(&self, _: &Poll<io::Result<()>>) {}

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        self.blocked.store(written.is_pending(), Ordering::Relaxed);
        if matches!(written, Poll::Ready(Ok(SMALL..))) {
            self.moved.touch();
        }
    }

    fn flushed(&self, flushed: &Poll<io::Result<()>>) {
        self.blocked.store(flushed.is_pending(), Ordering::Relaxed);
    }
}

/// A request that has not been answered to the last byte.
#[derive(Debug)]
pub(crate) struct Running {
    monitor: IdleMonitor,
    is_owed: bool,
}

impl Running {
    /// Notes that something of the answer was given to the connection: the client has to take it.
    pub(crate) fn gave(&mut self) {
        let output = &self.monitor.0.output;
        output.moved.touch();
        if self.is_owed {
            self.is_owed = false;
            output.owed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes that there is nothing of the answer to give yet: the client waits for seawall.
    fn owes(&mut self) {
        if !self.is_owed {
            self.is_owed = true;
            self.monitor.0.output.owed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gave();
        let Watch { requests, output } = &*self.monitor.0;
        let passed = u64::try_from(output.moved.since_start().as_nanos()).unwrap_or(u64::MAX);
        requests.ended.store(passed, Ordering::Relaxed);
        requests.running.fetch_sub(1, Ordering::Release);
    }
}

/// A body whose request runs until it is dropped.
pub(crate) struct Tracked {
    pub(crate) body: Body,
    pub(crate) running: Running,
    pub(crate) unwritten: Arc<OfAnswer>,
    /// Its place among the answers that are open.
    pub(crate) _place: Option<Place>,
}

impl Tracked {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.body.takes_memory() {
            return Pin::new(&mut self.body).poll_frame(cx);
        }
        let room = self.unwritten.room(cx);
        if room == 0 {
            return Poll::Pending;
        }
        self.body.at_most(room);
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        polled.map_ok(|frame| frame.map_data(|bytes| self.unwritten.lend(bytes)))
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = self.poll(cx);
        match polled.is_ready() || self.unwritten.is_full() {
            true => self.running.gave(),
            false => self.running.owes(),
        }
        polled
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
    use crate::metrics::bounds::Level;
    use crate::server::written::OfConnection;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::{Instant, sleep};

    const PATIENCE: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn no_first_request_is_silence_after_patience() {
        let began = Instant::now();
        IdleMonitor::new().silence(PATIENCE, IDLE).await;
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_and_went_unseen_counts() {
        let monitor = IdleMonitor::new();
        drop(monitor.begin());
        let began = Instant::now();
        monitor.silence(PATIENCE, IDLE).await;
        assert_eq!(began.elapsed().as_secs(), IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_as_long_as_it_takes() {
        let monitor = IdleMonitor::new();
        let mut silence = Box::pin(monitor.silence(PATIENCE, IDLE));
        assert!((&mut silence).now_or_never().is_none());
        let first = monitor.begin();
        assert!((&mut silence).now_or_never().is_none());
        sleep(IDLE * 10).await;
        let second = monitor.begin();
        drop(first);
        assert!((&mut silence).now_or_never().is_none());
        sleep(IDLE * 10).await;
        assert!((&mut silence).now_or_never().is_none());
        drop(second);
        let ended = Instant::now();
        silence.await;
        assert_eq!(ended.elapsed().as_secs(), IDLE.as_secs());
    }

    /// Writes so many bytes to a client that takes them.
    async fn answered(monitor: &IdleMonitor, bytes: usize) {
        monitor.watching(tokio::io::sink()).write_all(&vec![0; bytes]).await.unwrap();
    }

    /// h2 buffers the end of an answer for a client whose windows are small: the request is over,
    /// the answer is not.
    #[tokio::test(start_paused = true)]
    async fn what_is_still_on_its_way_to_a_slow_client_is_no_silence() {
        let monitor = IdleMonitor::new();
        drop(monitor.begin());
        let going = async {
            for _ in 0..100 {
                sleep(IDLE / 2).await;
                answered(&monitor, 4 << 10).await;
            }
            let last = Instant::now();
            for _ in 0..100 {
                sleep(IDLE / 2).await;
                answered(&monitor, 17).await;
            }
            last
        };
        let silent = async {
            monitor.silence(PATIENCE, IDLE).await;
            Instant::now()
        };
        let (last, silent) = tokio::join!(going, silent);
        assert_eq!((silent - last).as_secs(), IDLE.as_secs(), "pings are nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_more_is_left() {
        let monitor = IdleMonitor::new();
        let mut running = monitor.begin();
        let mut silence = Box::pin(monitor.silence(PATIENCE, IDLE));
        // Upstream is slow: that is not the client's.
        assert!(tokio::time::timeout(IDLE * 10, &mut silence).await.is_err());
        running.gave();
        answered(&monitor, 4 << 10).await;
        let began = Instant::now();
        silence.await;
        assert_eq!(began.elapsed().as_secs(), IDLE.as_secs());
    }

    /// HTTP/2: a client that opens no window, and reads whatever else comes, has asked for
    /// something and holds it.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_opens_no_window_is_left() {
        let monitor = IdleMonitor::new();
        let begun = monitor.clone();
        let service = hyper::service::service_fn(move |_| {
            let mut running = begun.begin();
            running.gave();
            let unwritten = OfConnection::new(Level::default(), Arc::default()).answer();
            let body = Tracked { body: Body::full(vec![0; 1 << 20]), running, unwritten, _place: None };
            std::future::ready(Ok::<_, Error>(http::Response::new(body)))
        });
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut answers, mut requests) = tokio::io::split(far);
        let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let serving = builder.serve_connection(hyper_util::rt::TokioIo::new(monitor.watching(near)), service);
        // SETTINGS_INITIAL_WINDOW_SIZE of 0; GET https://x/
        requests.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").await.unwrap();
        requests.write_all(b"\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x01\x01x").await.unwrap();
        let (began, mut answered) = (Instant::now(), Vec::new());
        tokio::select! {
            ended = serving => panic!("{ended:?}"),
            _ = answers.read_to_end(&mut answered) => panic!("it was hung up on"),
            () = monitor.silence(PATIENCE, IDLE) => {}
        }
        assert_eq!(
            (began.elapsed().as_secs(), monitor.0.requests.running.load(Ordering::Relaxed)),
            (IDLE.as_secs(), 1)
        );
    }

    /// The kernel sees acknowledgements that seawall does not: what it still holds is the kernel's
    /// to give up.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_the_kernels() {
        let monitor = IdleMonitor::new();
        let mut running = monitor.begin();
        running.gave();
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = monitor.watching(near);
        let writing = async move {
            near.write_all(&[0; 2 << 10]).await.unwrap();
            Instant::now()
        };
        let reading = async {
            sleep(IDLE * 10).await;
            far.read_exact(&mut [0; 2 << 10]).await.unwrap();
        };
        let silence = async {
            monitor.silence(PATIENCE, IDLE).await;
            Instant::now()
        };
        let (written, (), silent) = tokio::join!(writing, reading, silence);
        assert_eq!((silent - written).as_secs(), IDLE.as_secs());
    }
}
