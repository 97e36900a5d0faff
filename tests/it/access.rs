//! Whose bytes are these? Invariants 7 and 9: who is refused, who is told the truth.

use std::time::Duration;

use http::Method;

use crate::harness::exchange::Reply;
use crate::harness::image::{OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;

pub(crate) const HUB: &str = "https://registry-1.docker.io";

/// alice and carol may read acme/app, alice acme/other too, bob acme/bobs; library/alpine is
/// everybody's.
pub(crate) async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("acme/app:1", private_image())
        .image("acme/other:1", Image::single(&[b"another of alice's"]))
        .image("acme/bobs:1", Image::single(&[b"one of bob's"]))
        .image("library/alpine:3.20", Image::two_platforms())
        .user("alice", "alices-password")
        .user("bob", "bobs-password")
        .user("carol", "carols-password")
        .private("acme/app", &["alice", "carol"])
        .private("acme/other", &["alice"])
        .private("acme/bobs", &["bob"])
        .token_auth()
        .cdn("cdn.example.test")
        .start(pki)
        .await
}

fn private_image() -> Image {
    Image::index(&[(
        "linux/amd64",
        Image::of(vec![Blob::from(b"nobody else's business"), Blob::generated(21, 200 << 10)]),
    )])
}

/// A token for `repository`, got through seawall.
pub(crate) async fn token(client: &Client, user: Option<(&str, &str)>, repository: &str) -> String {
    let scope = format!("scope=repository:{repository}:pull");
    let url = format!("https://auth.docker.io/token?service=registry.docker.io&{scope}");
    let ask = client.get(&url);
    let ask = if let Some((name, password)) = user { ask.basic(name, password) } else { ask };
    let reply = ask.send().await.unwrap();
    assert_eq!(reply.status, 200);
    reply.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) const ALICE: Option<(&str, &str)> = Some(("alice", "alices-password"));
pub(crate) const BOB: Option<(&str, &str)> = Some(("bob", "bobs-password"));
pub(crate) const CAROL: Option<(&str, &str)> = Some(("carol", "carols-password"));

/// Everyone who may not read acme/app, as `Authorization`.
async fn strangers(client: &Client) -> Vec<(&'static str, Option<String>)> {
    let bearer = |token: String| Some(format!("Bearer {token}"));
    vec![
        ("nobody", None),
        ("an anonymous token", bearer(token(client, None, "acme/app").await)),
        ("an anonymous token for another", bearer(token(client, None, "library/alpine").await)),
        ("bob", bearer(token(client, BOB, "acme/app").await)),
        ("alice's for another", bearer(token(client, ALICE, "acme/other").await)),
        ("made up", bearer("token-999-alice.".to_owned())),
        ("Basic", Some("Basic YWxpY2U6YWxpY2VzLXBhc3N3b3Jk".to_owned())),
        ("another scheme", Some("Negotiate abc".to_owned())),
    ]
}

/// What there is of an image to ask for: the tag, every manifest, config and layers.
fn places(repository: &str, tag: &str, image: &Image) -> Vec<(String, String)> {
    let manifests = image.manifests().into_iter().map(|(_, bytes)| sha256(&bytes));
    let manifests = manifests.map(|digest| (format!("{HUB}/v2/{repository}/manifests/{digest}"), digest));
    let blobs = image.blobs().into_iter().map(|blob| blob.digest());
    let blobs = blobs.map(|digest| (format!("{HUB}/v2/{repository}/blobs/{digest}"), digest));
    let tag = (format!("{HUB}/v2/{repository}/manifests/{tag}"), image.digest());
    std::iter::once(tag).chain(manifests).chain(blobs).collect()
}

/// GET, HEAD, Range, If-None-Match of it.
async fn every_way(client: &Client, url: &str, digest: &str, authorization: Option<&str>) -> Vec<(String, Reply)> {
    let mut replies = Vec::new();
    for (method, field, value) in [
        (Method::GET, "x-plain", "".to_owned()),
        (Method::HEAD, "x-plain", "".to_owned()),
        (Method::GET, "range", "bytes=0-3".to_owned()),
        (Method::GET, "range", "bytes=-4".to_owned()),
        (Method::GET, "if-none-match", format!("\"{digest}\"")),
        (Method::HEAD, "if-none-match", "*".to_owned()),
    ] {
        let mut ask = client.request(method.clone(), url).header(field, &value);
        ask = ask.header("accept", OCI_INDEX).header("accept", OCI_MANIFEST);
        if let Some(value) = authorization {
            ask = ask.header("authorization", value);
        }
        replies.push((format!("{method} {url} {field}: {value}"), ask.send().await.unwrap()));
    }
    replies
}

