//! What upstream breaks off or lies about, and what becomes of it (invariants 4 and 5, pitfalls 3,
//! 23, 24).

use std::path::Path;

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, until, url};
use crate::harness::*;
use crate::nonsense::GZIP;

/// A registry that sends blobs from a CDN by URLs that work once.
async fn signing_registry(pki: &Pki, blob: &Blob) -> Registry {
    let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).token_auth().cdn("cdn.example.test");
    registry.signed_urls_expire_after(1).start(pki).await
}

/// The `Range` of each request for bytes, in order.
pub(crate) fn ranges(registry: &Registry, kind: &str) -> Vec<Option<String>> {
    let seen = registry.requests().into_iter().filter(|seen| seen.method == "GET" && seen.kind() == kind);
    seen.filter(|seen| [200, 206].contains(&seen.status())).map(|seen| seen.range().map(str::to_owned)).collect()
}

/// Invariants 4 and 8: a broken transfer goes on where it broke, by the registry's URL, since the
/// signed one may have expired; the credential stays at the registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_broken_transfer_goes_on_by_range_through_the_registrys_url() {
    let (pki, blob) = (Pki::new(), Blob::generated(21, 3 * MIB));
    let registry = signing_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.fault(Fault::on("bytes").cut_at(MIB).times(1));
    registry.fault(Fault::on("bytes").cut_at(2 * MIB + 5).times(2));
    let (h1, h2) = (seawall.client(), seawall.client().h2());
    let address = url(&blob);
    let (first, second) = tokio::join!(h1.get(&address).send(), h2.get(&address).send());
    for reply in [first.unwrap(), second.unwrap()] {
        assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    }
    let expected = [None, Some(format!("bytes={MIB}-")), Some(format!("bytes={}-", 2 * MIB + 5))];
    assert_eq!(ranges(&registry, "cdn"), expected, "{}", registry.log());
    let at_cdn = registry.on_host("cdn.example.test");
    assert!(at_cdn.iter().all(|seen| seen.authorization().is_none() && seen.status() != 403), "{}", registry.log());
    landed(&seawall).await;
    assert_eq!((files(&seawall, "blobs/sha256").len(), files(&seawall, "partial").len()), (1, 0));
}

/// It gives up only when attempts in a row bring nothing: a transfer that breaks every 100 KiB
/// arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_again_and_again_arrives_as_long_as_it_gets_on() {
    let (pki, blob) = (Pki::new(), Blob::generated(22, MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.fault(Fault::on("bytes").cut_after(100 << 10));
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, reply.bytes()));
    // What the registry had not sent yet when it broke off, on a busy machine, is asked for once more.
    let gets = registry.gets("blobs");
    assert!((11..=13).contains(&gets), "{gets}: {}", registry.log());
}

/// Invariant 5: upstream never goes on. What came stays for the next attempt, and nobody takes it
/// for the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_transfer_that_is_given_up_never_ends_cleanly_and_is_gone_on_with() {
    let (pki, blob) = (Pki::new(), Blob::generated(23, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.fault(Fault::on("bytes").cut_at(MIB));
    let mut opened = Vec::new();
    for client in h1_and_h2(&seawall) {
        opened.push(client.get(&url(&blob)).open().await.unwrap());
    }
    for mut open in opened {
        let (got, end) = open.until_end().await;
        assert!(got <= MIB && end.is_err(), "{got} bytes, {end:?}");
    }
    landed(&seawall).await;
    assert_eq!((files(&seawall, "blobs/sha256").len(), files(&seawall, "partial").len()), (0, 1));
    registry.clear_faults();
    registry.reset_counts();
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, reply.bytes()));
    assert_eq!(ranges(&registry, "blobs"), [Some(format!("bytes={}-", MIB - OVERLAP))]);
}

