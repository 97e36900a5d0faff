//! What permission costs upstream (docs/performance.md): counted, to the last question.

use std::time::Duration;

use crate::access::{ALICE, CAROL};
use crate::evidence::*;
use crate::flight::{landed, until};
use crate::harness::*;
use crate::tags::MINUTE;

const GRANT_TTL: Duration = Duration::from_secs(5 * 60);
const APP: &str = "docker.io/acme/app:1";
const NOTHING: [String; 0] = [];

fn two_layers() -> Image {
    Image::two_platforms()
}

/// acme/app:1, in the cache by `style`, public; every fill has landed.
async fn public(style: Style, pki: &Pki) -> (Registry, Seawall) {
    let registry = hub().image("acme/app:1", two_layers()).start(pki).await;
    let seawall = Seawall::before(&registry).start(pki).await;
    seawall.client().pull(APP, style).await.unwrap();
    landed(&seawall).await;
    registry.reset_counts();
    (registry, seawall)
}

/// acme/app:1 in the cache, by alice. Anonymous was refused just now, so that nobody asks for it.
async fn private(pki: &Pki) -> (Registry, Seawall) {
    let registry = hub().image("acme/app:1", two_layers()).private("acme/app", &["alice", "carol"]);
    let registry = registry.token_life(Some(3600)).start(pki).await;
    let seawall = Seawall::before(&registry).start(pki).await;
    refused(&seawall).await;
    pull_as_alice(&seawall, APP).await;
    registry.reset_counts();
    (registry, seawall)
}

/// Upstream says so to anonymous.
async fn refused(seawall: &Seawall) {
    assert_eq!(Reader::anonymous(seawall).status(&manifest("acme/app", "never")).await, 401);
}

/// The questions that upstream answered with a yes: it challenges who asks for the first time in a
/// quarter of an hour.
fn yeses(registry: &Registry) -> Vec<String> {
    let requests = registry.requests().into_iter().filter(|seen| seen.kind() != "token" && seen.status() == 200);
    requests
        .map(|seen| format!("{} {}", seen.method, seen.path.rsplit_once("acme/app/").map_or("", |path| path.1)))
        .collect()
}

fn tokens(registry: &Registry) -> usize {
    registry.count(|seen| seen.kind() == "token")
}

