//! What a client is given: lengths, ranges, conditions, fields, and ends that are no ends
//! (docs/clients.md).

use std::time::Duration;

use http::StatusCode;

use crate::harness::exchange::Reply;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;

pub(crate) const HUB: &str = "registry-1.docker.io";
pub(crate) const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";

fn manifest_url(digest: &str) -> String {
    format!("https://registry-1.docker.io/v2/library/alpine/manifests/{digest}")
}

pub(crate) fn blob_url(digest: &str) -> String {
    format!("https://registry-1.docker.io/v2/library/alpine/blobs/{digest}")
}

pub(crate) fn image() -> Image {
    Image::multi_layer()
}

pub(crate) async fn hub(pki: &Pki) -> Registry {
    Registry::new(HUB).image("library/alpine:3.20", image()).start(pki).await
}

pub(crate) async fn get(client: &Client, url: &str) -> Reply {
    client.get(url).send().await.unwrap()
}

/// Once the file is where hits come from: who comes before follows the fill.
pub(crate) async fn warm(client: &Client, url: &str) {
    while get(client, url).await.header("cache-status") != "seawall; hit" {}
}

pub(crate) fn both(seawall: &Seawall) -> [Client; 2] {
    [seawall.client(), seawall.client().h2()]
}

/// Every field that each pull has.
fn has_all_fields(reply: &Reply, digest: &str, media_type: &str, length: u64, cache_status: &str) {
    let fields = [
        ("content-length", length.to_string()),
        ("content-type", media_type.to_owned()),
        ("docker-content-digest", digest.to_owned()),
        ("accept-ranges", "bytes".to_owned()),
        ("etag", format!("\"{digest}\"")),
        ("docker-distribution-api-version", "registry/2.0".to_owned()),
        ("cache-status", cache_status.to_owned()),
    ];
    for (name, value) in fields {
        assert_eq!(reply.header(name), value, "{name} in {:?}", reply.headers);
    }
}

