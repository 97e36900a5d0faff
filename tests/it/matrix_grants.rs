//! How a grant ends, and how far it goes: what the matrix of `matrix` has no column for.

use std::time::Duration;

use http::Method;

use crate::access::{ALICE, BOB, CAROL, HUB, hub, token};
use crate::harness::exchange::Reply;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::matrix::{How, Place, State, Thing, Who, asks};
use crate::matrix_world::{Scene, Spoken, World};

const GRANT_TTL: Duration = Duration::from_secs(5 * 60);

async fn statuses(world: &World, scene: &Scene, who: Who) -> Vec<(Thing, How, u16)> {
    let mut statuses = Vec::new();
    for (thing, how) in asks() {
        statuses.push((thing, how, world.ask(scene, who, thing, how).await.status.as_u16()));
    }
    statuses
}

/// What was alice's is closed to her when `grant_ttl` has run out, at the latest; carol reads on.
async fn closed_after_the_ttl(ends: impl Fn(&Registry)) {
    let scenes = [Scene::new(Place::Private, State::Cached, "a"), Scene::new(Place::Private, State::Cached, "b")];
    let world = World::start(Spoken::H1, &scenes).await;
    for scene in &scenes {
        world.cache(scene).await;
        assert_eq!(world.ask(scene, Who::Carol, Thing::Blob, How::Get).await.status, 200);
    }
    world.settled().await;
    ends(&world.registry);
    let [first, second] = &scenes;
    // Believed, until upstream is asked for another reason: then it is over at once, in that
    // repository.
    assert_eq!(world.ask(first, Who::Alice, Thing::Blob, How::Get).await.status, 200);
    assert_eq!(world.ask(first, Who::Alice, Thing::Blob, How::Head).await.status, 401);
    for (thing, how, status) in statuses(&world, first, Who::Alice).await {
        assert_eq!(status, 401, "{thing:?} {how:?}: upstream has said no");
    }
    assert_eq!(world.ask(second, Who::Alice, Thing::Blob, How::Get).await.status, 200, "believed");
    world.seawall.clock.advance(GRANT_TTL - Duration::from_secs(1));
    assert_eq!(world.ask(second, Who::Alice, Thing::Blob, How::Get).await.status, 200, "a second before the end");
    world.seawall.clock.advance(Duration::from_secs(1));
    for scene in &scenes {
        for (thing, how, status) in statuses(&world, scene, Who::Alice).await {
            assert_eq!(status, 401, "{thing:?} {how:?}: the grant is over");
        }
    }
}

/// A token that was revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_opens_nothing_after_the_ttl() {
    closed_after_the_ttl(Registry::revoke_tokens).await;
}

/// An account that was removed. Its password gets no token either, be it one that is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_account_opens_nothing_after_the_ttl() {
    closed_after_the_ttl(|registry| registry.remove_user("alice")).await;
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let url = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:acme/app:pull";
    let ask = async |user: &str, password: &str| client.get(url).basic(user, password).send().await.unwrap();
    assert_eq!(ask("alice", "alices-password").await.status, 200);
    registry.remove_user("alice");
    let refused = ask("alice", "alices-password").await;
    assert_eq!(refused.status, 401);
    assert!(!String::from_utf8_lossy(refused.bytes()).contains("token-"));
    assert_eq!(ask("carol", "carols-password").await.status, 200);
}

/// A private repository's bytes after a restart with upstream away: a yes to a credential is in
/// memory only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_yes_does_not_outlive_the_process() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let alice = token(&client, ALICE, "acme/other").await;
    let layer = Blob::from(b"another of alice's");
    let url = format!("{HUB}/v2/acme/other/blobs/{}", layer.digest());
    assert_eq!(client.get(&url).bearer(&alice).send().await.unwrap().status, 200);
    let seawall = seawall.restart(&pki).await;
    registry.down();
    for method in [Method::GET, Method::HEAD] {
        let reply = seawall.client().request(method, &url).bearer(&alice).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("docker-content-digest")), (502, ""));
    }
    registry.up();
    registry.reset_counts();
    assert_eq!(seawall.client().get(&url).bearer(&alice).send().await.unwrap().bytes(), &layer.bytes());
    assert_eq!(registry.gets("blobs") + registry.gets("cdn"), 0, "a yes was all that was missing");
}

