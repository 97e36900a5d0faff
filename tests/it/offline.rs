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

/// docs/operating.md, "Offline": when upstream cannot be asked, its last anonymous grant holds,
/// across a restart too. Clients ask for a token first, and theirs have run out.
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

/// Invariant 7: what stands in for a token is nobody's, and opens nothing. Invariant 8: it stays
/// here.
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
        "&scope=repository:acme/app:pull",
        "&scope=repository:library/alpine:pull,push",
        "&scope=repository:library/alpine:push",
        "&scope=registry:catalog:*",
        "&scope=repository:library/alpine:pull&scope=registry:catalog:*",
        "&private_token=x",
    ] {
        assert_eq!(ask(scope).await.status, 502, "{scope}");
    }
    // BuildKit asks for all of a build at once. "Lack of permission" is no error of the token
    // service (auth/token.md).
    for scope in [
        "",
        "&scope=repository:library/alpine:pull&scope=repository:acme/app:pull",
        "&scope=repository:library/alpine:pull%20repository:acme/app:pull",
    ] {
        assert_eq!(ask(scope).await.status, 200, "{scope}");
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

/// A client that is logged in reads what everybody may read; its credential is not verified by
/// that, and `docker login` fails as it must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_cannot_be_verified_is_no_reason_to_be_without_public_images() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull(IMAGE, Style::Docker).await.unwrap();
    Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "secret").run(&client).await.unwrap();
    registry.down();
    seawall.clock.advance(Duration::from_secs(3600));

    let url = "https://auth.docker.io/token";
    let post = async |form: &str| {
        let kind = "application/x-www-form-urlencoded";
        let form = format!("service=registry.docker.io&client_id=containerd-client&{form}");
        client.request(Method::POST, url).header("content-type", kind).body(form).send().await.unwrap()
    };
    let get = async |query: &str| {
        let url = format!("{url}?service=registry.docker.io&account=alice{query}");
        client.get(&url).basic("alice", "secret").send().await.unwrap()
    };
    let alpine = "&scope=repository:library/alpine:pull";
    let mut tokens = Vec::new();
    for login in ["grant_type=password&username=alice&password=secret", "grant_type=refresh_token&refresh_token=r"] {
        assert_eq!(post(login).await.status, 502, "a login");
        assert_eq!(post(&format!("{login}&scope=repository:acme/app:pull")).await.status, 502, "what is private");
        assert_eq!(post(&format!("{login}{alpine},push")).await.status, 502, "a push");
        tokens.push(post(&format!("{login}{alpine}")).await);
    }
    assert_eq!(get("").await.status, 502, "docker login");
    assert_eq!(get("&scope=repository:acme/app:pull").await.status, 502);
    tokens.push(get(alpine).await);
    for reply in tokens {
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
        let json = reply.json();
        assert_eq!((&json["token"], json["expires_in"].as_u64()), (&json["access_token"], Some(60)));
        let bearer = format!("Bearer {}", json["access_token"].as_str().unwrap());
        let get = async |path: &str| {
            let url = format!("https://registry-1.docker.io/v2/{path}");
            client.get(&url).header("authorization", &bearer).send().await.unwrap().status
        };
        assert_eq!(get("library/alpine/manifests/3.20").await, 200);
        assert_eq!(get("acme/app/manifests/1").await, 502, "nobody's");
    }
}

/// Of a form that was read before it was sent on: upstream gets it whole, and what upstream says is
/// what the client gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_passed_on_as_it_is() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let post = async |form: String| {
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let ask = client.request(Method::POST, "https://auth.docker.io/token").header("content-type", kind);
        ask.body(form).send().await.unwrap()
    };
    let form = |password: &str| {
        format!("grant_type=password&username=alice&password={password}&service=s&scope=repository:acme/app:pull")
    };
    let reply = post(form("secret")).await;
    assert_eq!(reply.status, 200);
    let bearer = format!("Bearer {}", reply.json()["access_token"].as_str().unwrap());
    let url = "https://registry-1.docker.io/v2/acme/app/manifests/1";
    assert_eq!(seawall.client().get(url).header("authorization", &bearer).send().await.unwrap().status, 200);
    let refused = post(form("wrong")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["details"]), (401, &"incorrect username or password".into()));
    registry.fault(Fault::on("token").status(405, "GET"));
    assert_eq!(post(form("secret")).await.status, 405, "containerd asks by GET then");
    assert_eq!(post(form(&"x".repeat(70_000))).await.status, 400);
}

/// public.ecr.aws wants one scope for everything, nvcr.io writes it into its realm, and asks for
/// more than pulls need.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_with_scopes_of_their_own_are_stood_in_for() {
    for (host, realm, query) in [
        ("public.ecr.aws", "https://public.ecr.aws/token", "service=public.ecr.aws&scope=aws"),
        ("nvcr.io", "https://nvcr.io/token?scope=repository:a/b:pull,push", "scope=repository:a/b:pull,push"),
    ] {
        let pki = Pki::new();
        let registry =
            Registry::new(host).image("a/b:1", Image::two_platforms()).token_auth().realm(realm).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let client = seawall.client();
        client.get(&format!("https://{host}/v2/")).send().await.unwrap();
        client
            .pull(&format!("{host}/a/b:1"), Style::Podman)
            .await
            .unwrap_or_else(|e| panic!("{e:?}\n{}", registry.log()));
        registry.down();
        seawall.clock.advance(Duration::from_secs(3600));
        for seawall in [seawall.restart(&pki).await] {
            for style in Style::ALL {
                let pulled = seawall.client().pull(&format!("{host}/a/b:1"), style).await;
                pulled.unwrap_or_else(|e| panic!("{host} {style:?}: {e:?}"));
            }
            let realm = realm.split('?').next().unwrap();
            let url = format!("{realm}?{query}");
            assert_eq!(seawall.client().get(&url).send().await.unwrap().status, 200, "{url}");
            assert_eq!(seawall.client().get(&url).basic("u", "p").send().await.unwrap().status, 200, "{url}");
        }
    }
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
