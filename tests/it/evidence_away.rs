//! Outages, real and made: what stands is what anonymous was granted, and has not been refused
//! since.

use http::Method;

use crate::access::{ALICE, BOB};
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::exchange::Reply;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::tags::MINUTE;

fn is_stale(reply: &Reply) -> bool {
    reply.status == 200 && reply.header("cache-status").contains("fwd=stale") && !reply.header("warning").is_empty()
}

async fn all_stand(who: &str, reader: &Reader, paths: &[String]) {
    for path in paths {
        let reply = reader.get(path).await;
        assert!(is_stale(&reply), "{who}: {path}: {} {:?}", reply.status, reply.headers);
    }
}

/// A request with so many bytes of fields has its connection closed, as by many a gate.
fn hangs_up_on_long_logins(registry: &Registry) {
    let is_long = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.len() > 4096);
    registry.fault(Fault::on("*").when(is_long).hang_up());
}

fn long_login(seawall: &Seawall) -> Reader {
    Reader::showing(seawall, &format!("Bearer {}", "x".repeat(5000)))
}

/// acme/app:1, which anonymous has pulled; acme/app:2, which alice has, and may read alone.
async fn half_public(registry: Registry, toml: &str, pki: &Pki) -> (Registry, Seawall, [Vec<String>; 2]) {
    let (open, closed) = (Image::single(&[b"everybody's"]), secret("tag 2"));
    let registry = registry.image("acme/app:1", open.clone()).image("acme/app:2", closed.clone()).start(pki).await;
    registry.make_private_within("acme/app", "2", &closed, &["alice"]);
    let seawall = Seawall::before(&registry).toml(toml).start(pki).await;
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    pull_as_alice(&seawall, "docker.io/acme/app:2").await;
    (registry, seawall, [places("acme/app", "1", &open), places("acme/app", "2", &closed)])
}

/// Item 3: what is remembered to be open of a repository opens nothing else of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_opens_nothing_that_was_never_public() {
    let pki = Pki::new();
    let (registry, seawall, [open, closed]) = half_public(hub(), "", &pki).await;
    let who = strangers(&seawall, "acme/app").await;
    seawall.clock.advance(TTL);
    registry.down();
    for (name, reader) in &who {
        all_stand(name, reader, &open).await;
        all_closed(name, reader, &closed).await;
    }
    let seawall = seawall.restart(&pki).await;
    for reader in [Reader::anonymous(&seawall), Reader::at_mirror(&seawall)] {
        all_stand("after a restart", &reader, &open).await;
        all_closed("after a restart", &reader, &closed).await;
    }
}

/// Item 3, row 27: whose request upstream does not take makes no outage by it. Anonymous is asked,
/// and what it is told holds for all; the client has its own failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_a_client_makes_opens_nothing() {
    let pki = Pki::new();
    let (registry, seawall, [open, closed]) = half_public(hub(), "", &pki).await;
    hangs_up_on_long_logins(&registry);
    let attacker = long_login(&seawall);
    all_closed("never public", &attacker, &closed).await;
    all_open("believed", &attacker, &open).await;
    seawall.clock.advance(TTL);
    all_open("anonymous may", &attacker, &open).await;
    registry.make_private("acme/app", &["alice"]);
    seawall.clock.advance(TTL);
    all_closed("it is refused", &attacker, &open[1..2]).await;
    registry.down();
    for (name, reader) in [("the client", &attacker), ("anonymous", &Reader::anonymous(&seawall))] {
        all_closed(name, reader, &[open.clone(), closed.clone()].concat()).await;
    }
    let seawall = seawall.restart(&pki).await;
    all_closed("after a restart", &Reader::anonymous(&seawall), &[open, closed].concat()).await;
}

/// Item 3: … and none for others. Only anonymous's question says that upstream is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_a_client_makes_is_nobody_elses() {
    let pki = Pki::new();
    let (registry, seawall, _) = half_public(hub(), "", &pki).await;
    registry.add_image("acme/other:1", &secret("other"));
    registry.add_image("acme/cold:1", &Image::single(&[b"cold"]));
    registry.make_private("acme/other", &["alice"]);
    hangs_up_on_long_logins(&registry);
    for n in 0..10 {
        let name = ["acme/app", "acme/other"][n % 2];
        let reply = long_login(&seawall).get(&manifest(name, &format!("cold-{n}"))).await;
        nothing_of_it(&reply, name);
    }
    assert_eq!(seawall.metric("seawall_upstream_open{"), 0.0, "{}", registry.log());
    pull_as_alice(&seawall, "docker.io/acme/other:1").await;
    seawall.client().pull("docker.io/acme/cold:1", Style::Docker).await.unwrap();
}

