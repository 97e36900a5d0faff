//! A host that does not answer is known not to: policy/breaker from end to end. What reaches
//! upstream is counted, and who waits.

use std::time::Duration;

use http::Method;

use crate::flight::until;
use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::tags::{ALL, HUB, MINUTE, TAG, ask, get, hub};

/// Longer than any pause between two trials.
const DUE: Duration = Duration::from_secs(5);

fn is_open(seawall: &Seawall) -> bool {
    seawall.metric("seawall_upstream_open{") > 0.0
}

async fn opened(seawall: &Seawall) {
    until("it is known not to answer", || is_open(seawall)).await;
}

/// Asks in vain until the registry is known not to answer.
pub(crate) async fn fail_until_open(seawall: &Seawall) {
    for name in ["a", "b", "c", "d"] {
        assert_eq!(get(&seawall.client(), &manifest(name)).await.status, 502);
    }
    opened(seawall).await;
}

fn manifest(name: &str) -> String {
    format!("{HUB}/v2/library/{name}/manifests/1")
}

fn is_stale(reply: &Reply) -> bool {
    reply.status == 200 && reply.header("cache-status").starts_with("seawall; fwd=stale")
}

/// The registry and a copy of its image, with every yes believed long enough to stand and every tag
/// too old.
async fn warm(pki: &Pki, toml: &str) -> (Registry, Seawall) {
    let registry = hub(pki).await;
    let seawall = Seawall::before(&registry).toml(toml).start(pki).await;
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    seawall.clock.advance(MINUTE);
    (registry, seawall)
}

/// An answer that was not asked for upstream. On a slow machine a request may be the trial, and
/// fail as one.
async fn refused(seawall: &Seawall, url: &str) -> Reply {
    for _ in 0..10 {
        let reply = get(&seawall.client(), url).await;
        if reply.headers.contains_key("retry-after") {
            return reply;
        }
    }
    panic!("{url} is asked for upstream again and again");
}

/// Three failures in a row: then nothing more reaches upstream, what is here is served at once and
/// says why, what is not gets its error at once and is told when to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_three_failures_nothing_reaches_upstream_and_nobody_waits() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.fault(Fault::on("*").hang_up());
    registry.reset_counts();
    for name in ["a", "b", "c"] {
        assert_eq!(get(&seawall.client(), &manifest(name)).await.status, 502);
    }
    opened(&seawall).await;
    let reached = registry.requests().len();
    assert_eq!(reached, 4, "one is seawall's own: {}", registry.log());
    for _ in 0..20 {
        for method in [Method::GET, Method::HEAD] {
            let reply = ask(&seawall.client(), method, TAG, &ALL).await;
            assert!(is_stale(&reply), "{:?}", reply.headers);
            assert!(
                reply.header("warning").contains("registry-1.docker.io does not answer since 20"),
                "{:?}",
                reply.headers
            );
        }
        let reply = refused(&seawall, &manifest("other")).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (502, "application/json"));
        assert_eq!(reply.json()["errors"][0]["code"], "UNAVAILABLE");
        assert!((1..=5).contains(&reply.header("retry-after").parse::<u32>().unwrap()));
    }
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    // Trials that became due meanwhile, on a slow machine.
    assert!(registry.requests().len() <= reached + 20, "{}", registry.log());
    assert!(seawall.metric("seawall_stale_total{registry=\"docker.io\",reason=\"unreachable\"}") >= 43.0);
}

/// It half-opens by itself: the request that comes when a trial is due is the trial, and gets its
/// answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_what_is_not_here_is_the_trial_and_ends_the_outage() {
    for (down, up) in [(true, true), (false, false)] {
        let pki = Pki::new();
        let (registry, seawall) = warm(&pki, "").await;
        if down {
            registry.down();
        } else {
            registry.fault(Fault::on("*").hang_up());
        }
        fail_until_open(&seawall).await;
        registry.add_image("library/new:1", &Image::multi_layer());
        if up {
            registry.up();
        } else {
            registry.clear_faults();
        }
        seawall.clock.advance(DUE);
        let reply = get(&seawall.client(), &manifest("new")).await;
        assert_eq!(reply.status, 200, "{}", registry.log());
        assert!(!is_open(&seawall));
        assert_eq!(get(&seawall.client(), TAG).await.header("cache-status"), REVALIDATED, "and fresh");
    }
}

