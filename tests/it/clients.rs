//! Who may use the proxy: users and their passwords.

use data_encoding::BASE64;
use http::Method;

use crate::harness::image::OCI_MANIFEST;
use crate::harness::*;
use crate::target::{HUB, TAG, hub};

const MIRROR: &str = "http://mirror.test";
const PASSWORD: &str = "correct horse";

/// A file with one user, `ci`, and the TOML that names it.
fn users() -> (tempfile::NamedTempFile, String) {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // The lowest cost: tests wait for it.
    writeln!(file, "# who may\nci:{}", bcrypt::hash(PASSWORD, 4).unwrap()).unwrap();
    let toml = format!("[clients]\nusers_file = {:?}", file.path());
    (file, toml)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes()))
}

fn image(name: &str, host: &str) -> Registry {
    Registry::new(host).image(name, Image::multi_layer())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_needs_a_password_and_says_so_in_its_status_text() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let (_file, toml) = users();
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    for (client, why) in [
        (seawall.client(), "a user name and a password are needed (clients.users_file)"),
        (seawall.client().proxy_user("ci", "wrong"), "wrong user name or password"),
        (seawall.client().proxy_user("ci", ""), "wrong user name or password"),
        (seawall.client().proxy_user("nobody", PASSWORD), "wrong user name or password"),
        (seawall.client().proxy_user("CI", PASSWORD), "wrong user name or password"),
    ] {
        for _ in 0..2 {
            match client.connect(TAG).await {
                Err(ClientError::Refused(status, reason, answer)) => {
                    let how = "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT";
                    assert_eq!((status, reason), (407, format!("Proxy Authentication Required: {why}: {how}")));
                    assert!(answer.to_lowercase().contains("proxy-authenticate: basic realm=\"seawall\""), "{answer}");
                }
                other => panic!("{why}: {:?}", other.map(|_| ())),
            }
        }
    }
    assert_eq!(registry.connections(), 0);
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"auth\"}"), 10.0);
    let client = seawall.client().proxy_user("ci", PASSWORD);
    for style in Style::ALL {
        client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    let connection = client.h2().connect(TAG).await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            connection.request(Method::GET, TAG).send().await.unwrap().status,
            200,
            "nothing more is asked within"
        );
    }
}

