//! A SOCKS 5 proxy (RFC 1928, 1929) that knows only CONNECT.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Dropped: it takes no more connections.
pub(crate) struct Socks {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _running: DropGuard,
}

impl Socks {
    /// Dials these hosts (a name, or an address) and refuses others; with credentials, for those
    /// who have them.
    pub(crate) async fn start(hosts: HashMap<String, SocketAddr>, credentials: Option<(&str, &str)>) -> Socks {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let addr = listener.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let (hosts, seen, running) = (Arc::new(hosts), asked.clone(), CancellationToken::new());
        let stopped = running.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, hosts.clone(), credentials.clone(), seen.clone()));
            }
        }));
        Socks { addr, asked, _running: running.drop_guard() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every `host:port` it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn text(client: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn serve(
    mut client: TcpStream,
    hosts: Arc<HashMap<String, SocketAddr>>,
    credentials: Option<(String, String)>,
    asked: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    assert_eq!(client.read_u8().await?, 5);
    let methods = text(&mut client).await?;
    let method = if credentials.is_some() { 2 } else { 0 };
    if !methods.as_bytes().contains(&method) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, method]).await?;
    if let Some(known) = credentials {
        assert_eq!(client.read_u8().await?, 1);
        let given = (text(&mut client).await?, text(&mut client).await?);
        client.write_all(&[1, u8::from(given != known)]).await?;
        if given != known {
            return Ok(());
        }
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0]);
    let host = match head[3] {
        1 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        3 => text(&mut client).await?,
        other => panic!("an address of type {other}"),
    };
    let port = client.read_u16().await?;
    asked.lock().push(format!("{host}:{port}"));
    let Some(addr) = hosts.get(&host) else {
        // Connection not allowed by ruleset.
        return client.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    let mut server = TcpStream::connect(addr).await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}
