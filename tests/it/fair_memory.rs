//! Invariant 12: what one client asks for and does not read takes no more than its share of memory, holds
//! up no other, and is given back.

use http::Method;

use crate::flight::{MIB, h1_and_h2, landed, open_registry, until, url};
use crate::harness::*;

const CONNECTIONS: usize = 3;
const STREAMS: usize = 200;
/// As `policy/budget` has them.
const OF_CONNECTION: f64 = 2097152.0;
const OF_ANSWER: f64 = 16384.0;
const CHUNK: f64 = 65536.0;

fn unwritten(seawall: &Seawall) -> f64 {
    seawall.metric("seawall_unwritten_bytes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_what_nobody_reads_is_bounded_and_given_back() {
    let (pki, blob) = (Pki::new(), Blob::generated(71, 8 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    assert_eq!(seawall.client().get(&url(&blob)).send().await.unwrap().status, 200);
    landed(&seawall).await;
    let (mut connections, mut unread) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        connections.push(seawall.client().h2().connect(&url(&blob)).await.unwrap());
    }
    for connection in &connections {
        for _ in 0..STREAMS {
            unread.push(connection.request(Method::GET, &url(&blob)).open().await.unwrap());
        }
    }
    // hyper takes bodies as long as it may.
    until("all that may be given is", || unwritten(&seawall) > OF_ANSWER * (STREAMS * CONNECTIONS) as f64 / 2.0).await;
    let most = CONNECTIONS as f64 * (OF_CONNECTION + CHUNK) + (STREAMS * CONNECTIONS) as f64 * OF_ANSWER;
    for client in h1_and_h2(&seawall) {
        let other = client.get(&url(&blob)).send();
        let other = tokio::time::timeout(std::time::Duration::from_secs(10), other).await.expect("it waits for nobody");
        assert!(blob.holds(0, other.unwrap().bytes()));
        assert!(unwritten(&seawall) <= most, "{} of {most}", unwritten(&seawall));
    }
    drop((unread, connections));
    until("all of it is given back", || unwritten(&seawall) == 0.0).await;
}

/// The window of a stream is full, that of its connection is not: the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_read_holds_up_no_other_of_its_connection() {
    let (pki, blob) = (Pki::new(), Blob::generated(72, 8 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let connection = seawall.client().h2().connect(&url(&blob)).await.unwrap();
    let _unread = connection.request(Method::GET, &url(&blob)).open().await.unwrap();
    for _ in 0..3 {
        let read = connection.request(Method::GET, &url(&blob)).send().await.unwrap();
        assert!(blob.holds(0, read.bytes()));
    }
}

/// Manifests are in memory once, for all. A long one is read from its file: many that nobody reads would be
/// as many times in memory once others have taken their place there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_manifests_that_nobody_reads_are_counted() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let pki = Pki::new();
    let annotations = serde_json::json!({ "long": "x".repeat(3 << 20) });
    let long =
        serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": annotations });
    let long = long.to_string();
    let registry = Registry::new("ghcr.io").manifest("acme/app", "long", INDEX, long.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let url = "https://ghcr.io/v2/acme/app/manifests/long";
    for _ in 0..2 {
        let reply = seawall.client().get(url).header("accept", INDEX).send().await.unwrap();
        assert!(reply.header("content-type") == INDEX && reply.bytes() == long.as_bytes());
        landed(&seawall).await;
    }
    let connection = seawall.client().h2().connect(url).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        unread.push(connection.request(Method::GET, url).header("accept", INDEX).open().await.unwrap());
    }
    until("what is given is counted", || unwritten(&seawall) > OF_ANSWER).await;
    drop((unread, connection));
    until("all of it is given back", || unwritten(&seawall) == 0.0).await;
}

/// A part costs what it takes, and not what is counted by its length: a request of some kilobytes asks for
/// a thousand of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_parts_take_no_more_than_is_counted() {
    let (pki, blob) = (Pki::new(), Blob::generated(73, MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Process::start(&registry, &pki, "");
    assert_eq!(seawall.client().get(&url(&blob)).send().await.unwrap().status, 200);
    let before = seawall.resident();
    for (parts, length) in [(1000, 1), (200, 4200)] {
        let ranges: Vec<_> =
            (0..parts).map(|n| format!("{}-{}", n * (length + 1), (n + 1) * (length + 1) - 2)).collect();
        let connection = seawall.client().h2().connect(&url(&blob)).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..STREAMS {
            let ask = connection.request(Method::GET, &url(&blob));
            unread.push(ask.header("range", &format!("bytes={}", ranges.join(","))).open().await.unwrap());
        }
        assert_eq!(seawall.client().get(&url(&blob)).send().await.unwrap().status, 200);
        let more = seawall.resident().saturating_sub(before);
        assert!(more < 40 << 20, "{} MiB for {STREAMS} x {parts} parts of {length}", more >> 20);
    }
}
