//! Tokens that outlive what they were made in: ours when the registry is back, the registry's while
//! it is away.

use std::time::Duration;

use http::Method;

use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::offline_grants::{ALICE, APP, HOUR, WEEK, hub};

const HUB: &str = "https://registry-1.docker.io/v2";
const CHALLENGE: &str =
    r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:acme/app:pull""#;

/// alice asks for a token as docker does.
async fn token(client: &Client, repository: &str, user: (&str, &str)) -> Reply {
    let scope = format!("scope=repository:{repository}:pull");
    let url = format!("https://auth.docker.io/token?service=registry.docker.io&account=alice&{scope}");
    client.get(&url).basic(user.0, user.1).send().await.unwrap()
}

async fn ask(client: &Client, method: Method, path: &str, bearer: &str) -> Reply {
    let url = format!("{HUB}/{path}");
    client.request(method, &url).header("authorization", bearer).send().await.unwrap()
}

fn bearer(reply: &Reply) -> String {
    assert_eq!(reply.status, 200);
    format!("Bearer {}", reply.json()["token"].as_str().unwrap())
}

/// Upstream never sees it; its client is told what the registry tells who shows nothing, and goes
/// on with a token of the registry's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_ours_ends_with_the_outage() {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    let seawall = Seawall::before(&registry).toml(WEEK).start(&pki).await;
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    Pull::new(APP, Style::Docker).user(ALICE.0, ALICE.1).run(&seawall.client()).await.unwrap();
    let seawall = seawall.restart(&pki).await;
    registry.down();
    seawall.clock.advance(HOUR);
    let clients = [seawall.client(), seawall.client().h2()];
    let alices = bearer(&token(&clients[0], "acme/app", ALICE).await);
    let nobodys = bearer(&token(&clients[0], "library/alpine", ("alice", "b")).await);
    let (private, public) = ("acme/app/manifests/1", "library/alpine/manifests/3.20");
    for client in &clients {
        assert_eq!(ask(client, Method::GET, private, &alices).await.status, 200);
        // A credential that is not known may be somebody's who can log in.
        let reply = ask(client, Method::GET, private, &nobodys).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, CHALLENGE));
        assert_eq!(ask(client, Method::GET, public, &alices).await.status, 200);
    }
    registry.up();
    // The trials are due. Who asks meanwhile has the copy.
    seawall.clock.advance(Duration::from_secs(20));
    while ask(&clients[0], Method::GET, public, &alices).await.header("cache-status").contains("stale") {}
    registry.reset_counts();
    for client in &clients {
        for shown in [&alices, &nobodys] {
            for method in [Method::HEAD, Method::GET] {
                let reply = ask(client, method, private, shown).await;
                assert_eq!(reply.status, 401);
                assert!(reply.header("www-authenticate").starts_with(CHALLENGE), "{reply:?}");
            }
            assert_eq!(ask(client, Method::GET, "acme/app/tags/list", shown).await.status, 401);
            assert_eq!(ask(client, Method::POST, "acme/app/blobs/uploads/", shown).await.status, 401);
            assert_eq!(ask(client, Method::GET, public, shown).await.status, 200);
        }
        let theirs = bearer(&token(client, "acme/app", ALICE).await);
        assert!(!theirs.contains("seawall"));
        assert_eq!(ask(client, Method::GET, private, &theirs).await.status, 200);
    }
    let ours = registry.count(|seen| seen.authorization().is_some_and(|value| value.contains("seawall")));
    assert_eq!(ours, 0, "{}", registry.log());
}

/// It opens what it was seen to open, as long as that is believed; then its client is asked to log
/// in, if that is of any use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_theirs_is_good_for_what_it_opened() {
    for (toml, refused) in [(WEEK, 401), ("", 502)] {
        let pki = Pki::new();
        let registry = hub().start(&pki).await;
        let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
        let client = seawall.client();
        client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
        Pull::new(APP, Style::Docker).user(ALICE.0, ALICE.1).run(&client).await.unwrap();
        let theirs = bearer(&token(&client, "acme/app", ALICE).await);
        let read = async |client: &Client, path: &str| ask(client, Method::GET, path, &theirs).await.status.as_u16();
        let (private, public) = ("acme/app/manifests/1", "library/alpine/manifests/3.20");
        assert_eq!(read(&client, private).await, 200);
        registry.down();
        seawall.clock.advance(Duration::from_secs(200));
        assert_eq!((read(&client, private).await, read(&client, public).await), (200, 200), "{toml}");
        assert_eq!(read(&client, "acme/other/manifests/1").await, refused, "{toml}");
        seawall.clock.advance(HOUR);
        assert_eq!((read(&client, private).await, read(&client, public).await), (refused, 200), "{toml}");
        let seawall = seawall.restart(&pki).await;
        let client = seawall.client();
        assert_eq!((read(&client, private).await, read(&client, public).await), (refused, 200), "{toml}");
        if toml == WEEK {
            let ours = bearer(&token(&client, "acme/app", ALICE).await);
            assert_eq!(ask(&client, Method::GET, private, &ours).await.status, 200);
        }
    }
}

/// The registry's say goes before what is remembered: a login that it takes no more is forgotten,
/// in whatever way it is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_none_any_more_is_forgotten_altogether() {
    for path in ["acme/app/manifests/1", "acme/app/tags/list"] {
        let pki = Pki::new();
        let registry = Registry::new("quay.io").image("acme/app:1", Image::two_platforms());
        let registry = registry.image("acme/other:1", Image::two_platforms()).basic_auth();
        let registry = registry.user("alice", ALICE.1).start(&pki).await;
        let seawall = Seawall::before(&registry).toml(WEEK).start(&pki).await;
        let pull = async |seawall: &Seawall, image: &str| {
            Pull::new(image, Style::Podman).user(ALICE.0, ALICE.1).run(&seawall.client()).await
        };
        for image in ["quay.io/acme/app:1", "quay.io/acme/other:1"] {
            pull(&seawall, image).await.unwrap();
        }
        let seawall = seawall.restart(&pki).await;
        registry.set_password("alice", "new");
        let url = format!("https://quay.io/v2/{path}");
        assert_eq!(seawall.client().get(&url).basic(ALICE.0, ALICE.1).send().await.unwrap().status, 401);
        let seawall = seawall.restart(&pki).await;
        registry.down();
        seawall.clock.advance(HOUR);
        pull(&seawall, "quay.io/acme/other:1").await.expect_err("the password is another one");
    }
}

/// A registry that is silent is not waited for longer than a question may take, by who shows a
/// login with each request either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_registry_does_not_hold_up_who_shows_a_login() {
    let pki = Pki::new();
    let registry = Registry::new("quay.io").image("acme/app:1", Image::two_platforms()).basic_auth();
    let registry = registry.user("alice", ALICE.1).start(&pki).await;
    let toml = format!("{WEEK}[upstream]\nresolve_deadline = \"200ms\"\nCA_FILE");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let pull = |password: &str| Pull::new("quay.io/acme/app:1", Style::Podman).user("alice", password);
    pull(ALICE.1).run(&seawall.client()).await.unwrap();
    let seawall = seawall.restart(&pki).await;
    let never = Gate::new();
    registry.fault(Fault::on("*").hold_head(&never));
    seawall.clock.advance(HOUR);
    let client = seawall.client();
    let pulled = tokio::time::timeout(Duration::from_secs(30), async { pull(ALICE.1).run(&client).await });
    pulled.await.expect("it waited for the idle timeout").unwrap();
}
