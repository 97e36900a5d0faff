//! What a client's own request brings about ends nothing for others (pitfall 46): refused pushes,
//! tokens of somewhere else, a 404 to a stranger.

use http::Method;

use crate::access::{ALICE, BOB, CAROL, token};
use crate::harness::exchange::Reply;
use crate::harness::faults::PATIENCE;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::tags::{HUB, MINUTE, TAG, get, hub, named};

const ONE: &str = "https://ghcr.io/v2/a/b/manifests/1";
const TWO: &str = "https://ghcr.io/v2/a/b/manifests/2";
const FOREVER: &str = "[cache.tags]\nrules = [{ match = \"*\", ttl = \"forever\" }]";

/// a/b:1 and a/b:2, which anybody may push to.
async fn ghcr(pki: &Pki) -> Registry {
    let registry = Registry::new("ghcr.io").image("a/b:1", Image::multi_layer()).image("a/b:2", Image::multi_layer());
    registry.start(pki).await
}

async fn put(client: &Client, url: &str, image: &Image) -> u16 {
    let put = client.request(Method::PUT, url).header("content-type", OCI_MANIFEST);
    put.body(image.manifest()).send().await.unwrap().status.as_u16()
}

async fn delete(client: &Client, url: &str) -> u16 {
    client.request(Method::DELETE, url).send().await.unwrap().status.as_u16()
}

fn is_stale(reply: &Reply) -> bool {
    reply.header("cache-status").contains("fwd=stale") && reply.header("warning").starts_with("299 ")
}

/// What pulls made seawall ask.
fn asked(registry: &Registry) -> usize {
    registry.count(|seen| [Method::GET, Method::HEAD].contains(&seen.method))
}

/// Pitfall 46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_push_changes_nothing() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    assert_eq!(put(&client, TAG, &Image::single(&[b"nobody's"])).await, 401);
    registry.reset_counts();
    assert_eq!((get(&client, TAG).await.status.as_u16(), asked(&registry)), (200, 0), "{}", registry.log());
    registry.down();
    seawall.clock.advance(MINUTE);
    let reply = get(&client, TAG).await;
    assert!(named(&reply) == (200, &*Image::two_platforms().digest()) && is_stale(&reply), "{:?}", reply.headers);
    let seawall = seawall.restart(&pki).await;
    for style in Style::ALL {
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
        assert_eq!(pulled.unwrap().digest, Image::two_platforms().digest());
    }
}

/// Whoever pushes to one tag, taken or not, makes no other be asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_about_its_own_tag() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").method(Method::HEAD).path_contains("/1").hold_head(&gate));
    registry.fault(Fault::on("manifests").method(Method::PUT).path_contains("/1").error(403, "DENIED"));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { get(&client, ONE).await.status }
    });
    gate.reached().await;
    for _ in 0..50 {
        assert_eq!(put(&client, ONE, &Image::single(&[b"refused"])).await, 403);
    }
    assert_eq!(put(&client, TWO, &Image::single(&[b"pushed"])).await, 201);
    gate.open();
    assert_eq!(asking.await.unwrap(), 200);
    registry.reset_counts();
    assert_eq!((get(&client, ONE).await.status.as_u16(), asked(&registry)), (200, 0), "{}", registry.log());
}

/// What was pushed is asked for at once, after a restart too; what was here is served while
/// upstream is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_was_taken_is_seen_at_once_and_takes_no_copy_away() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml(FOREVER).start(&pki).await;
    let client = seawall.client();
    for tag in [ONE, TWO] {
        assert_eq!(named(&get(&client, tag).await), (200, &*Image::multi_layer().digest()));
    }
    let (first, second) = (Image::single(&[b"first"]), Image::single(&[b"second"]));
    assert_eq!(put(&client, &format!("{ONE}?tag=2"), &first).await, 201);
    for tag in [ONE, TWO] {
        assert_eq!(named(&get(&client, tag).await), (200, &*first.digest()), "{tag}");
    }
    assert_eq!(put(&client, &format!("{ONE}?tag=2"), &second).await, 201);
    let seawall = seawall.restart(&pki).await;
    assert_eq!(named(&get(&seawall.client(), TWO).await), (200, &*second.digest()), "after a restart");
    registry.down();
    let reply = get(&seawall.client(), ONE).await;
    assert!(named(&reply) == (200, &*first.digest()) && is_stale(&reply), "{:?}", reply.headers);
}

/// An answer to a question from before the push is no answer after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_a_push_is_asked_again_after_it() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml(FOREVER).start(&pki).await;
    let client = seawall.client();
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").method(Method::HEAD).hold_head(&gate).times(1));
    let early = tokio::spawn({
        let client = client.clone();
        async move { get(&client, ONE).await.status }
    });
    gate.reached().await;
    let (first, second) = (Image::single(&[b"first"]), Image::single(&[b"second"]));
    assert_eq!(put(&client, ONE, &first).await, 201);
    assert_eq!(named(&get(&client, ONE).await), (200, &*first.digest()), "no one waits for the old question");
    assert_eq!(put(&client, ONE, &second).await, 201);
    gate.open();
    assert_eq!(early.await.unwrap(), 200);
    registry.reset_counts();
    assert_eq!(named(&get(&client, ONE).await), (200, &*second.digest()));
    assert_eq!(registry.heads("manifests"), 1, "{}", registry.log());
    assert_eq!((get(&client, ONE).await.status.as_u16(), registry.heads("manifests")), (200, 1));
}

