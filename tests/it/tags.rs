//! What does a tag name now? policy/freshness from end to end.

use std::time::Duration;

use http::Method;

use crate::harness::exchange::Reply;
use crate::harness::image::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;

pub(crate) const HUB: &str = "https://registry-1.docker.io";
pub(crate) const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";
pub(crate) const ALL: [&str; 4] = [DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX];
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn hub(pki: &Pki) -> Registry {
    let registry = Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::two_platforms());
    registry.token_auth().cdn("cdn.example.test").quota(100).start(pki).await
}

pub(crate) async fn ask(client: &Client, method: Method, url: &str, accept: &[&str]) -> Reply {
    let ask = accept.iter().fold(client.request(method, url), |ask, one| ask.header("accept", one));
    ask.send().await.unwrap()
}

pub(crate) async fn get(client: &Client, url: &str) -> Reply {
    ask(client, Method::GET, url, &ALL).await
}

/// Status and digest.
pub(crate) fn named(reply: &Reply) -> (u16, &str) {
    (reply.status.as_u16(), reply.header("docker-content-digest"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_tag_is_seen_after_its_ttl_and_costs_one_head_and_one_get() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let old = Image::two_platforms().digest();
    assert_eq!(named(&get(&client, TAG).await), (200, &*old));
    let new = registry.add_image("library/alpine:3.20", &Image::multi_layer());
    seawall.clock.advance(MINUTE - Duration::from_secs(2));
    registry.reset_counts();
    let reply = get(&client, TAG).await;
    assert_eq!((named(&reply), registry.requests().len()), ((200, &*old), 0));
    assert!((58..=59).contains(&reply.header("age").parse::<u64>().unwrap()), "{:?}", reply.headers);
    assert_eq!((reply.header("vary"), reply.header("cache-status")), ("Accept", "seawall; hit"));
    seawall.clock.advance(Duration::from_secs(2));
    let reply = get(&client, TAG).await;
    assert_eq!((named(&reply), sha256(reply.bytes())), ((200, &*new), new.clone()));
    assert_eq!((registry.heads("manifests"), registry.gets("manifests")), (1, 1), "{}", registry.log());
    let by_digest = get(&client, &format!("{HUB}/v2/library/alpine/manifests/{old}")).await;
    assert_eq!((named(&by_digest), by_digest.header("vary")), ((200, &*old), ""), "what it was is still here");
}

/// RFC 9211: what went upstream is no hit, though the bytes were here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_confirmed_just_now_is_no_hit() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let by_digest = format!("{HUB}/v2/library/alpine/manifests/{}", Image::two_platforms().digest());
    let said = async |url: &str| {
        let reply = get(&client, url).await;
        (reply.header("cache-status").to_owned(), reply.header("age").to_owned())
    };
    let told = |status: &str, age: &str| (status.to_owned(), age.to_owned());
    let head = client.head(TAG).send().await.unwrap();
    assert_eq!(head.header("cache-status"), "seawall; fwd=miss; stored", "nothing was here");
    assert_eq!(said(TAG).await, told("seawall; fwd=miss; stored", ""));
    assert_eq!(said(TAG).await, told("seawall; hit", "0"));
    for (pass, url, age) in [(1, TAG, "0"), (2, &*by_digest, "")] {
        seawall.clock.advance(Duration::from_secs(3600 * pass));
        assert_eq!(said(url).await, told(REVALIDATED, age), "{url}");
        assert_eq!(said(url).await.0, "seawall; hit", "{url}");
    }
    seawall.clock.advance(Duration::from_secs(7200));
    let head = client.head(TAG).send().await.unwrap();
    assert_eq!(head.header("cache-status"), REVALIDATED);
}

/// Pitfall 10: rules are about whole names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_give_a_tag_its_ttl() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").start(&pki).await;
    let tags = ["acme/app:v1.2.3", "acme/app:latest", "acme/app:latest-1", "acme/app:testing-abc", "other/app:v1.2.3"];
    for name in tags {
        registry.add_image(name, &Image::multi_layer());
    }
    let rules = r#"
        [cache]
        public_ttl = "forever"
        [cache.tags]
        ttl = "1m"
        rules = [
            { match = "ghcr.io/acme/*:v*.*.*", ttl = "forever" },
            { match = "*:latest", ttl = "30s" },
            { match = "*:test", ttl = "60d" },
        ]"#;
    let seawall = Seawall::before(&registry).toml(rules).start(&pki).await;
    let client = seawall.client();
    for (advance, asked) in [(0, &tags[..]), (30, &tags[1..2]), (30, &tags[1..]), (86_400 * 365, &tags[1..])] {
        seawall.clock.advance(Duration::from_secs(advance));
        registry.reset_counts();
        for name in tags {
            let (repository, tag) = name.split_once(':').unwrap();
            assert_eq!(get(&client, &format!("https://ghcr.io/v2/{repository}/manifests/{tag}")).await.status, 200);
        }
        let heads: Vec<String> = registry
            .requests()
            .iter()
            .filter(|seen| seen.method == Method::HEAD)
            .map(|seen| seen.path.clone())
            .collect();
        let wanted: Vec<String> =
            asked.iter().map(|name| format!("/v2/{}", name.replace(':', "/manifests/"))).collect();
        assert_eq!(heads, wanted, "after {advance} s");
    }
}

