//! What upstream allows is known, shown, and not asked for when it is spent.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::access::token;
use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::tags::{ALL, HUB, MINUTE, TAG, ask, get, hub};

/// As a client without a login asks: once more with a token for nobody, where it is told to get
/// one.
pub(crate) async fn as_client(client: &Client, url: &str) -> Reply {
    let reply = get(client, url).await;
    if reply.status != 401 {
        return reply;
    }
    let repository = url.split_once("/v2/").and_then(|(_, path)| path.rsplit_once("/manifests/")).unwrap().0;
    let shown = token(client, None, repository).await;
    let ask = ALL.iter().fold(client.get(url).bearer(&shown), |ask, one| ask.header("accept", one));
    ask.send().await.unwrap()
}

const WINDOW: Duration = Duration::from_secs(21_600);

/// `/api/v1/ratelimits` of docker.io.
pub(crate) async fn ratelimits(seawall: &Seawall) -> Value {
    let admin = Client::plain(seawall.admin());
    let reply = admin.get(&format!("http://{}/api/v1/ratelimits", seawall.admin())).send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    let all = reply.json()["registries"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["name"] == "docker.io").unwrap_or_default()
}

fn by_digest(image: &Image) -> String {
    format!("{HUB}/v2/library/alpine/manifests/{}", image.digest())
}

pub(crate) fn message(reply: &Reply) -> String {
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (429, "application/json"));
    let error = reply.json()["errors"][0].clone();
    assert_eq!(error["code"], "TOOMANYREQUESTS");
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_says_is_shown_and_survives_a_restart() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for _ in 0..3 {
        seawall.client().pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    }
    let before = ratelimits(&seawall).await;
    let quota = &before["quotas"][0];
    for (name, value) in [
        ("host", Value::from("registry-1.docker.io")),
        ("identity", "anonymous".into()),
        ("source", ANONYMOUS_SOURCE.into()),
        ("limit", 100.into()),
        ("remaining", 98.into()),
        ("window_seconds", 21_600.into()),
        ("current", true.into()),
    ] {
        assert_eq!(quota[name], value, "{name} of {before:#}");
    }
    let pulls = &before["pulls"];
    assert_eq!((&pulls["charged"], &pulls["spared"]), (&2.into(), &4.into()), "{before:#}");
    assert_eq!(pulls["repositories"][0]["name"], "library/alpine");
    let seawall = seawall.restart(&pki).await;
    registry.down();
    let after = ratelimits(&seawall).await;
    assert_eq!((&after["pulls"], &after["quotas"][0]["seen_at"]), (pulls, &quota["seen_at"]));
    assert_eq!(after["quotas"][0]["remaining"], 98);
    seawall.clock.advance(WINDOW);
    let later = ratelimits(&seawall).await;
    assert_eq!((&later["quotas"][0]["current"], &later["quotas"][0]["free_at"]), (&false.into(), &Value::Null));
}

/// containerd asks five times within milliseconds, whatever `Retry-After` says (docs/protocol.md
/// 4.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_retries_cost_upstream_nothing() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    let first = as_client(&client, TAG).await;
    assert_eq!(first.status, 429);
    assert!(message(&first).contains("docker.io allows no more pulls"), "what the next ones read");
    registry.reset_counts();
    for url in [TAG.to_owned(), by_digest(&Image::two_platforms())] {
        for _ in 0..5 {
            let reply = as_client(&client, &url).await;
            let said = message(&reply);
            for part in [
                "docker.io allows no more pulls to 203.0.113.7 (100 in 6h) until 20",
                "Z (in 6h): wait, or have its operator give seawall an account",
                "password_file",
            ] {
                assert!(said.contains(part), "{part} in {said}");
            }
            let wait: u64 = reply.header("retry-after").parse().unwrap();
            assert!((21_000..=21_600).contains(&wait), "{wait}");
            assert_eq!(reply.header("ratelimit-remaining"), "", "no old figures");
        }
    }
    assert_eq!(registry.gets("manifests"), 0, "{}", registry.log());
    assert_eq!(seawall.metric("seawall_ratelimit_refusals_total{registry=\"docker.io\",limit=\"pulls\"}"), 1.0);
    assert_eq!(seawall.metric("seawall_ratelimit_held_back_total{registry=\"docker.io\",limit=\"pulls\"}"), 21.0);
    let shown = ratelimits(&seawall).await;
    let limited = &shown["limited"];
    assert_eq!((&limited[0]["limit"], &limited[0]["identity"]), (&"pulls".into(), &"anonymous".into()));
    // It goes on where a restart interrupts it, and ends with the window.
    let seawall = seawall.restart(&pki).await;
    assert_eq!(as_client(&seawall.client(), &by_digest(&Image::two_platforms())).await.status, 429);
    assert_eq!(registry.gets("manifests"), 0, "{}", registry.log());
    registry.set_remaining(ANONYMOUS_SOURCE, 100);
    seawall.clock.advance(WINDOW);
    assert_eq!(as_client(&seawall.client(), TAG).await.status, 200, "{}", registry.log());
}