// Fields.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pull_has_its_fields_cold_and_warm() {
    let (image, layer) = (image(), image().layers()[1].clone());
    for h2 in [false, true] {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let client = both(&seawall)[usize::from(h2)].clone();
        let by_digest = manifest_url(&image.digest());
        let (length, digest) = (image.manifest().len() as u64, image.digest());
        for cache_status in ["seawall; fwd=miss; stored", "seawall; hit"] {
            let reply = get(&client, TAG).await;
            has_all_fields(&reply, &digest, OCI_MANIFEST, length, cache_status);
            assert_eq!((reply.header("vary"), reply.bytes()), ("Accept", &image.manifest()));
        }
        let reply = get(&client, &by_digest).await;
        has_all_fields(&reply, &digest, OCI_MANIFEST, length, "seawall; hit");
        assert_eq!((reply.header("vary"), reply.header("age")), ("", ""), "a digest has neither");

        let url = blob_url(&layer.digest());
        let reply = get(&client, &url).await;
        has_all_fields(&reply, &layer.digest(), "application/octet-stream", layer.len(), "seawall; fwd=miss; stored");
        warm(&client, &url).await;
        let reply = get(&client, &url).await;
        has_all_fields(&reply, &layer.digest(), "application/octet-stream", layer.len(), "seawall; hit");
        assert_eq!(reply.bytes(), &layer.bytes());
        assert!(reply.headers.get("warning").is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_told_that_it_collapsed() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let layer = image().layers()[2].clone();
    let gate = registry.gate_blob(&layer.digest(), 100_000);
    let seawall = Seawall::before(&registry).start(&pki).await;
    get(&seawall.client(), TAG).await;
    let url = blob_url(&layer.digest());
    let mut first = seawall.client().get(&url).open().await.unwrap();
    let mut second = seawall.client().h2().get(&url).open().await.unwrap();
    for (open, cache_status) in [(&first, "seawall; fwd=miss; stored"), (&second, "seawall; fwd=miss; collapsed")] {
        assert_eq!(open.headers["cache-status"], cache_status);
        assert_eq!(open.headers["content-length"], layer.len().to_string());
        assert_eq!(open.headers["etag"], format!("\"{}\"", layer.digest()));
    }
    gate.open();
    assert_eq!(first.rest().await.unwrap(), layer.bytes());
    assert_eq!(second.rest().await.unwrap(), layer.bytes());
    assert_eq!(registry.gets("blobs"), 1);
}

/// Pitfalls 32 and 34: what is served though upstream cannot confirm it says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_tag_says_why_and_how_old_it_is() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    get(&client, TAG).await;
    seawall.clock.advance(Duration::from_secs(20));
    let reply = get(&client, TAG).await;
    assert_eq!((reply.header("cache-status"), reply.header("age")), ("seawall; hit", "20"));
    let head = client.head(TAG).send().await.unwrap();
    assert_eq!((head.header("cache-status"), head.header("age")), ("seawall; hit", "20"));

    registry.down();
    seawall.clock.advance(Duration::from_secs(100));
    for client in both(&seawall) {
        for reply in [get(&client, TAG).await, client.head(TAG).send().await.unwrap()] {
            let digest = image().digest();
            has_all_fields(
                &reply,
                &digest,
                OCI_MANIFEST,
                image().manifest().len() as u64,
                "seawall; fwd=stale; detail=unreachable",
            );
            let age: u64 = reply.header("age").parse().unwrap();
            assert!((120..180).contains(&age), "{age}");
            assert_eq!(reply.header("vary"), "Accept");
            let warning = reply.header("warning");
            assert!(
                warning.starts_with("299 - \"seawall: served from cache") && warning.contains("docker.io"),
                "{warning}"
            );
        }
    }
    registry.up();
    // The trial is due.
    seawall.clock.advance(Duration::from_secs(5));
    assert_eq!(get(&client, &manifest_url("nothing")).await.status, 404);
    let reply = get(&client, TAG).await;
    assert_eq!((reply.header("cache-status"), reply.header("warning")), (REVALIDATED, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_through_says_bypass() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for client in both(&seawall) {
        let reply = get(&client, "https://registry-1.docker.io/v2/library/alpine/tags/list").await;
        assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, "seawall; fwd=bypass"));
        let missing = get(&client, &manifest_url("nothing")).await;
        assert_eq!(
            (missing.status.as_u16(), missing.header("cache-status")),
            (404, "seawall; fwd=bypass; detail=missing")
        );
        assert_eq!(missing.json()["errors"][0]["code"], "MANIFEST_UNKNOWN");
    }
}

