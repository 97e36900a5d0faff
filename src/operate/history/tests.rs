use std::net::IpAddr;

use super::*;
use crate::http::cache_status::Outcome;
use crate::operate::traffic::{Amount, HitShare};
use crate::policy::top::Weight;

const HOUR: Duration = Duration::from_secs(3600);

struct World {
    metrics: Metrics,
    clock: Clock,
    history: History,
}

fn world(rows: &[(String, Vec<u8>)], clock: &Clock) -> World {
    let metrics = Metrics::new();
    let history = History::new(&metrics, clock, &Journal::off(), rows);
    World { metrics, clock: clock.clone(), history }
}

impl World {
    fn pull(&self, client: u8, outcome: Outcome) {
        self.metrics.totals().pulled(outcome);
        self.metrics.totals().pulled_bytes(outcome, 100);
        let client = IpAddr::from([10, 0, 0, client]);
        self.metrics.top().note("docker.io", "library/a", client, Weight { pulls: 1, bytes: 100 });
    }

    fn sum(&self, span: Span, figure: Figure) -> u64 {
        self.history.sum(span, span.length()).get(figure)
    }

    /// What would be written.
    fn rows(&self) -> Vec<(String, Vec<u8>)> {
        let mut books = self.history.0.books.lock();
        let mut rows = Vec::new();
        for span in Span::ALL {
            let book = books.of(span);
            rows.extend(book.unwritten.iter().map(|number| {
                let value = serde_json::to_vec(&Kept::new(*number, &book.ring.at(*number))).unwrap();
                (kept::key(span, *number), value)
            }));
        }
        rows
    }
}

#[test]
fn hours_without_pulls_are_empty_and_not_stretched() {
    let world = world(&[], &Clock::system());
    world.pull(1, Outcome::Miss);
    world.history.save();
    world.clock.advance(3 * HOUR);
    world.pull(1, Outcome::Hit);
    let points = world.history.points(Span::Day, Span::Day.length());
    let busy: Vec<usize> = (0..points.len()).filter(|n| !points[*n].1.is_empty()).collect();
    assert_eq!((busy.len(), busy[1], busy[1] - busy[0]), (2, 1439, 180));
    let series = world.history.series(Span::Month, Figure::Hit);
    assert_eq!((series.values.len(), series.values.iter().sum::<u64>(), series.step), (720, 1, HOUR));
    assert_eq!(series.values.last(), Some(&1));
}

#[test]
fn a_client_that_comes_often_is_one_in_each_step() {
    let world = world(&[], &Clock::system());
    for _ in 0..3 {
        world.pull(1, Outcome::Hit);
        world.pull(2, Outcome::Hit);
        assert_eq!(world.sum(Span::Month, Figure::Clients), 2);
    }
    assert_eq!(world.sum(Span::Month, Figure::Hit), 6);
    world.clock.advance(HOUR);
    world.pull(3, Outcome::Hit);
    let hours: Vec<u64> = world.history.series(Span::Month, Figure::Clients).values;
    assert_eq!(hours[718..], [2, 1]);
}

#[test]
fn another_run_goes_on_with_what_was_written() {
    let first = world(&[], &Clock::system());
    first.pull(1, Outcome::Hit);
    first.clock.advance(HOUR);
    first.pull(1, Outcome::Miss);
    first.history.points(Span::Day, 1);
    let mut rows = first.rows();
    assert!((2..=4).contains(&rows.len()), "{rows:?}");
    rows.push(("24h 7".to_owned(), b"{\"number\":".to_vec()));
    rows.push(("quota".to_owned(), b"{}".to_vec()));
    first.clock.advance(HOUR);
    let second = world(&rows, &first.clock);
    second.pull(1, Outcome::Hit);
    for span in Span::ALL {
        assert_eq!((second.sum(span, Figure::Hit), second.sum(span, Figure::Miss)), (2, 1), "{span:?}");
    }
}

#[test]
fn where_nothing_happens_nothing_is_written() {
    let world = world(&[], &Clock::system());
    world.history.save();
    assert_eq!(world.rows(), []);
    world.pull(1, Outcome::Hit);
    world.history.points(Span::Day, 1);
    assert!(!world.rows().is_empty());
    world.history.save();
    // In the same minute, or in the next.
    world.history.points(Span::Day, 1);
    world.clock.advance(HOUR);
    world.history.points(Span::Day, 1);
    assert_eq!(world.rows(), []);
}

#[test]
fn shares_and_what_was_spared() {
    let world = world(&[], &Clock::system());
    assert_eq!(world.history.traffic().hit_share.day, HitShare { requests: None, bytes: None });
    for outcome in [Outcome::Hit, Outcome::Stale, Outcome::Collapsed, Outcome::Miss] {
        world.pull(1, outcome);
    }
    world.metrics.spared("docker.io");
    let traffic = world.history.traffic();
    assert_eq!(traffic.hit_share.minutes, HitShare { requests: Some(0.5), bytes: Some(0.5) });
    assert_eq!(traffic.spared.month, Amount { pulls: 1, bytes: 300 });
    world.clock.advance(HOUR);
    let later = world.history.traffic();
    assert_eq!(later.hit_share.hour, HitShare::default());
    assert_eq!((later.hit_share.day, later.spared.month), (traffic.hit_share.day, traffic.spared.month));
    world.clock.advance(24 * HOUR);
    let tomorrow = world.history.traffic();
    assert_eq!((tomorrow.hit_share.day, tomorrow.spared.today), (HitShare::default(), Amount::default()));
    assert_eq!(tomorrow.spared.month, traffic.spared.month);
}

#[test]
fn leaders_are_of_the_last_day() {
    let world = world(&[], &Clock::system());
    world.pull(1, Outcome::Hit);
    assert_eq!(&*world.history.leaders(9).images[0].name, "docker.io/library/a");
    world.clock.advance(25 * HOUR);
    assert_eq!(world.history.leaders(9), Leaders::default());
}
