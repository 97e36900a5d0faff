//! The admission of a connection: who its client is, whether it may connect, its slot among that
//! client's connections.
//!
//! 1. A peer in `clients.proxy_protocol_from` names its client in a PROXY header; until then it has
//!    a slot among connections that wait for theirs.
//! 2. That client is checked against `clients.allow`, then `clients.max_per_client`.
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
    /// The other end of the socket.
    pub(crate) peer: SocketAddr,
    /// The address it came in at, and the one it was sent to.
    pub(crate) reached: Reached,
    /// Its slot among all connections.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Serves a connection as a task of its own, or closes it.
pub(crate) fn admit(shared: &Arc<ServerShared>, mut accepted: Accepted) {
    let peer = canonical(accepted.peer);
    accepted.peer = peer;
    if may_connect(&shared.settings.proxy_protocol_from, peer.ip()) {
        return admit_balancer(shared, accepted);
    }
    if let Some(slot) = client_slot(shared, peer) {
        let conn = Conn::new(shared.clone(), peer, accepted.reached, slot, accepted.permit);
        shared.tasks.spawn(serve_connection(conn, accepted.socket, Bytes::new()));
    }
}

fn admit_balancer(shared: &Arc<ServerShared>, accepted: Accepted) {
    let ip = accepted.peer.ip();
    match shared.clients.waiting_slot(ip) {
        Some(slot) => drop(shared.tasks.spawn(accept_with_proxy_header(shared.clone(), accepted, slot))),
        None => {
            let why = format!("{ip} has too many connections open without a PROXY header");
            shared.clients.refused(Refusal::Limit, ip, why);
        }
    }
}

/// The slot of a client's connection, if the client may connect and has not too many.
fn client_slot(shared: &ServerShared, client: SocketAddr) -> Option<ClientSlot> {
    let ip = client.ip();
    if !may_connect(&shared.settings.allow, ip) {
        shared.clients.refused(Refusal::Allow, ip, format!("{ip} is not in clients.allow"));
        return None;
    }
    let slot = shared.clients.slot(ip);
    if slot.is_none() {
        let (client, most) = (Client::of(ip), shared.settings.max_per_client);
        let why = format!(
            "{client} has {most} connections open, which is clients.max_per_client, or its share of clients.max_connections"
        );
        shared.clients.refused(Refusal::Limit, ip, why);
    }
    slot
}

/// Reads the PROXY header and goes on with the client that it names.
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
    if let Some(slot) = client_slot(&shared, client) {
        serve_connection(Conn::new(shared, client, reached, slot, permit), socket, ahead).await;
    }
}

/// Why a PROXY header could not be read.
#[derive(Debug)]
enum HeaderError {
    /// The connection closed before its first byte.
    Closed,
    /// The connection closed within the header.
    Broken,
    /// It took too long to come.
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

/// The header, and the bytes that came behind it.
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