/// Pitfall 11, and the rest that is about a moment, a connection or another client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_upstreams_moment_is_replayed() {
    const MOMENT: [(&str, &str); 12] = [
        ("set-cookie", "session=somebody"),
        ("ratelimit-limit", "100;w=21600"),
        ("ratelimit-remaining", "7;w=21600"),
        ("docker-ratelimit-source", "192.0.2.1"),
        ("date", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=31536000"),
        ("last-modified", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("cache-control", "no-store"),
        ("expires", "0"),
        ("via", "1.1 cdn"),
        ("x-request-id", "42"),
    ];
    let pki = Pki::new();
    let registry = hub(&pki).await;
    for kind in ["manifests", "blobs"] {
        registry.fault(MOMENT.iter().fold(Fault::on(kind), |fault, (name, value)| fault.set(name, value)));
    }
    let seawall = Seawall::before(&registry).start(&pki).await;
    let urls = [TAG.to_owned(), manifest_url(&image().digest()), blob_url(&image().layers()[0].digest())];
    for client in both(&seawall) {
        for url in &urls {
            warm(&client, url).await;
            // Who asks for a blob by HEAD may be about to push: upstream is asked.
            let of_head = if url.contains("/blobs/") { "seawall; fwd=bypass" } else { "seawall; hit" };
            let replies =
                [("seawall; hit", get(&client, url).await), (of_head, client.head(url).send().await.unwrap())];
            for (expected, reply) in replies {
                assert_eq!(reply.header("cache-status"), expected);
                for (name, value) in MOMENT {
                    assert_ne!(reply.header(name), value, "{name} of {url}");
                }
            }
        }
    }
}

// HEAD, conditions, ranges.

/// Pitfalls 8, 12 and 25: a HEAD has the true length and costs no download.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_the_length_of_what_is_not_sent() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let (image, layer) = (image(), image().layers()[2].clone());
    let things = [
        (TAG.to_owned(), image.digest(), OCI_MANIFEST, image.manifest().len() as u64),
        (manifest_url(&image.digest()), image.digest(), OCI_MANIFEST, image.manifest().len() as u64),
        (blob_url(&layer.digest()), layer.digest(), "application/octet-stream", layer.len()),
    ];
    let heads = async || {
        for client in both(&seawall) {
            for (url, digest, media_type, length) in &things {
                let head = client.head(url).send().await.unwrap();
                assert_eq!((head.status.as_u16(), head.bytes().len()), (200, 0), "{url}");
                let cache_status = head.header("cache-status").to_owned();
                has_all_fields(&head, digest, media_type, *length, &cache_status);
            }
        }
    };
    heads().await;
    assert_eq!(registry.count(|seen| seen.method == http::Method::GET), 0, "{}", registry.log());
    for (url, ..) in &things {
        warm(&seawall.client(), url).await;
    }
    registry.reset_counts();
    heads().await;
    // Who asks for a blob's HEAD is about to push: pitfall 9.
    assert_eq!(registry.heads("blobs"), 2, "{}", registry.log());
    assert_eq!(registry.requests().len(), 2, "{}", registry.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_has_already_is_304() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let layer = image().layers()[1].clone();
    for (url, digest) in [(TAG.to_owned(), image().digest()), (blob_url(&layer.digest()), layer.digest())] {
        warm(&seawall.client(), &url).await;
        let other = sha256(b"another");
        for client in both(&seawall) {
            for (condition, status) in [
                (format!("\"{digest}\""), 304),
                (digest.clone(), 304),
                (format!("W/\"{digest}\""), 304),
                ("*".to_owned(), 304),
                (format!("\"{other}\", W/\"x\" , \"{digest}\""), 304),
                (format!("{other},{digest}"), 304),
                (format!("\"{other}\""), 200),
                (format!("\"{}\"", &digest[..20]), 200),
                (String::new(), 200),
            ] {
                for ask in [client.get(&url), client.head(&url), client.get(&url).range("bytes=0-1")] {
                    let reply = ask.header("if-none-match", &condition).send().await.unwrap();
                    let (not_modified, success) = (reply.status == 304, reply.status.is_success());
                    assert_eq!(
                        (not_modified, success),
                        (status == 304, status == 200),
                        "{condition}: {}",
                        reply.status
                    );
                    assert_eq!(reply.header("etag"), format!("\"{digest}\""));
                    assert!(!not_modified || reply.bytes().is_empty());
                }
            }
        }
    }
}

/// What a range asks for, of a thing so long: status, bytes, `Content-Range`.
fn expected(range: &str, length: usize) -> (u16, std::ops::Range<usize>, String) {
    let part = |start: usize, end: usize| (206, start..end, format!("bytes {start}-{}/{length}", end - 1));
    match range {
        "bytes=0-0" => part(0, 1),
        "bytes=5-9" | "Bytes=5-9" | "bytes= 5-9" => part(5, 10),
        "bytes=5-" => part(5, length),
        "bytes=-7" => part(length - 7, length),
        "bytes=-99999999" | "bytes=0-" | "bytes=0-99999999" => part(0, length),
        "bytes=99999999-" | "bytes=99999999-99999999" | "bytes=-0" | "bytes=9-5" => {
            (416, 0..0, format!("bytes */{length}"))
        }
        _ => (200, 0..length, String::new()),
    }
}

const RANGES: [&str; 17] = [
    "bytes=0-0",
    "bytes=5-9",
    "Bytes=5-9",
    "bytes= 5-9",
    "bytes=5-",
    "bytes=-7",
    "bytes=-99999999",
    "bytes=0-",
    "bytes=0-99999999",
    "bytes=99999999-",
    "bytes=99999999-99999999",
    "bytes=-0",
    "bytes=9-5",
    // Other units, nonsense: all of it.
    "lines=1-2",
    "bytes=a-b",
    "bytes=",
    "bytes=-",
];

/// RFC 9110, 14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_what_is_here() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let layer = image().layers()[1].clone();
    let things = [
        (TAG.to_owned(), image().manifest()),
        (manifest_url(&image().digest()), image().manifest()),
        (blob_url(&layer.digest()), layer.bytes()),
    ];
    for (url, bytes) in things {
        warm(&seawall.client(), &url).await;
        for client in both(&seawall) {
            let connection = client.connect(&url).await.unwrap();
            for range in RANGES {
                let (status, part, content_range) = expected(range, bytes.len());
                let reply = connection.request(http::Method::GET, &url).range(range).send().await.unwrap();
                assert_eq!(
                    (reply.status.as_u16(), reply.header("content-range")),
                    (status, &*content_range),
                    "{range} of {url}"
                );
                assert_eq!(reply.header("content-length"), part.len().to_string(), "{range}");
                assert_eq!(reply.bytes(), &bytes[part], "{range} of {url}");
                // RFC 9110, 14.2: a server ignores Range with other methods than GET.
                let head = connection.request(http::Method::HEAD, &url).range(range).send().await.unwrap();
                assert_eq!(
                    (head.status.as_u16(), head.header("content-length")),
                    (200, &*bytes.len().to_string()),
                    "{range}"
                );
            }
        }
    }
}

