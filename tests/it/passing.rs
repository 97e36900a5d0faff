//! What is no pull passes: streamed both ways, untouched but for what is between two neighbours.

use std::time::{Duration, Instant};

use http::Method;

use crate::harness::exchange::Reply;
use crate::harness::image::{OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;

const GHCR: &str = "https://ghcr.io";

async fn ghcr(pki: &Pki) -> Registry {
    Registry::new("ghcr.io").image("a/b:1", Image::multi_layer()).page(2).start(pki).await
}

async fn send(client: &Client, method: Method, path: &str, body: &'static [u8]) -> Reply {
    client.request(method, &format!("{GHCR}{path}")).body(body).send().await.unwrap()
}

/// The registry `lab`, in the clear, behind a seawall that bare bytes can be sent to.
async fn lab(pki: &Pki) -> (Registry, Seawall) {
    let registry = Registry::new("lab").plain().image("a/b:1", Image::multi_layer()).start(pki).await;
    let toml = "[[registry]]\nname = \"lab\"\nhosts = [\"http://lab\"]\nupstreams = [{ url = \"http://lab\" }]";
    let seawall = Seawall::before(&registry).toml(toml).start(pki).await;
    (registry, seawall)
}

/// docs/protocol.md 0.12: byte N is upstream before byte N+1 was sent, whatever is spoken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_streamed_and_not_gathered() {
    let pki = Pki::new();
    for registry in [Registry::new("ghcr.io").only_h1(), Registry::new("ghcr.io").only_h2()] {
        let registry = registry.start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        for client in [seawall.client(), seawall.client().h2()] {
            let bytes = b"some bytes that come one by one";
            let url = format!("{GHCR}/v2/a/b/blobs/uploads/?digest={}", sha256(bytes));
            let (feed, ask) = client.request(Method::POST, &url).fed();
            let feeding = async {
                for n in 0..bytes.len() {
                    feed.send(bytes[n..=n].to_vec().into()).await.unwrap();
                    registry.until(|r| r.requests().last().is_some_and(|seen| seen.received() == n as u64 + 1)).await;
                }
                drop(feed);
            };
            let (reply, ()) = tokio::join!(ask.send(), feeding);
            assert_eq!(reply.unwrap().status, 201, "{}", registry.log());
            assert_eq!(registry.stored("a/b", &sha256(bytes)).as_deref(), Some(&bytes[..]));
            registry.remove("a/b", &sha256(bytes));
            registry.reset_counts();
        }
    }
}

/// An upload may take longer than the idle timeout, as long as bytes go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_not_cut_short_while_bytes_flow() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml("[upstream]\nCA_FILE\nidle_timeout = \"1s\"").start(&pki).await;
    let client = seawall.client();
    let (feed, ask) = client.request(Method::POST, &format!("{GHCR}/v2/a/b/blobs/uploads/?digest=sha256:0")).fed();
    let feeding = async {
        let (began, mut sent) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(1500) {
            feed.send("x".into()).await.unwrap();
            sent += 1;
            registry.until(|r| r.requests().last().is_some_and(|seen| seen.received() == sent)).await;
        }
        drop(feed);
    };
    let (reply, ()) = tokio::join!(ask.send(), feeding);
    assert_eq!(
        reply.unwrap().json()["errors"][0]["code"],
        "DIGEST_INVALID",
        "all of it came, and upstream had its say"
    );
}

/// An upload that stands still is ended, and the client is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stands_still_is_given_up() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).toml("[upstream]\nCA_FILE\nidle_timeout = \"100ms\"").start(&pki).await;
    let client = seawall.client();
    let (feed, ask) = client.request(Method::POST, &format!("{GHCR}/v2/a/b/blobs/uploads/")).fed();
    feed.send("x".into()).await.unwrap();
    let reply = ask.send().await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (504, "application/json"));
    drop(feed);
}