/// A pull of what is here does not wait for the trial that it begins; there is one at a time; the
/// answer is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cached_pull_begins_the_trial_and_does_not_wait_for_it() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "[upstream]\nCA_FILE\nresolve_deadline = \"10m\"").await;
    registry.fault(Fault::on("*").hang_up());
    for name in ["a", "b", "c"] {
        assert_eq!(get(&seawall.client(), &manifest(name)).await.status, 502);
    }
    opened(&seawall).await;
    registry.clear_faults();
    let gate = Gate::new();
    registry.fault(Fault::on("*").hold_head(&gate));
    seawall.clock.advance(DUE);
    assert!(is_stale(&get(&seawall.client(), TAG).await));
    gate.reached().await;
    for _ in 0..10 {
        assert!(is_stale(&get(&seawall.client(), TAG).await));
        assert_eq!(get(&seawall.client(), &manifest("other")).await.status, 502);
    }
    assert_eq!(gate.arrivals(), 1, "{}", registry.log());
    gate.open();
    until("the trial is answered", || !is_open(&seawall)).await;
    until_fresh(&seawall).await;
}

/// Nobody asked for anything all night: who comes first in the morning gets what is true then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_long_ago_is_not_believed() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.down();
    for name in ["a", "b", "c"] {
        assert_eq!(get(&seawall.client(), &manifest(name)).await.status, 502);
    }
    assert!(is_open(&seawall));
    registry.up();
    seawall.clock.advance(2 * DUE + MINUTE);
    assert_eq!(get(&seawall.client(), TAG).await.header("cache-status"), REVALIDATED);
}

async fn until_fresh(seawall: &Seawall) {
    let fresh = async { while get(&seawall.client(), TAG).await.header("cache-status") != "seawall; hit" {} };
    tokio::time::timeout(crate::harness::faults::PATIENCE, fresh).await.expect("it stays stale");
}

/// Pitfall 29: a host that accepts and says nothing is one that does not answer, though every
/// question is still on its way. One that is slow with one question is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_silent_questions_open_and_a_new_one_closes() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"").await;
    let gate = Gate::new();
    registry.fault(Fault::on("*").hold_head(&gate));
    // One question, for all who ask before its patience ends.
    assert!(is_stale(&get(&seawall.client(), TAG).await));
    assert!(is_stale(&get(&seawall.client(), TAG).await));
    assert_eq!(gate.arrivals(), 1, "{}", registry.log());
    let ask_again = async {
        while !is_open(&seawall) {
            assert!(is_stale(&get(&seawall.client(), TAG).await));
        }
    };
    tokio::time::timeout(crate::harness::faults::PATIENCE, ask_again).await.expect("it is asked for ever");
    assert!(gate.arrivals() >= 3, "one alone opened it, or seawall did not ask: {}", registry.log());
    let reply = get(&seawall.client(), TAG).await;
    assert!(is_stale(&reply) && reply.header("warning").contains("no answer within 900ms"), "{:?}", reply.headers);
    assert!(reply.header("cache-status").ends_with("detail=timeout"), "{:?}", reply.headers);
    // The host is another one now, and the questions that were swallowed keep nobody from asking
    // again.
    registry.clear_faults();
    seawall.clock.advance(DUE);
    get(&seawall.client(), TAG).await;
    until("a new question is answered", || !is_open(&seawall)).await;
    until_fresh(&seawall).await;
    gate.open();
}

/// What was swallowed before an outage is silent after it too, and neither joined nor counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_nothing_behind() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let others = ["a", "b", "c"].map(|name| format!("{HUB}/v2/library/{name}/manifests/1"));
    for name in ["a", "b", "c"] {
        registry.add_image(&format!("library/{name}:1"), &Image::multi_layer());
    }
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    for url in &others {
        assert_eq!(get(&seawall.client(), url).await.status, 200);
    }
    seawall.clock.advance(MINUTE);
    let (swallowed, gate) = (Gate::new(), Gate::new());
    registry.fault(Fault::on("*").hold_head(&swallowed));
    for url in &others {
        assert!(is_stale(&get(&seawall.client(), url).await));
    }
    until("three silent questions", || is_open(&seawall)).await;
    registry.clear_faults();
    seawall.clock.advance(DUE);
    get(&seawall.client(), &others[0]).await;
    until("one is answered", || !is_open(&seawall)).await;
    for url in &others {
        assert!(was_here(get(&seawall.client(), url).await.header("cache-status")), "{}", registry.log());
    }
    // Patience ends again for those of before, and for one of now.
    registry.fault(Fault::on("manifests").hold_head(&gate));
    let ticks = async {
        for _ in 0..3 {
            seawall.clock.advance(MINUTE);
            get(&seawall.client(), &others[0]).await;
            assert!(!is_open(&seawall));
        }
    };
    ticks.await;
    swallowed.open();
    gate.open();
}