/// Pitfalls 8 and 27: a hundred clients, one HEAD (that stays a HEAD), one token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_ask_for_a_tag_and_one_head_goes_upstream() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").method(Method::HEAD).hold_head(&gate));
    let clients: Vec<_> = (0..100)
        .map(|n| {
            let client = seawall.client();
            let method = if n % 2 == 0 { Method::GET } else { Method::HEAD };
            tokio::spawn(async move { ask(&client, method, TAG, &ALL).await.status })
        })
        .collect();
    gate.reached().await;
    gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    let allowed = registry.count(|seen| seen.method == Method::HEAD && seen.status() == 200);
    assert_eq!((allowed, registry.gets("manifests"), registry.gets("token")), (1, 1, 1), "{}", registry.log());
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(99));
}

/// Pitfall 13: one tag, other answers for other `Accept`s, and no more requests than there are
/// answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_index_never_gets_one() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let (index, manifest) = (Image::two_platforms().digest(), Image::two_platforms().platforms()[0].digest());
    let digest = async |accept: &[&str]| {
        let reply = ask(&client, Method::GET, TAG, accept).await;
        (reply.header("docker-content-digest").to_owned(), reply.header("content-type").to_owned())
    };
    let (an_index, a_manifest) = ((index, OCI_INDEX.to_owned()), (manifest, OCI_MANIFEST.to_owned()));
    assert_eq!(digest(&[DOCKER_MANIFEST, OCI_MANIFEST]).await, a_manifest);
    assert_eq!(digest(&ALL).await, an_index);
    assert_eq!(
        digest(&[
            "application/vnd.oci.image.manifest.v1+json;q=0.5, application/vnd.docker.distribution.manifest.v2+json"
        ])
        .await,
        a_manifest
    );
    let heads = registry.heads("manifests");
    let mut order = ALL;
    for n in 0..4 {
        order.rotate_left(1);
        order.swap(0, n);
        assert_eq!(digest(&order).await, an_index);
        assert_eq!(digest(&[&order.join(", "), "application/json", SCHEMA1]).await, an_index);
    }
    assert_eq!(registry.heads("manifests"), heads, "random order, one key\n{}", registry.log());
    assert_eq!(digest(&["*/*"]).await, an_index);
    assert_eq!(digest(&[]).await, an_index);
    assert_eq!(registry.heads("manifests"), heads + 1);
    registry.fault(Fault::on("manifests").status(503, ""));
    seawall.clock.advance(MINUTE);
    assert_eq!(digest(&[OCI_MANIFEST]).await, a_manifest, "stale, and still one that it can read");
    assert_eq!(ask(&client, Method::GET, TAG, &[DOCKER_LIST]).await.status, 503, "nothing here for it");
}

/// Pitfall 1: the same name at two registries is two names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_tag_at_two_registries_is_two_tags() {
    let pki = Pki::new();
    let quay = Registry::new("quay.io").image("foo/bar:1.2.3", Image::single(&[b"quay"])).start(&pki).await;
    let ghcr = Registry::new("ghcr.io").image("foo/bar:1.2.3", Image::single(&[b"ghcr"])).start(&pki).await;
    let seawall = Seawall::before(&quay).front(&ghcr).start(&pki).await;
    for _ in 0..2 {
        for (host, image) in [("quay.io", Image::single(&[b"quay"])), ("ghcr.io", Image::single(&[b"ghcr"]))] {
            let reply = get(&seawall.client(), &format!("https://{host}/v2/foo/bar/manifests/1.2.3")).await;
            assert_eq!(named(&reply), (200, &*image.digest()), "{host}");
        }
    }
    assert_eq!((quay.requests().len(), ghcr.requests().len()), (2, 2), "{}{}", quay.log(), ghcr.log());
}

