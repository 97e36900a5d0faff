//! How it goes, in sentences: by the API, and by `seawall status`.

use serde_json::Value;

use crate::disk::registry_of;
use crate::flight::{MIB, landed, url};
use crate::harness::*;
use crate::outage::fail_until_open;
use crate::quota::as_client;
use crate::tags::{MINUTE, get, hub};

pub(crate) async fn status(seawall: &Seawall) -> Value {
    let admin = Client::plain(seawall.admin());
    let reply = admin.get(&format!("http://{}/api/v1/status", seawall.admin())).send().await.unwrap();
    assert_eq!(reply.header("content-type"), "application/json");
    serde_json::from_slice(reply.bytes()).unwrap()
}

/// Level and text of what is said.
async fn verdict(seawall: &Seawall) -> Vec<(String, String)> {
    let status = status(seawall).await;
    let text = |sentence: &Value, key: &str| sentence[key].as_str().unwrap().to_owned();
    status["verdict"].as_array().unwrap().iter().map(|it| (text(it, "level"), text(it, "text"))).collect()
}

fn says(verdict: &[(String, String)], level: &str, words: &[&str]) -> bool {
    verdict.iter().any(|it| it.0 == level && words.iter().all(|words| it.1.contains(words)))
}

async fn is_said(seawall: &Seawall, level: &str, words: &[&str]) {
    let verdict = verdict(seawall).await;
    assert!(says(&verdict, level, words), "{verdict:?}");
}

