//! Where do credentials and connections go? Invariants 8 and 10, and tokens.

use std::time::Duration;

use http::Method;

use crate::access::{HUB, hub, token};
use crate::harness::*;

/// Invariant 8, pitfall 16: the CDN, the realm and every other origin get none of it. (The fake CDN
/// answers 400 to a Bearer.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization_never_leaves_the_origin_it_was_meant_for() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let elsewhere =
        Registry::new("elsewhere.test").image("acme/app:moved", Image::single(&[b"moved"])).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&elsewhere).start(&pki).await;
    let client = seawall.client();
    for style in Style::ALL {
        Pull::new("docker.io/acme/app:1", style).user("alice", "alices-password").run(&client).await.unwrap();
    }
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    let bearing = |host: &str| registry.on_host(host).into_iter().filter(|seen| seen.authorization().is_some()).count();
    assert!(!registry.on_host("cdn.example.test").is_empty());
    assert_eq!(bearing("cdn.example.test"), 0);
    let tokens = registry.on_host("auth.docker.io");
    assert!(tokens.iter().all(|seen| !seen.authorization().unwrap_or_default().starts_with("Bearer")));
    let basic =
        registry.on_host("registry-1.docker.io").into_iter().filter_map(|seen| seen.authorization().map(str::to_owned));
    assert!(basic.into_iter().all(|value| value.starts_with("Bearer ")), "passwords are for the token service");

    registry.fault(Fault::on("manifests").redirect("https://elsewhere.test/v2/acme/app/manifests/moved"));
    let alice = token(&client, Some(("alice", "alices-password")), "acme/app").await;
    let reply = client.get(&format!("{HUB}/v2/acme/app/manifests/new")).bearer(&alice).send().await.unwrap();
    assert_eq!(reply.status, 200, "{}", registry.log());
    assert!(elsewhere.requests().iter().all(|seen| seen.authorization().is_none()), "{}", elsewhere.log());
    assert!(!elsewhere.requests().is_empty());
}

/// A redirect back to the registry does not bring the credential back either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_was_left_behind_stays_behind() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let elsewhere = Registry::new("elsewhere.test").start(&pki).await;
    elsewhere.fault(Fault::on("*").redirect("https://registry-1.docker.io/v2/acme/app/manifests/1"));
    let seawall = Seawall::before(&registry).front(&elsewhere).start(&pki).await;
    let client = seawall.client();
    let alice = token(&client, Some(("alice", "alices-password")), "acme/other").await;
    registry.fault(Fault::on("manifests").path_contains("acme/other").redirect("https://elsewhere.test/x"));
    let reply = client.get(&format!("{HUB}/v2/acme/other/manifests/1")).bearer(&alice).send().await.unwrap();
    assert_eq!(reply.status, 401, "{}", registry.log());
    let back = registry.requests().into_iter().filter(|seen| seen.path.contains("acme/app"));
    assert!(back.into_iter().all(|seen| seen.authorization().is_none()));
}

/// Invariant 10, pitfall 17: whatever upstream says, nothing inside is dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialled_address_passes_the_guard_redirects_included() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let victim = Registry::new("victim.test").blob("x", b"the inside of the network").start(&pki).await;
    let plain = Registry::new("victim.test:80").plain().start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let layer = Image::two_platforms().layers()[1].digest();
    let (inside, in_clear) = (victim.addr("victim.test"), plain.addr("victim.test:80"));
    for location in [
        format!("https://{inside}/secret"),
        format!("https://localhost:{}/secret", inside.port()),
        format!("https://2130706433:{}/secret", inside.port()),
        format!("https://[::ffff:127.0.0.1]:{}/secret", inside.port()),
        format!("http://{in_clear}/secret"),
        "http://127.0.0.1/".to_owned(),
        "https://169.254.169.254/latest/meta-data/iam".to_owned(),
        "https://[fd00:ec2::254]/latest".to_owned(),
        format!("https://{}/v2/", seawall.addr()),
        format!("https://{}/metrics", seawall.admin()),
        "file:///etc/passwd".to_owned(),
        "https://user:password@cdn.example.test/x".to_owned(),
        "nonsense://".to_owned(),
    ] {
        registry
            .fault(Fault::on("*").host("registry-1.docker.io").when(|seen| seen.kind() != "ping").redirect(&location));
        for path in [format!("blobs/{layer}"), "manifests/3.20".to_owned(), format!("manifests/{layer}")] {
            for method in [Method::GET, Method::HEAD] {
                let url = format!("{HUB}/v2/library/alpine/{path}");
                let reply = client.request(method, &url).send().await.unwrap();
                assert_eq!(reply.status, 502, "{location} {path}: {:?}", reply.body);
                assert!(!String::from_utf8_lossy(reply.bytes()).contains("the inside"), "{location} {path}");
            }
        }
        registry.clear_faults();
    }
    assert_eq!(victim.connections() + plain.connections(), 0);
}