/// Item 3, rows 11, 13 and 14: a registry that hides what is private says 404 to strangers. What was
/// public stands, if the operator wants that; what never was does not; and its readers read on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_private_repositories_are_hidden_a_404_opens_nothing() {
    for gone in ["serve", "forget"] {
        let pki = Pki::new();
        let toml = format!("[cache.tags]\ngone = {gone:?}");
        let (registry, seawall, [open, closed]) = half_public(hub().hides(), &toml, &pki).await;
        let alice = Reader::of(&seawall, ALICE, "acme/app").await;
        let who = strangers(&seawall, "acme/app").await;
        registry.make_private("acme/app", &["alice"]);
        seawall.clock.advance(TTL);
        all_open("alice", &alice, &closed).await;
        for (name, reader) in &who {
            all_closed(name, reader, &closed).await;
        }
        let anonymous = &who[0].1;
        match gone {
            "serve" => all_stand("anonymous", anonymous, &open).await,
            _ => all_closed("anonymous", anonymous, &open).await,
        }
        registry.reset_counts();
        all_open("alice", &alice, &closed).await;
        assert_eq!(questions(&registry, None).len(), 0, "{}", registry.log());
        registry.down();
        for (name, reader) in &who {
            all_closed(name, reader, &closed).await;
        }
        match gone {
            "serve" => all_stand("anonymous", anonymous, &open).await,
            _ => all_closed("anonymous", anonymous, &open).await,
        }
    }
}

/// Row 3: what stands for anonymous stands for a login that nobody can check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_stands_for_a_wrong_token_too() {
    let pki = Pki::new();
    let (registry, seawall, [open, _]) = half_public(hub(), "", &pki).await;
    seawall.clock.advance(TTL);
    registry.down();
    all_stand("a wrong token", &Reader::showing(&seawall, "Bearer made-up"), &open).await;
}

/// Row 4: a refusal is of all that anonymous was granted in the repository.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_anonymous_was_refused_since_does_not_stand() {
    let pki = Pki::new();
    let (one, two) = (Image::single(&[b"one"]), Image::single(&[b"two"]));
    let registry = hub().image("acme/app:1", one.clone()).image("acme/app:2", two.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for tag in ["1", "2"] {
        seawall.client().pull(&format!("docker.io/acme/app:{tag}"), Style::Podman).await.unwrap();
    }
    landed(&seawall).await;
    registry.make_private("acme/app", &["alice"]);
    seawall.clock.advance(MINUTE);
    let anonymous = Reader::anonymous(&seawall);
    assert_eq!(anonymous.status(&manifest("acme/app", "1")).await, 401);
    registry.down();
    let all = [places("acme/app", "1", &one), places("acme/app", "2", &two)].concat();
    all_closed("within public_ttl", &anonymous, &all).await;
    let seawall = seawall.restart(&pki).await;
    all_closed("after a restart", &Reader::anonymous(&seawall), &all).await;
}

/// Row 12: Harbor says 412 of an artifact that was found to be dangerous, others 451. It is of that
/// digest, and ends what was granted of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_withholds_does_not_stand() {
    for (status, code) in [(412, "PROJECTPOLICYVIOLATION"), (451, "DENIED")] {
        let pki = Pki::new();
        let (held, other) = (Image::single(&[b"held back"]), Image::single(&[b"another"]));
        let registry = hub().image("acme/app:1", held.clone()).image("acme/app:2", other.clone()).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        for tag in ["1", "2"] {
            seawall.client().pull(&format!("docker.io/acme/app:{tag}"), Style::Podman).await.unwrap();
        }
        landed(&seawall).await;
        let paths = [manifest("acme/app", &held.digest()), manifest("acme/app", "1")];
        for path in &paths {
            registry.fault(Fault::on("manifests").path_contains(path).error(status, code));
        }
        seawall.clock.advance(TTL);
        let anonymous = Reader::anonymous(&seawall);
        assert_eq!(anonymous.status(&paths[0]).await, status, "{}", registry.log());
        registry.down();
        all_closed("away", &anonymous, &paths).await;
        all_stand("another", &anonymous, &places("acme/app", "2", &other)).await;
        let seawall = seawall.restart(&pki).await;
        all_closed("after a restart", &Reader::anonymous(&seawall), &paths).await;
    }
}

