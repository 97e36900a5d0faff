//! Which connections bring which bytes of a blob. Pure: what is here, what comes and what is waited for
//! comes in, the next step goes out.
//!
//! 1. a connection that has come to what is here, or as far as it was to come, ends;
//! 2. all is wanted: there is one at the first gap, whatever else there is;
//! 3. who waits for bytes that no connection brings soon gets one there;
//! 4. more where more pay: at the middle of the largest gap that one connection alone has before it.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use super::extents::Extents;

/// Where only what is asked for is brought, it is in steps of so many bytes: pages of the disk,
const STEP: u64 = 4 << 10;
/// and smaller gaps than this are brought along: to ask once more costs more.
const JOINED: u64 = 128 << 10;
/// A connection for one reader brings so much at least, where all is to come.
const LEAST: u64 = 1 << 20;
/// A connection that has brought so much for one reader gives way to another who waits. A gap that is
/// not larger is not worth one more.
const WORTH: u64 = 8 << 20;
/// What comes within a tenth of a second is waited for,
const SOON: u64 = 10;
/// and one more is worth it where so much time is left.
const LONG: Duration = Duration::from_secs(2);

/// A connection that brings bytes in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The next byte of it.
    pub at: u64,
    /// Where it ends by itself.
    pub until: Option<u64>,
    /// What it brought.
    pub brought: u64,
    /// Bytes a second, once that is known.
    pub rate: Option<u64>,
    /// Whether it came beside another: then it may be taken away.
    pub is_added: bool,
}

/// A blob on its way.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// Bytes of the whole.
    pub total: u64,
    /// What is here, or was received.
    pub here: &'a Extents,
    /// What comes, in the order in which it was begun.
    pub streams: &'a [Stream],
    /// What readers wait for, each from the byte on that it waits for now. Whose turn it is comes first.
    pub wanted: &'a [Range<u64>],
    /// Whether all is to come.
    pub is_whole: bool,
    /// Whether somebody has still to say what it waits for.
    pub is_unsaid: bool,
    /// So many connections pay.
    pub paying: usize,
    /// So many there may be.
    pub most: usize,
    /// No connection is added from here on.
    pub horizon: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To begin a connection that brings these bytes: up to what is here, or what another brings.
    Open {
        /// From where to where.
        part: Range<u64>,
    },
    /// To end the one of that index.
    Cut(usize),
}

/// Bytes that are not here, without a connection's start among them.
struct Piece {
    range: Range<u64>,
    /// Which brings them.
    by: Option<usize>,
}

