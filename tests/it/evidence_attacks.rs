//! What fresh eyes found in the code of permission, each as they played it.

use http::Method;

use crate::access::{ALICE, BOB};
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::*;
use crate::nonsense_bytes::came;
use crate::tags::MINUTE;

const MIB: u64 = 1 << 20;
const OVERLAP: u64 = 64 << 10;

fn not_alice(seen: &Seen) -> bool {
    !seen.authorization().is_some_and(|shown| shown.contains("-alice."))
}

/// A layer that is withheld stays so, whoever reads the manifest that lists it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withheld_is_not_opened_by_its_manifest() {
    let pki = Pki::new();
    let layer = Blob::from(b"nobody else's business, withheld since");
    let image = Image::of(vec![layer.clone()]);
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    let (anonymous, junk) = (Reader::anonymous(&seawall), Reader::showing(&seawall, "Bearer token-999-alice."));
    let path = blob("acme/app", &layer.digest());
    registry.fault(Fault::on("blobs").digest(&layer.digest()).error(451, "DENIED"));
    assert_eq!(anonymous.ask(Method::HEAD, &path).await.status, 451);
    for reader in [&junk, &anonymous] {
        assert_eq!(reader.status(&manifest("acme/app", &image.digest())).await, 200);
        assert_eq!(anonymous.status(&path).await, 451);
    }
    registry.down();
    seawall.clock.advance(TTL);
    nothing_of_it(&anonymous.get(&path).await, "away");
}

/// … after a restart too, though a tag named it before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withheld_stays_so_over_a_restart() {
    let pki = Pki::new();
    let image = Image::of(vec![Blob::from(b"nobody else's business, withheld since")]);
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    assert_eq!(Reader::anonymous(&seawall).ask(Method::HEAD, &manifest("acme/app", "1")).await.status, 200);
    let path = manifest("acme/app", &image.digest());
    registry.fault(Fault::on("manifests").digest(&image.digest()).when(not_alice).error(412, "DENIED"));
    assert_eq!(Reader::anonymous(&seawall).status(&path).await, 412);
    let seawall = seawall.restart(&pki).await;
    assert_eq!(Reader::of(&seawall, ALICE, "acme/app").await.status(&path).await, 200);
    landed(&seawall).await;
    assert_eq!(Reader::anonymous(&seawall).status(&path).await, 412);
    registry.down();
    seawall.clock.advance(TTL);
    nothing_of_it(&Reader::anonymous(&seawall).get(&path).await, "away");
}

/// A partial file of a private blob, by the words of another registry: named, with a length, by one
/// byte; a part of it, or all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_registry_publishes_a_partial_file() {
    let (pki, layer) = (Pki::new(), Blob::generated(77, MIB));
    let registry = hub().blob("acme/app", layer.clone()).private("acme/app", &["alice"]).start(&pki).await;
    let ghcr = Registry::new("ghcr.io").start(&pki).await;
    for here in [600 << 10, MIB] {
        for from in [here - OVERLAP, here - 1] {
            let seawall = Seawall::before(&registry).front(&ghcr).start(&pki).await;
            let file = seawall.data.join("partial").join(layer.digest().replace(':', "-"));
            std::fs::write(&file, &layer.bytes()[..usize::try_from(here).unwrap()]).unwrap();
            let anonymous = Reader::anonymous(&seawall).at("ghcr.io");
            let path = blob("x/y", &layer.digest());
            let rest = vec![b'x'; usize::try_from(MIB - from).unwrap()];
            ghcr.clear_faults();
            ghcr.fault(Fault::on("*").method(Method::HEAD).names(&layer.digest(), "application/octet-stream", 1 << 20));
            let lie = Fault::on("blobs").method(Method::GET).answers(206, "application/octet-stream", rest);
            let lie = lie.set("content-range", &format!("bytes {from}-{}/{MIB}", MIB - 1));
            ghcr.fault(lie.set("docker-content-digest", &layer.digest()));
            assert_eq!(anonymous.ask(Method::HEAD, &path).await.status, 200);
            for _ in 0..2 {
                let (status, bytes) = came(anonymous.request(Method::GET, &path)).await;
                let same = bytes.iter().zip(layer.bytes().iter()).take_while(|(a, b)| a == b).count();
                assert!(same < 8, "{here} here, from {from}: {status}, {same} private bytes");
                landed(&seawall).await;
            }
        }
    }
}