/// A registry may take minutes to commit what is all sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_all_sent_is_waited_for() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    for (upload_timeout, body, status) in
        [("forever", "x", 202), ("200ms", "x", 504), ("200ms", "", 504), ("forever", "", 202)]
    {
        let toml = format!("[upstream]\nCA_FILE\nidle_timeout = \"100ms\"\nupload_timeout = {upload_timeout:?}");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        let client = seawall.client();
        let begun = client.request(Method::POST, &format!("{GHCR}/v2/a/b/blobs/uploads/")).send().await.unwrap();
        let gate = Gate::new();
        registry.fault(Fault::on("uploads").hold_head(&gate).times(1));
        let location = begun.header("location").to_owned();
        let url = if location.starts_with('/') { format!("{GHCR}{location}") } else { location };
        let ask = client.request(Method::PATCH, &url).body(body).send();
        let reply = match status {
            504 => ask.await,
            // Longer than the idle timeout, which does not end it.
            _ => {
                let open = async {
                    gate.reached().await;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    gate.open();
                };
                tokio::join!(ask, open).0
            }
        };
        gate.open();
        assert_eq!(reply.unwrap().status, status, "{upload_timeout} {body:?}");
        registry.clear_faults();
    }
}

/// The time for the commit counts from the last byte, also where silence may last longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_has_its_own_time_however_long_silence_may_be() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let toml = "[upstream]\nCA_FILE\nidle_timeout = \"10m\"\nupload_timeout = \"200ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("uploads").hold_head(&gate));
    let url = format!("{GHCR}/v2/a/b/blobs/uploads/?digest={}", sha256(b"hello"));
    assert_eq!(seawall.client().request(Method::POST, &url).body("hello").send().await.unwrap().status, 504);
    gate.open();
}

/// hyper tells of `100 Continue` by HTTP/1.1 alone: over HTTP/2 nobody waits for what is never told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_to_http_2_does_not_wait_for_100() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let digest = sha256(b"hello");
    let url = format!("{GHCR}/v2/a/b/blobs/uploads/?digest={digest}");
    let began = Instant::now();
    let ask = seawall.client().request(Method::POST, &url).header("expect", "100-continue").body("hello").send().await;
    assert_eq!(ask.unwrap().status, 201, "{}", registry.log());
    assert_eq!(registry.requests().last().unwrap().version, http::Version::HTTP_2);
    assert!(began.elapsed() < Duration::from_millis(1900), "it waited for 100: {:?}", began.elapsed());
}

/// RFC 9110 10.1.1: what upstream says before the body is sent reaches the client before it sends
/// one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_upstreams_to_answer() {
    let pki = Pki::new();
    let (registry, seawall) = lab(&pki).await;
    let digest = sha256(b"hello");
    let head = format!(
        "POST http://lab/v2/a/b/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    for status in [401, 413, 429] {
        registry.fault(Fault::on("uploads").error(status, "DENIED").times(1));
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(&head).await;
        let reply = raw.read_until("\r\n\r\n").await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "no 100 before: {reply}");
        assert_eq!(registry.requests().last().unwrap().received(), 0);
    }
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(&head).await;
    assert_eq!(raw.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(registry.requests().last().unwrap().received(), 0, "upstream said go on before it had a byte");
    raw.send("hello").await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 201 Created\r\n"));
    assert_eq!(registry.stored("a/b", &digest).as_deref(), Some(&b"hello"[..]));
    assert_eq!(registry.requests().last().unwrap().header("expect"), Some("100-continue"));
}

