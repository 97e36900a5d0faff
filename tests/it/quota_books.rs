//! What the operator sees of quota: in the log, in the metrics, by repository.

use std::time::Duration;

use http::Method;

use crate::harness::*;
use crate::quota::{as_client, ratelimits};
use crate::tags::{ALL, HUB, MINUTE, TAG, ask, hub};

const WINDOW: Duration = Duration::from_secs(21_600);

/// At 25 % and at 10 %, once in a window, whether seawall was restarted or not.
#[test]
fn the_log_warns_before_a_quota_is_spent() {
    alone("quota_books::warnings");
}

/// One thread, so that all of it is logged here.
#[tokio::test]
#[ignore = "the_log_warns_before_a_quota_is_spent runs it"]
async fn warnings() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let mut seawall = Seawall::before(&registry).start(&pki).await;
    let warned = |log: &Log| -> Vec<String> {
        let text = log.text();
        text.lines().filter(|line| line.contains("of the pull quota is left")).map(str::to_owned).collect()
    };
    for (left, warnings) in [(60, 0), (26, 0), (25, 1), (20, 1), (10, 2), (9, 2), (0, 2)] {
        registry.set_remaining(ANONYMOUS_SOURCE, left);
        seawall.clock.advance(10 * MINUTE);
        assert_eq!(ask(&seawall.client(), Method::HEAD, TAG, &ALL).await.status, 200);
        assert_eq!(warned(&log).len(), warnings, "{left}: {:#?}", warned(&log));
        if left == 20 {
            seawall = seawall.restart(&pki).await;
        }
    }
    let (first, last) = (&warned(&log)[0], &warned(&log)[1]);
    for part in [
        " WARN ",
        "no more than 25 % of the pull quota is left",
        "registry=docker.io",
        "host=registry-1.docker.io",
        "identity=\"anonymous\"",
        "source=\"203.0.113.7\"",
        "remaining=25",
        "limit=100",
        "spent=20",
        "free=20",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(last.contains("no more than 10 %") && last.contains("remaining=10"), "{last}");
    for _ in 0..3 {
        assert_eq!(as_client(&seawall.client(), TAG).await.status, 429);
    }
    let text = log.text();
    let limits: Vec<&str> = text.lines().filter(|line| line.contains("upstream answered 429")).collect();
    assert!(limits.len() == 1 && limits[0].contains("limit=\"pulls\" until=20"), "{limits:#?}");
    seawall.clock.advance(WINDOW);
    registry.set_remaining(ANONYMOUS_SOURCE, 5);
    assert_eq!(ask(&seawall.client(), Method::HEAD, TAG, &ALL).await.status, 200);
    assert!(warned(&log).len() == 3 && warned(&log)[2].contains("10 %"), "the next window: {:#?}", warned(&log));
}

/// The lines of `/metrics` that show a quota.
async fn gauges(seawall: &Seawall) -> Vec<String> {
    let reply = Client::plain(seawall.admin()).get("http://admin.test/metrics").send().await.unwrap();
    let text = String::from_utf8_lossy(reply.bytes()).into_owned();
    let is_gauge = |line: &&str| {
        ["limit{", "remaining{", "window_seconds{"]
            .iter()
            .any(|name| line.starts_with(&format!("seawall_ratelimit_{name}")))
    };
    text.lines().filter(is_gauge).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gauges_are_there_after_a_restart_and_gone_with_their_window() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    assert_eq!(as_client(&seawall.client(), TAG).await.status, 200);
    let of = |name: &str, value: u64| {
        format!("seawall_ratelimit_{name}{{registry=\"docker.io\",source=\"203.0.113.7\"}} {value}")
    };
    let expected = [of("limit", 100), of("remaining", 99), of("window_seconds", 21_600)];
    assert_eq!(gauges(&seawall).await, expected);
    let seawall = seawall.restart(&pki).await;
    assert_eq!(gauges(&seawall).await, expected);
    seawall.clock.advance(WINDOW);
    assert_eq!(gauges(&seawall).await, Vec::<String>::new(), "nobody knows what is left now");
    let seawall = seawall.restart(&pki).await;
    assert_eq!(gauges(&seawall).await, Vec::<String>::new());
    assert_eq!(ask(&seawall.client(), Method::HEAD, TAG, &ALL).await.status, 200);
    assert_eq!(gauges(&seawall).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_are_booked_under_the_name_that_clients_know() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.add_image("proxy/bitnamilegacy/nginx:1", &Image::single(&[b"moved"]));
    let toml = "[[registry]]\nname = \"docker.io\"\n\
        upstreams = [{ url = \"https://registry-1.docker.io\", prefix = \"proxy\" }]\n\
        rewrite = [{ from = \"^bitnami/(.*)$\", to = \"bitnamilegacy/$1\" }]";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    for _ in 0..2 {
        let url = format!("{HUB}/v2/bitnami/nginx/manifests/1");
        assert_eq!(as_client(&seawall.client(), &url).await.status, 200, "{}", registry.log());
    }
    let pulls = ratelimits(&seawall).await["pulls"].clone();
    let expected = serde_json::json!([{ "name": "bitnami/nginx", "charged": 1, "spared": 1 }]);
    assert_eq!(pulls["repositories"], expected, "{pulls:#}");
}

/// Sources are told, as upstream names them; nothing that opens anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_tells_no_credential() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .user("alice", "alices-password")
        .token_auth()
        .quota(100)
        .start(&pki)
        .await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for style in [Style::Docker, Style::Containerd] {
        let pull = Pull::new("docker.io/library/alpine:3.20", style).user("alice", "alices-password");
        pull.run(&seawall.client()).await.unwrap();
    }
    registry.set_remaining("alice", 0);
    registry.add_image("library/new:1", &Image::single(&[b"new"]));
    let pull = Pull::new("docker.io/library/new:1", Style::Docker).user("alice", "alices-password");
    pull.run(&seawall.client()).await.unwrap_err();
    let told = ratelimits(&seawall).await;
    assert_eq!((&told["limited"][0]["source"], &told["limited"][0]["identity"]), (&"alice".into(), &"client".into()));
    let mut told = told.to_string();
    told.push_str(&gauges(&seawall).await.join("\n"));
    let shown: Vec<String> = registry.requests().iter().filter_map(|s| Some(s.authorization()?.to_owned())).collect();
    assert!(shown.len() > 3, "{}", registry.log());
    for secret in shown.iter().filter_map(|shown| shown.split_once(' ')).map(|(_, secret)| secret) {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    assert!(!told.contains("alices-password"), "{told}");
}
