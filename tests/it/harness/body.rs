//! A body played back with what goes wrong in it: held at a gate, cut off, a byte changed.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::faults::{Effect, Gate};
use super::image::Blob;
use super::record::{End, Fate, Seen};
use super::wire::{Line, Mark};

const CHUNK: u64 = 32 * 1024;

/// The fake breaks off.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fake broke off")
    }
}

impl std::error::Error for Cut {}

enum Step {
    Hold(Gate),
    Cut,
}

pub(super) struct Played {
    content: Blob,
    start: u64,
    at: u64,
    end: u64,
    corrupt: Vec<u64>,
    /// In order of position; those before the first byte sent are left out.
    steps: Vec<(u64, Step)>,
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    cutting: Option<Mark>,
    fate: Arc<Fate>,
    line: Line,
}

impl Played {
    pub(super) fn new(content: Blob, range: Range<u64>, effects: &[Effect], seen: &Seen, line: Line) -> Played {
        let mut steps = Vec::new();
        let mut corrupt = Vec::new();
        for effect in effects {
            match effect {
                Effect::HoldBody { at, gate } => steps.push((*at, Step::Hold(gate.clone()))),
                Effect::CutAt(at) => steps.push((*at, Step::Cut)),
                Effect::CutAfter(bytes) => steps.push((range.start + bytes, Step::Cut)),
                Effect::Corrupt(at) => corrupt.push(*at),
                // hyper would not send what there is; in h2 a clean end after too few bytes can be
                // said.
                Effect::ClaimLength(1..) if line.stream.is_none() => steps.push((range.end, Step::Cut)),
                _ => {}
            }
        }
        steps.retain(|(at, _)| *at >= range.start && *at <= range.end);
        steps.sort_by_key(|(at, step)| (*at, matches!(step, Step::Cut)));
        let Range { start, end } = range;
        Played {
            content,
            start,
            at: start,
            end,
            corrupt,
            steps,
            held: None,
            cutting: None,
            fate: seen.fate.clone(),
            line,
        }
    }

    fn chunk(&mut self) -> Bytes {
        let until = self.steps.first().map_or(self.end, |(at, _)| self.end.min(*at));
        let mut chunk = self.content.read(self.at, CHUNK.min(until - self.at));
        let range = self.at..self.at + chunk.len() as u64;
        for at in self.corrupt.iter().filter(|at| range.contains(at)) {
            let mut bytes = chunk.to_vec();
            bytes[usize::try_from(at - range.start).expect("within a chunk")] ^= 0x55;
            chunk = bytes.into();
        }
        self.at = range.end;
        self.fate.sent.fetch_add(chunk.len() as u64, SeqCst);
        chunk
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let whole = self.at >= self.end && self.steps.is_empty() && self.cutting.is_none();
        self.fate.ended(if whole { End::Whole } else { End::Broken });
        self.line.news.tell();
    }
}

impl Body for Played {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(held) = &mut self.held {
                ready!(held.as_mut().poll(cx));
                self.held = None;
            }
            if let Some(mark) = self.cutting {
                // A server that is told of an error forgets what it has not sent yet.
                ready!(self.line.wire.poll_past(mark, cx));
                return Poll::Ready(Some(Err(Cut)));
            }
            if self.steps.first().is_some_and(|(at, _)| *at <= self.at) {
                match self.steps.remove(0).1 {
                    Step::Hold(gate) => {
                        gate.arrive();
                        self.held = Some(Box::pin(gate.opened()));
                    }
                    Step::Cut => self.cutting = Some(self.line.wire.mark(self.line.stream, self.at - self.start)),
                }
                continue;
            }
            if self.at >= self.end {
                return Poll::Ready(None);
            }
            let chunk = self.chunk();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
    }
}
