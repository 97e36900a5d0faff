//! Several parts of a blob in one response: `multipart/byteranges` (RFC 9110, 14.6).

use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;

use crate::cache::reader::{Reader, Source};
use crate::error::Result;
use crate::http::range::content_range;
use crate::policy::extents::Extents;

/// The parts, each behind its own head.
#[derive(Debug)]
pub struct Parts {
    // Heads are made when they are due: a client names a range in three bytes.
    left: std::vec::IntoIter<Range<u64>>,
    heads: Heads,
    end: Bytes,
    reader: Reader,
    /// Whether they are all of the blob, in pieces.
    covers_all: bool,
    /// Whether the reader is in a part.
    is_within: bool,
    remaining: u64,
    gathered: BytesMut,
    /// What comes after that.
    after: Option<Option<Result<Bytes>>>,
}

/// Heads and small parts go together: a frame for each would look like a flood to HTTP/2 clients.
const SMALL: usize = 4 << 10;
const TOGETHER: usize = 16 << 10;

#[derive(Debug)]
struct Heads {
    boundary: String,
    media_type: String,
    total: u64,
    /// What is before a head: nothing before the first.
    before: &'static str,
}

impl Heads {
    /// Bytes of parts with their heads, which differ in their numbers alone.
    fn length(&self, parts: &[Range<u64>]) -> u64 {
        let mut all = Heads { boundary: self.boundary.clone(), media_type: self.media_type.clone(), ..*self };
        let (first, next) = (all.next(&(0..1)).len() as u64, all.next(&(0..1)).len() as u64);
        let digits = |n: u64| u64::from(n.checked_ilog10().unwrap_or(0));
        let length = |part: &Range<u64>| next + digits(part.start) + digits(part.end - 1) + (part.end - part.start);
        parts.iter().map(length).sum::<u64>() - (next - first)
    }

    fn next(&mut self, part: &Range<u64>) -> String {
        let Heads { boundary, media_type, total, before } = self;
        let range = content_range(part, *total);
        let range = range.to_str().unwrap_or_default();
        let before = std::mem::replace(before, "\r\n");
        format!("{before}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n")
    }
}

impl Parts {
    /// Parts of a blob of `total` bytes and this type.
    pub fn new(source: Source, parts: Vec<Range<u64>>, total: u64, media_type: &str) -> Parts {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system has random numbers");
        let boundary = HEXLOWER.encode(&random);
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let heads = Heads { boundary, media_type: media_type.to_owned(), total, before: "" };
        let remaining = heads.length(&parts) + end.len() as u64;
        let reader = Reader::parts(source, &parts);
        let mut covered = Extents::default();
        parts.iter().for_each(|part| covered.add(part.clone()));
        Parts {
            left: parts.into_iter(),
            heads,
            end,
            reader,
            covers_all: covered.holds(&(0..total)),
            is_within: false,
            remaining,
            gathered: BytesMut::new(),
            after: None,
        }
    }

    /// Bytes that are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// From now on no chunk is longer.
    pub fn at_most(&mut self, most: u64) {
        self.reader.at_most(most);
    }

    /// The type of the response.
    pub fn media_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.heads.boundary)
    }

    /// The next bytes.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let next = ready!(self.gather(cx));
        if let Some(Ok(bytes)) = &next {
            self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(next)
    }

    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let next = self.after.take().map_or_else(|| self.next(cx), Poll::Ready);
            match next {
                Poll::Ready(Some(Ok(bytes)))
                    if bytes.len() < SMALL && self.gathered.len() + bytes.len() <= TOGETHER =>
                {
                    self.gathered.extend_from_slice(&bytes);
                }
                next if self.gathered.is_empty() => return next,
                Poll::Ready(next) => {
                    self.after = Some(next);
                    return Poll::Ready(Some(Ok(self.gathered.split().freeze())));
                }
                Poll::Pending => return Poll::Ready(Some(Ok(self.gathered.split().freeze()))),
            }
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.is_within {
            if let Some(read) = ready!(self.reader.poll_chunk(cx)) {
                return Poll::Ready(Some(read));
            }
            self.is_within = false;
        }
        let Some(part) = self.left.next() else {
            return Poll::Ready(Some(std::mem::take(&mut self.end)).filter(|end| !end.is_empty()).map(Ok));
        };
        let head = self.heads.next(&part);
        let is_last = self.covers_all && self.left.as_slice().is_empty();
        if let Err(error) = self.reader.turn_to(part, is_last) {
            return Poll::Ready(Some(Err(error)));
        }
        self.is_within = true;
        Poll::Ready(Some(Ok(head.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_what_is_sent() {
        let new = || Heads { boundary: "b".to_owned(), media_type: "a/b".to_owned(), total: 20_000, before: "" };
        for parts in [vec![0..1, 9..10, 9..11], vec![99..100, 0..20_000], vec![1000..1001, 100..10_001, 0..10]] {
            let mut heads = new();
            let length = |part: &Range<u64>| heads.next(part).len() as u64 + part.end - part.start;
            assert_eq!(new().length(&parts), parts.iter().map(length).sum::<u64>(), "{parts:?}");
        }
    }
}
