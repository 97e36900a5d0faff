//! The body of a response, and the record of the request that is written when it has been sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::parts::Parts;
use super::telemetry::Record;
use crate::cache::reader::Reader;
use crate::cache::through::VerifyingBody;
use crate::error::{Error, Kind};
use crate::fs::Outbox;
use crate::upstream::Transfer;

/// A response body. An error breaks the connection off, so that no client takes a part for the
/// whole.
#[derive(Debug)]
pub struct Body {
    content: Content,
    record: Option<Box<Record>>,
}

#[derive(Debug)]
enum Content {
    Empty,
    Full(Bytes),
    Reader(Box<Reader>),
    Parts(Box<Parts>),
    Through(Box<VerifyingBody>, Option<u64>),
    Upstream(Box<Relay>),
}

/// A body that upstream sends; it fails when upstream is silent for too long.
#[derive(Debug)]
struct Relay {
    body: Transfer,
    idle: Duration,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Body {
    fn of(content: Content) -> Body {
        Body { content, record: None }
    }

    /// A body without bytes.
    pub fn empty() -> Body {
        Body::of(Content::Empty)
    }

    /// A body that is in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        Body::of(Content::Full(bytes.into()))
    }

    /// A part of a blob or all of it, from the cache.
    pub fn reader(reader: Reader) -> Body {
        Body::of(Content::Reader(Box::new(reader)))
    }

    /// Several parts of a blob, from the cache.
    pub fn parts(parts: Parts) -> Body {
        Body::of(Content::Parts(Box::new(parts)))
    }

    /// A blob that is verified on its way and not kept, of this length if it is known.
    pub fn through(through: Box<VerifyingBody>, size: Option<u64>) -> Body {
        Body::of(Content::Through(through, size))
    }

    /// A body that upstream sends, relayed as it comes; upstream may be silent for `idle`.
    pub fn upstream(body: impl Into<Transfer>, idle: Duration) -> Body {
        let (body, timer) = (body.into(), Box::pin(tokio::time::sleep(idle)));
        Body::of(Content::Upstream(Box::new(Relay { body, idle, timer })))
    }

    /// Posts parts of files to `outbox`, if there is one: the connection that this is written to
    /// sends them from there.
    pub fn posted_to(mut self, outbox: Option<Outbox>) -> Body {
        if let (Content::Reader(reader), Some(outbox)) = (&mut self.content, outbox) {
            reader.post_to(outbox);
        }
        self
    }

    /// Counts in `record` what is sent; it is written when the body ends or is dropped.
    pub fn recorded(mut self, record: Box<Record>) -> Body {
        self.record = Some(record);
        self
    }

    /// Whether its bytes are in memory for it alone: not a manifest's, and not a file's that the kernel
    /// sends.
    pub fn takes_memory(&self) -> bool {
        match &self.content {
            Content::Empty | Content::Full(_) => false,
            Content::Reader(reader) => !reader.is_posting(),
            Content::Parts(_) | Content::Through(..) | Content::Upstream(_) => true,
        }
    }

    /// From now on no chunk is longer, as far as they are made here.
    pub fn at_most(&mut self, most: u64) {
        match &mut self.content {
            Content::Reader(reader) => reader.at_most(most),
            Content::Parts(parts) => parts.at_most(most),
            Content::Empty | Content::Full(_) | Content::Through(..) | Content::Upstream(_) => {}
        }
    }

    /// Whether it was made here, and is not upstream's answer relayed.
    pub fn is_ours(&self) -> bool {
        !matches!(self.content, Content::Upstream(_))
    }

    fn count(&mut self, polled: &Poll<Option<Result<Bytes, Error>>>) {
        let Some(record) = &mut self.record else { return };
        match polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(bytes))) => record.carried(bytes.len() as u64),
            Poll::Ready(Some(Err(error))) => record.broke(error),
            Poll::Ready(None) => record.ended(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(std::mem::take(bytes)).filter(|b| !b.is_empty()).map(Ok)),
            Content::Reader(reader) => reader.poll_chunk(cx),
            Content::Parts(parts) => parts.poll_chunk(cx),
            Content::Through(through, left) => through.poll_chunk(cx).map_ok(|bytes| {
                *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                bytes
            }),
            Content::Upstream(relay) => match relay.poll(cx) {
                // Trailers go as they come.
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                polled => polled.map_ok(|frame| frame.into_data().unwrap_or_default()),
            },
        };
        this.count(&polled);
        polled.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(bytes) => bytes.is_empty(),
            Content::Reader(reader) => reader.remaining() == Some(0),
            Content::Parts(parts) => parts.remaining() == 0,
            Content::Through(..) => false,
            Content::Upstream(relay) => relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let exact = |size: Option<u64>| size.map_or_else(SizeHint::default, SizeHint::with_exact);
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Reader(reader) => exact(reader.remaining()),
            Content::Parts(parts) => exact(Some(parts.remaining())),
            Content::Through(_, left) => exact(*left),
            Content::Upstream(relay) => relay.body.size_hint(),
        }
    }
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        use std::future::Future as _;
        let polled = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                return Poll::Ready(Some(Err(Error::new(Kind::Timeout, "upstream stopped sending"))));
            }
            Poll::Ready(polled) => polled,
        };
        self.timer.as_mut().reset(tokio::time::Instant::now() + self.idle);
        Poll::Ready(polled.map(|frame| frame.map_err(|e| Error::caused(Kind::Broken, "upstream broke off", e))))
    }
}
