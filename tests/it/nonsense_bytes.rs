//! Bytes behind nonsense: what somebody else's broken pull left is given to nobody by a page, and a
//! HEAD without a digest proves what its length proves.

use bytes::BytesMut;
use http::Method;

use crate::access::{HUB, hub, token};
use crate::flight::{landed, url};
use crate::harness::faults::PAGE;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::nonsense::MIRROR;

const PART: usize = 200_000;

/// All that came, however it ended.
pub(crate) async fn came(ask: crate::harness::exchange::Ask<'_>) -> (u16, Vec<u8>) {
    let Ok(mut open) = ask.open().await else { return (0, Vec::new()) };
    let mut bytes = BytesMut::new();
    while let Ok(Some(piece)) = open.piece().await {
        bytes.extend_from_slice(&piece);
    }
    (open.status.as_u16(), bytes.to_vec())
}

fn shares(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Item 7 of issue 13, row 21: the start of a private blob is here, from a pull that broke off, or
/// all of it, from before a kill. What a gate answers to who goes on with it publishes none of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_publishes_nothing_of_a_partial_file() {
    let (pki, blob) = (Pki::new(), Blob::generated(41, 1 << 20));
    let junk = "x".repeat(PART + 70_000);
    for here in [PART, 1 << 20] {
        for (kind, fault) in [
            ("a page", Fault::on("blobs").page()),
            ("a page in chunks", Fault::on("blobs").page().chunked()),
            ("a page to the end", Fault::on("blobs").page().no_length()),
            ("JSON in chunks", Fault::on("blobs").answers(200, "application/json", r#"{"a":"b"}"#).chunked()),
            ("bytes in chunks", Fault::on("blobs").answers(200, "application/octet-stream", PAGE).chunked()),
            ("more bytes in chunks", Fault::on("blobs").answers(200, "", junk.clone()).chunked()),
            ("more bytes", Fault::on("blobs").answers(200, "", junk.clone())),
            ("no content", Fault::on("blobs").answers(204, "", "")),
            (
                "a part without a total",
                Fault::on("blobs").answers(206, "", "x").set("content-range", "bytes 200000-200000/*"),
            ),
        ] {
            let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).user("alice", "a").user("bob", "b");
            let registry = registry.private("acme/app", &["alice"]).basic_auth().start(&pki).await;
            let seawall = Seawall::before(&registry).start(&pki).await;
            let partial = seawall.data.join("partial").join(blob.digest().replace(':', "-"));
            let leave = || std::fs::write(&partial, &blob.bytes()[..here]).unwrap();
            let (client, address) = (seawall.client(), url(&blob));
            let at_mirror = format!("{MIRROR}/v2/ghcr.io/acme/app/blobs/{}", blob.digest());
            let mirror = Client::plain(seawall.addr());
            for asks in 0..5 {
                leave();
                registry.fault(fault.clone());
                let ask = match asks {
                    0 => client.get(&address),
                    1 => client.get(&address).basic("bob", "b"),
                    2 => client.get(&address).basic("alice", "wrong"),
                    3 => client.get(&address).range("bytes=0-99"),
                    _ => mirror.get(&at_mirror),
                };
                let (status, bytes) = came(ask).await;
                let same = shares(&bytes, &blob.bytes());
                assert!(same < 8, "{kind}, {asks}, {here} here: {status}, {same} private bytes");
                landed(&seawall).await;
                registry.clear_faults();
            }
            leave();
            let reply = client.get(&address).basic("alice", "a").send().await.unwrap();
            assert!(blob.holds(0, reply.bytes()) && reply.bytes().len() as u64 == blob.len(), "after {kind}");
            landed(&seawall).await;
            let refused = client.get(&address).send().await.unwrap();
            assert_eq!(refused.status, 401, "after {kind}");
        }
    }
}

/// Bytes that are not those of the digest grant nothing, though they came with status 200.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_hashes_wrong_is_no_grant() {
    let pki = Pki::new();
    let (kept, other) = (Blob::generated(42, 100_000), Blob::generated(43, 100_000));
    for chunked in [false, true] {
        let registry = Registry::new("ghcr.io").blob("acme/app", kept.clone()).blob("acme/app", other.clone());
        let registry = registry.user("alice", "a").private("acme/app", &["alice"]).basic_auth().start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let client = seawall.client();
        let alice = client.get(&url(&kept)).basic("alice", "a").send().await.unwrap();
        assert!(kept.holds(0, alice.bytes()));
        landed(&seawall).await;
        let fault = Fault::on("blobs").answers(200, "application/octet-stream", "y".repeat(100_000));
        registry.fault(if chunked { fault.chunked() } else { fault });
        let mut wrong = client.get(&url(&other)).send().await;
        // What alice pulled was asked for as anonymous, too: a refusal of that is repeated for a minute.
        while wrong.as_ref().is_ok_and(|reply| reply.status == 401) {
            seawall.clock.advance(std::time::Duration::from_secs(60));
            wrong = client.get(&url(&other)).send().await;
        }
        assert!(wrong.map_or(true, |reply| reply.body.is_err() || reply.status == 502));
        landed(&seawall).await;
        registry.clear_faults();
        for round in ["now", "in an outage"] {
            for blob in [&kept, &other] {
                for method in [Method::GET, Method::HEAD] {
                    let reply = client.request(method, &url(blob)).send().await.unwrap();
                    assert!([401, 502].contains(&reply.status.as_u16()), "{round}: {}", reply.status);
                }
            }
            registry.down();
        }
    }
}