/// Upstream has no ranges: what is here is skipped in what it sends again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_without_ranges_sends_all_again_and_it_is_still_right() {
    let (pki, blob) = (Pki::new(), Blob::generated(24, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    registry.fault(Fault::on("bytes").no_range());
    registry.fault(Fault::on("bytes").cut_at(MIB).times(1));
    let seawall = Seawall::before(&registry).start(&pki).await;
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    assert_eq!(registry.gets("blobs"), 2);
}

/// Lies about a body: each is an error to the client, or the right bytes; never a whole body that
/// is wrong; nothing is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_lies_about_length_and_encoding_are_never_believed() {
    let (pki, blob) = (Pki::new(), Blob::generated(25, 300_000));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for (lie, fault) in [
        ("too short a length", Fault::on("bytes").claim_length(-1000)),
        ("too long a length", Fault::on("bytes").claim_length(1000)),
        ("nothing at all", Fault::on("bytes").empty()),
        (
            "compressed",
            Fault::on("bytes").answers(200, "application/octet-stream", GZIP).set("content-encoding", "gzip"),
        ),
        ("compressed, it says", Fault::on("bytes").set("content-encoding", "gzip")),
        ("cut, and no length", Fault::on("bytes").no_length().cut_at(100_000)),
        ("a range that begins elsewhere", Fault::on("bytes").cut_after(1000).shift_range(7)),
    ] {
        registry.fault(fault);
        for client in h1_and_h2(&seawall) {
            match client.get(&url(&blob)).send().await {
                Ok(reply) if reply.status == 200 => {
                    let is_right = |body: &bytes::Bytes| body.len() as u64 == blob.len() && blob.holds(0, body);
                    assert!(reply.body.as_ref().map_or(true, is_right), "{lie}: {:?}", reply.headers);
                }
                Ok(reply) => assert_eq!(reply.status, 502, "{lie}"),
                Err(_) => {}
            }
        }
        landed(&seawall).await;
        for kept in files(&seawall, "blobs/sha256") {
            let path = seawall.data.join("blobs/sha256").join(kept);
            assert_eq!(std::fs::read(path).unwrap(), blob.bytes(), "{lie}");
        }
        registry.clear_faults();
        let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(blob.holds(0, reply.bytes()) && reply.bytes().len() as u64 == blob.len(), "after {lie}");
        landed(&seawall).await;
        std::fs::remove_file(seawall.data.join("blobs/sha256").join(&blob.digest()[7..])).unwrap();
        assert!(files(&seawall, "partial").is_empty(), "after {lie}");
    }
}

/// No part of what may be packed is for anybody before its digest is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_part_of_what_says_that_it_is_packed_is_verified() {
    for is_packed in [true, false] {
        let (pki, blob) = (Pki::new(), Blob::generated(27, 300_000));
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let packed = Fault::on("bytes").answers(200, "application/octet-stream", vec![b'x'; 300_000]);
        let fault = if is_packed { packed } else { Fault::on("bytes").no_range() };
        registry.fault(fault.set("content-encoding", "gzip"));
        for range in ["bytes=1000-1999", "bytes=299000-", "bytes=-10"] {
            let reply = seawall.client().get(&url(&blob)).header("range", range).send().await.unwrap();
            let said = (reply.status.as_u16(), reply.header("content-encoding"));
            assert_eq!(said, (if is_packed { 502 } else { 206 }, ""), "{range}");
            let start = match range {
                "bytes=1000-1999" => 1000,
                "bytes=299000-" => 299_000,
                _ => 299_990,
            };
            assert!(is_packed || blob.holds(start, reply.bytes()), "{range}");
        }
    }
}

/// A body without a length is a body, whether its end is said by chunks or by the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_is_streamed_and_verified() {
    for fault in [Fault::on("bytes").chunked(), Fault::on("bytes").no_length()] {
        let (pki, blob) = (Pki::new(), Blob::generated(26, 2 * MIB));
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        registry.fault(fault);
        let gate = registry.gate_blob(&blob.digest(), MIB);
        let mut opened = Vec::new();
        for client in h1_and_h2(&seawall) {
            let mut open = client.get(&url(&blob)).open().await.unwrap();
            open.read_exactly(100_000).await.unwrap();
            opened.push(open);
        }
        gate.open();
        for mut open in opened {
            let rest = open.rest().await.unwrap();
            assert!(rest.len() as u64 == blob.len() - 100_000 && blob.holds(100_000, &rest));
        }
        landed(&seawall).await;
        let hit = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert_eq!((hit.header("cache-status"), hit.header("content-length")), ("seawall; hit", "2097152"));
        assert_eq!(registry.gets("blobs"), 1);
    }
}

