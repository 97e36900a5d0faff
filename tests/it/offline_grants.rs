//! The registry and its token service are away, and the operator lets those who had logged in read
//! on (`cache.offline_grants`).

use std::path::Path;
use std::time::Duration;

use http::Method;

use crate::evidence::Reader;
use crate::harness::*;

pub(crate) const APP: &str = "docker.io/acme/app:1";
pub(crate) const WEEK: &str = "[cache]\noffline_grants = \"7d\"\n";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
const PASSWORD: &str = "hunter2-is-no-password";

pub(crate) fn hub() -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/app:1", Image::index(&[("linux/amd64", Image::single(&[b"alice's and bob's"]))]))
        .image("acme/other:1", Image::single(&[b"another of theirs"]))
        .user("alice", PASSWORD)
        .user("bob", "b")
        .private("acme/app", &["alice", "bob"])
        .private("acme/other", &["alice", "bob"])
        .token_auth()
}

async fn pull(seawall: &Seawall, image: &str, style: Style, user: (&str, &str)) -> Result<Vec<String>, String> {
    let pulled = Pull::new(image, style).user(user.0, user.1).run(&seawall.client()).await;
    pulled.map(|pulled| pulled.cache_status).map_err(|e| format!("{style:?}: {e:?}"))
}

pub(crate) const ALICE: (&str, &str) = ("alice", PASSWORD);
const BOB: (&str, &str) = ("bob", "b");

/// One who pulled before, and restarted: what was to be hashed is hashed, and nothing but the
/// journal is known.
async fn one_who_pulled(registry: &Registry, toml: &str, style: Style, pki: &Pki) -> Seawall {
    let seawall = Seawall::before(registry).toml(toml).start(pki).await;
    pull(&seawall, APP, style, ALICE).await.unwrap();
    seawall.restart(pki).await
}

/// Every client's order, whatever the order of the client that pulled before: docker GETs its
/// token, containerd POSTs, and shows nothing before it was asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_logged_in_reads_on_while_the_registry_is_away() {
    for before in Style::ALL {
        let pki = Pki::new();
        let registry = hub().start(&pki).await;
        let seawall = one_who_pulled(&registry, WEEK, before, &pki).await;
        registry.down();
        for later in [HOUR, HOUR * 24 * 6] {
            seawall.clock.advance(later);
            for style in Style::ALL {
                let pulled = pull(&seawall, APP, style, ALICE).await;
                let pulled = pulled.unwrap_or_else(|e| panic!("{before:?} before, {later:?} later: {e}"));
                assert!(pulled.iter().all(|status| status.contains("fwd=stale")), "{pulled:?}");
                for (who, user) in [("another", BOB), ("a guess", ("alice", "b")), ("no such", ("carol", PASSWORD))] {
                    pull(&seawall, APP, style, user).await.expect_err(who);
                }
                Pull::new(APP, style).run(&seawall.client()).await.expect_err("nobody");
                pull(&seawall, "docker.io/acme/other:1", style, ALICE).await.expect_err("never read");
            }
        }
        // Seven days after upstream last said so.
        seawall.clock.advance(HOUR * 24);
        for style in Style::ALL {
            pull(&seawall, APP, style, ALICE).await.expect_err("too long ago");
        }
        registry.up();
        // The trials are due.
        seawall.clock.advance(Duration::from_secs(5));
        pull(&seawall, APP, Style::Containerd, ALICE).await.unwrap();
        let ours = registry.count(|seen| seen.authorization().is_some_and(|value| value.contains("seawall")));
        assert_eq!(ours, 0, "{}", registry.log());
    }
}

