//! Invariant 12: what one client has fetched from a slow registry leaves the others their places.

use http::Method;

use crate::clients_balancer::{BALANCED, v1};
use crate::flight::{open_registry, until};
use crate::harness::*;

/// All places but the reserve: see `policy/line`.
const SHARE: usize = 480;
const MORE: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_a_client_that_fetches_much_leaves_the_others_their_places() {
    let pki = Pki::new();
    let cold = Blob::new("what another wants");
    let wanted_by_both = Blob::new("what both want");
    let registry = open_registry(&pki, &cold).await;
    registry.add_blob("acme/app", wanted_by_both.clone());
    let blobs: Vec<Blob> = (0..SHARE + MORE).map(|n| Blob::new(format!("blob {n}"))).collect();
    blobs.iter().for_each(|blob| drop(registry.add_blob("acme/slow", blob.clone())));
    let seawall = Seawall::before(&registry).toml(&format!("{BALANCED}\nmax_per_client = 9000")).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("blobs").path_contains("/acme/slow/").hold_head(&gate));
    let asked: Vec<_> = blobs
        .iter()
        .map(|blob| {
            let (client, url) = (seawall.client(), format!("https://ghcr.io/v2/acme/slow/blobs/{}", blob.digest()));
            tokio::spawn(async move {
                client.preamble(v1("192.0.2.1")).request(Method::GET, &url).send().await.unwrap().status.as_u16()
            })
        })
        .collect();
    let level = |name: &str| seawall.metric(name) as usize;
    until("it has its share", || level("seawall_transfers_waiting ") == MORE).await;
    assert_eq!(level("seawall_transfers "), SHARE);
    let behind = tokio::spawn({
        let (client, url) = (seawall.client(), crate::flight::url(&wanted_by_both));
        async move { client.preamble(v1("192.0.2.1")).get(&url).send().await.unwrap().status }
    });
    until("it waits behind the others", || level("seawall_transfers_waiting ") == MORE + 1).await;
    let other = seawall.client().preamble(v1("192.0.2.2"));
    let got = other.get(&crate::flight::url(&wanted_by_both)).send().await.unwrap();
    assert!(wanted_by_both.holds(0, got.bytes()), "it stands in everybody's line: {:?}", got.headers);
    assert_eq!(behind.await.unwrap(), 200);
    let got = other.get(&crate::flight::url(&cold)).send().await.unwrap();
    assert!(cold.holds(0, got.bytes()), "{:?}", got.headers);
    assert_eq!(level("seawall_transfers_waiting "), MORE, "the place of another is not for who has its share");
    gate.open();
    for status in asked {
        assert_eq!(status.await.unwrap(), 200);
    }
    until("all places are free", || level("seawall_transfers ") == 0).await;
}

/// What goes through moves at its client's pace. Who takes next to nothing keeps no place from who waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_who_takes_nothing_of_what_goes_through_is_cut_where_others_wait() {
    let (pki, large) = (Pki::new(), Blob::generated(91, 8 << 20));
    let other = Blob::generated(92, 2 << 20);
    let registry = open_registry(&pki, &large).await;
    registry.add_blob("acme/app", other.clone());
    let toml = "[clients]\nmax_per_client = 9000\n[cache]\nmax_size = \"1MiB\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let mut idle = Vec::new();
    for _ in 0..SHARE {
        let mut open = seawall.client().get(&crate::flight::url(&large)).open().await.unwrap();
        open.read_exactly(1000).await.unwrap();
        idle.push(open);
    }
    assert_eq!(seawall.metric("seawall_transfers ") as usize, SHARE);
    let got = seawall.client().get(&crate::flight::url(&other)).send().await.unwrap();
    assert!(other.holds(0, got.bytes()), "{} {:?}", got.status, got.headers);
    assert!(idle[0].rest().await.is_err(), "it ends before its time");
    drop(idle);
    until("all places are free", || seawall.metric("seawall_transfers ") == 0.0).await;
}

/// A user is one client wherever they are, and two behind one address are two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_a_user_has_a_share_whatever_the_address() {
    let pki = Pki::new();
    let cold = Blob::new("what another user wants");
    let registry = open_registry(&pki, &cold).await;
    let blobs: Vec<Blob> = (0..=SHARE).map(|n| Blob::new(format!("blob {n}"))).collect();
    blobs.iter().for_each(|blob| drop(registry.add_blob("acme/slow", blob.clone())));
    let users = tempfile::NamedTempFile::new().unwrap();
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash("right", 4).unwrap());
    std::fs::write(users.path(), line("greedy") + &line("other")).unwrap();
    let toml = format!("{BALANCED}\nmax_per_client = 9000\nusers_file = {:?}", users.path());
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let client = |user, at| seawall.client().preamble(v1(at)).proxy_user(user, "right");
    let gate = Gate::new();
    registry.fault(Fault::on("blobs").path_contains("/acme/slow/").hold_head(&gate));
    let ask = |client: Client, blob: &Blob| {
        let url = format!("https://ghcr.io/v2/acme/slow/blobs/{}", blob.digest());
        tokio::spawn(async move { client.get(&url).send().await.unwrap().status.as_u16() })
    };
    let (more, all) = blobs.split_first().unwrap();
    let mut asked: Vec<_> = all.iter().map(|blob| ask(client("greedy", "192.0.2.1"), blob)).collect();
    let level = |name: &str| seawall.metric(name) as usize;
    until("the user has their share", || level("seawall_transfers ") == SHARE).await;
    asked.push(ask(client("greedy", "2001:db8:1::1"), more));
    until("and no other at another address", || level("seawall_transfers_waiting ") == 1).await;
    let got = client("other", "192.0.2.1").get(&crate::flight::url(&cold)).send().await.unwrap();
    assert!(cold.holds(0, got.bytes()), "{:?}", got.headers);
    gate.open();
    for status in asked {
        assert_eq!(status.await.unwrap(), 200);
    }
}

