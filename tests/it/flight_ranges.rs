//! Ranges of a blob that is not here yet, or not all of it (pitfall 26).

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, url};
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;

/// Far ahead of what comes: another connection brings it, while the first goes on, and each byte comes
/// once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_range_is_answered_at_once_while_the_fill_goes_on() {
    let (pki, blob) = (Pki::new(), Blob::generated(11, 64 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut whole = seawall.client().get(&url(&blob)).open().await.unwrap();
    gate.reached().await;
    for (n, client) in h1_and_h2(&seawall).iter().enumerate() {
        let far = (30 + n as u64) * MIB;
        let reply = client.get(&url(&blob)).range(&format!("bytes={far}-{}", far + 99_999)).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.bytes().len()), (206, 100_000));
        assert_eq!(reply.header("content-range"), format!("bytes {far}-{}/{}", far + 99_999, blob.len()));
        assert!(blob.holds(far, reply.bytes()));
        assert_eq!(reply.header("docker-content-digest"), blob.digest());
    }
    let suffix = seawall.client().get(&url(&blob)).range("bytes=-1000").send().await.unwrap();
    assert!(suffix.status == 206 && blob.holds(blob.len() - 1000, suffix.bytes()));
    assert!((2..=4).contains(&registry.gets("blobs")), "{}", registry.log());
    gate.open();
    assert!(blob.holds(0, &whole.rest().await.unwrap()));
    landed(&seawall).await;
    let hit = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, hit.bytes()) && hit.header("cache-status") == "seawall; hit");
    // What was on its way when one came to what another had brought: windows and buffers.
    assert!(registry.sent() < blob.len() + 16 * MIB, "{} bytes were sent", registry.sent());
}

/// `segments = 1`: what is far comes past the fill, and twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_segment_a_far_range_comes_past_the_fill() {
    let (pki, blob) = (Pki::new(), Blob::generated(11, 64 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"30s\"\nsegments = 1";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let far = 50 * MIB;
    for client in h1_and_h2(&seawall) {
        let reply = client.get(&url(&blob)).range(&format!("bytes={far}-{}", far + 99_999)).send().await.unwrap();
        assert!(reply.status == 206 && reply.bytes().len() == 100_000 && blob.holds(far, reply.bytes()));
    }
    assert_eq!(registry.gets("blobs"), 3, "one fill, two parts\n{}", registry.log());
    gate.open();
    let whole = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, whole.bytes()));
    assert_eq!(registry.gets("blobs"), 3, "{}", registry.log());
}

/// Near: it waits for what comes, and upstream is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_range_waits_for_the_fill() {
    let (pki, blob) = (Pki::new(), Blob::generated(12, 4 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut whole = seawall.client().get(&url(&blob)).open().await.unwrap();
    gate.reached().await;
    assert!(blob.holds(0, &whole.read_exactly(1 << 20).await.unwrap()));
    let mut opened = Vec::new();
    for client in h1_and_h2(&seawall) {
        for (range, from, len) in [("bytes=1048576-1048675", MIB, 100), ("bytes=1100000-1100009", 1_100_000, 10)] {
            let open = client.get(&url(&blob)).range(range).open().await.unwrap();
            assert_eq!((open.status.as_u16(), &open.headers["content-length"]), (206, &len.into()));
            opened.push((open, from, len));
        }
        let beyond = client.get(&url(&blob)).range("bytes=4194304-").send().await.unwrap();
        assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, "bytes */4194304"));
        let several = client.get(&url(&blob)).range("bytes=0-1,5-6").send().await.unwrap();
        assert_eq!(several.status, 206, "several ranges");
    }
    gate.open();
    for (mut open, from, len) in opened {
        let bytes = open.rest().await.unwrap();
        assert!(bytes.len() == len && blob.holds(from, &bytes));
    }
    assert!(blob.holds(MIB, &whole.rest().await.unwrap()));
    assert_eq!(registry.gets("blobs"), 1, "{}", registry.log());
}

