//! Many connections that wait, and many downloads side by side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Server, median};
use crate::harness::{Blob, Client, Image, Pki, Registry};
use crate::{requests, row, title};

const HOST: &str = "registry-1.docker.io";
const MANIFEST: &str = "/v2/bench/app/manifests/1";
const MIB: u64 = 1 << 20;
/// Connections made at once: fewer than the listener's backlog.
const AT_ONCE: usize = 64;
/// So long nothing happens.
const WATCHED: Duration = Duration::from_secs(5);

/// Open files that this process, and those it starts, may have: as many as asked for, or as there
/// may be.
pub(crate) fn raise_limit(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(wanted, |most| most.max(wanted));
    let more = [most, now.maximum.unwrap_or(wanted)];
    let set = |most: &u64| setrlimit(Resource::Nofile, Rlimit { current: Some(*most), maximum: Some(*most) }).is_ok();
    let limit = more.into_iter().find(set).or(now.current).unwrap_or(1024);
    println!("open files: {limit}");
    limit
}

async fn world() -> (Pki, Registry) {
    let pki = Pki::new();
    let registry = Registry::new(HOST).image("bench/app:1", Image::multi_layer()).start(&pki).await;
    (pki, registry)
}

/// Median and 99th percentile of a manifest's hit, µs.
async fn latency(server: &Server) -> (u128, u128) {
    let url = format!("http://{}{MANIFEST}", server.address);
    let connection = Client::plain(server.address).connect(&url).await.unwrap_or_else(|error| panic!("{error:?}"));
    let mut times = Vec::new();
    for _ in 0..300 {
        let began = Instant::now();
        requests::ask(&connection, &url).await;
        times.push(began.elapsed().as_micros());
    }
    times.sort_unstable();
    (times[150], times[297])
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Tls,
    Tunnel,
}

/// A connection that has said all that it will say for now.
async fn waiting(way: Way, server: SocketAddr, elsewhere: SocketAddr, client: &Client) -> Box<dyn Send> {
    match way {
        Way::Plain => {
            let mut tcp = TcpStream::connect(server).await.expect("a listener");
            tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: seawall\r\n\r\n").await.expect("sent");
            assert!(tcp.read(&mut [0; 4096]).await.expect("an answer") > 0);
            Box::new(tcp)
        }
        // Who never asks for anything is left after some seconds.
        Way::Tls => {
            let url = format!("https://{HOST}{MANIFEST}");
            let connection = client.connect(&url).await.unwrap_or_else(|error| panic!("{error:?}"));
            requests::ask(&connection, &url).await;
            Box::new(connection)
        }
        Way::Tunnel => {
            let mut tcp = TcpStream::connect(server).await.expect("a listener");
            tcp.write_all(format!("CONNECT {elsewhere} HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n").as_bytes())
                .await
                .expect("sent");
            let mut answer = [0; 4096];
            let read = tcp.read(&mut answer).await.expect("an answer");
            assert!(
                answer[..read].starts_with(b"HTTP/1.1 200"),
                "{read}: {}",
                String::from_utf8_lossy(&answer[..read])
            );
            Box::new(tcp)
        }
    }
}

