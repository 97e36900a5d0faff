//! Brings the bytes of one blob, over one connection or several:
//!
//! 1. which connections there are is planned (`policy/segments`): all of the blob, once somebody wants
//!    all of it or half of it is here, else what is asked for;
//! 2. what they bring coalesces, and is written and hashed on a thread while the next bytes arrive; a
//!    byte that is here is never written again;
//! 3. what is written is published;
//! 4. the first connection is resumed through the registry's URL when it breaks, as long as attempts
//!    bring bytes; one that was added is done without;
//! 5. more are added as long as that pays (`policy/growth`), and given back to who waits for a first one.
//!
//! Where upstream has no parts, or says no length, there is one connection, and it is never cut.

mod patience;
mod writing;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::{debug, info};

use patience::Patience;

use super::beside::Beside;
use super::coalesce::{Chunk, End};
use super::fill::{Also, Fill, Written, write};
use super::flight::Lead;
use super::open::Opened;
use super::stream::{Answering, Ended, Event, Stream, Streams, body_of};
use super::sweep::SpaceReservation;
use super::through::BlobRequest;
use super::wants::Waiting;
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::lane::Place;
use crate::oci::manifest::ContentKind;
use crate::policy::budget::Pace;
use crate::policy::extents::Extents;
use crate::policy::segments::{Scene, Step};
use crate::store::Partial;
use crate::upstream::{Fetched, Portion, Source};

/// How often it is looked at how fast bytes come, and whether another plan is better.
const TICK: Duration = Duration::from_millis(100);
/// Once nobody wants more the next question for a part of it is waited for a while: to begin again costs a
/// question.
const LINGER: Duration = Duration::from_secs(5);

/// Bytes of a part that are worth a question of their own.
const LONG: u64 = 1 << 20;
/// Bytes of connections that have ended, until they are written.
const BEHIND: usize = 1 << 20;
/// Where what is here is in more pieces, all of it comes: each look at them costs time.
const MOST_PIECES: usize = 4096;

/// What came.
pub(super) enum Came {
    /// All of it, hashed.
    Whole,
    /// What anybody wants.
    Wanted,
}

/// A fill at work.
pub(super) struct Pump {
    fill: Arc<Fill>,
    request: BlobRequest,
    inquiry: Inquiry,
    total: Option<u64>,
    source: Source,
    /// One connection alone that is never cut.
    is_plain: bool,
    /// It has ended, where its length was not known.
    has_ended: bool,
    streams: Streams,
    /// What is here, or was received.
    received: Extents,
    /// Of connections that have ended.
    left: Vec<Chunk>,
    at_rest: Option<Partial>,
    writing: Option<BoxFuture<'static, Written>>,
    reservation: Option<SpaceReservation>,
    /// Whether there is room for all of it, and not only for parts.
    has_room: bool,
    waiting: Waiting,
    /// Of a connection that was cut, for the next.
    place: Option<Place>,
    hashed: u64,
    /// Whether something changed since the last plan.
    is_stale: bool,
    most: usize,
    beside: Beside,
    brought: u64,
    ticks: Instant,
    pace: Pace,
    fruitless: u32,
    /// What was here when the first connection broke last.
    at_break: u64,
    /// Why no connection is opened any more.
    dead: Option<Error>,
    noted: (Instant, u64),
    patience: Patience,
}

