//! Upstreams that stall for good, and layers beyond what 32 bits count.

use std::fs::File;

use seawall::access::presence::Presences;
use seawall::oci::manifest::ContentKind;
use seawall::policy::access::Presence;
use seawall::policy::stamp::Stamp;
use seawall::records::Journal;
use seawall::store::index::Index;

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, url};
use crate::flight_breaks::{OVERLAP, ranges};
use crate::harness::*;

/// An upstream that stands still at the same byte each time is asked for the rest, from there, six
/// times; then every client's download breaks off, and what is here is kept for the next attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_stalls_for_good_is_given_up_with_a_break() {
    let (pki, blob) = (Pki::new(), Blob::generated(61, 2 * MIB));
    for chunked in [false, true] {
        let registry = open_registry(&pki, &blob).await;
        if chunked {
            registry.fault(Fault::on("bytes").chunked());
        }
        let gate = registry.gate_blob(&blob.digest(), MIB);
        let toml = "[upstream]\nCA_FILE\nidle_timeout = \"200ms\"";
        let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
        let mut opened = Vec::new();
        for client in h1_and_h2(&seawall) {
            opened.push(client.get(&url(&blob)).open().await.unwrap());
        }
        for mut open in opened {
            let (got, end) = open.until_end().await;
            assert!(got <= MIB && end.is_err(), "{got} bytes, {end:?}");
        }
        landed(&seawall).await;
        let asked = ranges(&registry, "blobs");
        let (rest, again) = (Some(format!("bytes={MIB}-")), Some(format!("bytes={}-", MIB - OVERLAP)));
        assert_eq!(asked, [&[None], vec![rest.clone(); 6].as_slice()].concat(), "{chunked}\n{}", registry.log());
        assert_eq!((files(&seawall, "blobs/sha256").len(), files(&seawall, "partial").len()), (0, 1));
        registry.clear_faults();
        registry.reset_counts();
        gate.open();
        let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(blob.holds(0, reply.bytes()) && reply.bytes().len() as u64 == blob.len());
        assert_eq!(ranges(&registry, "blobs"), [again], "{}", registry.log());
    }
}

/// Writes down that a blob which is here was sent by upstream for a repository.
fn came_from_upstream(data: &std::path::Path, repository: &str, digest: &str, size: u64) {
    let (digest, now) = (digest.parse().unwrap(), std::time::SystemTime::now());
    let (journal, _) = Journal::open(&data.join("index"), now, &mut |_| 0);
    let index = Index::new(journal.clone());
    let presences = Presences::new(index.clone(), journal.clone());
    drop(index.insert(&digest, size, None, now));
    let at = Stamp::at(now);
    let sent = Presence { is_delivered: true, ..Presence::named(None, at) };
    presences.change(&repository.into(), (&digest, ContentKind::Blob), at, |_| Some(sent));
    journal.close();
}

/// 40 GiB that are here: lengths and offsets beyond 32 bits, from the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_layer_of_40_gib_has_its_length_and_its_ranges() {
    let (pki, total) = (Pki::new(), 40 << 30);
    let blob = Blob::generated(62, total).called(&sha256(b"nobody hashes 40 GiB here either"));
    let registry = open_registry(&pki, &blob).await;
    let toml = "[cache]\nmax_size = \"64GiB\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    // A file with nothing in it but its length.
    let path = seawall.data.join("blobs/sha256").join(&blob.digest()[7..]);
    File::create(path).unwrap().set_len(total).unwrap();
    let (_dir, data) = seawall.stop().await;
    came_from_upstream(&data, "ghcr.io/acme/app", &blob.digest(), total);
    let seawall = Seawall::before(&registry).toml(toml).data(&data).start(&pki).await;
    for client in h1_and_h2(&seawall) {
        let head = client.head(&url(&blob)).send().await.unwrap();
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "42949672960"));
        let last = total - 1;
        for (asked, from, to) in [
            ("bytes=4294967290-4294967305".to_owned(), (4 << 30) - 6, (4 << 30) + 9),
            (format!("bytes={}-", total - 100_000), total - 100_000, last),
            ("bytes=-16".to_owned(), total - 16, last),
            (format!("bytes={last}-99999999999999"), last, last),
        ] {
            let part = client.get(&url(&blob)).range(&asked).send().await.unwrap();
            let range = format!("bytes {from}-{to}/{total}");
            assert_eq!((part.status.as_u16(), part.header("content-range")), (206, &*range), "{asked}");
            assert_eq!(part.header("content-length"), (to - from + 1).to_string());
            assert!(
                part.bytes().len() as u64 == to - from + 1 && part.bytes().iter().all(|byte| *byte == 0),
                "{asked}"
            );
        }
        let beyond = client.get(&url(&blob)).range(&format!("bytes={total}-")).send().await.unwrap();
        assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, &*format!("bytes */{total}")));
        let mut open = client.get(&url(&blob)).range("bytes=4294967296-").open().await.unwrap();
        assert_eq!(open.headers["content-length"], (total - (4 << 30)).to_string().as_str());
        open.read_exactly(1 << 20).await.unwrap();
    }
    assert_eq!(registry.sent(), 0, "{}", registry.log());
    assert_eq!(seawall.metric("seawall_cache_bytes"), total as f64);
}

/// Blobs are asked for over HTTP/1.1; who speaks HTTP/2 alone is asked in that, and is not known as
/// broken for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_speaks_h2_alone_is_pulled_from() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).only_h2().start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let pulled = seawall.client().pull("ghcr.io/acme/app:1", Style::Containerd).await;
    assert_eq!(pulled.unwrap_or_else(|e| panic!("{e}\n{}", registry.log())).digest, image.digest());
    assert_eq!(seawall.metric("seawall_upstream_open{"), 0.0);
}
