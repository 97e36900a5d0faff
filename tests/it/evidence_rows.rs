//! What a yes covers, and when it is void: the rows of the table of evidence that can be shown from
//! end to end. Others are in `evidence` and `evidence_away`.

use std::time::Duration;

use http::Method;

use crate::access::{ALICE, BOB, CAROL};
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::exchange::Reply;
use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::tags::MINUTE;

/// acme/app is alice's, bob's and carol's.
fn private() -> Registry {
    hub().private("acme/app", &["alice", "bob", "carol"])
}

async fn start(registry: Registry, pki: &Pki) -> (Registry, Seawall) {
    let registry = registry.start(pki).await;
    let seawall = Seawall::before(&registry).start(pki).await;
    (registry, seawall)
}

/// Row 6: a layer that came after bob's manifest is covered once he is asked for again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_a_yes_costs_a_question_about_its_manifest() {
    let pki = Pki::new();
    let layer = Blob::from(b"uploaded after its manifest");
    let image = Image::of(vec![layer.clone()]);
    let (registry, seawall) = start(private().image("acme/app:1", image.clone()), &pki).await;
    registry.remove("acme/app", &layer.digest());
    let (alice, bob) = (Reader::of(&seawall, ALICE, "acme/app").await, Reader::of(&seawall, BOB, "acme/app").await);
    assert_eq!(bob.status(&manifest("acme/app", "1")).await, 200);
    registry.add_blob("acme/app", layer.clone());
    let path = blob("acme/app", &layer.digest());
    assert_eq!(alice.status(&path).await, 200);
    landed(&seawall).await;
    registry.reset_counts();
    for _ in 0..2 {
        assert_eq!(bob.get(&path).await.bytes(), &layer.bytes());
    }
    assert_eq!(questions(&registry, None), [format!("HEAD manifests/{}", image.digest())]);
}

/// Row 7: what upstream had named before bob's yes to the manifest is covered by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_covers_what_its_manifest_lists() {
    let pki = Pki::new();
    let image = Image::two_platforms();
    let (registry, seawall) = start(private().image("acme/app:1", image.clone()), &pki).await;
    pull_as_alice(&seawall, "docker.io/acme/app:1").await;
    let bob = Reader::of(&seawall, BOB, "acme/app").await;
    assert_eq!(bob.status(&manifest("acme/app", &image.digest())).await, 200);
    registry.reset_counts();
    let amd64 = &image.platforms()[0];
    all_open("bob", &bob, &places("acme/app", &amd64.digest(), amd64)).await;
    assert_eq!(questions(&registry, None), Vec::<String>::new());
    // Of the other platform nothing was ever named.
    let arm64 = &image.platforms()[1];
    all_open("bob", &bob, &places("acme/app", &arm64.digest(), arm64)).await;
    assert!(questions(&registry, Some("bob")).len() >= 4, "{}", registry.log());
}

/// Row 8: a repository of the same name is made again, and its manifest lists what the former had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_repository_had_is_asked_for_in_the_new_one() {
    for (is_there, is_public) in [(false, false), (true, false), (false, true), (true, true)] {
        let pki = Pki::new();
        let layer = Blob::from(b"nobody else's business, of the former owner");
        let former = Image::of(vec![layer.clone()]);
        let (registry, seawall) = start(hub().image("acme/app:1", former.clone()), &pki).await;
        if is_public {
            seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
            landed(&seawall).await;
        } else {
            registry.make_private("acme/app", &["alice", "bob"]);
            pull_as_alice(&seawall, "docker.io/acme/app:1").await;
        }
        former.digests().iter().for_each(|digest| registry.remove("acme/app", digest));
        registry.add_image("acme/app:1", &Image::of(vec![layer.clone(), Blob::from(b"the new owner's")]));
        if !is_there {
            registry.remove("acme/app", &layer.digest());
        }
        seawall.clock.advance(TTL);
        let reader = match is_public {
            true => Reader::anonymous(&seawall),
            false => Reader::of(&seawall, BOB, "acme/app").await,
        };
        assert_eq!(reader.status(&manifest("acme/app", "1")).await, 200);
        registry.reset_counts();
        let (path, case) = (blob("acme/app", &layer.digest()), format!("there: {is_there}, public: {is_public}"));
        let reply = reader.get(&path).await;
        let about = format!("blobs/{}", layer.digest());
        assert!(questions(&registry, None).iter().any(|line| line.ends_with(&about)), "{case}\n{}", registry.log());
        if is_there {
            assert_eq!((reply.status.as_u16(), reply.bytes()), (200, &layer.bytes()), "{case}");
            assert_eq!(registry.gets("blobs"), 0, "{case}\n{}", registry.log());
        } else if is_public {
            // `gone = "serve"`: it was public, and upstream has it no more.
            assert!(reply.header("cache-status").contains("fwd=stale"), "{case}: {:?}", reply.headers);
        } else {
            all_closed(&case, &reader, std::slice::from_ref(&path)).await;
        }
    }
}

