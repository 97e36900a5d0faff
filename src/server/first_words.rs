//! What is said first in a tunnel: TLS for a registry is not for the host that the CONNECT named, and
//! goes round what policy says of that registry.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tracing::debug;

use super::connect::{RegistryTarget, Tunnel};
use super::handshake::{Secured, terminate};
use super::http::encrypted;
use super::opening::{Greeting, OpeningError, greeting};
use super::shared::Conn;
use super::sniff::{Sniff, sniff};
use super::transport::{Socket, Transport};
use super::tunnel::tunnelled;
use crate::dial::replay::Replay;
use crate::dial::stream::Stream;
use crate::http::origin::{Origin, Scheme};
use crate::policy::intercept::Verdict;

enum First {
    /// A ClientHello.
    Hello(Box<Greeting>, Stream),
    /// Anything else; or the other side spoke first, as no server of TLS does.
    Other(Socket, Stream),
}

/// Forwards what is for other hosts, and answers what is for a registry.
pub(crate) async fn serve_tunnel(conn: &Conn, client: Transport, ahead: Bytes, tunnel: Tunnel) {
    match listen(conn, client, ahead, tunnel.upstream).await {
        Ok(First::Other(client, upstream)) => tunnelled(conn, client, upstream).await,
        Ok(First::Hello(greeting, upstream)) => match registry(conn, &greeting, tunnel.port) {
            None => tunnelled(conn, greeting.into_unread(), upstream).await,
            Some(target) => {
                drop(upstream);
                debug!(peer = %conn.peer, host = %target.origin.host, "a tunnel to another host is for a registry");
                if let Some(Secured { stream, ingress }) = terminate(conn, *greeting, target).await {
                    encrypted(conn, stream, ingress).await;
                }
            }
        },
        Err(error) => debug!(peer = %conn.peer, %error, "tunnel closed"),
    }
}

async fn listen(conn: &Conn, client: Transport, ahead: Bytes, upstream: Stream) -> Result<First, OpeningError> {
    let idle = conn.shared.settings.idle_timeout;
    let waiting = tokio::time::timeout(idle, first_bytes(conn, client, ahead, upstream));
    let (client, seen, upstream) = waiting.await.map_err(|_| OpeningError::Slow)??;
    // One byte of TLS at a time is TLS.
    if seen.first() != Some(&0x16) || sniff(&seen) == Sniff::Garbage {
        return Ok(First::Other(Replay::new(seen.freeze(), client), upstream));
    }
    let greeting = greeting(client, seen, conn.patience()).await?;
    Ok(First::Hello(Box::new(greeting), upstream))
}

/// What the client says, unless the other side speaks first, it says nothing, or the process stops.
async fn first_bytes(
    conn: &Conn,
    mut client: Transport,
    ahead: Bytes,
    mut upstream: Stream,
) -> Result<(Transport, BytesMut, Stream), OpeningError> {
    let mut seen = BytesMut::from(ahead);
    if !seen.is_empty() {
        return Ok((client, seen, upstream));
    }
    let mut early = BytesMut::new();
    tokio::select! {
        read = client.read_buf(&mut seen) => read.map_err(OpeningError::Io)?,
        read = upstream.read_buf(&mut early) => read.map_err(OpeningError::Io)?,
        () = conn.shared.tasks.stopping() => 0,
    };
    let (unread, io) = upstream.into_parts();
    early.extend_from_slice(&unread);
    Ok((client, seen, Replay::new(early.freeze(), io)))
}

fn registry(conn: &Conn, greeting: &Greeting, port: u16) -> Option<RegistryTarget> {
    let host = greeting.hello().sni.clone()?;
    match conn.shared.verdict(&host, port) {
        Verdict::Registry(site, role, _) => {
            Some(RegistryTarget { site, role, origin: Origin { scheme: Scheme::Https, host, port } })
        }
        Verdict::Tunnel | Verdict::Refuse(_) => None,
    }
}
