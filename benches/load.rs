//! Load: hits, a cold blob, and a hundred clients of one cold blob, with the CPU and the memory of the server.
//!
//! `cargo bench --bench load` runs the release binary as a process of its own, in front of the fake registry of the integration
//! tests, which is not measured. Times are noisy on a shared machine: the CPU per GiB and the ratios within one run say more.

#![expect(clippy::disallowed_methods, reason = "a bench reads clocks and files as it likes")]

#[expect(dead_code, reason = "a bench needs a part of what they share")]
mod common;
#[path = "../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, clippy::unwrap_used, reason = "a bench needs a part of the tests' harness")]
mod harness;

use std::time::{Duration, Instant};

use common::{Server, median};
use harness::{Blob, Client, Image, Pki, Registry};

const MIB: u64 = 1 << 20;
const BIG: u64 = 256 * MIB;
const HOST: &str = "registry-1.docker.io";
const ROUNDS: usize = 5;

fn url(path: &str) -> String {
    format!("https://{HOST}/v2/{path}")
}

/// Reads all of `url`: bytes, time to the first of them, time to the last.
async fn read(client: &Client, url: &str) -> (u64, Duration, Duration) {
    let began = Instant::now();
    let mut open = client.get(url).open().await.unwrap_or_else(|error| panic!("{error:?}"));
    let first = open.piece().await.expect("bytes").map_or(0, |piece| piece.len() as u64);
    let to_first = began.elapsed();
    let (rest, ended) = open.until_end().await;
    ended.expect("a whole body");
    (first + rest, to_first, began.elapsed())
}

fn row(what: &str, figures: &str) {
    println!("| {what:<44} | {figures:<52} |");
}

async fn hits(server: &Server, blob: &str) {
    let mirror = format!("http://{}/v2/{blob}", server.address);
    let ways = [
        ("hit, TLS h1, 256 MiB", server.client(), url(blob)),
        ("hit, TLS h2, 256 MiB", server.client().h2(), url(blob)),
        ("hit, plain mirror, 256 MiB", Client::plain(server.address), mirror),
    ];
    for (name, client, url) in ways {
        let (mut cpus, mut times) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let before = server.cpu();
            let (bytes, _, took) = read(&client, &url).await;
            assert_eq!(bytes, BIG);
            cpus.push(server.cpu() - before);
            times.push(took);
        }
        let per_gib = median(cpus).as_secs_f64() / (BIG as f64 / (1024 * MIB) as f64);
        let speed = (BIG / MIB) as f64 / median(times).as_secs_f64();
        row(name, &format!("{per_gib:.2} CPU s/GiB, {speed:.0} MiB/s"));
    }
}

async fn small(server: &Server, what: &str, path: &str) {
    const REQUESTS: u32 = 3000;
    for (name, client) in [("h1", server.client()), ("h2", server.client().h2())] {
        let connection = client.connect(&url(path)).await.unwrap_or_else(|error| panic!("{error:?}"));
        let get = || connection.request(http::Method::GET, &url(path)).send();
        get().await.expect("warm");
        let (before, began) = (server.cpu(), Instant::now());
        for _ in 0..REQUESTS {
            let reply = get().await.unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(reply.status, 200);
        }
        let cpu = (server.cpu() - before).as_micros() / u128::from(REQUESTS);
        let each = began.elapsed().as_micros() / u128::from(REQUESTS);
        row(&format!("hit, TLS {name}, {what}"), &format!("{cpu} µs CPU, {each} µs a request, one after the other"));
    }
}

async fn cold(pki: &Pki, server: &Server, registry: &Registry) {
    let direct = Client::resolving(registry.hosts(), &pki.ca_pem());
    let (mut ratios, mut later) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let digest = registry.add_blob("bench/cold", Blob::generated(1000 + round as u64, BIG));
        let target = url(&format!("bench/cold/blobs/{digest}"));
        let (_, direct_first, direct_all) = read(&direct, &target).await;
        let (_, first, all) = read(&server.client(), &target).await;
        ratios.push((direct_all.as_secs_f64() / all.as_secs_f64() * 1000.0) as u64);
        later.push(first.saturating_sub(direct_first));
    }
    ratios.sort_unstable();
    row("cold, TLS h1, 256 MiB: throughput of direct", &format!("{:.2} ×", ratios[ratios.len() / 2] as f64 / 1000.0));
    row("cold: time to first byte over direct", &format!("{:.2} ms more", median(later).as_secs_f64() * 1000.0));
}

async fn crowd(server: &Server, registry: &Registry) {
    let digest = registry.add_blob("bench/crowd", Blob::generated(77, BIG));
    let target = url(&format!("bench/crowd/blobs/{digest}"));
    registry.reset_counts();
    let (before, began) = (server.cpu(), Instant::now());
    let clients = (0..100).map(|_| {
        let (client, target) = (server.client(), target.clone());
        async move { read(&client, &target).await.2 }
    });
    let times = futures_util::future::join_all(clients).await;
    let last = times.iter().max().copied().unwrap_or_default();
    let cpu = (server.cpu() - before).as_secs_f64() / (100.0 * BIG as f64 / (1024 * MIB) as f64);
    row("100 clients, one cold 256 MiB blob", &format!("{} upstream GET, {cpu:.2} CPU s/GiB", registry.gets("blobs")));
    let speed = 100.0 * (BIG / MIB) as f64 / began.elapsed().as_secs_f64();
    row("  all of it", &format!("last after {:.1} s, {speed:.0} MiB/s together", last.as_secs_f64()));
}

fn main() {
    // `cargo test --benches` runs this too, and wants no load.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    runtime.block_on(async {
        let pki = Pki::new();
        let registry = Registry::new(HOST).image("bench/app:1", Image::multi_layer()).start(&pki).await;
        let big = registry.add_blob("bench/hit", Blob::generated(1, BIG));
        let little = registry.add_blob("bench/hit", Blob::generated(2, 32 << 10));
        let server = Server::start(&pki, &registry, "");
        println!("| {:<44} | {:<52} |\n|{:-<46}|{:-<54}|", "what", "seawall", "", "");
        for blob in [&big, &little] {
            read(&server.client(), &url(&format!("bench/hit/blobs/{blob}"))).await;
        }
        server.client().get(&url("bench/app/manifests/1")).send().await.expect("warm");
        hits(&server, &format!("bench/hit/blobs/{big}")).await;
        small(&server, "manifest by tag", "bench/app/manifests/1").await;
        small(&server, "32 KiB blob", &format!("bench/hit/blobs/{little}")).await;
        cold(&pki, &server, &registry).await;
        crowd(&server, &registry).await;
        row("peak memory of all that", &format!("{} MiB", server.peak()));
    });
}