impl Pump {
    /// What was opened is brought on.
    pub(super) fn new(fill: Arc<Fill>, opened: Opened, reservation: SpaceReservation) -> Pump {
        let Opened { partial, fetched, inquiry, request, most, is_part: _ } = opened;
        let (total, source, now) = (fetched.total, fetched.source.clone(), Instant::now());
        let is_part = opened.is_part && fetched.range.is_some();
        // Where a part was asked for, and all of it comes, there are no parts.
        let has_parts = source.has_parts && is_part == opened.is_part;
        let mut pump = Pump {
            beside: Beside::new(&fill.parts, &source.host(), most),
            request,
            inquiry,
            total,
            source,
            is_plain: !has_parts || total.is_none() || fill.kind() == ContentKind::Manifest,
            has_ended: false,
            streams: Streams::default(),
            received: partial.here().clone(),
            left: Vec::new(),
            noted: (now, partial.here().bytes()),
            patience: Patience::new(now),
            at_break: partial.here().bytes(),
            at_rest: Some(partial),
            writing: None,
            reservation: Some(reservation),
            has_room: !is_part,
            waiting: Waiting::default(),
            place: None,
            hashed: 0,
            is_stale: true,
            most,
            brought: 0,
            ticks: now + TICK,
            pace: Pace::new(fill.parts.now()),
            fruitless: 0,
            dead: None,
            fill,
        };
        let until = if is_part { fetched.range.map(|range| range.end_exclusive) } else { total };
        let body = body_of(&pump.fill.parts, fetched, until, &mut pump.received);
        pump.streams.add(Stream::flowing(until, body), true);
        pump
    }

    /// Whether it may come over several connections.
    pub(super) fn has_segments(&self) -> bool {
        !self.is_plain && self.most > 1
    }

    /// It has ended.
    pub(super) fn tell_end(&self) {
        if let Some(took) = self.patience.ended(Instant::now()) {
            self.say(took, "a blob that took long has ended");
        }
    }

    fn say(&self, took: Duration, what: &str) {
        let (digest, repository, seconds) = (self.fill.digest(), &self.fill.pull.key, took.as_secs());
        let (bytes, total, connections) = (self.received.bytes(), self.total, self.streams.len());
        info!(%digest, %repository, bytes, total, seconds, connections, "{what}");
    }

    /// Where bytes come from.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Notes which bytes are here, and tells.
    pub(super) async fn note(&mut self) -> Extents {
        let Some(partial) = self.partial().await else { return Extents::default() };
        let here = partial.here().clone();
        self.at_rest = Some(write(partial, Vec::new(), Also { note: true, hash: false }).await.0);
        here
    }

    /// What it leaves; no file where that could not be written.
    pub(super) async fn stop(mut self) -> (Option<Partial>, Option<SpaceReservation>) {
        self.streams.clear();
        (self.partial().await, self.reservation.take())
    }

    async fn partial(&mut self) -> Option<Partial> {
        match self.writing.take() {
            Some(writing) => Some(writing.await.0),
            None => self.at_rest.take(),
        }
    }

    /// Brings what is wanted, until all of that, or of the blob, is here.
    pub(super) async fn run(&mut self, lead: &Lead) -> Result<Came> {
        let wants = lead.flight().wants();
        let stopping = self.fill.parts.tasks.clone();
        let mut idle_since = None;
        loop {
            self.reap();
            if std::mem::take(&mut self.is_stale) {
                self.plan(lead).await?;
            }
            if self.writing.is_none() && !self.begin_write() && self.streams.is_empty() {
                if self.is_whole_here() {
                    return Ok(Came::Whole);
                }
                let is_over = self.waiting.is_over();
                match &self.dead {
                    Some(_) if is_over => return Ok(Came::Wanted),
                    Some(error) => return Err(error.clone()),
                    None if self.is_plain => return Err(Error::new(Kind::Broken, "upstream left something out")),
                    None => {}
                }
                self.place = None;
                let since = *idle_since.get_or_insert_with(Instant::now);
                if is_over && (since.elapsed() >= LINGER || stopping.is_stopping() || !self.beside.lingers()) {
                    return Ok(Came::Wanted);
                }
            } else {
                idle_since = None;
                self.beside.is_back();
            }
            let due = self.next_due();
            tokio::select! {
                (n, event) = self.streams.event(&mut self.received), if !self.streams.is_empty() => self.on(n, event),
                written = async { self.writing.as_mut().expect("checked by the guard").await }, if self.writing.is_some() => {
                    self.writing = None;
                    self.written(lead, written).await?;
                }
                () = wants.changed() => self.is_stale = true,
                () = tokio::time::sleep_until(due) => self.tick(),
                () = stopping.stopping(), if idle_since.is_some() && !stopping.is_stopping() => {}
            }
        }
    }