/// Row 9: rights for each tag. Whoever reads one image of a repository reads nothing of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_covers_no_other_image_of_its_repository() {
    for is_denied in [false, true] {
        let pki = Pki::new();
        let (one, two) = (Image::single(&[b"bob's, too"]), secret("alice's alone"));
        let images = private().image("acme/app:1", one.clone()).image("acme/app:2", two.clone());
        let (registry, seawall) = start(images, &pki).await;
        registry.make_private_within("acme/app", "2", &two, &["alice"]);
        if is_denied {
            for part in two.digests().into_iter().chain(["/manifests/2".to_owned()]) {
                let bobs = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains("-bob."));
                registry.fault(Fault::on("*").when(bobs).path_contains(&part).error(403, "DENIED"));
            }
        }
        for tag in ["1", "2"] {
            pull_as_alice(&seawall, &format!("docker.io/acme/app:{tag}")).await;
        }
        let bob = Reader::of(&seawall, BOB, "acme/app").await;
        all_open("bob", &bob, &places("acme/app", "1", &one)).await;
        all_closed("bob", &bob, &places("acme/app", "2", &two)).await;
        all_open("bob", &bob, &places("acme/app", "1", &one)).await;
    }
}

/// Row 10: a yes that was long on its way undoes no refusal that came meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_yes_is_void_after_a_refusal() {
    for is_public in [false, true] {
        let pki = Pki::new();
        let (one, two) = (secret("one"), secret("two"));
        let registry = hub().image("acme/app:1", one.clone()).image("acme/app:2", two.clone());
        let registry = if is_public { registry } else { registry.private("acme/app", &["alice", "bob"]) };
        let (registry, seawall) = start(registry, &pki).await;
        for tag in ["1", "2"] {
            pull_as_alice(&seawall, &format!("docker.io/acme/app:{tag}")).await;
            if is_public {
                seawall.client().pull(&format!("docker.io/acme/app:{tag}"), Style::Podman).await.unwrap();
            }
        }
        seawall.clock.advance(TTL);
        let reader = async || match is_public {
            true => Reader::anonymous(&seawall),
            false => Reader::of(&seawall, BOB, "acme/app").await,
        };
        let (who, slow) = (reader().await, manifest("acme/app", &one.digest()));
        let gate = Gate::new();
        let granted = Fault::on("manifests").digest(&one.digest()).when(|seen| seen.authorization().is_some());
        registry.fault(granted.hold_answer(&gate).times(1));
        let asking = tokio::spawn({
            let (reader, slow) = (who.clone(), slow.clone());
            async move { reader.status(&slow).await }
        });
        gate.reached().await;
        registry.make_private("acme/app", &["alice"]);
        assert_eq!(who.status(&manifest("acme/app", &two.digest())).await, 401);
        gate.open();
        asking.await.unwrap();
        all_closed("after the slow yes", &who, &places("acme/app", "1", &one)).await;
        registry.down();
        all_closed("away", &who, &places("acme/app", "1", &one)).await;
    }
}

