//! Invariant 12: what one client has fetched takes no more of the disk than comes, and than somebody reads.

use crate::disk::registry_of;
use crate::flight::{MIB, files, h1_and_h2, landed, until, url};
use crate::harness::*;

/// A large blob that is hung up on after its first bytes evicts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_what_nobody_reads_evicts_nothing() {
    let (pki, large) = (Pki::new(), Blob::generated(81, 24 * MIB));
    let warm: Vec<Blob> = (0..6).map(|n| Blob::generated(82 + n, 6 * MIB)).collect();
    let registry = registry_of(&pki, &[warm.as_slice(), std::slice::from_ref(&large)].concat()).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"45MiB\"").start(&pki).await;
    for blob in &warm {
        assert!(blob.holds(0, seawall.client().get(&url(blob)).send().await.unwrap().bytes()));
        landed(&seawall).await;
    }
    let is_warm = || seawall.metric("seawall_cache_entries") == 6.0;
    let gate = registry.gate_blob(&large.digest(), 25_000);
    // By HTTP/2: of HTTP/1.1 it shows at the next write alone.
    let mut hung_up = seawall.client().h2().get(&url(&large)).open().await.unwrap();
    hung_up.read_exactly(1000).await.unwrap();
    assert!(is_warm(), "what has not come evicts nothing");
    drop(hung_up);
    until("seawall knows that it hung up", || seawall.metric("seawall_answers ") == 0.0).await;
    gate.open();
    until("the fill ends where room does", || seawall.metric("seawall_fills") == 0.0).await;
    assert!(is_warm(), "nobody reads it");
    assert_eq!(files(&seawall, "partial").len(), 1, "what came is kept, to go on with");
    let read = seawall.client().get(&url(&large)).send().await.unwrap();
    assert!(large.holds(0, read.bytes()));
    landed(&seawall).await;
    assert!(seawall.metric("seawall_cache_bytes") <= 47185920.0);
    assert!(seawall.metric("seawall_evictions_total") > 0.0, "it is read now");
}

/// Who takes nothing of a blob, or of one that comes, keeps no room of others for long. What it reads
/// after that ends before its time, and is never wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_who_takes_nothing_keeps_nothing() {
    let pki = Pki::new();
    let blobs: Vec<Blob> = (0..3).map(|n| Blob::generated(60 + n, 8 * MIB)).collect();
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"9MiB\"").start(&pki).await;
    let [idle, wanted, last] = &blobs[..] else { panic!() };
    let pull = async |blob: &Blob| {
        assert!(blob.holds(0, seawall.client().get(&url(blob)).send().await.unwrap().bytes()));
        landed(&seawall).await;
    };
    pull(idle).await;
    let mirrored = format!("http://mirror.test/v2/ghcr.io/acme/app/blobs/{}", idle.digest());
    let [h1, h2] = h1_and_h2(&seawall);
    let mut readers = Vec::new();
    for (client, url) in [(h1, url(idle)), (h2, url(idle)), (Client::plain(seawall.addr()), mirrored)] {
        let mut open = client.get(&url).open().await.unwrap();
        assert!(idle.holds(0, &open.read_exactly(1000).await.unwrap()));
        readers.push(open);
    }
    pull(wanted).await;
    assert_eq!(seawall.metric("seawall_evictions_total"), 0.0, "it is read");
    seawall.clock.advance(std::time::Duration::from_secs(31));
    pull(wanted).await;
    assert_eq!(files(&seawall, "blobs/sha256"), [wanted.digest().split_once(':').unwrap().1]);
    for reader in &mut readers {
        assert!(reader.rest().await.is_err(), "it ends before its time");
    }
    pull(last).await;
    pull(idle).await;
}

