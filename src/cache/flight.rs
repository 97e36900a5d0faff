//! One fill for all who want a blob.
//!
//! - [`Flights::join`] looks again under the lock: between a look at the index and the lock a fill
//!   may have landed.
//! - The [`Lead`] is owned by the fill. Dropped before it landed, however that came, it fails all
//!   who follow and frees the key.
//! - The key is freed after the index has the blob, so a request finds it in one of the two.
//! - Who follows reads the partial file up to what is published. A fill waits for no follower.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::progress::{Coming, Head, Progress};
use super::wants::Wants;
use crate::access::Inquiry;
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::within;
use crate::policy::budget::Tenant;
use crate::policy::extents::Extents;
use crate::store::index::{Held, UNTAKEN};
use crate::upstream::Fetched;
use crate::upstream::requester::{Credential, UpstreamCost};

/// For what and on whose behalf a lead asks upstream.
#[derive(Debug)]
pub struct Asking {
    /// In which repository.
    pub key: RepositoryKey,
    /// With which credential.
    pub credential: Credential,
    /// For what.
    pub kind: ContentKind,
    /// Who stands in line for it.
    pub cost: Arc<UpstreamCost>,
    /// Since when.
    pub since: SystemTime,
}

/// A blob on its way.
#[derive(Debug)]
pub struct Flight {
    digest: Digest,
    progress: watch::Sender<Progress>,
    head: OnceLock<Head>,
    /// Once it landed: whoever still reads keeps the blob from being swept.
    held: OnceLock<Held>,
    /// Upstream's answer, where there was no room for it: for the first who asks.
    unused_response: Mutex<Option<Fetched>>,
    /// What upstream is asked, where it is.
    asking: Option<Asking>,
    /// The question whose answer flows.
    inquiry: OnceLock<Inquiry>,
    /// When somebody last began to read it, or took something.
    taken_from: Mutex<Option<SystemTime>>,
    /// Readers that have all there is, and wait for more.
    caught_up: AtomicUsize,
    /// What of it is wanted.
    wants: Wants,
}

/// Somebody who reads a blob on its way, or is about to. Its fill brings what they want.
#[derive(Debug)]
pub struct Seat {
    flight: Arc<Flight>,
    number: u64,
}

impl Seat {
    /// One more, of a flight that is led yet.
    pub fn at(flight: &Arc<Flight>) -> Seat {
        Seat { number: flight.wants.sit(), flight: flight.clone() }
    }

    /// The blob.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// All of it is wanted.
    pub fn wants_all(&self) {
        self.flight.wants.all(self.number);
    }

    /// These parts are wanted, in this order.
    pub fn wants(&self, parts: Vec<Range<u64>>) {
        self.flight.wants.parts(self.number, parts);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.wants.leave(self.number);
    }
}

/// A reader that has all there is of a flight, until it is dropped.
#[derive(Debug)]
pub struct CaughtUp(Arc<Flight>);

impl CaughtUp {
    /// It waits for more from now on.
    pub fn with(flight: &Arc<Flight>) -> CaughtUp {
        flight.caught_up.fetch_add(1, Ordering::Relaxed);
        CaughtUp(flight.clone())
    }
}

