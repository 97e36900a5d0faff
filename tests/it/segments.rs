//! One blob over several connections (invariants 4 and 5): gates hold each of them, what reached upstream is
//! counted.

use futures_util::future::join_all;

use crate::flight::{MIB, files, h1_and_h2, landed, open_registry, until, url};
use crate::flight_breaks::{OVERLAP, copy, noted};
use crate::harness::*;

const STEP: u64 = 4 << 10;

fn part(from: u64, len: u64) -> String {
    format!("bytes={from}-{}", from + len - 1)
}

/// Gates on every connection that begins behind the first byte, after so many bytes of it.
fn gate_parts(registry: &Registry, starts: &[u64], after: u64) -> Vec<Gate> {
    let gate = |start: &u64| {
        let (gate, asked) = (Gate::new(), format!("bytes={start}-"));
        let is_asked = move |seen: &Seen| seen.range().is_some_and(|range| range.starts_with(&asked));
        registry.fault(Fault::on("bytes").when(is_asked).hold_body(start + after, &gate));
        gate
    };
    starts.iter().map(gate).collect()
}

/// containerd asks so for a layer. Nobody asks for the whole; once half of it is here all comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_ranges_come_over_as_many_connections_and_every_byte_once() {
    let (pki, blob) = (Pki::new(), Blob::generated(41, 8 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let starts = [0, 2 * MIB, 4 * MIB, 6 * MIB];
    let gates = gate_parts(&registry, &starts, MIB);
    let client = seawall.client().h2();
    let asking = starts.map(|start| {
        let (client, address) = (client.clone(), url(&blob));
        async move { client.get(&address).range(&part(start, 2 * MIB)).send().await.unwrap() }
    });
    let opening = async {
        // All at once: none waits for another.
        join_all(gates.iter().map(Gate::reached)).await;
        gates.iter().for_each(Gate::open);
    };
    let (replies, ()) = tokio::join!(join_all(asking), opening);
    for (reply, start) in replies.iter().zip(starts) {
        assert!(reply.status == 206 && reply.bytes().len() as u64 == 2 * MIB && blob.holds(start, reply.bytes()));
    }
    landed(&seawall).await;
    assert_eq!((registry.gets("blobs"), registry.sent()), (4, blob.len()), "{}", registry.log());
    let hit = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, hit.bytes()) && hit.header("cache-status") == "seawall; hit");
}

/// Lazy readers ask for the end, then for a few pieces. What was brought for one is there for the next, also
/// after a restart, and when all is wanted the rest comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_asked_for_comes() {
    let (pki, blob) = (Pki::new(), Blob::generated(42, 32 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mut sent = 0;
    for (range, from, len, comes) in [
        ("bytes=-100".to_owned(), blob.len() - 100, 100, STEP),
        (part(5 * MIB, 10), 5 * MIB, 10, STEP),
        (part(5 * MIB + 20, 10), 5 * MIB + 20, 10, 0),
        (part(5 * MIB + 10, STEP), 5 * MIB + 10, STEP, STEP),
        (part(20 * MIB - 1, 2), 20 * MIB - 1, 2, 2 * STEP),
    ] {
        for client in h1_and_h2(&seawall) {
            let reply = client.get(&url(&blob)).range(&range).send().await.unwrap();
            assert!(reply.status == 206 && reply.bytes().len() as u64 == len && blob.holds(from, reply.bytes()));
        }
        sent += comes;
        assert_eq!(registry.sent(), sent, "{range}\n{}", registry.log());
    }
    assert!(files(&seawall, "blobs/sha256").is_empty());
    let seawall = seawall.restart(&pki).await;
    let again = seawall.client().get(&url(&blob)).range(&part(5 * MIB, 10)).send().await.unwrap();
    assert!(blob.holds(5 * MIB, again.bytes()));
    // Who is another asks once more, and gets so much again for proof.
    assert!(registry.sent() - sent <= OVERLAP, "{} of {sent}\n{}", registry.sent(), registry.log());
    let sent = registry.sent();
    let whole = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, whole.bytes()) && whole.bytes().len() as u64 == blob.len());
    landed(&seawall).await;
    // To leave out what is so small costs more than to get it again.
    assert!((blob.len() - 5 * STEP..=blob.len()).contains(&(registry.sent() - sent)), "{}", registry.log());
    assert_eq!((files(&seawall, "blobs/sha256").len(), files(&seawall, "partial").len()), (1, 0));
}