/// A client that asks for the rest from many points at once and hangs up: there are never more connections
/// than there may be, and next to nothing comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_ended_ranges_that_are_given_up_multiply_nothing() {
    let (pki, blob) = (Pki::new(), Blob::generated(13, 96 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut opened = Vec::new();
    for (n, client) in h1_and_h2(&seawall).into_iter().cycle().take(8).enumerate() {
        let from = n as u64 * 8 * MIB;
        let mut open = client.get(&url(&blob)).range(&format!("bytes={from}-")).open().await.unwrap();
        assert_eq!(open.headers["content-length"], (blob.len() - from).to_string().as_str());
        if n < 4 {
            assert!(blob.holds(from, &open.read_exactly(1000).await.unwrap()));
        }
        opened.push(open);
    }
    let running = |registry: &Registry| registry.count(|seen| seen.kind() == "blobs" && seen.end().is_none());
    assert!(running(&registry) <= 4, "{}", registry.log());
    drop(opened);
    gate.open();
    landed(&seawall).await;
    assert_eq!(files(&seawall, "blobs/sha256").len(), 1, "{}", registry.log());
    assert!(registry.sent() < 2 * blob.len(), "{} bytes were sent\n{}", registry.sent(), registry.log());
}

/// Upstream has no ranges: who wants a far part waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_far_range_of_an_upstream_without_ranges_is_still_a_range() {
    let (pki, blob) = (Pki::new(), Blob::generated(14, 40 * MIB));
    let registry = open_registry(&pki, &blob).await;
    registry.fault(Fault::on("bytes").no_range());
    let seawall = Seawall::before(&registry).start(&pki).await;
    let reply = seawall.client().get(&url(&blob)).range("bytes=39000000-39000099").send().await.unwrap();
    assert!(reply.status == 206 && reply.bytes().len() == 100 && blob.holds(39_000_000, reply.bytes()));
}

