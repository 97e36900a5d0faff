//! One fill for all who want a blob (invariants 3 to 5): what reached upstream is counted, gates
//! hold it meanwhile.

use futures_util::future::join_all;

use crate::harness::*;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn url(blob: &Blob) -> String {
    format!("https://ghcr.io/v2/acme/app/blobs/{}", blob.digest())
}

/// Registry `ghcr.io` that opens `acme/app` to everybody and answers blobs itself, so that
/// `gets("blobs")` counts transfers.
pub(crate) async fn open_registry(pki: &Pki, blob: &Blob) -> Registry {
    Registry::new("ghcr.io").blob("acme/app", blob.clone()).start(pki).await
}

pub(crate) fn h1_and_h2(seawall: &Seawall) -> [Client; 2] {
    [seawall.client(), seawall.client().h2()]
}

/// The names of the files in a directory of the data directory, without notes beside them.
pub(crate) fn files(seawall: &Seawall, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(seawall.data.join(dir)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.contains(".extents")).collect()
}

/// A barrier for what the registry does not see.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::faults::PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A blob is whole at its clients before it is at its place.
pub(crate) async fn landed(seawall: &Seawall) {
    until("all fills end", || seawall.metric("seawall_fills") == 0.0).await;
}

/// Pitfalls 20 and 21. Half of the clients speak h1, half h2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_of_a_cold_blob_cost_one_get_and_have_its_bytes_while_it_comes() {
    let (pki, blob) = (Pki::new(), Blob::generated(1, 3 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), 2 * MIB);
    let clients: Vec<Client> = (0..50).flat_map(|_| h1_and_h2(&seawall)).collect();
    let mut opened = join_all(clients.iter().map(async |client| {
        let mut open = client.get(&url(&blob)).open().await.unwrap();
        assert_eq!(open.headers["content-length"], blob.len().to_string().as_str());
        let start = open.read_exactly(2 << 20).await.unwrap();
        assert!(blob.holds(0, &start));
        open
    }))
    .await;
    assert_eq!((registry.gets("blobs"), gate.arrivals()), (1, 1), "{}", registry.log());
    assert_eq!(seawall.metric("seawall_fills"), 1.0);
    gate.open();
    for rest in join_all(opened.iter_mut().map(|open| open.rest())).await {
        let rest = rest.unwrap();
        assert!(rest.len() as u64 == MIB && blob.holds(2 * MIB, &rest));
    }
    assert_eq!(registry.gets("blobs"), 1, "{}", registry.log());
    assert!(registry.heads("blobs") <= 1, "one question for all\n{}", registry.log());
    assert_eq!(registry.sent(), blob.len());
}

/// Invariant 3: the index knows the blob before the flight lands, and joining looks again: nobody
/// ever finds it in neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_3_whoever_comes_while_a_fill_lands_finds_it() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client().h2();
    let connection = client.connect("https://ghcr.io/").await.unwrap();
    for seed in 0..40 {
        let blob = Blob::generated(seed, 1000 + seed);
        registry.add_blob("acme/app", blob.clone());
        let waves = join_all((0..12).map(async |turn| {
            for _ in 0..turn {
                tokio::task::yield_now().await;
            }
            connection.request(http::Method::GET, &url(&blob)).send().await.unwrap()
        }))
        .await;
        for reply in waves {
            assert!(blob.holds(0, reply.bytes()) && reply.bytes().len() as u64 == blob.len());
        }
    }
    assert_eq!(registry.gets("blobs"), 40, "{}", registry.log());
}

/// Invariant 4, pitfall 22: a fill does not die with the client that began it, nor with all of
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_fill_dies_with_nobody() {
    for others in [0, 1] {
        let (pki, blob) = (Pki::new(), Blob::generated(2, 2 * MIB));
        let registry = open_registry(&pki, &blob).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        for client in h1_and_h2(&seawall) {
            registry.clear_faults();
            let gate = registry.gate_blob(&blob.digest(), MIB);
            let mut first = client.get(&url(&blob)).open().await.unwrap();
            first.read_exactly(1000).await.unwrap();
            let mut following = Vec::new();
            for _ in 0..others {
                following.push(seawall.client().get(&url(&blob)).open().await.unwrap());
            }
            drop(first);
            gate.open();
            for open in &mut following {
                assert!(blob.holds(0, &open.rest().await.unwrap()));
            }
            registry.until(|registry| registry.requests().iter().any(|seen| seen.end() == Some(End::Whole))).await;
            let later = client.get(&url(&blob)).send().await.unwrap();
            assert!(blob.holds(0, later.bytes()) && later.bytes().len() as u64 == blob.len());
            assert_eq!(registry.gets("blobs"), 1, "{}", registry.log());
        }
    }
}