/// Upstream goes away in the middle of a body and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_goes_away_and_comes_back_in_the_middle_of_a_body() {
    let (pki, blob) = (Pki::new(), Blob::generated(27, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut open = seawall.client().h2().get(&url(&blob)).open().await.unwrap();
    assert!(blob.holds(0, &open.read_exactly(1 << 20).await.unwrap()));
    let asked = || seawall.metric("seawall_upstream_requests_total");
    let before = asked();
    registry.down();
    until("it is asked in vain", || asked() > before).await;
    registry.up();
    gate.open();
    assert!(blob.holds(MIB, &open.rest().await.unwrap()));
    assert_eq!(ranges(&registry, "blobs"), [None, Some(format!("bytes={MIB}-"))]);
}

/// Pitfall 23: silence ends a transfer, and it is taken up; how long all of it takes does not
/// matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_falls_silent_is_taken_up() {
    let (pki, blob) = (Pki::new(), Blob::generated(33, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).toml("[upstream]\nCA_FILE\nidle_timeout = \"300ms\"").start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("bytes").hold_body(MIB, &gate).times(1));
    registry.fault(Fault::on("bytes").hold_body(MIB + 1, &gate).times(2));
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, reply.bytes()) && reply.bytes().len() as u64 == blob.len());
    let expected = [None, Some(format!("bytes={MIB}-")), Some(format!("bytes={}-", MIB + 1))];
    assert_eq!(ranges(&registry, "blobs"), expected, "{}", registry.log());
}

/// Storage that a registry redirects to names no digest: who resumes gets so much again, for proof.
pub(crate) const OVERLAP: u64 = 64 << 10;

/// The first bytes of a blob in a data directory, as a fill leaves them.
fn left_behind(data: &Path, digest: &str, bytes: &[u8]) {
    let store = seawall::store::Store::open(data).unwrap();
    let mut partial = store.partial(&digest.parse().unwrap()).unwrap();
    partial.write(&[(0, bytes::Bytes::copy_from_slice(bytes))]).unwrap();
    partial.note().unwrap();
}

/// What was written is noted.
pub(crate) async fn noted(partial: &Path) {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let note = seawall::fs::with_suffix(partial, ".extents");
    until("that is noted", || modified(&note) >= modified(partial)).await;
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Invariant 4: what a kill leaves behind is gone on with, by one request for the rest. The kill is
/// a copy of the data directory in the middle of the fill, which the next seawall starts from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_fill_is_gone_on_with_after_a_kill() {
    let (pki, blob) = (Pki::new(), Blob::generated(28, 3 * MIB));
    let registry = signing_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for at in [1, 2 * MIB, blob.len() - 1] {
        let gate = registry.gate_blob(&blob.digest(), at);
        let open = seawall.client().get(&url(&blob)).open().await.unwrap();
        gate.reached().await;
        let partial = seawall.data.join("partial").join(blob.digest().replace(':', "-"));
        until("all of it is written", || std::fs::metadata(&partial).unwrap().len() == at).await;
        noted(&partial).await;
        let dir = tempfile::tempdir().unwrap();
        copy(&seawall.data, dir.path());
        registry.clear_faults();
        registry.reset_counts();
        let again = Seawall::before(&registry).data(dir.path()).start(&pki).await;
        let reply = again.client().get(&url(&blob)).send().await.unwrap();
        assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
        // The end of it comes once more, and shows that it is the same; one byte shows nothing.
        let expected = (at > OVERLAP).then(|| format!("bytes={}-", at - OVERLAP));
        assert_eq!(ranges(&registry, "cdn"), [expected], "{}", registry.log());
        // The one that was "killed" gets another end, so that the next round begins anew.
        registry.fault(Fault::on("bytes").corrupt(0));
        gate.open();
        drop(open);
        landed(&seawall).await;
        for dir in ["partial", "blobs/sha256"] {
            files(&seawall, dir)
                .iter()
                .for_each(|name| std::fs::remove_file(seawall.data.join(dir).join(name)).unwrap());
        }
        registry.clear_faults();
    }
}

/// A kill between the last byte and the move: all of it is here, and it is not fetched again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_that_is_whole_is_not_fetched_again() {
    let (pki, blob) = (Pki::new(), Blob::generated(29, 2 * MIB));
    for ranges in [true, false] {
        let registry = open_registry(&pki, &blob).await;
        if !ranges {
            registry.fault(Fault::on("bytes").no_range());
        }
        let dir = tempfile::tempdir().unwrap();
        left_behind(dir.path(), &blob.digest(), &blob.bytes());
        let seawall = Seawall::before(&registry).data(dir.path()).start(&pki).await;
        let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
        assert!(!ranges || registry.sent() <= OVERLAP, "{} bytes came again\n{}", registry.sent(), registry.log());
    }
}