    fn next_due(&mut self) -> Instant {
        let due = self.streams.due().filter(|_| self.writing.is_none());
        due.map_or(self.ticks, |due| due.min(self.ticks))
    }

    /// Whether all is to come.
    fn is_whole(&self) -> bool {
        let half = self.total.is_some_and(|total| self.received.bytes() > total / 2);
        self.is_plain || self.waiting.all || half || self.received.ranges().len() > MOST_PIECES
    }

    fn is_whole_here(&self) -> bool {
        let Some(partial) = &self.at_rest else { return false };
        let is_here = self.total.map_or(self.has_ended, |total| partial.len() == total);
        is_here && partial.hashed() == partial.len()
    }

    /// What has ended makes room; what it brought is written next.
    fn reap(&mut self) {
        while let Some(Ended { stream, at, end, left }) = self.streams.ended() {
            self.left.extend(left);
            self.is_stale = true;
            match end {
                End::Broken(_) if stream.until.is_some_and(|until| at >= until) => {}
                End::Broken(error) => self.broke(&stream, at, error),
                End::Clean if self.total.is_none() => self.has_ended = true,
                End::Clean if stream.until.is_none_or(|until| at < until) => {
                    self.broke(&stream, at, Error::new(Kind::Broken, "upstream sent fewer bytes than it said"));
                }
                End::Clean => {}
            }
        }
    }

    /// One broke off at that byte.
    fn broke(&mut self, stream: &Stream, at: u64, error: Error) {
        if stream.is_added() {
            return self.failed_beside(&error);
        }
        let here = self.received.bytes();
        self.fruitless = if here > self.at_break { 0 } else { self.fruitless + 1 };
        self.at_break = here;
        let (fill, request, fruitless) = (self.fill.clone(), self.request.clone(), self.fruitless);
        let portion = self.portion(&(at..stream.until.unwrap_or(u64::MAX)));
        let total = self.total;
        let resumed = async move { fill.resume(&request, &portion, total, fruitless, error).await.map(Some) };
        self.streams.add(Stream::opening(at, stream.until, None, Box::pin(resumed)), true);
    }

    fn failed_beside(&mut self, error: &Error) {
        debug!(digest = %self.fill.digest(), %error, "an added connection is done without");
        self.beside.failed(&self.source.host());
    }

    async fn plan(&mut self, lead: &Lead) -> Result<()> {
        self.waiting = lead.flight().wants().waiting(&self.received);
        let Some(total) = self.total.filter(|_| !self.is_plain) else { return Ok(()) };
        let is_whole = self.is_whole();
        if is_whole && !self.has_room {
            // What parts had is given back first: it is a part of what all has.
            self.reservation = None;
            let here = self.received.bytes();
            self.reservation = Some(self.fill.make_room(here, total).await?);
            self.has_room = true;
        }
        let host = self.source.host();
        loop {
            let streams = self.streams.seen();
            let paying = self.beside.paying(&host, streams.len());
            let scene = Scene {
                total,
                here: &self.received,
                streams: &streams,
                wanted: &self.waiting.parts,
                is_whole,
                is_unsaid: self.waiting.is_unsaid,
                paying,
                most: self.most,
                horizon: self.hashed.saturating_add(self.fill.parts.ahead),
            };
            match scene.next() {
                Some(Step::Cut(n)) => self.cut(n),
                Some(Step::Open { part }) if self.dead.is_none() && !self.is_behind() => {
                    if !self.open(part) {
                        return Ok(());
                    }
                }
                Some(Step::Open { .. }) | None => return Ok(()),
            }
        }
    }

    /// Whether what ended waits for the disk: nothing is begun meanwhile.
    fn is_behind(&self) -> bool {
        self.left.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >= BEHIND
    }

