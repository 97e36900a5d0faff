//! What fresh eyes found at the binary, each as they played it.

use http::Method;

use crate::access::{ALICE, BOB};
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::*;
use crate::tags::MINUTE;

const APP: &str = "docker.io/acme/app:1";

/// acme/app:1 was everybody's; now alice alone may read it.
async fn turned_private(registry: Registry, toml: &str, pki: &Pki) -> (Registry, Seawall, Image) {
    let image = Image::single(&[b"nobody else's business, since"]);
    let registry = registry.image("acme/app:1", image.clone()).start(pki).await;
    let seawall = Seawall::before(&registry).toml(toml).start(pki).await;
    seawall.client().pull(APP, Style::Podman).await.unwrap();
    landed(&seawall).await;
    // From now on it is the manifest through which all of it is granted.
    seawall.clock.advance(TTL);
    all_open("everybody", &Reader::anonymous(&seawall), &places("acme/app", "1", &image)).await;
    registry.make_private("acme/app", &["alice"]);
    seawall.clock.advance(TTL);
    (registry, seawall, image)
}

/// docker.io with an account that opens acme/shared.
async fn shared(registry: &Registry, pki: &Pki) -> (Seawall, tempfile::NamedTempFile) {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "alices-password\n").unwrap();
    let path = password.path();
    let toml = format!(
        "[[registry]]\nname = \"docker.io\"\nusername = \"alice\"\npassword_file = {path:?}\nshare = [\"acme/shared\"]"
    );
    (Seawall::before(registry).toml(&toml).start(pki).await, password)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_refusal_ends_its_yes() {
    let pki = Pki::new();
    let image = secret("shared for a while");
    let registry = hub().image("acme/shared:1", image.clone()).private("acme/shared", &["alice"]).start(&pki).await;
    let (seawall, _password) = shared(&registry, &pki).await;
    seawall.client().pull("docker.io/acme/shared:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    registry.make_private("acme/shared", &["bob"]);
    let anonymous = Reader::anonymous(&seawall);
    nothing_of_it(&anonymous.get(&manifest("acme/shared", "2")).await, "another tag");
    all_closed("at once", &anonymous, &places("acme/shared", "1", &image)).await;
    let seawall = seawall.restart(&pki).await;
    all_closed("after a restart", &Reader::anonymous(&seawall), &places("acme/shared", "1", &image)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_the_account_may_not_read_closes_no_other() {
    let pki = Pki::new();
    let one = secret("shared");
    let registry =
        hub().image("acme/shared:1", one.clone()).private("acme/shared", &["alice", "bob"]).start(&pki).await;
    registry.fault(Fault::on("manifests").path_contains("/manifests/2").error(403, "DENIED"));
    let (seawall, _password) = shared(&registry, &pki).await;
    let anonymous = Reader::anonymous(&seawall);
    nothing_of_it(&anonymous.get(&manifest("acme/shared", "2")).await, "bob's");
    all_open("the others", &anonymous, &places("acme/shared", "1", &one)).await;
}

/// The manifest through which it was granted is refused, then the blob itself fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_before_a_refusal_does_not_stand_after_it() {
    for status in [404, 429, 503] {
        let pki = Pki::new();
        let (registry, seawall, image) = turned_private(hub(), "", &pki).await;
        registry.fault(Fault::on("blobs").status(status, "no"));
        let blobs: Vec<_> = image.blobs().iter().map(|one| blob("acme/app", &one.digest())).collect();
        all_closed(&status.to_string(), &Reader::anonymous(&seawall), &blobs).await;
    }
}

/// A gate that hangs up on long requests, as many do: no client can make an outage with one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_a_client_without_a_login_makes_opens_nothing() {
    let long = "a".repeat(5000);
    for (what, path, accept) in [
        ("a type", "/v2/no/such-N/manifests/x".to_owned(), format!("application/x-{long}")),
        ("a list", format!("/v2/no/such-N/tags/list?last={long}"), "*/*".to_owned()),
        (
            "a referrers' list",
            format!("/v2/no/such-N/referrers/{}?artifactType={long}", sha256(b"x")),
            "*/*".to_owned(),
        ),
        ("a token", format!("/token?service=registry.docker.io&client_id=N&scope={long}"), "*/*".to_owned()),
    ] {
        let pki = Pki::new();
        let (registry, seawall, image) = turned_private(hub(), "", &pki).await;
        let is_long = |seen: &Seen| {
            let query = seen.query.as_ref().map_or(0, String::len);
            let field = seen.headers.values().map(http::HeaderValue::len).max();
            query.max(field.unwrap_or(0)) > 4096
        };
        registry.fault(Fault::on("*").when(is_long).hang_up());
        let host = if what == "a token" { "https://auth.docker.io" } else { crate::access::HUB };
        for n in 0..4 {
            let url = format!("{host}{}", path.replace('N', &n.to_string()));
            let asked = seawall.client();
            asked.get(&url).header("accept", &accept).send().await.unwrap();
        }
        let anonymous = Reader::anonymous(&seawall);
        all_closed(what, &anonymous, &places("acme/app", "1", &image)).await;
    }
}

/// A fill that began before it was withheld, or taken away, is no way in for who comes after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_is_joined_by_nobody_once_its_digest_was_withheld() {
    let pki = Pki::new();
    let layer = Blob::generated(7, 4 << 20);
    let registry = hub().image("acme/app:1", Image::of(vec![layer.clone()])).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    let is_let_in = |seen: &Seen| seen.method == Method::GET && seen.authorization().is_some();
    registry.fault(Fault::on("blobs").when(is_let_in).hold_body(2 << 20, &gate).times(1));
    let (anonymous, path) = (Reader::anonymous(&seawall), blob("acme/app", &layer.digest()));
    let first = tokio::spawn({
        let (anonymous, path) = (anonymous.clone(), path.clone());
        async move { anonymous.get(&path).await }
    });
    gate.reached().await;
    registry.fault(Fault::on("blobs").digest(&layer.digest()).error(451, "DENIED"));
    assert_eq!(anonymous.ask(Method::HEAD, &path).await.status, 451);
    let junk = Reader::showing(&seawall, "Bearer made-up");
    for (who, reader) in [("junk", &junk), ("anonymous", &anonymous)] {
        nothing_of_it(&reader.get(&path).await, who);
    }
    gate.open();
    assert_eq!(first.await.unwrap().body.unwrap(), layer.bytes(), "who began with permission finishes");
}

