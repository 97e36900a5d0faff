//! One connection, from its first byte to the HTTP or the tunnel it becomes: a loop over what it is
//! for.
//!
//! 1. The first bytes tell what it is: see `sniff`.
//! 2. HTTP is served. A CONNECT that is granted takes the connection over, which begins again, with
//!    a known target.
//! 3. TLS is for the host that its ClientHello names: see `direct_tls`. Within TLS to seawall
//!    itself all is as in the clear.
//! 4. Within a CONNECT to a registry: TLS is terminated, whatever name it has; the gateway answers
//!    421 where names differ. Within a CONNECT to another host TLS may be for a registry all the same:
//!    see `first_words`.

use bytes::Bytes;
use tokio::net::TcpStream;
use tracing::debug;

use super::connect::{ConnectTarget, RegistryTarget};
use super::direct_tls;
use super::first_words::serve_tunnel;
use super::handshake::{Secured, as_itself, terminate};
use super::http::{Next, encrypted, plain};
use super::opening::{Opening, OpeningError, opening, send_last};
use super::shared::Conn;
use super::tcp::Tcp;
use super::transport::{Socket, Transport};
use crate::gateway::Ingress;
use crate::http::origin::{Origin, Scheme};

/// What a connection is for that has not opened yet.
enum Awaited {
    /// What its first bytes say: it was just accepted.
    Anything,
    /// seawall itself, after a CONNECT to it.
    Itself,
    /// A registry, after a CONNECT to it.
    Registry(RegistryTarget),
}

/// Serves a connection that was just admitted. `ahead` was read of it already.
pub(crate) async fn serve_connection(mut conn: Conn, socket: TcpStream, ahead: Bytes) {
    let mut next = begin(&conn, Transport::Tcp(Tcp::new(socket)), ahead, Awaited::Anything).await;
    while let Next::TakeOver { transport, ahead, target, user } = next {
        conn = conn.of(user);
        let awaited = match target {
            // A task of its own: what served the HTTP is large, and a tunnel may last.
            ConnectTarget::Tunnel(tunnel) => {
                let tasks = conn.shared.tasks.clone();
                tasks.spawn(async move { serve_tunnel(&conn, transport, ahead, tunnel).await });
                return;
            }
            ConnectTarget::Registry(target) => Awaited::Registry(target),
            ConnectTarget::Own => {
                conn = conn.nested();
                Awaited::Itself
            }
        };
        next = begin(&conn, transport, ahead, awaited).await;
    }
}

/// Serves what a connection opens with, until it ends or a CONNECT takes it over.
async fn begin(conn: &Conn, transport: Transport, ahead: Bytes, awaited: Awaited) -> Next {
    match opened(conn, transport, ahead).await {
        Some(Opening::Http(socket)) => serve_http(conn, socket, awaited).await,
        Some(Opening::Tls(greeting)) => {
            let secured = match awaited {
                Awaited::Anything => direct_tls::accept(conn, *greeting).await,
                Awaited::Itself => as_itself(conn, *greeting).await,
                Awaited::Registry(target) => terminate(conn, *greeting, over_tls(target)).await,
            };
            match secured {
                Some(Secured { stream, ingress }) => encrypted(conn, stream, ingress).await,
                None => Next::Done,
            }
        }
        None => Next::Done,
    }
}

/// Serves HTTP in the clear. A registry that is spoken to over TLS is not served so.
async fn serve_http(conn: &Conn, socket: Socket, awaited: Awaited) -> Next {
    let ingress = match awaited {
        Awaited::Anything | Awaited::Itself => Ingress::Own(Scheme::Http),
        Awaited::Registry(RegistryTarget { site, role, origin }) if origin.scheme == Scheme::Http => {
            Ingress::Intercepted { site, role, origin, sni: None }
        }
        Awaited::Registry(target) => {
            debug!(peer = %conn.peer, host = %target.origin.host, "plain HTTP within a CONNECT to a TLS registry");
            send_last(socket.into_parts().1, PLAIN_HTTP).await;
            return Next::Done;
        }
    };
    plain(conn, socket, ingress).await
}

const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 This registry is spoken to over TLS\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 60\r\nConnection: close\r\n\r\n\
    seawall: this registry is spoken to over TLS, not plain HTTP";

/// The same target, spoken to over TLS whatever it is configured for.
fn over_tls(target: RegistryTarget) -> RegistryTarget {
    let origin = Origin { scheme: Scheme::Https, ..target.origin };
    RegistryTarget { origin, ..target }
}

/// What a connection opens with; `None` if that is nothing, or the process stops before.
async fn opened(conn: &Conn, transport: Transport, ahead: Bytes) -> Option<Opening> {
    let opened = tokio::select! {
        opened = opening(transport, ahead, conn.patience()) => opened,
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

#[cfg(test)]
mod tests;
