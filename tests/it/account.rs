//! The operator's account: it pays, it opens what is shared, and no client ever has it.

use std::time::Duration;

use http::Method;

use crate::access::{HUB, token};
use crate::harness::exchange::Reply;
use crate::harness::image::{OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;

const PASSWORD: &str = "the-operators-own-password";

/// library/alpine is everybody's, acme/shared the account's, acme/app alice's alone.
async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/shared:1", Image::single(&[b"what the operator shares"]))
        .image("acme/app:1", Image::single(&[b"what is alice's"]))
        .user("ci", PASSWORD)
        .user("alice", "alices-password")
        .private("acme/shared", &["ci"])
        .private("acme/app", &["alice", "ci"])
        .token_auth()
        .quota(100)
        .cdn("cdn.example.test")
        .start(pki)
        .await
}

struct World {
    registry: Registry,
    seawall: Seawall,
    password: tempfile::NamedTempFile,
}

async fn world(pki: &Pki, more: &str) -> World {
    let registry = hub(pki).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), format!("{PASSWORD}\n")).unwrap();
    let seawall = Seawall::before(&registry).toml(&docker_io(password.path(), more)).start(pki).await;
    World { registry, seawall, password }
}

fn docker_io(password: &std::path::Path, more: &str) -> String {
    format!("[[registry]]\nname = \"docker.io\"\nusername = \"ci\"\npassword_file = {password:?}\n{more}\n")
}

/// What reached the registry and its CDN with a token of `user`: `GET manifests`, …
fn asked_by(registry: &Registry, user: &str) -> Vec<String> {
    let theirs = format!("-{user}.");
    let requests = registry.requests();
    let requests = requests.iter().filter(|seen| seen.authorization().is_some_and(|shown| shown.contains(&theirs)));
    requests.map(|seen| format!("{} {}", seen.method, seen.kind())).collect()
}

fn assert_hidden(reply: &Reply) {
    let body = String::from_utf8_lossy(reply.bytes()).into_owned();
    let shown = format!("{:?} {body}", reply.headers);
    for secret in [PASSWORD, "-ci.", "\"ci\"", "docker-ratelimit-source"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_pays_for_what_everybody_may_read() {
    let pki = Pki::new();
    for style in Style::ALL {
        let World { registry, seawall, password: _kept } = world(&pki, "").await;
        let client = seawall.client();
        let pulled = client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
        assert_eq!(pulled.blobs.len(), 3, "{style:?}");
        assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(100), "{style:?}: nobody paid\n{}", registry.log());
        assert_eq!(registry.remaining("ci"), Some(98), "{style:?}: the account did\n{}", registry.log());
        assert_eq!(asked_by(&registry, "ci"), ["GET manifests"; 2], "no registry counts blobs");
        registry.reset_counts();
        client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
        assert_eq!(registry.requests().len(), 0, "{style:?}: warm\n{}", registry.log());
    }
}

/// Pinned by digest there is no tag whose HEAD would say that everybody may read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_image_is_asked_for_by_nobody_before_the_account_pays() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "").await;
    let digest = Image::two_platforms().digest();
    let url = format!("{HUB}/v2/library/alpine/manifests/{digest}");
    let reply = seawall.client().get(&url).header("accept", OCI_INDEX).send().await.unwrap();
    assert_eq!(reply.status, 200, "{}", registry.log());
    assert_eq!((registry.remaining(ANONYMOUS_SOURCE), registry.remaining("ci")), (Some(100), Some(99)));
    assert_eq!(asked_by(&registry, "anonymous"), ["HEAD manifests"]);
    assert_eq!(asked_by(&registry, "ci"), ["GET manifests"]);
}