/// Invariant 5: a wrong byte in what any connection brings, and nobody who asked for all gets it cleanly,
/// and nothing is kept. The next attempt has one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_wrong_byte_in_any_segment_ends_all() {
    let (pki, blob) = (Pki::new(), Blob::generated(43, 16 * MIB));
    for wrong in [MIB, 9 * MIB, blob.len() - 1] {
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let gate = registry.gate_blob(&blob.digest(), 2 * MIB);
        registry.fault(Fault::on("bytes").corrupt(wrong));
        let mut opened = Vec::new();
        for client in h1_and_h2(&seawall) {
            opened.push(client.get(&url(&blob)).open().await.unwrap());
            opened.push(client.get(&url(&blob)).range("bytes=0-").open().await.unwrap());
            let all = format!("bytes={}-,0-{}", 8 * MIB, 8 * MIB - 1);
            opened.push(client.get(&url(&blob)).range(&all).open().await.unwrap());
        }
        gate.reached().await;
        let far = seawall.client().get(&url(&blob)).range(&part(8 * MIB, 10)).send().await.unwrap();
        assert!(far.status == 206 && blob.holds(8 * MIB, far.bytes()));
        gate.open();
        for open in &mut opened {
            let (_, end) = open.until_end().await;
            assert!(end.is_err(), "wrong at {wrong}");
        }
        landed(&seawall).await;
        let left = std::fs::read_dir(seawall.data.join("partial")).unwrap().count();
        assert_eq!((files(&seawall, "blobs/sha256").len(), left), (0, 0));
        registry.clear_faults();
        registry.reset_counts();
        let good = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(blob.holds(0, good.bytes()));
        assert_eq!((registry.gets("blobs"), registry.sent()), (1, blob.len()), "{}", registry.log());
    }
}

/// What becomes of an added connection says nothing of its host, nor of who asked; and who waited for it is
/// served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_or_strange_added_connection_is_done_without() {
    let (pki, blob) = (Pki::new(), Blob::generated(44, 6 * MIB));
    let on_parts = || Fault::on("bytes").when(|seen| seen.range().is_some());
    for (what, fault) in [
        ("403", on_parts().error(403, "DENIED")),
        ("401", on_parts().error(401, "UNAUTHORIZED")),
        ("429", on_parts().error(429, "TOOMANYREQUESTS")),
        ("503", on_parts().error(503, "UNAVAILABLE")),
        ("hung up", on_parts().hang_up()),
        ("all again", on_parts().no_range()),
        ("another place", on_parts().shift_range(7)),
        ("another tag", on_parts().set("etag", "\"other\"")),
        ("cut at once", on_parts().cut_after(0)),
    ] {
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let first = Gate::new();
        registry.fault(Fault::on("bytes").when(|seen| seen.range().is_none()).hold_body(MIB, &first));
        registry.fault(fault);
        let mut whole = seawall.client().get(&url(&blob)).open().await.unwrap();
        first.reached().await;
        let mut far = seawall.client().get(&url(&blob)).range(&part(4 * MIB, 10)).open().await.unwrap();
        until("another was tried", || registry.gets("blobs") >= 2).await;
        first.open();
        assert!(blob.holds(0, &whole.rest().await.unwrap()), "{what}");
        assert!(blob.holds(4 * MIB, &far.rest().await.unwrap()), "{what}");
        landed(&seawall).await;
        assert_eq!(files(&seawall, "blobs/sha256").len(), 1, "{what}");
        registry.clear_faults();
        let other = Blob::generated(45, 1000);
        registry.add_blob("acme/app", other.clone());
        let next = seawall.client().get(&url(&other)).send().await.unwrap();
        assert!(next.status == 200 && blob.len() > 0, "{what}: the host is asked as before");
    }
}

