//! Who may look at a seawall by its admin listener, and who may change something.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use http::Method;
use serde_json::Value;

use crate::flight::{MIB, landed, open_registry, until, url};
use crate::harness::exchange::Reply;
use crate::harness::*;

const VERIFY: &str = "/api/v1/verify";

fn token(seawall: &Seawall) -> String {
    std::fs::read_to_string(seawall.data.join("admin.token")).unwrap().trim().to_owned()
}

/// A change that `fields` ask for.
async fn change(seawall: &Seawall, fields: &[(&str, &str)]) -> Reply {
    let client = Client::plain(seawall.admin());
    let url = format!("http://{}{VERIFY}", seawall.admin());
    let ask = client.request(Method::POST, &url).body("{}");
    fields.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.unwrap()
}

async fn look(seawall: &Seawall, path: &str, fields: &[(&str, &str)]) -> u16 {
    let client = Client::plain(seawall.admin());
    let url = format!("http://{}{path}", seawall.admin());
    fields
        .iter()
        .fold(client.get(&url), |ask, (name, value)| ask.header(name, value))
        .send()
        .await
        .unwrap()
        .status
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_needs_the_token_and_no_page_of_elsewhere() {
    let seawall = Seawall::alone().start(&Pki::new()).await;
    let (token, here) = (token(&seawall), seawall.admin());
    let (json, good) = (("content-type", "application/json"), format!("Bearer {token}"));
    let good = ("authorization", &*good);
    let (own, foreign) = (format!("http://{here}"), "http://evil.example");
    let mangled = format!("Bearer {}x", &token[1..]);
    let basic = format!("Basic {token}");
    for (fields, status) in [
        (vec![json], 401),
        (vec![json, ("authorization", &*mangled)], 401),
        (vec![json, ("authorization", &*basic)], 401),
        (vec![json, ("authorization", "Bearer")], 401),
        (vec![json, ("cookie", &*format!("seawall={token}"))], 401),
        (vec![good], 415),
        (vec![good, ("content-type", "text/plain")], 415),
        (vec![good, json, ("origin", foreign)], 403),
        (vec![good, json, ("origin", "null")], 403),
        (vec![good, json, ("sec-fetch-site", "cross-site")], 403),
        (vec![good, json, ("host", "evil.example")], 421),
        (vec![good, json, ("origin", &*own), ("sec-fetch-site", "same-origin")], 202),
        (vec![good, ("content-type", "Application/JSON; charset=utf-8")], 202),
    ] {
        let reply = change(&seawall, &fields).await;
        let said = String::from_utf8_lossy(reply.bytes()).into_owned();
        assert_eq!(reply.status, status, "{fields:?}: {said}");
        assert_eq!(reply.headers.contains_key("www-authenticate"), status == 401, "{fields:?}");
        assert!(!said.contains(&token), "{said}");
    }
    assert_eq!(look(&seawall, VERIFY, &[good]).await, 405);
}

/// Who is on the machine may look; what a proxy there passes on comes from anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_passes_on_needs_the_token_to_look() {
    let seawall = Seawall::alone().start(&Pki::new()).await;
    let good = format!("Bearer {}", token(&seawall));
    for path in ["/api", "/api/v1/status", "/api/v1/images", "/api/v1/ratelimits", "/api/v1/jobs"] {
        assert_eq!(look(&seawall, path, &[]).await, 200, "{path}");
        for (name, value) in [("x-forwarded-for", "10.0.0.7"), ("forwarded", "for=10.0.0.7"), ("via", "1.1 proxy")] {
            assert_eq!(look(&seawall, path, &[(name, value)]).await, 401, "{path} {name}");
            assert_eq!(look(&seawall, path, &[(name, value), ("authorization", &good)]).await, 200, "{path} {name}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(look(&seawall, path, &[("x-forwarded-for", "10.0.0.7")]).await, 200, "{path}");
    }
}

/// The same port speaks TLS as seawall itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_tells_tls_apart() {
    let seawall = Seawall::alone().toml("[tls]\nnames = [\"127.0.0.1\"]").start(&Pki::new()).await;
    for alpn in [Alpn::None, Alpn::H1, Alpn::Both] {
        let client = Client::direct_tls(seawall.admin(), &seawall.ca_pem).alpn(alpn);
        let reply = client.get(&format!("https://{}/api/v1/status", seawall.admin())).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.version), (200, http::Version::HTTP_11), "{alpn:?}");
    }
    assert_eq!(look(&seawall, "/readyz", &[]).await, 200, "and no TLS");
}