/// Row 11: a 404 to a stranger is none to who was granted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_is_of_who_was_told() {
    let pki = Pki::new();
    let image = secret("alice's");
    let images = hub().hides().image("acme/app:1", image.clone()).private("acme/app", &["alice"]);
    let (registry, seawall) = start(images, &pki).await;
    let (alice, bob) = (Reader::of(&seawall, ALICE, "acme/app").await, Reader::of(&seawall, BOB, "acme/app").await);
    let paths = places("acme/app", "1", &image);
    all_open("alice", &alice, &paths).await;
    landed(&seawall).await;
    all_closed("bob", &bob, &paths).await;
    registry.reset_counts();
    all_open("alice", &alice, &paths).await;
    assert_eq!(questions(&registry, None), Vec::<String>::new());
}

/// Row 18: what a tag names is told to who asked. Who has a yes for the digest is asked for about
/// the tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tag_names_is_told_to_who_asked() {
    let pki = Pki::new();
    let image = Image::single(&[b"everybody's who has an account"]);
    let (registry, seawall) = start(private().image("acme/app:2", image.clone()), &pki).await;
    pull_as_alice(&seawall, "docker.io/acme/app:2").await;
    let (bob, carol) = (Reader::of(&seawall, BOB, "acme/app").await, Reader::of(&seawall, CAROL, "acme/app").await);
    for reader in [&bob, &carol] {
        assert_eq!(reader.status(&manifest("acme/app", &image.digest())).await, 200);
    }
    registry.reset_counts();
    assert_eq!(bob.status(&manifest("acme/app", "2")).await, 200);
    assert_eq!(questions(&registry, None), ["HEAD manifests/2"]);
    // Tags have rights of their own: what carol may read by its digest she may not by this name.
    let carols = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains("-carol."));
    registry.fault(Fault::on("manifests").when(carols).path_contains("/2").error(404, "MANIFEST_UNKNOWN"));
    for method in [Method::GET, Method::HEAD] {
        nothing_of_it(&carol.ask(method, &manifest("acme/app", "2")).await, "carol");
    }
}

/// Row 20: a CDN whose URLs are signed for GET says what it has in a part of one byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_one_byte_is_a_yes() {
    let pki = Pki::new();
    let layer = Blob::generated(21, 200 << 10);
    let (registry, seawall) = start(private().blob("acme/app", layer.clone()).cdn("cdn.example.test"), &pki).await;
    let (alice, bob) = (Reader::of(&seawall, ALICE, "acme/app").await, Reader::of(&seawall, BOB, "acme/app").await);
    let path = blob("acme/app", &layer.digest());
    assert_eq!(alice.status(&path).await, 200);
    landed(&seawall).await;
    registry.fault(Fault::on("cdn").method(Method::HEAD).status(403, "signed for GET"));
    registry.reset_counts();
    let reply = bob.get(&path).await;
    assert!(reply.status == 200 && layer.holds(0, reply.bytes()), "{}\n{}", reply.status, registry.log());
    assert!(registry.sent() < 100, "{} bytes\n{}", registry.sent(), registry.log());
    // Of something else: no yes.
    registry.add_blob("acme/app", Blob::generated(22, 100 << 10).called(&layer.digest()));
    let carol = Reader::of(&seawall, CAROL, "acme/app").await;
    nothing_of_it(&carol.get(&path).await, "another length");
}

/// Row 24: what is open as one kind is asked for as the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_as_one_kind_is_asked_for_as_the_other() {
    let pki = Pki::new();
    let image = Image::single(&[b"everybody's"]);
    let (registry, seawall) = start(hub().image("acme/app:1", image.clone()), &pki).await;
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    let (anonymous, layer) = (Reader::anonymous(&seawall), image.layers()[0].digest());
    // What the registry has as both is both, once that was asked.
    registry.add_blob("acme/app", Blob::new(image.manifest()));
    for (path, status) in [(manifest("acme/app", &layer), 404), (blob("acme/app", &image.digest()), 200)] {
        registry.reset_counts();
        assert_eq!(anonymous.status(&path).await, status, "{path}\n{}", registry.log());
        assert!(!questions(&registry, None).is_empty(), "{path} was not asked for");
    }
}