/// A download that ends after its login was refused brings the login back to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_proof_brings_no_login_back() {
    let (pki, layer) = (Pki::new(), Blob::generated(78, 200 << 10));
    let image = secret("alice's and bob's");
    let registry = hub().image("acme/app:1", image.clone()).blob("acme/app", layer.clone());
    let registry = registry.private("acme/app", &["alice", "bob"]).cdn("cdn.example.test").start(&pki).await;
    let seawall = Seawall::before(&registry).toml("[cache]\noffline_grants = \"7d\"\n").start(&pki).await;
    let pull = || Pull::new("docker.io/acme/app:1", Style::Podman).user("bob", "bobs-password");
    pull().run(&seawall.client()).await.unwrap();
    landed(&seawall).await;
    let bob = Reader::of(&seawall, BOB, "acme/app").await;
    let gate = registry.gate_blob(&layer.digest(), 100 << 10);
    let mut open = bob.request(Method::GET, &blob("acme/app", &layer.digest())).open().await.unwrap();
    gate.reached().await;
    registry.make_private("acme/app", &["alice"]);
    assert_eq!(bob.ask(Method::HEAD, &blob("acme/app", &image.blobs()[0].digest())).await.status, 401);
    gate.open();
    open.rest().await.unwrap();
    landed(&seawall).await;
    let seawall = seawall.restart(&pki).await;
    registry.down();
    assert!(pull().run(&seawall.client()).await.is_err());
}

/// Who asks after a refusal gets no answer to a question from before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_from_before_a_refusal_is_not_shared_after_it() {
    let pki = Pki::new();
    let (one, two) = (secret("one"), secret("two"));
    let registry = hub().image("acme/app:1", one.clone()).image("acme/app:2", two.clone());
    let registry = registry.private("acme/app", &["alice", "bob"]).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for tag in ["1", "2"] {
        pull_as_alice(&seawall, &format!("docker.io/acme/app:{tag}")).await;
    }
    for reference in [one.digest(), "1".to_owned()] {
        registry.clear_faults();
        registry.make_private("acme/app", &["alice", "bob"]);
        seawall.clock.advance(TTL);
        let (bob, path) = (Reader::of(&seawall, BOB, "acme/app").await, manifest("acme/app", &reference));
        let gate = Gate::new();
        let slow = Fault::on("manifests").path_contains(&reference).when(|seen| seen.authorization().is_some());
        registry.fault(slow.hold_answer(&gate).times(1));
        let first = tokio::spawn({
            let (bob, path) = (bob.clone(), path.clone());
            async move { bob.status(&path).await }
        });
        gate.reached().await;
        registry.make_private("acme/app", &["alice"]);
        assert_eq!(bob.status(&manifest("acme/app", &two.digest())).await, 401);
        nothing_of_it(&bob.get(&path).await, &reference);
        gate.open();
        first.await.unwrap();
    }
}

/// What was granted by a clock that was ahead is not granted for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_opens_nothing() {
    let pki = Pki::new();
    let image = Image::of(vec![Blob::from(b"nobody else's business, now")]);
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.clock.advance(MINUTE * 60 * 20);
    assert_eq!(Reader::anonymous(&seawall).status(&manifest("acme/app", "1")).await, 200);
    landed(&seawall).await;
    let (_dir, data) = seawall.stop().await;
    registry.make_private("acme/app", &["alice"]);
    let seawall = Seawall::before(&registry).data(&data).start(&pki).await;
    let path = manifest("acme/app", &image.digest());
    nothing_of_it(&Reader::anonymous(&seawall).get(&path).await, "asked, and refused");
    assert_eq!(Reader::of(&seawall, ALICE, "acme/app").await.status(&path).await, 200);
    for _ in 0..2 {
        nothing_of_it(&Reader::anonymous(&seawall).get(&path).await, "refused since");
        seawall.clock.advance(TTL);
    }
}