/// Pitfalls 11 and 12: what is stored has its type and nothing of the moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_has_its_type_and_no_old_quota() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.fault(
        Fault::on("manifests")
            .set("set-cookie", "sid=1")
            .set("alt-svc", "h3=\":443\"")
            .set("cache-control", "no-store"),
    );
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    for method in [Method::HEAD, Method::GET, Method::GET, Method::HEAD] {
        let reply = ask(&client, method.clone(), TAG, &ALL).await;
        for name in [
            "ratelimit-limit",
            "ratelimit-remaining",
            "docker-ratelimit-source",
            "set-cookie",
            "alt-svc",
            "cache-control",
        ] {
            assert_eq!(reply.header(name), "", "{method} {name}");
        }
        let bytes = Image::two_platforms().manifest();
        assert_eq!(
            (reply.header("content-type"), reply.header("content-length")),
            (OCI_INDEX, &*bytes.len().to_string())
        );
        assert_eq!(reply.header("etag"), format!("\"{}\"", Image::two_platforms().digest()));
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
    }
    assert_eq!(seawall.metric("seawall_ratelimit_remaining"), 99.0);
}

/// Pitfall 28: only what is asked for is fetched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_platform_that_is_asked_for_is_fetched() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    assert_eq!((registry.gets("manifests"), registry.gets("cdn")), (2, 3), "{}", registry.log());
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(98));
}

/// HEAD without a digest, HEAD not allowed: the bytes say it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_whose_head_says_too_little() {
    for fault in
        [Fault::on("manifests").no_digest(), Fault::on("manifests").method(Method::HEAD).error(405, "UNSUPPORTED")]
    {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        registry.fault(fault);
        let seawall = Seawall::before(&registry).start(&pki).await;
        for style in Style::ALL {
            seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
        }
        let reply = ask(&seawall.client(), Method::HEAD, TAG, &ALL).await;
        assert_eq!(
            (named(&reply), reply.header("content-type")),
            ((200, &*Image::two_platforms().digest()), OCI_INDEX)
        );
        assert_eq!(registry.gets("manifests"), 2, "{}", registry.log());
    }
}

/// An upstream that lies about the type, or says none: the bytes know better.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_has_its_own_type_whatever_upstream_calls_it() {
    for said in ["text/plain", "application/octet-stream", "application/json; charset=utf-8"] {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        registry.fault(Fault::on("manifests").media_type(said));
        let seawall = Seawall::before(&registry).start(&pki).await;
        for _ in 0..2 {
            let reply = get(&seawall.client(), TAG).await;
            assert_eq!(
                (named(&reply), reply.header("content-type")),
                ((200, &*Image::two_platforms().digest()), OCI_INDEX),
                "{said}"
            );
            let reply = ask(&seawall.client(), Method::HEAD, TAG, &ALL).await;
            assert_eq!(
                (named(&reply), reply.header("content-type")),
                ((200, &*Image::two_platforms().digest()), OCI_INDEX),
                "{said}, HEAD"
            );
        }
    }
}

/// Schema 1 is not what its digest is of: it passes, and is never kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_1_passes_through() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let bytes = r#"{"schemaVersion":1,"name":"library/old"}"#;
    registry.add_manifest("library/old", "1", SCHEMA1, bytes);
    let seawall = Seawall::before(&registry).start(&pki).await;
    let url = format!("{HUB}/v2/library/old/manifests/1");
    for accept in [&[SCHEMA1][..], &ALL[..], &[][..]] {
        for n in 1..3 {
            registry.reset_counts();
            let reply = ask(&seawall.client(), Method::GET, &url, accept).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("content-type"), &reply.bytes()[..]),
                (200, SCHEMA1, bytes.as_bytes()),
                "{accept:?}"
            );
            assert_eq!(
                registry.gets("manifests"),
                1 + registry.count(|seen| seen.status() == 401),
                "{n} {}",
                registry.log()
            );
        }
    }
    assert_eq!(seawall.metric("seawall_cache_entries"), 0.0);
}