/// Row 25: stamps do not go back with the clock. What is named after a yes is not covered by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_covers_nothing_more() {
    let pki = Pki::new();
    let layer = Blob::from(b"uploaded after its manifest");
    let image = Image::of(vec![layer.clone()]);
    let (registry, seawall) = start(hub().image("acme/app:1", image.clone()), &pki).await;
    registry.remove("acme/app", &layer.digest());
    seawall.clock.advance(Duration::from_secs(120));
    assert_eq!(Reader::anonymous(&seawall).status(&manifest("acme/app", &image.digest())).await, 200);
    landed(&seawall).await;
    // Its new clock does not know of the two minutes.
    let (_dir, data) = seawall.stop().await;
    let seawall = Seawall::before(&registry).data(&data).start(&pki).await;
    registry.add_blob("acme/app", layer.clone());
    let path = blob("acme/app", &layer.digest());
    assert_eq!(Reader::of(&seawall, ALICE, "acme/app").await.status(&path).await, 200);
    landed(&seawall).await;
    registry.reset_counts();
    let anonymous = Reader::anonymous(&seawall);
    assert_eq!(anonymous.status(&path).await, 200);
    assert!(!questions(&registry, Some("anonymous")).is_empty(), "{}", registry.log());
}

/// A manifest that says what is its `subject` gives nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_opens_nothing_of_its_subject() {
    let pki = Pki::new();
    let (image, mine) = (secret("alice's"), Image::single(&[b"a signature of mine"]));
    let images = private().image("acme/app:1", image.clone()).image("acme/app:mine", mine.clone());
    let (registry, seawall) = start(images, &pki).await;
    registry.make_private_within("acme/app", "1", &image, &["alice"]);
    let mut signed: serde_json::Value = serde_json::from_slice(&mine.manifest()).unwrap();
    signed["subject"] = serde_json::json!({ "mediaType": image.media_type(), "digest": image.digest(), "size": 1 });
    registry.add_manifest("acme/app", "signed", OCI_MANIFEST, serde_json::to_vec(&signed).unwrap());
    pull_as_alice(&seawall, "docker.io/acme/app:1").await;
    let bob = Reader::of(&seawall, BOB, "acme/app").await;
    assert_eq!(bob.status(&manifest("acme/app", "signed")).await, 200);
    all_closed("bob", &bob, &places("acme/app", "1", &image)).await;
}

/// A list is told to who asked, as a tag is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_told_to_who_asked() {
    let pki = Pki::new();
    let (registry, seawall) = start(hub().image("acme/app:1", Image::single(&[b"everybody's"])), &pki).await;
    let (anonymous, list) = (Reader::of(&seawall, None, "acme/app").await, "/v2/acme/app/tags/list");
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    assert_eq!(anonymous.status(list).await, 200);
    registry.make_private("acme/app", &["alice"]);
    registry.add_image("acme/app:a-secret", &secret("alice's"));
    let alice = Reader::of(&seawall, ALICE, "acme/app").await;
    let told = |reply: &Reply| String::from_utf8_lossy(reply.bytes()).contains("a-secret");
    for is_up in [true, false] {
        seawall.clock.advance(MINUTE);
        if is_up {
            assert!(told(&alice.get(list).await), "{}", registry.log());
        } else {
            registry.down();
        }
        for (name, reader) in [("anonymous", &anonymous), ("at the mirror", &Reader::at_mirror(&seawall))] {
            let reply = reader.get(list).await;
            assert!(!told(&reply), "{name}, up: {is_up}: {}", reply.status);
        }
    }
}