/// Row 13: what was removed upstream stands, or does not, as the operator says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_upstream_stands_if_the_operator_says_so() {
    for gone in ["serve", "forget"] {
        let pki = Pki::new();
        let image = Image::single(&[b"removed"]);
        let registry = hub().image("acme/app:1", image.clone()).image("acme/app:2", Image::single(&[b"another"]));
        let registry = registry.start(&pki).await;
        let toml = format!("[cache.tags]\ngone = {gone:?}");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
        landed(&seawall).await;
        registry.untag("acme/app", "1");
        image.digests().iter().for_each(|digest| registry.remove("acme/app", digest));
        seawall.clock.advance(TTL);
        let (anonymous, paths) = (Reader::anonymous(&seawall), places("acme/app", "1", &image));
        for when in ["gone", "gone, and away"] {
            match gone {
                "serve" => all_stand(when, &anonymous, &paths).await,
                _ => all_closed(when, &anonymous, &paths).await,
            }
            registry.down();
        }
    }
}

/// Row 17: what a manifest lists, and another repository has open, stands while the registry is away;
/// not because the repository of who lists it fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_stands_while_the_repository_that_opened_it_is_away() {
    let pki = Pki::new();
    let layer = Blob::from(b"everybody's, of library/base");
    let listing = Image::of(vec![layer.clone(), Blob::from(b"another")]).manifest();
    let registry = hub().image("library/base:1", Image::of(vec![layer.clone()]));
    let registry = registry.manifest("acme/list", "1", OCI_MANIFEST, listing).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/base:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    seawall.clock.advance(TTL / 2);
    let (anonymous, path) = (Reader::anonymous(&seawall), blob("acme/list", &layer.digest()));
    assert_eq!(anonymous.status(&manifest("acme/list", "1")).await, 200);
    seawall.clock.advance(TTL / 2);
    registry.fault(Fault::on("*").path_contains("/acme/list/").status(503, "this one alone"));
    nothing_of_it(&anonymous.get(&path).await, "library/base could be asked");
    registry.down();
    all_stand("away", &anonymous, std::slice::from_ref(&path)).await;
    nothing_of_it(&anonymous.ask(Method::HEAD, &path).await, "HEAD");
}

/// Row 17, of two registries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_stands_while_the_registry_that_opened_it_is_away() {
    let pki = Pki::new();
    let layer = Blob::from(b"everybody's, at docker.io");
    let registry = hub().blob("library/base", layer.clone()).start(&pki).await;
    let listing = Image::of(vec![layer.clone(), Blob::from(b"another")]).manifest();
    let ghcr = Registry::new("ghcr.io").manifest("acme/list", "1", OCI_MANIFEST, listing).token_auth();
    let ghcr = ghcr.blob("acme/once", layer.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
    let (at_hub, at_ghcr) = (Reader::anonymous(&seawall), Reader::anonymous(&seawall).at("ghcr.io"));
    // Both have sent it, since it was open nowhere when it was read at docker.io; and ghcr.io opens
    // it no more.
    let once = blob("acme/once", &layer.digest());
    assert_eq!(at_ghcr.status(&once).await, 200);
    landed(&seawall).await;
    seawall.clock.advance(TTL);
    assert_eq!(at_hub.status(&blob("library/base", &layer.digest())).await, 200);
    ghcr.make_private("acme/once", &["alice"]);
    seawall.clock.advance(TTL / 2);
    assert_eq!(at_ghcr.status(&manifest("acme/list", "1")).await, 200);
    seawall.clock.advance(TTL / 2);
    assert_eq!(at_ghcr.status(&once).await, 401);
    ghcr.down();
    let path = blob("acme/list", &layer.digest());
    nothing_of_it(&at_ghcr.get(&path).await, "docker.io could be asked");
    registry.down();
    for tag in ["a", "b", "c"] {
        assert_eq!(at_hub.status(&manifest("library/base", tag)).await, 502);
    }
    all_stand("both are away", &at_ghcr, &[path]).await;
}

