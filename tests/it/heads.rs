//! Registries that do not answer HEAD for what they answer GET, or name no digest.

use http::Method;

use crate::access::ALICE;
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::*;
use crate::tags::MINUTE;

fn image() -> Image {
    Image::single(&[b"a layer"])
}

async fn lab(pki: &Pki) -> (Registry, Seawall) {
    let registry = hub().image("acme/app:1", image()).image("acme/app:2", image()).start(pki).await;
    let seawall = Seawall::before(&registry).start(pki).await;
    (registry, seawall)
}

/// GETs of manifests with a token, `of` somebody.
fn gets(registry: &Registry, of: &str) -> usize {
    let is_of = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains(of));
    registry.count(|seen| seen.method == Method::GET && seen.kind() == "manifests" && is_of(seen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_head_does_not_find_is_asked_for_by_get() {
    for status in [400, 403, 404, 405, 500, 501] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let is_head = |seen: &Seen| seen.method == Method::HEAD && seen.authorization().is_some();
        registry.fault(Fault::on("manifests").when(is_head).error(status, "UNSUPPORTED"));
        let alice = Reader::of(&seawall, ALICE, "acme/app").await;
        for tag in ["1", "2"] {
            let reply = alice.get(&manifest("acme/app", tag)).await;
            assert_eq!(reply.body.as_ref().unwrap(), &image().manifest(), "{status} {tag}\n{}", registry.log());
        }
        assert_eq!(gets(&registry, "-alice."), 2, "{status}\n{}", registry.log());
        assert_eq!(alice.status(&manifest("acme/app", "1")).await, 200);
        assert_eq!(gets(&registry, "-alice."), 2, "it is bound: {status}\n{}", registry.log());
        assert_eq!(alice.status(&manifest("acme/app", "none")).await, 404, "{status}");
    }
}

/// Registries count a GET, and signatures are looked for all the time: one 404 is compared. What a person
/// asks for is asked once more, for the registry's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_tag_is_not_paid_for_twice() {
    for status in [404, 410] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let anonymous = Reader::anonymous(&seawall);
        assert_eq!(anonymous.status(&manifest("acme/app", "1")).await, 200);
        registry.fault(Fault::on("manifests").path_contains("/manifests/sha256-").error(status, "UNKNOWN"));
        registry.fault(Fault::on("manifests").path_contains("/manifests/none").error(status, "NAME_UNKNOWN"));
        let before = gets(&registry, "");
        for signed in [1u8, 2, 3, 3] {
            let tag = format!("sha256-{}.sig", crate::harness::image::sha256(&[signed]).trim_start_matches("sha256:"));
            assert_eq!(anonymous.status(&manifest("acme/app", &tag)).await, status);
        }
        assert_eq!(gets(&registry, ""), before + 1, "{status}\n{}", registry.log());
        for _ in 0..3 {
            let reply = anonymous.get(&manifest("acme/app", "none")).await;
            let text = String::from_utf8_lossy(reply.bytes()).into_owned();
            assert!(reply.status == status && text.contains("NAME_UNKNOWN"), "{status}: {text}\n{}", registry.log());
        }
        assert_eq!(gets(&registry, ""), before + 2, "{status}\n{}", registry.log());
    }
}

/// Nexus has HEAD for what it fetched itself, and 404 for the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_good_head_is_no_proof_for_the_others() {
    for status in [404, 410, 500, 501] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let anonymous = Reader::anonymous(&seawall);
        assert_eq!(anonymous.status(&manifest("acme/app", "1")).await, 200);
        let is_head = |seen: &Seen| seen.method == Method::HEAD && seen.path.ends_with("/manifests/2");
        registry.fault(Fault::on("manifests").when(is_head).error(status, "UNKNOWN"));
        assert_eq!(anonymous.status(&manifest("acme/app", "2")).await, 200, "{status}\n{}", registry.log());
    }
}