/// A large blob that has still to come keeps no room of others', and no more than half of the cache for
/// whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_what_is_still_to_come_stops_nobody_elses_caching() {
    let (pki, large) = (Pki::new(), Blob::generated(61, 40 * MIB));
    let [small, other, own] = [(62, 1), (63, 12), (64, 12)].map(|(n, size)| Blob::generated(n, size * MIB));
    let registry = registry_of(&pki, &[large.clone(), small.clone(), other.clone(), own.clone()]).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"64MiB\"").start(&pki).await;
    let gate = registry.gate_blob(&large.digest(), MIB);
    let mut reading = seawall.client().get(&url(&large)).open().await.unwrap();
    reading.read_exactly(1000).await.unwrap();
    let bystander = seawall.client().bound_to([127, 0, 0, 2]);
    for (blob, client, is_kept) in
        [(&small, seawall.client(), true), (&own, seawall.client(), false), (&other, bystander, true)]
    {
        for _ in 0..2 {
            assert!(blob.holds(0, client.get(&url(blob)).send().await.unwrap().bytes()));
            until("it has landed", || seawall.metric("seawall_fills") == 1.0).await;
        }
        let asked = |seen: &Seen| seen.path.ends_with(&blob.digest()) && seen.method == http::Method::GET;
        assert_eq!(registry.count(asked) == 1, is_kept, "{}", registry.log());
    }
    gate.open();
    assert_eq!(reading.rest().await.unwrap().len() as u64, 40 * MIB - 1000);
}

/// What drips in from a registry while nobody reads it gives its place back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_what_drips_for_nobody_ends() {
    let (pki, blob) = (Pki::new(), Blob::generated(65, 4 * MIB));
    let registry = registry_of(&pki, std::slice::from_ref(&blob)).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gates = [100_000, 200_000].map(|at| registry.gate_blob(&blob.digest(), at));
    let mut reading = seawall.client().h2().get(&url(&blob)).open().await.unwrap();
    reading.read_exactly(1000).await.unwrap();
    drop(reading);
    until("seawall knows that it hung up", || seawall.metric("seawall_answers ") == 0.0).await;
    seawall.clock.advance(std::time::Duration::from_secs(31));
    gates[0].open();
    landed(&seawall).await;
    assert_eq!((gates[1].arrivals(), seawall.metric("seawall_transfers ")), (1, 0.0), "it was on its way still");
    gates[1].open();
    assert!(blob.holds(0, seawall.client().get(&url(&blob)).send().await.unwrap().bytes()));
}

/// Three thousand files of a hundred bytes are twelve megabytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_count_as_the_blocks_that_they_take() {
    let pki = Pki::new();
    let blobs: Vec<Blob> = (0..300).map(|n| Blob::new(format!("blob {n:0100}"))).collect();
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"1MiB\"").start(&pki).await;
    for blob in &blobs {
        assert!(blob.holds(0, seawall.client().get(&url(blob)).send().await.unwrap().bytes()));
    }
    landed(&seawall).await;
    let kept = files(&seawall, "blobs/sha256").len();
    assert!((100..=206).contains(&kept), "{kept} files of 5 KiB in 1 MiB");
}

/// What broke off is kept, to go on with: a quarter of the room, the oldest goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_that_break_off_fill_no_disk() {
    let pki = Pki::new();
    let blobs: Vec<Blob> = (0..6).map(|n| Blob::generated(90 + n, 2 * MIB)).collect();
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"8MiB\"").start(&pki).await;
    // It answers what has not been sent with an error: nothing is resumed.
    registry.fault(Fault::on("blobs").when(|seen| seen.header("range").is_some()).error(403, "DENIED"));
    registry.fault(Fault::on("bytes").cut_at(MIB + 500_000));
    for blob in &blobs {
        assert!(seawall.client().get(&url(blob)).send().await.is_ok_and(|reply| reply.body.is_err()));
        landed(&seawall).await;
        seawall.clock.advance(std::time::Duration::from_secs(2));
    }
    let kept = || {
        let partial = std::fs::read_dir(seawall.data.join("partial")).unwrap();
        partial.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    until("a quarter is left, and what came last", || kept() <= 2 * MIB + 500_000).await;
}
