//! What arrives of a body, until it is written together.
//!
//! A write costs a thread, a wake-up of everybody who follows and a TLS record for each of them,
//! however few bytes it is for; a link of 25 MB/s brings a few of them every 60 µs. So the first
//! bytes go at once, those behind them when there are many, when the first of them waited for a
//! moment, or when there are no more. The end waits for nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::metrics::bounds::Level;
use crate::policy::budget::may_buffer;

/// Bytes that coalesce at most, and one frame: what upstream sends meanwhile waits in its
/// connection.
const MOST: usize = 1 << 20;
/// So many need not wait for more: a write of 128 KiB at a time cost a tenth more CPU.
const MANY: usize = 512 << 10;
/// How long bytes wait for others: at 25 MB/s 75 KB arrive in it.
const MOMENT: Duration = Duration::from_millis(3);

/// How a body ended.
#[derive(Debug)]
pub(super) enum End {
    /// As it should, as far as can be known without a length.
    Clean,
    /// It broke off.
    Broken(Error),
}

/// A body, and what of it has arrived and is not written.
pub(super) struct WriteCoalescer<B> {
    body: B,
    buffered: Buffered,
    /// Bytes that are here already: upstream ignored the range.
    skip: u64,
    chunks: Vec<Bytes>,
    size: usize,
    /// Bytes that were taken, and are being written.
    writing: usize,
    end: Option<End>,
    /// Until when what is here waits for more.
    due: Option<Instant>,
    /// Nothing has been taken yet.
    first: bool,
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
    /// The first `skip` bytes are left out. `all`: what all fills have read and not written.
    pub(super) fn new(body: B, skip: u64, all: &Level) -> WriteCoalescer<B> {
        let buffered = Buffered { all: all.clone(), own: 0 };
        let (chunks, end, due) = (Vec::new(), None, None);
        WriteCoalescer { body, buffered, skip, chunks, size: 0, writing: 0, end, due, first: true }
    }

    /// Whether there is room for more, and there may be more.
    pub(super) fn wants_more(&self) -> bool {
        let Buffered { all, own } = &self.buffered;
        self.end.is_none() && self.size < MOST && may_buffer(*own, all.read())
    }

    /// When what is here should go, if something is: maybe in the past.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is here, if it should go now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        let due = self.due.is_some_and(|due| due <= now || self.size >= MANY || self.end.is_some());
        due.then(|| {
            self.writing = self.size;
            (self.size, self.due, self.first) = (0, None, false);
            std::mem::take(&mut self.chunks)
        })
    }

    /// What was taken is written.
    pub(super) fn written(&mut self) {
        self.buffered.sub(std::mem::take(&mut self.writing));
    }

    /// How it ended, once that is so and all was taken.
    pub(super) fn take_end(&mut self) -> Option<End> {
        self.end.take_if(|_| self.chunks.is_empty())
    }

    /// Waits for the next bytes, or the end, which comes after a silence of `idle`, too.
    pub(super) async fn more(&mut self, idle: Duration) {
        match tokio::time::timeout(idle, self.body.frame()).await {
            Err(_) => self.end = Some(End::Broken(Error::new(Kind::Timeout, "upstream stopped sending"))),
            Ok(None) => self.end = Some(End::Clean),
            Ok(Some(Err(error))) => {
                self.end = Some(End::Broken(Error::caused(Kind::Broken, "upstream broke off", error)));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    self.add(bytes);
                }
            }
        }
    }

    /// Takes in bytes that arrived.
    pub(super) fn add(&mut self, mut bytes: Bytes) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        let bytes = bytes.split_off(skipped);
        if bytes.is_empty() {
            return;
        }
        let moment = if self.first { Duration::ZERO } else { MOMENT };
        self.due.get_or_insert_with(|| Instant::now() + moment);
        self.size += bytes.len();
        self.buffered.add(bytes.len());
        self.chunks.push(bytes);
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
        gathered.take_due(Instant::now()).map(|chunks| chunks.iter().map(Bytes::len).sum())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_bytes_go_at_once_and_those_behind_them_together() {
        let (sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, 0, &Level::default());
        for _ in 0..3 {
            sender.send(Bytes::from_static(b"four")).unwrap();
        }
        gathered.more(IDLE).await;
        assert_eq!(taken(&mut gathered), Some(4), "a client waits for them");
        gathered.more(IDLE).await;
        gathered.more(IDLE).await;
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
        let mut gathered = WriteCoalescer::new(body, 0, &Level::default());
        for len in [1, MANY - 1, 1, MOST - MANY, MOST] {
            sender.send(Bytes::from(vec![0; len])).unwrap();
        }
        gathered.more(IDLE).await;
        assert_eq!(taken(&mut gathered), Some(1));
        gathered.more(IDLE).await;
        assert_eq!(taken(&mut gathered), None);
        gathered.more(IDLE).await;
        assert!(gathered.wants_more());
        gathered.more(IDLE).await;
        assert!(!gathered.wants_more(), "the disk is slower than upstream: {} bytes are enough", gathered.size);
        assert_eq!(taken(&mut gathered), Some(MOST));
    }

    /// Where all have read too much, who has something of it waits until that is written, and who has
    /// nothing reads on.
    #[tokio::test(start_paused = true)]
    async fn what_all_have_read_is_bounded() {
        let (all, (sender, body)) = (Level::default(), body());
        all.add(1 << 30);
        let mut gathered = WriteCoalescer::new(body, 0, &all);
        assert!(gathered.wants_more());
        sender.send(Bytes::from_static(b"four")).unwrap();
        gathered.more(IDLE).await;
        assert!(!gathered.wants_more());
        assert_eq!(taken(&mut gathered), Some(4));
        assert!(!gathered.wants_more(), "they are being written");
        gathered.written();
        assert!(gathered.wants_more());
        sender.send(Bytes::from_static(b"four")).unwrap();
        gathered.more(IDLE).await;
        drop(gathered);
        assert_eq!(all.read(), 1 << 30);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_nothing_and_comes_last() {
        let (sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, 2, &Level::default());
        sender.send(Bytes::from_static(b"12first")).unwrap();
        sender.send(Bytes::from_static(b"last")).unwrap();
        drop(sender);
        gathered.more(IDLE).await;
        assert_eq!(taken(&mut gathered), Some(5), "without those that are here already");
        gathered.more(IDLE).await;
        assert_eq!(taken(&mut gathered), None);
        gathered.more(IDLE).await;
        assert!(!gathered.wants_more());
        assert!(gathered.take_end().is_none(), "bytes are here still");
        assert_eq!(taken(&mut gathered), Some(4));
        assert!(matches!(gathered.take_end(), Some(End::Clean)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_an_end() {
        let (_sender, body) = body();
        let mut gathered = WriteCoalescer::new(body, 0, &Level::default());
        gathered.more(IDLE).await;
        assert!(matches!(gathered.take_end(), Some(End::Broken(error)) if error.kind() == Kind::Timeout));
    }
}
