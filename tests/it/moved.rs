//! A tag that moved, when what it names now cannot be had: what it named before is here, and is
//! served.
//!
//! Found by the soak: what a tag names now was bound before it was here, and took the place of what
//! was.

use std::time::Duration;

use http::Method;

use crate::access::HUB;
use crate::flight::landed;
use crate::harness::*;
use crate::tags::{ALL, ask, named};

const APP: &str = "docker.io/acme/app:1";
const TAG: &str = "https://registry-1.docker.io/v2/acme/app/manifests/1";

struct Moved {
    pki: Pki,
    registry: Registry,
    seawall: Seawall,
    old: String,
    new: String,
}

/// The old image is here, and the tag's time is up.
async fn moved() -> Moved {
    moved_with("").await
}

async fn moved_with(toml: &str) -> Moved {
    let pki = Pki::new();
    let (old, new) = (Image::single(&[b"old"]), Image::single(&[b"new"]));
    let registry = Registry::new("registry-1.docker.io").token_auth().quota(100).image("acme/app:1", old.clone());
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    seawall.client().pull(APP, Style::Docker).await.unwrap();
    landed(&seawall).await;
    registry.add_image("acme/app:1", &new);
    seawall.clock.advance(Duration::from_secs(70));
    registry.reset_counts();
    Moved { pki, registry, seawall, old: old.digest(), new: new.digest() }
}

impl Moved {
    async fn pulls(&self, style: Style, digest: &str, when: &str) {
        let pulled = self.seawall.client().pull(APP, style).await.unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(pulled.digest, digest, "{when}, {style:?}");
    }

