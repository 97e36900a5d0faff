//! Several parts of a blob in one response: `multipart/byteranges` (RFC 9110, 14.6).

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::cache::reader::{Reader, Source};
use crate::error::Result;
use crate::http::range::content_range;

/// The parts, each behind its own head.
#[derive(Debug)]
pub struct Parts {
    left: VecDeque<(Bytes, Range<u64>)>,
    end: Bytes,
    reader: Reader,
    /// Whether the reader is in a part.
    is_within: bool,
    remaining: u64,
    boundary: String,
}

impl Parts {
    /// Parts of a blob of `total` bytes and this type.
    pub fn new(source: Source, parts: Vec<Range<u64>>, total: u64, media_type: &str) -> Parts {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system has random numbers");
        let boundary = HEXLOWER.encode(&random);
        let head = |(n, part): (usize, &Range<u64>)| {
            let range = content_range(part, total);
            let range = range.to_str().unwrap_or_default();
            let before = if n == 0 { "" } else { "\r\n" };
            let head = format!("{before}--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {range}\r\n\r\n");
            (Bytes::from(head), part.clone())
        };
        let left: VecDeque<_> = parts.iter().enumerate().map(head).collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let length = |(head, part): &(Bytes, Range<u64>)| head.len() as u64 + (part.end - part.start);
        let remaining = left.iter().map(length).sum::<u64>() + end.len() as u64;
        let reader = Reader::part(source, 0..0, u64::MAX);
        Parts { left, end, reader, is_within: false, remaining, boundary }
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
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The next bytes.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let next = ready!(self.next(cx));
        if let Some(Ok(bytes)) = &next {
            self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(next)
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if self.is_within {
            if let Some(read) = ready!(self.reader.poll_chunk(cx)) {
                return Poll::Ready(Some(read));
            }
            self.is_within = false;
        }
        let Some((head, part)) = self.left.pop_front() else {
            return Poll::Ready(Some(std::mem::take(&mut self.end)).filter(|end| !end.is_empty()).map(Ok));
        };
        if let Err(error) = self.reader.turn_to(part) {
            return Poll::Ready(Some(Err(error)));
        }
        self.is_within = true;
        Poll::Ready(Some(Ok(head)))
    }
}
