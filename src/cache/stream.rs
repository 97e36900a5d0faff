//! One connection of a fill: about to answer, or bringing bytes.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::coalesce::{Chunk, End, WriteCoalescer};
use super::lending::Lent;
use super::parts::Parts;
use crate::error::Result;
use crate::lane::Place;
use crate::policy::extents::Extents;
use crate::policy::segments;
use crate::upstream::{Fetched, Transfer};

/// What a connection that was asked for answers; nothing where its address is no longer good.
pub(super) type Answering = BoxFuture<'static, Result<Option<Fetched>>>;

/// One connection.
pub(super) struct Stream {
    from: u64,
    /// Where only a part was asked for: its end.
    pub(super) until: Option<u64>,
    state: State,
    /// Of one that came beside another.
    lent: Option<Lent>,
    speed: Speed,
}

enum State {
    Opening(Answering),
    Flowing(Box<WriteCoalescer<Transfer>>),
}

/// What happened to a connection.
pub(super) enum Event {
    /// It answered.
    Answered(Box<Result<Option<Fetched>>>),
    /// Bytes came, or it ended.
    Moved,
}

/// Bytes a second, lately.
#[derive(Default)]
struct Speed {
    mark: Option<(Instant, u64)>,
    rate: Option<u64>,
}

/// Over less time it says nothing.
const MEASURED_OVER: Duration = Duration::from_millis(200);

impl Speed {
    fn measure(&mut self, now: Instant, brought: u64) {
        let Some((since, before)) = self.mark else {
            self.mark = Some((now, brought));
            return;
        };
        let time = now.duration_since(since);
        if time >= MEASURED_OVER {
            let rate = u128::from(brought - before) * 1000 / time.as_millis().max(1);
            self.rate = u64::try_from(rate).ok();
            self.mark = Some((now, brought));
        }
    }
}

/// The body of what upstream answered, up to there at most. What of it came already is received.
pub(super) fn body_of(
    parts: &Parts,
    fetched: Fetched,
    until: Option<u64>,
    received: &mut Extents,
) -> Box<WriteCoalescer<Transfer>> {
    let (idle, buffered) = (parts.upstream.idle_timeout(), &parts.metrics.bounds().buffered);
    let mut body = WriteCoalescer::new(fetched.body, (fetched.start, until), idle, buffered);
    body.add(fetched.ahead, received);
    Box::new(body)
}

impl Stream {
    pub(super) fn opening(from: u64, until: Option<u64>, lent: Option<Lent>, answering: Answering) -> Stream {
        Stream { from, until, state: State::Opening(answering), lent, speed: Speed::default() }
    }

    pub(super) fn flowing(until: Option<u64>, body: Box<WriteCoalescer<Transfer>>) -> Stream {
        Stream { from: body.at(), until, state: State::Flowing(body), lent: None, speed: Speed::default() }
    }

    /// It answered.
    pub(super) fn restart(&mut self, until: Option<u64>, body: Box<WriteCoalescer<Transfer>>) {
        (self.from, self.until) = (body.at(), until);
        self.state = State::Flowing(body);
    }

    pub(super) fn is_added(&self) -> bool {
        self.lent.is_some()
    }

    /// Its bytes, once it answered.
    fn body(&mut self) -> Option<&mut WriteCoalescer<Transfer>> {
        match &mut self.state {
            State::Opening(_) => None,
            State::Flowing(body) => Some(body),
        }
    }

    /// The place of its next byte.
    pub(super) fn at(&self) -> u64 {
        match &self.state {
            State::Opening(_) => self.from,
            State::Flowing(body) => body.at(),
        }
    }

    fn brought(&self) -> u64 {
        self.at().saturating_sub(self.from)
    }

    /// Measures how fast it is.
    fn measure(&mut self, now: Instant) {
        let brought = self.brought();
        if matches!(self.state, State::Flowing(_)) {
            self.speed.measure(now, brought);
        }
    }