/// Invariant 4, pitfall 22: a reader that does not read holds neither the fill nor the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_4_a_slow_reader_holds_nobody() {
    let (pki, blob) = (Pki::new(), Blob::generated(3, 24 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mut slow = Vec::new();
    for client in h1_and_h2(&seawall) {
        slow.push(client.get(&url(&blob)).open().await.unwrap());
    }
    for client in h1_and_h2(&seawall) {
        let reply = client.get(&url(&blob)).send().await.unwrap();
        assert!(reply.bytes().len() as u64 == blob.len() && blob.holds(0, reply.bytes()));
    }
    landed(&seawall).await;
    for mut open in slow {
        let bytes = open.rest().await.unwrap();
        assert!(bytes.len() as u64 == blob.len() && blob.holds(0, &bytes));
    }
    assert_eq!(registry.gets("blobs"), 1, "{}", registry.log());
}

/// Invariant 5, pitfalls 3 and 4: a wrong byte anywhere, and nobody gets a whole body, and nothing
/// of it stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_wrong_bytes_never_end_cleanly_and_are_never_kept() {
    let (pki, blob) = (Pki::new(), Blob::generated(4, 2 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for wrong in [0, MIB, blob.len() - 1] {
        let gate = Gate::new();
        registry.fault(Fault::on("bytes").corrupt(wrong).hold_body(blob.len() - 1, &gate).times(1));
        let mut opened = Vec::new();
        for client in h1_and_h2(&seawall) {
            opened.push(client.get(&url(&blob)).open().await.unwrap());
        }
        opened.push(seawall.client().get(&url(&blob)).range(&format!("bytes={MIB}-")).open().await.unwrap());
        gate.reached().await;
        gate.open();
        let mut part = opened.pop().unwrap();
        for open in &mut opened {
            let (got, end) = open.until_end().await;
            assert!(got < blob.len() && end.is_err(), "wrong at {wrong}: {got} of {} bytes, {end:?}", blob.len());
        }
        // What is no whole nobody verifies, and it comes as upstream sends it.
        let (_, _end) = part.until_end().await;
        landed(&seawall).await;
        assert_eq!((files(&seawall, "blobs/sha256"), files(&seawall, "partial")), (Vec::new(), Vec::new()));
    }
    registry.reset_counts();
    let good = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, good.bytes()));
    assert_eq!(registry.gets("blobs"), 1);
}

/// A wrong manifest is an error, not a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_5_a_wrong_manifest_is_refused() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let by_digest = format!("https://ghcr.io/v2/acme/app/manifests/{}", image.digest());
    registry.fault(Fault::on("manifests").method(http::Method::GET).corrupt(5).times(1));
    let reply = seawall.client().get(&by_digest).send().await.unwrap();
    assert_eq!(reply.status, 502);
    assert!(files(&seawall, "blobs/sha256").is_empty() && files(&seawall, "partial").is_empty());
    let reply = seawall.client().get(&by_digest).send().await.unwrap();
    assert_eq!(reply.bytes(), &image.manifest());
}

/// Pitfall 25.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_of_a_cold_blob_downloads_nothing() {
    let (pki, blob) = (Pki::new(), Blob::generated(5, MIB));
    for cdn in [false, true] {
        let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).token_auth();
        let registry = if cdn { registry.cdn("cdn.example.test") } else { registry }.start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let reply = seawall.client().head(&url(&blob)).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("content-length")), (200, "1048576"));
        // A CDN names no digest.
        assert_eq!(reply.header("docker-content-digest"), if cdn { String::new() } else { blob.digest() });
        assert_eq!((registry.gets("blobs"), registry.gets("cdn")), (0, 0), "{}", registry.log());
        assert!(files(&seawall, "partial").is_empty() && files(&seawall, "blobs/sha256").is_empty());
    }
}

/// A leader that may not read ends its own request only: who followed it asks with a credential of
/// its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_of_a_refused_leader_lead_themselves() {
    let (pki, blob) = (Pki::new(), Blob::generated(6, 100_000));
    let registry = Registry::new("ghcr.io")
        .blob("acme/app", blob.clone())
        .user("alice", "a")
        .user("mallory", "m")
        .private("acme/app", &["alice"])
        .basic_auth()
        .start(&pki)
        .await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("blobs").method(http::Method::GET).hold_head(&gate).times(1));
    let (client, address) = (seawall.client(), url(&blob));
    let refused = client.get(&address).basic("mallory", "m").send();
    let allowed = async {
        gate.reached().await;
        let mut all = Box::pin(join_all((0..5).map(|_| client.get(&address).basic("alice", "a").send())));
        // On their way before the leader is refused; whoever is late leads or follows all the same.
        assert!(futures_util::poll!(&mut all).is_pending());
        gate.open();
        all.await
    };
    let (refused, allowed) = tokio::join!(refused, allowed);
    let refused = refused.unwrap().status.as_u16();
    assert!([401, 403].contains(&refused), "{refused}");
    for reply in allowed {
        assert!(blob.holds(0, reply.unwrap().bytes()));
    }
    assert_eq!(registry.gets("blobs"), 2, "{}", registry.log());
}