    /// Somebody asks what the tag names now, and does not fetch it.
    async fn is_asked_for(&self) {
        let reply = ask(&self.seawall.client(), Method::HEAD, TAG, &ALL).await;
        assert_eq!(named(&reply), (200, &*self.new));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_quota_is_spent() {
    for style in Style::ALL {
        let moved = moved().await;
        moved.registry.set_remaining(ANONYMOUS_SOURCE, 0);
        moved.pulls(style, &moved.old, "spent").await;
        assert_eq!(moved.registry.gets("manifests"), 0, "nothing that upstream counts: {}", moved.registry.log());
        moved.registry.set_remaining(ANONYMOUS_SOURCE, 100);
        moved.seawall.clock.advance(Duration::from_secs(21_600));
        moved.pulls(style, &moved.new, "free again").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_warning_that_says_why() {
    for h2 in [false, true] {
        let moved = moved().await;
        moved.registry.set_remaining(ANONYMOUS_SOURCE, 0);
        let client = if h2 { moved.seawall.client().h2() } else { moved.seawall.client() };
        for method in [Method::HEAD, Method::GET] {
            let reply = ask(&client, method.clone(), TAG, &ALL).await;
            assert_eq!(named(&reply), (200, &*moved.old), "{method}");
            let (warning, status) = (reply.header("warning"), reply.header("cache-status"));
            assert!(warning.starts_with("299 ") && warning.contains("no pulls are left"), "{method}: {warning}");
            assert!(status.contains("fwd=stale"), "{method}: {status}");
            assert_eq!(reply.header("age"), "70", "{method}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_upstream_is_down_after_it_said_what_is_new() {
    for style in Style::ALL {
        let mut moved = moved().await;
        moved.is_asked_for().await;
        moved.registry.down();
        moved.seawall.clock.advance(Duration::from_secs(5));
        moved.pulls(style, &moved.old, "within the ttl").await;
        moved.seawall.clock.advance(Duration::from_secs(70));
        moved.pulls(style, &moved.old, "after the ttl").await;
        moved.seawall = moved.seawall.restart(&moved.pki).await;
        moved.pulls(style, &moved.old, "after a restart").await;
        moved.registry.up();
        moved.seawall.clock.advance(Duration::from_secs(70));
        moved.pulls(style, &moved.new, "up again").await;
    }
}

/// A store that is broken is not the registry: HEAD goes on answering. Who asks by HEAD first has
/// to try once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_only_the_bytes_cannot_be_had() {
    for (style, hangs) in Style::ALL.into_iter().flat_map(|style| [(style, false), (style, true)]) {
        let moved = moved_with("[upstream]\nCA_FILE\nresolve_deadline = \"300ms\"\nidle_timeout = \"2s\"").await;
        let (fault, gate) = (Fault::on("manifests").method(Method::GET), Gate::new());
        moved.registry.fault(if hangs { fault.hold_head(&gate) } else { fault.error(503, "UNAVAILABLE") });
        if style != Style::Podman {
            assert!(moved.seawall.client().pull(APP, style).await.is_err());
        }
        moved.pulls(style, &moved.old, "bytes").await;
        gate.open();
        moved.registry.clear_faults();
        moved.seawall.clock.advance(Duration::from_secs(70));
        moved.pulls(style, &moved.new, "mended").await;
    }
}

/// Half of what is new hides nothing: the last pull went for its index, or upstream went away
/// between its manifest and its layers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_only_half_of_it_came() {
    for style in Style::ALL {
        let pki = Pki::new();
        let (old, new) = (
            Image::two_platforms(),
            Image::index(&[("linux/amd64", Image::multi_layer()), ("linux/arm64", Image::single(&[b"arm"]))]),
        );
        let registry = Registry::new("registry-1.docker.io").token_auth().quota(100).image("acme/app:1", old.clone());
        let registry = registry.start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        seawall.client().pull(APP, style).await.unwrap();
        landed(&seawall).await;
        registry.add_image("acme/app:1", &new);
        seawall.clock.advance(Duration::from_secs(70));
        registry.set_remaining(ANONYMOUS_SOURCE, 1);
        assert!(seawall.client().pull(APP, style).await.is_err(), "the last pull goes for the index");
        let pulled = seawall.client().pull(APP, style).await.unwrap_or_else(|error| panic!("{style:?}: {error}"));
        assert_eq!(pulled.digest, old.digest(), "{style:?}");
    }
    for style in Style::ALL {
        let moved = moved().await;
        moved.registry.fault(Fault::on("bytes").hang_up());
        assert!(moved.seawall.client().pull(APP, style).await.is_err());
        assert_eq!(moved.registry.gets("manifests"), 1, "{}", moved.registry.log());
        moved.registry.down();
        moved.seawall.clock.advance(Duration::from_secs(70));
        moved.pulls(style, &moved.old, "its layers never came").await;
    }
}

/// Another source may have it, and is believed what anonymous may read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_while_another_source_has_what_is_new() {
    let pki = Pki::new();
    let (old, new) = (Image::single(&[b"old"]), Image::single(&[b"new"]));
    let registry =
        Registry::new("registry-1.docker.io").token_auth().image("acme/app:1", old.clone()).start(&pki).await;
    let mirror = Registry::new("mirror.example.test").image("acme/app:1", new.clone()).start(&pki).await;
    let toml = "[[registry]]\nname = \"docker.io\"\nupstreams = [{ url = \"https://registry-1.docker.io\" }, { url = \"https://mirror.example.test\", tags = true }]";
    let seawall = Seawall::before(&registry).front(&mirror).toml(toml).start(&pki).await;
    let pull = async |style| seawall.client().pull(APP, style).await.map(|pulled| pulled.digest);
    assert_eq!(pull(Style::Docker).await.unwrap(), old.digest());
    registry.add_image("acme/app:1", &new);
    seawall.clock.advance(Duration::from_secs(70));
    assert_eq!(named(&ask(&seawall.client(), Method::HEAD, TAG, &ALL).await), (200, &*new.digest()));
    registry.down();
    seawall.clock.advance(Duration::from_secs(70));
    for style in Style::ALL {
        assert_eq!(pull(style).await.unwrap(), new.digest(), "{style:?}");
    }
}

/// Who may read no more is told so, whatever is here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn but_not_to_who_is_refused() {
    let moved = moved().await;
    moved.is_asked_for().await;
    moved.registry.make_private("acme/app", &[]);
    moved.registry.revoke_tokens();
    moved.seawall.clock.advance(Duration::from_secs(7200));
    let reply = ask(&moved.seawall.client(), Method::GET, TAG, &ALL).await;
    assert_eq!(reply.status, 401, "{HUB}");
}
