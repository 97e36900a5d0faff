//! The ways in that are not encrypted: absolute-form, the mirror, pages for people, the operator's
//! listener.

use http::Method;

use crate::harness::*;
use crate::target::{FILES, TAG, hub};

/// Pitfall 42: a plain request through the proxy is answered by whom it was for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_registry_is_pulled_in_absolute_form_and_kept() {
    let pki = Pki::new();
    let plain = Registry::new("plain.test").plain().image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let toml = "[[registry]]\nname = \"plain\"\nhosts = [\"http://plain.test\"]\nupstreams = [{ url = \"http://plain.test\" }]";
    let seawall = Seawall::before(&plain).toml(toml).start(&pki).await;
    let client = Client::via_connect(seawall.addr(), "");
    let layer = Image::multi_layer().layers()[1].clone();
    let urls = [
        "http://plain.test/v2/some/thing/manifests/1".to_owned(),
        format!("http://plain.test:80/v2/some/thing/blobs/{}", layer.digest()),
    ];
    for url in &urls {
        let reply = client.get(url).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, "seawall; fwd=miss; stored"), "{url}");
    }
    plain.reset_counts();
    for url in &urls {
        let mut reply = client.get(url).send().await.unwrap();
        // Whoever comes before the last byte is on the disk follows the fill.
        while reply.header("cache-status") == "seawall; fwd=miss; collapsed" {
            reply = client.get(url).send().await.unwrap();
        }
        assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, "seawall; hit"), "{url}");
    }
    assert_eq!(plain.requests().len(), 0, "{}", plain.log());
    let both = client.get(&urls[0]).host("other.test").send().await.unwrap();
    assert_eq!(both.status, 421, "the URL and Host name two hosts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_for_others_is_forwarded_as_policy_says() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let others = Registry::new(FILES).plain().image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let url = "http://files.example.test/v2/some/thing/manifests/1";
    let seawall = Seawall::before(&registry).front(&others).start(&pki).await;
    let refused = Client::via_connect(seawall.addr(), "").get(url).send().await.unwrap();
    assert!(refused.status.is_client_error(), "{}", refused.status);
    assert!(refused.json()["errors"][0]["message"].to_string().contains("port 80 is not in tunnel.ports"));
    assert_eq!(others.requests().len(), 0);

    let toml = "[tunnel]\nports = [80, 443]\nhosts = [\"*.example.test\", \"127.0.0.1\"]";
    let seawall = Seawall::before(&registry).front(&others).toml(toml).start(&pki).await;
    let client = Client::via_connect(seawall.addr(), "").proxy_user("somebody", "secret");
    for _ in 0..2 {
        let reply = client.get(url).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, "seawall; fwd=bypass"));
        assert_eq!(reply.bytes(), &Image::multi_layer().manifest());
    }
    let seen = others.requests();
    assert_eq!(seen.len(), 2, "nothing of others is kept");
    assert!(seen.iter().all(|seen| seen.authority == FILES && seen.header("proxy-authorization").is_none()));
    for url in ["http://other.test/", "http://127.0.0.1/", "http://files.example.test:8080/"] {
        let reply = client.get(url).send().await.unwrap();
        assert!(!reply.status.is_success(), "{url}: {}", reply.status);
        assert!(reply.json()["errors"][0]["message"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_asked_by_path_and_by_ns() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let other = Registry::new("ghcr.io").image("owner/app:1", Image::two_platforms()).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&other).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    let get = async |path: &str| mirror.get(&format!("http://mirror.test:3128{path}")).send().await.unwrap();
    let ping = get("/v2/").await;
    assert_eq!((ping.status.as_u16(), &ping.bytes()[..]), (200, &b"{}"[..]));
    assert_eq!(ping.header("docker-distribution-api-version"), "registry/2.0");
    for path in [
        "/v2/alpine/manifests/3.20",
        "/v2/library/alpine/manifests/3.20",
        "/v2/docker.io/alpine/manifests/3.20",
        "/v2/dockerhub/library/alpine/manifests/3.20",
        "/v2/library/alpine/manifests/3.20?ns=docker.io",
        "/v2/library/alpine/manifests/3.20?ns=registry-1.docker.io",
    ] {
        let reply = get(path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("docker-content-digest")),
            (200, &*Image::multi_layer().digest()),
            "{path}"
        );
    }
    for path in ["/v2/ghcr.io/owner/app/manifests/1", "/v2/owner/app/manifests/1?ns=ghcr.io"] {
        assert_eq!(get(path).await.header("docker-content-digest"), Image::two_platforms().digest(), "{path}");
    }
    // Pitfall 17: `ns` is a key, never an address.
    for ns in ["127.0.0.1", "evil.test", "files.example.test:443", ""] {
        let reply = get(&format!("/v2/owner/app/manifests/1?ns={ns}")).await;
        assert_eq!(
            (reply.status.as_u16(), &*reply.json()["errors"][0]["code"].to_string()),
            (404, "\"NAME_UNKNOWN\""),
            "{ns}"
        );
    }
    let push = mirror
        .request(Method::PUT, "http://mirror.test/v2/library/alpine/manifests/3.20")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(push.json()["errors"][0]["code"], "UNSUPPORTED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_finds_a_page_the_root_and_health() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = Client::plain(seawall.addr());
    let base = format!("http://{}", seawall.addr());
    let page = client.get(&format!("{base}/")).send().await.unwrap();
    let text = String::from_utf8(page.bytes().to_vec()).unwrap();
    assert!(page.status == 200 && text.contains(&format!("HTTPS_PROXY=http://{}", seawall.addr())), "{text}");
    let root = client.get(&format!("{base}/ca.crt")).send().await.unwrap();
    assert_eq!(root.bytes(), &std::fs::read(seawall.data.join("ca/ca.crt")).unwrap());
    assert_eq!(root.header("content-type"), "application/x-pem-file");
    let head = client.head(&format!("{base}/ca.crt")).send().await.unwrap();
    assert_eq!(head.header("content-length"), root.bytes().len().to_string());
    assert_eq!(client.get(&format!("{base}/healthz")).send().await.unwrap().bytes(), "ok\n");
    for path in ["/nothing", "/metrics", "/ca.key", "/v1/", "/readyz"] {
        assert_eq!(client.get(&format!("{base}{path}")).send().await.unwrap().status, 404, "{path}");
    }
    assert_eq!(client.request(Method::POST, &format!("{base}/")).send().await.unwrap().status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_finds_health_readiness_and_metrics_apart_from_clients() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().get(TAG).send().await.unwrap();
    seawall.client().get(TAG).send().await.unwrap();
    let admin = Client::plain(seawall.admin());
    let get = async |path: &str| admin.get(&format!("http://{}{path}", seawall.admin())).send().await.unwrap();
    assert_eq!(get("/healthz").await.bytes(), "ok\n");
    assert_eq!(get("/readyz").await.bytes(), "ready\n");
    let metrics = String::from_utf8(get("/metrics").await.bytes().to_vec()).unwrap();
    for (outcome, count) in [("miss", 1), ("hit", 1)] {
        let line = metrics
            .lines()
            .find(|line| line.starts_with("seawall_requests_total") && line.contains(&format!("\"{outcome}\"")));
        let line = line.unwrap_or_else(|| panic!("no {outcome} in\n{metrics}"));
        assert!(
            line.contains("registry=\"docker.io\"")
                && line.contains("kind=\"manifest\"")
                && line.ends_with(&format!(" {count}")),
            "{line}"
        );
    }
    assert_eq!(get("/v2/").await.status, 404, "no pulls there");
}
