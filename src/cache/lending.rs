//! What all fills share of what they may have beside their first connections: those connections, by host,
//! and what is known of hosts and digests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::metrics::bounds::Level;
use crate::oci::digest::Digest;
use crate::policy::access::within;
use crate::policy::budget::Tenant;

/// Added connections to one host, over all fills; one client has no more than half of them.
const MOST_OF_HOST: usize = 16;
/// After a refusal of one, or a failure.
const HELD_OFF: Duration = Duration::from_secs(60);
/// How long it is remembered what paid, and that a digest came wrong.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Hosts, and digests, that are remembered.
const MOST_REMEMBERED: usize = 1024;

/// Fills that wait for the next question with their files open.
const MOST_LINGERING: usize = 64;

/// Shared by all fills.
#[derive(Debug)]
pub(super) struct Lending {
    hosts: Mutex<HashMap<String, Host>>,
    wrong: Mutex<HashMap<Digest, SystemTime>>,
    brought: AtomicU64,
    lingering: AtomicUsize,
    added: Level,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Host {
    /// For whom.
    lent: Vec<Tenant>,
    refused: Option<SystemTime>,
    paid: Option<(usize, SystemTime)>,
}

impl Host {
    fn is_forgotten(&self, now: SystemTime) -> bool {
        let paid = self.paid.map(|(_, at)| at);
        self.lent.is_empty() && !within(self.refused, HELD_OFF, now) && !within(paid, REMEMBERED, now)
    }
}

/// An added connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    lending: Arc<Lending>,
    host: String,
    tenant: Tenant,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lending.added.sub(1);
        if let Some(host) = self.lending.hosts.lock().get_mut(&self.host) {
            let its = host.lent.iter().position(|other| *other == self.tenant);
            its.map(|its| host.lent.swap_remove(its));
        }
    }
}

/// A fill that waits for the next question, until it is dropped.
#[derive(Debug)]
pub(super) struct Lingering(Arc<Lending>);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lending {
    /// How many there are is shown in `added`.
    pub(super) fn new(clock: Clock, added: &Level) -> Lending {
        let (hosts, wrong, brought) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Lending { hosts, wrong, brought, lingering: AtomicUsize::new(0), added: added.clone(), clock }
    }

    /// One more connection to a host, if it may have one.
    pub(super) fn lend(self: &Arc<Lending>, name: &str, tenant: Tenant) -> Option<Lent> {
        let mut hosts = self.hosts.lock();
        let host = entry(&mut hosts, name, self.clock.now())?;
        let its = host.lent.iter().filter(|other| **other == tenant).count();
        if host.lent.len() >= MOST_OF_HOST || its >= MOST_OF_HOST / 2 {
            return None;
        }
        host.lent.push(tenant);
        drop(hosts);
        self.added.add(1);
        Some(Lent { lending: self.clone(), host: name.to_owned(), tenant })
    }

    /// It refused one, or failed.
    pub(super) fn hold_off(&self, name: &str) {
        let now = self.clock.now();
        if let Some(host) = entry(&mut self.hosts.lock(), name, now) {
            host.refused = Some(now);
        }
    }

    /// Whether it did so lately.
    pub(super) fn is_held_off(&self, name: &str) -> bool {
        let hosts = self.hosts.lock();
        hosts.get(name).is_some_and(|host| within(host.refused, HELD_OFF, self.clock.now()))
    }

    /// So many pay there.
    pub(super) fn pays(&self, name: &str, count: usize) {
        let now = self.clock.now();
        if let Some(host) = entry(&mut self.hosts.lock(), name, now) {
            host.paid = Some((count, now));
        }
    }

    /// How many paid there lately.
    pub(super) fn paid(&self, name: &str) -> usize {
        let (hosts, now) = (self.hosts.lock(), self.clock.now());
        let paid = hosts.get(name).and_then(|host| host.paid);
        paid.filter(|(_, at)| within(Some(*at), REMEMBERED, now)).map_or(1, |(count, _)| count)
    }

    /// Its bytes came wrong.
    pub(super) fn came_wrong(&self, digest: &Digest) {
        let (mut wrong, now) = (self.wrong.lock(), self.clock.now());
        if wrong.len() >= MOST_REMEMBERED {
            let oldest = wrong.iter().min_by_key(|(_, at)| **at).map(|(digest, _)| digest.clone());
            oldest.map(|oldest| wrong.remove(&oldest));
        }
        wrong.insert(digest.clone(), now);
    }

