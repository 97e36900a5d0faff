//! What arrives of a body and is not here yet, until it is written together.
//!
//! A write costs a thread, a wake-up of everybody who follows and a TLS record for each of them,
//! however few bytes it is for; a link of 25 MB/s brings a few of them every 60 µs. So the first
//! bytes go at once, those behind them when there are many, when the first of them waited for a
//! moment, or when there are no more. The end waits for nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, Kind};
use crate::metrics::bounds::Level;
use crate::policy::budget::may_buffer;
use crate::policy::extents::Extents;

/// Bytes that coalesce at most, and one frame: what upstream sends meanwhile waits in its
/// connection.
const MOST: usize = 1 << 20;
/// So many need not wait for more: a write of 128 KiB at a time cost a tenth more CPU.
const MANY: usize = 512 << 10;
/// How long bytes wait for others: at 25 MB/s 250 KB arrive in it. A third of that cost a quarter more CPU.
const MOMENT: Duration = Duration::from_millis(10);

/// How a body ended.
#[derive(Debug)]
pub(super) enum End {
    /// As it should, as far as can be known without a length.
    Clean,
    /// It broke off.
    Broken(Error),
}

/// Bytes of a blob, and the first one's place in it.
pub(super) type Chunk = (u64, Bytes);

/// A body, and what of it has arrived and is not written.
pub(super) struct WriteCoalescer<B> {
    body: B,
    buffered: Buffered,
    /// The place of the next byte in the whole.
    at: u64,
    /// Where it is to end.
    until: Option<u64>,
    chunks: Vec<Chunk>,
    size: usize,
    /// Bytes that were taken, and are being written.
    writing: usize,
    end: Option<End>,
    /// Until when what is here waits for more.
    due: Option<Instant>,
    /// Nothing has been taken yet.
    first: bool,
    silence: Silence,
}

/// How long a body says nothing.
struct Silence {
    idle: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(idle: Duration) -> Silence {
        Silence { idle, since: Instant::now(), timer: Box::pin(tokio::time::sleep(idle)) }
    }

    /// Whether it was too long. Who hears something, or does not listen, only notes when: the timer is
    /// set again once it is over.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.since + self.idle;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }

    fn is_over(&mut self) {
        self.since = Instant::now();
    }
}

/// What one fill has read and not written, among what all have.
struct Buffered {
    all: Level,
    own: u64,
}

impl Buffered {
    fn add(&mut self, bytes: usize) {
        self.own += bytes as u64;
        self.all.add(bytes as u64);
    }

    fn sub(&mut self, bytes: usize) {
        self.own -= bytes as u64;
        self.all.sub(bytes as u64);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.all.sub(self.own);
    }
}

