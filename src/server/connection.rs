//! One connection, from its first byte to the HTTP or the tunnel it becomes.
//!
//! 1. The first bytes say what it is: see `sniff`.
//! 2. HTTP is served. A CONNECT in it may begin the connection anew, with a known target.
//! 3. TLS is for the host that its ClientHello names: see `serve_tls`. Within TLS to seawall itself all is as in the clear.
//! 4. Within a CONNECT to a registry: TLS is terminated, whatever name it has; the gateway answers 421 where names differ.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::clients::{ClientSlot, Clients};
use super::handshake::{as_itself, serve_tls, terminate};
use super::loops::Relayed;
use super::opening::{Opening, OpeningError, opening, say_last};
use super::tcp::Tcp;
use super::transport::{Socket, Transport};
use super::tunnel::tunnel;
use super::{Settings, http};
use crate::ca::Leaves;
use crate::clock::Clock;
use crate::dial::connect::Dialer;
use crate::dial::own::OwnAddresses;
use crate::dial::stream::Stream;
use crate::gateway::Ingress;
use crate::gateway::gateway::Gateway;
use crate::http::origin::{Host, Origin, Scheme};
use crate::metrics::{Metrics, Running};
use crate::policy::addressee::Reached;
use crate::policy::intercept::{self, Verdict};
use crate::policy::registry::{Registries, Role, Site};
use crate::task::Tasks;

/// What every connection needs.
#[derive(Debug)]
pub struct ServerShared {
    /// Who may connect, how long things may take.
    pub settings: Settings,
    /// Who is here.
    pub clients: Clients,
    /// Answers requests.
    pub gateway: Arc<Gateway>,
    /// Whose TLS is terminated.
    pub registries: Arc<Registries>,
    /// With what.
    pub leaves: Arc<Leaves>,
    /// Whom tunnels reach.
    pub dialer: Dialer,
    /// Where seawall listens.
    pub own: OwnAddresses,
    /// What passes through now.
    pub relayed: Relayed,
    /// Counts connections and tunnels.
    pub metrics: Metrics,
    /// Runs them, and says when to end.
    pub tasks: Tasks,
    /// For the life of leaves.
    pub clock: Clock,
}

impl ServerShared {
    pub(crate) fn verdict(&self, host: &Host, port: u16) -> Verdict {
        intercept::verdict(&self.registries, &self.settings.tunnels, host, port)
    }
}

/// A place among the connections that may be open at once, of all and of this client. Held as long as the socket is.
pub(crate) struct ConnectionPermit {
    place: ClientSlot,
    _permit: OwnedSemaphorePermit,
    _counted: Running,
}

/// Whose connection it is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Conn {
    pub(crate) shared: Arc<ServerShared>,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) reached: Reached,
    depth: Depth,
    permit: Arc<ConnectionPermit>,
}

/// Whether a CONNECT to seawall itself led here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outermost,
    Inside,
}

impl Conn {
    /// A connection from `peer`.
    pub(crate) fn new(
        shared: Arc<ServerShared>,
        peer: SocketAddr,
        reached: Reached,
        place: ClientSlot,
        permit: OwnedSemaphorePermit,
    ) -> Conn {
        let permit = ConnectionPermit { place, _permit: permit, _counted: shared.metrics.connection() };
        Conn { shared, peer, reached, depth: Depth::Outermost, permit: Arc::new(permit) }
    }

    /// The same, within a CONNECT to seawall itself. None: it is that already, and each one more costs a layer of TLS.
    pub(crate) fn nested(&self) -> Option<Conn> {
        (self.depth == Depth::Outermost).then(|| Conn { depth: Depth::Inside, ..self.clone() })
    }

    /// Whether `host:port` is seawall.
    pub(crate) fn is_itself(&self, host: &Host, port: u16) -> bool {
        self.shared.settings.own_names.means(host, port, self.reached)
    }

    /// What its client can do once at a time.
    pub(crate) fn turn(&self) -> &Arc<Semaphore> {
        self.permit.place.turn()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.shared.settings.patience
    }
}

/// Whom a CONNECT was for.
pub(crate) struct Target {
    pub(crate) site: Site,
    pub(crate) role: Role,
    pub(crate) origin: Origin,
}

/// Serves a connection that was just let in. `ahead` was read of it already.
pub(crate) async fn serve_connection(conn: Conn, socket: TcpStream, ahead: Bytes) {
    match opened(&conn, Transport::Tcp(Tcp::new(socket)), ahead).await {
        Some(Opening::Http(socket)) => http::plain(conn, socket, Ingress::Own(Scheme::Http)).await,
        Some(Opening::Tls(greeting)) => serve_tls(conn, *greeting).await,
        None => {}
    }
}

/// Serves what follows the 200 to a CONNECT for seawall itself.
pub(crate) async fn serve_itself(conn: Conn, line: Transport, ahead: Bytes) {
    match opened(&conn, line, ahead).await {
        Some(Opening::Http(socket)) => http::plain(conn, socket, Ingress::Own(Scheme::Http)).await,
        Some(Opening::Tls(greeting)) => as_itself(conn, *greeting).await,
        None => {}
    }
}

/// Serves what follows the 200 to a CONNECT for a registry.
pub(crate) async fn serve_after_connect(conn: Conn, socket: Transport, ahead: Bytes, target: Target) {
    match opened(&conn, socket, ahead).await {
        Some(Opening::Tls(greeting)) => {
            let origin = Origin { scheme: Scheme::Https, ..target.origin.clone() };
            terminate(conn, *greeting, Target { origin, ..target }).await;
        }
        Some(Opening::Http(socket)) if target.origin.scheme == Scheme::Http => {
            let Target { site, role, origin } = target;
            http::plain(conn, socket, Ingress::Intercepted { site, role, origin, sni: None }).await;
        }
        Some(Opening::Http(socket)) => {
            debug!(peer = %conn.peer, host = %target.origin.host, "plain HTTP within a CONNECT to a TLS registry");
            say_last(socket.into_parts().1, PLAIN_HTTP).await;
        }
        None => {}
    }
}

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 This registry is spoken to over TLS\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\nConnection: close\r\n\r\n\
    seawall: this registry is spoken to over TLS, not plain HTTP";

/// What the connection is; nothing if it is nothing, or the process stops before it says.
async fn opened(conn: &Conn, socket: Transport, ahead: Bytes) -> Option<Opening> {
    let opened = tokio::select! {
        opened = opening(socket, ahead, conn.patience()) => opened,
        () = conn.shared.tasks.stopping() => return None,
    };
    match opened {
        Ok(opening) => Some(opening),
        Err(OpeningError::Closed) => None,
        Err(error) => {
            debug!(peer = %conn.peer, %error, "connection closed");
            None
        }
    }
}

/// Copies between client and upstream until they are done.
pub(crate) async fn tunnelled(conn: Conn, client: Socket, upstream: Stream) {
    let _counted = conn.shared.metrics.tunnel();
    match tunnel(client, upstream, conn.shared.settings.idle_timeout, &conn.shared.tasks).await {
        Ok((sent, received)) => debug!(peer = %conn.peer, sent, received, "tunnel closed"),
        Err(error) => debug!(peer = %conn.peer, %error, "tunnel ended"),
    }
}

#[cfg(test)]
mod tests;