/// GET, a range, a condition and HEAD of a digest of acme/app, asked for in another repository.
async fn elsewhere(client: &Client, repository: &str, kind: &str, digest: &str, token: Option<&str>) -> Vec<Reply> {
    let url = format!("{HUB}/v2/{repository}/{kind}/{digest}");
    let mut replies = Vec::new();
    for (method, name, value) in [
        (Method::GET, "x-plain", "1"),
        (Method::GET, "range", "bytes=0-3"),
        (Method::GET, "if-none-match", "*"),
        (Method::HEAD, "x-plain", "1"),
    ] {
        let ask = client.request(method, &url).header(name, value).header("accept", OCI_MANIFEST);
        let ask = if let Some(token) = token { ask.bearer(token) } else { ask };
        replies.push(ask.send().await.unwrap());
    }
    replies
}

/// acme/app, cached; its layer, its config, and its manifest for one platform.
async fn pulled(client: &Client, registry: &Registry) -> (Blob, [(&'static str, String); 3]) {
    let layer = Blob::from(b"nobody else's business, and in one place only");
    let image = Image::of(vec![layer.clone()]);
    registry.add_image("acme/app:2", &image);
    let pull = Pull::new("docker.io/acme/app:2", Style::Docker).user("alice", "alices-password");
    pull.run(client).await.unwrap();
    let config = image.config().unwrap().digest();
    let digests = [("blobs", layer.digest()), ("blobs", config), ("manifests", image.digest())];
    (layer, digests)
}

fn nothing_of_it(reply: &Reply, what: &str) {
    let body = String::from_utf8_lossy(reply.bytes()).into_owned();
    assert!(reply.status.is_client_error() && reply.status != 416, "{what}: {} {body}", reply.status);
    assert!(!body.contains("nobody else's business") && !body.contains("rootfs"), "{what}: {body}");
    assert!(!reply.headers.contains_key("docker-content-digest") && !reply.headers.contains_key("etag"), "{what}");
}

/// Invariant 7: who may read a repository reads what upstream has in it, and nothing else that
/// happens to be here: not by asking for it there, and not by listing it in a manifest of one's
/// own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_is_granted_where_upstream_has_it_and_nowhere_else() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let (layer, digests) = pulled(&client, &registry).await;
    let bob = token(&client, BOB, "acme/bobs").await;
    let carol = token(&client, CAROL, "acme/app").await;
    // Both list what is alice's: bob in his own repository, and somebody in one that is open to
    // all.
    let evil = Image::of(vec![layer.clone()]).manifest();
    registry.add_manifest("acme/bobs", "evil", OCI_MANIFEST, [b" ", &evil[..]].concat());
    registry.add_manifest("library/evil", "1", OCI_MANIFEST, [b"  ", &evil[..]].concat());
    let listed = async |repository: &str, tag: &str, token: Option<&str>| {
        let url = format!("{HUB}/v2/{repository}/manifests/{tag}");
        let ask = client.get(&url).header("accept", OCI_MANIFEST);
        let ask = if let Some(token) = token { ask.bearer(token) } else { ask };
        assert_eq!(ask.send().await.unwrap().status, 200, "{}", registry.log());
    };
    for claimed in [false, true] {
        if claimed {
            listed("acme/bobs", "evil", Some(&bob)).await;
            listed("library/evil", "1", None).await;
        }
        registry.reset_counts();
        for (kind, digest) in &digests {
            for (repository, token) in [
                ("acme/bobs", Some(&*bob)),
                ("library/evil", None),
                ("library/evil", Some(&*carol)),
                ("acme/other", Some(&*bob)),
            ] {
                for reply in elsewhere(&client, repository, kind, digest, token).await {
                    nothing_of_it(&reply, &format!("{repository} {kind}/{digest}, claimed: {claimed}"));
                }
            }
        }
        let yes = registry.count(|seen| seen.kind() != "token" && seen.status() == 200);
        assert_eq!((yes, registry.gets("cdn")), (0, 0), "{}", registry.log());
    }
}

/// … and where upstream says that it holds it too, it is served without a second download.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_of_another_repository_of_ones_own_costs_one_question() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let (layer, _) = pulled(&client, &registry).await;
    let alice = token(&client, ALICE, "acme/other").await;
    let url = format!("{HUB}/v2/acme/other/blobs/{}", layer.digest());
    let get = async || client.get(&url).bearer(&alice).send().await.unwrap();
    nothing_of_it(&get().await, "upstream does not have it there");
    registry.add_blob("acme/other", layer.clone());
    registry.reset_counts();
    for _ in 0..3 {
        let reply = get().await;
        assert_eq!((reply.status.as_u16(), reply.bytes()), (200, &layer.bytes()), "{}", registry.log());
    }
    // A HEAD, wherever that is redirected to, and after it nothing.
    assert_eq!(
        (registry.heads("blobs"), registry.gets("blobs"), registry.gets("cdn")),
        (1, 0, 0),
        "{}",
        registry.log()
    );
    // Bob's is bob's all the same.
    let bob = token(&client, BOB, "acme/other").await;
    nothing_of_it(&client.get(&url).bearer(&bob).send().await.unwrap(), "bob");
}

