//! One connection, from its first byte to the HTTP or the tunnel it becomes.
//!
//! 1. The first bytes say what it is: see `sniff`.
//! 2. HTTP is served. A CONNECT in it may begin the connection anew, with a known target.
//! 3. TLS is for the host that its ClientHello names: terminated for a registry, passed through for others.
//! 4. Within a CONNECT to a registry: TLS is terminated, whatever name it has; the gateway answers 421 where names differ.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use super::clients::{Clients, Place};
use super::connect::not_dialled;
use super::gateway::Gateway;
use super::opening::{Alert, Greeting, Opening, OpeningError, Socket, opening, say_last};
use super::tunnel::tunnel;
use super::{Settings, Way, serve};
use crate::ca::Leaves;
use crate::clock::Clock;
use crate::http::origin::{Host, Origin, Scheme};
use crate::metrics::{Metrics, Running};
use crate::policy::clients::Refusal;
use crate::policy::intercept::{self, Tunnels, Verdict};
use crate::policy::registry::{Registries, Role, Site};
use crate::task::Tasks;
use crate::upstream::connect::{Dialer, Trust};
use crate::upstream::stream::Stream;

/// What every connection needs.
#[derive(Debug)]
pub struct Front {
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
    /// Counts connections and tunnels.
    pub metrics: Metrics,
    /// Runs them, and says when to end.
    pub tasks: Tasks,
    /// For the life of leaves.
    pub clock: Clock,
}

impl Front {
    pub(super) fn verdict(&self, host: &Host, port: u16) -> Verdict {
        let tunnels = Tunnels { hosts: &self.settings.tunnel_hosts, ports: &self.settings.tunnel_ports };
        intercept::verdict(&self.registries, tunnels, host, port)
    }
}

/// A place among the connections that may be open at once, of all and of this client. Held as long as the socket is.
pub(super) struct Seat {
    place: Place,
    _permit: OwnedSemaphorePermit,
    _counted: Running,
}

/// Whose connection it is. Cheap to clone.
#[derive(Clone)]
pub(super) struct Conn {
    pub(super) front: Arc<Front>,
    pub(super) peer: SocketAddr,
    port: u16,
    seat: Arc<Seat>,
}

impl Conn {
    /// A connection from `peer` that came in at `port`.
    pub(super) fn new(
        front: Arc<Front>,
        peer: SocketAddr,
        port: u16,
        place: Place,
        permit: OwnedSemaphorePermit,
    ) -> Conn {
        let seat = Seat { place, _permit: permit, _counted: front.metrics.connection() };
        Conn { front, peer, port, seat: Arc::new(seat) }
    }

    /// What its client can do once at a time.
    pub(super) fn turn(&self) -> &Arc<Semaphore> {
        self.seat.place.turn()
    }

    fn patience(&self) -> Duration {
        self.front.settings.patience
    }
}

/// Whom a CONNECT was for.
pub(super) struct Target {
    pub(super) site: Site,
    pub(super) role: Role,
    pub(super) origin: Origin,
}

/// Serves a connection that was just let in. `ahead` was read of it already.
pub(super) async fn serve_connection(conn: Conn, socket: TcpStream, ahead: Bytes) {
    match opened(&conn, socket, ahead).await {
        Some(Opening::Http(socket)) => serve::plain(conn, socket, Way::Own(Scheme::Http)).await,
        Some(Opening::Tls(greeting)) => by_name(conn, *greeting).await,
        None => {}
    }
}