    /// Whether they did lately: then one connection brings it.
    pub(super) fn is_alone(&self, digest: &Digest) -> bool {
        within(self.wrong.lock().get(digest).copied(), REMEMBERED, self.clock.now())
    }

    /// One more fill waits for the next question, if so many may.
    pub(super) fn linger(self: &Arc<Lending>) -> Option<Lingering> {
        let lingering = Lingering(self.clone());
        let before = self.lingering.fetch_add(1, Ordering::Relaxed);
        (before < MOST_LINGERING).then_some(lingering)
    }

    /// A fill brought so much more.
    pub(super) fn bring(&self, bytes: u64) {
        self.brought.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What all fills ever brought.
    pub(super) fn brought(&self) -> u64 {
        self.brought.load(Ordering::Relaxed)
    }
}

/// `None`: too many are known, and all of them matter.
fn entry<'a>(hosts: &'a mut HashMap<String, Host>, name: &str, now: SystemTime) -> Option<&'a mut Host> {
    if hosts.len() >= MOST_REMEMBERED && !hosts.contains_key(name) {
        hosts.retain(|_, host| !host.is_forgotten(now));
        if hosts.len() >= MOST_REMEMBERED {
            return None;
        }
    }
    Some(hosts.entry(name.to_owned()).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;

    #[test]
    fn a_host_has_no_more_than_sixteen_and_gets_back_what_is_dropped() {
        let lending = Arc::new(Lending::new(Clock::system(), &Level::default()));
        let [one, two, three] = [1, 2, 3].map(|n| Tenant::of([192, 0, 2, n].into()));
        let mut lent: Vec<Lent> = (0..MOST_OF_HOST).filter_map(|_| lending.lend("a", one)).collect();
        assert_eq!(lent.len(), MOST_OF_HOST / 2, "one client has half");
        lent.extend((0..MOST_OF_HOST).filter_map(|_| lending.lend("a", two)));
        assert_eq!(lent.len(), MOST_OF_HOST);
        assert!(lending.lend("a", three).is_none() && lending.lend("b", three).is_some());
        lent.pop();
        assert!(lending.lend("a", three).is_some());
    }

    #[test]
    fn so_many_fills_wait_for_the_next_question() {
        let lending = Arc::new(Lending::new(Clock::system(), &Level::default()));
        let mut waiting: Vec<Lingering> = (0..100).filter_map(|_| lending.linger()).collect();
        assert_eq!((waiting.len(), lending.lingering.load(Ordering::Relaxed)), (MOST_LINGERING, MOST_LINGERING));
        waiting.pop();
        assert!(lending.linger().is_some());
    }

    #[test]
    fn what_is_known_of_a_host_is_forgotten_by_and_by() {
        let clock = Clock::system();
        let lending = Arc::new(Lending::new(clock.clone(), &Level::default()));
        lending.hold_off("a");
        lending.pays("a", 3);
        let digest = Digest::of(Algorithm::Sha256, b"x");
        lending.came_wrong(&digest);
        assert_eq!((lending.is_held_off("a"), lending.paid("a"), lending.is_alone(&digest)), (true, 3, true));
        clock.advance(HELD_OFF + Duration::from_secs(1));
        assert_eq!((lending.is_held_off("a"), lending.paid("a"), lending.is_alone(&digest)), (false, 3, true));
        clock.advance(REMEMBERED);
        assert_eq!((lending.is_held_off("a"), lending.paid("a"), lending.is_alone(&digest)), (false, 1, false));
    }

    #[test]
    fn no_more_hosts_and_digests_are_remembered_than_have_room() {
        let lending = Arc::new(Lending::new(Clock::system(), &Level::default()));
        for n in 0..2 * MOST_REMEMBERED {
            lending.hold_off(&n.to_string());
            lending.came_wrong(&Digest::of(Algorithm::Sha256, n.to_string().as_bytes()));
        }
        assert_eq!(lending.hosts.lock().len(), MOST_REMEMBERED);
        assert_eq!(lending.wrong.lock().len(), MOST_REMEMBERED);
        assert!(lending.lend("0", Tenant::own()).is_some() && lending.lend("new", Tenant::own()).is_none());
    }
}
