//! A forward proxy that knows only CONNECT: what stands between seawall and the world in some
//! companies.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::tls::{Alpn, Pki};

/// Dropped: it takes no more connections.
pub(crate) struct ForwardProxy {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _running: DropGuard,
}

impl ForwardProxy {
    /// Dials these hosts and refuses others with 403. With credentials (`Basic …`), asks for them
    /// with 407.
    pub(crate) async fn start(hosts: HashMap<String, SocketAddr>, credentials: Option<String>) -> ForwardProxy {
        ForwardProxy::with(hosts, credentials, None).await
    }

    /// The same, spoken to over TLS at 127.0.0.1.
    pub(crate) async fn secured(
        pki: &Pki,
        hosts: HashMap<String, SocketAddr>,
        credentials: Option<String>,
    ) -> ForwardProxy {
        ForwardProxy::with(hosts, credentials, Some(pki.server("127.0.0.1", Alpn::H1).into())).await
    }

    async fn with(
        hosts: HashMap<String, SocketAddr>,
        credentials: Option<String>,
        tls: Option<TlsAcceptor>,
    ) -> ForwardProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let addr = listener.local_addr().expect("bound");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let (hosts, seen, running) = (Arc::new(hosts), heads.clone(), CancellationToken::new());
        let stopped = running.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (tls, hosts, credentials, seen) = (tls.clone(), hosts.clone(), credentials.clone(), seen.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => tunnel(tls.accept(client).await?, hosts, credentials, seen).await,
                        None => tunnel(client, hosts, credentials, seen).await,
                    }
                });
            }
        }));
        ForwardProxy { addr, heads, _running: running.drop_guard() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The hosts it was asked for, each once, in order of the alphabet.
    pub(crate) fn asked(&self) -> Vec<String> {
        let heads = self.heads.lock();
        let authority = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        heads.iter().map(authority).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Every request head it got.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

async fn tunnel(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    hosts: Arc<HashMap<String, SocketAddr>>,
    credentials: Option<String>,
    seen: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let host = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(':').next()).unwrap_or_default().to_owned();
    let known = credentials.is_none_or(|credentials| head.contains(&credentials));
    seen.lock().push(head);
    let Some(addr) = hosts.get(&host).filter(|_| known) else {
        let status = if known { "403 Forbidden" } else { "407 Proxy Authentication Required" };
        return client.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
    };
    let mut server = TcpStream::connect(addr).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
