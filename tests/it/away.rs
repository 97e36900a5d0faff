//! Upstream is slow, limited, silent, gone or not there: what is here is served, and says so.

use std::time::Duration;

use http::Method;

use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::quota::as_client;
use crate::tags::{HUB, MINUTE, TAG, get, hub, named};

/// A stale answer says so: pitfall 34.
fn is_stale(reply: &Reply, detail: &str) -> bool {
    let status = reply.header("cache-status").starts_with("seawall; fwd=stale");
    let said = reply.header("cache-status").contains(&format!("detail={detail}"));
    status && said && reply.header("warning").starts_with("299 - \"seawall: served from cache")
}

/// Pitfall 29: a slow upstream keeps nobody waiting for what is here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_served_when_the_head_takes_longer_than_the_deadline() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    seawall.clock.advance(MINUTE);
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").hold_head(&gate));
    let reply = get(&client, TAG).await;
    assert_eq!(reply.status, 200);
    assert!(is_stale(&reply, "timeout"), "{:?}", reply.headers);
    assert_eq!(reply.header("age"), "60");
    assert_eq!(gate.arrivals(), 1, "it was asked");
    assert_eq!(seawall.metric("seawall_stale_total"), 1.0);
    registry.clear_faults();
    gate.open();
    assert_eq!(get(&client, TAG).await.header("cache-status"), "seawall; hit");
}

/// The same where HEAD says no digest and a GET has to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_is_for_registries_without_digests_too() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"300ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    registry.fault(Fault::on("manifests").no_digest());
    assert_eq!(get(&seawall.client(), TAG).await.status, 200);
    seawall.clock.advance(MINUTE);
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").method(Method::GET).hold_head(&gate));
    let reply = get(&seawall.client(), TAG).await;
    assert!(reply.status == 200 && is_stale(&reply, "timeout"), "{:?}", reply.headers);
    gate.open();
}

/// Pitfalls 32 and 34: a copy is served while upstream has nothing to say, by tag and by digest,
/// and says that it is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_served_when_upstream_cannot_answer() {
    for (n, (fault, detail)) in [
        (Some(Fault::on("manifests").pull_limit()), "rate-limited"),
        (Some(Fault::on("*").abuse_limit(60)), "rate-limited"),
        (Some(Fault::on("manifests").status(500, "oops")), "error"),
        (Some(Fault::on("*").status(503, "")), "error"),
        (Some(Fault::on("*").hang_up()), "unreachable"),
        (Some(Fault::on("manifests").redirect("http://127.0.0.1/")), "error"),
        (None, "unreachable"),
    ]
    .into_iter()
    .enumerate()
    {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let client = seawall.client();
        for style in Style::ALL {
            client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
        }
        // Longer than any ttl, and than the tokens that are known.
        seawall.clock.advance(Duration::from_secs(86_400));
        match fault {
            Some(fault) => registry.fault(fault),
            None => registry.down(),
        }
        let reply = get(&client, TAG).await;
        assert_eq!(named(&reply), (200, &*Image::two_platforms().digest()), "{n}");
        assert!(is_stale(&reply, detail), "{n}: {:?}", reply.headers);
        assert_eq!(reply.header("age"), "86400");
        for style in Style::ALL {
            let pulled = client.pull("docker.io/library/alpine:3.20", style).await;
            pulled.unwrap_or_else(|e| panic!("{n} {style:?}: {e}\n{}", registry.log()));
        }
        let arm = Image::two_platforms().platforms()[1].digest();
        let arm = get(&client, &format!("{HUB}/v2/library/alpine/manifests/{arm}")).await;
        assert_ne!(arm.status, 200, "what was never here is not");
        assert!(seawall.metric("seawall_stale_total{") >= 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_grows_too_old_where_the_operator_says_so() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[cache.tags]\nstale = \"1h\"").start(&pki).await;
    let client = seawall.client();
    assert_eq!(get(&client, TAG).await.status, 200);
    registry.fault(Fault::on("manifests").status(503, "maintenance"));
    seawall.clock.advance(Duration::from_secs(3599));
    assert_eq!(get(&client, TAG).await.status, 200);
    seawall.clock.advance(Duration::from_secs(1));
    assert_eq!(get(&client, TAG).await.status, 503);
}

/// Pitfall 31: `/v2/` and tokens are answered while upstream is away, after a restart too. Pitfall
/// 30: it starts without upstream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_and_serves_while_upstream_is_away() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    registry.down();
    let seawall = seawall.restart(&pki).await;
    seawall.clock.advance(Duration::from_secs(86_400));
    for style in Style::ALL {
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
        let pulled = pulled.unwrap_or_else(|e| panic!("{style:?}: {e}"));
        assert_eq!(pulled.digest, Image::two_platforms().digest());
    }
    let nothing = get(&seawall.client(), &format!("{HUB}/v2/library/other/manifests/1")).await;
    assert_eq!((nothing.status.as_u16(), nothing.header("content-type")), (502, "application/json"));
}

