//! Answers with status 200 that are none: a page of a gate in front of the registry, other JSON,
//! nothing, a cut manifest, a stream in another coding (pitfall 44). None of them opens anything,
//! and none takes anything away.

use bytes::Bytes;
use http::Method;

use crate::access::{ALICE, BOB, HUB, hub, token};
use crate::harness::exchange::Reply;
use crate::harness::faults::PAGE;
use crate::harness::image::OCI_INDEX;
use crate::harness::*;
use crate::tags::{ALL, MINUTE, TAG, ask, get, named};

pub(crate) const MIRROR: &str = "http://mirror.test";
const REGISTRY: &str = "registry-1.docker.io";

/// The start of a gzip stream, which no parser takes for text.
pub(crate) const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0x2a, 0x2e];

/// Everything that a gate may answer, as a fault of `on`. A cut manifest is of `manifest`.
fn kinds(on: impl Fn() -> Fault, manifest: &Bytes) -> Vec<(&'static str, Fault)> {
    let half = manifest.slice(..manifest.len() / 2);
    vec![
        ("a page", on().page()),
        ("a page, in capitals", on().answers(200, "TEXT/HTML", PAGE)),
        ("a page in XML", on().answers(200, "application/xhtml+xml", PAGE)),
        ("a page that names the digest", on().page().set("docker-content-digest", &sha256(manifest))),
        ("a page without a length", on().page().chunked()),
        ("other JSON", on().answers(200, "application/json", r#"{"status":"maintenance"}"#)),
        ("other JSON as a manifest", on().answers(200, OCI_INDEX, r#"{"errors":[]}"#)),
        ("nothing", on().answers(200, "", "")),
        ("nothing, as a manifest", on().answers(200, OCI_INDEX, "")),
        ("text", on().answers(200, "text/plain", "We will be back.")),
        ("no content", on().answers(204, "", "")),
        ("accepted", on().answers(202, "application/json", manifest.clone())),
        ("packed", on().answers(200, OCI_INDEX, GZIP).set("content-encoding", "gzip")),
        ("packed, and not said", on().answers(200, OCI_INDEX, GZIP)),
        ("cut", on().answers(200, OCI_INDEX, half)),
        ("no digest", on().answers(200, OCI_INDEX, manifest.clone()).set("docker-content-digest", "sha256:00")),
    ]
}

/// The registry's own host, whatever it is asked: tokens come from another.
fn gate() -> Fault {
    Fault::on("*").host(REGISTRY)
}

/// Who may not read acme/app: none, a made up login, a token of nobody's, another account's.
async fn strangers(client: &Client) -> Vec<Option<String>> {
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let wrong = Some("Basic YWxpY2U6d3Jvbmc=".to_owned());
    let nobody = bearer(token(client, None, "acme/app").await);
    vec![None, wrong, nobody, bearer(token(client, BOB, "acme/app").await)]
}

async fn asked(client: &Client, method: Method, url: &str, authorization: Option<&str>) -> Reply {
    let mut ask = ALL.iter().fold(client.request(method, url), |ask, one| ask.header("accept", one));
    if let Some(value) = authorization {
        ask = ask.header("authorization", value);
    }
    ask.send().await.unwrap()
}

/// The paths of acme/app that are here, of a tag that nobody pulled, and of one that is nowhere.
fn places(image: &Image) -> Vec<String> {
    let tags = ["1", "never"].map(str::to_owned);
    let manifests = image.manifests().into_iter().map(|(_, bytes)| sha256(&bytes));
    let manifests = tags.into_iter().chain(manifests).map(|name| format!("/v2/acme/app/manifests/{name}"));
    let blobs = image.blobs().into_iter().map(|blob| format!("/v2/acme/app/blobs/{}", blob.digest()));
    manifests.chain(blobs).collect()
}

fn private_image() -> Image {
    let layers = vec![Blob::from(b"nobody else's business"), Blob::generated(21, 200 << 10)];
    Image::index(&[("linux/amd64", Image::of(layers))])
}

/// Nothing comes, by the proxy and by the mirror.
async fn all_closed(seawall: &Seawall, who: &[Option<String>], image: &Image, when: &str) {
    let mut clients = Vec::new();
    for stranger in who {
        clients.push((seawall.client(), HUB, stranger.clone()));
    }
    clients.push((Client::plain(seawall.addr()), MIRROR, None));
    for (client, base, authorization) in &clients {
        for place in places(image) {
            for method in [Method::HEAD, Method::GET] {
                let url = format!("{base}{place}");
                let reply = asked(client, method.clone(), &url, authorization.as_deref()).await;
                let case = format!("{when}: {method} {url} as {authorization:?}: {} {:?}", reply.status, reply.headers);
                assert!([401, 403, 404, 502, 503, 504].contains(&reply.status.as_u16()), "{case}");
                assert_eq!((reply.header("docker-content-digest"), reply.header("etag")), ("", ""), "{case}");
                let body = String::from_utf8_lossy(reply.bytes()).into_owned();
                assert!(!body.contains("nobody else") && !body.contains("manifests\":"), "{case}: {body}");
            }
        }
    }
}

/// Item 8 of issue 13: private bytes are here, and a gate answers for the registry. Nobody gets
/// them: not then, not afterwards, not in an outage, not after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_opens_nothing() {
    let (pki, image) = (Pki::new(), private_image());
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let alice = Pull::new("docker.io/acme/app:1", Style::Containerd).user("alice", "alices-password");
    assert_eq!(alice.run(&seawall.client()).await.unwrap().digest, image.digest());
    crate::flight::landed(&seawall).await;
    let who = strangers(&seawall.client()).await;
    for (kind, fault) in kinds(gate, &image.manifest()) {
        registry.fault(fault);
        all_closed(&seawall, &who, &image, kind).await;
        registry.clear_faults();
        all_closed(&seawall, &who, &image, &format!("after {kind}")).await;
    }
    registry.down();
    all_closed(&seawall, &who, &image, "in an outage").await;
    let seawall = seawall.restart(&pki).await;
    all_closed(&seawall, &who, &image, "in an outage, after a restart").await;
    registry.up();
    all_closed(&seawall, &who, &image, "after the outage").await;
}

/// The same for a page behind a redirect, and for a whole pull, as skopeo's: `/v2/` says that no
/// login is needed, the tag is asked by GET, and what it names by digest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_image_is_pulled_through_a_page() {
    let (pki, image) = (Pki::new(), private_image());
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let alice = Pull::new("docker.io/acme/app:1", Style::Podman).user("alice", "alices-password");
    alice.run(&seawall.client()).await.unwrap();
    crate::flight::landed(&seawall).await;
    let who = strangers(&seawall.client()).await;
    for redirected in [false, true] {
        if redirected {
            registry.fault(gate().redirect("https://cdn.example.test/login?next=%2Fv2%2F"));
            registry.fault(Fault::on("other").host("cdn.example.test").page());
        } else {
            registry.fault(gate().page());
        }
        for style in Style::ALL {
            for pull in [
                Pull::new("docker.io/acme/app:1", style),
                Pull::new("docker.io/acme/app:1", style).user("bob", "bobs-password"),
                Pull::new(&format!("docker.io/acme/app@{}", image.digest()), style),
            ] {
                assert!(pull.run(&seawall.client()).await.is_err(), "{style:?}, redirected: {redirected}");
            }
            let mirrored = Pull::new("x/docker.io/acme/app:1", style).at(MIRROR);
            assert!(mirrored.run(&Client::plain(seawall.addr())).await.is_err(), "{style:?} of the mirror");
        }
        // Until then it is repeated that anonymous was refused.
        seawall.clock.advance(std::time::Duration::from_secs(60));
        let reply = get(&seawall.client(), &format!("{HUB}/v2/acme/app/manifests/1")).await;
        let said = String::from_utf8_lossy(reply.bytes()).into_owned();
        let host = if redirected { "cdn.example.test" } else { REGISTRY };
        let expected = format!("{host} answered 200 with text/html where a manifest was asked for: a login page,");
        assert!(reply.status == 502 && said.contains(&expected), "{said}");
        all_closed(&seawall, &who, &image, "a page").await;
        registry.clear_faults();
    }
    assert!(alice.run(&seawall.client()).await.is_ok());
}

/// Item 9: the copy of a tag is there after each kind of nonsense, and is served meanwhile, with a
/// warning; with and without a digest in the registry's own answers, by proxy and mirror.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tags_copy_survives_nonsense() {
    let pki = Pki::new();
    let image = Image::two_platforms();
    for says_digest in [true, false] {
        let registry = crate::tags::hub(&pki).await;
        let registry_says = || {
            if !says_digest {
                registry.fault(Fault::on("manifests").no_digest());
            }
        };
        registry_says();
        let seawall = Seawall::before(&registry).start(&pki).await;
        let (client, mirror) = (seawall.client(), Client::plain(seawall.addr()));
        let at_mirror = format!("{MIRROR}/v2/library/alpine/manifests/3.20");
        assert_eq!(named(&get(&client, TAG).await), (200, &*image.digest()));
        for (kind, fault) in kinds(|| Fault::on("manifests"), &image.manifest()) {
            seawall.clock.advance(MINUTE);
            registry.clear_faults();
            registry.fault(fault);
            for method in [Method::HEAD, Method::GET] {
                for (client, url) in [(&client, TAG), (&mirror, &*at_mirror)] {
                    let reply = ask(client, method.clone(), url, &ALL).await;
                    let case = format!("{kind}, {method} {url}, {says_digest}: {} {:?}", reply.status, reply.headers);
                    assert_eq!(named(&reply), (200, &*image.digest()), "{case}");
                    assert!(reply.header("cache-status").contains("fwd=stale"), "{case}");
                    assert!(reply.header("cache-status").contains("detail=error"), "{case}");
                    assert!(reply.header("warning").contains("served from cache"), "{case}");
                    if method == Method::GET {
                        assert_eq!(sha256(reply.bytes()), image.digest(), "{case}");
                    }
                }
            }
            // A tag that was never here has no copy, and gets none by this.
            let other = TAG.replace("3.20", "3.21");
            let reply = get(&client, &other).await;
            assert_eq!((reply.status.as_u16(), reply.header("docker-content-digest")), (502, ""), "{kind}");
            registry.clear_faults();
            registry_says();
            assert_eq!(get(&client, &other).await.status, 404, "{kind}: nothing was kept of it");
            let reply = get(&client, TAG).await;
            assert_eq!((named(&reply), reply.header("warning")), ((200, &*image.digest()), ""), "after {kind}");
        }
        // What was kept is there in an outage too, and after a restart.
        registry.down();
        assert_eq!(named(&get(&client, TAG).await), (200, &*image.digest()));
        let seawall = seawall.restart(&pki).await;
        assert_eq!(get(&seawall.client(), TAG).await.status, 200, "{says_digest}");
    }
}

/// A HEAD of a digest that is not here: no page gets its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_never_gets_the_name_of_a_digest() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let absent = Blob::from(b"not here").digest();
    let shown = token(&seawall.client(), ALICE, "acme/app").await;
    for (kind, fault) in kinds(gate, &private_image().manifest()) {
        registry.fault(fault);
        for (repository, authorization) in [("library/alpine", None), ("acme/app", Some(format!("Bearer {shown}")))] {
            for place in ["manifests", "blobs"] {
                for (client, base) in [(seawall.client(), HUB), (Client::plain(seawall.addr()), MIRROR)] {
                    let url = format!("{base}/v2/{repository}/{place}/{absent}");
                    let authorization = authorization.as_deref().filter(|_| base == HUB);
                    for known in ["\"sha256:0\"", "*", &format!("\"{absent}\"")] {
                        let mut ask = client.head(&url).header("if-none-match", known);
                        if let Some(value) = authorization {
                            ask = ask.header("authorization", value);
                        }
                        let reply = ask.send().await.unwrap();
                        let case = format!("{kind}: {url} {known}: {} {:?}", reply.status, reply.headers);
                        assert_eq!((reply.header("docker-content-digest"), reply.header("etag")), ("", ""), "{case}");
                        let may_be_one = place == "blobs" && !kind.starts_with("a page");
                        assert!(reply.status == 502 || (may_be_one && reply.status == 200), "{case}");
                    }
                }
            }
        }
        registry.clear_faults();
    }
}