/// Pitfall 15, the other way round: the account may read acme/app, but only alice's grant is hers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_opens_nothing_that_is_not_shared() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
    let client = seawall.client();
    let image = Image::single(&[b"what is alice's"]);
    let urls = [
        format!("{HUB}/v2/acme/app/manifests/1"),
        format!("{HUB}/v2/acme/app/manifests/{}", image.digest()),
        format!("{HUB}/v2/acme/app/blobs/{}", image.layers()[0].digest()),
        format!("{HUB}/v2/acme/app/tags/list"),
    ];
    let anonymous = format!("Bearer {}", token(&client, None, "acme/app").await);
    for round in ["cold", "cached by alice"] {
        for url in &urls {
            for authorization in [None, Some(anonymous.as_str())] {
                let mut ask = client.get(url).header("accept", OCI_MANIFEST);
                if let Some(value) = authorization {
                    ask = ask.header("authorization", value);
                }
                let reply = ask.send().await.unwrap();
                assert_eq!(reply.status, 401, "{round}: {url}\n{}", registry.log());
                assert_hidden(&reply);
            }
        }
        assert_eq!(asked_by(&registry, "ci"), Vec::<String>::new(), "{round}: never with the account");
        Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password").run(&client).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_is_everybodys_by_every_way_in() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
    for style in Style::ALL {
        let pulled = seawall.client().pull("docker.io/acme/shared:1", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}", registry.log()));
    }
    let mirror = Client::plain(seawall.addr());
    let at = format!("http://{}", seawall.addr());
    Pull::new("docker.io/acme/shared:1", Style::Containerd).at(&at).run(&mirror).await.unwrap();
    for (client, at) in [(&seawall.client(), HUB), (&mirror, at.as_str())] {
        let tags = client.get(&format!("{at}/v2/acme/shared/tags/list")).send().await.unwrap();
        assert_eq!((tags.status.as_u16(), tags.json()["tags"][0].as_str()), (200, Some("1")));
        assert_hidden(&tags);
    }
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(100));
    assert_eq!(registry.remaining("ci"), Some(99), "one manifest, fetched once\n{}", registry.log());
}