/// Serves what follows the 200 to a CONNECT for a registry.
pub(super) async fn within(conn: Conn, socket: TcpStream, ahead: Bytes, target: Target) {
    match opened(&conn, socket, ahead).await {
        Some(Opening::Tls(greeting)) => {
            let origin = Origin { scheme: Scheme::Https, ..target.origin.clone() };
            terminate(conn, *greeting, Target { origin, ..target }).await;
        }
        Some(Opening::Http(socket)) if target.origin.scheme == Scheme::Http => {
            let Target { site, role, origin } = target;
            serve::plain(conn, socket, Way::Intercepted { site, role, origin, sni: None }).await;
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
async fn opened(conn: &Conn, socket: TcpStream, ahead: Bytes) -> Option<Opening> {
    let opened = tokio::select! {
        opened = opening(socket, ahead, conn.patience()) => opened,
        () = conn.front.tasks.stopping() => return None,
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

/// TLS that came straight here: the client believes seawall to be the host it names.
async fn by_name(conn: Conn, greeting: Greeting) {
    if conn.front.clients.authenticator().is_some() {
        // There is no way to ask for a password here, and a users_file that can be walked around is none.
        let why = "clients.users_file is set, and TLS that is not within a CONNECT has no place for a password";
        conn.front.clients.refused(Refusal::Auth, conn.peer.ip(), why);
        return greeting.reject(Alert::AccessDenied).await;
    }
    let Some(host) = greeting.hello().sni.clone() else {
        debug!(peer = %conn.peer, "TLS without a server name: nobody knows whom it is for");
        return greeting.reject(Alert::UnrecognizedName).await;
    };
    let port = conn.port_of_name(&host);
    match conn.front.verdict(&host, port) {
        Verdict::Registry(site, role) => {
            let origin = Origin { scheme: Scheme::Https, host, port };
            terminate(conn, greeting, Target { site, role, origin }).await;
        }
        Verdict::Tunnel => pass_through(conn, greeting, &host, port).await,
        Verdict::Refuse(reason) => {
            let why = format!("TLS for {host} is not passed through: {reason}");
            conn.front.clients.refused(Refusal::Tunnel, conn.peer.ip(), why);
            greeting.reject(Alert::AccessDenied).await;
        }
    }
}

impl Conn {
    /// The port a client meant that names `host` here: that of the listener where it means something, else 443, since a
    /// listener behind a redirection has a port of its own.
    fn port_of_name(&self, host: &Host) -> u16 {
        let usual = Scheme::Https.default_port();
        let is_registry = |port| matches!(self.front.verdict(host, port), Verdict::Registry(..));
        let here = is_registry(self.port) || self.front.settings.tunnel_ports.contains(&self.port);
        if here && !is_registry(usual) { self.port } else { usual }
    }
}

/// Finishes the handshake with a leaf for the target and serves it.
async fn terminate(conn: Conn, greeting: Greeting, target: Target) {
    let Target { site, role, origin } = target;
    let config = match conn.front.leaves.config_for(&origin.host, conn.front.clock.now()) {
        Ok(config) => config,
        Err(error) => {
            warn!(host = %origin.host, %error, "no certificate for this host");
            return greeting.reject(Alert::InternalError).await;
        }
    };
    let sni = greeting.hello().sni.clone();
    match tokio::time::timeout(conn.patience(), greeting.accept(config)).await {
        Ok(Ok(stream)) => serve::encrypted(conn, stream, Way::Intercepted { site, role, origin, sni }).await,
        // At info: a client that does not trust the root is the first thing to go wrong in every installation.
        Ok(Err(error)) => {
            info!(peer = %conn.peer, host = %origin.host, %error, "TLS handshake failed{}", advice(&error));
        }
        Err(_) => debug!(peer = %conn.peer, host = %origin.host, "TLS handshake took too long"),
    }
}

/// What a client that broke the handshake off probably lacks.
fn advice(error: &std::io::Error) -> &'static str {
    use rustls::AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown)) => {
            ": the client does not trust seawall's root (`seawall ca install`, or /ca.crt on this port; daemons read it once)"
        }
        _ => "",
    }
}

/// Passes TLS through to the true host, unopened.
async fn pass_through(conn: Conn, greeting: Greeting, host: &Host, port: u16) {
    match conn.front.dialer.dial(host, port, Trust::Open).await {
        Ok(upstream) => tunnelled(conn, greeting.into_unread(), upstream).await,
        Err(error) => {
            not_dialled(&conn, format_args!("TLS for {host} to be passed through"), &error);
            greeting.reject(Alert::InternalError).await;
        }
    }
}

/// Copies between client and upstream until they are done.
pub(super) async fn tunnelled(conn: Conn, client: Socket, upstream: Stream) {
    let _counted = conn.front.metrics.tunnel();
    match tunnel(client, upstream, conn.front.settings.idle_timeout, &conn.front.tasks).await {
        Ok((sent, received)) => debug!(peer = %conn.peer, sent, received, "tunnel closed"),
        Err(error) => debug!(peer = %conn.peer, %error, "tunnel ended"),
    }
}

#[cfg(test)]
mod tests;
