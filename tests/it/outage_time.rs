//! Time and size: silence ends a transfer, length does not; what broke is taken up without a storm
//! (pitfall 23).

use std::time::Duration;

use futures_util::future::join_all;

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, until, url};
use crate::harness::*;

/// No total timeout: a body that comes in drops, several idle timeouts long, to clients of both
/// protocols.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_may_take_as_long_as_it_likes_while_it_gets_on() {
    let (pki, blob) = (Pki::new(), Blob::generated(41, MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).toml("[upstream]\nCA_FILE\nidle_timeout = \"1s\"").start(&pki).await;
    let drops = 6;
    let gates: Vec<Gate> = (1..drops).map(|n| registry.gate_blob(&blob.digest(), n * MIB / drops)).collect();
    let [h1, h2] = h1_and_h2(&seawall);
    let address = url(&blob);
    let pulls = async { tokio::join!(h1.get(&address).send(), h2.get(&address).send()) };
    let dripping = async {
        for gate in &gates {
            gate.reached().await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            gate.open();
        }
    };
    let ((first, second), ()) = tokio::join!(pulls, dripping);
    for reply in [first.unwrap(), second.unwrap()] {
        assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    }
    assert_eq!(registry.gets("blobs"), 1, "never broken off\n{}", registry.log());
}

/// A client of 2 KB a second is no silence of upstream's, and holds nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_be_as_slow_as_it_likes() {
    let (pki, blob) = (Pki::new(), Blob::generated(42, 24 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).toml("[upstream]\nCA_FILE\nidle_timeout = \"300ms\"").start(&pki).await;
    let mut slow = Vec::new();
    for client in h1_and_h2(&seawall) {
        slow.push(client.get(&url(&blob)).open().await.unwrap());
    }
    landed(&seawall).await;
    for n in 0..5 {
        for open in &mut slow {
            assert!(blob.holds(n * 2048, &open.read_exactly(2048).await.unwrap()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for mut open in slow {
        let rest = open.rest().await.unwrap();
        assert!(rest.len() as u64 == blob.len() - 5 * 2048 && blob.holds(5 * 2048, &rest));
    }
}

/// 40 GiB: every length and offset is beyond 32 bits. It is more than the cache may hold, so it is
/// passed through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_of_40_gib_has_its_length_and_its_ranges() {
    let (pki, total) = (Pki::new(), 40 << 30);
    let blob = Blob::generated(43, total).called(&sha256(b"nobody hashes 40 GiB here"));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for client in h1_and_h2(&seawall) {
        let head = client.head(&url(&blob)).send().await.unwrap();
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "42949672960"));
        let from = total - 1000;
        let asked = client.get(&url(&blob)).header("range", &format!("bytes={from}-"));
        let part = asked.send().await.unwrap();
        let range = format!("bytes {from}-{}/{total}", total - 1);
        assert_eq!((part.status.as_u16(), part.header("content-range")), (206, &*range));
        assert!(part.bytes().len() == 1000 && blob.holds(from, part.bytes()));
        let mut open = client.get(&url(&blob)).open().await.unwrap();
        assert_eq!(open.headers["content-length"], "42949672960");
        assert!(blob.holds(0, &open.read_exactly(1 << 20).await.unwrap()));
    }
    assert!(files(&seawall, "blobs/sha256").is_empty());
}

/// A registry goes away with transfers on it. They do not hammer it while it is down, do not give
/// up for that, and when it is back each goes on with one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_comes_back_is_not_stormed_and_every_transfer_goes_on() {
    const FILLS: u64 = 12;
    let pki = Pki::new();
    let blobs: Vec<Blob> = (0..FILLS).map(|n| Blob::generated(50 + n, 2 * MIB)).collect();
    let registry = Registry::new("ghcr.io");
    let registry = blobs.iter().fold(registry, |registry, blob| registry.blob("acme/app", blob.clone()));
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gates: Vec<Gate> = blobs.iter().map(|blob| registry.gate_blob(&blob.digest(), MIB)).collect();
    let client = seawall.client();
    let mut opened = join_all(blobs.iter().map(async |blob| {
        let mut open = client.get(&url(blob)).open().await.unwrap();
        assert!(blob.holds(0, &open.read_exactly(1 << 20).await.unwrap()));
        open
    }))
    .await;
    registry.down();
    until("it is known not to answer", || seawall.metric("seawall_upstream_open{") == 1.0).await;
    // Longer than a transfer used to hold on (6 s), on the breaker's clock and on the fills' own.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let vain = seawall
        .metric("seawall_upstream_requests_total{registry=\"ghcr.io\",kind=\"blob\",method=\"GET\",status=\"none\"");
    assert!(vain <= (FILLS * 3 + 12) as f64, "{vain} attempts");
    assert_eq!(seawall.metric("seawall_fills"), FILLS as f64, "none gave up");
    registry.reset_counts();
    gates.iter().for_each(Gate::open);
    registry.up();
    for (blob, rest) in blobs.iter().zip(join_all(opened.iter_mut().map(|open| open.rest())).await) {
        assert!(blob.holds(MIB, &rest.unwrap()));
    }
    assert_eq!(registry.gets("blobs") as u64, FILLS, "{}", registry.log());
}
