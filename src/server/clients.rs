//! The clients that are connected: how many connections each has, and what is reported of those
//! that were refused.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use super::Settings;
use super::authenticator::Authenticator;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::policy::budget::Tenant;
use crate::policy::clients::{Client, Notice, Notices, Refusal};
use crate::policy::line::Line;

/// Counts the connections of clients, and reports refusals.
#[derive(Debug)]
pub struct Clients {
    slots: Arc<ClientSlots>,
    waiting: Arc<ClientSlots>,
    notices: Mutex<Notices>,
    authenticator: Option<Authenticator>,
    metrics: Metrics,
    clock: Clock,
}

impl Clients {
    /// No client is connected yet.
    pub fn new(settings: &Settings, metrics: &Metrics, clock: &Clock) -> Clients {
        let users = settings.users.clone();
        let slots = |most| Arc::new(ClientSlots::new(most, settings.max_connections));
        // A balancer speaks for many. After a restart all of them connect at once, and none has
        // done wrong.
        let waiting = settings.max_per_client.max(settings.max_connections / 2);
        Clients {
            slots: slots(settings.max_per_client),
            waiting: slots(waiting),
            notices: Mutex::new(Notices::new(clock.now())),
            authenticator: users
                .map(|users| Authenticator::new(users, clock.clone(), settings.patience, metrics.bounds())),
            metrics: metrics.clone(),
            clock: clock.clone(),
        }
    }

    /// The check of passwords; `None` if clients need none.
    pub(crate) fn authenticator(&self) -> Option<&Authenticator> {
        self.authenticator.as_ref()
    }

    /// A slot for one more connection of the client at `ip`, if there is one left.
    pub(crate) fn slot(&self, ip: IpAddr) -> Option<ClientSlot> {
        self.slots.clone().take(Client::of(ip), Tenant::of(ip))
    }

    /// A slot for one more connection of the balancer at `ip` whose PROXY header is waited for.
    /// They are apart from the slots of clients: the balancer's own health checks are not refused
    /// for the crowd it brings.
    pub(crate) fn waiting_slot(&self, ip: IpAddr) -> Option<ClientSlot> {
        self.waiting.clone().take(Client::of(ip), Tenant::of(ip))
    }

    /// Counts that the client at `ip` was refused, and reports it if that is news. `why` names no
    /// user and nothing secret.
    pub(crate) fn refused(&self, refusal: Refusal, ip: IpAddr, why: impl fmt::Display) {
        self.metrics.client_refused(refusal.as_str());
        let notice = self.notices.lock().notice(Client::of(ip), refusal, self.clock.now());
        let (client, reason) = (ip.to_canonical(), refusal.as_str());
        match notice {
            Notice::Say { unsaid: 0 } => info!(%client, reason, "client refused: {why}"),
            Notice::Say { unsaid } => {
                info!(%client, reason, unsaid, "client refused: {why} (`unsaid` more were refused since the last such line)");
            }
            Notice::Count => debug!(%client, reason, "client refused: {why}"),
        }
    }
}

/// How many connections each client has. Clients without a connection are not in it.
#[derive(Debug)]
struct ClientSlots {
    most: usize,
    taken: Mutex<HashMap<Client, Taken>>,
    /// Whose share of all connections is how large.
    shares: Mutex<Line<()>>,
    tenants: Mutex<HashMap<Tenant, Weak<AtomicU64>>>,
}

#[derive(Debug)]
struct Taken {
    count: usize,
    turn: Arc<Semaphore>,
}

impl ClientSlots {
    fn new(most: usize, of_all: usize) -> ClientSlots {
        let shares = Mutex::new(Line::new(of_all));
        ClientSlots { most, taken: Mutex::default(), shares, tenants: Mutex::default() }
    }

    fn take(self: Arc<Self>, client: Client, tenant: Tenant) -> Option<ClientSlot> {
        let mut taken = self.taken.lock();
        let here = taken.entry(client).or_insert_with(|| Taken { count: 0, turn: Arc::new(Semaphore::new(1)) });
        if here.count >= self.most || !self.shares.lock().take_now(tenant) {
            if here.count == 0 {
                taken.remove(&client);
            }
            return None;
        }
        here.count += 1;
        let turn = here.turn.clone();
        drop(taken);
        let unwritten = self.unwritten(tenant);
        Some(ClientSlot { slots: self, client, turn, tenant, unwritten })
    }

    /// One for all connections of a tenant.
    fn unwritten(&self, tenant: Tenant) -> Arc<AtomicU64> {
        let mut tenants = self.tenants.lock();
        let here = tenants.entry(tenant).or_default();
        here.upgrade().unwrap_or_else(|| {
            let unwritten = Arc::new(AtomicU64::new(0));
            *here = Arc::downgrade(&unwritten);
            unwritten
        })
    }
}

/// The slot of one connection among those of its client. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ClientSlot {
    slots: Arc<ClientSlots>,
    client: Client,
    turn: Arc<Semaphore>,
    tenant: Tenant,
    unwritten: Arc<AtomicU64>,
}

impl ClientSlot {
    /// Bytes that were given to the connections of its tenant and are not written.
    pub(crate) fn unwritten(&self) -> &Arc<AtomicU64> {
        &self.unwritten
    }

    /// The permit for what a client can do once at a time, whatever the number of its connections:
    /// have a password checked.
    pub(crate) fn turn(&self) -> &Arc<Semaphore> {
        &self.turn
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut tenants = self.slots.tenants.lock();
        // Chunks on their way may still count.
        if tenants.get(&self.tenant).is_some_and(|here| here.strong_count() == 1) {
            tenants.remove(&self.tenant);
        }
        drop(tenants);
        // Nobody waits in this line.
        self.slots.shares.lock().give_back(self.tenant);
        let mut taken = self.slots.taken.lock();
        if let Some(here) = taken.get_mut(&self.client) {
            here.count -= 1;
            if here.count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_so_many_slots_and_is_forgotten_when_it_left() {
        let slots = Arc::new(ClientSlots::new(2, 100));
        let client = |text: &str| Client::of(text.parse().unwrap());
        let take = |text: &str| slots.clone().take(client(text), Tenant::of(text.parse().unwrap()));
        let first = take("2001:db8::1").unwrap();
        let second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none(), "one of the same /64");
        let other = take("2001:db8:0:1::1").unwrap();
        drop(first);
        let third = take("2001:db8::3").unwrap();
        assert!(Arc::ptr_eq(third.turn(), second.turn()) && !Arc::ptr_eq(third.turn(), other.turn()));
        assert!(take("2001:db8::1").is_none());
        drop((second, third, other));
        assert!(slots.taken.lock().is_empty(), "no client is left");
    }

    /// Many addresses of one block leave the others their connections.
    #[test]
    fn a_block_has_no_more_than_its_share() {
        let slots = Arc::new(ClientSlots::new(100, 64));
        let take = |ip: [u8; 4]| slots.clone().take(Client::of(ip.into()), Tenant::of(ip.into()));
        let bystander = take([10, 0, 9, 1]).unwrap();
        let crowd: Vec<_> = (0..200).filter_map(|n| take([10, 0, 1, n % 40])).collect();
        assert_eq!(crowd.len(), 32);
        assert!((0..8).map(|_| take([10, 0, 9, 1])).all(|slot| slot.is_some()));
        drop((bystander, crowd));
        assert!(slots.taken.lock().is_empty());
    }
}