/// An answer about a tag that a refusal overtook opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_yes_about_a_tag_is_none_after_a_refusal() {
    let pki = Pki::new();
    let image = secret("everybody's, once");
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull(APP, Style::Podman).await.unwrap();
    landed(&seawall).await;
    seawall.clock.advance(TTL);
    let gate = Gate::new();
    let is_proper = |seen: &Seen| seen.authorization().is_some();
    registry.fault(Fault::on("manifests").path_contains("/manifests/1").when(is_proper).hold_answer(&gate).times(1));
    let anonymous = Reader::anonymous(&seawall);
    let slow = tokio::spawn({
        let anonymous = anonymous.clone();
        async move { anonymous.get(&manifest("acme/app", "1")).await }
    });
    gate.reached().await;
    registry.make_private("acme/app", &["alice"]);
    nothing_of_it(&anonymous.get(&blob("acme/app", &image.blobs()[0].digest())).await, "meanwhile");
    gate.open();
    nothing_of_it(&slow.await.unwrap(), "the slow one");
}

/// What is here of an image that a tag names decides what an outage shows: for who may read it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_tells_nobody_what_others_have() {
    let mut shown = Vec::new();
    for is_pulled in [false, true] {
        let pki = Pki::new();
        let theirs = Blob::from(b"nobody else's business, alice's layer");
        let (old, new) = (Image::single(&[b"mine"]), Image::of(vec![theirs.clone()]));
        let registry = hub().image("acme/app:1", new.clone()).private("acme/app", &["alice"]);
        let registry = registry.image("mallory/probe:1", old.clone()).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        if is_pulled {
            pull_as_alice(&seawall, APP).await;
        }
        let probe = Reader::anonymous(&seawall);
        seawall.client().pull("docker.io/mallory/probe:1", Style::Podman).await.unwrap();
        landed(&seawall).await;
        registry.add_image("mallory/probe:1", &new);
        seawall.clock.advance(MINUTE * 2);
        probe.get(&manifest("mallory/probe", "1")).await;
        landed(&seawall).await;
        registry.down();
        seawall.clock.advance(MINUTE * 2);
        let reply = probe.get(&manifest("mallory/probe", "1")).await;
        shown.push((reply.status, reply.header("docker-content-digest").to_owned()));
    }
    assert_eq!(shown[0], shown[1], "whether alice pulled it");
}

