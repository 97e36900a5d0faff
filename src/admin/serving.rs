//! Connections to the admin listener: few, and none that says nothing. Its first byte tells whether one is
//! TLS.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::door::{Door, Peer};
use crate::policy::budget::Tenant;
use crate::policy::line::Line;

/// Connections at once: a scrape, a probe and a person need no more.
const MOST: usize = 64;
/// How long the head of a request may take, the wait for the next one among it.
const HEAD: Duration = Duration::from_secs(10);
/// How long requests that are running when it stops may take.
const GRACE: Duration = Duration::from_secs(2);
/// After an error of the listener's own, such as too many open files.
const BACK_OFF: Duration = Duration::from_millis(500);

/// Answers on `listener` until `stop` resolves, and a moment longer for what is being answered.
pub(super) async fn serve(listener: TcpListener, router: Router, door: Door, stop: impl Future<Output = ()>) {
    let (stopping, mut stop) = (CancellationToken::new(), pin!(stop));
    let (mut open, mut line) = (FuturesUnordered::new(), Line::<()>::new(MOST));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // Who is one too many is hung up on: a probe comes again, and a queue would be anybody's to fill.
                Ok((stream, peer)) => {
                    let tenant = Tenant::of(peer.ip());
                    if line.take_now(tenant) {
                        let answered = accept(stream, peer.ip(), router.clone(), door.clone(), stopping.clone());
                        open.push(answered.map(move |()| tenant));
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the admin listener");
                    tokio::time::sleep(BACK_OFF).await;
                }
            },
            Some(tenant) = open.next() => drop(line.give_back(tenant)),
            () = &mut stop => break,
        }
    }
    stopping.cancel();
    // A client that never finishes its request does not keep the process.
    let _ = tokio::time::timeout(GRACE, async { while open.next().await.is_some() {} }).await;
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, 5.1): no method has it.
const HANDSHAKE: u8 = 22;

async fn accept(stream: TcpStream, ip: IpAddr, router: Router, door: Door, stopping: CancellationToken) {
    let mut first = [0];
    let came = tokio::select! {
        came = tokio::time::timeout(HEAD, stream.peek(&mut first)) => came,
        () = stopping.cancelled() => return,
    };
    match came {
        Ok(Ok(1..)) if first == [HANDSHAKE] => {
            let Some(config) = own_config(&door) else { return };
            match tokio::time::timeout(HEAD, TlsAcceptor::from(config).accept(stream)).await {
                Ok(Ok(stream)) => answer(stream, Peer { ip, is_tls: true }, router, stopping).await,
                Ok(Err(error)) => debug!(%error, "a handshake with the admin listener"),
                Err(_) => {}
            }
        }
        Ok(Ok(1..)) => answer(stream, Peer { ip, is_tls: false }, router, stopping).await,
        _ => {}
    }
}

/// As seawall itself, for HTTP/1.1.
fn own_config(door: &Door) -> Option<Arc<ServerConfig>> {
    let leaves = door.keys.leaves.get()?;
    match leaves.own_config(door.clock.now()) {
        Ok(config) => {
            let mut config = ServerConfig::clone(&config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(Arc::new(config))
        }
        Err(error) => {
            warn!(%error, "there is no certificate for the admin listener: give seawall a name (`names` of [tls])");
            None
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, router: Router, stopping: CancellationToken) {
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the admin listener");
    }
}