/// A HEAD that denies everything is not upstream's word that an image is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_head_is_wrong_a_digest_that_is_here_is_not_gone() {
    for status in [404, 410, 500, 501] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        registry.fault(Fault::on("manifests").method(Method::HEAD).error(status, "UNKNOWN"));
        let path = manifest("acme/app", &image().digest());
        for age in [0, 20, 40] {
            seawall.clock.advance(MINUTE * age);
            let reply = Reader::anonymous(&seawall).get(&path).await;
            let said = (reply.status.as_u16(), reply.header("cache-status"));
            assert!(said.0 == 200 && !said.1.contains("detail"), "{status} {age}: {said:?}\n{}", registry.log());
        }
        registry.fault(Fault::on("manifests").method(Method::GET).error(404, "MANIFEST_UNKNOWN"));
        seawall.clock.advance(MINUTE * 20);
        let reply = Reader::anonymous(&seawall).get(&path).await;
        assert!(reply.header("cache-status").contains("detail"), "GET says so too: {:?}", reply.headers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_or_a_limit_is_no_reason_to_get() {
    for status in [401, 429] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        registry.fault(Fault::on("manifests").method(Method::HEAD).error(status, "NO"));
        assert_ne!(Reader::anonymous(&seawall).status(&manifest("acme/app", "1")).await, 200);
        assert_eq!(gets(&registry, ""), 0, "{status}\n{}", registry.log());
    }
}

/// Some registries have a manifest by its tag alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_whose_digest_is_not_there_by_itself_is_got() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("manifests").digest(&image().digest()).error(404, "MANIFEST_UNKNOWN"));
    let reply = Reader::anonymous(&seawall).get(&manifest("acme/app", "1")).await;
    assert_eq!(reply.body.unwrap(), image().manifest(), "{}", registry.log());
}

/// Without `Docker-Content-Digest`: what was hashed is kept like any manifest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_without_a_digest_outlives_a_restart() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("manifests").no_digest());
    let path = manifest("acme/app", "1");
    assert_eq!(Reader::anonymous(&seawall).status(&path).await, 200);
    landed(&seawall).await;
    let seawall = seawall.restart(&pki).await;
    registry.down();
    seawall.clock.advance(MINUTE * 2);
    let reply = Reader::anonymous(&seawall).get(&path).await;
    assert_eq!(*reply.body.as_ref().unwrap(), image().manifest(), "{:?}", reply.headers);
    assert!(reply.header("cache-status").contains("fwd=stale"));
}

/// What the client accepts is what the registry is told: `*/*` and types of its own too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_of_the_clients_own_is_sent() {
    for wanted in ["application/vnd.acme.model.v1+json", "*/*"] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let lacks = move |seen: &Seen| !seen.headers["accept"].to_str().unwrap().contains(wanted);
        registry.fault(Fault::on("manifests").when(lacks).error(404, "MANIFEST_UNKNOWN"));
        let ask = |accept: String| {
            let client = seawall.client();
            async move {
                let url = format!("{}{}", crate::access::HUB, manifest("acme/app", "1"));
                client.get(&url).header("accept", &accept).send().await.unwrap().status.as_u16()
            }
        };
        let four = crate::tags::ALL.join(", ");
        assert_eq!(ask(four.clone()).await, 404, "{wanted}");
        assert_eq!(ask(format!("{four}, {wanted}")).await, 200, "{wanted}\n{}", registry.log());
    }
}

/// By digest, too: some have a manifest for who names its type alone, `*/*` or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_of_the_clients_own_is_sent_by_digest() {
    for wanted in ["application/vnd.acme.model.v1+json", "application/vnd.oci.artifact.manifest.v1+json"] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let lacks = move |seen: &Seen| !seen.headers["accept"].to_str().unwrap().contains(wanted);
        registry.fault(Fault::on("manifests").when(lacks).error(404, "MANIFEST_UNKNOWN"));
        let url = format!("{}{}", crate::access::HUB, manifest("acme/app", &image().digest()));
        let ask = async |method: Method, accept: String| {
            let asked = seawall.client().request(method, &url).header("accept", &accept).send().await.unwrap();
            asked.status.as_u16()
        };
        let (four, is_usual) = (crate::tags::ALL.join(", "), wanted.contains("oci.artifact"));
        let plain = ask(Method::GET, four.clone()).await;
        assert_eq!(plain, if is_usual { 200 } else { 404 }, "{wanted}\n{}", registry.log());
        for method in [Method::HEAD, Method::GET] {
            let own = ask(method.clone(), format!("{four}, {wanted}")).await;
            assert_eq!(own, 200, "{method} {wanted}\n{}", registry.log());
        }
        seawall.clock.advance(MINUTE * 20);
        assert_eq!(ask(Method::GET, format!("{four}, {wanted}")).await, 200, "asked anew\n{}", registry.log());
    }
}

