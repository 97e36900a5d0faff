//! What was counted, by the minute for a day and by the hour for 30 days, in a space that never grows.
//!
//! A point belongs to a step of the wall clock (a minute or an hour since 1970) and lies at the
//! number of that step modulo the length of its ring. So a time in which nothing was counted, since
//! the machine slept or seawall was off, is empty points. A clock that goes back adds to the points
//! that are there already; where it goes back or forth by more than the ring is long, each point
//! takes the place of one that no view of the present has.

use std::time::{Duration, SystemTime};

use crate::http::cache_status::Outcome;

/// What is counted in each step. Pulls are GETs and HEADs of manifests and blobs that were answered
/// 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Pulls, by what became of them.
    Hit,
    /// …
    Revalidated,
    /// …
    Miss,
    /// …
    Collapsed,
    /// …
    Stale,
    /// …
    Bypass,
    /// Bytes of pulls that were here.
    ServedCacheBytes,
    /// Bytes of pulls from a download that another pull began.
    ServedSharedBytes,
    /// Bytes of pulls that came for them.
    ServedUpstreamBytes,
    /// Pulls that a registry took off a quota.
    Charged,
    /// Manifest requests that it did not have to.
    Spared,
    /// Requests that were sent upstream.
    UpstreamRequests,
    /// Those without an answer, or with 5xx.
    UpstreamFailures,
    /// Those answered 429.
    Limited,
    /// Body bytes that came from upstream.
    UpstreamBytes,
    /// Blobs that made room.
    Evictions,
    /// Downloads of blobs that were begun.
    Fills,
    /// Addresses that pulled: an estimate, and of several steps the most of one.
    Clients,
}

/// How many figures there are.
const FIGURES: usize = Figure::ALL.len();

impl Figure {
    /// All of them, in the order of [`Point`].
    pub const ALL: [Figure; 18] = [
        Figure::Hit,
        Figure::Revalidated,
        Figure::Miss,
        Figure::Collapsed,
        Figure::Stale,
        Figure::Bypass,
        Figure::ServedCacheBytes,
        Figure::ServedSharedBytes,
        Figure::ServedUpstreamBytes,
        Figure::Charged,
        Figure::Spared,
        Figure::UpstreamRequests,
        Figure::UpstreamFailures,
        Figure::Limited,
        Figure::UpstreamBytes,
        Figure::Evictions,
        Figure::Fills,
        Figure::Clients,
    ];

    /// The word of the API, and of what is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Figure::Hit => "hit",
            Figure::Revalidated => "revalidated",
            Figure::Miss => "miss",
            Figure::Collapsed => "collapsed",
            Figure::Stale => "stale",
            Figure::Bypass => "bypass",
            Figure::ServedCacheBytes => "served_cache_bytes",
            Figure::ServedSharedBytes => "served_shared_bytes",
            Figure::ServedUpstreamBytes => "served_upstream_bytes",
            Figure::Charged => "charged",
            Figure::Spared => "spared",
            Figure::UpstreamRequests => "upstream_requests",
            Figure::UpstreamFailures => "upstream_failures",
            Figure::Limited => "limited",
            Figure::UpstreamBytes => "upstream_bytes",
            Figure::Evictions => "evictions",
            Figure::Fills => "fills",
            Figure::Clients => "clients",
        }
    }

    /// The figure of pulls of which this became. `None`: what was refused is no pull.
    pub fn of(outcome: Outcome) -> Option<Figure> {
        Some(match outcome {
            Outcome::Hit => Figure::Hit,
            Outcome::Revalidated => Figure::Revalidated,
            Outcome::Miss => Figure::Miss,
            Outcome::Collapsed => Figure::Collapsed,
            Outcome::Stale => Figure::Stale,
            Outcome::Bypass => Figure::Bypass,
            Outcome::Denied | Outcome::Error => return None,
        })
    }

    /// The figure of the bytes of such a pull.
    pub fn bytes_of(outcome: Outcome) -> Option<Figure> {
        Some(match outcome {
            Outcome::Hit | Outcome::Revalidated | Outcome::Stale => Figure::ServedCacheBytes,
            Outcome::Collapsed => Figure::ServedSharedBytes,
            Outcome::Miss | Outcome::Bypass => Figure::ServedUpstreamBytes,
            Outcome::Denied | Outcome::Error => return None,
        })
    }
}

/// A value of each figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point([u64; FIGURES]);

impl Point {
    /// The value of one.
    pub fn get(&self, figure: Figure) -> u64 {
        self.0[figure as usize]
    }