    fn cut(&mut self, n: usize) {
        let (left, place) = self.streams.cut(n);
        self.left.extend(left);
        self.place = place.or(self.place.take());
    }

    /// Tells whether it was begun.
    fn open(&mut self, part: Range<u64>) -> bool {
        let until = Some(part.end);
        let portion = self.portion(&part);
        // Who has a place waits for no second one.
        let has_first = self.streams.has_first();
        let lent = if has_first { self.beside.lend(&self.source.host(), self.fill.tenant()) } else { None };
        let answering: Answering = match &lent {
            Some(_) => {
                let (request, source) = (self.request.clone(), self.source.clone());
                Box::pin(async move { request.fetch_beside(&portion, &source).await })
            }
            None if has_first => return false,
            None => {
                let (fill, request, inquiry) = (self.fill.clone(), self.request.clone(), self.inquiry.clone());
                let (source, place) = (self.source.clone(), self.place.take());
                Box::pin(async move { fill.go_on((&request, &inquiry), place, portion, &source).await.map(Some) })
            }
        };
        debug!(digest = %self.fill.digest(), ?part, is_added = lent.is_some(), "one more connection");
        self.streams.add(Stream::opening(part.start, until, lent, answering), false);
        true
    }

    /// What is asked for: up to the end, if it goes that far.
    fn portion(&self, part: &Range<u64>) -> Portion {
        match self.total {
            Some(total) if part.start < part.end && part.end < total => Portion::Part(part.clone()),
            _ => Portion::From(part.start),
        }
    }

    fn on(&mut self, n: usize, event: Event) {
        let answered = match event {
            Event::Moved => return,
            Event::Answered(answered) => *answered,
        };
        self.is_stale = true;
        let is_added = self.streams.get(n).is_added();
        match answered {
            Ok(Some(fetched)) => self.answered(n, fetched),
            // One asks through the registry for all, once.
            Ok(None) => {
                self.streams.remove(n);
                self.source.forget_address();
            }
            Err(error) if is_added => {
                self.streams.remove(n);
                self.failed_beside(&error);
            }
            // Others have all places: those that live go on.
            Err(error) if error.kind() == Kind::Busy && self.streams.len() > 1 => drop(self.streams.remove(n)),
            Err(error) => {
                debug!(digest = %self.fill.digest(), %error, "no more is asked for");
                self.streams.remove(n);
                self.dead = Some(error);
            }
        }
    }

    fn answered(&mut self, mut n: usize, fetched: Fetched) {
        let stream = self.streams.get(n);
        let (is_first, until) = (!stream.is_added(), stream.until);
        if fetched.range.is_some() {
            self.beside.worked();
            self.source = fetched.source.clone();
        } else if is_first && stream.at() > 0 {
            // It sends all again: what is here is left out.
            self.left.extend(self.streams.keep_only(n));
            (n, self.is_plain) = (0, true);
        }
        // A part that is shorter than was asked for is one that broke off, unless it is long: some registries
        // send no more at a time.
        let part = fetched.range.filter(|range| range.end_exclusive - range.start >= LONG);
        let end = part.map(|range| range.end_exclusive).or(self.total);
        let until = if self.is_plain { self.total } else { until.or(self.total).min(end) };
        let body = body_of(&self.fill.parts, fetched, until, &mut self.received);
        self.streams.get(n).restart(until, body);
    }

    /// Now and then.
    fn tick(&mut self) {
        let now = Instant::now();
        if now < self.ticks {
            return;
        }
        self.ticks = now + TICK;
        self.is_stale = true;
        if let Some(took) = self.patience.is_over(now) {
            self.say(took, "a blob is still coming");
        }
        if self.streams.measure(now) {
            self.beside.was_full(now);
        }
        let may = !self.is_plain && self.is_whole() && !self.source.shares_connection;
        self.beside.judge(now, self.brought, self.streams.len(), may, &self.source.host());
    }
}