/// Upstream may have taken it already. What it does not take leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_push_waits_for_its_answer_the_tag_is_asked_anew() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml(FOREVER).start(&pki).await;
    let client = seawall.client();
    for tag in [ONE, TWO] {
        assert_eq!(get(&client, tag).await.status, 200);
    }
    let (answer, heads) = (Gate::new(), Gate::new());
    registry.fault(Fault::on("manifests").method(Method::PUT).hold_head(&answer).error(403, "DENIED"));
    registry.reset_counts();
    let push = tokio::spawn({
        let client = client.clone();
        async move { put(&client, ONE, &Image::single(&[b"first"])).await }
    });
    answer.reached().await;
    // Its head is there; its body leaves any moment.
    while registry.heads("manifests") == 0 {
        assert_eq!(get(&client, ONE).await.status, 200);
    }
    let before = registry.heads("manifests");
    registry.fault(Fault::on("manifests").method(Method::HEAD).hold_head(&heads));
    let many: Vec<_> = (0..20)
        .map(|_| {
            let client = seawall.client();
            tokio::spawn(async move { get(&client, ONE).await.status })
        })
        .collect();
    heads.reached().await;
    assert_eq!((get(&client, TWO).await.status.as_u16(), registry.heads("manifests")), (200, before + 1), "another's");
    heads.open();
    for one in many {
        assert_eq!(one.await.unwrap(), 200);
    }
    // Not for longer than ten seconds.
    seawall.clock.advance(MINUTE / 6);
    registry.reset_counts();
    assert_eq!((get(&client, ONE).await.status.as_u16(), asked(&registry)), (200, 0), "{}", registry.log());
    answer.open();
    assert_eq!(push.await.unwrap(), 403);
    assert_eq!((get(&client, ONE).await.status.as_u16(), asked(&registry)), (200, 0), "{}", registry.log());
}

/// The client of a push may leave before its answer comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_heard_of_whose_client_left() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml(FOREVER).start(&pki).await;
    let client = seawall.client();
    assert_eq!(get(&client, ONE).await.status, 200);
    let (answer, first) = (Gate::new(), Image::single(&[b"first"]));
    registry.fault(Fault::on("manifests").method(Method::PUT).hold_head(&answer));
    registry.reset_counts();
    let push = tokio::spawn({
        let (client, first) = (client.clone(), first.clone());
        async move { put(&client, ONE, &first).await }
    });
    answer.reached().await;
    while registry.heads("manifests") == 0 {
        assert_eq!(get(&client, ONE).await.status, 200);
    }
    push.abort();
    assert!(push.await.is_err());
    seawall.clock.advance(MINUTE);
    answer.open();
    registry.until(|registry| registry.stored("a/b", &first.digest()).is_some()).await;
    let seen = async { while named(&get(&client, ONE).await) != (200, &*first.digest()) {} };
    tokio::time::timeout(PATIENCE, seen).await.expect("the answer is heard of");
}

/// A removal that was refused changes nothing; what was taken is upstream's word, as far as
/// `gone` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_counts_once_upstream_took_it() {
    for gone in ["serve", "forget"] {
        let pki = Pki::new();
        let registry = ghcr(&pki).await;
        let toml = format!("[cache.tags]\ngone = {gone:?}\nrules = [{{ match = \"*\", ttl = \"forever\" }}]");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        let client = seawall.client();
        let digest = Image::multi_layer().digest();
        let (manifest, layer) = (
            format!("https://ghcr.io/v2/a/b/manifests/{digest}"),
            format!("https://ghcr.io/v2/a/b/blobs/{}", Image::multi_layer().layers()[0].digest()),
        );
        client.pull("ghcr.io/a/b:1", Style::Podman).await.unwrap();
        registry.fault(Fault::on("*").method(Method::DELETE).error(405, "UNSUPPORTED"));
        registry.reset_counts();
        for url in [ONE, &manifest, &layer] {
            assert_eq!(delete(&client, url).await, 405);
            assert_eq!((get(&client, url).await.status.as_u16(), asked(&registry)), (200, 0), "{}", registry.log());
        }
        registry.clear_faults();
        assert_eq!(delete(&client, ONE).await, 202);
        let reply = get(&client, ONE).await;
        match gone {
            "serve" => assert!(reply.status == 200 && is_stale(&reply), "{:?}", reply.headers),
            _ => assert_eq!(reply.status, 404),
        }
        for url in [&manifest, &layer] {
            assert_eq!(get(&client, url).await.status, 200);
            assert_eq!(delete(&client, url).await, 202);
            assert_eq!(get(&client, url).await.status, 404, "{url}");
        }
    }
}