impl Drop for CaughtUp {
    fn drop(&mut self) {
        self.0.caught_up.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flight {
    /// What it will be.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Upstream's answer that could not be kept, once.
    pub fn take_unused_response(&self) -> Option<Fetched> {
        self.unused_response.lock().take()
    }

    /// Whether upstream was asked for this repository and credential, so that its answer would be
    /// the same.
    pub fn was_asked_for(&self, key: &RepositoryKey, who: Credential, kind: ContentKind) -> bool {
        self.asking.as_ref().is_some_and(|it| it.key == *key && it.credential == who && it.kind == kind)
    }

    /// Whether upstream was asked for this in this repository, for whomever.
    pub fn was_asked_in(&self, key: &RepositoryKey, kind: ContentKind) -> bool {
        self.asking.as_ref().is_some_and(|it| it.key == *key && it.kind == kind)
    }

    /// The question whose answer flows, once it does, if that is a yes.
    pub fn inquiry(&self) -> Option<&Inquiry> {
        self.inquiry.get()
    }

    /// Whether a registry was asked for it, for whomever.
    pub fn was_asked_at(&self, namespace: &str) -> bool {
        self.asking.as_ref().is_some_and(|it| it.key.namespace() == namespace)
    }

    /// A client there waits for it too, and stands in line for its place: it is not to wait behind all
    /// else that who asked first wants.
    pub fn stand_beside(&self, tenant: Tenant) {
        if let Some(asking) = &self.asking {
            asking.cost.applicants().join(tenant);
        }
    }

    /// Whether its bytes are those of the digest.
    pub fn is_verified(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Verified { .. })
    }

    /// Whether somebody reads it, or waits for it. Who could take something, and did not for long, does
    /// neither.
    pub fn is_watched(&self, now: SystemTime) -> bool {
        let takes = || self.taken_from.lock().is_none_or(|at| within(Some(at), UNTAKEN, now));
        self.caught_up.load(Ordering::Relaxed) > 0 || self.progress.receiver_count() > 0 && takes()
    }

    /// Somebody begins to read it, or took something.
    pub fn taken_from(&self, now: SystemTime) {
        *self.taken_from.lock() = Some(now);
        if let Some(held) = self.held.get() {
            held.taken_from(now);
        }
    }

    /// To watch it from now on.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// How long it is, once it is verified.
    pub fn verified_size(&self) -> Option<u64> {
        match *self.progress.borrow() {
            Progress::Verified { size } => Some(size),
            _ => None,
        }
    }

    /// How many bytes there are from the first on, while it flows.
    pub fn flown(&self) -> Option<u64> {
        match &*self.progress.borrow() {
            Progress::Flowing { here } => Some(here.end_from(0)),
            _ => None,
        }
    }

    /// How far it is; nothing where nothing is asked upstream.
    fn coming(&self) -> Option<Coming> {
        let asking = self.asking.as_ref()?;
        let bytes = match &*self.progress.borrow() {
            Progress::Flowing { here } | Progress::Left { here } => here.bytes(),
            Progress::Verified { size } => *size,
            Progress::Opening | Progress::Failed(_) => 0,
        };
        let (digest, key, since) = (self.digest.clone(), asking.key.clone(), asking.since);
        let total = self.head.get().and_then(|head| head.total);
        Some(Coming { digest, key, bytes, total, since, readers: self.progress.receiver_count() })
    }

    /// What is wanted of it.
    pub(super) fn wants(&self) -> &Wants {
        &self.wants
    }

    /// What upstream said of it; there once it flows.
    pub fn head(&self) -> Option<&Head> {
        self.head.get()
    }

    /// Waits until bytes flow.
    ///
    /// # Errors
    /// It failed before that.
    pub async fn flowing(&self) -> Result<Head> {
        let mut watch = self.watch();
        loop {
            if let Progress::Failed(error) = &*watch.borrow_and_update() {
                return Err(error.clone());
            }
            if let Some(head) = self.head() {
                return Ok(head.clone());
            }
            if watch.changed().await.is_err() {
                return Err(abandoned());
            }
        }
    }

    /// Waits until all of it is verified.
    ///
    /// # Errors
    /// It failed, or not all of it comes.
    pub async fn verified(&self) -> Result<u64> {
        let mut watch = self.watch();
        loop {
            match &*watch.borrow_and_update() {
                Progress::Failed(error) => return Err(error.clone()),
                Progress::Verified { size } => return Ok(*size),
                Progress::Left { .. } => return Err(abandoned()),
                Progress::Opening | Progress::Flowing { .. } => {}
            }
            if watch.changed().await.is_err() {
                return Err(abandoned());
            }
        }
    }
}

pub(super) fn abandoned() -> Error {
    Error::new(Kind::Ours, "the download this request waited for was given up; try again")
}

/// All blobs on their way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Flights(Arc<Mutex<HashMap<Digest, Arc<Flight>>>>);

/// What [`Flights::join`] found.
#[derive(Debug)]
pub enum Joined {
    /// The blob is here.
    Held(Held),
    /// It is on its way.
    Follow(Seat),
    /// It is this caller's to fetch.
    Lead(Lead),
}

impl Flights {
    /// Looks for `digest` here, then among those on their way; else begins a flight that asks nothing
    /// upstream.
    pub fn join(&self, digest: &Digest, held: impl FnOnce() -> Option<Held>) -> Joined {
        self.join_asking(digest, held, || None)
    }