/// A partial that is wrong or too long, by whatever came to pass: nobody gets a whole wrong body, and the
/// attempt after it is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_that_is_wrong_does_not_last() {
    let (pki, blob) = (Pki::new(), Blob::generated(30, MIB));
    let wrong = |len: usize| vec![0; len];
    let too_long = [blob.bytes().to_vec(), vec![1; 1000]].concat();
    for leftover in [wrong(1000), wrong(1 << 20), wrong(2 << 20), too_long] {
        for ranges in [true, false] {
            let registry = open_registry(&pki, &blob).await;
            if !ranges {
                registry.fault(Fault::on("bytes").no_range());
            }
            let dir = tempfile::tempdir().unwrap();
            left_behind(dir.path(), &blob.digest(), &leftover);
            let seawall = Seawall::before(&registry).data(dir.path()).start(&pki).await;
            let case = format!("{} bytes, ranges {ranges}", leftover.len());
            if let Ok(bytes) = seawall.client().get(&url(&blob)).send().await.unwrap().body {
                assert!(bytes.len() as u64 == blob.len() && blob.holds(0, &bytes), "{case}");
            }
            landed(&seawall).await;
            let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
            assert!(reply.body.as_ref().is_ok_and(|bytes| blob.holds(0, bytes)), "{case}: {reply:?}");
        }
    }
}

/// Invariant 4: upstream went away, seawall was stopped and started, upstream came back: one
/// request, for the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_fill_is_gone_on_with_after_a_restart() {
    let (pki, blob) = (Pki::new(), Blob::generated(31, 3 * MIB));
    let registry = signing_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), 2 * MIB);
    let mut open = seawall.client().get(&url(&blob)).open().await.unwrap();
    open.read_exactly(2 << 20).await.unwrap();
    registry.down();
    let seawall = seawall.restart(&pki).await;
    assert!(open.rest().await.is_err());
    registry.clear_faults();
    registry.reset_counts();
    registry.up();
    drop(gate);
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, reply.bytes()));
    assert_eq!(ranges(&registry, "cdn"), [Some(format!("bytes={}-", 2 * MIB - OVERLAP))], "{}", registry.log());
}

/// Invariant 4: the credential that began a fill is no longer good when the transfer has to be
/// taken up. Others go on with theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_fill_whose_credential_ended_breaks_nobody_elses_download() {
    let (pki, blob) = (Pki::new(), Blob::generated(32, 2 * MIB));
    let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).user("alice", "a").user("bob", "b");
    let registry = registry.private("acme/app", &["alice", "bob"]).basic_auth().start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("bytes").hold_body(MIB, &gate).cut_at(MIB).times(1));
    let (client, address) = (seawall.client(), url(&blob));
    let mut alice = client.get(&address).basic("alice", "a").open().await.unwrap();
    let mut bob = client.get(&address).basic("bob", "b").open().await.unwrap();
    gate.reached().await;
    registry.make_private("acme/app", &["bob"]);
    gate.open();
    let bytes = bob.rest().await.unwrap_or_else(|e| panic!("{e}\n{}", registry.log()));
    assert!(blob.holds(0, &bytes) && bytes.len() as u64 == blob.len());
    let (got, end) = alice.until_end().await;
    assert!(got < blob.len() && end.is_err(), "{got} {end:?}");
}

/// Pitfall 29, the other way round: who has no earlier yes waits for a slow upstream, though the
/// bytes are here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_yes_is_waited_for_where_there_is_none_to_fall_back_on() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).image("acme/other:1", image.clone());
    let registry = registry.start(&pki).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"50ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let client = seawall.client();
    client.pull("ghcr.io/acme/app:1", Style::Containerd).await.unwrap();
    landed(&seawall).await;
    let blob = &image.layers()[1];
    let other = format!("https://ghcr.io/v2/acme/other/blobs/{}", blob.digest());
    let gate = Gate::new();
    registry.fault(Fault::on("blobs").method(http::Method::HEAD).hold_head(&gate));
    let mut asking = std::pin::pin!(client.get(&other).send());
    // Far beyond the deadline; a slow machine only makes it farther.
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut asking).await;
    assert!(early.is_err(), "answered before upstream did: {early:?}");
    gate.open();
    assert!(blob.holds(0, asking.await.unwrap().bytes()));
    assert_eq!(registry.gets("blobs"), image.blobs().len());
}