/// Invariant 10: the same for the realms of challenges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dialled_address_passes_the_guard_token_realms_included() {
    let pki = Pki::new();
    let victim = Registry::new("victim.test").start(&pki).await;
    let inside = victim.addr("victim.test");
    for realm in [
        format!("https://{inside}/token"),
        "http://auth.docker.io/token".to_owned(),
        "https://169.254.169.254/token".to_owned(),
        "https://127.1/token".to_owned(),
        "ftp://auth.docker.io/token".to_owned(),
    ] {
        let registry = Registry::new("registry-1.docker.io").image("a/b:1", Image::multi_layer());
        let registry = registry.token_auth().realm(&realm).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let reply = seawall.client().get(&format!("{HUB}/v2/a/b/manifests/1")).send().await.unwrap();
        assert!([401, 502].contains(&reply.status.as_u16()), "{realm}: {}", reply.status);
        assert_eq!(registry.gets("token"), 0, "{realm}");
    }
    let registry = Registry::new("registry-1.docker.io").image("a/b:1", Image::multi_layer()).token_auth();
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let own = format!("Bearer realm=\"https://{}/token\"", seawall.addr());
    registry.fault(Fault::on("manifests").error(401, "UNAUTHORIZED").set("www-authenticate", &own));
    let reply = seawall.client().get(&format!("{HUB}/v2/a/b/manifests/1")).send().await.unwrap();
    assert_eq!(reply.status, 502);
    assert_eq!(victim.connections(), 0);
}

/// Invariant 10, pitfall 17: `ns` and the path are looked up, never dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_configured_registries_are_dialled_for_a_mirror() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let victim = Registry::new("victim.test").plain().image("a/b:1", Image::multi_layer()).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&victim).start(&pki).await;
    let client = Client::plain(seawall.addr());
    let inside = victim.addr("victim.test");
    for path in [
        format!("/v2/a/b/manifests/1?ns={inside}"),
        "/v2/a/b/manifests/1?ns=victim.test".to_owned(),
        "/v2/a/b/manifests/1?ns=http://victim.test".to_owned(),
        "/v2/a/b/manifests/1?ns=169.254.169.254".to_owned(),
        "/v2/a/b/manifests/1?ns=".to_owned(),
        "/v2/a/b/manifests/1?ns=docker.io@victim.test".to_owned(),
        "/v2/victim.test/a/b/manifests/1".to_owned(),
        format!("/v2/{inside}/a/b/manifests/1"),
        "/v2/../a/b/manifests/1".to_owned(),
        "/v2/acme%2fapp/manifests/1".to_owned(),
        "/v2/ghcr.io/%2e%2e/acme/app/manifests/1".to_owned(),
        "/v2//acme/app/manifests/1".to_owned(),
    ] {
        let reply = client.get(&format!("http://mirror.test{path}")).send().await.unwrap();
        assert!([400, 403, 404].contains(&reply.status.as_u16()), "{path}: {}", reply.status);
        assert_eq!(reply.header("content-type"), "application/json", "{path}");
        assert!(reply.json()["errors"][0]["code"].is_string(), "{path}");
    }
    assert_eq!(victim.connections(), 0);
    let absolute = Client::via_connect(seawall.addr(), "").get("http://victim.test/v2/").send().await.unwrap();
    assert!(absolute.status.is_client_error(), "{}", absolute.status);
    assert_eq!(victim.connections(), 0);
}

/// ECR: Basic on every request, and no Bearer to be had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_basic_registry_is_its_own_clients_only() {
    let pki = Pki::new();
    let host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    let registry = Registry::new(host)
        .image("app:1", Image::multi_layer())
        .user("AWS", "a-very-long-token")
        .private("app", &["AWS"])
        .basic_auth()
        .cdn("cdn.example.test")
        .start(&pki)
        .await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let pull = |style| Pull::new(&format!("{host}/app:1"), style);
    for style in Style::ALL {
        assert!(pull(style).run(&client).await.is_err());
        pull(style).user("AWS", "a-very-long-token").run(&client).await.unwrap();
        assert!(pull(style).run(&client).await.is_err(), "cached is not public");
        assert!(pull(style).user("AWS", "another").run(&client).await.is_err());
    }
    let refused = client.get(&format!("https://{host}/v2/app/manifests/1")).send().await.unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Basic realm="), "{:?}", refused.headers);
    assert!(registry.on_host("cdn.example.test").iter().all(|seen| seen.authorization().is_none()));
    assert_eq!(registry.gets("cdn"), 4, "config and layers, once\n{}", registry.log());
}