/// What `seawall status` prints of it, and its exit code.
pub(crate) async fn command(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.arg("status").args(arguments).current_dir(std::env::temp_dir());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_said_while_it_lasts_by_api_and_command() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    landed(&seawall).await;
    is_said(&seawall, "ok", &["Pulls work. docker.io: 98 of 100 pulls left until ", " UTC."]).await;
    let healthy = status(&seawall).await;
    assert_eq!((&healthy["pulls"]["charged"], &healthy["unreachable"]), (&2.into(), &Value::Array(Vec::new())));
    assert!(healthy["cache"]["blobs"].as_u64().unwrap() > 2 && healthy["cache"]["bytes"].as_u64().unwrap() > 0);
    assert!(healthy["cache"]["oldest_used_at"].is_string() && healthy["listeners"][0].is_string(), "{healthy}");

    registry.fault(Fault::on("*").hang_up());
    seawall.clock.advance(MINUTE);
    fail_until_open(&seawall).await;
    is_said(&seawall, "outage", &["registry-1.docker.io (docker.io) does not answer since ", "What is here is served"])
        .await;
    assert_eq!(status(&seawall).await["unreachable"][0]["registry"], "docker.io");
    let admin = seawall.admin().to_string();
    let (code, out, _) = command(&["--admin", &admin]).await;
    assert!(code == Some(0) && out.starts_with("✗ registry-1.docker.io (docker.io) does not answer"), "{out}");
    assert!(out.contains("\npulls     2 charged by registries") && out.contains("\ncache     "), "{out}");
    let (_, json, _) = command(&["--admin", &admin, "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["verdict"][0]["level"], "outage");

    registry.clear_faults();
    seawall.clock.advance(MINUTE);
    assert_eq!(get(&seawall.client(), crate::tags::TAG).await.status, 200);
    is_said(&seawall, "ok", &["Pulls work."]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_spent_or_nearly_so_is_said() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.set_remaining(ANONYMOUS_SOURCE, 9);
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    is_said(&seawall, "warning", &["docker.io: 7 of 100 pulls left until ", "An account would help"]).await;
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    let seawall = Seawall::before(&registry).start(&pki).await;
    let digest = Image::two_platforms().digest();
    let refused =
        as_client(&seawall.client(), &format!("{}/v2/library/alpine/manifests/{digest}", crate::tags::HUB)).await;
    assert_eq!(refused.status, 429, "{}", registry.log());
    is_said(&seawall, "outage", &["The quota at docker.io is spent until ", "new images wait"]).await;
    let said = verdict(&seawall).await;
    assert_eq!(said.len(), 1, "once: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_the_root_are_counted_until_they_have_it() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let stranger = Client::via_connect(seawall.addr(), &pki.ca_pem());
    assert!(stranger.get(crate::tags::TAG).send().await.is_err());
    let expected = ["1 client does not trust seawall's root", "Last: 127.0.0.1, just now"];
    let read = async { while !says(&verdict(&seawall).await, "warning", &expected) {} };
    tokio::time::timeout(faults::PATIENCE, read).await.expect("its alert is read");
    assert_eq!(get(&seawall.client(), crate::tags::TAG).await.status, 200);
    is_said(&seawall, "ok", &["Pulls work."]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_without_room_is_said_until_something_is_kept() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(90, 4 * MIB), Blob::generated(91, MIB)]);
    let registry = registry_of(&pki, &blobs).await;
    let seawall = Seawall::before(&registry).toml("[cache]\nmax_size = \"2MiB\"").start(&pki).await;
    assert_eq!(seawall.client().get(&url(&blobs[0])).send().await.unwrap().status, 200);
    is_said(&seawall, "warning", &["Downloads pass through and are not kept since "]).await;
    assert_eq!(seawall.client().get(&url(&blobs[1])).send().await.unwrap().status, 200);
    landed(&seawall).await;
    is_said(&seawall, "ok", &["Pulls work."]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_seawall_answers_the_command_says_so() {
    let nowhere = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (code, out, said) = command(&["--admin", &nowhere]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(said.contains("no answer (does seawall run?)") && said.contains(&nowhere), "{said}");
    let (code, _, said) = command(&["--nonsense"]).await;
    assert!(code == Some(2) && said.contains("--nonsense"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_is_shown_while_it_comes() {
    let (pki, blob) = (Pki::new(), Blob::generated(92, 4 * MIB));
    let registry = registry_of(&pki, std::slice::from_ref(&blob)).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), MIB);
    let mut open = seawall.client().get(&url(&blob)).open().await.unwrap();
    assert!(blob.holds(0, &open.read_exactly(1 << 20).await.unwrap()));
    seawall.clock.advance(std::time::Duration::from_secs(75));
    let fills = status(&seawall).await["fills"].clone();
    assert_eq!((&fills[0]["digest"], &fills[0]["repository"]), (&blob.digest().into(), &"ghcr.io/acme/app".into()));
    assert_eq!((&fills[0]["bytes"], &fills[0]["total_bytes"]), (&MIB.into(), &(4 * MIB).into()), "{fills}");
    assert!(fills[0]["seconds"].as_u64() >= Some(75) && fills[0]["readers"].as_u64() >= Some(1), "{fills}");
    let (_, out, _) = command(&["--admin", &seawall.admin().to_string()]).await;
    let line = format!("coming    ghcr.io/acme/app {}: 1.0 MiB of 4.0 MiB in 75 s", blob.digest());
    assert!(out.contains(&line), "{out}");
    gate.open();
    assert!(blob.holds(MIB, &open.rest().await.unwrap()));
    landed(&seawall).await;
    assert_eq!(status(&seawall).await["fills"], serde_json::json!([]));
}

/// Nor does it push a real one down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_makes_an_outage_of_names_that_it_thought_of() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let names = ["call-eve.pkg.dev", "is-down.pkg.dev"];
    let seawall = Seawall::before(&registry).host(names[0], nowhere).host(names[1], nowhere).start(&pki).await;
    let ask = async |host: &str| {
        for n in 0..4 {
            let _ = seawall.client().get(&format!("https://{host}/v2/a/b{n}/manifests/1")).send().await;
        }
    };
    ask(names[0]).await;
    ask(names[1]).await;
    let expected = ["2 hosts of pkg.dev that clients asked for do not answer"];
    let read = async { while !says(&verdict(&seawall).await, "notice", &expected) {} };
    tokio::time::timeout(faults::PATIENCE, read).await.expect("they are known not to answer");
    assert!(verdict(&seawall).await.iter().all(|it| it.0 == "notice" && !it.1.contains("eve")));
    registry.fault(Fault::on("*").hang_up());
    fail_until_open(&seawall).await;
    assert_eq!(verdict(&seawall).await[0].0, "outage");
    assert_eq!(status(&seawall).await["unreachable"][0]["registry"], "docker.io");
}