/// A HEAD is not counted, and says what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_go_on_when_upstream_says_that_some_are_left() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    assert_eq!(as_client(&client, TAG).await.status, 429);
    seawall.clock.advance(MINUTE);
    assert_eq!(as_client(&client, TAG).await.status, 429, "asked anew by HEAD, and still none");
    assert_eq!(registry.gets("manifests"), 1, "{}", registry.log());
    registry.set_remaining(ANONYMOUS_SOURCE, 5);
    seawall.clock.advance(MINUTE);
    assert_eq!(as_client(&client, TAG).await.status, 200, "{}", registry.log());
    assert!(ratelimits(&seawall).await["limited"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_abuse_limit_stands_for_everything_and_what_is_here_is_served() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.add_image("library/alpine:new", &Image::multi_layer());
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    seawall.clock.advance(MINUTE);
    registry.fault(Fault::on("manifests").abuse_limit(30));
    assert_eq!(as_client(&client, TAG).await.status, 200);
    registry.clear_faults();
    registry.reset_counts();
    let stale = as_client(&client, TAG).await;
    assert_eq!((stale.status.as_u16(), stale.header("cache-status")), (200, "seawall; fwd=stale; detail=rate-limited"));
    assert!(stale.header("warning").contains("docker.io accepts no requests"), "{}", stale.header("warning"));
    for method in [Method::HEAD, Method::GET] {
        let reply = ask(&client, method, &format!("{HUB}/v2/library/alpine/manifests/new"), &ALL).await;
        assert_eq!(reply.status, 429);
        assert!((1..=30).contains(&reply.header("retry-after").parse::<u64>().unwrap()));
    }
    let layer = format!("{HUB}/v2/library/alpine/blobs/{}", Image::multi_layer().layers()[0].digest());
    assert_eq!(client.get(&layer).send().await.unwrap().status, 429);
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    assert_eq!(ratelimits(&seawall).await["limited"][0]["limit"], "abuse");
    seawall.clock.advance(Duration::from_secs(31));
    client.pull("docker.io/library/alpine:new", Style::Containerd).await.unwrap();
    let again = as_client(&client, TAG).await;
    assert_eq!((again.status.as_u16(), again.header("warning")), (200, ""));
}

/// library/alpine is everybody's; ci is the operator's.
async fn with_account(pki: &Pki, more: &str) -> (Registry, Seawall, tempfile::NamedTempFile) {
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("library/busybox:1", Image::single(&[b"busybox"]))
        .user("ci", "the-operators-own-password")
        .user("alice", "alices-password")
        .user("bob", "bobs-password")
        .token_auth()
        .quota(100)
        .cdn("cdn.example.test")
        .start(pki)
        .await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "the-operators-own-password").unwrap();
    let path = password.path();
    let toml = format!("[[registry]]\nname = \"docker.io\"\nusername = \"ci\"\npassword_file = {path:?}\n{more}\n");
    let seawall = Seawall::before(&registry).toml(&toml).start(pki).await;
    (registry, seawall, password)
}