/// A redirect's target serves the whole fill; where its signature has expired, the registry is asked once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_serves_a_whole_fill_as_long_as_it_is_good() {
    let (pki, blob) = (Pki::new(), Blob::generated(46, 16 * MIB));
    for uses in [1, 100] {
        let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).token_auth().cdn("cdn.example.test");
        let registry = registry.signed_urls_expire_after(uses).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let gate = registry.gate_blob(&blob.digest(), MIB);
        let mut whole = seawall.client().get(&url(&blob)).open().await.unwrap();
        gate.reached().await;
        let redirects =
            || registry.count(|seen| seen.kind() == "blobs" && seen.method == "GET" && seen.status() == 307);
        let before = redirects();
        for far in [6 * MIB, 11 * MIB] {
            let reply = seawall.client().get(&url(&blob)).range(&part(far, 10)).send().await.unwrap();
            assert!(blob.holds(far, reply.bytes()), "{far}");
        }
        if uses == 100 {
            assert_eq!(redirects(), before, "{}", registry.log());
        }
        gate.open();
        assert!(blob.holds(0, &whole.rest().await.unwrap()));
        let at_cdn = registry.on_host("cdn.example.test");
        assert!(at_cdn.iter().all(|seen| seen.authorization().is_none()), "{}", registry.log());
    }
}

/// Invariant 4: what a kill leaves, with holes in it, is gone on with: what is here does not come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_fill_with_holes_is_gone_on_with_after_a_kill() {
    let (pki, blob) = (Pki::new(), Blob::generated(47, 16 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let first = registry.gate_blob(&blob.digest(), 2 * MIB);
    let second = gate_parts(&registry, &[8 * MIB], 3 * MIB).remove(0);
    let _whole = seawall.client().get(&url(&blob)).open().await.unwrap();
    let _far = seawall.client().get(&url(&blob)).range(&part(8 * MIB, 4 * MIB)).open().await.unwrap();
    first.reached().await;
    second.reached().await;
    let partial = seawall.data.join("partial").join(blob.digest().replace(':', "-"));
    until("all of it is written", || std::fs::metadata(&partial).unwrap().len() == 11 * MIB).await;
    noted(&partial).await;
    let dir = tempfile::tempdir().unwrap();
    copy(&seawall.data, dir.path());
    registry.clear_faults();
    registry.reset_counts();
    let again = Seawall::before(&registry).data(dir.path()).start(&pki).await;
    let reply = again.client().get(&url(&blob)).send().await.unwrap();
    assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    landed(&again).await;
    let missing = blob.len() - 5 * MIB;
    assert!((missing..=missing + 2 * OVERLAP + 8 * MIB).contains(&registry.sent()), "{}", registry.log());
    assert_eq!((files(&again, "blobs/sha256").len(), files(&again, "partial").len()), (1, 0));
}

/// Registries that are bad at parts: what was asked for comes all the same, with all of the blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_bad_at_parts_is_asked_for_the_whole() {
    let (pki, blob) = (Pki::new(), Blob::generated(48, 3 * MIB));
    let on_parts = || Fault::on("bytes").when(|seen| seen.range().is_some());
    for (what, fault) in [
        ("400", on_parts().error(400, "UNSUPPORTED")),
        ("501", on_parts().error(501, "UNSUPPORTED")),
        ("no length", on_parts().set("content-range", "bytes 0-4095/*")),
        ("another part", on_parts().shift_range(7)),
        ("a length that no file has", on_parts().set("content-range", "bytes 0-4095/18446744073709551614")),
    ] {
        let all = "bytes=-18446744073709551615".to_owned();
        for (range, from) in [("bytes=-100".to_owned(), blob.len() - 100), (part(MIB, 100), MIB), (all, 0)] {
            let registry = open_registry(&pki, &blob).await;
            let seawall = Seawall::before(&registry).start(&pki).await;
            registry.fault(fault.clone());
            let reply = seawall.client().get(&url(&blob)).range(&range).send().await.unwrap();
            assert_eq!(reply.status, 206, "{what}: {range}");
            let bytes = reply.body.unwrap_or_else(|error| panic!("{what}: {range}: {error}\n{}", registry.log()));
            assert!(blob.holds(from, &bytes), "{what}: {range}");
            landed(&seawall).await;
            assert_eq!(files(&seawall, "blobs/sha256").len(), 1, "{what}: {range}");
        }
    }
}