/// Off: nothing is remembered, nothing is written, and what was written is taken out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_on_unless_the_operator_says_so() {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    let seawall = one_who_pulled(&registry, "", Style::Docker, &pki).await;
    registry.down();
    seawall.clock.advance(HOUR);
    for style in Style::ALL {
        pull(&seawall, APP, style, ALICE).await.expect_err("off");
    }
    registry.up();
    let data = seawall.data.clone();
    let (dir, _) = seawall.stop().await;
    let on = async || Seawall::before(&registry).toml(WEEK).data(&data).start(&pki).await;
    let seawall = on().await;
    pull(&seawall, APP, Style::Docker, ALICE).await.unwrap();
    seawall.stop().await;
    Seawall::before(&registry).data(&data).start(&pki).await.stop().await;
    let seawall = on().await;
    registry.down();
    seawall.clock.advance(HOUR);
    pull(&seawall, APP, Style::Docker, ALICE).await.expect_err("it was off meanwhile");
    drop(dir);
}

/// The token service alone is away: the registry's challenge is no refusal of who cannot get a
/// token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_logged_in_reads_on_while_tokens_are_refused() {
    for status in [429, 503] {
        let pki = Pki::new();
        let registry = hub().start(&pki).await;
        let seawall = one_who_pulled(&registry, WEEK, Style::Containerd, &pki).await;
        registry.fault(Fault::on("token").status(status, "no"));
        seawall.clock.advance(HOUR);
        for style in Style::ALL {
            pull(&seawall, APP, style, ALICE).await.unwrap_or_else(|e| panic!("{status}: {e}\n{}", registry.log()));
            pull(&seawall, APP, style, BOB).await.expect_err("another");
        }
        registry.clear_faults();
        // A 429 that says no time stands for a minute.
        seawall.clock.advance(Duration::from_secs(60));
        for style in Style::ALL {
            pull(&seawall, APP, style, BOB).await.unwrap();
        }
    }
}

/// What upstream takes back is gone: the password, the account's access to a repository.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_took_back_does_not_come_back_with_an_outage() {
    for style in Style::ALL {
        for (what, take_back) in [
            ("the password", (|registry: &Registry| registry.set_password("alice", "new")) as fn(&Registry)),
            ("the access", |registry: &Registry| registry.make_private("acme/app", &["bob"])),
        ] {
            let pki = Pki::new();
            let registry = hub().start(&pki).await;
            let seawall = one_who_pulled(&registry, WEEK, style, &pki).await;
            take_back(&registry);
            seawall.clock.advance(HOUR);
            pull(&seawall, APP, style, ALICE).await.expect_err(what);
            let seawall = seawall.restart(&pki).await;
            registry.down();
            seawall.clock.advance(HOUR);
            for style in Style::ALL {
                pull(&seawall, APP, style, ALICE).await.expect_err(what);
            }
        }
    }
}

/// What anonymous was told of a tag before it moved is no answer now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_public_before_the_tag_moved_ends_no_remembered_login() {
    let pki = Pki::new();
    let two = Image::single(&[b"alice's alone"]);
    let registry = hub().start(&pki).await;
    registry.make_public("acme/app");
    let seawall = Seawall::before(&registry).toml(WEEK).start(&pki).await;
    Pull::new(APP, Style::Docker).run(&seawall.client()).await.unwrap();
    registry.add_image("acme/app:1", &two);
    registry.make_private_within("acme/app", "1", &two, &["alice"]);
    seawall.clock.advance(Duration::from_secs(90));
    pull(&seawall, APP, Style::Docker, ALICE).await.unwrap();
    let seawall = seawall.restart(&pki).await;
    registry.fault(Fault::on("manifests").status(503, "no"));
    seawall.clock.advance(Duration::from_secs(90));
    let alice = Reader::of(&seawall, Some(ALICE), "acme/app").await;
    let hashed = async {
        while alice.get("/v2/acme/app/manifests/1").await.body.ok() != Some(two.manifest()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(faults::PATIENCE, hashed).await.expect("her login stands, as soon as it is hashed");
}

/// ECR and others want the login itself with each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_without_tokens_is_remembered_too() {
    let pki = Pki::new();
    let registry = Registry::new("quay.io").image("acme/app:1", Image::two_platforms()).basic_auth();
    let registry = registry.user("alice", PASSWORD).user("bob", "b").start(&pki).await;
    let image = "quay.io/acme/app:1";
    let seawall = Seawall::before(&registry).toml(WEEK).start(&pki).await;
    pull(&seawall, image, Style::Docker, ALICE).await.unwrap();
    let seawall = seawall.restart(&pki).await;
    registry.down();
    seawall.clock.advance(HOUR);
    for style in Style::ALL {
        pull(&seawall, image, style, ALICE).await.unwrap();
        pull(&seawall, image, style, BOB).await.expect_err("another");
        pull(&seawall, image, style, ("alice", "b")).await.expect_err("a guess");
    }
}