/// The parts of an image that a client of linux/amd64 fetches by digest, in its order.
fn parts(image: &Image) -> Vec<String> {
    let amd64 = &image.platforms()[0];
    let blobs = amd64.blobs().into_iter().map(|one| blob("acme/app", &one.digest()));
    [image.digest(), amd64.digest()].iter().map(|digest| manifest("acme/app", digest)).chain(blobs).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_anonymous_pull_costs_nothing() {
    for before in Style::ALL {
        let pki = Pki::new();
        let (registry, seawall) = public(before, &pki).await;
        for style in Style::ALL {
            seawall.client().pull(APP, style).await.unwrap();
            assert_eq!(questions(&registry, None), NOTHING, "{before:?}, then {style:?}");
        }
        registry.reset_counts();
        for style in Style::ALL {
            seawall.client().pull(APP, style).await.unwrap();
            assert_eq!(registry.requests().len(), 0, "{before:?}, then {style:?}\n{}", registry.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_tags_ttl_an_anonymous_pull_costs_one_head() {
    for style in Style::ALL {
        let pki = Pki::new();
        let (registry, seawall) = public(style, &pki).await;
        seawall.clock.advance(MINUTE);
        seawall.client().pull(APP, style).await.unwrap();
        assert_eq!(questions(&registry, None), ["HEAD manifests/1"], "{style:?}");
        assert_eq!(registry.requests().len(), 1, "{style:?}\n{}", registry.log());
    }
}

/// Row 2: by digest, one HEAD of what lists the rest, whichever part is asked for first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_public_ttl_an_image_by_digest_costs_one_head() {
    let image = two_layers();
    for style in Style::ALL {
        let pki = Pki::new();
        let (registry, seawall) = public(style, &pki).await;
        for _ in 0..2 {
            seawall.clock.advance(TTL);
            registry.reset_counts();
            for _ in 0..2 {
                seawall.client().pull(&format!("docker.io/acme/app@{}", image.digest()), style).await.unwrap();
            }
            assert_eq!(yeses(&registry), [format!("HEAD manifests/{}", image.digest())], "{style:?}");
        }
    }
}

/// … its layers alone, as a client asks for those it lacks: one HEAD for all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_public_ttl_the_layers_of_an_image_cost_one_head() {
    let pki = Pki::new();
    let (registry, seawall) = public(Style::Docker, &pki).await;
    // What was fetched layer by layer is known by its manifest from the next pull on.
    seawall.clock.advance(TTL);
    seawall.client().pull(APP, Style::Docker).await.unwrap();
    seawall.clock.advance(TTL);
    registry.reset_counts();
    let amd64 = &two_layers().platforms()[0].clone();
    let blobs: Vec<String> = parts(&two_layers()).split_off(2);
    all_open("anonymous", &Reader::anonymous(&seawall), &blobs).await;
    assert_eq!(yeses(&registry), [format!("HEAD manifests/{}", amd64.digest())]);
}

/// A job's own token: it costs itself and one question, in every client's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_token_for_a_private_image_costs_one_head() {
    for style in Style::ALL {
        let pki = Pki::new();
        let (registry, seawall) = private(&pki).await;
        for (name, password) in [("carol", "carols-password"), ("alice", "alices-password")] {
            refused(&seawall).await;
            registry.reset_counts();
            Pull::new(APP, style).user(name, password).run(&seawall.client()).await.unwrap();
            let asked = (tokens(&registry), questions(&registry, None));
            assert_eq!(asked, (1, vec!["HEAD manifests/1".to_owned()]), "{style:?}, {name}");
            assert_eq!(registry.requests().len(), 2, "{style:?}, {name}\n{}", registry.log());
            seawall.clock.advance(MINUTE);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_grant_ttl_the_same_credential_costs_one_head_an_image() {
    let pki = Pki::new();
    let (registry, seawall) = private(&pki).await;
    let (carol, parts) = (Reader::of(&seawall, CAROL, "acme/app").await, parts(&two_layers()));
    for first in [parts[0].clone(), manifest("acme/app", "1"), parts[0].clone()] {
        registry.reset_counts();
        for _ in 0..2 {
            all_open("carol", &carol, std::slice::from_ref(&first)).await;
            all_open("carol", &carol, &parts).await;
        }
        let asked = questions(&registry, None);
        assert_eq!(asked, [format!("HEAD {}", &first["/v2/acme/app/".len()..])]);
        seawall.clock.advance(GRANT_TTL);
    }
}

/// A token that is renewed in mid-pull is another credential.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_renewed_in_mid_pull_costs_one_head_a_layer_left() {
    let pki = Pki::new();
    let (registry, seawall) = private(&pki).await;
    let parts = parts(&two_layers());
    all_open("carol", &Reader::of(&seawall, CAROL, "acme/app").await, &parts[..3]).await;
    let renewed = Reader::of(&seawall, CAROL, "acme/app").await;
    registry.reset_counts();
    for _ in 0..2 {
        all_open("carol", &renewed, &parts[3..]).await;
    }
    let expected: Vec<String> =
        parts[3..].iter().map(|path| format!("HEAD {}", &path["/v2/acme/app/".len()..])).collect();
    assert_eq!(questions(&registry, None), expected);
}

/// A new manifest over layers that were there: one HEAD for each, once for all clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_manifest_costs_one_head_for_each_layer_that_was_there() {
    let shared: Vec<Blob> = (0..3).map(|seed| Blob::generated(50 + seed, 2000)).collect();
    let more: Vec<Blob> = shared.iter().cloned().chain([Blob::from(b"new")]).collect();
    for is_public in [false, true] {
        let pki = Pki::new();
        let registry = hub().image("acme/app:1", Image::of(shared.clone())).token_life(Some(3600));
        let readers: &[&str] = &["alice", "carol"];
        let registry = if is_public { registry } else { registry.private("acme/app", readers) }.start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let who = async |user| match is_public {
            true => Reader::anonymous(&seawall),
            false => Reader::of(&seawall, user, "acme/app").await,
        };
        if !is_public {
            refused(&seawall).await;
        }
        all_open("first", &who(ALICE).await, &places("acme/app", "1", &Image::of(shared.clone()))).await;
        landed(&seawall).await;
        seawall.clock.advance(TTL);
        let image = Image::of(more.clone());
        registry.add_image("acme/app:1", &image);
        registry.reset_counts();
        all_open("alice", &who(ALICE).await, &places("acme/app", "1", &image)).await;
        landed(&seawall).await;
        let heads =
            |kind: &str| yeses(&registry).iter().filter(|line| line.starts_with(&format!("HEAD {kind}"))).count();
        let asked = (heads("manifests"), heads("blobs"));
        assert_eq!(asked, (1, shared.len()), "public: {is_public}\n{}", registry.log());
        registry.reset_counts();
        all_open("carol", &who(CAROL).await, &places("acme/app", "1", &image)).await;
        let expected = if is_public { vec![] } else { vec!["HEAD manifests/1".to_owned()] };
        assert_eq!(questions(&registry, None), expected, "public: {is_public}");
    }
}

/// What anonymous asked.
fn anonymous(registry: &Registry) -> Vec<String> {
    questions(registry, Some("anonymous"))
}

async fn pull_as(seawall: &Seawall, image: &str, user: &str) {
    let pull = Pull::new(image, Style::Podman).user(user, &format!("{user}s-password"));
    pull.run(&seawall.client()).await.unwrap();
    landed(seawall).await;
}

/// Upstream has said yes to anonymous, of a manifest whose path ends so.
async fn anonymous_may(seawall: &Seawall, registry: &Registry, end: &str) {
    let yes = |seen: &Seen| seen.status() == 200 && seen.authorization().is_some_and(|a| a.contains("-anonymous."));
    let is_it = |seen: &Seen| seen.kind() == "manifests" && seen.path.ends_with(end) && yes(seen);
    registry.until(|registry| registry.count(is_it) > 0).await;
    // It may be on its way still, and lost where the registry goes down.
    until("seawall has heard it", || seawall.metric("seawall_questions ") == 0.0).await;
}

/// In an outage nobody is asked: what is served was known before, or is as soon as an answer that had
/// come was judged.
async fn stands(reader: &Reader, path: &str) -> bool {
    for _ in 0..300 {
        if reader.status(path).await == 200 {
            return true;
        }
    }
    false
}

/// What is public is known to be, whoever pulls it: anonymous is asked for the same, once, and
/// nobody waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_login_pulled_is_asked_for_as_anonymous_and_nobody_waits() {
    let pki = Pki::new();
    let image = Image::single(&[b"everybody's"]);
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = Gate::new();
    let theirs = |seen: &Seen| seen.authorization().is_none_or(|shown| shown.contains("-anonymous."));
    registry.fault(Fault::on("manifests").when(theirs).hold_head(&gate));
    for user in ["alice", "carol", "alice"] {
        pull_as(&seawall, APP, user).await;
    }
    gate.reached().await;
    gate.open();
    anonymous_may(&seawall, &registry, "/manifests/1").await;
    let asked = anonymous(&registry);
    assert!((1..=4).contains(&asked.len()), "of the tag, and of its digest once all of it came: {asked:?}");
    assert!(asked.iter().all(|line| line.starts_with("HEAD manifests/")), "{asked:?}");
    registry.down();
    seawall.clock.advance(TTL);
    let reader = Reader::anonymous(&seawall);
    for path in [manifest("acme/app", &image.digest()), manifest("acme/app", "1")] {
        assert!(stands(&reader, &path).await, "{path}\n{}", registry.log());
    }
}

/// So what jobs with a login pull of a public repository stands for all in an outage, once a
/// manifest was asked for when its layers had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_logins_pull_of_a_public_image_stands_in_an_outage() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for user in ["alice", "carol"] {
        seawall.clock.advance(TTL);
        registry.reset_counts();
        pull_as(&seawall, APP, user).await;
        anonymous_may(&seawall, &registry, "").await;
    }
    stands_for_anonymous(&seawall, &registry, &image).await;
    for style in Style::ALL {
        seawall.client().pull(APP, style).await.unwrap();
    }
}