/// Pitfall 26: a range of a cold blob is that range, and never a part that claims to be the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_what_is_not_here_yet() {
    let pki = Pki::new();
    let layers: Vec<Blob> = (0..RANGES.len()).map(|n| Blob::generated(100 + n as u64, 70_000 + n as u64)).collect();
    let registry = Registry::new(HUB);
    let registry =
        layers.iter().fold(registry, |registry, blob| registry.blob("library/alpine", blob.clone())).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for (n, (range, blob)) in RANGES.iter().zip(&layers).enumerate() {
        let (status, part, content_range) = expected(range, usize::try_from(blob.len()).unwrap());
        let client = both(&seawall)[n % 2].clone();
        let reply = client.get(&blob_url(&blob.digest())).range(range).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("content-range")), (status, &*content_range), "{range}");
        assert_eq!(reply.bytes(), &blob.bytes()[part], "{range}");
        assert_eq!(get(&client, &blob_url(&blob.digest())).await.bytes(), &blob.bytes(), "{range}");
        let gets = registry.count(|seen| seen.path.ends_with(&blob.digest()) && seen.method == http::Method::GET);
        assert!(gets <= 3, "{range}: that there is no such part, a part, and the rest");
        assert_eq!(registry.sent(), layers[..=n].iter().map(Blob::len).sum::<u64>(), "{range}: each byte once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_empty_blob_is_a_blob() {
    let pki = Pki::new();
    let digest = sha256(b"");
    assert!(digest.starts_with("sha256:e3b0c442"));
    let registry = Registry::new(HUB).blob("library/alpine", b"").start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let url = blob_url(&digest);
    for client in both(&seawall) {
        for _ in 0..2 {
            let reply = get(&client, &url).await;
            let cache_status = reply.header("cache-status").to_owned();
            has_all_fields(&reply, &digest, "application/octet-stream", 0, &cache_status);
            assert!(reply.status == 200 && reply.bytes().is_empty());
        }
        let head = client.head(&url).send().await.unwrap();
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "0"));
        let part = client.get(&url).range("bytes=0-").send().await.unwrap();
        assert!(matches!(part.status, StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE) && part.bytes().is_empty());
    }
    warm(&seawall.client(), &url).await;
    assert_eq!(registry.gets("blobs"), 1);
}