/// A client cannot make the outage that opens what is here: not with a body that it does not send,
/// nor with a head that breaks the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_makes_an_outage() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.add_image("library/good:1", &Image::multi_layer());
    registry.fault(Fault::on("catalog").hang_up());
    registry.fault(Fault::on("tags").status(504, ""));
    for n in 0..6 {
        let mut raw = Raw::connect(seawall.addr()).await;
        let path = format!("{HUB}/v2/{n}");
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: registry-1.docker.io\r\nAuthorization: Basic eA==\r\nContent-Length: 10\r\n\r\nabc"
        ))
        .await;
        raw.half_close().await;
        let answer = raw.read_to_end().await;
        assert!(!answer.contains(" 403 "), "{answer}");
        let url = format!("{HUB}/v2/_catalog?n={n}");
        assert_eq!(seawall.client().get(&url).bearer("x").send().await.unwrap().status, 502);
        let url = format!("{HUB}/v2/acme/app-{n}/tags/list");
        assert_eq!(seawall.client().get(&url).bearer("x").send().await.unwrap().status, 504);
    }
    assert!(!is_open(&seawall), "{}", registry.log());
    assert_eq!(get(&seawall.client(), &manifest("good")).await.status, 200);
}

/// The trial of a client that never ends its request is nobody's end of an outage: seawall asks beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_an_upload_that_is_not_sent_keeps_no_registry_away() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.add_image("library/good:1", &Image::multi_layer());
    registry.fault(Fault::on("*").hang_up());
    fail_until_open(&seawall).await;
    registry.clear_faults();
    registry.reset_counts();
    seawall.clock.advance(DUE);
    let mut unsent = Raw::connect(seawall.addr()).await;
    unsent.send(format!("PATCH {HUB}/v2/acme/app/blobs/uploads/1 HTTP/1.1\r\nHost: registry-1.docker.io\r\nContent-Length: 10\r\n\r\n")).await;
    until("seawall asks for itself", || registry.gets("ping") > 0).await;
    until("the outage is over", || !is_open(&seawall)).await;
    assert_eq!(get(&seawall.client(), &manifest("good")).await.status, 200);
}

/// Whose images are broken there, or are never answered for, makes seawall ask for itself, and closes
/// the registry to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invariant_12_one_clients_broken_images_open_nothing() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"").await;
    registry.add_image("library/good:1", &Image::multi_layer());
    let gate = Gate::new();
    registry.fault(Fault::on("*").path_contains("/broken").status(503, ""));
    registry.fault(Fault::on("*").path_contains("/silent").hold_head(&gate));
    let attacker = seawall.client().bound_to([127, 0, 0, 2]);
    registry.reset_counts();
    for n in 0..9 {
        assert_eq!(get(&attacker, &manifest(&format!("broken{n}"))).await.status, 503);
        assert!(!is_open(&seawall), "{}", registry.log());
    }
    until("seawall asks for itself", || registry.gets("ping") > 0).await;
    let urls: Vec<String> = (0..4).map(|n| manifest(&format!("silent{n}"))).collect();
    let asking: Vec<_> = urls.iter().map(|url| get(&attacker, url)).collect();
    let pinged = registry.gets("ping");
    let bystander = async {
        until("it asks again", || registry.gets("ping") > pinged).await;
        assert_eq!(get(&seawall.client(), &manifest("good")).await.status, 200);
        assert!(!is_open(&seawall), "{}", registry.log());
        gate.open();
    };
    tokio::join!(futures_util::future::join_all(asking), bystander);
}

/// Two clients that each miss something else are enough: what answers `/v2/` may have lost its images.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_two_clients_open() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.fault(Fault::on("manifests").status(503, ""));
    registry.reset_counts();
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let client = seawall.client().bound_to([127, 0, 0, 2 + n as u8]);
        assert_eq!(get(&client, &manifest(name)).await.status, 503);
    }
    assert!(is_open(&seawall) && registry.gets("ping") == 0, "{}", registry.log());
}