fn command(seawall: &Seawall, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.args(arguments).env("SEAWALL_DATA", &seawall.data).current_dir(&seawall.data);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_made_once_for_its_user_alone_and_commands_find_it() {
    let pki = Pki::new();
    let seawall = Seawall::alone().toml("[tls]\nnames = [\"127.0.0.1\"]").start(&pki).await;
    let file = seawall.data.join("admin.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = token(&seawall);
    let seawall = seawall.restart(&pki).await;
    assert_eq!(token(&seawall), made);
    let admin = seawall.admin().to_string();
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        tokio::task::block_in_place(|| command(&seawall, &arguments))
    };
    let verify = |more: &[&str]| ["cache", "verify"].iter().chain(more).map(|&word| word.to_owned()).collect();
    for place in [admin.clone(), format!("http://{admin}"), format!("https://{admin}")] {
        let (code, out, said) = run(verify(&["--admin", &place])).await;
        assert_eq!((code, out.as_str()), (Some(0), "0 of 0 blobs are right (0 B)\n"), "{place}: {said}");
    }
    let other = seawall.data.join("other.token");
    std::fs::write(&other, "of-somebody-else-altogether").unwrap();
    let (code, _, said) = run(verify(&["--admin", &admin, "--token-file", other.to_str().unwrap()])).await;
    assert!(code == Some(1) && said.contains("401") && said.contains("not the token"), "{said}");
    let (code, _, said) = run(verify(&["--admin", "10.0.0.7:1", "--token-file", other.to_str().unwrap()])).await;
    assert!(code == Some(1) && said.contains("https:// alone") && !said.contains("somebody"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let (code, _, said) = run(verify(&["--admin", &admin])).await;
    assert!(code == Some(1) && said.contains("its token cannot be read") && said.contains("admin.token"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_cache_is_verified_by_a_job_and_healed() {
    let (pki, blob) = (Pki::new(), Blob::generated(83, 3 * MIB));
    let registry = open_registry(&pki, &blob).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    assert_eq!(seawall.client().get(&url(&blob)).send().await.unwrap().status, 200);
    landed(&seawall).await;
    let path = seawall.data.join("blobs/sha256").join(&blob.digest()[7..]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let admin = seawall.admin().to_string();
    let (code, out, said) =
        tokio::task::block_in_place(|| command(&seawall, &["cache", "verify", "--json", "--admin", &admin]));
    assert_eq!(code, Some(0), "{said}");
    let pass: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&pass["blobs"], &pass["rotten"]), (&1.into(), &1.into()), "{pass}");
    until("it is set aside", || !path.exists()).await;
    let reply = seawall.client().get(&url(&blob)).send().await.unwrap();
    assert!(blob.holds(0, reply.bytes()));
    let client = Client::plain(seawall.admin());
    let jobs = client.get(&format!("http://{admin}/api/v1/jobs")).send().await.unwrap();
    let jobs: Value = serde_json::from_slice(jobs.bytes()).unwrap();
    assert_eq!((&jobs["jobs"][0]["kind"], &jobs["jobs"][0]["state"]), (&"verify".into(), &"done".into()), "{jobs}");
    for wrong in ["2", "0", "x", "-1", "99999999999999999999"] {
        assert_eq!(look(&seawall, &format!("/api/v1/jobs/{wrong}"), &[]).await, 404, "{wrong}");
    }
    assert_eq!(look(&seawall, "/api/v1/jobs/1", &[]).await, 200);
}

/// A token that the operator names is one, or nothing starts with a key that opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_file_that_holds_no_token_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("seawall.toml"), dir.path().join("t"));
    std::fs::write(&token, "hunter2").unwrap();
    let data = dir.path().join("data");
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\ndata = {data:?}\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}"
    );
    std::fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_seawall")).arg("serve").arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("admin.token_file") && said.contains("7 characters") && !said.contains("hunter2"), "{said}");
}