pub(crate) async fn idle(wanted: u64, files: u64) {
    title("connections that wait");
    let (pki, registry) = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let elsewhere = listener.local_addr().expect("bound");
    let accepting = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((tcp, _)) = listener.accept().await {
            all.push(tcp);
        }
    });
    for way in [Way::Plain, Way::Tls, Way::Tunnel] {
        let more = format!(
            "[clients]\nmax_connections = 20000\nmax_per_client = 20000\n[tunnel]\nports = [{}]\ndeny_networks = []\n[cache.tags]\nttl = \"forever\"\n",
            elsewhere.port()
        );
        let server = Server::start(&pki, &registry, &more);
        let client = Client::direct_tls(server.address, &server.ca_pem);
        // A tunnel is two sockets of the server, and two of this process.
        let count = wanted.min((files - 500) / if matches!(way, Way::Tunnel) { 2 } else { 1 });
        latency(&server).await;
        let (alone, _) = latency(&server).await;
        let before = server.resident();
        let (connecting, cpu) = (Instant::now(), server.cpu());
        let one = |_| waiting(way, server.address, elsewhere, &client);
        let all: Vec<_> = stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).collect().await;
        let (connecting, connected) = (connecting.elapsed(), server.cpu() - cpu);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let each = server.resident().saturating_sub(before) / count;
        let cpu = server.cpu();
        tokio::time::sleep(WATCHED).await;
        let busy = (server.cpu() - cpu).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
        let (median, worst) = latency(&server).await;
        let sockets = if matches!(way, Way::Tunnel) { 2 * count } else { count };
        assert!(server.open_files() >= sockets, "all of them are still there");
        let made = connected.as_micros() / u128::from(count);
        row(
            &format!("{way:?}, {count}"),
            &format!(
                "{:.1} KiB each, {busy:.1} % CPU; hit {median} µs (alone {alone}), p99 {worst}",
                each as f64 / 1024.0
            ),
        );
        row("", &format!("made in {:.1} s, {made} µs of the server's CPU each", connecting.as_secs_f64()));
        drop(all);
    }
    accepting.abort();
}

pub(crate) async fn transfers(count: u64) {
    const SIZE: u64 = 64 * MIB;
    const GOES_ON: Duration = Duration::from_secs(10);
    title("downloads of one 64 MiB blob side by side, TLS, readers slower than seawall");
    let (pki, registry) = world().await;
    let blob = registry.add_blob("bench/app", Blob::generated(1, SIZE));
    let url = format!("https://{HOST}/v2/bench/app/blobs/{blob}");
    let server = Server::start(&pki, &registry, "[clients]\nmax_per_client = 20000\n[cache.tags]\nttl = \"forever\"\n");
    server.client().get(&url).send().await.expect("warm").bytes();
    latency(&server).await;
    let (alone, _) = latency(&server).await;
    let before = server.resident();
    let client = Arc::new(Client::direct_tls(server.address, &server.ca_pem));
    let mut readers = Vec::new();
    for _ in 0..count {
        let (read, client, url) = (Arc::new(AtomicU64::new(0)), client.clone(), url.clone());
        let counted = read.clone();
        let reader = tokio::spawn(async move {
            let mut open = client.get(&url).open().await.unwrap_or_else(|error| panic!("{error:?}"));
            while let Some(piece) = open.piece().await.unwrap_or_else(|error| panic!("{error:?}")) {
                counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
                // About 160 KiB/s each.
                tokio::time::sleep(Duration::from_millis(piece.len() as u64 / 160)).await;
            }
        });
        readers.push((read, reader));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let begin: Vec<u64> = readers.iter().map(|(read, _)| read.load(Ordering::Relaxed)).collect();
    let cpu = server.cpu();
    tokio::time::sleep(GOES_ON).await;
    let mut speeds: Vec<u64> =
        readers.iter().zip(begin).map(|((read, _), begin)| read.load(Ordering::Relaxed) - begin).collect();
    let busy = (server.cpu() - cpu).as_secs_f64() / GOES_ON.as_secs_f64() * 100.0;
    let (median_hit, worst) = latency(&server).await;
    let each = server.resident().saturating_sub(before) / count;
    speeds.sort_unstable();
    let per_second = |bytes: u64| bytes / 1024 / GOES_ON.as_secs();
    let (slowest, middle) = (per_second(speeds[0]), per_second(median(speeds.clone())));
    let all = speeds.iter().sum::<u64>() / MIB / GOES_ON.as_secs();
    row(
        &format!("{count} readers"),
        &format!("slowest {slowest} KiB/s, median {middle}; {all} MiB/s in all, {busy:.0} % CPU"),
    );
    row(
        "",
        &format!(
            "{} MiB at most, {} KiB each; hit {median_hit} µs (alone {alone}), p99 {worst}",
            server.peak(),
            each / 1024
        ),
    );
    readers.iter().for_each(|(_, reader)| reader.abort());
}
