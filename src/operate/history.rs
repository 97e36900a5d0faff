//! What is remembered of the traffic: figures by the minute and by the hour, and who pulls most.
//!
//! 1. A pull adds to the counters in `metrics`, and knows nothing of this.
//! 2. Every 10 s, and whenever somebody looks, what they grew by is added to the present minute and
//!    hour of the wall clock ([`Ring`]).
//! 3. Once a minute, and at the end, the points that changed are written down: two or three rows,
//!    each in the place of one that is a day, or 30 days, older.
//!
//! Both rings have 321 KiB from the start, and the table as many rows as they have points. Who pulls
//! most is not written down.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::kept::{self, Kept};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::metrics::top::Leaders;
use crate::policy::distinct::Distinct;
use crate::policy::series::{Figure, Point, Ring, Span};
use crate::records::{Journal, Table};
use crate::task::Tasks;

/// How often the counters are read: what is counted is at most this late in its minute.
const READ_EVERY: Duration = Duration::from_secs(10);
/// After so many times it is written down.
const READS_OF_A_WRITING: u32 = 6;

/// What is remembered. Clones share it.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    clock: Clock,
    journal: Journal,
    books: Mutex<Books>,
}

struct Books {
    day: Book,
    month: Book,
    /// What the counters showed when they were last read.
    read: Point,
}

/// The points of one span.
struct Book {
    span: Span,
    ring: Ring,
    /// The clients of the latest step that is known, and its number: who comes twice is one.
    seen: (u64, Distinct),
    unwritten: BTreeSet<u64>,
}

/// One figure over a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// What is counted.
    pub figure: Figure,
    /// When the first step begins.
    pub from: SystemTime,
    /// How long a step is.
    pub step: Duration,
    /// A value for each, the oldest first; the last step is not over.
    pub values: Vec<u64>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("History")
    }
}

impl Book {
    fn new(span: Span) -> Book {
        Book { span, ring: Ring::new(span), seen: Default::default(), unwritten: BTreeSet::new() }
    }

    fn add(&mut self, now: SystemTime, mut more: Point, seen: &Distinct) {
        let number = self.span.number(now);
        if self.seen.0 != number {
            self.seen = (number, Distinct::default());
        }
        self.seen.1.merge(seen);
        more.set(Figure::Clients, self.seen.1.estimate());
        if !more.is_empty() && more != self.only_clients() {
            self.unwritten.insert(self.ring.add(now, &more));
        }
    }

    /// What is added where nothing happened, and is there already.
    fn only_clients(&self) -> Point {
        let mut point = Point::default();
        point.set(Figure::Clients, self.ring.at(self.seen.0).get(Figure::Clients));
        point
    }

    fn write(&mut self, journal: &Journal) {
        for number in std::mem::take(&mut self.unwritten) {
            let point = self.ring.at(number);
            journal.write(Table::Statistics, kept::key(self.span, number), &Kept::new(number, &point));
        }
    }
}

impl Books {
    fn of(&mut self, span: Span) -> &mut Book {
        match span {
            Span::Day => &mut self.day,
            Span::Month => &mut self.month,
        }
    }
}

impl History {
    /// With what another run wrote down. What of it cannot be read is taken out.
    pub fn new(metrics: &Metrics, clock: &Clock, journal: &Journal, rows: &[(String, Vec<u8>)]) -> History {
        let mut books =
            Books { day: Book::new(Span::Day), month: Book::new(Span::Month), read: metrics.totals().read() };
        for (key, value) in rows {
            match kept::restored(key, value) {
                Some((span, number, point)) => books.of(span).ring.restore(number, point),
                None => journal.remove(Table::Statistics, key.clone()),
            }
        }
        metrics.top().turn(clock.wall());
        let (metrics, clock, journal) = (metrics.clone(), clock.clone(), journal.clone());
        History(Arc::new(Inner { metrics, clock, journal, books: Mutex::new(books) }))
    }

    /// Reads the counters, and writes down what they showed, until the end.
    pub async fn keep(self, tasks: Tasks) {
        let mut clock = tokio::time::interval(READ_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reads = 0;
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                _ = clock.tick() => reads += 1,
            }
            if reads % READS_OF_A_WRITING == 0 {
                self.save();
            } else {
                self.read(|_, _| ());
            }
        }
    }

    /// Writes down what changed since the last time.
    pub fn save(&self) {
        self.read(|books, _| {
            books.day.write(&self.0.journal);
            books.month.write(&self.0.journal);
        });
    }

    /// The last so many steps of a span, the present one among them: when each began, and what was
    /// counted in it. The oldest first.
    pub fn points(&self, span: Span, count: usize) -> Vec<(SystemTime, Point)> {
        let last = self.read(|books, now| books.of(span).ring.last(count, now).collect::<Vec<_>>());
        last.into_iter().map(|(number, point)| (span.start(number), point)).collect()
    }

    /// One figure over all of a span.
    pub fn series(&self, span: Span, figure: Figure) -> Series {
        let points = self.points(span, span.length());
        Series {
            figure,
            from: points.first().map_or(SystemTime::UNIX_EPOCH, |(from, _)| *from),
            step: Duration::from_secs(span.step()),
            values: points.iter().map(|(_, point)| point.get(figure)).collect(),
        }
    }

    /// What was counted in the last so many steps of a span, the present one among them.
    pub fn sum(&self, span: Span, count: usize) -> Point {
        self.read(|books, now| books.of(span).ring.sum(count, now))
    }

    /// Who pulled most in the last 20 to 24 hours, and what: so many of each.
    pub fn leaders(&self, most: usize) -> Leaders {
        self.0.metrics.top().turn(self.now());
        self.0.metrics.top().leaders(most)
    }

    /// By the wall clock: the machine may have slept.
    pub(super) fn now(&self) -> SystemTime {
        self.0.clock.wall()
    }

    /// With the counters as they are now, and the time.
    fn read<T>(&self, what: impl FnOnce(&mut Books, SystemTime) -> T) -> T {
        let (now, metrics) = (self.now(), &self.0.metrics);
        metrics.top().turn(now);
        let mut books = self.0.books.lock();
        let (totals, seen) = (metrics.totals().read(), metrics.top().take_seen());
        let more = totals.since(&books.read);
        books.read = totals;
        books.day.add(now, more, &seen);
        books.month.add(now, more, &seen);
        what(&mut books, now)
    }
}

#[cfg(test)]
mod tests;