/// Invariant 7: a grant is for one registry. The same names and the same credential at another one
/// are another thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_of_one_registry_is_none_of_another() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let ghcr = Registry::new("ghcr.io").image("acme/app:2", Image::single(&[b"another app"])).user("alice", "another");
    let ghcr = ghcr.private("acme/app", &["alice"]).token_auth().start(&pki).await;
    let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
    let client = seawall.client();
    let (_, digests) = pulled(&client, &registry).await;
    let alice = token(&client, ALICE, "acme/app").await;
    for (kind, digest) in digests {
        for authorization in [None, Some(&alice)] {
            let ask = client.get(&format!("https://ghcr.io/v2/acme/app/{kind}/{digest}"));
            let ask = if let Some(token) = authorization { ask.bearer(token) } else { ask };
            nothing_of_it(&ask.send().await.unwrap(), &digest);
        }
    }
}

/// A registry that takes Basic on every request (ECR): the password is the credential, and a wrong
/// one is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_a_credential_like_a_token() {
    let pki = Pki::new();
    let layer = Blob::from(b"nobody else's business");
    let registry = Registry::new("registry-1.docker.io").image("acme/app:1", Image::of(vec![layer.clone()]));
    let registry = registry.user("alice", "a").user("bob", "b").private("acme/app", &["alice"]).basic_auth();
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    for cached in [false, true] {
        for path in [format!("blobs/{}", layer.digest()), "manifests/1".to_owned()] {
            let url = format!("{HUB}/v2/acme/app/{path}");
            for method in [Method::GET, Method::HEAD] {
                let ask = || client.request(method.clone(), &url).header("accept", OCI_MANIFEST);
                nothing_of_it(&ask().send().await.unwrap(), "nobody");
                for (user, password) in [("bob", "b"), ("alice", "b"), ("alice", ""), ("bob", "a"), ("alice", "a ")] {
                    let reply = ask().basic(user, password).send().await.unwrap();
                    nothing_of_it(&reply, &format!("{user}:{password}, cached: {cached}"));
                }
                nothing_of_it(&ask().bearer("YWxpY2U6YQ==").send().await.unwrap(), "the same, as Bearer");
                if cached {
                    assert_eq!(ask().basic("alice", "a").send().await.unwrap().status, 200);
                }
            }
            let reply = client.get(&url).basic("alice", "a").header("accept", OCI_MANIFEST).send().await.unwrap();
            assert_eq!(reply.status, 200);
        }
    }
}

/// An https URL sent to the proxy in the clear is no way around: what is cached is not served by it
/// to whom it is not open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_url_in_the_clear_opens_nothing() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let (_, digests) = pulled(&seawall.client(), &registry).await;
    for (kind, digest) in digests {
        for target in ["https://registry-1.docker.io", "http://registry-1.docker.io", "http://registry-1.docker.io:443"]
        {
            let mut raw = Raw::connect(seawall.addr()).await;
            let head = format!(
                "GET {target}/v2/acme/app/{kind}/{digest} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                &target[target.find("re").unwrap()..]
            );
            raw.send(head).await;
            let reply = raw.read_to_end().await;
            let refused = ["HTTP/1.1 4", "HTTP/1.1 5"].iter().any(|start| reply.starts_with(start));
            assert!(refused && !reply.contains("nobody else's") && !reply.contains("rootfs"), "{target}: {reply}");
        }
    }
}
/// What is for a configured registry is a pull there, or refused; it is not passed on unexamined,
/// past the cache (every GET is counted) and past whatever is said of that registry's repositories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_url_in_the_clear_is_not_passed_on_unexamined() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    pulled(&seawall.client(), &registry).await;
    let alice = token(&seawall.client(), ALICE, "acme/app").await;
    registry.reset_counts();
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(format!(
        "GET https://registry-1.docker.io/v2/acme/app/manifests/2 HTTP/1.1\r\nHost: registry-1.docker.io\r\n\
         Accept: {OCI_MANIFEST}\r\nAuthorization: Bearer {alice}\r\nConnection: close\r\n\r\n"
    ))
    .await;
    let reply = raw.read_to_end().await;
    assert!(!reply.contains("fwd=bypass"), "{reply}");
    assert_eq!(registry.gets("manifests"), 0, "{}", registry.log());
}
