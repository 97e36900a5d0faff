//! A line for places: who may have one, waits for one and gives it back. The rule is `policy/line`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};
use crate::metrics::bounds::Level;
use crate::policy::budget::Network;
use crate::policy::line::Line;

/// How long a place is waited for: containerd gives up on an answer after 30 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A line for places. Clones share it.
#[derive(Clone, Debug)]
pub struct Lane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Mutex<Line<oneshot::Sender<Place>>>,
    taken: Level,
    waiting: Level,
}

/// A place. It is the next one's when this is dropped.
#[derive(Debug)]
pub struct Place {
    lane: Lane,
    network: Network,
}

impl Lane {
    /// With so many places; how many are taken, and how many wait for one, is shown there.
    pub fn new(most: usize, taken: &Level, waiting: &Level) -> Lane {
        Lane(Arc::new(Inner { line: Mutex::new(Line::new(most)), taken: taken.clone(), waiting: waiting.clone() }))
    }

    /// A place for a client of that network.
    ///
    /// # Errors
    /// There is none in time: others have them all, or its own network has its share.
    pub async fn enter(&self, network: Network) -> Result<Place> {
        let Some(called) = self.take_or_wait(network) else { return Ok(self.place(network)) };
        let _waiting = Waiting::new(self, network);
        match tokio::time::timeout(PATIENCE, called).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Error::new(
                Kind::Busy,
                format!("too much is being done for {network} at once, and a place was not free in 20 s: try again"),
            )),
        }
    }

    /// `None`: a place is taken. Else what brings one.
    fn take_or_wait(&self, network: Network) -> Option<oneshot::Receiver<Place>> {
        let mut line = self.0.line.lock();
        if line.take_now(network) {
            return None;
        }
        let (ticket, called) = oneshot::channel();
        line.wait(network, ticket);
        Some(called)
    }

    fn place(&self, network: Network) -> Place {
        self.0.taken.add(1);
        Place { lane: self.clone(), network }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Place { lane, network } = self;
        lane.0.taken.sub(1);
        let called = lane.0.line.lock().give_back(*network);
        for (network, ticket) in called {
            // Who has left gives it back at once.
            drop(ticket.send(lane.place(network)));
        }
    }
}

/// Somebody who waits, until the wait is over.
struct Waiting<'a> {
    lane: &'a Lane,
    network: Network,
}

impl Waiting<'_> {
    fn new(lane: &Lane, network: Network) -> Waiting<'_> {
        lane.0.waiting.add(1);
        Waiting { lane, network }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.lane.0.waiting.sub(1);
        self.lane.0.line.lock().forget(self.network, oneshot::Sender::is_closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::bounds::Bounds;

    fn network(n: u8) -> Network {
        Network::of([10, 0, 0, n].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_goes_to_who_waits_and_who_left_waits_no_more() {
        let bounds = Bounds::default();
        let lane = Lane::new(2, &bounds.transfers, &bounds.transfers_waiting);
        let first = lane.enter(network(1)).await.unwrap();
        let began = tokio::time::Instant::now();
        let refused = lane.enter(network(1)).await.unwrap_err();
        assert_eq!((refused.kind(), began.elapsed()), (Kind::Busy, PATIENCE));
        assert_eq!(lane.0.line.lock().counts(), (1, 0), "who gave up does not wait");
        let second = lane.enter(network(2)).await.unwrap();
        let waiting = crate::task::Tasks::new().spawn({
            let lane = lane.clone();
            async move { lane.enter(network(1)).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert_eq!((bounds.transfers.read(), bounds.transfers_waiting.read()), (2, 1));
        drop(first);
        let third = waiting.await.unwrap();
        drop((second, third));
        assert_eq!((bounds.transfers.read(), lane.0.line.lock().counts()), (0, (0, 0)));
    }
}