/// … and after a first pull alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_login_pulled_once_of_a_public_image_stands_in_an_outage() {
    let (pki, image) = (Pki::new(), Image::multi_layer());
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    pull_as(&seawall, APP, "alice").await;
    anonymous_may(&seawall, &registry, "").await;
    stands_for_anonymous(&seawall, &registry, &image).await;
}

/// The registry goes away: all of the image is served to anonymous.
async fn stands_for_anonymous(seawall: &Seawall, registry: &Registry, image: &Image) {
    registry.down();
    seawall.clock.advance(TTL);
    let anonymous = Reader::anonymous(seawall);
    for path in places("acme/app", "1", image).iter().rev() {
        assert!(stands(&anonymous, path).await, "{path}\n{}", registry.log());
    }
}

/// … and of what is private once an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_private_is_asked_for_as_anonymous_once_an_hour() {
    let pki = Pki::new();
    let registry = hub().private("acme/app", &["alice", "carol"]);
    for tag in 1..=5 {
        registry.add_image(&format!("acme/app:{tag}"), &secret(&tag.to_string()));
    }
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let about = |registry: &Registry, tag: u8| {
        let digest = secret(&tag.to_string()).digest();
        let asked = anonymous(registry);
        asked.iter().filter(|line| line.ends_with(&format!("/{tag}")) || line.ends_with(&digest)).count()
    };
    pull_as(&seawall, "docker.io/acme/app:1", "alice").await;
    registry.until(|registry| about(registry, 1) > 0).await;
    refused(&seawall).await;
    for (tag, minutes) in [(2, 0), (3, 10), (4, 40)] {
        seawall.clock.advance(MINUTE * minutes);
        pull_as(&seawall, &format!("docker.io/acme/app:{tag}"), "carol").await;
    }
    seawall.clock.advance(MINUTE * 60);
    pull_as(&seawall, "docker.io/acme/app:5", "alice").await;
    registry.until(|registry| about(registry, 5) > 0).await;
    for tag in 2..=4 {
        assert_eq!(about(&registry, tag), 0, "tag {tag}\n{}", registry.log());
    }
}
