//! Where do secrets go? Into memory, and nowhere else (invariant 8, pitfall 19).

use std::path::Path;
use std::time::Duration;

use http::Method;

use crate::access::{HUB, hub, token};
use crate::harness::image::OCI_INDEX;
use crate::harness::*;

/// No secret in a log line, an error, a metric or a file.
#[test]
fn secrets_appear_nowhere() {
    alone("secrets::story");
}

/// One thread, so that all of it is logged here.
#[tokio::test]
#[ignore = "secrets_appear_nowhere runs it"]
async fn story() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "the-operators-secret").unwrap();
    let account = format!("username = \"ci\"\npassword_file = {:?}\nshare = [\"acme/ops\"]", password.path());
    let account = format!("[[registry]]\nname = \"docker.io\"\n{account}");
    let seawall = Seawall::before(&registry).toml(&account).start(&pki).await;
    let client = seawall.client();
    for client in [seawall.client(), seawall.client().h2()] {
        let pull = Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "alices-password");
        pull.run(&client).await.unwrap();
    }
    let alice = token(&client, Some(("alice", "alices-password")), "acme/app").await;
    let mut said = refusals(&client, &registry, &alice).await;
    said.push_str(&passed_on(&client, &alice).await);
    let operators = on_account(&client, &registry, &mut said).await;
    registry.down();
    seawall.clock.advance(Duration::from_secs(3600));
    let url = format!("{HUB}/v2/acme/app/manifests/1?password=in-a-query");
    let reply = client.get(&url).bearer(&alice).header("accept", OCI_INDEX).send().await.unwrap();
    said.push_str(&String::from_utf8_lossy(reply.bytes()));
    let metrics = Client::plain(seawall.admin()).get("http://admin.test/metrics").send().await.unwrap();
    said.push_str(&String::from_utf8_lossy(metrics.bytes()));
    let signature = registry.requests().into_iter().find_map(|seen| seen.param("sig")).expect("a signed URL");
    let (_dir, data) = seawall.stop().await;

    let logged = log.text();
    let by = |what: &str| logged.lines().any(|line| line.contains(what));
    assert!(by("acme/app") && by(" TRACE ") && by("h2::") && by("hyper_util::"), "there is a log, of libraries too");
    let key = std::fs::read_to_string(data.join("ca/ca.key")).unwrap();
    let key = key.lines().nth(1).expect("PEM has a first line of base64");
    let files = everything_below(&data);
    assert!(files.len() > 5, "{} files", files.len());
    let passed = ["alices-password", &alice, "YWxpY2U6", "a-refresh-token", "a-cookie", "in-a-query", "in-a-body"];
    let ours = [
        signature.as_str(),
        "signed-secret",
        key,
        "the-operators-secret",
        &operators,
        "Y2k6dGhlLW9wZXJhdG9ycy1zZWNyZXQ",
    ];
    for secret in passed.into_iter().chain(ours) {
        assert!(!logged.contains(secret), "{secret} in the log");
        assert!(!said.contains(secret), "{secret} in an answer: {said}");
        for (path, bytes) in &files {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found || path.ends_with("ca/ca.key"), "{secret} in {}", path.display());
        }
    }
}

/// What is said of blobs that come by a redirect that fails.
async fn refusals(client: &Client, registry: &Registry, alice: &str) -> String {
    let mut said = String::new();
    for fault in [
        Fault::on("cdn").status(403, "expired"),
        Fault::on("cdn").hang_up(),
        Fault::on("blobs").redirect("https://127.0.0.1:1/x?sig=signed-secret"),
        Fault::on("blobs").redirect("http://cdn.example.test/x?sig=signed-secret"),
        Fault::on("blobs").redirect("https://alice:signed-secret@cdn.example.test/x"),
    ] {
        registry.clear_faults();
        registry.fault(fault);
        let blob = registry.add_blob("acme/app", Blob::generated(u64::try_from(said.len()).unwrap() + 99, 5000));
        let reply = client.get(&format!("{HUB}/v2/acme/app/blobs/{blob}")).bearer(alice).send().await.unwrap();
        assert_ne!(reply.status, 200);
        said.push_str(&format!("{:?} {}", reply.headers, String::from_utf8_lossy(reply.bytes())));
    }
    registry.clear_faults();
    said
}

/// What is shared, and what is everybody's, by the operator's account: good, then refused. Its
/// token.
async fn on_account(client: &Client, registry: &Registry, said: &mut String) -> String {
    registry.set_password("ci", "the-operators-secret");
    registry.add_image("acme/ops:1", &Image::single(&[b"the operator's"]));
    registry.make_private("acme/ops", &["ci"]);
    client.pull("docker.io/acme/ops:1", Style::Docker).await.unwrap();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    registry.set_password("ci", "another");
    registry.revoke_tokens();
    registry.add_image("acme/ops:2", &Image::single(&[b"more of the operator's"]));
    let reply = client.get(&format!("{HUB}/v2/acme/ops/manifests/2")).header("accept", OCI_INDEX).send().await.unwrap();
    said.push_str(&format!("{:?} {}", reply.headers, String::from_utf8_lossy(reply.bytes())));
    let tokens = registry.requests().into_iter().filter_map(|seen| seen.authorization().map(str::to_owned));
    let token = tokens
        .into_iter()
        .find_map(|shown| Some(shown.strip_prefix("Bearer ")?.to_owned()).filter(|t| t.contains("-ci.")));
    token.expect("the account was used")
}

/// What is said of requests that are passed on: a login by form, a push, one with two credentials,
/// a cookie.
async fn passed_on(client: &Client, alice: &str) -> String {
    let form = "grant_type=refresh_token&service=s&scope=repository:acme/app:pull&refresh_token=a-refresh-token&password=in-a-body";
    let upload = format!("{HUB}/v2/acme/app/blobs/uploads/?password=in-a-query");
    let twice = client.get(&format!("{HUB}/v2/acme/app/manifests/1")).bearer(alice);
    let asks = [
        client.request(Method::POST, "https://auth.docker.io/token").body(form),
        client.request(Method::POST, &upload).bearer(alice).header("cookie", "session=a-cookie").body("in-a-body"),
        client.get(&format!("{HUB}/v2/")).basic("alice", "alices-password"),
        twice.header("authorization", "Basic YWxpY2U6YWxpY2VzLXBhc3N3b3Jk"),
        client.get(&format!("{HUB}/v2/a/../b?password=in-a-query")).bearer(alice),
        client.get("http://nowhere.test/x?password=in-a-query").basic("alice", "alices-password"),
    ];
    let mut said = String::new();
    for ask in asks {
        if let Ok(reply) = ask.send().await
            && !reply.status.is_success()
        {
            said.push_str(&String::from_utf8_lossy(reply.bytes()));
        }
    }
    said
}

fn everything_below(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() { everything_below(&path) } else { vec![(path.clone(), std::fs::read(&path).unwrap())] }
        })
        .collect()
}
