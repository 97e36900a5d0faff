//! The address that a client sent a connection to, if the kernel redirected it here.
//!
//! 1. REDIRECT and DNAT (iptables, nftables) leave the first destination with conntrack, which
//!    gives it for the socket (`SO_ORIGINAL_DST`). It is asked of every connection, and believed
//!    only where it is another address than this end of the socket: without a translation conntrack
//!    names the very same.
//! 2. With TPROXY it is this end of the socket itself. The listener is the operator's (systemd's
//!    `Transparent=yes`): one that seawall binds is not transparent.
//! 3. An address of seawall's own does not count: a client that sent the connection there wants
//!    seawall.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use crate::dial::own::OwnAddresses;
use crate::policy::addressee::Reached;

/// A listener as its connections see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The address it is bound to.
    pub(crate) address: SocketAddr,
    /// Whether it takes what is for other addresses (`IP_TRANSPARENT`).
    pub(crate) is_transparent: bool,
}

impl Listening {
    /// Reads from the kernel what its connections need to know.
    pub(crate) fn of(listener: &TcpListener) -> std::io::Result<Listening> {
        let address = listener.local_addr()?;
        let socket = SockRef::from(listener);
        // A kernel that does not know the option has no such listeners.
        let is_transparent =
            if address.is_ipv4() { socket.ip_transparent_v4() } else { socket.ip_transparent_v6() }.unwrap_or(false);
        Ok(Listening { address, is_transparent })
    }
}

/// The address that `socket` came in at, whose end here is `local`, and the one it was sent to.
pub(crate) fn reached(socket: &TcpStream, local: SocketAddr, listening: Listening, own: &OwnAddresses) -> Reached {
    let local = canonical(local);
    let is_own = |address| own.contains(address);
    if listening.is_transparent {
        return if is_own(local) {
            Reached { local, original: None }
        } else {
            Reached { local: listening.address, original: Some(local) }
        };
    }
    let original = translated(socket, local).map(canonical);
    Reached { local, original: original.filter(|original| *original != local && !is_own(*original)) }
}

/// The destination that conntrack has for it; none without conntrack, or for a connection that it
/// does not know.
fn translated(socket: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    let socket = SockRef::from(socket);
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.ok()?.as_socket()
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as it is: the client's or the
/// balancer's, and the one it came in at.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_was_not_redirected_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listening = Listening::of(&listener).unwrap();
        assert!(!listening.is_transparent);
        let _client = TcpStream::connect(listening.address).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let local = socket.local_addr().unwrap();
        let own = OwnAddresses::new();
        assert_eq!(reached(&socket, local, listening, &own), Reached { local, original: None });
        // As a transparent one would see it: what is for others, and what is for seawall.
        let transparent = Listening { address: "0.0.0.0:3128".parse().unwrap(), is_transparent: true };
        let redirected = Reached { local: transparent.address, original: Some(local) };
        assert_eq!(reached(&socket, local, transparent, &own), redirected);
        own.add(local);
        assert_eq!(reached(&socket, local, transparent, &own), Reached { local, original: None });
    }
}
