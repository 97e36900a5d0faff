//! A line for places: who may have one, waits for one and gives it back. The rule is `policy/line`.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Kind, Result};
use crate::metrics::bounds::Level;
use crate::policy::budget::Tenant;
use crate::policy::line::{Line, Number};

/// How long a place is waited for: containerd gives up on an answer after 30 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often who waits looks for places that nobody uses.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// A line for places. Clones share it.
#[derive(Clone, Debug)]
pub struct Lane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Mutex<Line<oneshot::Sender<Place>>>,
    paced: Mutex<Paced>,
    taken: Level,
    waiting: Level,
}

/// After so many more, those that are over are forgotten.
const MANY: usize = 1024;

/// What has a place at somebody's pace.
#[derive(Debug, Default)]
struct Paced {
    all: Vec<Weak<dyn Reclaimable>>,
    looked: Option<Instant>,
}

/// What has a place for as long as somebody takes for it.
pub trait Reclaimable: Send + Sync + std::fmt::Debug {
    /// Gives its place up, if that somebody takes next to nothing. Called now and then while others wait.
    fn reclaim(&self, now: Instant);
}

/// Whose share of the places something takes: of who asked for it, or of those who wait for it, too. It
/// stands in the line of each of them.
#[derive(Debug)]
pub struct Applicants {
    first: Tenant,
    others: Mutex<Vec<Tenant>>,
    joined: Notify,
}

/// More need not stand in line for one thing: of all, and of one block, which is refused as one where it
/// has its half.
const MOST_APPLICANTS: usize = 256;
const MOST_OF_BLOCK: usize = 4;

impl Applicants {
    /// A client there asks.
    pub fn new(first: Tenant) -> Applicants {
        Applicants { first, others: Mutex::default(), joined: Notify::new() }
    }

    /// Who asked.
    pub fn first(&self) -> Tenant {
        self.first
    }

    /// A client there waits for it, too.
    pub fn join(&self, tenant: Tenant) {
        let mut others = self.others.lock();
        if tenant == self.first || others.len() >= MOST_APPLICANTS || others.contains(&tenant) {
            return;
        }
        let block = tenant.block();
        if others.iter().filter(|other| other.block() == block).count() < MOST_OF_BLOCK {
            others.push(tenant);
            self.joined.notify_one();
        }
    }

    /// The one of that number.
    fn number(&self, n: usize) -> Option<Tenant> {
        if n == 0 { Some(self.first) } else { self.others.lock().get(n - 1).copied() }
    }
}

/// A place. It is the next one's when this is dropped.
#[derive(Debug)]
pub struct Place {
    lane: Lane,
    tenant: Tenant,
}

impl Lane {
    /// With so many places; how many are taken, and how many wait for one, is shown there.
    pub fn new(most: usize, taken: &Level, waiting: &Level) -> Lane {
        let (line, paced) = (Mutex::new(Line::new(most)), Mutex::default());
        Lane(Arc::new(Inner { line, paced, taken: taken.clone(), waiting: waiting.clone() }))
    }

    /// A place for that tenant.
    ///
    /// # Errors
    /// There is none in time: others have them all, or it has its share.
    pub async fn enter(&self, tenant: Tenant) -> Result<Place> {
        match self.take_now(tenant) {
            Some(place) => Ok(place),
            None => Box::pin(async move { self.wait_for(&Applicants::new(tenant)).await }).await,
        }
    }

    /// A place for what these wait for, who may become more meanwhile.
    ///
    /// # Errors
    /// There is none in time: others have them all, or all of them have their share.
    pub async fn enter_for(&self, applicants: &Applicants) -> Result<Place> {
        match self.take_now(applicants.first) {
            Some(place) => Ok(place),
            // Boxed: it is large, and seldom.
            None => Box::pin(self.wait_for(applicants)).await,
        }
    }

    async fn wait_for(&self, applicants: &Applicants) -> Result<Place> {
        let begun = Instant::now();
        let (mut waits, mut standing, mut looks) = (FuturesUnordered::new(), 0, begun);
        while begun.elapsed() < PATIENCE {
            while let Some(tenant) = applicants.number(standing) {
                standing += 1;
                match self.take_or_wait(tenant) {
                    Entry::Place(place) => return Ok(place),
                    Entry::Wait(wait) => waits.push(wait),
                    Entry::Closed if waits.is_empty() => return Err(too_much(tenant, "too many wait already")),
                    Entry::Closed => {}
                }
            }
            looks += LOOKS_EVERY;
            tokio::select! {
                Some(Some(place)) = waits.next() => return Ok(place),
                () = applicants.joined.notified() => {}
                () = sleep_until(looks) => self.reclaim(),
            }
        }
        Err(too_much(applicants.first, "a place was not free in 20 s"))
    }

    /// Whether somebody waits for a place.
    pub fn is_waited_for(&self) -> bool {
        self.0.waiting.read() > 0
    }

