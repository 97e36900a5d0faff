//! What is remembered of the traffic: the figures behind `seawall status`, and who pulls most.

use std::time::Duration;

use serde_json::Value;

use crate::flight::landed;
use crate::harness::*;
use crate::status::{command, status};
use crate::tags::{ALL, HUB, TAG, get, hub};

const ALPINE: &str = "docker.io/library/alpine:3.20";
const HOUR: Duration = Duration::from_secs(3600);

async fn api(seawall: &Seawall, path: &str) -> Value {
    let reply =
        Client::plain(seawall.admin()).get(&format!("http://{}/api/v1/{path}", seawall.admin())).send().await.unwrap();
    assert_eq!(reply.status, 200, "{path}");
    assert_eq!(reply.header("content-type"), "application/json", "{path}");
    serde_json::from_slice(reply.bytes()).unwrap()
}

/// The values of a field, the oldest first.
async fn values(seawall: &Seawall, span: &str, field: &str) -> Vec<u64> {
    let body = api(seawall, &format!("statistics?span={span}")).await;
    let at = body["fields"].as_array().unwrap().iter().position(|name| name == field).unwrap();
    body["points"].as_array().unwrap().iter().map(|point| point[at].as_u64().unwrap()).collect()
}

async fn sum(seawall: &Seawall, span: &str, field: &str) -> u64 {
    values(seawall, span, field).await.iter().sum()
}