/// registry.k8s.io: manifests too come from another host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_are_redirected_to_another_host() {
    let pki = Pki::new();
    let k8s = Registry::new("registry.k8s.io").start(&pki).await;
    let real =
        Registry::new("europe-west1-docker.pkg.dev").image("k8s/pause:3.9", Image::two_platforms()).start(&pki).await;
    let image = Image::two_platforms();
    let host = "https://europe-west1-docker.pkg.dev/v2/k8s/pause";
    k8s.fault(Fault::on("manifests").path_contains("/3.9").redirect(&format!("{host}/manifests/3.9")));
    for (_, bytes) in image.manifests() {
        let digest = sha256(&bytes);
        k8s.fault(Fault::on("manifests").digest(&digest).redirect(&format!("{host}/manifests/{digest}")));
    }
    for blob in image.blobs() {
        let digest = blob.digest();
        k8s.fault(Fault::on("blobs").digest(&digest).redirect(&format!("{host}/blobs/{digest}")));
    }
    let seawall = Seawall::before(&k8s).front(&real).start(&pki).await;
    for style in Style::ALL {
        let pulled = seawall.client().pull("registry.k8s.io/pause:3.9", style).await.unwrap();
        assert!(pulled.steps.iter().all(|step| step.contains("registry.k8s.io")), "{:?}", pulled.steps);
    }
    assert_eq!((real.heads("manifests"), real.gets("manifests"), real.gets("blobs")), (1, 2, 3), "{}", real.log());
}

/// A push through seawall is asked anew, whatever the ttl; so is what was deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_was_pushed_or_deleted_through_seawall_is_asked_anew() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").image("a/b:1", Image::multi_layer()).image("a/b:2", Image::multi_layer());
    let registry = registry.start(&pki).await;
    let rules = "[cache.tags]\nrules = [{ match = \"*\", ttl = \"forever\" }]";
    let seawall = Seawall::before(&registry).toml(rules).start(&pki).await;
    let client = seawall.client();
    let url = |tag: &str| format!("https://ghcr.io/v2/a/b/manifests/{tag}");
    let old = Image::multi_layer().digest();
    for tag in ["1", "2"] {
        assert_eq!(named(&get(&client, &url(tag)).await), (200, &*old));
    }
    let pushed = Image::single(&[b"pushed"]);
    let put = client.request(Method::PUT, &format!("{}?tag=2", url("1"))).header("content-type", OCI_MANIFEST);
    let reply = put.body(pushed.manifest()).send().await.unwrap();
    assert_eq!(reply.status, 201, "{}", registry.log());
    for tag in ["1", "2"] {
        assert_eq!(named(&get(&client, &url(tag)).await), (200, &*pushed.digest()), "{tag}");
    }
    assert_eq!(client.request(Method::DELETE, &url("1")).send().await.unwrap().status, 202);
    let reply = get(&client, &url("1")).await;
    assert_eq!((reply.status.as_u16(), reply.header("cache-status").contains("detail=gone")), (200, true), "`gone`");
    let by_digest = url(&pushed.digest());
    registry.add_manifest("a/b", "2", OCI_MANIFEST, pushed.manifest());
    assert_eq!(named(&get(&client, &url("2")).await), (200, &*pushed.digest()));
    assert_eq!(client.request(Method::DELETE, &by_digest).send().await.unwrap().status, 202);
    assert_eq!(get(&client, &by_digest).await.status, 404);
    assert_eq!(get(&client, &url("2")).await.status, 404, "registries delete by digest only\n{}", registry.log());
}

/// Pitfall 32: a hundred clients while upstream is slow to refuse still cost one question.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_are_asked_once_for_many_too() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    seawall.clock.advance(Duration::from_secs(900));
    registry.reset_counts();
    let layer = format!("{HUB}/v2/library/alpine/blobs/{}", Image::two_platforms().layers()[1].digest());
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let (client, url) = (seawall.client(), layer.clone());
            tokio::spawn(async move { client.get(&url).send().await.unwrap().status })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    let (asked, fetched) =
        (registry.count(|seen| seen.kind() == "blobs" && seen.status() == 307), registry.gets("cdn"));
    // Who looked before the answer came, and asks after it has come, asks again: never many.
    assert!((1..=3).contains(&asked) && fetched == 0, "{}", registry.log());
}

/// Pitfall 27: clients that all want a token at once cost one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_asked_once_for_many() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("token").hold_head(&gate).times(1));
    let clients: Vec<_> = (0..50)
        .map(|_| {
            let client = seawall.client();
            tokio::spawn(async move { client.pull("docker.io/library/alpine:3.20", Style::Podman).await.is_ok() })
        })
        .collect();
    gate.reached().await;
    gate.open();
    for client in clients {
        assert!(client.await.unwrap());
    }
    assert_eq!(registry.gets("token"), 1, "{}", registry.log());
}