/// What upstream answers to who leads is not what it answers to who follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_where_the_leader_was_refused() {
    for status in [404, 429, 400, 412] {
        let pki = Pki::new();
        let layer = Blob::generated(9, 4 << 20);
        let registry = hub().image("acme/app:1", Image::of(vec![layer.clone()])).private("acme/app", &["alice", "bob"]);
        let registry = registry.start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let gate = Gate::new();
        let is_bob = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains("-bob."));
        registry.fault(
            Fault::on("blobs").method(Method::GET).when(is_bob).hold_body(1 << 20, &gate).cut_at(2 << 20).times(1),
        );
        let resumes = move |seen: &Seen| is_bob(seen) && seen.range().is_some();
        registry.fault(Fault::on("blobs").method(Method::GET).when(resumes).error(status, "DENIED"));
        let path = blob("acme/app", &layer.digest());
        let (alice, bob) = (Reader::of(&seawall, ALICE, "acme/app").await, Reader::of(&seawall, BOB, "acme/app").await);
        let led = tokio::spawn({
            let path = path.clone();
            async move { bob.get(&path).await }
        });
        gate.reached().await;
        let mut follower = alice.request(Method::GET, &path).open().await.unwrap();
        gate.open();
        let (bytes, end) = follower.until_end().await;
        assert_eq!((bytes, end.is_ok()), (layer.len(), true), "{status}\n{}", registry.log());
        let _ = led.await.unwrap();
    }
}

/// A mirror before the registry withholds, or does not understand: the registry is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_sources_no_is_nobodys() {
    for status in [400, 405, 412, 451] {
        let pki = Pki::new();
        let image = Image::single(&[b"everybody's"]);
        let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
        let mirror = Registry::new("mirror.example.test").image("acme/app:1", image.clone()).start(&pki).await;
        let toml = "[[registry]]\nname = \"docker.io\"\nupstreams = [{ url = \"https://mirror.example.test\", tags = true }, \
                    { url = \"https://registry-1.docker.io\" }]";
        let seawall = Seawall::before(&registry).front(&mirror).toml(toml).start(&pki).await;
        seawall.client().pull(APP, Style::Podman).await.unwrap();
        landed(&seawall).await;
        mirror.fault(Fault::on("*").error(status, "DENIED"));
        registry.down();
        seawall.clock.advance(TTL);
        for path in places("acme/app", "1", &image) {
            let reply = Reader::anonymous(&seawall).get(&path).await;
            assert!(reply.header("cache-status").contains("fwd=stale"), "{status} {path}: {:?}", reply.headers);
        }
        registry.up();
        seawall.clock.advance(TTL);
        all_open("the registry's", &Reader::anonymous(&seawall), &places("acme/app", "1", &image)).await;
    }
}

/// That a token service has no such page is no word about an image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_service_that_is_not_there_takes_nothing_away() {
    for status in [404, 410, 412, 451] {
        let pki = Pki::new();
        let image = Image::single(&[b"everybody's"]);
        let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
        let seawall = Seawall::before(&registry).toml(FORGET).start(&pki).await;
        seawall.client().pull(APP, Style::Podman).await.unwrap();
        landed(&seawall).await;
        registry.revoke_tokens();
        registry.fault(Fault::on("token").status(status, "no such page"));
        seawall.clock.advance(TTL);
        for path in places("acme/app", "1", &image) {
            let reply = Reader::anonymous(&seawall).get(&path).await;
            assert!(reply.header("cache-status").contains("fwd=stale"), "{status} {path}: {:?}", reply.headers);
        }
    }
}

/// A registry that says 404 to whoever may not read takes a remembered login's content back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_got_404_reads_nothing_on_in_an_outage() {
    let pki = Pki::new();
    let image = secret("alice's, once");
    let registry = hub().hides().image("acme/app:1", image.clone()).private("acme/app", &["alice"]).start(&pki).await;
    let seawall = Seawall::before(&registry).toml("[cache]\noffline_grants = \"7d\"").start(&pki).await;
    pull_as_alice(&seawall, APP).await;
    let seawall = seawall.restart(&pki).await;
    registry.make_private("acme/app", &["bob"]);
    seawall.clock.advance(TTL);
    let alice = Reader::of(&seawall, ALICE, "acme/app").await;
    assert_eq!(alice.status(&manifest("acme/app", &image.digest())).await, 404);
    let seawall = seawall.restart(&pki).await;
    let alice = Reader::of(&seawall, ALICE, "acme/app").await;
    registry.down();
    all_closed("alice", &alice, &places("acme/app", "1", &image)).await;
}