    /// Sets the value of one.
    pub fn set(&mut self, figure: Figure, value: u64) {
        self.0[figure as usize] = value;
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Point::default()
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, more: &Point) {
        let clients = self.get(Figure::Clients).max(more.get(Figure::Clients));
        self.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self.set(Figure::Clients, clients);
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Point) -> Point {
        Point(std::array::from_fn(|n| self.0[n].saturating_sub(earlier.0[n])))
    }

    /// The sum of pulls.
    pub fn pulls(&self) -> u64 {
        let outcomes = [Figure::Miss, Figure::Collapsed, Figure::Bypass];
        outcomes.into_iter().fold(self.from_cache(), |sum, figure| sum.saturating_add(self.get(figure)))
    }

    /// The pulls that were answered with what was here.
    pub fn from_cache(&self) -> u64 {
        let outcomes = [Figure::Hit, Figure::Revalidated, Figure::Stale];
        outcomes.into_iter().fold(0, |sum, figure| sum.saturating_add(self.get(figure)))
    }

    /// Bytes of pulls.
    pub fn bytes(&self) -> u64 {
        self.bytes_spared().saturating_add(self.get(Figure::ServedUpstreamBytes))
    }

    /// Bytes of pulls that did not have to come from upstream once more.
    pub fn bytes_spared(&self) -> u64 {
        self.get(Figure::ServedCacheBytes).saturating_add(self.get(Figure::ServedSharedBytes))
    }
}

/// How far back, and by which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// 24 hours of minutes.
    Day,
    /// 30 days of hours.
    Month,
}

impl Span {
    /// Both.
    pub const ALL: [Span; 2] = [Span::Day, Span::Month];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Span::Day => "24h",
            Span::Month => "30d",
        }
    }

    /// Seconds of a step.
    pub const fn step(self) -> u64 {
        match self {
            Span::Day => 60,
            Span::Month => 3600,
        }
    }

    /// How many steps.
    pub const fn length(self) -> usize {
        match self {
            Span::Day => 24 * 60,
            Span::Month => 30 * 24,
        }
    }

    /// The number of the step of this time; of a time before 1970 the first.
    pub fn number(self, at: SystemTime) -> u64 {
        at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |passed| passed.as_secs() / self.step())
    }

    /// When the step of this number begins; what no clock can show is 1970.
    pub fn start(self, number: u64) -> SystemTime {
        let passed = Duration::from_secs(number.saturating_mul(self.step()));
        SystemTime::UNIX_EPOCH.checked_add(passed).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Where the step of this number lies.
    pub fn position(self, number: u64) -> usize {
        usize::try_from(number % self.length() as u64).unwrap_or_default()
    }
}

/// The points of a span.
#[derive(Clone, Debug)]
pub struct Ring {
    span: Span,
    cells: Box<[Cell]>,
}

/// A point, and the number of the step that it is of.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    number: u64,
    point: Point,
}

/// Bytes of both rings, which they have from the start: 321 KiB.
pub const BYTES: usize = (Span::Day.length() + Span::Month.length()) * size_of::<Cell>();
const _: () = assert!(BYTES <= 321 << 10, "docs/operating.md says how much");

impl Ring {
    /// Nothing was counted yet.
    pub fn new(span: Span) -> Ring {
        Ring { span, cells: vec![Cell::default(); span.length()].into() }
    }

    /// Adds to the step of `now` what was counted; returns the number of that step.
    pub fn add(&mut self, now: SystemTime, more: &Point) -> u64 {
        let number = self.span.number(now);
        let cell = &mut self.cells[self.span.position(number)];
        if cell.number != number {
            *cell = Cell { number, point: Point::default() };
        }
        cell.point.add(more);
        number
    }

    /// Takes over what another run counted in the step of this number.
    pub fn restore(&mut self, number: u64, point: Point) {
        self.cells[self.span.position(number)] = Cell { number, point };
    }

    /// What was counted in the step of this number.
    pub fn at(&self, number: u64) -> Point {
        let cell = &self.cells[self.span.position(number)];
        if cell.number == number { cell.point } else { Point::default() }
    }

    /// The last so many steps, that of `now` among them: number and point of each, the oldest first.
    pub fn last(&self, count: usize, now: SystemTime) -> impl Iterator<Item = (u64, Point)> {
        let newest = self.span.number(now);
        let oldest = (newest + 1).saturating_sub(count.min(self.span.length()) as u64);
        (oldest..=newest).map(|number| (number, self.at(number)))
    }

    /// What was counted in the last so many steps, that of `now` among them.
    pub fn sum(&self, count: usize, now: SystemTime) -> Point {
        let mut sum = Point::default();
        self.last(count, now).for_each(|(_, point)| sum.add(&point));
        sum
    }
}

#[cfg(test)]
mod tests;