/// The answer is one that the connection outlives: curl says who it is after it was asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_asked_may_answer_on_the_same_connection() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let (_file, toml) = users();
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let mut raw = Raw::connect(seawall.addr()).await;
    let connect = format!("CONNECT {HUB}:443 HTTP/1.1\r\nHost: {HUB}:443\r\n");
    raw.send(format!("{connect}\r\n")).await;
    let asked = raw.read_until("PORT\n").await;
    assert!(
        asked.starts_with("HTTP/1.1 407 Proxy Authentication Required: a user name and a password are needed"),
        "{asked}"
    );
    let twice = format!("Proxy-Authorization: {0}\r\nProxy-Authorization: {0}\r\n", basic("ci", PASSWORD));
    for (line, expected) in [
        (
            "Proxy-Authorization: Bearer eA==\r\n",
            "HTTP/1.1 407 Proxy Authentication Required: the credential is not one of HTTP Basic",
        ),
        (
            "Proxy-Authorization: Basic !!!\r\n",
            "HTTP/1.1 407 Proxy Authentication Required: the credential is not one of HTTP Basic",
        ),
        (&twice, "HTTP/1.1 407 Proxy Authentication Required: the credential is not one of HTTP Basic"),
        // What is for an origin is not for a proxy.
        (
            &format!("Authorization: {}\r\n", basic("ci", PASSWORD)),
            "HTTP/1.1 407 Proxy Authentication Required: a user name",
        ),
    ] {
        raw.send(format!("{connect}{line}\r\n")).await;
        let asked = raw.read_until("PORT\n").await;
        assert!(asked.starts_with(expected), "{line}: {asked}");
    }
    raw.send(format!("{connect}proxy-authorization: {}\r\n\r\n", basic("ci", PASSWORD).replace("Basic", "bAsIc")))
        .await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200 Connection established"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_to_be_forwarded_needs_a_password_that_goes_no_further() {
    let pki = Pki::new();
    let lab = image("some/thing:1", "lab.test").plain().start(&pki).await;
    let other = image("some/thing:1", "files.test").plain().start(&pki).await;
    let (_file, toml) = users();
    let toml = format!(
        "{toml}\n[tunnel]\nports = [80, 443]\ndeny_networks = []\n[[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test\"]\n\
         upstreams = [{{ url = \"http://lab.test\" }}]"
    );
    let seawall = Seawall::before(&lab).front(&other).toml(&toml).start(&pki).await;
    let of_registry = basic("somebody", "else");
    for url in ["http://lab.test/v2/some/thing/manifests/1", "http://files.test/v2/some/thing/manifests/1"] {
        for client in [seawall.client(), seawall.client().proxy_user("ci", "wrong")] {
            // What is for the origin opens nothing here.
            let reply = client.get(url).basic("ci", PASSWORD).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("proxy-authenticate")), (407, "Basic realm=\"seawall\""));
        }
        assert_eq!(lab.requests().len() + other.requests().len(), 0);
        let client = seawall.client().proxy_user("ci", PASSWORD);
        let ask = client.get(url).header("authorization", &of_registry).header("accept", OCI_MANIFEST);
        let reply = ask.send().await.unwrap();
        assert_eq!(reply.status, 200, "{url}\n{}{}", lab.log(), other.log());
        let seen: Vec<Seen> = lab.requests().into_iter().chain(other.requests()).collect();
        assert!(!seen.is_empty());
        for seen in seen {
            assert_eq!(seen.header("proxy-authorization"), None, "{}", seen.line());
            assert!(seen.authorization().is_none_or(|value| value == of_registry), "{}", seen.line());
        }
        lab.reset_counts();
        other.reset_counts();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirror_needs_a_password_that_goes_no_further() {
    let pki = Pki::new();
    let registry = image("library/alpine:3.20", HUB).token_auth().start(&pki).await;
    let (_file, toml) = users();
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for path in ["/v2/", "/v2", "/v2/library/alpine/manifests/3.20", "/v2/_catalog", "/favicon.ico", "//v2/"] {
        for method in [Method::GET, Method::HEAD] {
            let url = format!("{MIRROR}{path}");
            let wrong = basic("ci", "wrong");
            let as_proxy = basic("ci", PASSWORD);
            for (name, value) in [("x", "y"), ("authorization", &wrong), ("proxy-authorization", &as_proxy)] {
                let reply = mirror.request(method.clone(), &url).header(name, value).send().await.unwrap();
                assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, "Basic realm=\"seawall\""));
                if method == Method::GET {
                    let error = &reply.json()["errors"][0];
                    assert_eq!(error["code"], "UNAUTHORIZED");
                    assert!(error["message"].as_str().unwrap().contains("docker login"), "{error}");
                }
            }
        }
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    // A client that shows nothing is asked: that is how HTTP goes. Only a wrong answer is a
    // refusal.
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"auth\"}"), 12.0);
    for style in Style::ALL {
        let pull = Pull::new("docker.io/library/alpine:3.20", style).at(MIRROR).user("ci", PASSWORD);
        pull.run(&mirror).await.unwrap_or_else(|error| panic!("{style:?}: {error}"));
    }
    let login = mirror.get(&format!("{MIRROR}/v2/")).basic("ci", PASSWORD).send().await.unwrap();
    assert_eq!(login.status, 200, "docker login");
    for seen in registry.requests() {
        assert!(!seen.authorization().unwrap_or_default().starts_with("Basic"), "{}", seen.line());
    }
    assert!(!registry.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_to_use_it_the_root_and_its_health_are_open() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let (_file, toml) = users();
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let client = Client::plain(seawall.addr());
    let root = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    let shown = { root }.env("SEAWALL_DATA", &seawall.data).args(["ca", "show"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let fingerprint = shown.lines().find_map(|line| line.strip_prefix("sha256")).unwrap().trim().to_owned();
    let fingerprint = fingerprint.as_str();
    for (path, holds) in [
        ("/", "HTTPS_PROXY"),
        ("/", "As a mirror"),
        ("/", fingerprint),
        ("/ca.crt", "BEGIN CERTIFICATE"),
        ("/healthz", "ok"),
    ] {
        let reply = client.get(&format!("{MIRROR}{path}")).send().await.unwrap();
        assert_eq!(reply.status, 200, "{path}");
        assert!(String::from_utf8_lossy(reply.bytes()).contains(holds), "{path}");
    }
    assert_eq!(seawall.metric("seawall_clients_refused_total"), 0.0);
}

/// A users_file that a client on port 443 walks around is no users_file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_by_dns_override_is_refused_where_there_are_users() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let other = image("some/thing:1", "files.example.test").start(&pki).await;
    let (_file, toml) = users();
    let toml = format!("{toml}\n[tunnel]\ndeny_networks = []");
    let seawall = Seawall::before(&registry).front(&other).toml(&toml).start(&pki).await;
    for url in [TAG, "https://files.example.test/v2/some/thing/manifests/1", "https://unknown.test/"] {
        for client in
            [Client::direct_tls(seawall.addr(), &seawall.ca_pem), Client::direct_tls(seawall.addr(), "").no_sni()]
        {
            let error = client.connect(url).await.err().expect("an alert").to_string();
            assert!(error.contains("AccessDenied"), "{url}: {error}");
        }
    }
    assert_eq!(registry.connections() + other.connections(), 0);
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"auth\"}"), 6.0);
}