pub(crate) fn gets_of(registry: &Registry, user: &str) -> usize {
    let theirs = format!("-{user}.");
    registry.count(|seen| {
        let shown = seen.authorization().is_some_and(|shown| shown.contains(&theirs));
        seen.kind() == "manifests" && seen.method == Method::GET && shown
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_account_is_spent_nobody_is_asked_at_once() {
    let pki = Pki::new();
    let (registry, seawall, _kept) = with_account(&pki, "").await;
    registry.set_remaining("ci", 0);
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    assert_eq!((gets_of(&registry, "ci"), gets_of(&registry, "anonymous")), (1, 2), "{}", registry.log());
    client.pull("docker.io/library/busybox:1", Style::Podman).await.unwrap();
    assert_eq!((gets_of(&registry, "ci"), gets_of(&registry, "anonymous")), (1, 3), "{}", registry.log());
    let limited = ratelimits(&seawall).await["limited"].clone();
    assert_eq!((&limited[0]["identity"], &limited[0]["source"]), (&"account".into(), &"ci".into()));
    // Both are spent: the answer is nobody's, and says nothing of the account.
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    registry.add_image("library/other:1", &Image::single(&[b"other"]));
    for _ in 0..3 {
        let reply = as_client(&client, &format!("{HUB}/v2/library/other/manifests/1")).await;
        let said = format!("{:?} {}", reply.headers, message(&reply));
        assert!(!said.contains("\"ci\"") && !said.contains(" ci "), "{said}");
    }
    assert_eq!((gets_of(&registry, "ci"), gets_of(&registry, "anonymous")), (1, 4), "{}", registry.log());
    seawall.clock.advance(WINDOW);
    registry.set_remaining("ci", 100);
    assert_eq!(as_client(&client, &format!("{HUB}/v2/library/other/manifests/1")).await.status, 200);
    assert_eq!(gets_of(&registry, "ci"), 2, "{}", registry.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_credentials_limit_is_never_anothers() {
    let pki = Pki::new();
    let (registry, seawall, _kept) = with_account(&pki, "").await;
    let client = seawall.client();
    let alice = token(&client, Some(("alice", "alices-password")), "library/busybox").await;
    let bob = token(&client, Some(("bob", "bobs-password")), "library/busybox").await;
    let url = format!("{HUB}/v2/library/busybox/manifests/{}", Image::single(&[b"busybox"]).digest());
    let pull = async |who: Option<&str>| {
        let ask = client.get(&url).header("accept", "*/*");
        who.map_or_else(|| client.get(&url).header("accept", "*/*"), |token| ask.bearer(token)).send().await.unwrap()
    };
    registry.set_remaining("alice", 0);
    assert_eq!(pull(Some(&alice)).await.status, 429);
    registry.reset_counts();
    let said = message(&pull(Some(&alice)).await);
    assert!(said.contains("to alice (100 in 6h)") && said.contains("use another account"), "{said}");
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    for who in [Some(bob.as_str()), None] {
        assert_eq!(pull(who).await.status, 200, "{}", registry.log());
    }
    // It is here now: alice reads it, with a HEAD that costs her nothing.
    assert_eq!(pull(Some(&alice)).await.status, 200, "{}", registry.log());
    let identities: Vec<Value> =
        ratelimits(&seawall).await["quotas"].as_array().unwrap().iter().map(|q| q["identity"].clone()).collect();
    assert_eq!(identities, ["anonymous", "client", "client"]);
}

/// Token services have limits of their own, under the same names (docs/protocol.md 1.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_services_limit_is_no_pull_limit() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let limits = Fault::on("token").set("x-ratelimit-limit", "3000, 3000;w=60").set("x-ratelimit-remaining", "2999");
    registry.fault(limits);
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    let seen = ratelimits(&seawall).await;
    assert_eq!((&seen["tokens"][0]["host"], &seen["tokens"][0]["remaining"]), (&"auth.docker.io".into(), &2999.into()));
    assert_eq!((seen["quotas"].as_array().unwrap().len(), &seen["quotas"][0]["limit"]), (1, &100.into()));
    registry.fault(Fault::on("token").abuse_limit(60));
    let url = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/other:pull";
    assert_eq!(seawall.client().get(url).send().await.unwrap().status, 429);
    let seen = ratelimits(&seawall).await;
    assert_eq!(
        (&seen["limited"][0]["limit"], &seen["limited"][0]["host"]),
        (&"tokens".into(), &"auth.docker.io".into())
    );
    assert_eq!(as_client(&seawall.client(), TAG).await.status, 200, "no pull waits for that");
}

/// Docker's own advice: a HEAD of this image says what is left (docs/protocol.md 1.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_probe_is_passed_through_and_recorded() {
    const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.add_manifest("ratelimitpreview/test", "latest", SCHEMA1, "{\"schemaVersion\":1}");
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    for left in [100, 40] {
        registry.set_remaining(ANONYMOUS_SOURCE, left);
        let probe = client.head(&format!("{HUB}/v2/ratelimitpreview/test/manifests/latest")).send().await.unwrap();
        assert_eq!((probe.status.as_u16(), probe.header("ratelimit-remaining")), (200, &*format!("{left};w=21600")));
        assert_eq!(probe.header("docker-ratelimit-source"), ANONYMOUS_SOURCE);
        assert_eq!(ratelimits(&seawall).await["quotas"][0]["remaining"], left);
    }
    assert_eq!(registry.gets("manifests"), 0, "{}", registry.log());
}

/// `reserve`: a tag takes none of the last pulls; what the client pins by digest does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_pulls_are_for_what_is_asked_for_by_digest() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = "[[registry]]\nname = \"docker.io\"\nreserve = 10";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let client = seawall.client();
    registry.set_remaining(ANONYMOUS_SOURCE, 10);
    let reply = as_client(&client, TAG).await;
    let said = message(&reply);
    assert!(said.contains("10 of 100 pulls are left at docker.io until 20"), "{said}");
    assert!(
        said.contains(
            "the last 10 are for what is asked for by digest: wait, or have its operator give seawall an account"
        ),
        "{said}"
    );
    assert_eq!((registry.gets("manifests"), registry.remaining(ANONYMOUS_SOURCE)), (0, Some(10)), "{}", registry.log());
    assert_eq!(as_client(&client, &by_digest(&Image::two_platforms())).await.status, 200);
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(9));
    assert_eq!(as_client(&client, TAG).await.status, 200, "it is here now");
    registry.add_image("library/alpine:new", &Image::multi_layer());
    assert_eq!(as_client(&client, &format!("{HUB}/v2/library/alpine/manifests/new")).await.status, 429);
    seawall.clock.advance(WINDOW);
    registry.set_remaining(ANONYMOUS_SOURCE, 100);
    assert_eq!(as_client(&client, &format!("{HUB}/v2/library/alpine/manifests/new")).await.status, 200);
}

/// `seawall check`, without a seawall that runs, and without a pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_asks_what_is_left_and_what_an_image_names() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let dir = tempfile::tempdir().unwrap();
    let (ca, file, password) =
        (dir.path().join("ca.pem"), dir.path().join("seawall.toml"), dir.path().join("password"));
    std::fs::write(&ca, pki.ca_pem()).unwrap();
    std::fs::write(&password, "not-the-password").unwrap();
    let hosts: Vec<String> = registry.hosts().iter().map(|(host, addr)| format!("{host:?} = \"{addr}\"")).collect();
    let hosts = hosts.join(", ");
    let account = format!("[[registry]]\nname = \"docker.io\"\nusername = \"ci\"\npassword_file = {password:?}");
    let text = format!("{account}\n[upstream]\nca_file = {ca:?}\nhosts = {{ {hosts} }}\n");
    std::fs::write(&file, text).unwrap();
    let check = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
        let output = command.arg("-c").arg(&file).arg("check").args(more).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = check(&["alpine:3.20"]).await;
    let whose = format!("account ci, password in {}", password.display());
    assert!(code == 1 && err.contains(&whose) && err.contains("refused seawall's own account"), "{code} {err}");
    assert!(out.starts_with("NOT OK     ") && out.contains(&format!("{whose}: REFUSED: ")), "{out}");
    let digest = Image::two_platforms().digest();
    let left = "quota      docker.io anonymous: 100 of 100 pulls left in windows of 6h, counted for 203.0.113.7";
    assert!(out.contains(left), "{out}\n{}", registry.log());
    assert!(out.contains("docker.io account: not known: ") && !out.contains("not-the-password"), "{out}");
    assert!(out.contains(&format!("image      docker.io/library/alpine:3.20: {digest}, application/vnd.oci")), "{out}");
    registry.set_password("ci", "the-right-one");
    std::fs::write(&password, "the-right-one").unwrap();
    // It is good, whatever it may read.
    registry.make_private("ratelimitpreview/test", &[]);
    let (code, _, err) = check(&["alpine:3.20"]).await;
    assert_eq!(code, 0, "{err}\n{}", registry.log());
    registry.make_public("ratelimitpreview/test");
    let (code, out, err) = check(&["alpine:3.20"]).await;
    assert!(code == 0 && out.contains(left) && out.contains("docker.io account: "), "{out}{err}\n{}", registry.log());
    let (code, out, err) = check(&["--json", "docker.io/library/alpine:none"]).await;
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["quotas"][0]["remaining"], &value["image"]["digest"]), (1, &100.into(), &Value::Null));
    assert!(err.contains("docker.io/library/alpine:none: registry-1.docker.io answered 404"), "{err}");
    assert_eq!((&value["ok"], value["wrong"].as_array().unwrap().len()), (&false.into(), 1), "{out}");
    // As serve would: a fresh one does not know yet what this registry's HEAD is worth.
    assert_eq!(registry.gets("manifests"), 1, "{}", registry.log());
    let (code, _, err) = check(&["unknown.example/a"]).await;
    assert!(code == 1 && err.contains("is no registry that is configured"), "{err}");
    registry.down();
    let (code, out, _) = check(&[]).await;
    assert!(code == 0 && out.contains("docker.io anonymous: not known: "), "{out}");
    let (code, out, _) = check(&["--offline"]).await;
    assert!(code == 0 && !out.contains("quota"), "{out}");
    // What lies below a file nobody can make.
    std::fs::write(&file, format!("data = {:?}", password.join("data"))).unwrap();
    let (code, _, err) = check(&["--offline"]).await;
    assert!(code == 1 && err.contains("the data directory must be writable for "), "{err}");
}