/// Another registry under the same name, after a restart, has said nothing yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_under_a_name_is_not_said_by_another_registry() {
    let pki = Pki::new();
    let image = secret("public at a former host");
    let old = Registry::new("old.test").image("acme/app:1", image.clone()).start(&pki).await;
    let new = Registry::new("new.test").image("acme/app:1", image.clone()).user("alice", "alices-password");
    let new = new.private("acme/app", &["alice"]).token_auth().start(&pki).await;
    let toml = |host: &str| {
        format!("[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nupstreams = [{{ url = \"https://{host}\" }}]")
    };
    let seawall = Seawall::before(&old).front(&new).toml(&toml("old.test")).start(&pki).await;
    let paths = [
        "/v2/lab/acme/app/manifests/1".to_owned(),
        format!("/v2/lab/acme/app/manifests/{}", image.digest()),
        format!("/v2/lab/acme/app/blobs/{}", image.blobs()[0].digest()),
    ];
    for path in &paths {
        assert_eq!(Reader::at_mirror(&seawall).status(path).await, 200);
    }
    landed(&seawall).await;
    let seawall = seawall.restart_with(&toml("new.test"), &pki).await;
    for away in [false, true] {
        for path in &paths {
            nothing_of_it(&Reader::at_mirror(&seawall).get(path).await, path);
        }
        if !away {
            new.down();
            seawall.clock.advance(TTL);
        }
    }
    let seawall = seawall.restart_with(&toml("old.test"), &pki).await;
    for path in &paths {
        assert_eq!(Reader::at_mirror(&seawall).status(path).await, 200, "it is asked again");
    }
}

/// Two names that a rewrite makes one are one: a refusal by one of them is a refusal of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_of_one_repository_are_one() {
    let (pki, image) = (Pki::new(), secret("of a repository with two names"));
    let registry = hub().image("acme/app:1", image.clone()).start(&pki).await;
    let toml = "[[registry]]\nname = \"docker.io\"\nrewrite = [{ from = \"^old/(.*)$\", to = \"acme/$1\" }]";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let mirror = Reader::at_mirror(&seawall);
    let paths = ["old", "acme"].map(|name| format!("/v2/docker.io/{name}/app/manifests/{}", image.digest()));
    for path in &paths {
        assert_eq!(mirror.status(path).await, 200);
    }
    landed(&seawall).await;
    registry.make_private("acme/app", &["alice"]);
    seawall.clock.advance(TTL);
    assert_eq!(mirror.status(&paths[1]).await, 403);
    registry.down();
    for path in &paths {
        nothing_of_it(&mirror.get(path).await, path);
    }
}

/// A closed tag of a public repository: who asks for it takes nothing from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_tag_closes_no_open_one() {
    let pki = Pki::new();
    let (open, closed) = (Image::single(&[b"everybody's"]), secret("alice's"));
    let registry = hub().image("acme/app:1", open.clone()).image("acme/app:2", closed.clone()).start(&pki).await;
    registry.make_private_within("acme/app", "2", &closed, &["alice"]);
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/acme/app:1", Style::Podman).await.unwrap();
    landed(&seawall).await;
    registry.fault(Fault::on("manifests").path_contains("manifests/2").error(403, "DENIED"));
    let at_mirror = |tag: &str| format!("/v2/docker.io/acme/app/manifests/{tag}");
    assert_eq!(Reader::at_mirror(&seawall).status(&at_mirror("2")).await, 403);
    assert_eq!(Reader::anonymous(&seawall).status(&manifest("acme/app", "1")).await, 200);
}