/// Nothing of it may come, in no way of asking.
async fn all_refused(client: &Client, who: &str, authorization: Option<&str>, image: &Image, seen: &Registry) {
    for (url, digest) in places("acme/app", "1", image) {
        for (asked, reply) in every_way(client, &url, &digest, authorization).await {
            assert!([401, 403].contains(&reply.status.as_u16()), "{who}: {asked}: {}\n{}", reply.status, seen.log());
            let body = String::from_utf8_lossy(reply.bytes()).into_owned();
            assert!(!body.contains("nobody else") && !body.contains("manifests\":"), "{who}: {asked}: {body}");
            assert!(!reply.headers.contains_key("docker-content-digest"), "{who}: {asked}");
        }
    }
}

async fn all_served(
    client: &Client,
    who: &str,
    authorization: Option<&str>,
    repository: &str,
    tag: &str,
    image: &Image,
) {
    for (url, digest) in places(repository, tag, image) {
        for (asked, reply) in every_way(client, &url, &digest, authorization).await {
            assert!([200, 206, 304].contains(&reply.status.as_u16()), "{who}: {asked}: {}", reply.status);
        }
    }
}

/// Invariant 7, pitfall 14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_repository_leaves_without_a_grant_for_it() {
    let pki = Pki::new();
    let (registry, image) = (hub(&pki).await, private_image());
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let strangers = strangers(&client).await;
    for (who, authorization) in &strangers {
        all_refused(&client, &format!("{who}, not cached"), authorization.as_deref(), &image, &registry).await;
    }
    for style in Style::ALL {
        let pull = Pull::new("docker.io/acme/app:1", style).user("alice", "alices-password");
        pull.run(&client).await.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}", registry.log()));
    }
    for (who, authorization) in &strangers {
        all_refused(&client, &format!("{who}, cached"), authorization.as_deref(), &image, &registry).await;
    }
    let carol = format!("Bearer {}", token(&client, CAROL, "acme/app").await);
    registry.reset_counts();
    all_served(&client, "carol", Some(&carol), "acme/app", "1", &image).await;
    assert_eq!(registry.gets("manifests") + registry.gets("blobs") + registry.gets("cdn"), 0, "{}", registry.log());
}

/// Invariant 7: whoever comes while it is on its way needs a yes of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_a_fill_reaches_who_may_not_read_it() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let layer = Blob::generated(21, 200 << 10);
    let url = format!("{HUB}/v2/acme/app/blobs/{}", layer.digest());
    let alice = token(&client, ALICE, "acme/app").await;
    let carol = token(&client, CAROL, "acme/app").await;
    let strangers = strangers(&client).await;
    let gate = registry.gate_blob(&layer.digest(), 100 << 10);
    let mut first = client.get(&url).bearer(&alice).open().await.unwrap();
    assert_eq!(first.read_exactly(1000).await.unwrap().len(), 1000);
    gate.reached().await;
    for (who, authorization) in &strangers {
        for (asked, reply) in every_way(&client, &url, &layer.digest(), authorization.as_deref()).await {
            assert!([401, 403].contains(&reply.status.as_u16()), "{who}: {asked}: {}", reply.status);
            assert!(reply.bytes().len() < 1000, "{who}: {asked}");
        }
    }
    let mut second = client.get(&url).bearer(&carol).open().await.unwrap();
    assert_eq!(second.status, 200);
    assert!(layer.holds(0, &second.read_exactly(1000).await.unwrap()));
    gate.open();
    for open in [&mut first, &mut second] {
        assert!(layer.holds(1000, &open.rest().await.unwrap()));
    }
    assert_eq!(registry.gets("cdn"), 1, "{}", registry.log());
}

