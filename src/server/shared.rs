//! What all connections of a server share, and what belongs to one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Settings;
use super::clients::{ClientSlot, Clients};
use super::loops::Relayed;
use super::written::OfConnection;
use crate::ca::Leaves;
use crate::clock::Clock;
use crate::dial::connect::Dialer;
use crate::dial::own::OwnAddresses;
use crate::gateway::Gateway;
use crate::http::origin::Host;
use crate::lane::Lane;
use crate::metrics::{Metrics, Running};
use crate::policy::addressee::Reached;
use crate::policy::budget::Tenant;
use crate::policy::intercept::{self, Verdict};
use crate::policy::registry::Registries;
use crate::policy::users::UserId;
use crate::task::Tasks;

/// What every connection needs.
#[derive(Debug)]
pub struct ServerShared {
    /// Who may connect, and how long things may take.
    pub settings: Settings,
    /// The clients that are connected.
    pub clients: Clients,
    /// Answers requests.
    pub gateway: Arc<Gateway>,
    /// The registries whose TLS is terminated.
    pub registries: Arc<Registries>,
    /// The certificates it is terminated with.
    pub leaves: Arc<Leaves>,
    /// Dials the hosts of tunnels.
    pub dialer: Dialer,
    /// The addresses that seawall listens at.
    pub own: OwnAddresses,
    /// The TLS that passes through now.
    pub relayed: Relayed,
    /// Places for requests that are answered.
    pub answers: Lane,
    /// Counts connections and tunnels.
    pub metrics: Metrics,
    /// Runs connections, and says when to end.
    pub tasks: Tasks,
    /// The time.
    pub clock: Clock,
}

impl ServerShared {
    /// Places for as many answers as may be open.
    pub fn answers(most: usize, metrics: &Metrics) -> Lane {
        Lane::new(most, &metrics.bounds().answers, &metrics.bounds().answers_waiting)
    }

    /// What is done with `host:port`, which a client wants to talk to.
    pub(crate) fn verdict(&self, host: &Host, port: u16) -> Verdict {
        intercept::verdict(&self.registries, &self.settings.tunnels, host, port)
    }
}

/// A slot among the connections that may be open at once, of all clients and of this one. Held as
/// long as the socket is open.
struct ConnectionPermit {
    slot: ClientSlot,
    _permit: OwnedSemaphorePermit,
    _counted: Running,
}

/// A connection: its client, the address it came in at, its slots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Conn {
    pub(crate) shared: Arc<ServerShared>,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) reached: Reached,
    /// Who has shown a password for all of it.
    user: Option<UserId>,
    depth: Depth,
    permit: Arc<ConnectionPermit>,
}

/// Whether a CONNECT to seawall itself led here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outermost,
    Nested,
}

impl Conn {
    /// A connection from `peer`.
    pub(crate) fn new(
        shared: Arc<ServerShared>,
        peer: SocketAddr,
        reached: Reached,
        slot: ClientSlot,
        permit: OwnedSemaphorePermit,
    ) -> Conn {
        let permit = ConnectionPermit { slot, _permit: permit, _counted: shared.metrics.connection() };
        Conn { shared, peer, reached, user: None, depth: Depth::Outermost, permit: Arc::new(permit) }
    }

    /// The same connection, within a CONNECT to seawall itself.
    pub(crate) fn nested(self) -> Conn {
        Conn { depth: Depth::Nested, ..self }
    }

    /// The same connection, within a CONNECT of this user's, if a password was shown for it.
    pub(crate) fn of(self, user: Option<UserId>) -> Conn {
        Conn { user: user.or(self.user), ..self }
    }

    /// Whose share is taken by what is asked on it, where that showed a password of this user's.
    pub(crate) fn tenant(&self, user: Option<UserId>) -> Tenant {
        user.or(self.user).map_or_else(|| Tenant::of(self.peer.ip()), Tenant::user)
    }

    /// Whether it is within a CONNECT to seawall itself already. Each further one would cost a
    /// layer of TLS.
    pub(crate) fn is_nested(&self) -> bool {
        self.depth == Depth::Nested
    }

    /// Whether `host:port` is seawall.
    pub(crate) fn is_itself(&self, host: &Host, port: u16) -> bool {
        self.shared.settings.own_names.means(host, port, self.reached)
    }

    /// The permit for what its client can do once at a time.
    pub(crate) fn turn(&self) -> &Arc<Semaphore> {
        self.permit.slot.turn()
    }

    /// What is given to it and not written.
    pub(crate) fn unwritten(&self) -> Arc<OfConnection> {
        let all = self.shared.metrics.bounds().unwritten.clone();
        OfConnection::new(all, self.permit.slot.unwritten().clone())
    }

    /// How long the client may take for its next step.
    pub(crate) fn patience(&self) -> Duration {
        self.shared.settings.patience
    }
}