/// A token of our own ends; a login that is proved once more is not needed for `/v2/`, and `docker
/// login` is told the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_our_own_ends_with_its_time() {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    let seawall = one_who_pulled(&registry, WEEK, Style::Docker, &pki).await;
    registry.down();
    seawall.clock.advance(HOUR);
    let client = seawall.client();
    let url = "https://auth.docker.io/token?service=registry.docker.io&account=alice&scope=repository:acme/app:pull";
    assert_eq!(client.get(url).basic("alice", "b").send().await.unwrap().status, 502);
    let login = "https://auth.docker.io/token?service=registry.docker.io&account=alice&offline_token=true";
    assert_eq!(client.get(login).basic("alice", "b").send().await.unwrap().status, 502);
    assert_eq!(client.get(login).basic("alice", PASSWORD).send().await.unwrap().status, 200);
    let reply = client.get(url).basic("alice", PASSWORD).send().await.unwrap();
    let bearer = format!("Bearer {}", reply.json()["token"].as_str().unwrap());
    let ask = async |method: Method, path: &str| {
        let url = format!("https://registry-1.docker.io/v2/{path}");
        client.request(method, &url).header("authorization", &bearer).send().await.unwrap()
    };
    assert_eq!(ask(Method::GET, "").await.status, 200);
    assert_eq!(ask(Method::GET, "acme/app/manifests/1").await.status, 200);
    assert_eq!(ask(Method::GET, "acme/other/manifests/1").await.status, 502);
    assert_eq!(ask(Method::POST, "acme/app/blobs/uploads/").await.status, 502);
    seawall.clock.advance(Duration::from_secs(121));
    let over = ask(Method::GET, "acme/app/manifests/1").await;
    let challenge =
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:acme/app:pull""#;
    assert_eq!((over.status.as_u16(), over.header("www-authenticate")), (401, challenge));
    registry.up();
    assert_eq!(ask(Method::GET, "acme/app/manifests/1").await.status, 401);
}

/// Neither a password nor a token is written, in any form that a search finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_written_down() {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    let seawall = Seawall::before(&registry).toml(WEEK).start(&pki).await;
    for style in Style::ALL {
        pull(&seawall, APP, style, ALICE).await.unwrap();
    }
    let (dir, data) = seawall.stop().await;
    let basic = data_encoding::BASE64.encode(format!("alice:{PASSWORD}").as_bytes());
    let mut secrets = vec![PASSWORD.to_owned(), basic, "alice".to_owned()];
    let shown = registry.requests().into_iter();
    secrets.extend(shown.filter_map(|seen| Some(seen.authorization()?.strip_prefix("Bearer ")?.to_owned())));
    assert!(secrets.len() > 3, "{}", registry.log());
    let mut files = 0;
    each_file(&data.join("index"), &mut |bytes| {
        files += 1;
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    });
    assert!(files > 0);
    drop(dir);
}

fn each_file(dir: &Path, look: &mut dyn FnMut(&[u8])) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => each_file(&path, look),
            false => look(&std::fs::read(&path).unwrap()),
        }
    }
}