/// What is forwarded to hosts that are no registries is none of ours to judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_hosts_have_no_outages() {
    let pki = Pki::new();
    let other = Registry::new("files.example.test").plain().start(&pki).await;
    other.fault(Fault::on("*").hang_up());
    let toml = "[tunnel]\nports = [80]\nhosts = [\"*.example.test\"]";
    let seawall = Seawall::before(&other).toml(toml).start(&pki).await;
    let client = Client::via_connect(seawall.addr(), "");
    for n in 0..6 {
        let reply = client.get(&format!("http://files.example.test/{n}")).send().await.unwrap();
        assert!(reply.status == 502 && !reply.headers.contains_key("retry-after"), "{:?}", reply.headers);
    }
    assert_eq!(other.requests().len(), 6, "each is sent: {}", other.log());
    assert!(!is_open(&seawall));
}

/// A client that hangs up says nothing of the host that it waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_open_nothing() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    let gate = Gate::new();
    registry.fault(Fault::on("tags").hold_head(&gate));
    let client = seawall.client();
    for n in 1..=5 {
        let url = format!("{HUB}/v2/library/alpine/tags/list");
        let mut asking = Box::pin(client.get(&url).send());
        tokio::select! {
            _ = &mut asking => panic!("answered"),
            () = gate.reached_by(n) => {}
        }
    }
    assert!(!is_open(&seawall));
    gate.open();
    assert_eq!(get(&client, TAG).await.header("cache-status"), REVALIDATED);
}

/// One repository that is broken there, asked for by clients that try again and again, takes
/// nothing from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_repository_is_not_the_registrys_outage() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    registry.add_image("library/good:1", &Image::multi_layer());
    registry.fault(Fault::on("*").path_contains("library/broken").status(503, ""));
    for _ in 0..5 {
        for url in [manifest("broken"), format!("{HUB}/v2/library/broken/blobs/{}", sha256(b"x"))] {
            assert_eq!(get(&seawall.client(), &url).await.status, 503);
        }
    }
    assert_eq!(get(&seawall.client(), &manifest("good")).await.status, 200);
    registry.clear_faults();
    registry.fault(Fault::on("*").path_contains("library/broken").hang_up());
    for _ in 0..5 {
        assert_eq!(get(&seawall.client(), &manifest("broken")).await.status, 502);
    }
    assert!(!is_open(&seawall), "{}", registry.log());
    assert_eq!(get(&seawall.client(), &manifest("good")).await.status, 200);
    // All of it: three repositories in a row.
    registry.clear_faults();
    registry.fault(Fault::on("*").status(503, ""));
    for name in ["a", "b"] {
        assert_eq!(get(&seawall.client(), &manifest(name)).await.status, 503, "{name}: {}", registry.log());
    }
    opened(&seawall).await;
    refused(&seawall, &manifest("d")).await;
}

/// 4xx and 429 are answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_answers() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    for fault in [
        Fault::on("*").pull_limit(),
        Fault::on("*").status(500, ""),
        Fault::on("*").status(404, ""),
        Fault::on("*").status(403, ""),
    ] {
        registry.clear_faults();
        registry.fault(fault);
        for n in 0..6 {
            assert_ne!(get(&seawall.client(), &manifest(&n.to_string())).await.status, 502);
        }
        assert!(!is_open(&seawall), "{}", registry.log());
    }
}

/// A CDN is a host of its own: its outage is not the registry's, nor the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cdn_has_an_outage_of_its_own() {
    let pki = Pki::new();
    let (registry, seawall) = warm(&pki, "").await;
    let image = Image::of((0..5).map(|n| Blob::generated(100 + n, 1000)).collect());
    registry.add_image("library/new:1", &image);
    registry.down_host("cdn.example.test");
    let blob = |n: usize| format!("{HUB}/v2/library/new/blobs/{}", image.layers()[n].digest());
    for n in 0..4 {
        assert_eq!(get(&seawall.client(), &blob(n)).await.status, 502);
    }
    assert!(is_open(&seawall));
    let reply = refused(&seawall, &blob(4)).await;
    assert_eq!(reply.status, 502);
    let message = reply.json()["errors"][0]["message"].to_string();
    assert!(message.contains("cdn.example.test"), "{message}");
    assert_eq!(get(&seawall.client(), &manifest("new")).await.status, 200);
    assert_eq!(get(&seawall.client(), TAG).await.header("cache-status"), REVALIDATED);
    registry.up();
    seawall.clock.advance(DUE);
    assert_eq!(get(&seawall.client(), &blob(4)).await.status, 200);
    assert!(!is_open(&seawall));
}