/// Invariant 7: a stranger who comes first is refused, and spoils it for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_comes_first_spoils_nothing() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let layer = Blob::generated(21, 200 << 10);
    let url = format!("{HUB}/v2/acme/app/blobs/{}", layer.digest());
    let alice = token(&client, ALICE, "acme/app").await;
    let gate = Gate::new();
    registry.fault(Fault::on("blobs").method(Method::GET).hold_head(&gate).times(1));
    let stranger = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { client.get(&url).bearer("made-up").send().await.unwrap().status }
    });
    gate.reached().await;
    let other = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { client.get(&url).bearer(&alice).send().await.unwrap() }
    });
    // Whether it follows by now, or comes later and leads.
    gate.open();
    assert_eq!(stranger.await.unwrap(), 401);
    let reply = other.await.unwrap();
    assert_eq!(reply.status, 200, "{}", registry.log());
    assert!(layer.holds(0, reply.bytes()));
}

/// Invariant 7: upstream's anonymous yes is believed for `public_ttl`, and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_turned_private_closes_after_the_ttl() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall =
        Seawall::before(&registry).toml("[cache]\npublic_ttl = \"15m\"\ngrant_ttl = \"5m\"").start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    registry.make_private("library/alpine", &["alice"]);
    let image = Image::two_platforms();
    let amd64 = image.platforms()[0].clone();
    let layer = format!("{HUB}/v2/library/alpine/blobs/{}", amd64.layers()[0].digest());
    assert_eq!(client.get(&layer).send().await.unwrap().status, 200, "believed");
    seawall.clock.advance(Duration::from_secs(15 * 60));
    let cached = places("library/alpine", "3.20", &amd64).into_iter().skip(1);
    let tag = (format!("{HUB}/v2/library/alpine/manifests/3.20"), image.digest());
    for (url, digest) in cached.chain([tag]) {
        for (asked, reply) in every_way(&client, &url, &digest, None).await {
            assert_eq!(reply.status, 401, "{asked}\n{}", registry.log());
            assert_eq!(reply.header("warning"), "", "{asked}");
        }
    }
    registry.down();
    assert_ne!(client.get(&layer).send().await.unwrap().status, 200, "what upstream refused last is not served stale");
}

/// A tag that upstream refuses is never served stale, and closes the repository at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_tag_is_never_stale() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    registry.make_private("library/alpine", &[]);
    seawall.clock.advance(Duration::from_secs(61));
    let tag = format!("{HUB}/v2/library/alpine/manifests/3.20");
    let index = format!("{HUB}/v2/library/alpine/manifests/{}", Image::two_platforms().digest());
    for url in [&tag, &index] {
        let reply = client.get(url).header("accept", OCI_INDEX).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("warning")), (401, ""), "{url}\n{}", registry.log());
        assert!(reply.header("www-authenticate").starts_with("Bearer realm=\"https://auth.docker.io/token\""));
    }
}

/// Upstream's yes to a credential is believed for `grant_ttl`, and not while upstream is away after
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_yes_ends_with_its_ttl() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let alice = token(&client, ALICE, "acme/app").await;
    let tag = format!("{HUB}/v2/acme/app/manifests/1");
    let get =
        async || client.get(&tag).bearer(&alice).header("accept", OCI_INDEX).send().await.unwrap().status.as_u16();
    assert_eq!(get().await, 200);
    registry.make_private("acme/app", &["carol"]);
    assert_eq!(get().await, 200, "believed");
    registry.down();
    seawall.clock.advance(Duration::from_secs(4 * 60));
    assert_eq!(get().await, 200, "still believed, and upstream is away");
    seawall.clock.advance(Duration::from_secs(60));
    assert_eq!(get().await, 502, "no longer");
    registry.up();
    assert_eq!(get().await, 401);
}

/// Invariant 7: a grant is for one repository and the digests that upstream has there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_blob_is_not_readable_through_a_public_repository() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password").run(&client).await.unwrap();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    for (url, digest) in places("library/alpine", "3.20", &private_image()).into_iter().skip(1) {
        for (asked, reply) in every_way(&client, &url, &digest, None).await {
            assert_eq!(reply.status, 404, "{asked}");
        }
    }
}