/// "never handed to a client, in any form".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_is_given_the_account() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
    let client = seawall.client();
    let auth = "https://auth.docker.io/token?service=registry.docker.io";
    for path in [
        format!("{HUB}/v2/"),
        format!("{auth}&scope=repository:acme/shared:pull"),
        format!("{auth}&scope=repository:library/alpine:pull"),
        format!("{auth}&scope=repository:acme/shared:pull&scope=repository:acme/app:pull"),
        format!("{HUB}/v2/acme/shared/manifests/1"),
        format!("{HUB}/v2/acme/shared/manifests/none"),
        format!("{HUB}/v2/acme/shared/blobs/{}", sha256(b"none")),
        format!("{HUB}/v2/library/alpine/manifests/3.20"),
    ] {
        assert_hidden(&client.get(&path).header("accept", OCI_MANIFEST).send().await.unwrap());
    }
    // The token that opens what is shared opens it here alone, and is nobody's.
    let shared = token(&client, None, "acme/shared").await;
    registry.reset_counts();
    let url = format!("{HUB}/v2/acme/app/manifests/1");
    assert_eq!(client.get(&url).bearer(&shared).send().await.unwrap().status, 401);
    assert!(registry.requests().iter().all(|seen| !seen.authorization().is_some_and(|a| a.contains(&shared))));
    // Nor does what is not a pull go upstream with it.
    registry.reset_counts();
    for (method, path) in [
        (Method::POST, "/v2/acme/shared/blobs/uploads/"),
        (Method::DELETE, "/v2/acme/shared/manifests/1"),
        (Method::GET, "/v2/_catalog"),
        (Method::GET, "/v2/acme/shared/anything"),
    ] {
        let reply = client.request(method.clone(), &format!("{HUB}{path}")).send().await.unwrap();
        assert!(!reply.status.is_success(), "{method} {path}: {}", reply.status);
    }
    assert_eq!(asked_by(&registry, "ci"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_own_credential_wins() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/*\"]").await;
    let client = seawall.client();
    Pull::new("docker.io/library/alpine:3.20", Style::Podman)
        .user("alice", "alices-password")
        .run(&client)
        .await
        .unwrap();
    assert_eq!((registry.remaining("alice"), registry.remaining("ci")), (Some(98), Some(100)));
    let alice = token(&client, Some(("alice", "alices-password")), "acme/shared").await;
    let reply = client.get(&format!("{HUB}/v2/acme/shared/manifests/1")).bearer(&alice).send().await.unwrap();
    assert_eq!(reply.status, 401, "alice may not, and shows that she is alice");
}

/// A public repository that turns private: the account's own yes keeps it open to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_yes_does_not_keep_a_repository_public() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "").await;
    let client = seawall.client();
    let layers = Image::two_platforms().platforms()[0].layers().to_vec();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    registry.make_private("library/alpine", &["ci"]);
    registry.add_blob("library/alpine", Blob::from(b"added later"));
    let later = format!("{HUB}/v2/library/alpine/blobs/{}", sha256(b"added later"));
    // Within public_ttl what was granted is believed, and nothing else.
    seawall.clock.advance(Duration::from_secs(14 * 60));
    assert_eq!(client.get(&later).send().await.unwrap().status, 401);
    assert_eq!(asked_by(&registry, "ci"), ["GET manifests", "GET manifests"], "{}", registry.log());
    seawall.clock.advance(Duration::from_secs(2 * 60));
    for url in [later, format!("{HUB}/v2/library/alpine/blobs/{}", layers[0].digest())] {
        assert_eq!(client.get(&url).send().await.unwrap().status, 401, "{url}");
    }
}

/// Docker Hub locks a name after some wrong logins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_sent_once_and_pulls_go_on() {
    let pki = Pki::new();
    let World { registry, seawall, password } = world(&pki, "share = [\"acme/shared\"]").await;
    for n in 0..30 {
        registry.add_image(&format!("library/cold-{n}:1"), &Image::single(&[format!("layer {n}").as_bytes()]));
    }
    std::fs::write(password.path(), "mistyped").unwrap();
    let client = seawall.client();
    let pulls = (0..30).map(|n| {
        let client = &client;
        async move { client.pull(&format!("docker.io/library/cold-{n}:1"), Style::ALL[n % 3]).await }
    });
    for pulled in futures_util::future::join_all(pulls).await {
        pulled.unwrap();
    }
    let wrong = |seen: &Seen| seen.kind() == "token" && seen.authorization().is_some();
    assert_eq!(registry.count(wrong), 1, "{}", registry.log());
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(70));
    assert_eq!(seawall.metric("seawall_account_failures_total{registry=\"docker.io\"}"), 1.0);
    let shared = format!("{HUB}/v2/acme/shared/manifests/1");
    assert_eq!(client.get(&shared).send().await.unwrap().status, 401);
    assert_eq!(registry.count(wrong), 1);
    // It is put right: no restart.
    std::fs::write(password.path(), PASSWORD).unwrap();
    seawall.clock.advance(Duration::from_secs(10));
    assert_eq!(client.get(&shared).send().await.unwrap().status, 200, "{}", registry.log());
}

/// containerd shows its login after a challenge: it has to be given one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_account_is_no_use_a_client_is_asked_for_its_own() {
    let pki = Pki::new();
    let World { registry, seawall, password } = world(&pki, "share = [\"acme/*\"]").await;
    registry.make_private("acme/app", &["alice"]);
    for (secret, why) in [(PASSWORD, "the account may not read it"), ("mistyped", "the account is refused")] {
        std::fs::write(password.path(), secret).unwrap();
        seawall.clock.advance(Duration::from_secs(3600));
        for style in Style::ALL {
            let pull = Pull::new("docker.io/acme/app:1", style).user("alice", "alices-password");
            pull.run(&seawall.client()).await.unwrap_or_else(|e| panic!("{why}: {style:?}: {e}\n{}", registry.log()));
        }
        let reply = seawall.client().get(&format!("{HUB}/v2/acme/app/manifests/1")).send().await.unwrap();
        assert_eq!(reply.status, 401, "{why}");
        assert!(reply.header("www-authenticate").contains("auth.docker.io"), "{why}");
        assert_hidden(&reply);
    }
}

/// That its password is refused is a refusal: what it granted ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shared_ends_with_the_accounts_login() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
    let client = seawall.client();
    let shared = format!("{HUB}/v2/acme/shared/manifests/1");
    assert_eq!(client.get(&shared).send().await.unwrap().status, 200);
    registry.set_password("ci", "changed");
    registry.revoke_tokens();
    seawall.clock.advance(Duration::from_secs(30));
    assert_eq!(client.get(&shared).send().await.unwrap().status, 200, "nobody was asked");
    seawall.clock.advance(Duration::from_secs(60));
    assert_eq!(client.get(&shared).send().await.unwrap().status, 401, "{}", registry.log());
}

/// What the operator shares stands as what is public does: through a long outage and a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_shared_is_served_as_long_as_upstream_is_away() {
    let pki = Pki::new();
    let World { registry, mut seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
    for style in Style::ALL {
        seawall.client().pull("docker.io/acme/shared:1", style).await.unwrap();
    }
    registry.down();
    for when in ["a day later", "after a restart"] {
        seawall.clock.advance(Duration::from_secs(86_400));
        for style in Style::ALL {
            let client = seawall.client().at_time_of(&seawall.clock);
            let pulled = client.pull("docker.io/acme/shared:1", style).await;
            pulled.unwrap_or_else(|error| panic!("{when}, {style:?}: {error}"));
        }
        seawall = seawall.restart(&pki).await;
    }
    registry.up();
    registry.make_private("acme/shared", &["alice"]);
    registry.revoke_tokens();
    seawall.clock.advance(Duration::from_secs(86_400));
    let shared = format!("{HUB}/v2/acme/shared/manifests/1");
    let client = seawall.client().at_time_of(&seawall.clock);
    assert_eq!(client.get(&shared).send().await.unwrap().status, 401, "{}", registry.log());
    registry.down();
    seawall.clock.advance(Duration::from_secs(86_400));
    let client = seawall.client().at_time_of(&seawall.clock);
    let reply = client.get(&shared).send().await.unwrap();
    assert_eq!(reply.status, 502, "what was taken back does not come back with an outage");
}

/// The account's refusal counts though anonymous gets no answer at all; so does a 404, which some send.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_account_lost_is_not_served_because_nobody_cannot_be_asked() {
    for (row, fault) in [
        ("nobody's tokens are limited", Fault::on("token").when(|seen| seen.authorization().is_none()).abuse_limit(60)),
        ("nobody's tokens fail", Fault::on("token").when(|seen| seen.authorization().is_none()).status(503, "")),
        ("it is hidden", Fault::on("manifests").status(404, "")),
    ] {
        let pki = Pki::new();
        let World { registry, seawall, password: _kept } = world(&pki, "share = [\"acme/shared\"]").await;
        let shared = format!("{HUB}/v2/acme/shared/manifests/1");
        assert_eq!(seawall.client().get(&shared).send().await.unwrap().status, 200);
        registry.make_private("acme/shared", &["alice"]);
        registry.revoke_tokens();
        registry.fault(fault);
        for _ in 0..2 {
            seawall.clock.advance(Duration::from_secs(3600));
            let client = seawall.client().at_time_of(&seawall.clock);
            let reply = client.get(&shared).send().await.unwrap();
            assert!(reply.status.is_client_error(), "{row}: {} {}", reply.status, registry.log());
            assert_eq!(reply.header("warning"), "", "{row}");
        }
    }
}

/// A token service that is silent for the account, a program that hangs: it is asked as anonymous.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_slow_to_be_had_is_not_waited_for() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), PASSWORD).unwrap();
    let toml = docker_io(password.path(), "") + "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"";
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let gate = Gate::new();
    let for_the_account = |seen: &Seen| seen.authorization().is_some();
    registry.fault(Fault::on("token").when(for_the_account).hold_head(&gate));
    for style in Style::ALL {
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(98), "{}", registry.log());
    gate.open();
}

/// Its pulls are used up: nobody's are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_account_gets_nothing_nobody_may_still() {
    let pki = Pki::new();
    let World { registry, seawall, password: _kept } = world(&pki, "").await;
    registry.set_remaining("ci", 0);
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(98));
}

/// Pitfall 16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_realm_that_is_not_the_registrys_gets_no_credential() {
    let pki = Pki::new();
    let registry = Registry::new("registry.corp.test")
        .image("acme/app:1", Image::single(&[b"private"]))
        .user("ci", PASSWORD)
        .private("acme/app", &["ci"])
        .token_auth_at("evil.example.test")
        .start(&pki)
        .await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), PASSWORD).unwrap();
    let corp = |more: &str| {
        let account = format!("username = \"ci\"\npassword_file = {:?}\nshare = [\"*\"]\n", password.path());
        format!("[[registry]]\nname = \"registry.corp.test\"\n{account}{more}\n")
    };
    let url = "https://registry.corp.test/v2/acme/app/manifests/1";
    let seawall = Seawall::before(&registry).toml(&corp("")).start(&pki).await;
    assert_eq!(seawall.client().get(url).send().await.unwrap().status, 401);
    let shown = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.starts_with("Basic"));
    assert_eq!(registry.count(shown), 0, "{}", registry.log());
    // The operator says that it is right.
    let seawall = Seawall::before(&registry).toml(&corp("realms = [\"evil.example.test\"]")).start(&pki).await;
    assert_eq!(seawall.client().get(url).send().await.unwrap().status, 200, "{}", registry.log());
}

/// ECR: Basic, a password of twelve hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_has_run_out_is_fetched_anew() {
    let pki = Pki::new();
    let host = "1.dkr.ecr.eu-central-1.amazonaws.com";
    let registry = Registry::new(host)
        .image("acme/app:1", Image::single(&[b"private"]))
        .image("acme/app:2", Image::single(&[b"of tomorrow"]))
        .user("AWS", "todays")
        .private("acme/app", &["AWS"])
        .basic_auth()
        .start(&pki)
        .await;
    let config = tempfile::NamedTempFile::new().unwrap();
    let write = |password: &str| {
        let auth = data_encoding::BASE64.encode(format!("AWS:{password}").as_bytes());
        std::fs::write(config.path(), format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    };
    write("todays");
    let account = format!("docker_config = {:?}\nshare = [\"acme/*\"]", config.path());
    let toml = format!("[[registry]]\nname = \"dkr.ecr.amazonaws.com\"\n{account}\n");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let client = seawall.client();
    // podman shows an empty name and password where Basic is wanted and it has none.
    let pull = async |tag: &str| {
        let url = format!("https://{host}/v2/acme/app/manifests/{tag}");
        client.get(&url).header("authorization", "Basic Og==").send().await.unwrap().status.as_u16()
    };
    assert_eq!(pull("1").await, 200, "{}", registry.log());
    registry.set_password("AWS", "tomorrows");
    seawall.clock.advance(Duration::from_secs(12 * 3600));
    write("tomorrows");
    assert_eq!(pull("2").await, 200, "{}", registry.log());
    // A repository that it may not read is not the login's fault, and costs one question at most.
    registry.add_image("acme/other:1", &Image::single(&[b"another's"]));
    registry.make_private("acme/other", &["alice"]);
    seawall.clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        let url = format!("https://{host}/v2/acme/other/manifests/1");
        assert_eq!(client.get(&url).send().await.unwrap().status, 401, "{}", registry.log());
    }
    let other = |seen: &Seen| seen.path.contains("acme/other") && seen.authorization().is_some();
    assert_eq!(registry.count(other), 1, "{}", registry.log());
    registry.untag("acme/app", "1");
    registry.add_image("acme/app:3", &Image::single(&[b"of the day after"]));
    assert_eq!(pull("3").await, 200, "the account is as good as it was\n{}", registry.log());
}