impl<B> WriteCoalescer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// It begins with byte `at` of the whole, and is to end at `until`. It may be silent for `idle`. `all`:
    /// what all fills have read and not written.
    pub(super) fn new(body: B, (at, until): (u64, Option<u64>), idle: Duration, all: &Level) -> WriteCoalescer<B> {
        let buffered = Buffered { all: all.clone(), own: 0 };
        let (chunks, end, due, silence) = (Vec::new(), None, None, Silence::new(idle));
        WriteCoalescer { body, buffered, at, until, chunks, size: 0, writing: 0, end, due, first: true, silence }
    }

    /// The place of the next byte that arrives.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// What brings them.
    pub(super) fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether it has ended: what is here of it is the last.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether there is room for more, and there may be more.
    pub(super) fn wants_more(&self) -> bool {
        self.end.is_none() && !self.is_full()
    }

    /// Whether more has to wait until what is here is written.
    pub(super) fn is_full(&self) -> bool {
        let Buffered { all, own } = &self.buffered;
        self.size >= MOST || !may_buffer(*own, all.read())
    }

    /// When what is here should go, if something is: maybe in the past.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is here, if it should go now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<Chunk>> {
        let due = self.due.is_some_and(|due| due <= now || self.size >= MANY || self.end.is_some());
        due.then(|| self.take())
    }

    /// What is here.
    pub(super) fn take(&mut self) -> Vec<Chunk> {
        self.writing += self.size;
        (self.size, self.due, self.first) = (0, None, false);
        std::mem::take(&mut self.chunks)
    }

    /// What was taken is written.
    pub(super) fn written(&mut self) {
        self.buffered.sub(std::mem::take(&mut self.writing));
    }

    /// How it ended, once that is so and all was taken.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.end.take_if(|_| self.chunks.is_empty())
    }

    /// Looks for the next bytes, or the end, which comes after a silence, too. What is here is left out,
    /// and what comes is here from now on.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, here: &mut Extents) -> Poll<()> {
        if !self.wants_more() {
            self.silence.is_over();
            return Poll::Pending;
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                std::task::ready!(self.silence.poll_over(cx));
                self.end = Some(End::Broken(Error::new(Kind::Timeout, "upstream stopped sending")));
            }
            Poll::Ready(None) => self.end = Some(End::Clean),
            Poll::Ready(Some(Err(error))) => {
                self.end = Some(End::Broken(Error::caused(Kind::Broken, "upstream broke off", error)));
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.is_over();
                if let Ok(bytes) = frame.into_data() {
                    self.add(bytes, here);
                }
            }
        }
        Poll::Ready(())
    }

    /// Takes in bytes that arrived.
    pub(super) fn add(&mut self, mut bytes: Bytes, here: &mut Extents) {
        let left = self.until.map_or(usize::MAX, |until| usize::try_from(until - self.at).unwrap_or(usize::MAX));
        if bytes.len() > left {
            bytes.truncate(left);
            self.end = Some(End::Broken(Error::new(Kind::Broken, "upstream sent more bytes than it said")));
        }
        let (from, to) = (self.at, self.at + bytes.len() as u64);
        let missing: Vec<_> = here.gaps(from..to).collect();
        for part in missing {
            let within = |at: u64| usize::try_from(at - from).unwrap_or(usize::MAX);
            self.keep(part.start, bytes.slice(within(part.start)..within(part.end)));
            here.add(part);
        }
        self.at = to;
    }

    fn keep(&mut self, at: u64, bytes: Bytes) {
        let moment = if self.first { Duration::ZERO } else { MOMENT };
        self.due.get_or_insert_with(|| Instant::now() + moment);
        self.size += bytes.len();
        self.buffered.add(bytes.len());
        self.chunks.push((at, bytes));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// A body that is what is sent to it.
    fn body() -> (UnboundedSender<Bytes>, impl Body<Data = Bytes, Error = Infallible> + Unpin) {
        let (sender, mut receiver) = unbounded_channel();
        let frames = futures_util::stream::poll_fn(move |cx| {
            receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        });
        (sender, StreamBody::new(frames))
    }

    fn taken<B>(gathered: &mut WriteCoalescer<B>) -> Option<usize>
    where
        B: Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        gathered.take_due(Instant::now()).map(|chunks| chunks.iter().map(|(_, bytes)| bytes.len()).sum())
    }

    async fn more<B>(gathered: &mut WriteCoalescer<B>)
    where
        B: Body<Data = Bytes, Error = Infallible> + Unpin,
    {
        let mut here = Extents::default();
        here.add(0..gathered.at());
        std::future::poll_fn(|cx| gathered.poll_more(cx, &mut here)).await;
    }

    /// What upstream sends again, or another connection brought, is not written again: a byte that is here
    /// never changes.
    #[tokio::test]
    async fn what_is_here_is_left_out() {
        let (sender, body) = body();
        let mut here = Extents::from_ranges([0..4, 6..8]).unwrap();
        let mut gathered = WriteCoalescer::new(body, (2, Some(12)), IDLE, &Level::default());
        sender.send(Bytes::from_static(b"23456789")).unwrap();
        std::future::poll_fn(|cx| gathered.poll_more(cx, &mut here)).await;
        assert_eq!(gathered.take(), [(4, Bytes::from_static(b"45")), (8, Bytes::from_static(b"89"))]);
        assert_eq!((here.ranges().to_vec(), gathered.at()), (std::iter::once(0..10).collect::<Vec<_>>(), 10));
        sender.send(Bytes::from_static(b"abc")).unwrap();
        std::future::poll_fn(|cx| gathered.poll_more(cx, &mut here)).await;
        assert_eq!(gathered.take(), [(10, Bytes::from_static(b"ab"))]);
        assert!(matches!(gathered.take_end(), Some(End::Broken(_))), "it is longer than was said");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_go_at_once_and_those_behind_them_together() {
        let (sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, (0, None), IDLE, &Level::default());
        for _ in 0..3 {
            sender.send(Bytes::from_static(b"four")).unwrap();
        }
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), Some(4), "a client waits for them");
        more(&mut gathered).await;
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), None);
        let due = gathered.due().expect("bytes are here");
        assert_eq!(due, Instant::now() + MOMENT, "of the first of them, not the last");
        tokio::time::sleep_until(due).await;
        assert_eq!(taken(&mut gathered), Some(8));
        assert_eq!(gathered.due(), None, "while upstream pauses nothing is held and no timer runs");
    }

    #[tokio::test(start_paused = true)]
    async fn many_bytes_wait_for_no_moment_and_more_are_not_asked_for() {
        let (sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, (0, None), IDLE, &Level::default());
        for len in [1, MANY - 1, 1, MOST - MANY, MOST] {
            sender.send(Bytes::from(vec![0; len])).unwrap();
        }
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), Some(1));
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), None);
        more(&mut gathered).await;
        assert!(gathered.wants_more());
        more(&mut gathered).await;
        assert!(!gathered.wants_more(), "the disk is slower than upstream: {} bytes are enough", gathered.size);
        assert_eq!(taken(&mut gathered), Some(MOST));
    }

    /// Where all have read too much, who has something of it waits until that is written, and who has
    /// nothing reads on.
    #[tokio::test(start_paused = true)]
    async fn what_all_have_read_is_bounded() {
        let (all, (sender, body)) = (Level::default(), body());
        all.add(1 << 30);
        let mut gathered = WriteCoalescer::new(body, (0, None), IDLE, &all);
        assert!(gathered.wants_more());
        sender.send(Bytes::from_static(b"four")).unwrap();
        more(&mut gathered).await;
        assert!(!gathered.wants_more());
        assert_eq!(taken(&mut gathered), Some(4));
        assert!(!gathered.wants_more(), "they are being written");
        gathered.written();
        assert!(gathered.wants_more());
        sender.send(Bytes::from_static(b"four")).unwrap();
        more(&mut gathered).await;
        drop(gathered);
        assert_eq!(all.read(), 1 << 30);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_nothing_and_comes_last() {
        let (sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, (0, None), IDLE, &Level::default());
        sender.send(Bytes::from_static(b"first")).unwrap();
        sender.send(Bytes::from_static(b"last")).unwrap();
        drop(sender);
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), Some(5));
        more(&mut gathered).await;
        assert_eq!(taken(&mut gathered), None);
        more(&mut gathered).await;
        assert!(!gathered.wants_more());
        assert!(gathered.take_end().is_none(), "bytes are here still");
        assert_eq!(taken(&mut gathered), Some(4));
        assert!(matches!(gathered.take_end(), Some(End::Clean)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_an_end() {
        let (_sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, (0, None), IDLE, &Level::default());
        more(&mut gathered).await;
        assert!(matches!(gathered.take_end(), Some(End::Broken(error)) if error.kind() == Kind::Timeout));
    }
}
