//! What nobody should send: a clear answer or a closed connection, and nobody else is disturbed.

use std::sync::Arc;

use http::Method;
use seawall::config::{Config, Overrides};
use seawall::daemon::Daemon;

use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::target::within_connect;

const HUB: &str = "registry-1.docker.io";
const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";

async fn hub(pki: &Pki) -> Registry {
    Registry::new(HUB).image("library/alpine:3.20", Image::multi_layer()).start(pki).await
}

async fn started() -> (Pki, Registry, Seawall) {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    (pki, registry, seawall)
}

async fn still_serves(seawall: &Seawall) {
    let reply = seawall.client().get(TAG).send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.bytes()), (200, &Image::multi_layer().manifest()));
}

/// What comes back for these bytes until the other side closes; the sender has said all it will.
async fn sent(seawall: &Seawall, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(bytes).await;
    raw.half_close().await;
    raw.read_to_end().await
}

/// The head of what comes back; nothing when the other side closes.
async fn head_of(seawall: &Seawall, request: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(request).await;
    raw.read_until("\r\n\r\n").await
}

fn status(reply: &str) -> &str {
    reply.split(' ').nth(1).unwrap_or_default()
}

// Bytes.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_hung_up_on() {
    let (_pki, registry, seawall) = started().await;
    let garbage: &[&[u8]] = &[
        b"",
        b"\n",
        b"\r\n\r\n\r\n",
        b"\x00\x01\x02\x03",
        b"\xff\xff\xff\xff",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"get / http/1.1\r\n\r\n",
        b"EHLO mail.example\r\n",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff\x01\x00\xff\xff",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80",
    ];
    for bytes in garbage {
        let reply = sent(&seawall, bytes).await;
        assert!(!reply.starts_with("HTTP/1.1 2"), "{bytes:?}: {reply}");
    }
    // A ClientHello that never ends.
    let endless: Vec<u8> =
        std::iter::repeat_n([&b"\x16\x03\x01\x40\x00"[..], &[1, 0, 255, 255], &[0; 0x4000 - 4]].concat(), 8)
            .flatten()
            .collect();
    assert!(!sent(&seawall, endless).await.starts_with("HTTP"));
    still_serves(&seawall).await;
    assert_eq!(registry.count(|seen| !seen.path.contains("manifests")), 0, "{}", registry.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_is_no_request() {
    let (_pki, registry, seawall) = started().await;
    for half in [
        "G",
        "GET",
        "GET /v2/",
        "GET /v2/ HTTP/1.1\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a",
    ] {
        let reply = sent(&seawall, half).await;
        assert!(matches!(status(&reply), "" | "400"), "{half:?}: {reply}");
    }
    // A CONNECT, and then nothing, or something that is no TLS.
    for then in ["", "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", "\u{0}\u{1}", "\u{16}\u{3}"] {
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(format!("CONNECT {HUB}:443 HTTP/1.1\r\nHost: {HUB}:443\r\n\r\n{then}")).await;
        let head = raw.read_until("\r\n\r\n").await;
        assert_eq!(status(&head), "200", "{head}");
        raw.half_close().await;
        let rest = raw.read_to_end().await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{then:?}: {rest}");
    }
    still_serves(&seawall).await;
    assert_eq!(registry.gets("ping"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_by_the_hundred_are_in_nobodys_way() {
    let (_pki, _registry, seawall) = started().await;
    let starts: [&[u8]; 5] = [
        b"",
        b"CONN",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\nA: ",
        b"CONNECT registry-1.docker.io:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let mut half_open = Vec::new();
    for n in 0..500 {
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(starts[n % starts.len()]).await;
        half_open.push(raw);
    }
    for style in Style::ALL {
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
        assert_eq!(pulled.digest, Image::multi_layer().digest());
    }
    assert!(seawall.metric("seawall_connections") >= 400.0);
    drop(half_open);
}

// HTTP that is none.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_told_so() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    // Nobody is only answered because patience ran out.
    let seawall = Seawall::before(&registry).toml("client_timeout = \"10m\"").start(&pki).await;
    let long = "a".repeat(70_000);
    let flood: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let cases: &[(String, &[&str])] = &[
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), &["200"]),
        ("GET /healthz HTTP/1.0\r\n\r\n".into(), &["200"]),
        ("GET /healthz\r\n\r\n".into(), &["400", ""]),
        ("GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n".into(), &["400", "505", ""]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &["400", "505", ""]),
        ("GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["400"]),
        ("GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nA\0B: c\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".into(), &["400"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n".into(), &["400"]),
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"), &["431"]),
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{flood}\r\n"), &["431"]),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), &["414", "431"]),
        ("POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".into(), &["400"]),
        ("POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc".into(), &["400"]),
        ("POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc".into(), &["400"]),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(), &["400", "404", "405"]),
    ];
    for (request, statuses) in cases {
        let reply = head_of(&seawall, request).await;
        let short: String = request.chars().take(80).collect();
        assert!(statuses.contains(&status(&reply)), "{short:?}: {:?}", reply.chars().take(300).collect::<String>());
    }
    still_serves(&seawall).await;
}

/// The same on h2, where lists of fields have a limit of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_fields_on_h2_cost_their_own_request() {
    let (_pki, _registry, seawall) = started().await;
    let connection = seawall.client().h2().connect(TAG).await.unwrap();
    assert_eq!(connection.request(Method::GET, TAG).send().await.unwrap().status, 200);
    let long = "a".repeat(100_000);
    match connection.request(Method::GET, TAG).header("x-long", &long).send().await {
        Ok(reply) => assert_eq!(reply.status, 431),
        Err(error) => assert!(matches!(error, ClientError::Http(_)), "{error}"),
    }
    still_serves(&seawall).await;
}

/// RFC 9112, 6.1: what is framed twice is framed by one of the two for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_framed_twice_is_smuggled_past_nobody() {
    let pki = Pki::new();
    let plain = Registry::new("plain.test").plain().image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let toml = "[[registry]]\nname = \"plain\"\nhosts = [\"http://plain.test\"]\nupstreams = [{ url = \"http://plain.test\" }]";
    let seawall = Seawall::before(&plain).toml(toml).start(&pki).await;
    let smuggled = "GET /v2/some/thing/manifests/smuggled HTTP/1.1\r\nHost: plain.test\r\n\r\n";
    for fields in [
        format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{smuggled}", 5 + smuggled.len()),
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nabcde\r\n0\r\n\r\n".to_owned(),
    ] {
        let head = "POST http://plain.test/v2/some/thing/blobs/uploads/ HTTP/1.1\r\nHost: plain.test\r\n";
        let reply = head_of(&seawall, format!("{head}{fields}")).await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 "), "{reply}");
    }
    // What seawall read as a second request it may ask for as one; the registry saw no more than
    // seawall did.
    for seen in plain.requests() {
        let (length, chunked) = (seen.header("content-length").is_some(), seen.header("transfer-encoding").is_some());
        assert!(!(length && chunked), "framed twice upstream: {:?}", seen.headers);
    }
    let smuggled = plain.count(|seen| seen.path.ends_with("smuggled") && seen.method == Method::GET);
    assert_eq!(smuggled, 0, "{}", plain.log());
    let reply = Client::via_connect(seawall.addr(), "")
        .get("http://plain.test/v2/some/thing/manifests/1")
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status, 200, "{}", plain.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_credentials_are_none() {
    let (_pki, registry, seawall) = started().await;
    for client in [seawall.client(), seawall.client().h2()] {
        let reply = client.get(TAG).bearer("one").bearer("two").send().await.unwrap();
        assert_eq!((reply.status.as_u16(), code(&reply).as_str()), (400, "UNSUPPORTED"));
    }
    assert_eq!(registry.requests().len(), 0);
}

// Names.

fn code(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), "application/json");
    let json = reply.json();
    let message = json["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("seawall: "), "{message}");
    json["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_names_are_told_so_in_the_registries_json() {
    let (_pki, registry, seawall) = started().await;
    let good = sha256(b"");
    let (long, upper) = ("a".repeat(300), good.to_uppercase().replace("SHA256", "sha256"));
    let cases: &[(String, u16, &str)] = &[
        ("/v2/Library/alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/-bad/manifests/3.20".into(), 400, "NAME_INVALID"),
        (format!("/v2/{long}/manifests/3.20"), 400, "NAME_INVALID"),
        ("/v2/library//alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library/../alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library/./alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/../v2/library/alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library%2Falpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library/alpine/%6danifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library/%2e%2e/alpine/manifests/3.20".into(), 400, "NAME_INVALID"),
        ("/v2/library/alpine/blobs/sha256:abc".into(), 400, "DIGEST_INVALID"),
        (format!("/v2/library/alpine/blobs/{upper}"), 400, "DIGEST_INVALID"),
        (format!("/v2/library/alpine/blobs/{good}0"), 400, "DIGEST_INVALID"),
        ("/v2/library/alpine/blobs/latest".into(), 400, "DIGEST_INVALID"),
        ("/v2/library/alpine/manifests/sha256:zz".into(), 400, "DIGEST_INVALID"),
        ("/v2/library/alpine/manifests/.hidden".into(), 404, "MANIFEST_UNKNOWN"),
        (format!("/v2/library/alpine/manifests/{long}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/library/alpine/manifests/a%20b".into(), 400, "NAME_INVALID"),
        ("/v2/library/alpine/manifests/a+b".into(), 404, "MANIFEST_UNKNOWN"),
    ];
    let mirror = Client::plain(seawall.addr());
    for (path, status, expected) in cases {
        for client in [seawall.client(), seawall.client().h2()] {
            let reply = client.get(&format!("https://{HUB}{path}")).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), code(&reply).as_str()), (*status, *expected), "{path}");
            let head = client.head(&format!("https://{HUB}{path}")).send().await.unwrap();
            assert_eq!((head.status.as_u16(), head.bytes().len()), (*status, 0), "{path}");
        }
        let reply = mirror.get(&format!("http://mirror.test{path}")).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), code(&reply).as_str()), (*status, *expected), "{path} at the mirror");
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
}