    /// The same; who leads asks this upstream. Whoever finds the flight can see what.
    pub fn join_asking(
        &self,
        digest: &Digest,
        held: impl FnOnce() -> Option<Held>,
        asking: impl FnOnce() -> Option<Asking>,
    ) -> Joined {
        let mut flights = self.0.lock();
        if let Some(held) = held() {
            return Joined::Held(held);
        }
        if let Some(flight) = flights.get(digest) {
            // Under the lock: a fill that nobody wants anything of ends under it.
            return Joined::Follow(Seat::at(flight));
        }
        let (progress, _) = watch::channel(Progress::Opening);
        let flight = Arc::new(Flight {
            digest: digest.clone(),
            progress,
            head: OnceLock::new(),
            held: OnceLock::new(),
            unused_response: Mutex::default(),
            asking: asking(),
            inquiry: OnceLock::new(),
            taken_from: Mutex::default(),
            caught_up: AtomicUsize::new(0),
            wants: Wants::default(),
        });
        flights.insert(digest.clone(), flight.clone());
        Joined::Lead(Lead { flight, flights: self.clone() })
    }

    /// The flight of a digest, if there is one.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Flight>> {
        self.0.lock().get(digest).cloned()
    }

    /// What comes from upstream, the longest first.
    pub fn coming(&self) -> Vec<Coming> {
        let mut all: Vec<_> = self.0.lock().values().filter_map(|flight| flight.coming()).collect();
        all.sort_by_key(|coming| coming.since);
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

/// The duty to fill. Dropping it unfinished is failure.
#[derive(Debug)]
pub struct Lead {
    flight: Arc<Flight>,
    flights: Flights,
}

impl Lead {
    /// What is led.
    pub fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Upstream answered: these bytes are there to read. `granted`: the question to which that is a yes,
    /// if it is one.
    pub fn flow(&self, granted: Option<&Inquiry>, head: Head, here: Extents) {
        if let Some(inquiry) = granted {
            let _ = self.flight.inquiry.set(inquiry.clone());
        }
        let _ = self.flight.head.set(head);
        self.flight.progress.send_replace(Progress::Flowing { here });
    }

    /// Leaves upstream's answer, for which there is no room, to the first client.
    pub fn leave_response(&self, fetched: Fetched) {
        *self.flight.unused_response.lock() = Some(fetched);
    }

    /// More may be read.
    pub fn publish(&self, parts: &[Range<u64>]) {
        self.flight.progress.send_modify(|progress| {
            if let Progress::Flowing { here } = progress {
                parts.iter().for_each(|part| here.add(part.clone()));
            }
        });
    }

    /// Ends where all is here that anybody wants; else it is led on.
    ///
    /// # Errors
    /// Somebody wants something.
    pub fn end_unless_wanted(self, here: &Extents) -> std::result::Result<(), Lead> {
        let flights = self.flights.clone();
        let mut all = flights.0.lock();
        if !self.flight.wants.waiting(here).is_over() {
            drop(all);
            return Err(self);
        }
        self.leave_among(&mut all);
        drop(all);
        self.flight.progress.send_replace(Progress::Left { here: here.clone() });
        Ok(())
    }

    /// The digest is verified: all may be read.
    pub fn verify(&self, size: u64) {
        self.flight.progress.send_replace(Progress::Verified { size });
    }

    /// It came to nothing. The key is free before anybody hears of it: who tries again must not
    /// find this flight.
    pub fn fail(self, error: Error) {
        self.leave();
        self.flight.progress.send_replace(Progress::Failed(error));
    }

    /// The index has it: who comes now looks there.
    pub fn land(self, held: Option<Held>) {
        if let Some(held) = held {
            let _ = self.flight.held.set(held);
        }
    }

    fn leave(&self) {
        self.leave_among(&mut self.flights.0.lock());
    }

    fn leave_among(&self, flights: &mut HashMap<Digest, Arc<Flight>>) {
        if flights.get(&self.flight.digest).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.flight.digest);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave();
        self.flight.progress.send_if_modified(|progress| {
            let unfinished = matches!(progress, Progress::Opening | Progress::Flowing { .. });
            if unfinished {
                *progress = Progress::Failed(abandoned());
            }
            unfinished
        });
    }
}

#[cfg(test)]
mod tests;