/// Session, chunks, a wrong chunk, status, the last PUT; the Location is upstream's to the letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_push_goes_through_as_it_is() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for client in [seawall.client(), seawall.client().h2()] {
        let started = send(&client, Method::POST, "/v2/a/b/blobs/uploads/", b"").await;
        assert_eq!((started.status.as_u16(), started.header("range")), (202, "0-0"));
        let location = started.header("location").to_owned();
        assert!(
            location.starts_with("/v2/a/b/blobs/uploads/upload-") && location.ends_with("?_state=opaque%2Fof%200"),
            "{location}"
        );
        assert!(
            location.contains(started.header("docker-upload-uuid")) && !started.header("docker-upload-uuid").is_empty()
        );
        let patch = async |range: &str, body: &'static str| {
            let (feed, ask) =
                client.request(Method::PATCH, &format!("{GHCR}{location}")).header("content-range", range).fed();
            let (reply, _) = tokio::join!(ask.send(), async move { feed.send(body.into()).await });
            let reply = reply.unwrap();
            (reply.status.as_u16(), reply.header("range").to_owned())
        };
        assert_eq!(patch("0-2", "hel").await, (202, "0-2".to_owned()));
        assert_eq!(registry.requests().last().unwrap().query.as_deref(), Some("_state=opaque%2Fof%200"));
        assert_eq!(patch("9-9", "x").await.0, 416);
        let status = send(&client, Method::GET, &location, b"").await;
        assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-2"));
        let digest = sha256(b"hello");
        let done = send(&client, Method::PUT, &format!("{location}&digest={digest}"), b"lo").await;
        assert_eq!((done.status.as_u16(), done.header("docker-content-digest")), (201, &*digest));
        let mounted =
            send(&client, Method::POST, &format!("/v2/c/d/blobs/uploads/?mount={digest}&from=a/b"), b"").await;
        assert_eq!((mounted.status.as_u16(), mounted.header("location")), (201, &*format!("/v2/c/d/blobs/{digest}")));
        let gone = send(&client, Method::DELETE, &format!("/v2/c/d/blobs/{digest}"), b"").await;
        assert_eq!(gone.status, 202);
        assert_eq!(client.get(&format!("{GHCR}/v2/c/d/blobs/{digest}")).send().await.unwrap().status, 404);
    }
}

/// Lists, referrers, the catalog, subjects: mutable, so always upstream's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_upstreams_with_their_fields() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    for tag in ["2", "3"] {
        registry.add_image(&format!("a/b:{tag}"), &Image::multi_layer());
    }
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    for n in 1..3 {
        let tags = send(&client, Method::GET, "/v2/a/b/tags/list?n=2", b"").await;
        assert_eq!(tags.json()["tags"], serde_json::json!(["1", "2"]));
        assert_eq!(
            (tags.header("link"), tags.header("cache-status")),
            (r#"</v2/a/b/tags/list?n=2&last=2>; rel="next""#, "seawall; fwd=bypass")
        );
        assert_eq!(send(&client, Method::GET, "/v2/_catalog", b"").await.json()["repositories"][0], "a/b");
        assert_eq!((registry.gets("tags"), registry.gets("catalog")), (n, n));
    }
    let subject = Image::multi_layer().digest();
    let signature =
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","artifactType":"sig","subject":{{"digest":"{subject}"}}}}"#);
    let put = client.request(Method::PUT, &format!("{GHCR}/v2/a/b/manifests/{}", sha256(signature.as_bytes())));
    let pushed = put.header("content-type", OCI_MANIFEST).body(signature).send().await.unwrap();
    assert_eq!((pushed.status.as_u16(), pushed.header("oci-subject")), (201, &*subject));
    let referrers = send(&client, Method::GET, &format!("/v2/a/b/referrers/{subject}?artifactType=sig"), b"").await;
    assert_eq!(referrers.json()["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(
        (referrers.header("content-type"), referrers.header("oci-filters-applied")),
        (OCI_INDEX, "artifactType")
    );
}

/// RFC 9110 7.6.1, both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_between_neighbours_stays_there() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.fault(
        Fault::on("tags").set("alt-svc", "h3=\":443\"").set("proxy-authenticate", "Basic").set("x-theirs", "kept"),
    );
    let client = seawall.client();
    let ask = client
        .get(&format!("{GHCR}/v2/a/b/tags/list"))
        .header("connection", "x-hop, authorization")
        .header("x-hop", "1");
    let ask = ask.header("proxy-authorization", "Basic dTpw").header("te", "trailers").header("keep-alive", "5");
    let reply = ask.header("x-mine", "kept").bearer("mine").send().await.unwrap();
    let seen = &registry.requests()[0];
    for name in ["x-hop", "proxy-authorization", "te", "keep-alive", "connection"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(
        (seen.header("x-mine"), seen.authorization()),
        (Some("kept"), Some("Bearer mine")),
        "Connection cannot name what is everybody's"
    );
    assert_eq!(
        (reply.header("alt-svc"), reply.header("proxy-authenticate"), reply.header("x-theirs")),
        ("", "", "kept")
    );
    assert_eq!(seen.authority, "ghcr.io");
}