/// Row 26: what the operator shares stands while it is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shared_stands_while_it_is_shared() {
    let pki = Pki::new();
    let image = secret("the operator's");
    let registry = hub().image("acme/shared:1", image.clone()).user("ci", "ci").private("acme/shared", &["ci"]);
    let registry = registry.start(&pki).await;
    let (toml, _password) = account("share = [\"acme/*\"]");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    seawall.client().pull("docker.io/acme/shared:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    registry.down();
    seawall.clock.advance(TTL);
    let paths = places("acme/shared", "1", &image);
    all_stand("shared", &Reader::anonymous(&seawall), &paths).await;
    let seawall = seawall.restart(&pki).await;
    for reader in [Reader::anonymous(&seawall), Reader::at_mirror(&seawall)] {
        all_stand("after a restart", &reader, &paths).await;
    }
    let bob = Reader::showing(&seawall, "Bearer bobs");
    all_closed("who shows a login of its own", &bob, &paths).await;
    let seawall = seawall.restart_with("", &pki).await;
    all_closed("shared no more", &Reader::anonymous(&seawall), &paths).await;
}

/// Row 28: what anonymous was refused is on disk before anybody is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_outlives_a_crash() {
    let (pki, data) = (Pki::new(), tempfile::tempdir().unwrap());
    let registry = hub().image("acme/app:1", Image::single(&[b"once public"])).image("acme/other:1", secret("other"));
    let registry = registry.start(&pki).await;
    let start = || Process::over(data.path(), &registry, &pki, "[cache]\npublic_ttl = \"0s\"");
    let ask = async |seawall: &Process, name: &str, image: &Image| {
        let url = format!("{}{}", crate::access::HUB, manifest(name, &image.digest()));
        seawall.client().get(&url).header("accept", OCI_MANIFEST).send().await.unwrap().status.as_u16()
    };
    let (app, other) = (Image::single(&[b"once public"]), secret("other"));
    let seawall = start();
    for name in ["acme/app", "acme/other"] {
        seawall.client().pull(&format!("docker.io/{name}:1"), Style::Podman).await.unwrap();
    }
    seawall.signal("TERM");
    seawall.ended().await;
    let seawall = start();
    registry.make_private("acme/app", &["alice"]);
    assert_eq!(ask(&seawall, "acme/app", &app).await, 401, "{}", registry.log());
    seawall.signal("KILL");
    seawall.ended().await;
    registry.down();
    let seawall = start();
    assert_eq!(ask(&seawall, "acme/other", &other).await, 200, "it stands");
    let refused = ask(&seawall, "acme/app", &app).await;
    assert!([401, 502].contains(&refused), "{refused}");
}

/// Item 3, for who is not logged in where it counts: bob may not read what was never public, be his
/// own question unanswered or upstream away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_somebody_else_opens_nothing_in_an_outage() {
    let pki = Pki::new();
    let (registry, seawall, [open, closed]) = half_public(hub(), "", &pki).await;
    let bob = Reader::of(&seawall, BOB, "acme/app").await;
    seawall.clock.advance(TTL);
    let bobs = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains("-bob."));
    registry.fault(Fault::on("*").when(bobs).status(503, "not for you"));
    all_open("anonymous may", &bob, &open).await;
    all_closed("never public", &bob, &closed).await;
    registry.clear_faults();
    registry.fault(Fault::on("*").status(503, "for nobody"));
    seawall.clock.advance(TTL);
    all_stand("away", &bob, &open).await;
    all_closed("away, and never public", &bob, &closed).await;
}

/// `offline_grants`: a remembered login reads what upstream had named when it last let it in, and
/// nothing that came later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remembered_login_opens_nothing_that_came_after_it() {
    let pki = Pki::new();
    let (one, two) = (Image::single(&[b"bob's, too"]), secret("alice's"));
    let registry = hub().image("acme/app:1", one.clone()).private("acme/app", &["alice", "bob"]).start(&pki).await;
    let mut seawall = Seawall::before(&registry).toml("[cache]\noffline_grants = \"7d\"").start(&pki).await;
    let pull = Pull::new("docker.io/acme/app:1", Style::Podman).user("bob", "bobs-password");
    pull.run(&seawall.client()).await.unwrap();
    registry.add_image("acme/app:2", &two);
    registry.make_private_within("acme/app", "2", &two, &["alice"]);
    pull_as_alice(&seawall, "docker.io/acme/app:2").await;
    registry.down();
    for when in ["an hour later", "after a restart"] {
        seawall.clock.advance(MINUTE * 60);
        let bob = Reader::of(&seawall, BOB, "acme/app").await;
        all_open(when, &bob, &places("acme/app", "1", &one)).await;
        all_closed(when, &bob, &places("acme/app", "2", &two)).await;
        let alice = Reader::of(&seawall, ALICE, "acme/app").await;
        all_open(when, &alice, &places("acme/app", "2", &two)).await;
        seawall = seawall.restart(&pki).await;
    }
}