/// A host that is no registry may be the attacker's own, and as slow as it likes: what is asked of it takes
/// no place of what is asked of registries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_hosts_that_are_no_registries_take_no_place_from_registries() {
    let (pki, cold) = (Pki::new(), Blob::new("cold"));
    let registry = open_registry(&pki, &cold).await;
    let others = Registry::new("files.example.test").plain().start(&pki).await;
    let gate = Gate::new();
    others.fault(Fault::on("*").hold_head(&gate));
    let toml = "[clients]\nmax_per_client = 9000\n[tunnel]\nports = [80, 443]";
    let seawall = Seawall::before(&registry).front(&others).toml(toml).start(&pki).await;
    let level = |name: &str| seawall.metric(name) as usize;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..SHARE {
        let client = Client::via_connect(seawall.addr(), "");
        asked.spawn(async move { client.get(&format!("http://files.example.test/{n}")).send().await.is_ok() });
    }
    until("they have all that they may", || level("seawall_forwards_waiting ") > SHARE / 2).await;
    assert_eq!(level("seawall_transfers "), 0);
    let got = seawall.client().get(&crate::flight::url(&cold)).send().await.unwrap();
    assert!(cold.holds(0, got.bytes()), "{:?}", got.headers);
    asked.shutdown().await;
    gate.open();
    until("all places are free", || level("seawall_forwards ") + level("seawall_forwards_waiting ") == 0).await;
}

/// All places but the reserve, of what is asked of upstream.
const QUESTIONS: usize = 240;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_a_client_that_asks_much_leaves_the_others_their_questions() {
    let (pki, cold) = (Pki::new(), Blob::new("cold"));
    let registry = open_registry(&pki, &cold).await;
    registry.add_image("acme/app:1", &Image::multi_layer());
    let seawall = Seawall::before(&registry).toml("[clients]\nmax_per_client = 9000").start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").path_contains("/acme/slow/").hold_head(&gate));
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..QUESTIONS + MORE {
        let client = seawall.client().bound_to([127, 0, 0, 2]);
        let url = format!("https://ghcr.io/v2/acme/slow/manifests/{n}");
        asked.spawn(async move { client.request(Method::HEAD, &url).send().await.is_ok() });
    }
    let level = |name: &str| seawall.metric(name) as usize;
    until("it has its share", || level("seawall_questions_waiting ") == MORE).await;
    assert_eq!(level("seawall_questions "), QUESTIONS);
    let other = seawall.client().head("https://ghcr.io/v2/acme/app/manifests/1").send().await.unwrap();
    assert_eq!(other.status, 200);
    assert_eq!(level("seawall_questions_waiting "), MORE, "the place of another is not for who has its share");
    gate.open();
    asked.join_all().await;
    until("all places are free", || level("seawall_questions ") == 0).await;
}

/// A quarter of the descriptors is for answers, all but a sixteenth of them for who is alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_a_client_that_leaves_answers_open_leaves_the_others_theirs() {
    let (pki, blob) = (Pki::new(), Blob::generated(74, 8 << 20));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Process::with_descriptors(1024, &registry, &pki);
    let url = crate::flight::url(&blob);
    assert_eq!(seawall.client().get(&url).send().await.unwrap().status, 200);
    let (mut connections, mut unread) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        connections.push(seawall.client().bound_to([127, 0, 0, 2]).h2().connect(&url).await.unwrap());
    }
    for n in 0..240 {
        unread.push(connections[n % 2].request(Method::GET, &url).open().await.unwrap());
    }
    let more = connections[0].request(Method::GET, &url).open();
    let mut more = std::pin::pin!(more);
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(300), &mut more).await;
    assert!(waiting.is_err(), "it has its share");
    let other = seawall.client();
    let got = tokio::time::timeout(std::time::Duration::from_secs(10), other.get(&url).send()).await;
    assert!(blob.holds(0, got.expect("it waits for nobody").unwrap().bytes()));
    unread.pop();
    more.await.expect("a place that is given back is taken");
}