impl Scene<'_> {
    /// The next step, as long as there is one.
    pub fn next(&self) -> Option<Step> {
        let solid = self.solid();
        let is_over = |stream: &Stream| {
            stream.at >= self.total
                || stream.until.is_some_and(|until| stream.at >= until)
                || solid.end_from(stream.at) > stream.at
        };
        if let Some(over) = self.streams.iter().position(is_over) {
            return Some(Step::Cut(over));
        }
        let pieces = self.pieces(&solid);
        if self.is_whole {
            if let Some(first) = pieces.first().filter(|piece| piece.by.is_none()) {
                let part = first.range.clone();
                return Some(self.make_way(&pieces).unwrap_or(Step::Open { part }));
            }
            return self.demanded(&pieces).or_else(|| self.idle(&pieces)).or_else(|| self.grown(&pieces));
        }
        self.forsaken(&pieces).or_else(|| self.asked_for(&pieces))
    }

    /// What is here and worth a connection's end. Where all is to come, small islands are run over: they
    /// are left out of what comes.
    fn solid(&self) -> Cow<'_, Extents> {
        // Behind the last bytes there is nothing to run on to.
        let is_large = |range: &Range<u64>| range.end == self.total || range.end - range.start >= JOINED;
        match self.is_whole && !self.here.ranges().iter().all(is_large) {
            true => Cow::Owned(self.here.ranges().iter().filter(|range| is_large(range)).cloned().collect()),
            false => Cow::Borrowed(self.here),
        }
    }

    fn pieces(&self, solid: &Extents) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for gap in solid.gaps(0..self.total) {
            let gap = self.here.end_from(gap.start).min(gap.end)..gap.end;
            let mut starts: Vec<(u64, Option<usize>)> = vec![(gap.start, None)];
            for (n, stream) in self.streams.iter().enumerate() {
                // It runs over what is here.
                let at = self.here.end_from(stream.at);
                if gap.contains(&at) {
                    starts.push((at, Some(n)));
                    let until = stream.until.filter(|until| gap.contains(until));
                    starts.extend(until.map(|until| (until, None)));
                }
            }
            // Of two that begin together the last is the one of a connection, if one is.
            starts.sort_by_key(|(at, by)| (*at, by.is_some()));
            let ends = starts.iter().map(|(at, _)| *at).skip(1).chain([gap.end]);
            let ranges = starts.iter().zip(ends).map(|((start, by), end)| Piece { range: *start..end, by: *by });
            pieces.extend(ranges.filter(|piece| !piece.range.is_empty()));
        }
        pieces
    }

    /// The connection that brings a byte, and whether it does soon.
    fn coming(&self, pieces: &[Piece], at: u64) -> Option<(usize, bool)> {
        let piece = within(pieces, at..at.saturating_add(1)).first()?;
        let by = piece.by?;
        let distance = at - piece.range.start;
        let is_soon = distance < JOINED || self.streams[by].rate.is_some_and(|rate| distance <= rate / SOON);
        Some((by, is_soon))
    }

    fn is_soon(&self, pieces: &[Piece], at: u64) -> bool {
        self.coming(pieces, at).is_some_and(|(_, is_soon)| is_soon)
    }

    /// The first who waits for what does not come soon.
    fn far(&self, pieces: &[Piece]) -> Option<&Range<u64>> {
        self.wanted.iter().find(|want| {
            let is_missing = !want.is_empty() && self.here.end_from(want.start) == want.start;
            is_missing && !self.is_soon(pieces, want.start)
        })
    }

    fn demanded(&self, pieces: &[Piece]) -> Option<Step> {
        let far = self.far(pieces).filter(|_| self.most > 1)?;
        let part = self.missing_from(far.start)..end_of(pieces, far.start);
        self.way_for(pieces, Step::Open { part })
    }

    /// What feeds nobody, and is more than what pays, was for somebody who has left, or has enough.
    fn idle(&self, pieces: &[Piece]) -> Option<Step> {
        let is_too_much = self.streams.len() > self.paying;
        is_too_much.then(|| self.newest(|n, stream| stream.brought >= LEAST && self.is_idle(pieces, n))).flatten()
    }

    /// Where the step begins that a byte is in, or what of it is missing before that byte.
    fn missing_from(&self, at: u64) -> u64 {
        self.here.gaps(floor(at)..at + 1).last().map_or(at, |gap| gap.start)
    }

    /// More connections where they pay, and more is left than they are worth.
    fn grown(&self, pieces: &[Piece]) -> Option<Step> {
        if self.streams.len() >= self.paying.min(self.most) {
            return None;
        }
        let near = pieces.iter().filter(|piece| piece.range.start < self.horizon);
        let largest = near.max_by_key(|piece| piece.range.end.min(self.horizon) - piece.range.start)?;
        let Range { start, end } = largest.range;
        let end = end.min(self.horizon.max(start));
        let left = end - start;
        let Some(by) = largest.by else {
            return Some(Step::Open { part: largest.range.clone() });
        };
        let is_long = self.streams[by].rate.is_none_or(|rate| left >= rate.saturating_mul(LONG.as_secs()));
        let part = floor(start + left / 2)..largest.range.end;
        (left >= WORTH && is_long).then_some(Step::Open { part })
    }

    /// What brings much that nobody waits for any more, where only what is asked for is to come.
    fn forsaken(&self, pieces: &[Piece]) -> Option<Step> {
        let is_much = |n: usize| {
            let brings = pieces.iter().find(|piece| piece.by == Some(n)).map(|piece| &piece.range);
            brings.is_some_and(|range| range.end - range.start > LEAST)
        };
        let may_go = !self.is_unsaid && self.most > 1;
        (0..self.streams.len()).find(|n| may_go && is_much(*n) && self.is_idle(pieces, *n)).map(Step::Cut)
    }

    /// What is asked for and nobody brings, or not soon.
    fn asked_for(&self, pieces: &[Piece]) -> Option<Step> {
        let ceil = |at: u64| ceil(at).min(self.total);
        if let Some(far) = self.far(pieces).filter(|far| self.coming(pieces, far.start).is_some() && self.most > 1) {
            let part = self.missing_from(far.start)..ceil(far.end);
            return self.way_for(pieces, Step::Open { part });
        }
        let steps = |gap: &Range<u64>, want: &Range<u64>| {
            let is_wanted = gap.start < want.end && want.start < gap.end;
            is_wanted.then(|| gap.start.max(floor(want.start))..gap.end.min(ceil(want.end)))
        };
        let nobodys =
            |part: Range<u64>| within(pieces, part).iter().filter(|piece| piece.by.is_none()).map(|piece| &piece.range);
        let missing_of = |want| nobodys(Range::clone(want)).filter_map(move |gap| steps(gap, want));
        let mut missing: Vec<Range<u64>> = self.wanted.iter().flat_map(missing_of).collect();
        let first = missing.first()?.clone();
        missing.sort_by_key(|other| other.start);
        let mut part = first.start..first.start;
        for other in missing {
            // What is large has a connection of its own.
            let is_small = part.end - part.start < LEAST;
            let is_near = is_small && (part.start..=part.end.saturating_add(JOINED)).contains(&other.start);
            // What is between is brought along: it must be missing, too.
            let is_one_gap = || nobodys(part.clone()).any(|gap| gap.start <= part.start && gap.end >= other.end);
            if !part.is_empty() && is_near && is_one_gap() {
                part.end = part.end.max(other.end);
            } else if part.contains(&first.start) {
                break;
            } else {
                part = other;
            }
        }
        self.way_for(pieces, Step::Open { part })
    }

    /// The step, if there is room for one more, or what makes room for it.
    fn way_for(&self, pieces: &[Piece], step: Step) -> Option<Step> {
        if self.streams.len() < self.most {
            return Some(step);
        }
        self.make_way(pieces)
            .or_else(|| self.newest(|n, stream| stream.brought >= WORTH && !self.is_at_first(pieces, n)))
    }

    /// Which gives way where there are too many: the newest that feeds no reader.
    fn make_way(&self, pieces: &[Piece]) -> Option<Step> {
        if self.streams.len() < self.most {
            return None;
        }
        self.newest(|n, _| self.is_idle(pieces, n))
    }

    /// Whether it feeds no reader: the one at the first gap feeds all, and where only what is asked for
    /// comes, whoever will come to it.
    fn is_idle(&self, pieces: &[Piece], n: usize) -> bool {
        let is_fed = |want: &Range<u64>| self.coming(pieces, want.start).is_some_and(|(by, _)| by == n);
        let brings = |part: &Range<u64>, want: &Range<u64>| part.start < want.end && want.start < part.end;
        let its = pieces.iter().find(|piece| piece.by == Some(n)).map(|piece| &piece.range);
        let will_be_fed = |want: &Range<u64>| its.is_some_and(|part| brings(part, want));
        let feeds = |want: &Range<u64>| is_fed(want) || !self.is_whole && will_be_fed(want);
        !self.is_at_first(pieces, n) && !self.wanted.iter().any(feeds)
    }

    fn newest(&self, may_go: impl Fn(usize, &Stream) -> bool) -> Option<Step> {
        let found = self.streams.iter().enumerate().rev().find(|(n, stream)| stream.is_added && may_go(*n, stream));
        found.map(|(n, _)| Step::Cut(n))
    }

    fn is_at_first(&self, pieces: &[Piece], n: usize) -> bool {
        self.is_whole && pieces.first().is_some_and(|piece| piece.by == Some(n))
    }
}

/// The pieces that have bytes of a part. They are in order, and apart.
fn within(pieces: &[Piece], part: Range<u64>) -> &[Piece] {
    let first = pieces.partition_point(|piece| piece.range.end <= part.start);
    let after = pieces.partition_point(|piece| piece.range.start < part.end);
    pieces.get(first..after).unwrap_or_default()
}

/// Where the piece ends that a byte is in.
fn end_of(pieces: &[Piece], at: u64) -> u64 {
    within(pieces, at..at.saturating_add(1)).first().map_or(at.saturating_add(1), |piece| piece.range.end)
}

/// Where the step begins that a byte is in.
pub fn floor(at: u64) -> u64 {
    at / STEP * STEP
}

/// Where the steps end that bytes up to there are in.
pub fn ceil(at: u64) -> u64 {
    at.div_ceil(STEP).saturating_mul(STEP)
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "they are lists of ranges")]
mod tests;