    /// Has it give its place up where others wait for one and it makes no use of it.
    pub fn pace(&self, paced: Weak<dyn Reclaimable>) {
        let all = &mut self.0.paced.lock().all;
        if all.len().is_multiple_of(MANY) {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(paced);
    }

    fn take_now(&self, tenant: Tenant) -> Option<Place> {
        self.0.line.lock().take_now(tenant).then(|| self.place(tenant))
    }

    /// A place, or what brings one; or nothing, where too many wait.
    fn take_or_wait(&self, tenant: Tenant) -> Entry {
        let mut line = self.0.line.lock();
        if line.take_now(tenant) {
            return Entry::Place(self.place(tenant));
        }
        let (ticket, called) = oneshot::channel();
        let Ok(number) = line.wait(tenant, ticket) else { return Entry::Closed };
        drop(line);
        self.0.waiting.add(1);
        Entry::Wait(Wait { called, _standing: Standing { lane: self.clone(), tenant, number } })
    }

    /// Who has a place now is told; who has left gives it back at once.
    fn call(&self, called: Vec<(Tenant, oneshot::Sender<Place>)>) {
        for (tenant, ticket) in called {
            drop(ticket.send(self.place(tenant)));
        }
    }

    fn reclaim(&self) {
        let now = Instant::now();
        let mut paced = self.0.paced.lock();
        if paced.looked.is_some_and(|looked| now < looked + LOOKS_EVERY) {
            return;
        }
        paced.looked = Some(now);
        let mut some = Vec::new();
        paced.all.retain(|one| one.upgrade().map(|one| some.push(one)).is_some());
        drop(paced);
        some.iter().for_each(|one| one.reclaim(now));
    }

    fn place(&self, tenant: Tenant) -> Place {
        self.0.taken.add(1);
        Place { lane: self.clone(), tenant }
    }
}

impl Place {
    /// The lane that it is in.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Place { lane, tenant } = self;
        lane.0.taken.sub(1);
        let called = lane.0.line.lock().give_back(*tenant);
        lane.call(called);
    }
}

fn too_much(tenant: Tenant, why: &str) -> Error {
    Error::new(Kind::Busy, format!("too much is being done for {tenant} at once, and {why}: try again"))
}

enum Entry {
    Place(Place),
    Wait(Wait),
    Closed,
}

/// Brings a place. Who drops it waits no more.
struct Wait {
    // Closed before the line is left: it is sent no place then.
    called: oneshot::Receiver<Place>,
    _standing: Standing,
}

impl Future for Wait {
    type Output = Option<Place>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Place>> {
        Pin::new(&mut self.called).poll(cx).map(std::result::Result::ok)
    }
}

/// Somebody in the line.
struct Standing {
    lane: Lane,
    tenant: Tenant,
    number: Number,
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.lane.0.waiting.sub(1);
        let called = self.lane.0.line.lock().leave(self.tenant, self.number);
        self.lane.call(called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::bounds::Bounds;

    fn tenant(n: u8) -> Tenant {
        Tenant::of([10, 0, 0, n].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_goes_to_who_waits_and_who_left_waits_no_more() {
        let bounds = Bounds::default();
        let lane = Lane::new(2, &bounds.transfers, &bounds.transfers_waiting);
        let first = lane.enter(tenant(1)).await.unwrap();
        let second = lane.enter(tenant(1)).await.unwrap();
        let began = tokio::time::Instant::now();
        let refused = lane.enter(tenant(1)).await.unwrap_err();
        assert_eq!((refused.kind(), began.elapsed()), (Kind::Busy, PATIENCE));
        assert_eq!(lane.0.line.lock().counts(), (2, 0), "who gave up does not wait");
        let mut waiting = std::pin::pin!(lane.enter(tenant(2)));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!((bounds.transfers.read(), bounds.transfers_waiting.read()), (2, 1));
        drop(first);
        let third = waiting.await.unwrap();
        drop((second, third));
        assert_eq!((bounds.transfers.read(), lane.0.line.lock().counts()), (0, (0, 0)));
    }

    /// Where a client's own share is taken, a thing waits in the line of the others who want it, too.
    #[tokio::test(start_paused = true)]
    async fn what_others_wait_for_has_a_place_of_theirs() {
        let bounds = Bounds::default();
        let lane = Lane::new(4, &bounds.transfers, &bounds.transfers_waiting);
        let mut held = Vec::new();
        for n in [9, 1, 1] {
            held.push(lane.enter(tenant(n)).await.unwrap());
        }
        let applicants = Applicants::new(tenant(1));
        let mut waiting = std::pin::pin!(lane.enter_for(&applicants));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        applicants.join(tenant(2));
        let place = waiting.await.unwrap();
        assert_eq!((place.tenant, bounds.transfers_waiting.read()), (tenant(2), 0));
    }

    /// A block that is refused as one stands in line with some; whoever else wants the thing still finds
    /// room there.
    #[test]
    fn a_crowd_pushes_nobody_out_of_the_line() {
        let applicants = Applicants::new(tenant(1));
        for block in 0..60 {
            for n in 0..=255 {
                applicants.join(Tenant::of([10, 1, block, n].into()));
            }
        }
        assert_eq!(applicants.others.lock().len(), 60 * MOST_OF_BLOCK);
        let other = Tenant::of([10, 2, 0, 1].into());
        applicants.join(other);
        assert_eq!(applicants.number(60 * MOST_OF_BLOCK + 1), Some(other));
    }

    #[derive(Debug)]
    struct Unused(Mutex<Option<Place>>);

    impl Reclaimable for Unused {
        fn reclaim(&self, _: Instant) {
            self.0.lock().take();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_is_for_who_waits() {
        let bounds = Bounds::default();
        let lane = Lane::new(1, &bounds.transfers, &bounds.transfers_waiting);
        let unused: Arc<dyn Reclaimable> = Arc::new(Unused(Mutex::new(Some(lane.enter(tenant(1)).await.unwrap()))));
        lane.pace(Arc::downgrade(&unused));
        let began = Instant::now();
        lane.enter(tenant(1)).await.unwrap();
        assert_eq!(began.elapsed(), LOOKS_EVERY);
    }
}