/// Pitfall 30.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_with_nothing_and_nobody_to_ask() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.down();
    let seawall = Seawall::before(&registry).start(&pki).await;
    assert_eq!(get(&seawall.client(), TAG).await.status, 502);
    registry.up();
    assert_eq!(get(&seawall.client(), TAG).await.status, 200);
}

/// Pitfall 33, the purge of a repository: what is here goes on being served, in every client's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_took_away_is_served_with_a_warning() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    let image = Image::two_platforms();
    registry.untag("library/alpine", "3.20");
    for digest in image.manifests().iter().map(|(_, bytes)| sha256(bytes)).chain(image.blobs().iter().map(Blob::digest))
    {
        registry.remove("library/alpine", &digest);
    }
    for days in [0, 1, 2] {
        seawall.clock.advance(Duration::from_secs(86_400 * days + 60));
        let reply = get(&client, TAG).await;
        assert!(reply.status == 200 && is_stale(&reply, "gone"), "{:?}", reply.headers);
        for style in Style::ALL {
            let pulled = client.pull("docker.io/library/alpine:3.20", style).await;
            pulled.unwrap_or_else(|e| panic!("{days} {style:?}: {e}\n{}", registry.log()));
        }
    }
    let layer = format!("{HUB}/v2/library/alpine/blobs/{}", image.layers()[0].digest());
    seawall.clock.advance(Duration::from_secs(86_400));
    assert_eq!(client.head(&layer).send().await.unwrap().status, 404, "who would push is told the truth");
}

/// Pitfall 33 where the operator wants upstream's word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_took_away_is_forgotten_where_the_operator_says_so() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[cache.tags]\ngone = \"forget\"").start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    registry.untag("library/alpine", "3.20");
    seawall.clock.advance(MINUTE);
    let reply = get(&client, TAG).await;
    assert_eq!((reply.status.as_u16(), &*reply.json()["errors"][0]["code"].to_string()), (404, "\"MANIFEST_UNKNOWN\""));
    registry.down();
    assert_eq!(get(&client, TAG).await.status, 502, "it is forgotten");
    registry.up();
    let index = Image::two_platforms().digest();
    registry.remove("library/alpine", &index);
    seawall.clock.advance(Duration::from_secs(900));
    assert_eq!(get(&client, &format!("{HUB}/v2/library/alpine/manifests/{index}")).await.status, 404);
}

/// Nothing here: a 429 says whose it is, until when, and what can be done, to the first who meets
/// it too. Who shows nothing may have a login with pulls of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_with_nothing_cached_is_passed_on() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    let reply = get(&client, TAG).await;
    assert!(reply.status == 401 && reply.header("www-authenticate").contains("library/alpine"), "{}", registry.log());
    let reply = as_client(&client, TAG).await;
    assert_eq!(reply.status, 429, "{}", registry.log());
    let text = String::from_utf8_lossy(reply.bytes()).into_owned();
    assert!(text.contains("docker.io allows no more pulls to 203.0.113.7 (100 in 6h) until 20"), "{text}");
    // Until the window ends nothing of this sort is asked.
    seawall.clock.advance(Duration::from_secs(21_600));
    registry.fault(Fault::on("manifests").abuse_limit(60));
    for reference in [Image::two_platforms().digest(), "other".to_owned()] {
        let reply = as_client(&client, &format!("{HUB}/v2/library/alpine/manifests/{reference}")).await;
        assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, "60"), "{reference}");
        let error = reply.json()["errors"][0].clone();
        assert_eq!(error["code"], "TOOMANYREQUESTS", "{reference}");
        assert!(error["message"].to_string().contains("docker.io accepts no requests"), "{error}");
    }
}

/// HEAD keeps answering when the quota is spent: what did not move costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_quota_stops_no_warm_pull() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    seawall.clock.advance(Duration::from_secs(3600));
    let reply = get(&seawall.client(), TAG).await;
    assert_eq!((reply.status.as_u16(), reply.header("warning")), (200, ""), "confirmed, not stale");
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
}

/// Pitfall 29: nor does a silent `/v2/`, token service or registry keep a whole pull waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_upstream_holds_up_no_warm_pull() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"\nidle_timeout = \"10m\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let client = seawall.client();
    for style in Style::ALL {
        client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    seawall.clock.advance(Duration::from_secs(86_400));
    let gate = Gate::new();
    registry.fault(Fault::on("*").hold_head(&gate));
    for style in Style::ALL {
        let pulled = client.pull("docker.io/library/alpine:3.20", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}", registry.log()));
    }
    gate.open();
}