/// Docker Hub's blobs are at a CDN, which names no digest: its length proves what is here, and
/// another length is nonsense. What is not here is passed on as it was said, for pushes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_a_digest_proves_what_its_length_proves() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let layer = Blob::generated(21, 200 << 10);
    let address = format!("{HUB}/v2/acme/app/blobs/{}", layer.digest());
    let alice = token(&client, crate::access::ALICE, "acme/app").await;
    let carol = token(&client, crate::access::CAROL, "acme/app").await;
    let head = async |shown: &str| client.head(&address).bearer(shown).send().await.unwrap();
    // Not here: upstream's words.
    let reply = head(&alice).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-length")), (200, "204800"));
    assert_eq!((reply.header("docker-content-digest"), reply.header("etag")), ("", ""));
    assert_eq!(registry.gets("cdn"), 0, "it is not fetched");
    let reply = client.get(&address).bearer(&alice).send().await.unwrap();
    assert!(layer.holds(0, reply.bytes()));
    landed(&seawall).await;
    // Here, and another length than it has.
    registry.fault(Fault::on("cdn").claim_length(1));
    let wrong = head(&carol).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("docker-content-digest")), (502, ""), "{:?}", wrong.headers);
    let wrong = client.get(&address).bearer(&carol).send().await.unwrap();
    assert_eq!(wrong.status, 502);
    registry.clear_faults();
    // Here, and its own.
    registry.reset_counts();
    let reply = head(&carol).await;
    assert_eq!((reply.status.as_u16(), reply.header("docker-content-digest")), (200, &*layer.digest()));
    let reply = client.get(&address).bearer(&carol).send().await.unwrap();
    assert!(layer.holds(0, reply.bytes()));
    assert_eq!((registry.gets("blobs"), registry.gets("cdn")), (0, 0), "{}", registry.log());
}

/// Registries that leave fields out, and name plain bytes with a coding, work as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quirks_of_registries_are_no_nonsense() {
    let pki = Pki::new();
    let image = Image::multi_layer();
    for (quirk, fault) in [
        ("no digest", Fault::on("*").no_digest()),
        ("no digest and no length", Fault::on("*").no_digest().chunked()),
        ("another algorithm's", Fault::on("*").set("docker-content-digest", "blake3:00")),
        ("no type", Fault::on("manifests").set("content-type", "")),
        ("plain text", Fault::on("manifests").media_type("text/plain; charset=utf-8")),
        ("octets", Fault::on("*").media_type("application/octet-stream")),
        ("identity", Fault::on("*").set("content-encoding", "Identity")),
        ("aws-chunked", Fault::on("*").set("content-encoding", "aws-chunked")),
        ("a coding that it is not in", Fault::on("*").set("content-encoding", "gzip")),
        ("an empty coding", Fault::on("*").set("content-encoding", "")),
        ("no ranges", Fault::on("*").no_range()),
    ] {
        let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).start(&pki).await;
        registry.fault(fault);
        let seawall = Seawall::before(&registry).start(&pki).await;
        for style in Style::ALL {
            for _ in 0..2 {
                let pulled = seawall.client().pull("ghcr.io/acme/app:1", style).await;
                let pulled = pulled.unwrap_or_else(|e| panic!("{quirk}, {style:?}: {e}\n{}", registry.log()));
                assert_eq!(pulled.digest, image.digest(), "{quirk}");
                landed(&seawall).await;
                seawall.clock.advance(std::time::Duration::from_secs(3600));
            }
        }
        let url = format!("https://ghcr.io/v2/acme/app/manifests/{}", image.digest());
        let reply = seawall.client().head(&url).send().await.unwrap();
        assert_eq!(
            (reply.header("docker-content-digest"), reply.header("content-type")),
            (&*image.digest(), OCI_MANIFEST)
        );
        for blob in image.blobs() {
            let reply = seawall.client().head(&crate::flight::url(&blob)).send().await.unwrap();
            assert_eq!(
                (reply.status.as_u16(), reply.header("content-length")),
                (200, &*blob.len().to_string()),
                "{quirk}"
            );
        }
    }
}