/// A token that was issued to anonymous, but for something else, does not speak for anonymous.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_anonymous_token_ends_nobodys_grant() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.add_image("library/other:1", &Image::multi_layer());
    let ghcr = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    client.pull("ghcr.io/a/b:1", Style::Docker).await.unwrap();
    // The token for library/alpine is over, its public grant is not.
    seawall.clock.advance(MINUTE * 5);
    let foreign = token(&client, None, "library/other").await;
    let shown = foreign.clone();
    let is_foreign = move |seen: &Seen| seen.authorization().is_some_and(|value| value.contains(&shown));
    registry.fault(Fault::on("*").when(is_foreign.clone()).error(403, "DENIED"));
    ghcr.fault(Fault::on("*").when(|seen| seen.authorization().is_some()).error(401, "UNAUTHORIZED"));
    let hubs = format!("{HUB}/v2/library/alpine/blobs/{}", Image::two_platforms().layers()[0].digest());
    let ghcrs = format!("https://ghcr.io/v2/a/b/blobs/{}", Image::multi_layer().layers()[0].digest());
    for (at, url) in [(&registry, &hubs), (&ghcr, &ghcrs)] {
        for method in [Method::HEAD, Method::GET] {
            let reply = client.request(method, url).bearer(&foreign).send().await.unwrap();
            assert_eq!(reply.status, 200, "anonymous may: {}", at.log());
        }
        assert_eq!(at.count(|seen| seen.kind() == "blobs" && is_foreign(seen)), 0, "{}", at.log());
        at.reset_counts();
        let reply = client.get(url).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), asked(at)), (200, 0), "{}", at.log());
    }
    seawall.clock.advance(MINUTE * 60);
    for (at, url) in [(&registry, &hubs), (&ghcr, &ghcrs)] {
        at.down();
        assert_eq!(client.get(url).send().await.unwrap().status, 200, "it stands");
    }
}

/// Some registries say 404 to whoever may not read: that ends what was granted to who asked, and
/// nobody else's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_to_a_stranger_takes_nothing_away() {
    for gone in ["serve", "forget"] {
        let pki = Pki::new();
        let registry = crate::access::hub(&pki).await;
        let toml = format!("[cache.tags]\ngone = {gone:?}");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        let client = seawall.client();
        let pull = Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password");
        let pulled = pull.run(&client).await.unwrap();
        client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
        let (layer, manifest) = (pulled.blobs.keys().next().unwrap(), pulled.manifests.keys().next().unwrap());
        let private = [format!("{HUB}/v2/acme/app/blobs/{layer}"), format!("{HUB}/v2/acme/app/manifests/{manifest}")];
        let public = format!("{HUB}/v2/library/alpine/blobs/{}", Image::two_platforms().layers()[0].digest());
        let (alice, carol) = (token(&client, ALICE, "acme/app").await, token(&client, CAROL, "acme/app").await);
        let bob = token(&client, BOB, "acme/app").await;
        for url in &private {
            for bearer in [&alice, &carol] {
                assert_eq!(client.get(url).bearer(bearer).send().await.unwrap().status, 200);
            }
        }
        let hidden = |seen: &Seen| seen.authorization().is_none_or(|value| !value.contains("-alice."));
        registry.fault(Fault::on("*").when(hidden).path_contains("/acme/app/").error(404, "NAME_UNKNOWN"));
        let hidden = |seen: &Seen| seen.authorization().is_some_and(|value| value.contains("-bob."));
        registry.fault(Fault::on("*").when(hidden).path_contains("/alpine/").error(404, "NAME_UNKNOWN"));
        for url in private.iter().chain([&public]) {
            assert_eq!(client.head(url).bearer(&bob).send().await.unwrap().status, 404);
        }
        // Until then it is repeated that anonymous was refused.
        seawall.clock.advance(MINUTE);
        for url in &private {
            assert_eq!(client.head(url).send().await.unwrap().status, 404);
        }
        assert_eq!(client.head(&private[0]).bearer(&carol).send().await.unwrap().status, 404);
        assert_eq!(client.get(&private[0]).bearer(&carol).send().await.unwrap().status, 404, "hers is over");
        registry.reset_counts();
        for url in &private {
            assert_eq!(client.get(url).bearer(&alice).send().await.unwrap().status, 200);
        }
        assert_eq!(client.get(&public).send().await.unwrap().status, 200);
        assert_eq!(asked(&registry), 0, "{}", registry.log());
        registry.down();
        seawall.clock.advance(MINUTE);
        for url in &private {
            assert_eq!(client.get(url).bearer(&alice).send().await.unwrap().status, 200);
        }
        assert_eq!(client.head(&private[0]).bearer(&alice).send().await.unwrap().status, 200);
        for bearer in [&bob, &carol] {
            assert_eq!(client.get(&private[0]).bearer(bearer).send().await.unwrap().status, 502);
            assert_eq!(client.head(&private[0]).bearer(bearer).send().await.unwrap().status, 502);
        }
        assert_eq!(client.head(&public).bearer(&bob).send().await.unwrap().status, 502, "who pushes was told 404");
        seawall.clock.advance(MINUTE * 60);
        assert_eq!(client.get(&public).send().await.unwrap().status, 200);
    }
}