/// A cold pull and a warm one. A request is counted when its body was sent: a moment after its client
/// has it.
async fn pulled_twice(seawall: &Seawall) {
    for _ in 0..2 {
        seawall.client().pull(ALPINE, Style::Docker).await.unwrap();
        landed(seawall).await;
    }
    let here = async || sum(seawall, "24h", "served_cache_bytes").await;
    let came = async || sum(seawall, "24h", "served_upstream_bytes").await;
    let counted = async { while came().await == 0 || here().await < came().await {} };
    tokio::time::timeout(faults::PATIENCE, counted).await.expect("what was pulled is counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_move_the_figures() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let before = status(&seawall).await;
    assert!(before["hit_share"]["24h"]["requests"].is_null() && before["spared"]["30d"]["bytes"] == 0, "{before}");
    pulled_twice(&seawall).await;

    for span in ["24h", "30d"] {
        let (hits, misses) = (sum(&seawall, span, "hit").await, sum(&seawall, span, "miss").await);
        assert!(hits >= 4 && misses >= 4, "{span}: {hits} hits, {misses} misses");
        assert_eq!(sum(&seawall, span, "charged").await, 2, "{span}: {}", registry.log());
        assert_eq!(sum(&seawall, span, "clients").await, 1, "{span}");
        let (brought, fills) = (sum(&seawall, span, "upstream_bytes").await, sum(&seawall, span, "fills").await);
        assert!(brought > 0 && fills > 0, "{span}");
        let bytes = sum(&seawall, span, "served_cache_bytes").await;
        assert!(bytes >= sum(&seawall, span, "served_upstream_bytes").await, "{span}");
        assert!(sum(&seawall, span, "upstream_requests").await >= registry.gets("manifests") as u64, "{span}");
        assert_eq!(sum(&seawall, span, "upstream_failures").await, 0, "{span}");
    }
    let pulls = sum(&seawall, "24h", "hit").await;
    let client = seawall.client();
    let known = get(&client, TAG).await;
    let unchanged = ALL.iter().fold(client.get(TAG), |ask, one| ask.header("accept", one));
    let unchanged = unchanged.header("if-none-match", known.header("etag")).send().await;
    assert_eq!(unchanged.unwrap().status, 304);
    assert_eq!(sum(&seawall, "24h", "hit").await, pulls + 1, "a 304 is no pull");
    let after = status(&seawall).await;
    for span in ["5m", "1h", "24h"] {
        let share = &after["hit_share"][span];
        for what in ["requests", "bytes"] {
            assert!(share[what].as_f64().is_some_and(|share| (0.4..1.0).contains(&share)), "{share}");
        }
    }
    assert!(after["spared"]["today"]["bytes"].as_u64() > Some(0), "{after}");
    let (_, out, _) = command(&["--admin", &seawall.admin().to_string()]).await;
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{out}"));
    assert!(line("hits ").contains(" % of requests and ") && line("hits ").contains(" in 24 h; "), "{out}");
    assert!(line("spared ").contains(" today, ") && line("spared ").ends_with(" in 30 days"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_the_figures() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    pulled_twice(&seawall).await;
    seawall.clock.advance(2 * HOUR);
    seawall.client().pull(ALPINE, Style::Docker).await.unwrap();
    let mut before = Vec::new();
    for span in ["24h", "30d"] {
        before.push((sum(&seawall, span, "hit").await, sum(&seawall, span, "served_cache_bytes").await));
    }
    assert!(before[0].0 > 4, "{before:?}");
    let seawall = seawall.restart(&pki).await;
    for (span, (hits, bytes)) in ["24h", "30d"].into_iter().zip(&before) {
        // What a connection had in flight may have been counted last.
        assert!(sum(&seawall, span, "hit").await >= *hits, "{span}");
        assert!(sum(&seawall, span, "served_cache_bytes").await >= *bytes, "{span}");
    }
    assert!(status(&seawall).await["hit_share"]["24h"]["requests"].as_f64() > Some(0.4));
    let seawall = seawall.restart(&pki).await;
    assert_eq!(sum(&seawall, "24h", "hit").await, sum(&seawall, "30d", "hit").await, "nothing is counted twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_in_which_nothing_came_are_empty() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let busy = async |seawall: &Seawall, span: &str| -> Vec<usize> {
        let (hits, misses) = (values(seawall, span, "hit").await, values(seawall, span, "miss").await);
        (0..hits.len()).filter(|n| hits[*n] + misses[*n] > 0).collect()
    };
    let pulled = async |seawall: &Seawall| {
        seawall.client().pull(ALPINE, Style::Docker).await.unwrap();
        landed(seawall).await;
        busy(seawall, "24h").await;
    };
    pulled(&seawall).await;
    seawall.clock.advance(3 * HOUR);
    pulled(&seawall).await;
    // A pull may be in two minutes, if one ends meanwhile.
    let minutes = busy(&seawall, "24h").await;
    let gap = minutes.windows(2).map(|two| two[1] - two[0]).max();
    assert!(gap.is_some_and(|gap| (178..=180).contains(&gap)) && minutes.len() <= 4, "{minutes:?}");
    let hours = busy(&seawall, "30d").await;
    assert!(hours.last() == Some(&719) && hours.iter().any(|hour| *hour <= 717), "{hours:?}");
    let seawall = seawall.restart(&pki).await;
    seawall.clock.advance(22 * HOUR);
    assert!(busy(&seawall, "24h").await.iter().all(|minute| *minute < 180), "a day forgets");
    assert_eq!(status(&seawall).await["hit_share"]["1h"]["requests"], Value::Null);
    assert!(!busy(&seawall, "30d").await.is_empty(), "a month does not");
}

/// A name that is shown is one that was granted; and it is a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pulls_most_and_what_of_what_was_granted() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/secret:1", Image::single(&[b"private"]))
        .private("acme/secret", &["alice"])
        .user("alice", "alices-password")
        .token_auth()
        .start(&pki)
        .await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    pulled_twice(&seawall).await;
    let denied = Pull::new("docker.io/acme/secret:1", Style::Docker);
    denied.run(&seawall.client()).await.unwrap_err();
    Pull::new("docker.io/library/none:1", Style::Docker).run(&seawall.client()).await.unwrap_err();
    get(&seawall.client(), &format!("{TAG}?token=in-a-query")).await;
    let absent = format!("{HUB}/v2/library/none/manifests/1");
    assert_eq!(seawall.client().get(&absent).send().await.unwrap().status, 404, "asked without Accept it is relayed");

    let top = api(&seawall, "top").await;
    let names = |list: &str| -> Vec<String> {
        top[list].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (names("images"), names("clients")),
        (vec!["docker.io/library/alpine".into()], vec!["127.0.0.1".into()])
    );
    let (image, client) = (&top["images"][0], &top["clients"][0]);
    assert!(image["pulls"].as_u64() >= Some(4) && image["pulls"] == image["pulls_at_least"], "{top}");
    assert!(image["bytes"].as_u64() > Some(0) && image["bytes"] == client["bytes"], "{top}");
    let allowed = Pull::new("docker.io/acme/secret:1", Style::Docker).user("alice", "alices-password");
    allowed.run(&seawall.client()).await.unwrap();
    let top = api(&seawall, "top").await.to_string();
    assert!(top.contains("docker.io/acme/secret"), "the listener is the operator's: {top}");
    for secret in ["alices-password", "alice", "in-a-query", "library/none", "sha256:", "?"] {
        assert!(!top.contains(secret), "{secret} in {top}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_span_is_refused_with_those_there_are() {
    let seawall = Seawall::alone().start(&Pki::new()).await;
    let url = format!("http://{}/api/v1/statistics?span=7d", seawall.admin());
    let reply = Client::plain(seawall.admin()).get(&url).send().await.unwrap();
    assert_eq!(reply.status, 400);
    assert!(String::from_utf8_lossy(reply.bytes()).contains("24h or 30d"));
}