/// containers/storage asks so for the chunks of a layer that it lacks (zstd:chunked).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_are_several_parts() {
    let pki = Pki::new();
    let layer = Blob::generated(3, 3 << 20);
    let registry = Registry::new("registry-1.docker.io").image("acme/app:1", Image::of(vec![layer.clone()]));
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let url = format!("https://registry-1.docker.io/v2/acme/app/blobs/{}", layer.digest());
    let bytes = layer.bytes();
    let total = bytes.len();
    let wanted = [(0, 1), (1 << 20, (1 << 20) + 70_000), (10, 19), (total - 5, total - 1)];
    let range = format!("bytes=0-1, {}-{},10-19,-5", wanted[1].0, wanted[1].1);
    for when in ["on its way", "here"] {
        let reply = seawall.client().get(&url).header("range", &range).send().await.unwrap();
        assert_eq!(reply.status, 206, "{when}");
        let kind = reply.header("content-type").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut expected = Vec::new();
        for (n, (first, last)) in wanted.into_iter().enumerate() {
            let before = if n == 0 { "" } else { "\r\n" };
            let head = format!(
                "{before}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{total}\r\n\r\n"
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&bytes[first..=last]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert_eq!(reply.header("content-length"), expected.len().to_string(), "{when}");
        assert!(reply.body.unwrap() == expected, "{when}");
        assert!(!reply.headers.contains_key("content-range"));
        if when == "on its way" {
            // All of it is here from now on.
            assert_eq!(registry.sent(), (4 + 72 + 4) * 1024, "only what was asked for\n{}", registry.log());
            assert_eq!(seawall.client().get(&url).send().await.unwrap().bytes(), &bytes);
        }
        crate::flight::landed(&seawall).await;
    }
    let before = registry.gets("blobs");
    for (range, status) in
        [("bytes=500-0", 416), ("bytes=0-1,500-0", 416), ("bytes=99999999-", 416), ("bytes=0-1,x", 200)]
    {
        let reply = seawall.client().get(&url).header("range", range).send().await.unwrap();
        assert_eq!(reply.status, status, "{range}");
    }
    assert_eq!(registry.gets("blobs"), before, "{}", registry.log());
}

/// A manifest that says of each of these blobs that it is so long.
fn naming(blobs: &[(&Blob, u64)]) -> String {
    let named = blobs.iter().map(|(blob, size)| {
        let digest = blob.digest();
        format!(r#"{{"mediaType":"application/octet-stream","digest":"{digest}","size":{size}}}"#)
    });
    let layers = named.collect::<Vec<_>>().join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","layers":[{layers}]}}"#)
}

/// RFC 9110, 13.1.5: a part of another representation is not wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_range_is_heeded() {
    let (pki, blob) = (Pki::new(), Blob::generated(16, MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for (tag, status) in [(format!("\"{}\"", blob.digest()), 206), ("\"other\"".into(), 200), ("W/\"x\"".into(), 200)] {
        for _ in 0..2 {
            let client = seawall.client();
            let part = client.get(&url(&blob)).range("bytes=0-9").header("if-range", &tag).send().await;
            assert_eq!(part.unwrap().status, status, "{tag}");
            landed(&seawall).await;
        }
    }
}

/// Upstream says no length: the manifest that named the blob does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_length_of_upstreams_the_descriptor_has_it() {
    let (pki, blob) = (Pki::new(), Blob::generated(14, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    registry.add_manifest("acme/app", "1", OCI_MANIFEST, naming(&[(&blob, blob.len())]));
    registry.fault(Fault::on("bytes").no_length());
    let seawall = Seawall::before(&registry).start(&pki).await;
    let tag = "https://ghcr.io/v2/acme/app/manifests/1";
    assert_eq!(seawall.client().get(tag).send().await.unwrap().status, 200);
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut opened = Vec::new();
    for client in h1_and_h2(&seawall) {
        let whole = client.get(&url(&blob)).open().await.unwrap();
        assert_eq!((whole.status.as_u16(), &whole.headers["content-length"]), (200, &blob.len().into()));
        let part = client.get(&url(&blob)).range("bytes=-100").open().await.unwrap();
        let place = format!("bytes {}-{}/{}", blob.len() - 100, blob.len() - 1, blob.len());
        assert_eq!((part.status.as_u16(), part.headers["content-range"].as_bytes()), (206, place.as_bytes()));
        opened.push((whole, 0));
        opened.push((part, blob.len() - 100));
    }
    gate.open();
    for (mut open, from) in opened {
        let bytes = open.rest().await.unwrap();
        assert!(bytes.len() as u64 == blob.len() - from && blob.holds(from, &bytes));
    }
}

/// Nor is anything fetched for a HEAD.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_a_length_of_upstreams_has_the_descriptors() {
    for no_digest in [false, true] {
        let (pki, blob) = (Pki::new(), Blob::generated(16, 2 * MIB));
        let registry = open_registry(&pki, &blob).await;
        registry.add_manifest("acme/app", "1", OCI_MANIFEST, naming(&[(&blob, blob.len())]));
        registry.fault(Fault::on("bytes").no_length().no_range());
        registry.fault(Fault::on("blobs").no_length());
        if no_digest {
            registry.fault(Fault::on("*").no_digest());
        }
        let seawall = Seawall::before(&registry).start(&pki).await;
        let tag = "https://ghcr.io/v2/acme/app/manifests/1";
        assert_eq!(seawall.client().get(tag).send().await.unwrap().status, 200);
        let said = seawall.client().head(&url(&blob)).send().await.unwrap();
        let length = (said.status.as_u16(), said.header("content-length"));
        assert_eq!(length, (200, &*blob.len().to_string()), "{no_digest}\n{}", registry.log());
        assert_eq!(seawall.metric("seawall_fills"), 0.0);
        assert!(files(&seawall, "blobs/sha256").iter().all(|name| !blob.digest().contains(name)), "{no_digest}");
    }
}

/// Whoever wrote the manifest chose its words: they end no transfer cleanly that is not the blob,
/// and concern nobody who was not told them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_descriptor_that_lies_about_a_length_ends_nothing_cleanly() {
    for lie in [MIB, 2 * MIB - 1, 2 * MIB + 1, 3 * MIB] {
        let (pki, blob) = (Pki::new(), Blob::generated(15, 2 * MIB));
        let registry = open_registry(&pki, &blob).await;
        registry.add_manifest("acme/app", "1", OCI_MANIFEST, naming(&[(&blob, lie)]));
        registry.add_blob("acme/other", blob.clone());
        registry.add_manifest("acme/other", "1", OCI_MANIFEST, naming(&[(&blob, blob.len())]));
        registry.fault(Fault::on("bytes").no_length());
        let seawall = Seawall::before(&registry).start(&pki).await;
        for name in ["app", "other"] {
            let tag = format!("https://ghcr.io/v2/acme/{name}/manifests/1");
            assert_eq!(seawall.client().get(&tag).send().await.unwrap().status, 200);
        }
        let gate = registry.gate_blob(&blob.digest(), MIB);
        let mut lied_to = seawall.client().get(&url(&blob)).open().await.unwrap();
        let elsewhere = url(&blob).replace("acme/app", "acme/other");
        let mut honest = seawall.client().get(&elsewhere).open().await.unwrap();
        assert_eq!(honest.headers["content-length"], blob.len().to_string().as_str(), "{lie}");
        gate.open();
        assert!(lied_to.rest().await.is_err(), "{lie}");
        assert!(blob.holds(0, &honest.rest().await.unwrap()), "{lie}");
        landed(&seawall).await;
        let here = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(here.bytes().len() as u64 == blob.len() && blob.holds(0, here.bytes()), "{lie}: what is here is right");
    }
}