/// The first connection breaks while another brings bytes, and upstream has forgotten its ranges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_an_upstream_that_loses_its_ranges_loses_no_byte() {
    for seed in 0..6 {
        let (pki, blob) = (Pki::new(), Blob::generated(49 + seed, 16 * MIB));
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let gate = Gate::new();
        let at = MIB + seed * 100_000;
        registry.fault(Fault::on("bytes").when(|seen| seen.range().is_none()).hold_body(at, &gate).cut_at(at).times(1));
        let is_rest = move |seen: &Seen| seen.range().is_some_and(|range| range.starts_with(&format!("bytes={at}-")));
        registry.fault(Fault::on("bytes").when(is_rest).no_range());
        let mut whole = seawall.client().get(&url(&blob)).open().await.unwrap();
        gate.reached().await;
        let mut far = seawall.client().get(&url(&blob)).range(&part(8 * MIB, 4 * MIB)).open().await.unwrap();
        assert!(blob.holds(8 * MIB, &far.read_exactly(1000).await.unwrap()));
        gate.open();
        let (whole, far) = tokio::join!(whole.rest(), far.rest());
        assert!(blob.holds(0, &whole.unwrap()) && blob.holds(8 * MIB + 1000, &far.unwrap()), "{seed}");
        landed(&seawall).await;
        assert_eq!(files(&seawall, "blobs/sha256").len(), 1);
    }
}

/// A small random number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Whatever is asked for in whatever order, whatever breaks, is wrong, or is killed: what a reader of all saw
/// to a clean end is the blob, what a reader of a part saw is that part where nothing was wrong, and in the
/// end the file is the blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_model_of_what_readers_see() {
    let seeds = std::env::var("SEGMENT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    for seed in 1..=seeds {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let (pki, blob) = (Pki::new(), Blob::generated(seed, 1 + dice.below(6 * MIB)));
        let registry = open_registry(&pki, &blob).await;
        let mut seawall = Seawall::before(&registry).start(&pki).await;
        for round in 0..4 {
            let mut is_wrong = false;
            registry.clear_faults();
            for _ in 0..dice.below(4) {
                let fault = Fault::on("bytes").times(1 + usize::try_from(dice.below(3)).unwrap());
                registry.fault(match dice.below(5) {
                    0 => fault.cut_after(dice.below(blob.len())),
                    1 => fault.cut_at(dice.below(blob.len())),
                    2 => fault.when(|seen| seen.range().is_some()).error(503, "UNAVAILABLE"),
                    3 => fault.when(|seen| seen.range().is_some()).no_range(),
                    _ => {
                        is_wrong = true;
                        fault.corrupt(dice.below(blob.len()))
                    }
                });
            }
            let asked: Vec<Option<(u64, u64)>> = (0..1 + dice.below(6))
                .map(|_| {
                    let from = dice.below(blob.len());
                    (dice.below(4) > 0).then(|| (from, 1 + dice.below(blob.len() - from)))
                })
                .collect();
            let clients: Vec<Client> = h1_and_h2(&seawall).into();
            let asking = asked.iter().enumerate().map(|(n, asked)| {
                let request = clients[n % 2].get(&url(&blob));
                match asked {
                    Some((from, len)) => request.range(&part(*from, *len)).send(),
                    None => request.send(),
                }
            });
            for (reply, asked) in join_all(asking).await.into_iter().zip(&asked) {
                let Ok(reply) = reply else { continue };
                let Ok(bytes) = &reply.body else { continue };
                let (from, len) = asked.unwrap_or((0, blob.len()));
                let is_all = len == blob.len();
                let case = format!("seed {seed}, round {round}: {asked:?} of {}, {}", blob.len(), reply.status);
                match reply.status.as_u16() {
                    200 | 206 if is_all || !is_wrong => {
                        assert!(bytes.len() as u64 == len && blob.holds(from, bytes), "{case}");
                    }
                    206 => assert_eq!(bytes.len() as u64, len, "{case}"),
                    status => assert!(status >= 500 || status == 429, "{case}"),
                }
            }
            if dice.below(3) == 0 {
                seawall = seawall.restart(&pki).await;
            }
        }
        registry.clear_faults();
        // Wrong bytes of before may have been taken for a start once more.
        let first = seawall.client().get(&url(&blob)).send().await.unwrap().body;
        assert!(first.map_or(true, |bytes| bytes.len() as u64 == blob.len() && blob.holds(0, &bytes)), "seed {seed}");
        let last = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(last.bytes().len() as u64 == blob.len() && blob.holds(0, last.bytes()), "seed {seed}");
        landed(&seawall).await;
        let kept = std::fs::read(seawall.data.join("blobs/sha256").join(&blob.digest()[7..])).unwrap();
        assert!(kept == blob.bytes(), "seed {seed}");
    }
}
