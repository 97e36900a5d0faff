//! Reads a blob's file for one client, whole or still growing.
//!
//! 1. what may be read is read from the page cache at once, without a thread;
//! 2. what is not in the page cache is read on a thread of its own;
//! 3. at the end of what is published the reader waits for more, and the fill never waits for the
//!    reader;
//! 4. a fill that found no room, or whose credential is no longer good, is left behind: the rest
//!    comes from upstream, asked with this client's own credential, hashed together with what was
//!    read before.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::chunk::{Alignment, Chunk};
use super::flight::{CaughtUp, Seat, abandoned};
use super::progress::Progress;
use super::through::{BlobRequest, VerifyingBody};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::fs::{Hold, MOST_POSTED, Outbox};
use crate::policy::access::within;
use crate::store::index::Held;
use crate::store::{Blob, BlobFile};
use crate::task;

/// Bytes from which on sendfile(2) costs less than to read and to write them.
const WORTH_POSTING: usize = 16 << 10;

/// What is read, and by which clock.
#[derive(Debug)]
pub struct Source {
    /// What is read.
    pub from: Kept,
    /// Says when.
    pub clock: Clock,
}

/// A file that is read, and what keeps it there.
#[derive(Debug)]
pub enum Kept {
    /// A blob that is here.
    Held(Blob, Held),
    /// One on its way.
    Flight(BlobFile, Seat, Box<BlobRequest>),
}

/// Reads a part of a blob, in order, chunk by chunk.
pub struct Reader {
    file: BlobFile,
    at: u64,
    end: Option<u64>,
    /// Whether all of the blob is wanted: then it ends where its bytes end.
    is_whole: bool,
    /// Whether this ends all that there is of the blob: then its last byte comes once they are verified.
    is_last: bool,
    source: Backing,
    pending: Option<BoxFuture<'static, Step>>,
    outbox: Option<Outbox>,
    /// Bytes of one chunk.
    most: u64,
    clock: Clock,
    /// When it last said that it takes something.
    said: SystemTime,
    /// Bytes that it took since.
    unsaid: u64,
}

/// A reader says now and then that it takes something: twice in the time in which one that does not
/// loses its blob, and once more.
const SAYS_EVERY: Duration = Duration::from_secs(10);
/// Less is next to nothing: who takes a byte now and then would keep a blob for ever.
const SOMETHING: u64 = 64 << 10;

enum Backing {
    Held { held: Arc<Held>, at_once: bool },
    Flight { watch: Option<watch::Receiver<Progress>>, seat: Seat, request: Box<BlobRequest> },
    Through(Box<VerifyingBody>),
}

enum Step {
    Read(std::io::Result<Bytes>),
    Waited(watch::Receiver<Progress>),
    Through(Result<Box<VerifyingBody>>),
}

enum Limit {
    /// Up to here may be read now.
    Upto(u64),
    /// All of it: it ends here.
    End(u64),
    Failed(Error),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Reader {
    /// Of all of a blob. Its length, if that is known, may be upstream's word for it, or a
    /// manifest's.
    pub fn whole(source: Source, end: Option<u64>) -> Reader {
        let reader = Reader { is_whole: true, is_last: true, ..Reader::new(source, 0, end) };
        if let Some(seat) = reader.seat() {
            seat.wants_all();
        }
        reader
    }

    /// Of a part of a blob, which is so long.
    pub fn part(source: Source, part: Range<u64>, size: u64) -> Reader {
        if part == (0..size) {
            return Reader::whole(source, Some(size));
        }
        let reader = Reader::new(source, part.start, Some(part.end));
        if let Some(seat) = reader.seat() {
            seat.wants(vec![part]);
        }
        reader
    }

    /// Of several parts of a blob: see [`Reader::turn_to`].
    pub fn parts(source: Source, parts: &[Range<u64>]) -> Reader {
        let reader = Reader::new(source, 0, Some(0));
        if let Some(seat) = reader.seat() {
            seat.wants(parts.to_vec());
        }
        reader
    }

    fn seat(&self) -> Option<&Seat> {
        match &self.source {
            Backing::Flight { seat, .. } => Some(seat),
            Backing::Held { .. } | Backing::Through(_) => None,
        }
    }

    fn new(source: Source, from: u64, end: Option<u64>) -> Reader {
        let Source { from: kept, clock } = source;
        let (file, source) = match kept {
            Kept::Held(blob, held) => (blob.file, Backing::Held { held: Arc::new(held), at_once: blob.at_once }),
            Kept::Flight(file, seat, request) => {
                let watch = Some(seat.flight().watch());
                seat.flight().taken_from(clock.now());
                (file, Backing::Flight { watch, seat, request })
            }
        };
        let (said, most) = (clock.now(), u64::MAX);
        Reader {
            file,
            at: from,
            end,
            is_whole: false,
            is_last: false,
            source,
            pending: None,
            outbox: None,
            most,
            clock,
            said,
            unsaid: 0,
        }
    }

    /// Another part of the same blob, from now on. `is_last`: whether with it all of the blob was read.
    /// What is read past the cache cannot go back.
    ///
    /// # Errors
    /// It is read past the cache.
    pub fn turn_to(&mut self, part: Range<u64>, is_last: bool) -> Result<()> {
        if let Backing::Through(_) = self.source {
            return Err(Error::new(Kind::Broken, "the download broke off between two parts of it"));
        }
        (self.at, self.end, self.pending) = (part.start, Some(part.end), None);
        (self.is_whole, self.is_last) = (false, is_last);
        Ok(())
    }

    /// What is whole need not be read: it is posted to the connection that takes these chunks, as
    /// they are. Not where sendfile(2) would wait for another machine: nothing says there what is
    /// in memory.
    pub fn post_to(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox).filter(|_| matches!(self.source, Backing::Held { at_once: true, .. }));
    }

