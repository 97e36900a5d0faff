//! CPU per hit, with few blobs in the index and with many.

use crate::common::{Server, median};
use crate::harness::exchange::Connection;
use crate::harness::{Blob, Client, Image, Pki, Registry};
use crate::{fill, row, title};

/// Blobs that are asked for in turn: pulled after all others, so their entries stand anywhere in
/// memory.
const HOT: u64 = 200;
const ROUNDS: u64 = 5;

/// CPU of the server in ns, with so many blobs in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) blobs: u64,
    pub(crate) manifest: u64,
    pub(crate) blob: u64,
}

pub(crate) async fn costs(sizes: &[u64], requests: u64) -> Vec<Point> {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").image("bench/app:1", Image::multi_layer()).start(&pki).await;
    let path = |n| format!("bench/app/blobs/{}", registry.add_blob("bench/app", Blob::generated(n, 32 << 10)));
    let blobs: Vec<String> = (0..HOT).map(path).collect();
    title("CPU of the server per hit, plain HTTP/1.1, one connection");
    let mut running = Vec::new();
    for blobs in sizes {
        let more = "[cache]\nmax_size = \"1000TiB\"\n[cache.tags]\nttl = \"forever\"\n";
        running.push((*blobs, Server::start_on(&fill::directory(*blobs), &pki, &registry, more), Vec::new()));
    }
    let manifest = ["bench/app/manifests/1".to_owned()];
    for round in 0..=ROUNDS {
        // Sizes take turns, so that what else this machine does falls on all of them; the first
        // round warms.
        for (_, server, samples) in &mut running {
            let requests = if round == 0 { HOT } else { requests };
            let one = (hits(server, &manifest, requests).await, hits(server, &blobs, requests).await);
            if round > 0 {
                samples.push(one);
            }
        }
    }
    let point = |(blobs, _, samples): (u64, Server, Vec<(u64, u64)>)| Point {
        blobs,
        manifest: median(samples.iter().map(|sample| sample.0).collect()),
        blob: median(samples.iter().map(|sample| sample.1).collect()),
    };
    let points: Vec<Point> = running.into_iter().map(point).collect();
    for Point { blobs, manifest, blob } in &points {
        let us = |ns: &u64| *ns as f64 / 1000.0;
        row(&format!("{blobs} blobs"), &format!("manifest {:.1} µs, 32 KiB blob {:.1} µs", us(manifest), us(blob)));
    }
    points
}

/// ns of the server's CPU for each of so many requests.
async fn hits(server: &Server, paths: &[String], requests: u64) -> u64 {
    let client = Client::plain(server.address);
    let url = |path: &String| format!("http://{}/v2/{path}", server.address);
    let connection = client.connect(&url(&paths[0])).await.unwrap_or_else(|error| panic!("{error:?}"));
    let before = server.cpu_of_threads();
    for path in paths.iter().cycle().take(requests as usize) {
        ask(&connection, &url(path)).await;
    }
    server.cpu_of_threads().saturating_sub(before).as_nanos() as u64 / requests
}

pub(crate) async fn ask(connection: &Connection, url: &str) {
    let reply = connection.request(http::Method::GET, url).send().await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(reply.status, 200, "{url}");
}
