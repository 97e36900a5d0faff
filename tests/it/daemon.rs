//! Who may come in, and what the process does at its start and its end.

use std::path::Path;

use http::Method;
use seawall::config::{Config, Overrides};
use seawall::daemon::Daemon;
use tokio::net::TcpStream;

use crate::harness::*;
use crate::target::{HUB, TAG, hub};

// Who may.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_hung_up_on() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[clients]\nallow = [\"10.0.0.0/8\", \"::1/128\"]").start(&pki).await;
    assert!(seawall.client().get(TAG).send().await.is_err());
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(raw.read_to_end().await, "");
    assert_eq!(registry.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_than_max_connections_waits_and_is_served() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[clients]\nmax_connections = 1").start(&pki).await;
    let kept = seawall.client().connect(TAG).await.unwrap();
    assert_eq!(kept.request(Method::GET, TAG).send().await.unwrap().status, 200);
    let client = seawall.client();
    let next = tokio::spawn(async move { client.get(TAG).send().await.unwrap().status });
    // The one who has the seat is served as often as it likes, the one who waits is not.
    for _ in 0..20 {
        assert_eq!(kept.request(Method::GET, TAG).send().await.unwrap().status, 200);
    }
    assert!(!next.is_finished());
    assert_eq!(seawall.metric("seawall_connections"), 1.0);
    drop(kept);
    assert_eq!(next.await.unwrap(), 200);
}

// The end.

fn blob_url(digest: &str) -> String {
    format!("https://registry-1.docker.io/v2/library/big/blobs/{digest}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_a_download_finish_and_takes_no_new_ones() {
    let pki = Pki::new();
    let blob = Blob::generated(5, 3 << 20);
    let digest = blob.digest();
    let registry = Registry::new(HUB).blob("library/big", blob.clone()).start(&pki).await;
    let gate = registry.gate_blob(&digest, 1 << 20);
    for h2 in [false, true] {
        let seawall = Seawall::before(&registry).start(&pki).await;
        let (address, admin, client) = (seawall.addr(), seawall.admin(), seawall.client());
        let client = if h2 { client.h2() } else { client };
        let mut download = client.get(&blob_url(&digest)).open().await.unwrap();
        let start = download.read_exactly(1000).await.unwrap();
        assert!(blob.holds(0, &start));
        let stopping = tokio::spawn(seawall.stop());
        let readyz = format!("http://{admin}/readyz");
        while Client::plain(admin).get(&readyz).send().await.unwrap().status == 200 {}
        // The listener goes as soon as the task that has it runs.
        while TcpStream::connect(address).await.is_ok() {}
        assert!(!stopping.is_finished());
        gate.open();
        let rest = download.rest().await.unwrap();
        assert!(blob.holds(1000, &rest) && rest.len() as u64 == blob.len() - 1000);
        drop(download);
        stopping.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_drain_is_broken_off() {
    let pki = Pki::new();
    let blob = Blob::generated(6, 3 << 20);
    let digest = blob.digest();
    let registry = Registry::new(HUB).blob("library/big", blob.clone()).start(&pki).await;
    let _gate = registry.gate_blob(&digest, 1 << 20);
    let seawall = Process::start(&registry, &pki, "drain_timeout = \"1s\"");
    let mut h1 = seawall.client().get(&blob_url(&digest)).open().await.unwrap();
    let mut h2 = seawall.client().h2().get(&blob_url(&digest)).open().await.unwrap();
    h1.read_exactly(1000).await.unwrap();
    h2.read_exactly(1000).await.unwrap();
    seawall.signal("TERM");
    let status = seawall.ended().await;
    assert!(status.success(), "{status}");
    for download in [&mut h1, &mut h2] {
        let (bytes, end) = download.until_end().await;
        assert!(bytes < blob.len() - 1000 && end.is_err(), "{bytes} bytes, then a clean end");
    }
}

// The start.

async fn start_error(data: &Path, toml: &str) -> String {
    let file = data.with_extension("toml");
    let text = format!("listen = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\ndata = {data:?}\n{toml}\n");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), std::iter::empty(), Overrides::default()).unwrap();
    format!("{:#}", Daemon::start(config).await.expect_err("it started"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_seawall_on_the_same_data_is_refused() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let error = start_error(&seawall.data, "").await;
    assert!(error.contains(&seawall.data.display().to_string()) && error.contains("another seawall"), "{error}");
    assert_eq!(seawall.client().get(TAG).send().await.unwrap().status, 200, "the first one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_cannot_be_used_is_an_error_that_names_the_file() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let (_dir, data) = seawall.stop().await;
    let (certificate, key) = (data.join("ca/ca.crt"), data.join("ca/ca.key"));
    let (good_certificate, good_key) = (std::fs::read(&certificate).unwrap(), std::fs::read(&key).unwrap());

    std::fs::write(&key, "not a key").unwrap();
    let error = start_error(&data, "").await;
    assert!(error.contains(&key.display().to_string()), "{error}");

    let another = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&key, another.serialize_pem()).unwrap();
    let error = start_error(&data, "").await;
    assert!(
        error.contains(&key.display().to_string()) && error.contains(&certificate.display().to_string()),
        "{error}"
    );

    let leaf = rcgen::CertificateParams::new(vec!["docker.io".to_owned()]).unwrap().self_signed(&another).unwrap();
    std::fs::write(&certificate, leaf.pem()).unwrap();
    let error = start_error(&data, "").await;
    assert!(error.contains(&certificate.display().to_string()) && error.contains("CA"), "{error}");

    std::fs::remove_file(&key).unwrap();
    let error = start_error(&data, "").await;
    assert!(error.contains(&key.display().to_string()), "{error}");

    // A registry that the root may not sign for.
    std::fs::write(&certificate, good_certificate).unwrap();
    std::fs::write(&key, good_key).unwrap();
    let error = start_error(&data, "[[registry]]\nname = \"lab\"\nhosts = [\"registry.lab.test\"]").await;
    for part in ["registry.lab.test", "seawall ca renew", "install", "[ca] names", &certificate.display().to_string()] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