/// A failure is everybody's who would have been answered the same: upstream is not asked once for
/// each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_what_upstream_will_not_send_does_not_ask_for_it_again() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let manifest = format!("https://ghcr.io/v2/acme/app/manifests/{}", image.digest());
    let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).start(&pki).await;
    for fault in [Fault::on("*").pull_limit(), Fault::on("*").error(503, "UNAVAILABLE"), Fault::on("*").error(404, "X")]
    {
        for (kind, address) in [("manifests", &manifest), ("blobs", &url(&image.layers()[2]))] {
            let seawall = Seawall::before(&registry).start(&pki).await;
            let client = seawall.client();
            registry.clear_faults();
            registry.reset_counts();
            let gate = Gate::new();
            registry.fault(fault.clone().method(http::Method::GET).hold_head(&gate));
            let leader = client.get(address).send();
            let follower = async {
                gate.reached().await;
                let mut follower = Box::pin(client.get(address).send());
                assert!(futures_util::poll!(&mut follower).is_pending());
                let open = async {
                    until("both are here", || seawall.metric("seawall_connections") == 2.0).await;
                    gate.open();
                };
                tokio::join!(follower, open).0
            };
            let (leader, follower) = tokio::join!(leader, follower);
            assert_eq!(leader.unwrap().status, follower.unwrap().status);
            // Who comes a moment too late asks itself.
            assert!(registry.gets(kind) <= 2 && registry.heads(kind) <= 2, "{}", registry.log());
            landed(&seawall).await;
            assert!(files(&seawall, "partial").is_empty(), "nothing came, so nothing is left of it");
        }
    }
}

/// Bytes are shared by digest, permission is not: each repository is asked, none is downloaded from
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_shared_across_repositories_and_registries_and_permission_is_asked() {
    let (pki, blob) = (Pki::new(), Blob::generated(7, 200_000));
    let registry = Registry::new("ghcr.io").blob("acme/app", blob.clone()).blob("acme/other", blob.clone());
    let registry = registry.blob("acme/empty", b"x").token_auth().start(&pki).await;
    let second = Registry::new("quay.io").blob("acme/app", blob.clone()).token_auth().start(&pki).await;
    let seawall = Seawall::before(&registry).front(&second).start(&pki).await;
    let client = seawall.client();
    client.get(&url(&blob)).send().await.unwrap().body.unwrap();
    landed(&seawall).await;
    registry.reset_counts();
    for (place, at) in [("ghcr.io/v2/acme/other", &registry), ("quay.io/v2/acme/app", &second)] {
        // Nobody learns what was pulled from elsewhere.
        for first in ["seawall; fwd=miss; stored", "seawall; hit"] {
            let reply = client.get(&format!("https://{place}/blobs/{}", blob.digest())).send().await.unwrap();
            assert!(blob.holds(0, reply.bytes()), "{place}");
            assert_eq!(reply.header("cache-status"), first, "{place}");
        }
        assert_eq!((at.heads("blobs"), at.gets("blobs")), (2, 0), "401, then yes; then it is known\n{}", at.log());
    }
    let absent = client.get(&format!("https://ghcr.io/v2/acme/empty/blobs/{}", blob.digest())).send().await.unwrap();
    assert_eq!(absent.status, 404, "not in that repository, so not from it");
}

/// sha512 is cached as sha256 is; an algorithm nobody knows is passed through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sha512_is_cached_and_unknown_algorithms_pass_through() {
    let (pki, blob) = (Pki::new(), Blob::generated(8, 300_000).sha512());
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for _ in 0..2 {
        let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
        assert!(blob.holds(0, reply.bytes()) && reply.header("docker-content-digest") == blob.digest());
    }
    landed(&seawall).await;
    assert_eq!((registry.gets("blobs"), files(&seawall, "blobs/sha512").len()), (1, 1));
    registry.fault(Fault::on("bytes").corrupt(9).times(1));
    let other = Blob::generated(9, 300_000).sha512();
    registry.add_blob("acme/app", other.clone());
    let wrong = seawall.client().get(&url(&other)).send().await.unwrap();
    assert!(wrong.body.is_err());

    registry.reset_counts();
    let unknown =
        "https://ghcr.io/v2/acme/app/blobs/blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    for n in 1..=2 {
        let reply = seawall.client().get(unknown).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), registry.gets("blobs")), (404, n), "upstream's own answer");
    }
}
