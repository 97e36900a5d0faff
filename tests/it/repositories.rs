//! `allow` and `deny`: before anything goes upstream.

use http::Method;

use crate::access::HUB;
use crate::harness::*;

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/app:1", Image::single(&[b"denied"]))
        .token_auth()
        .start(pki)
        .await
}

const DENY: &str = "[[registry]]\nname = \"docker.io\"\ndeny = [\"acme/*\"]\n";

/// Every way to name it, and what is not understood.
fn requests() -> Vec<(Method, String)> {
    let image = Image::single(&[b"denied"]);
    let paths = [
        "manifests/1".to_owned(),
        format!("manifests/{}", image.digest()),
        format!("blobs/{}", image.layers()[0].digest()),
        "tags/list".to_owned(),
        format!("referrers/{}", image.digest()),
        "blobs/blake3:00".to_owned(),
        "_trust/tuf/root.json".to_owned(),
    ];
    let pulls = paths.iter().flat_map(|path| [(Method::GET, path.clone()), (Method::HEAD, path.clone())]);
    let pushes = [
        (Method::POST, "blobs/uploads/".to_owned()),
        (Method::PUT, "manifests/1".to_owned()),
        (Method::DELETE, "manifests/1".to_owned()),
    ];
    pulls.chain(pushes).map(|(method, path)| (method, format!("/v2/acme/app/{path}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_never_goes_upstream() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(DENY).start(&pki).await;
    let client = seawall.client();
    for (method, path) in requests() {
        let reply = client.request(method.clone(), &format!("{HUB}{path}")).send().await.unwrap();
        assert_eq!(reply.status, 403, "{method} {path}");
        if method == Method::GET {
            let message = reply.json()["errors"][0]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("`allow` and `deny` of the [[registry]] docker.io"), "{path}: {message}");
        }
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_not_served_from_the_cache_nor_by_the_mirror() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let before = Seawall::before(&registry).start(&pki).await;
    before.client().pull("docker.io/acme/app:1", Style::Docker).await.unwrap();
    let (_dir, data) = before.stop().await;
    registry.reset_counts();
    let seawall = Seawall::before(&registry).toml(DENY).data(&data).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for (client, at) in [(&seawall.client(), HUB.to_owned()), (&mirror, format!("http://{}", seawall.addr()))] {
        let reply = client.get(&format!("{at}/v2/acme/app/manifests/1")).send().await.unwrap();
        assert_eq!(reply.status, 403);
        assert!(!String::from_utf8_lossy(reply.bytes()).contains("layers"));
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
}

/// Registries route by the decoded path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_denied_in_disguise() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(DENY).start(&pki).await;
    for (method, path) in [
        (Method::GET, "/%762/acme/app/tags/list"),
        (Method::GET, "/v2/acme%2fapp/tags/list"),
        (Method::PUT, "/%762/acme/app/manifests/1"),
        (Method::DELETE, "/v2/./acme/app/manifests/1"),
        (Method::POST, "/v2/library/../acme/app/blobs/uploads/"),
        (Method::GET, "//v2/acme/app/tags/list"),
        (Method::GET, "/artifactory/api/docker/hub/v2/acme/app/manifests/1"),
        (Method::GET, "/artifactory/docker-local/acme/app/1/manifest.json"),
        (Method::GET, "/api/v1/repository/acme/app"),
        (Method::GET, "/V2/acme/app/tags/list"),
        (Method::PUT, "/v2/library/alpine/blobs/uploads/..%2f..%2f..%2f..%2facme%2fapp%2fmanifests%2f1"),
        (Method::POST, "/v2/library/alpine/blobs/uploads/?mount=x;from=acme/app"),
        (Method::POST, "/v2/library/alpine/blobs/uploads/?mount=x&From=acme/app"),
    ] {
        let reply = seawall.client().request(method.clone(), &format!("{HUB}{path}")).send().await.unwrap();
        assert!([400, 403].contains(&reply.status.as_u16()), "{method} {path}: {}", reply.status);
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
}

/// A mount takes bytes from one repository to another at the registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_denied_is_not_mounted_from() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(DENY).start(&pki).await;
    for from in ["acme/app", "acme%2Fapp", "acme/app&from=library/alpine", "library/alpine&%66rom=acme/app", "%2E"] {
        let digest = Image::single(&[b"denied"]).layers()[0].digest();
        let url = format!("{HUB}/v2/library/alpine/blobs/uploads/?mount={digest}&from={from}");
        assert_eq!(seawall.client().request(Method::POST, &url).send().await.unwrap().status, 403, "{from}");
    }
    // A registry takes it from where it likes.
    let url =
        format!("{HUB}/v2/library/alpine/blobs/uploads/?mount={}", Image::single(&[b"denied"]).layers()[0].digest());
    assert_eq!(seawall.client().request(Method::POST, &url).send().await.unwrap().status, 403);
    let url = format!("{HUB}/v2/library/alpine/blobs/uploads/");
    let client = seawall.client();
    let post = client.request(Method::POST, &url).body("mount=x&from=acme/app");
    let post = post.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(post.send().await.unwrap().status, 403);
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_denied() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let allow = "[[registry]]\nname = \"docker.io\"\nallow = [\"library/*\"]\n";
    let seawall = Seawall::before(&registry).toml(allow).start(&pki).await;
    let client = seawall.client();
    assert_eq!(client.get(&format!("{HUB}/v2/acme/app/manifests/1")).send().await.unwrap().status, 403);
    assert_eq!(registry.requests().len(), 0);
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    assert!(
        seawall.metric("seawall_requests_total{registry=\"docker.io\",kind=\"manifest\",outcome=\"denied\"}") > 0.0
    );
}

/// quay.io has its token service at `/v2/auth`: `allow` and `deny` are about repositories, and let it be.
/// A token opens nothing that is denied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_had_below_v2_and_open_nothing_that_is_denied() {
    let pki = Pki::new();
    let registry = Registry::new("quay.io")
        .image("acme/open:1", Image::two_platforms())
        .image("acme/shut:1", Image::single(&[b"denied"]))
        .token_auth()
        .realm("https://quay.io/v2/auth")
        .start(&pki)
        .await;
    let deny = "[[registry]]\nname = \"quay.io\"\ndeny = [\"acme/shut\", \"auth*\", \"auth\"]\n";
    let seawall = Seawall::before(&registry).toml(deny).start(&pki).await;
    let client = seawall.client();
    client.pull("quay.io/acme/open:1", Style::Docker).await.unwrap();
    assert!(registry.requests().iter().any(|request| request.path == "/v2/auth"), "{}", registry.log());
    let before = registry.requests().len();
    let token = client.get("https://quay.io/v2/auth?service=registry.docker.io&scope=repository:acme/shut:pull");
    let token = token.send().await.unwrap();
    assert_eq!(token.status, 200, "{}", registry.log());
    let bearer = format!("Bearer {}", token.json()["token"].as_str().unwrap());
    let asked = client.get("https://quay.io/v2/acme/shut/manifests/1").header("authorization", &bearer);
    assert_eq!(asked.send().await.unwrap().status, 403);
    // What is below the realm is no realm.
    assert_eq!(client.get("https://quay.io/v2/auth/manifests/1").send().await.unwrap().status, 403);
    let after = registry.requests().into_iter().skip(before).filter(|request| request.path != "/v2/auth");
    assert_eq!(after.count(), 0, "{}", registry.log());
}