    /// Whether its chunks take no memory.
    pub fn is_posting(&self) -> bool {
        self.outbox.is_some()
    }

    /// From now on no chunk is longer, as far as they are made here.
    pub fn at_most(&mut self, most: u64) {
        self.most = most;
    }

    /// Bytes that are still to come, if that is known.
    pub fn remaining(&self) -> Option<u64> {
        self.end.map(|end| end.saturating_sub(self.at))
    }

    /// The next chunk, `None` at the clean end. After an error there is nothing more.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            if let Some(pending) = &mut self.pending {
                let step = ready!(pending.as_mut().poll(cx));
                self.pending = None;
                match step {
                    Step::Read(Ok(bytes)) => return Poll::Ready(Some(self.advance(bytes))),
                    Step::Read(Err(error)) => return Poll::Ready(Some(Err(unreadable(error)))),
                    Step::Waited(receiver) => self.watching(receiver),
                    Step::Through(Ok(through)) => self.source = Backing::Through(through),
                    Step::Through(Err(error)) => return Poll::Ready(Some(Err(error))),
                }
            }
            if self.end.is_some_and(|end| self.at >= end) && !matches!(self.source, Backing::Through(_)) {
                return Poll::Ready(None);
            }
            let limit = match &mut self.source {
                Backing::Through(through) => return through.poll_chunk(cx),
                Backing::Held { .. } => Limit::Upto(self.end.unwrap_or(0)),
                Backing::Flight { watch, .. } => match (published(watch, self.at), self.end) {
                    (Limit::End(size), Some(end)) if self.is_whole && size != end => Limit::Failed(other_length(size)),
                    (Limit::Upto(limit), Some(end)) if self.is_last => Limit::Upto(limit.min(end.saturating_sub(1))),
                    (limit, _) => limit,
                },
            };
            match limit {
                Limit::End(size) if self.at >= size && self.end.is_none() => return Poll::Ready(None),
                Limit::Upto(limit) | Limit::End(limit) if self.at < limit => {
                    let most = (limit.min(self.end.unwrap_or(limit)) - self.at).min(self.most);
                    if let Some(read) = self.post(most).or_else(|| self.read_now(most)) {
                        return Poll::Ready(Some(read));
                    }
                }
                // It ended before what the client was reserved.
                Limit::End(_) => return Poll::Ready(Some(Err(short()))),
                Limit::Upto(_) => self.wait(),
                // What upstream answered to who leads is not what it answers to this one.
                Limit::Failed(error) if self.is_passed_on(&error) => self.go_through(),
                Limit::Failed(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// Whether the rest comes past the cache after this. Who asked for all in pieces would get it unverified.
    fn is_passed_on(&self, error: &Error) -> bool {
        (error.kind() == Kind::Full || error.kind().is_answer()) && (self.is_whole || !self.is_last)
    }

    fn advance(&mut self, bytes: Bytes) -> Result<Bytes> {
        if bytes.is_empty() {
            return Err(short());
        }
        self.at += bytes.len() as u64;
        self.unsaid += bytes.len() as u64;
        let now = self.clock.now();
        if self.unsaid >= SOMETHING && !within(Some(self.said), SAYS_EVERY, now) {
            (self.said, self.unsaid) = (now, 0);
            match &self.source {
                Backing::Held { held, .. } => held.taken_from(now),
                Backing::Flight { seat, .. } => seat.flight().taken_from(now),
                Backing::Through(_) => {}
            }
        }
        Ok(bytes)
    }

    /// A part of the file, for the kernel to send. Of a whole blob alone: what the kernel has sent
    /// is the file's own pages until the client acknowledges it, and a partial blob may be cut
    /// short and written again.
    fn post(&mut self, most: u64) -> Option<Result<Bytes>> {
        let (Some(outbox), Backing::Held { held, .. }) = (&self.outbox, &self.source) else { return None };
        let len = usize::try_from(most).unwrap_or(MOST_POSTED).min(MOST_POSTED);
        if len < WORTH_POSTING {
            return None;
        }
        let posted = self.file.post(outbox, self.at, len, held.clone() as Hold);
        Some(self.advance(posted))
    }

    /// From the page cache; else a thread is set to it and there is nothing yet.
    fn read_now(&mut self, most: u64) -> Option<Result<Bytes>> {
        let mut chunk = Chunk::take_for(most, Alignment::Read);
        match self.file.read_cached_at(chunk.room(most), self.at) {
            Ok(Some(n)) if n > 0 => Some(self.advance(chunk.filled(n))),
            Ok(_) => {
                let (file, at) = (self.file.clone(), self.at);
                self.pending = Some(Box::pin(async move {
                    let read = task::blocking(move || {
                        let mut chunk = Chunk::take_for(most, Alignment::Read);
                        file.read_at(chunk.room(most), at).map(|n| chunk.filled(n))
                    });
                    Step::Read(read.await)
                }));
                None
            }
            Err(error) => Some(Err(unreadable(error))),
        }
    }

    fn wait(&mut self) {
        let Backing::Flight { watch, seat, .. } = &mut self.source else { return };
        let Some(mut receiver) = watch.take() else { return };
        let caught_up = CaughtUp::with(seat.flight());
        self.pending = Some(Box::pin(async move {
            let _caught_up = caught_up;
            // An error says that the sender was dropped; what it sent last is still there.
            let _ = receiver.changed().await;
            Step::Waited(receiver)
        }));
    }

    fn watching(&mut self, receiver: watch::Receiver<Progress>) {
        if let Backing::Flight { watch, .. } = &mut self.source {
            *watch = Some(receiver);
        }
    }

    fn go_through(&mut self) {
        let Backing::Flight { seat, request, .. } = &self.source else { return };
        let (request, file, digest) = (BlobRequest::clone(request), self.file.clone(), seat.flight().digest().clone());
        let (at, end) = (self.at, self.end);
        // What is no whole cannot be verified, as no part can.
        let read = self.is_whole.then_some(file);
        self.pending =
            Some(Box::pin(async move { Step::Through(request.go_on(read, digest, at, end).await.map(Box::new)) }));
    }
}

/// How far may be read from `at` on.
fn published(watch: &mut Option<watch::Receiver<Progress>>, at: u64) -> Limit {
    let Some(receiver) = watch else { return Limit::Upto(0) };
    match &*receiver.borrow_and_update() {
        Progress::Opening => Limit::Upto(0),
        Progress::Flowing { here } => Limit::Upto(here.end_from(at)),
        Progress::Left { here } if here.end_from(at) > at => Limit::Upto(here.end_from(at)),
        Progress::Left { .. } => Limit::Failed(abandoned()),
        Progress::Verified { size } => Limit::End(*size),
        Progress::Failed(error) => Limit::Failed(error.clone()),
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::caused(Kind::Ours, "a cached file cannot be read", error)
}

fn other_length(size: u64) -> Error {
    Error::new(Kind::Broken, format!("the blob has {size} bytes, which is not what its manifest says"))
}

fn short() -> Error {
    Error::new(Kind::Ours, "a cached file is shorter than it should be")
}
