//! The listeners of the data port: sockets are bound, connections accepted.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::admission::{Accepted, admit};
use super::original::{Listening, reached};
use super::shared::ServerShared;

/// Connections that wait to be accepted, at most; the kernel may lower it (net.core.somaxconn,
/// 4096).
const BACKLOG: i32 = 4096;
/// A client that vanished is noticed after this time and as long again.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Out of file descriptors or memory, accepting again at once gains nothing.
const BACK_OFF: Duration = Duration::from_millis(100);

/// An address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address}: {source}{}", advice(.source))]
pub struct BindError {
    /// The address.
    pub address: String,
    /// Why it could not be bound.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root, CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=), socket activation, \
             or a lower sysctl net.ipv4.ip_unprivileged_port_start"
        }
        io::ErrorKind::AddrInUse => "; `ss -ltnp` tells who listens there",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

/// The listeners of the data port.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(TcpListener, Listening)>,
    next: usize,
}

impl Listeners {
    /// Binds each address. An IPv6 wildcard is for IPv6 alone, so that 0.0.0.0 can stand beside it.
    ///
    /// # Errors
    /// One of them is in use, is none of this machine's, or needs a privilege.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Listeners, BindError> {
        let bind = |address: &SocketAddr| {
            let bound = bind(*address).and_then(known);
            bound.map_err(|source| BindError { address: address.to_string(), source })
        };
        Ok(Listeners { sockets: addresses.iter().map(bind).collect::<Result<_, _>>()?, next: 0 })
    }

    /// Takes sockets that another process has bound: socket activation.
    ///
    /// # Errors
    /// One of them does not listen.
    pub fn inherit(sockets: Vec<std::net::TcpListener>) -> Result<Listeners, BindError> {
        let adopt = |socket: std::net::TcpListener| {
            let address = socket.local_addr().map_or_else(|_| "an inherited socket".to_owned(), |a| a.to_string());
            let adopted = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)).and_then(known);
            adopted.map_err(|source| BindError { address, source })
        };
        Ok(Listeners { sockets: sockets.into_iter().map(adopt).collect::<Result<_, _>>()?, next: 0 })
    }

    /// The addresses that clients reach them at.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(_, listening)| listening.address).collect()
    }

    /// The next connection of any of them, in turn.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, Listening) {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_the_client(&error) => debug!(%error, "accept"),
                Err(error) => {
                    warn!(%error, "cannot accept connections");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr, Listening)>> {
        let count = self.sockets.len();
        for turn in 0..count {
            let at = (self.next + turn) % count;
            let (socket, listening) = &self.sockets[at];
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                self.next = at + 1;
                return Poll::Ready(accepted.map(|(socket, peer)| (socket, peer, *listening)));
            }
        }
        Poll::Pending
    }
}

fn known(socket: TcpListener) -> io::Result<(TcpListener, Listening)> {
    let listening = Listening::of(&socket)?;
    Ok((socket, listening))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart need not wait for the TIME_WAIT of the connections before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Whether an error concerns one connection, which has closed already (accept(2): treat them like
/// EAGAIN).
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | HostUnreachable | NetworkUnreachable)
}

/// Accepts and serves connections until the tasks are told to stop, then closes the listeners.
/// Connections go on; their end is [`crate::task::Tasks::drained`].
pub async fn serve(shared: Arc<ServerShared>, mut listeners: Listeners) {
    let permits = Arc::new(Semaphore::new(shared.settings.max_connections.min(Semaphore::MAX_PERMITS)));
    loop {
        // A slot first: a connection for which there is none waits in the backlog, where it costs
        // nothing.
        let next = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listeners.accept().await)
        };
        let (permit, (socket, peer, listening)) = tokio::select! {
            biased;
            () = shared.tasks.stopping() => return,
            next = next => next,
        };
        match prepare(&socket, shared.settings.idle_timeout) {
            Ok(local) => {
                let reached = reached(&socket, local, listening, &shared.own);
                admit(&shared, Accepted { socket, peer, reached, permit });
            }
            Err(error) => debug!(%peer, %error, "closed before it was served"),
        }
    }
}

/// Prepares a socket: the kernel ends a connection whose client takes nothing for `idle`, whether
/// it vanished or does not read (tcp(7), TCP_USER_TIMEOUT), so that none holds a slot and an open
/// blob without end.
fn prepare(socket: &TcpStream, idle: Duration) -> io::Result<SocketAddr> {
    socket.set_nodelay(true)?;
    let raw = SockRef::from(socket);
    raw.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    raw.set_tcp_user_timeout(Some(idle))?;
    socket.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_and_sockets_are_inherited() {
        let first = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = first.addresses()[0];
        let error = Listeners::bind(&[address]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen at {address}: ")) && error.contains("ss -ltnp"), "{error}");
        // TEST-NET-1 (RFC 5737): no machine's.
        let error = Listeners::bind(&["192.0.2.1:0".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.ends_with("no interface of this machine has that address"), "{error}");
        let given = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut listeners = Listeners::inherit(vec![given]).unwrap();
        let client = TcpStream::connect(listeners.addresses()[0]).await.unwrap();
        assert_eq!(listeners.accept().await.1, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn listeners_take_turns() {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listeners = Listeners::bind(&[any, any]).unwrap();
        let mut clients = Vec::new();
        for address in [listeners.addresses(), listeners.addresses()].concat() {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let mut came_in = Vec::new();
        for _ in 0..4 {
            let (socket, _, _) = listeners.accept().await;
            came_in.push(socket.local_addr().unwrap());
        }
        assert_eq!(came_in[..2], listeners.addresses());
        assert_eq!(came_in[2..], listeners.addresses());
    }

    /// Pitfall 23: a client that takes nothing for that long has left, as far as can be told.
    #[tokio::test]
    async fn the_kernel_ends_a_connection_whose_client_takes_nothing() {
        use tokio::io::AsyncWriteExt as _;
        let mut listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let _client = TcpStream::connect(listeners.addresses()[0]).await.unwrap();
        let (mut socket, _, _) = listeners.accept().await;
        prepare(&socket, Duration::from_millis(300)).unwrap();
        let writing = async { while socket.write_all(&[0; 64 << 10]).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(60), writing).await.expect("it is ended");
    }
}
