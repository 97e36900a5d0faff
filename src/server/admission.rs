//! The way in of a connection: who it is, whether they may, their permit.
//!
//! 1. A peer of `clients.proxy_protocol_from` says in a PROXY header who its client is; until then it has a place among its own.
//! 2. `clients.allow`, then `clients.max_per_client`, of that client.
//! 3. From here on that client is the peer, in every log line and limit.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::clients::ClientSlot;
use super::connection::serve_connection;
use super::original::canonical;
use super::proxy_header::{Header, Malformed, parse};
use super::shared::{Conn, ServerShared};
use crate::policy::addressee::Reached;
use crate::policy::clients::{Client, Refusal, may_connect};

/// A socket that was just accepted.
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    /// The other end of it.
    pub(crate) peer: SocketAddr,
    /// Where.
    pub(crate) reached: Reached,
    /// Among all connections.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl ServerShared {
    /// Serves it as a task of its own, or sends it away.
    pub(crate) fn enter(self: &Arc<Self>, mut accepted: Accepted) {
        let peer = canonical(accepted.peer);
        accepted.peer = peer;
        if !may_connect(&self.settings.proxy_protocol_from, peer.ip()) {
            if let Some(place) = self.admitted(peer) {
                let conn = Conn::new(self.clone(), peer, accepted.reached, place, accepted.permit);
                self.tasks.spawn(serve_connection(conn, accepted.socket, Bytes::new()));
            }
            return;
        }
        match self.clients.waiting_place(peer.ip()) {
            Some(place) => drop(self.tasks.spawn(accept_with_proxy_header(self.clone(), accepted, place))),
            None => {
                let why = format!("{} has too many connections open without a PROXY header", peer.ip());
                self.clients.refused(Refusal::Limit, peer.ip(), why);
            }
        }
    }

    fn admitted(&self, peer: SocketAddr) -> Option<ClientSlot> {
        if !may_connect(&self.settings.allow, peer.ip()) {
            let why = format!("{} is not in clients.allow", peer.ip());
            self.clients.refused(Refusal::Allow, peer.ip(), why);
            return None;
        }
        self.placed(peer)
    }

    fn placed(&self, peer: SocketAddr) -> Option<ClientSlot> {
        let place = self.clients.place(peer.ip());
        if place.is_none() {
            let (client, most) = (Client::of(peer.ip()), self.settings.max_per_client);
            let why = format!("{client} has {most} connections open, which is clients.max_per_client");
            self.clients.refused(Refusal::Limit, peer.ip(), why);
        }
        place
    }
}

/// Reads the PROXY header and goes on with whom it names.
async fn accept_with_proxy_header(shared: Arc<ServerShared>, accepted: Accepted, waiting: ClientSlot) {
    let Accepted { mut socket, peer, reached, permit } = accepted;
    let header = tokio::select! {
        header = read_header(&mut socket, shared.settings.patience) => header,
        () = shared.tasks.stopping() => return,
    };
    let (header, ahead) = match header {
        Ok(read) => read,
        Err(HeaderError::Closed) => return debug!(%peer, "closed without a PROXY header: a health check"),
        Err(error) => {
            let why = format!("{error}; {} is in clients.proxy_protocol_from", peer.ip());
            return shared.clients.refused(Refusal::ProxyHeader, peer.ip(), why);
        }
    };
    let client = header.source.map_or(peer, canonical);
    drop(waiting);
    if let Some(place) = shared.admitted(client) {
        serve_connection(Conn::new(shared, client, reached, place, permit), socket, ahead).await;
    }
}

/// Why there is no header.
#[derive(Debug)]
enum HeaderError {
    /// Nothing came, not a byte.
    Closed,
    /// The connection ended within it.
    Broken,
    /// It took too long.
    Slow,
    Malformed(Malformed),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::Closed => f.write_str("it closed before it said anything"),
            HeaderError::Broken => f.write_str("the PROXY header broke off"),
            HeaderError::Slow => f.write_str("the PROXY header took too long"),
            HeaderError::Malformed(what) => write!(f, "no PROXY header: {what}"),
        }
    }
}

/// The header, and what came behind it.
async fn read_header(socket: &mut TcpStream, patience: Duration) -> Result<(Header, Bytes), HeaderError> {
    let reading = async {
        let mut seen = BytesMut::new();
        loop {
            match parse(&seen).map_err(HeaderError::Malformed)? {
                Some(header) => {
                    let ahead = seen.split_off(header.length);
                    return Ok((header, ahead.freeze()));
                }
                None => match socket.read_buf(&mut seen).await {
                    Ok(0) | Err(_) if seen.is_empty() => return Err(HeaderError::Closed),
                    Ok(0) | Err(_) => return Err(HeaderError::Broken),
                    Ok(_) => {}
                },
            }
        }
    };
    tokio::time::timeout(patience, reading).await.unwrap_or(Err(HeaderError::Slow))
}
