//! Long fields, bodies that break, clients that are slow.

use crate::harness::*;
use crate::serve::{HUB, TAG, blob_url, both, image};

/// Pitfall 38.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_fields_pass_in_h1_and_h2() {
    for registry_speaks_h2 in [false, true] {
        let pki = Pki::new();
        let registry = Registry::new(HUB)
            .image("library/alpine:3.20", image())
            .user("me", "pw")
            .private("library/alpine", &["me"]);
        let registry = registry.token_auth().token_length(8 << 10).cdn("cdn.example.test");
        let registry = if registry_speaks_h2 { registry } else { registry.only_h1() }.start(&pki).await;
        registry.fault(Fault::on("blobs").long_location(4 << 10));
        let seawall = Seawall::before(&registry).start(&pki).await;
        for client in both(&seawall) {
            let token = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/alpine:pull";
            let token = client.get(token).basic("me", "pw").send().await.unwrap();
            let token = token.json()["token"].as_str().unwrap().to_owned();
            assert!(token.len() >= 8 << 10);
            let reply = client.get(TAG).bearer(&token).send().await.unwrap();
            assert_eq!(reply.status, 200, "{}", registry.log());
            for layer in image().layers() {
                let reply = client.get(&blob_url(&layer.digest())).bearer(&token).send().await.unwrap();
                assert_eq!(reply.bytes(), &layer.bytes(), "{}", registry.log());
            }
        }
    }
}

/// Invariant 5: a body that upstream broke off never ends cleanly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_upstream_broke_off_is_broken_off_here() {
    let pki = Pki::new();
    let (cut, unsaid, wrong) =
        (Blob::generated(21, 300_000), Blob::generated(22, 300_000), Blob::generated(23, 300_000));
    let registry = Registry::new(HUB);
    let registry = [&cut, &unsaid, &wrong]
        .into_iter()
        .fold(registry, |r, blob| r.blob("library/alpine", blob.clone()))
        .start(&pki)
        .await;
    registry.fault(Fault::on("bytes").digest(&cut.digest()).cut_at(200_000));
    registry.fault(Fault::on("bytes").digest(&unsaid.digest()).chunked().cut_at(200_000));
    registry.fault(Fault::on("bytes").digest(&wrong.digest()).corrupt(100));
    let seawall = Seawall::before(&registry).start(&pki).await;
    for (blob, most) in [(&cut, 200_000), (&unsaid, 200_000), (&wrong, 299_999)] {
        for client in both(&seawall) {
            let mut open = match client.get(&blob_url(&blob.digest())).open().await {
                Ok(open) if open.status == 200 => open,
                // It was known before the head was sent.
                Ok(open) => {
                    assert_eq!(open.status, 502);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let (bytes, end) = open.until_end().await;
            assert!(bytes <= most && end.is_err(), "{bytes} bytes, then a clean end");
            let said = format!("{:?}", end.unwrap_err());
            let endings: &[&str] = match open.version {
                http::Version::HTTP_2 => &["Reset"],
                // TLS that ends without saying so, or HTTP that does.
                _ => &["IncompleteMessage", "UnexpectedEof"],
            };
            assert!(endings.iter().any(|ending| said.contains(ending)), "{said}");
        }
    }
    let names: Vec<_> = std::fs::read_dir(seawall.data.join("blobs/sha256")).unwrap().collect();
    assert!(names.is_empty(), "{names:?}");
}

/// A chunked answer on h1 that breaks off has no last chunk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_body_without_a_length_has_no_last_chunk() {
    let pki = Pki::new();
    let plain = Registry::new("plain.test").plain().blob("some/thing", Blob::generated(24, 300_000)).start(&pki).await;
    let digest = Blob::generated(24, 300_000).digest();
    plain.fault(Fault::on("bytes").chunked().cut_at(200_000));
    let toml = "[[registry]]\nname = \"plain\"\nhosts = [\"http://plain.test\"]\nupstreams = [{ url = \"http://plain.test\" }]";
    let seawall = Seawall::before(&plain).toml(toml).start(&pki).await;
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(format!("GET http://plain.test/v2/some/thing/blobs/{digest} HTTP/1.1\r\nHost: plain.test\r\n\r\n")).await;
    let reply = raw.read_to_end().await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.to_lowercase().contains("transfer-encoding: chunked"));
    assert!(!reply.ends_with("0\r\n\r\n"), "a clean end");
}

/// docs/performance.md: memory does not grow with what is downloaded, nor with how slowly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_of_a_large_blob_cost_little_memory() {
    const CLIENTS: usize = 100;
    let pki = Pki::new();
    let blob = Blob::generated(31, 64 << 20);
    let registry = Registry::new(HUB).blob("library/alpine", blob.clone()).start(&pki).await;
    let seawall = Process::start(&registry, &pki, "");
    let url = blob_url(&blob.digest());
    let whole = seawall.client().get(&url).open().await.unwrap().until_end().await;
    assert!(whole.0 == blob.len() && whole.1.is_ok());
    let before = seawall.resident();
    let mut slow = Vec::new();
    for n in 0..CLIENTS {
        let client = if n % 2 == 0 { seawall.client() } else { seawall.client().h2() };
        let mut open = client.get(&url).open().await.unwrap();
        assert!(blob.holds(0, &open.read_exactly(1000).await.unwrap()));
        slow.push(open);
    }
    for open in &mut slow {
        open.read_exactly(1 << 20).await.unwrap();
    }
    let grown = seawall.resident().saturating_sub(before);
    println!("{CLIENTS} slow clients: {} MiB, {} MiB before", grown >> 20, before >> 20);
    // A connection's buffers, and some: a hundredth of what is being downloaded.
    assert!(grown < 160 << 20, "{} MiB more", grown >> 20);
}