/// Pitfalls 15 and 27: what is issued to nobody is everybody's, for as long as it is good; what is
/// issued to somebody is theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_tokens_are_shared_and_no_others() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let first = token(&client, None, "library/alpine").await;
    assert_eq!(token(&client, None, "library/alpine").await, first);
    let reordered =
        "https://auth.docker.io/token?client_id=x&scope=repository%3Alibrary/alpine%3Apull&service=registry.docker.io";
    let reply = client.get(reordered).send().await.unwrap();
    assert_eq!(reply.json()["token"], first.as_str());
    assert!((230..=300).contains(&reply.json()["expires_in"].as_u64().unwrap()));
    assert_eq!(registry.gets("token"), 1, "{}", registry.log());
    assert_ne!(token(&client, None, "acme/app").await, first);
    let alice = Some(("alice", "alices-password"));
    assert_ne!(token(&client, alice, "acme/app").await, token(&client, alice, "acme/app").await);
    assert_eq!(registry.gets("token"), 4);
    seawall.clock.advance(Duration::from_secs(250));
    assert_ne!(token(&client, None, "library/alpine").await, first, "less than 60 s are left");
    registry.reset_counts();
    let base = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/alpine:pull";
    for extra in ["&account=alice", "&offline_token=true", "&private_token=secret", "&access_token=secret"] {
        for _ in 0..2 {
            let reply = client.get(&format!("{base}{extra}")).send().await.unwrap();
            assert_eq!(reply.status, 200);
        }
    }
    assert_eq!(registry.gets("token"), 8, "none of these is known to be nobody's\n{}", registry.log());
    for _ in 0..2 {
        let form = "grant_type=password&service=registry.docker.io&scope=repository:acme/app:pull&username=alice&password=alices-password";
        let post = client.request(Method::POST, "https://auth.docker.io/token").body(form);
        assert_eq!(post.send().await.unwrap().status, 200);
    }
    assert_eq!(registry.count(|seen| seen.method == Method::POST), 2);
}

/// A token that was asked for with more than its URL says is not known to be nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_else_may_speak_for_a_client_is_not_sent_for_a_shared_token() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let url = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/alpine:pull";
    let client = seawall.client();
    let ask = client.get(url).header("cookie", "session=alice").header("x-jfrog-art-api", "key");
    assert_eq!(ask.send().await.unwrap().status, 200);
    let seen = &registry.requests()[0];
    assert_eq!((seen.header("cookie"), seen.header("x-jfrog-art-api")), (None, None));
}

/// Pitfall 27: one token for a cold pull of many requests, and none for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_request_for_a_whole_pull() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    assert_eq!(registry.gets("token"), 1, "{}", registry.log());
}

/// A registry in front of storage of the operator's own; its signature is of the query's text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_in_the_clear_is_followed_to_where_the_operator_says() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let minio = Registry::new("minio.corp").plain().image("library/alpine:3.20", Image::two_platforms());
    let minio = minio.start(&pki).await;
    let layer = Image::two_platforms().layers()[1].digest();
    let signed = format!("http://minio.corp:9000/v2/library/alpine/blobs/{layer}?name='a'&sig=%2f[x]");
    registry.fault(Fault::on("blobs").host("registry-1.docker.io").redirect(&signed));
    let url = format!("{HUB}/v2/library/alpine/blobs/{layer}");
    for (redirects, status) in [("", 502), ("redirects = [\"http://minio.corp:9000\"]", 200)] {
        let toml = format!("[[registry]]\nname = \"docker.io\"\n{redirects}");
        let seawall = Seawall::before(&registry).front(&minio).toml(&toml).start(&pki).await;
        let reply = seawall.client().get(&url).send().await.unwrap();
        assert_eq!(reply.status, status, "{redirects}: {:?}", reply.body);
        let text = String::from_utf8_lossy(reply.bytes());
        assert!(status == 200 || text.contains("name it in `redirects` of docker.io"), "{text}");
    }
    let asked: Vec<_> = minio.requests().into_iter().map(|seen| seen.query).collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|query| query.as_deref() == Some("name='a'&sig=%2f[x]")),
        "{asked:?}"
    );
}