/// A gate that does not like a client's word refuses it, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_writes_is_no_refusal_of_a_digest() {
    for status in [400, 403, 404, 406, 500] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let has = |seen: &Seen| seen.header("accept").is_some_and(|accept| accept.contains("acme.model"));
        registry.fault(Fault::on("manifests").when(has).error(status, "DENIED"));
        let url = format!("{}{}", crate::access::HUB, manifest("acme/app", &image().digest()));
        let accept = format!("{}, application/vnd.acme.model.v1+json", crate::tags::ALL.join(", "));
        for age in [0, 20] {
            seawall.clock.advance(MINUTE * age);
            let reply = seawall.client().get(&url).header("accept", &accept).send().await.unwrap();
            let said = (reply.status.as_u16(), reply.header("cache-status"));
            assert!(said.0 == 200 && !said.1.contains("detail"), "{status} {age} {said:?}\n{}", registry.log());
        }
    }
}

/// What one client takes besides is no answer for another, and what it wrote is nobody else's refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_of_the_clients_own_is_its_own() {
    const OWN: &str = "application/vnd.acme.model.v1+json";
    let ask = async |seawall: &Seawall, accept: &str| {
        let url = format!("{}{}", crate::access::HUB, manifest("acme/app", "1"));
        seawall.client().head(&url).header("accept", accept).send().await.unwrap()
    };
    let four = crate::tags::ALL.join(", ");
    let both = format!("{four}, {OWN}");
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    let has = |seen: &Seen| seen.header("accept").is_some_and(|accept| accept.contains(OWN));
    registry.fault(Fault::on("manifests").when(has).media_type(OWN));
    assert_eq!(ask(&seawall, &both).await.header("content-type"), OWN);
    assert_eq!(ask(&seawall, &four).await.header("content-type"), image().media_type(), "{}", registry.log());
    // A gate that does not like the word refuses it, and nothing else.
    registry.clear_faults();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("manifests").when(has).error(403, "DENIED"));
    assert_eq!(ask(&seawall, &both).await.status, 200, "{}", registry.log());
    seawall.clock.advance(MINUTE * 2);
    registry.down();
    assert_eq!(ask(&seawall, &four).await.status, 200, "anonymous was not refused: {}", registry.log());
}

/// A type that is refused is not asked for by `*/*`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_refuses_is_not_asked_for() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    let url = format!("{}{}", crate::access::HUB, manifest("acme/app", "1"));
    let accept = format!("*/*, {};q=0", crate::harness::image::OCI_INDEX);
    seawall.client().get(&url).header("accept", &accept).send().await.unwrap();
    let asked = registry.requests();
    let sent = asked.iter().filter(|seen| seen.path.ends_with("/manifests/1")).filter_map(|seen| seen.header("accept"));
    assert!(sent.clone().count() > 0 && !sent.clone().any(|accept| accept.contains("*/*")), "{}", registry.log());
}

/// A GET that fails for another reason is no answer in place of HEAD's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_get_hides_no_404() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("manifests").method(Method::GET).abuse_limit(60));
    assert_eq!(Reader::anonymous(&seawall).status(&manifest("acme/app", "none")).await, 404, "{}", registry.log());
}

/// A digest that comes with the bytes is theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_changed_on_its_way_is_no_manifest() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("manifests").method(Method::HEAD).error(404, "MANIFEST_UNKNOWN"));
    registry.fault(Fault::on("manifests").method(Method::GET).when(|seen| seen.path.ends_with("/1")).corrupt(3));
    let reply = Reader::anonymous(&seawall).get(&manifest("acme/app", "1")).await;
    assert_eq!(reply.status, 502, "{:?}\n{}", reply.headers, registry.log());
    assert!(!reply.headers.contains_key("docker-content-digest"));
}