/// Invariant 7: the same bytes in a public and a private repository are one download, and two
/// permissions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_digest_public_and_private() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let shared = Blob::generated(31, 100 << 10);
    registry.add_image("acme/app:2", &Image::of(vec![shared.clone(), Blob::from(b"the secret part")]));
    registry.add_image("library/base:1", &Image::of(vec![shared.clone()]));
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/base:1", Style::Podman).await.unwrap();
    let url = format!("{HUB}/v2/acme/app/blobs/{}", shared.digest());
    assert_eq!(client.get(&url).send().await.unwrap().status, 401);
    let pulled = Pull::new("docker.io/acme/app:2", Style::Podman).user("alice", "alices-password").run(&client).await;
    assert_eq!(pulled.unwrap().blobs[&shared.digest()], shared.bytes());
    assert_eq!(client.get(&url).send().await.unwrap().status, 401, "it did not become public by that");
    let fetched = registry.count(|seen| {
        seen.kind() == "cdn" && seen.ask.digest() == Some(&shared.digest()) && seen.method == Method::GET
    });
    assert_eq!(fetched, 1, "{}", registry.log());
}

/// Invariant 9, pitfall 9: who is about to push is told what its own registry has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_of_a_blob_is_true_for_the_repository_it_is_asked_in() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    let layer = Image::two_platforms().layers()[0].clone();
    let alice = token(&client, ALICE, "acme/other").await;
    let elsewhere = format!("{HUB}/v2/acme/other/blobs/{}", layer.digest());
    assert_eq!(client.head(&elsewhere).bearer(&alice).send().await.unwrap().status, 404, "cached is not pushed");
    registry.add_blob("acme/other", layer.clone());
    let reply = client.head(&elsewhere).bearer(&alice).send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-length")), (200, "2048"), "pushed meanwhile");
    registry.remove("acme/other", &layer.digest());
    assert_eq!(client.head(&elsewhere).bearer(&alice).send().await.unwrap().status, 404, "removed upstream meanwhile");
    assert_eq!(client.get(&elsewhere).bearer(&alice).send().await.unwrap().status, 404, "and no longer readable there");
}

/// Invariant 9 where nobody has credentials; pitfall 25: HEAD of what is not here downloads
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_of_a_blob_that_is_not_here_is_asked_and_not_fetched() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").image("a/b:1", Image::multi_layer()).cdn("cdn.example.test");
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let layer = Image::multi_layer().layers()[2].clone();
    let reply = seawall.client().head(&format!("{HUB}/v2/a/b/blobs/{}", layer.digest())).send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-length")), (200, "307200"));
    // The CDN names no digest: no more is said than it said.
    assert_eq!((reply.header("docker-content-digest"), registry.sent()), ("", 0));
    assert_eq!(registry.gets("blobs") + registry.gets("cdn"), 0, "{}", registry.log());
    let other = format!("{HUB}/v2/c/d/blobs/{}", layer.digest());
    assert_eq!(seawall.client().head(&other).send().await.unwrap().status, 404);
}

/// The token that stands in while the token service is away is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_stands_in_opens_nothing_private() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password").run(&client).await.unwrap();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    registry.down();
    seawall.clock.advance(Duration::from_secs(290));
    let ours = token(&client, None, "library/alpine").await;
    assert!(ours.starts_with("seawall."), "{ours}");
    for (url, digest) in places("acme/app", "1", &private_image()) {
        for (asked, reply) in every_way(&client, &url, &digest, Some(&format!("Bearer {ours}"))).await {
            assert_eq!(reply.status, 502, "{asked}");
        }
    }
    registry.up();
    let alpine = client.get(&format!("{HUB}/v2/library/alpine/manifests/3.20")).bearer(&ours).send().await.unwrap();
    assert_eq!(alpine.status, 200, "and is exchanged for a real one when upstream is back\n{}", registry.log());
}

/// distribution 2.8 answers 404 for an OCI manifest to who accepts `*/*` alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_asked_for_by_its_types() {
    let pki = Pki::new();
    let (registry, image) = (hub(&pki).await, private_image());
    let unnamed = |seen: &Seen| !seen.header("accept").unwrap_or_default().contains(OCI_MANIFEST);
    registry.fault(Fault::on("manifests").when(unnamed).error(404, "MANIFEST_UNKNOWN"));
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password").run(&client).await.unwrap();
    let carol = token(&client, CAROL, "acme/app").await;
    for (_, bytes) in image.manifests() {
        let url = format!("{HUB}/v2/acme/app/manifests/{}", sha256(&bytes));
        let reply = client.get(&url).bearer(&carol).header("accept", "*/*").send().await.unwrap();
        assert_eq!(reply.status, 200, "{}", registry.log());
    }
}