    fn seen(&self) -> segments::Stream {
        segments::Stream {
            at: self.at(),
            until: self.until,
            brought: self.brought(),
            rate: self.speed.rate,
            is_added: self.is_added(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, here: &mut Extents) -> Poll<Event> {
        match &mut self.state {
            State::Opening(answering) => answering.as_mut().poll(cx).map(Box::new).map(Event::Answered),
            State::Flowing(body) => body.poll_more(cx, here).map(|()| Event::Moved),
        }
    }
}

/// All connections of a fill, in the order in which they were begun; and which is looked at first.
#[derive(Default)]
pub(super) struct Streams(Vec<Stream>, usize);

/// A connection that has ended, and how.
pub(super) struct Ended {
    pub(super) stream: Stream,
    /// The place of the byte behind its last.
    pub(super) at: u64,
    pub(super) end: End,
    /// What of it is not written.
    pub(super) left: Vec<Chunk>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One more; it comes before those that are there if it takes the place of one that broke.
    pub(super) fn add(&mut self, stream: Stream, is_first: bool) {
        let at = if is_first { 0 } else { self.0.len() };
        self.0.insert(at, stream);
    }

    pub(super) fn get(&mut self, n: usize) -> &mut Stream {
        &mut self.0[n]
    }

    pub(super) fn remove(&mut self, n: usize) -> Stream {
        self.0.remove(n)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// All but one end: what of them is not written.
    pub(super) fn keep_only(&mut self, n: usize) -> Vec<Chunk> {
        self.0.swap(0, n);
        let others = self.0.split_off(1);
        others.into_iter().flat_map(|mut other| other.body().map(WriteCoalescer::take).unwrap_or_default()).collect()
    }

    /// Whether there is one that was not added.
    pub(super) fn has_first(&self) -> bool {
        self.0.iter().any(|stream| !stream.is_added())
    }

    /// The next thing that happens to one of them. `here`: what is here, or was received.
    pub(super) async fn event(&mut self, here: &mut Extents) -> (usize, Event) {
        std::future::poll_fn(|cx| {
            // In turn: none is always ready before another is looked at.
            let count = self.0.len();
            for n in (0..count).map(|n| (self.1 + n) % count) {
                if let Poll::Ready(event) = self.0[n].poll(cx, here) {
                    self.1 = n + 1;
                    return Poll::Ready((n, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    fn bodies(&mut self) -> impl Iterator<Item = &mut WriteCoalescer<Transfer>> {
        self.0.iter_mut().filter_map(Stream::body)
    }

    /// When something is to be written.
    pub(super) fn due(&mut self) -> Option<Instant> {
        self.bodies().filter_map(|body| body.due()).min()
    }

    /// What is to be written now.
    pub(super) fn take_due(&mut self, now: Instant) -> impl Iterator<Item = Chunk> {
        self.bodies().filter_map(move |body| body.take_due(now)).flatten()
    }

    /// What was taken is written.
    pub(super) fn written(&mut self) {
        self.bodies().for_each(WriteCoalescer::written);
    }

    /// One that has ended, if one has.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let n = self.0.iter_mut().position(|stream| stream.body().is_some_and(|body| body.has_ended()))?;
        let mut stream = self.0.remove(n);
        let body = stream.body()?;
        let (left, at) = (body.take(), body.at());
        let end = body.take_end()?;
        Some(Ended { stream, at, end, left })
    }

    /// Ends one: what of it is not written, and its place.
    pub(super) fn cut(&mut self, n: usize) -> (Vec<Chunk>, Option<Place>) {
        let mut stream = self.0.remove(n);
        stream.body().map(|body| (body.take(), body.body_mut().take_place())).unwrap_or_default()
    }

    /// Measures how fast each is. Tells whether one waits for the disk.
    pub(super) fn measure(&mut self, now: Instant) -> bool {
        self.0.iter_mut().for_each(|stream| stream.measure(now));
        self.bodies().any(|body| body.is_full())
    }

    /// As a plan sees them.
    pub(super) fn seen(&self) -> Vec<segments::Stream> {
        self.0.iter().map(Stream::seen).collect()
    }
}