/// Harbor says which policy withholds an image, others that the type is not accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_a_tag_keeps_its_words() {
    for status in [400, 403, 412, 451] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let alice = Reader::of(&seawall, ALICE, "acme/app").await;
        assert_eq!(alice.status(&manifest("acme/app", "1")).await, 200);
        let withheld = Fault::on("manifests").path_contains("/manifests/2").error(status, "PROJECTPOLICYVIOLATION");
        registry.fault(withheld.set("warning", "299 - \"scanned by trivy\""));
        let reply = alice.get(&manifest("acme/app", "2")).await;
        let text = String::from_utf8_lossy(reply.bytes()).into_owned();
        assert_eq!(reply.status.as_u16(), status, "{text}");
        assert!(text.contains("PROJECTPOLICYVIOLATION"), "{status}: {text}\n{}", registry.log());
        assert_eq!(reply.header("warning"), "299 - \"scanned by trivy\"", "{status}");
    }
}

/// A token of anonymous's that the registry takes no longer is given to nobody any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_refused_for_a_list_is_dropped() {
    for list in ["tags/list".to_owned(), format!("referrers/{}", image().digest())] {
        let pki = Pki::new();
        let (registry, seawall) = lab(&pki).await;
        let path = format!("/v2/acme/app/{list}");
        assert_eq!(Reader::of(&seawall, None, "acme/app").await.status(&path).await, 200);
        registry.revoke_tokens();
        assert_eq!(Reader::of(&seawall, None, "acme/app").await.status(&path).await, 401, "it was issued before");
        assert_eq!(Reader::of(&seawall, None, "acme/app").await.status(&path).await, 200, "{}", registry.log());
    }
}

/// Docker documents it: a HEAD of this manifest says what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probe_of_the_quota_is_answered_by_the_registry() {
    let pki = Pki::new();
    let registry = hub().image("ratelimitpreview/test:latest", image()).quota(100).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for user in [None, ALICE] {
        let reader = Reader::of(&seawall, user, "ratelimitpreview/test").await;
        for method in [Method::HEAD, Method::GET, Method::HEAD] {
            let reply = reader.ask(method.clone(), &manifest("ratelimitpreview/test", "latest")).await;
            assert_eq!(reply.status, 200);
            assert!(reply.header("ratelimit-limit").starts_with("100"), "{method} {user:?}: {:?}", reply.headers);
            assert!(!reply.header("ratelimit-remaining").is_empty(), "{method} {user:?}");
        }
    }
    let mirror = Reader::at_mirror(&seawall);
    let reply = mirror.ask(Method::HEAD, &manifest("ratelimitpreview/test", "latest")).await;
    assert!(reply.header("ratelimit-limit").starts_with("100"), "{:?}", reply.headers);
}

/// distribution-spec, "Warnings": what a registry says to people reaches them, also of what is here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_warns_of_is_passed_on() {
    const TEXT: &str = "299 - \"acme/app is deprecated\"";
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    registry.fault(Fault::on("*").set("warning", TEXT));
    let blob = format!("/v2/acme/app/blobs/{}", image().layers()[0].digest());
    let anonymous = Reader::anonymous(&seawall);
    for (url, times) in [(manifest("acme/app", "1"), 2), (manifest("acme/app", &image().digest()), 0), (blob, 1)] {
        for n in 0..2 {
            let said = anonymous.get(&url).await;
            assert_eq!(said.status, 200);
            let expected = if n < times { TEXT } else { "" };
            assert_eq!(said.header("warning"), expected, "{url} {n}");
            landed(&seawall).await;
        }
    }
    landed(&seawall).await;
    let seawall = seawall.restart(&pki).await;
    registry.down();
    seawall.clock.advance(MINUTE * 2);
    let stale = Reader::anonymous(&seawall).get(&manifest("acme/app", "1")).await;
    let warnings: Vec<_> = stale.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(warnings.len() == 2 && warnings[0].starts_with("299 - \"seawall: ") && warnings[1] == TEXT, "{warnings:?}");
}