/// Pitfall 33: what is not there is told by its own code, though upstream was asked by HEAD, which
/// says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_told_by_its_own_code() {
    let (_pki, _registry, seawall) = started().await;
    for client in [seawall.client(), seawall.client().h2()] {
        for (path, expected) in [
            ("manifests/nothing".to_owned(), "MANIFEST_UNKNOWN"),
            (format!("manifests/{}", sha256(b"nothing")), "MANIFEST_UNKNOWN"),
            (format!("blobs/{}", sha256(b"nothing")), "BLOB_UNKNOWN"),
        ] {
            let url = format!("https://{HUB}/v2/library/alpine/{path}");
            let reply = client.get(&url).send().await.unwrap();
            assert_eq!(reply.status, 404, "{path}");
            assert_eq!(reply.json()["errors"][0]["code"], expected, "{path}");
            assert_eq!(client.head(&url).send().await.unwrap().status, 404, "{path}");
        }
    }
}

// The wrong place.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_connects_are_refused() {
    let (_pki, _registry, seawall) = started().await;
    for (authority, statuses) in [
        (HUB, &["400"][..]),
        ("", &["400"]),
        (":443", &["400"]),
        ("registry-1.docker.io:0", &["400", "403"]),
        ("registry-1.docker.io:65536", &["400"]),
        ("registry-1.docker.io:443:443", &["400"]),
        ("registry-1.docker.io:-1", &["400"]),
        ("user@registry-1.docker.io:443", &["400"]),
        ("[::1]:443", &["403"]),
        ("[::ffff:127.0.0.1]:443", &["403"]),
        ("[::1:443", &["400"]),
        ("127.0.0.1:443", &["403"]),
        ("127.1:443", &["400", "403", "502"]),
        ("2130706433:443", &["400", "403", "502"]),
        ("0.0.0.0:443", &["403"]),
        ("169.254.169.254:443", &["403"]),
        ("http://registry-1.docker.io/", &["400"]),
        ("/v2/", &["400"]),
        ("*", &["400"]),
    ] {
        let reply = head_of(&seawall, format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(statuses.contains(&status(&reply)), "{authority:?}: {reply}");
    }
    still_serves(&seawall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_for_a_proxy_is_not_for_a_registry() {
    let (_pki, registry, seawall) = started().await;
    for (line, host, expected) in [
        // Absolute-form inside TLS: for another host, and for this one.
        ("GET https://ghcr.io/v2/ HTTP/1.1", "ghcr.io", "421"),
        ("GET https://ghcr.io/v2/ HTTP/1.1", HUB, "421"),
        ("GET http://127.0.0.1/v2/ HTTP/1.1", "127.0.0.1", "421"),
        ("GET https://registry-1.docker.io@ghcr.io/v2/ HTTP/1.1", HUB, "421"),
        ("GET https://registry-1.docker.io/v2/library/alpine/manifests/3.20 HTTP/1.1", HUB, "200"),
        ("CONNECT registry-1.docker.io:443 HTTP/1.1", HUB, "405"),
        ("CONNECT ghcr.io:443 HTTP/1.1", "ghcr.io:443", "405"),
        ("OPTIONS * HTTP/1.1", HUB, "400"),
        ("GET @ghcr.io/v2/ HTTP/1.1", HUB, "400"),
        ("GET ghcr.io:443 HTTP/1.1", HUB, "421"),
        ("PRI * HTTP/2.0", HUB, "400"),
    ] {
        let request = format!("{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let reply = within_connect(&seawall, HUB, &request).await;
        assert_eq!(status(&reply), expected, "{line}: {reply}");
    }
    let h2 = seawall.client().h2().request(Method::CONNECT, TAG).send().await;
    assert!(!h2.is_ok_and(|reply| reply.status.is_success()));
    still_serves(&seawall).await;
    assert_eq!(registry.gets("ping"), 0);
}

/// Pitfall 17, the nearest address of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_itself_is_refused_before_it_goes_round() {
    // Ports that tunnels may reach have to be known beforehand.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (data_port, admin) = (free(), free());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seawall.toml");
    let text = format!(
        "listen = [\"{data_port}\"]\nadmin = \"{admin}\"\ndata = {:?}\n[tunnel]\ndeny_networks = []\nports = [{}, {}]\n[upstream]\nhosts = {{ \"loop.example.test\" = \"{data_port}\" }}\n",
        dir.path().join("data"),
        data_port.port(),
        admin.port(),
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), std::iter::empty(), Overrides::default()).unwrap();
    let daemon = Daemon::start(config).await.unwrap();
    let client = Client::via_connect(data_port, "");
    for authority in [data_port.to_string(), admin.to_string(), format!("loop.example.test:{}", data_port.port())] {
        let mut raw = Raw::connect(data_port).await;
        raw.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let reply = raw.read_until("\r\n\r\n").await;
        assert_eq!(status(&reply), "403", "{authority}: {reply}");
        let reply = client.get(&format!("http://{authority}/healthz")).send().await.unwrap();
        assert!(!reply.status.is_success(), "{authority}: {}", reply.status);
        code(&reply);
    }
    assert_eq!(Client::plain(data_port).get(&format!("http://{data_port}/healthz")).send().await.unwrap().status, 200);
    daemon.drain().await;
}

/// Everything at once, and a pull in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_goes_on_through_a_storm() {
    let pki = Pki::new();
    let blob = Blob::generated(41, 2 << 20);
    let registry = Registry::new(HUB)
        .image("library/alpine:3.20", Image::multi_layer())
        .blob("library/big", blob.clone())
        .start(&pki)
        .await;
    let gate = registry.gate_blob(&blob.digest(), 1 << 20);
    let seawall = Arc::new(Seawall::before(&registry).start(&pki).await);
    let url = format!("https://{HUB}/v2/library/big/blobs/{}", blob.digest());
    let mut download = seawall.client().get(&url).open().await.unwrap();
    download.read_exactly(1000).await.unwrap();
    let storm = (0..8).map(|n| {
        let seawall = seawall.clone();
        tokio::spawn(async move {
            for round in 0..20 {
                let bytes: Vec<u8> = Blob::generated(n * 100 + round, 500).bytes().to_vec();
                sent(&seawall, bytes).await;
                sent(&seawall, format!("GET /{n} HTTP/1.1\r\n{}", "A: b\r\n".repeat(150))).await;
                let gone = seawall.client().get(TAG).open().await.unwrap();
                drop(gone);
            }
        })
    });
    for task in storm.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    gate.open();
    let rest = download.rest().await.unwrap();
    assert!(blob.holds(1000, &rest) && rest.len() as u64 == blob.len() - 1000);
    still_serves(&seawall).await;
}