/// What is not understood is upstream's to answer, errors included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_methods_paths_and_errors_pass() {
    let pki = Pki::new();
    let registry = ghcr(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    for (method, path) in [
        ("OPTIONS", "/v2/"),
        ("PROPFIND", "/v2/a/b/manifests/1"),
        ("POST", "/v2/a/b/_custom?x=%2F..%2F"),
        ("GET", "/v2/a/b/_custom/"),
        ("GET", "/"),
        ("GET", "/api/v1/x"),
        ("GET", "/v2/a/b/blobs/blake3:0000"),
    ] {
        registry.reset_counts();
        let reply = client.request(method.parse().unwrap(), &format!("{GHCR}{path}")).send().await.unwrap();
        let seen = &registry.requests()[0];
        let sent = seen.query.as_ref().map_or(seen.path.clone(), |query| format!("{}?{query}", seen.path));
        assert_eq!((seen.method.as_str(), &*sent, seen.status()), (method, path, reply.status.as_u16()));
        assert!(reply.status.is_client_error() && reply.json()["errors"][0]["code"].is_string(), "{path}");
    }
    let invalid = send(&client, Method::PUT, "/v2/a/b/manifests/1", b"no manifest").await;
    assert_eq!((invalid.status.as_u16(), &invalid.json()["errors"][0]["code"]), (400, &"MANIFEST_INVALID".into()));
    registry.fault(Fault::on("uploads").status(503, "maintenance until noon").set("retry-after", "60"));
    let away = send(&client, Method::POST, "/v2/a/b/blobs/uploads/", b"").await;
    assert_eq!(
        (away.status.as_u16(), away.header("retry-after"), &away.bytes()[..]),
        (503, "60", &b"maintenance until noon"[..])
    );
    registry.down();
    let nobody = send(&client, Method::POST, "/v2/a/b/blobs/uploads/", b"").await;
    assert_eq!((nobody.status.as_u16(), nobody.json()["errors"][0]["code"].as_str()), (502, Some("UNAVAILABLE")));
}

/// A push that needs a token: the challenge is upstream's, the token the client's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_for_who_may() {
    let pki = Pki::new();
    let registry =
        Registry::new("ghcr.io").user("alice", "secret").private("a/b", &["alice"]).token_auth().start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let refused = send(&client, Method::POST, "/v2/a/b/blobs/uploads/", b"").await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.header("www-authenticate").contains(r#"scope="repository:a/b:pull,push""#),
        "{:?}",
        refused.headers
    );
    let url = format!("{GHCR}/token?service=ghcr.io&scope=repository:a/b:pull,push&account=alice");
    let token =
        client.get(&url).basic("alice", "secret").send().await.unwrap().json()["token"].as_str().unwrap().to_owned();
    let url = format!("{GHCR}/v2/a/b/blobs/uploads/?digest={}", sha256(b"x"));
    assert_eq!(client.request(Method::POST, &url).bearer(&token).body("x").send().await.unwrap().status, 201);
    let blob = format!("{GHCR}/v2/a/b/blobs/{}", sha256(b"x"));
    assert_eq!(client.head(&blob).bearer(&token).send().await.unwrap().status, 200);
    assert_eq!(client.get(&blob).send().await.unwrap().status, 401);
}