/// Guesses wait for each other; who is known does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_guesses_is_in_nobodys_way() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("ci:{}\n", bcrypt::hash(PASSWORD, 9).unwrap())).unwrap();
    let toml = format!("[clients]\nusers_file = {:?}", file.path());
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let client = seawall.client().proxy_user("ci", PASSWORD);
    assert_eq!(client.get(TAG).send().await.unwrap().status, 200);
    let mut guesses = Vec::new();
    for n in 0..60 {
        let mut raw = Raw::connect(seawall.addr()).await;
        let guess = basic("ci", &n.to_string());
        raw.send(format!("CONNECT {HUB}:443 HTTP/1.1\r\nProxy-Authorization: {guess}\r\n\r\n")).await;
        guesses.push(raw);
    }
    for _ in 0..20 {
        assert_eq!(client.get(TAG).send().await.unwrap().status, 200);
    }
    assert!(seawall.metric("seawall_clients_refused_total{reason=\"auth\"}") < 60.0, "they were all checked meanwhile");
    let open = Client::plain(seawall.addr()).get(&format!("{MIRROR}/healthz")).send().await.unwrap();
    assert_eq!(open.status, 200);
}

/// Invariant 8 for passwords of the proxy's own.
#[test]
fn no_password_user_or_hash_is_logged() {
    alone("clients::logged_alone");
}

/// One thread, so that all of it is logged here.
#[tokio::test]
#[ignore = "no_password_user_or_hash_is_logged runs it"]
async fn logged_alone() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    std::fs::write(file.path(), format!("the-user:{hash}\n")).unwrap();
    let toml = format!("[clients]\nusers_file = {:?}\nproxy_protocol_from = [\"127.0.0.1\"]", file.path());
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let (client, stranger) = (
        seawall.client().preamble("PROXY TCP4 10.9.8.7 10.0.0.1 5 6\r\n"),
        seawall.client().preamble("PROXY TCP4 8.8.8.8 10.0.0.1 5 6\r\n"),
    );
    assert!(stranger.connect(TAG).await.is_err());
    assert!(client.clone().proxy_user("the-user", "wrong-guess").connect(TAG).await.is_err());
    assert!(client.clone().proxy_user("other-user", PASSWORD).connect(TAG).await.is_err());
    let user = client.clone().proxy_user("the-user", PASSWORD);
    assert_eq!(user.get(TAG).send().await.unwrap().status, 200);
    let mirror = Client::plain(seawall.addr()).preamble("PROXY TCP4 10.9.8.8 10.0.0.1 5 6\r\n");
    for password in [PASSWORD, "wrong-guess"] {
        mirror
            .get(&format!("{MIRROR}/v2/library/alpine/manifests/3.20"))
            .basic("the-user", password)
            .send()
            .await
            .unwrap();
    }
    let metrics = Client::plain(seawall.admin()).get("http://admin.test/metrics").send().await.unwrap();
    let metrics = String::from_utf8_lossy(metrics.bytes()).into_owned();
    seawall.stop().await;
    let logged = log.text();
    // What hyper and others say at TRACE is not for anybody's log: release builds have no such
    // level.
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains(" seawall::")).collect();
    let info = |text: &str| lines.iter().filter(|line| line.contains(" INFO ") && line.contains(text)).count();
    assert_eq!(info("8.8.8.8 is not in clients.allow client=8.8.8.8 reason=\"allow\""), 1, "{lines:#?}");
    assert_eq!(info("CONNECT: wrong user name or password client=10.9.8.7 reason=\"auth\""), 1, "once: {lines:#?}");
    assert_eq!(info("request client=10.9.8.7"), 1, "the client is the one of the header: {lines:#?}");
    let encoded = [basic("the-user", PASSWORD), basic("the-user", "wrong-guess")].map(|value| value[6..].to_owned());
    for secret in [PASSWORD, "the-user", "other-user", "wrong-guess", &hash[7..], &encoded[0], &encoded[1]] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} in the log");
        assert!(!metrics.contains(secret), "{secret} in the metrics");
    }
}
