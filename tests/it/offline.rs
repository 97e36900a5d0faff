//! The registry and its token service are away.

use std::time::Duration;

use http::Method;

use crate::harness::*;

const IMAGE: &str = "docker.io/library/alpine:3.20";

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/app:1", Image::two_platforms())
        .user("alice", "secret")
        .private("acme/app", &["alice"])
        .token_auth()
        .start(pki)
        .await
}

/// A client's own pull, and that of one who is logged in.
async fn all_pull(seawall: &Seawall, when: &str) {
    for style in Style::ALL {
        for pull in [Pull::new(IMAGE, style), Pull::new(IMAGE, style).user("alice", "secret")] {
            pull.run(&seawall.client()).await.unwrap_or_else(|e| panic!("{when}, {style:?}: {e:?}"));
        }
    }
}

/// DESIGN section 1: when upstream cannot be asked, its last anonymous yes stands, across a restart too. Clients ask for a token
/// first, and theirs have run out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_image_pulls_while_the_registry_and_its_tokens_are_away() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull(IMAGE, Style::Docker).await.unwrap();
    registry.down();
    seawall.clock.advance(Duration::from_secs(3600));
    all_pull(&seawall, "an hour later").await;
    let seawall = seawall.restart(&pki).await;
    all_pull(&seawall, "after a restart").await;
}

/// The token service alone is away, or its quota is spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_image_pulls_while_tokens_are_refused() {
    for status in [429, 500, 503] {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        seawall.client().pull(IMAGE, Style::Docker).await.unwrap();
        registry.fault(Fault::on("token").status(status, "no"));
        seawall.clock.advance(Duration::from_secs(3600));
        all_pull(&seawall, &status.to_string()).await;
    }
}

/// Invariant 7: what stands in for a token is nobody's, and opens nothing. Invariant 8: it stays here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_our_own_is_no_credential() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull(IMAGE, Style::Docker).await.unwrap();
    Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "secret").run(&client).await.unwrap();
    registry.down();
    seawall.clock.advance(Duration::from_secs(3600));

    let ask = async |scope: &str| {
        let url = format!("https://auth.docker.io/token?service=registry.docker.io{scope}");
        client.get(&url).send().await.unwrap()
    };
    for scope in [
        "",
        "&scope=repository:acme/app:pull",
        "&scope=repository:library/alpine:pull,push",
        "&scope=repository:library/alpine:pull&scope=repository:acme/app:pull",
        "&scope=repository:library/alpine:pull%20repository:acme/app:pull",
        "&scope=registry:catalog:*",
    ] {
        assert_eq!(ask(scope).await.status, 502, "{scope}");
    }
    let reply = ask("&scope=repository%3Alibrary%2Falpine%3Apull").await;
    assert_eq!(reply.status, 200);
    let reply: serde_json::Value = serde_json::from_slice(&reply.body.unwrap()).unwrap();
    let bearer = format!("bearer {}", reply["token"].as_str().unwrap());

    let get = async |path: &str| {
        let url = format!("https://registry-1.docker.io/v2/{path}");
        client.get(&url).header("authorization", &bearer).send().await.unwrap().status
    };
    assert_eq!(get("library/alpine/manifests/3.20").await, 200);
    assert_eq!(get("acme/app/manifests/1").await, 502, "upstream's yes to alice is not nobody's");
    registry.up();
    // The trial is due.
    seawall.clock.advance(Duration::from_secs(5));
    registry.reset_counts();
    assert_eq!(get("acme/app/manifests/1").await, 401);
    assert_eq!(get("library/alpine/tags/list").await, 401, "as it is for nobody");
    assert_eq!(get("library/alpine/manifests/3.20").await, 200);
    let upload = "https://registry-1.docker.io/v2/library/alpine/blobs/uploads/";
    let reply = client.request(Method::POST, upload).header("authorization", &bearer).send().await.unwrap();
    assert_eq!(reply.status, 401);
    let sent = registry.count(|seen| seen.authorization().is_some_and(|value| value.contains("seawall")));
    assert_eq!((sent, registry.requests().is_empty()), (0, false), "{}", registry.log());
}

/// A token service that is silent costs a pull `resolve_deadline`, not the idle timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_token_service_does_not_hold_up_what_is_here() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = "[upstream]\nresolve_deadline = \"200ms\"\nCA_FILE";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    seawall.client().pull(IMAGE, Style::Docker).await.unwrap();
    let never = Gate::new();
    registry.fault(Fault::on("token").hold_head(&never));
    registry.fault(Fault::on("ping").hold_head(&never));
    seawall.clock.advance(Duration::from_secs(3600));
    let pulls = all_pull(&seawall, "while the token service is silent");
    tokio::time::timeout(Duration::from_secs(30), pulls).await.expect("each waited for the idle timeout");
}
