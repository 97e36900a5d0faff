//! The fakes are what they claim to be.

use http::{Method, Version};

use super::{
    ANONYMOUS_SOURCE, Algorithm, Alpn, Blob, Client, ClientError, Fault, Hash, Image, Pki, Pull, Registry, Style,
};
use super::{ForwardProxy, Raw, sha256};

const HUB: &str = "registry-1.docker.io";
const CDN: &str = "cdn.example.test";

pub(super) fn direct(registry: &Registry, pki: &Pki) -> Client {
    Client::resolving(registry.hosts(), &pki.ca_pem())
}

fn url(host: &str, path: &str) -> String {
    format!("https://{host}/v2/{path}")
}

/// A repository `a/b` with one blob on a host without tokens; the blob's URL.
pub(super) async fn one_blob(pki: &Pki, blob: &Blob) -> (Registry, String) {
    let registry = Registry::new("r.test").blob("a/b", blob.clone()).start(pki).await;
    let url = url("r.test", &format!("a/b/blobs/{}", blob.digest()));
    (registry, url)
}

pub(super) fn for_h1_and_h2(client: &Client) -> [Client; 2] {
    [client.clone(), client.clone().h2()]
}

#[tokio::test]
async fn every_style_pulls_with_tokens_and_a_cdn() {
    let pki = Pki::new();
    let image = Image::two_platforms();
    let registry = Registry::new(HUB).image("library/alpine:3.20", image.clone()).token_auth().cdn(CDN).quota(100);
    let registry = registry.start(&pki).await;
    for (style, heads, gets) in [(Style::Docker, 1, 2), (Style::Containerd, 2, 2), (Style::Podman, 0, 2)] {
        for client in for_h1_and_h2(&direct(&registry, &pki)) {
            registry.reset_counts();
            let pulled = client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
            assert_eq!(pulled.digest, image.digest());
            assert_eq!((pulled.manifests.len(), pulled.blobs.len()), (2, 3));
            assert!(pulled.cache_status.iter().all(String::is_empty), "no cache here");
            let layer = &image.platforms()[0].layers()[1];
            assert!(layer.holds(0, &pulled.blobs[&layer.digest()]));
            assert_eq!((registry.heads("manifests"), registry.gets("manifests")), (heads, gets), "{}", registry.log());
            assert_eq!((registry.gets("token"), registry.gets("blobs"), registry.gets("cdn")), (1, 3, 3));
            assert!(registry.on_host(CDN).iter().all(|seen| seen.authorization().is_none() && seen.status() == 200));
            assert!(registry.sent() > pulled.blob_bytes);
            assert_eq!(registry.connections() as usize, registry.requests().len());
        }
    }
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(100 - 12));
}

#[tokio::test]
async fn private_repositories_are_for_their_users() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").image("acme/app:1", Image::single(&[b"secret"])).token_auth();
    let registry = registry.private("acme/app", &["alice"]).user("alice", "a").user("bob", "b").start(&pki).await;
    let client = direct(&registry, &pki);
    for style in Style::ALL {
        let pull = Pull::new("ghcr.io/acme/app:1", style);
        assert!(pull.clone().user("alice", "a").run(&client).await.is_ok());
        for refused in [pull.clone(), pull.clone().user("bob", "b"), pull.clone().user("alice", "wrong")] {
            assert!(matches!(refused.run(&client).await, Err(ClientError::Pull(_))));
        }
        registry.make_public("acme/app");
        assert!(pull.run(&client).await.is_ok());
        registry.make_private("acme/app", &["alice"]);
    }
    assert_eq!(registry.count(|seen| seen.method == Method::POST && seen.kind() == "token"), 3);
    registry.revoke_tokens();
    let reply = client.get(&url("ghcr.io", "acme/app/manifests/1")).bearer("token-1-alice.").send().await.unwrap();
    assert!(reply.header("www-authenticate").ends_with(r#"scope="repository:acme/app:pull",error="invalid_token""#));
    assert_eq!(reply.json()["errors"][0]["code"], "UNAUTHORIZED");
}

#[tokio::test]
async fn what_is_private_can_be_hidden_and_a_part_of_a_repository() {
    let pki = Pki::new();
    let image = Image::single(&[b"secret"]);
    for hides in [false, true] {
        let registry = Registry::new("ghcr.io").image("acme/app:1", image.clone()).token_auth();
        let registry = registry.image("acme/app:2", Image::single(&[b"open"])).user("alice", "a").user("bob", "b");
        let registry = if hides { registry.hides() } else { registry }.start(&pki).await;
        let client = direct(&registry, &pki);
        let token = async |user: &str, password: &str| {
            let ask = client.get("https://ghcr.io/token?service=ghcr.io&scope=repository:acme/app:pull");
            ask.basic(user, password).send().await.unwrap().json()["token"].as_str().unwrap().to_owned()
        };
        let (alice, bob) = (token("alice", "a").await, token("bob", "b").await);
        let get = async |path: &str, token: &str| {
            client.get(&url("ghcr.io", path)).bearer(token).send().await.unwrap().status.as_u16()
        };
        registry.make_private_within("acme/app", "1", &image, &["alice"]);
        let layer = format!("acme/app/blobs/{}", image.layers()[0].digest());
        let paths = ["acme/app/manifests/1", &format!("acme/app/manifests/{}", image.digest()), &layer];
        for path in paths {
            assert_eq!((get(path, &alice).await, get(path, &bob).await), (200, 404), "{path}");
        }
        assert_eq!(get("acme/app/manifests/2", &bob).await, 200);
        registry.make_private("acme/app", &["alice"]);
        let refused = if hides { 404 } else { 401 };
        assert_eq!((get(&layer, &alice).await, get(&layer, &bob).await), (200, refused));
        assert_eq!(get(&layer, "made-up").await, 401);
    }
}

#[tokio::test]
async fn tokens_can_be_long_short_lived_and_elsewhere() {
    let pki = Pki::new();
    let registry = Registry::new("r.test").token_auth_at("auth.test").token_length(9000).token_life(None);
    let registry = registry.realm("https://auth.test/token?kept=1").alias("also.test").start(&pki).await;
    let client = direct(&registry, &pki);
    let reply = client.get(&url("also.test", "")).send().await.unwrap();
    assert!(
        reply
            .header("www-authenticate")
            .starts_with(r#"Bearer realm="https://auth.test/token?kept=1",service="r.test""#)
    );
    let ask = "https://auth.test/token?scope=repository%3Aa/b:pull&scope=repository:c:pull&offline_token=true";
    let reply = client.get(ask).send().await.unwrap().json();
    assert!(reply["token"].as_str().unwrap().len() >= 9000 && reply.get("expires_in").is_none());
    assert_eq!(registry.on_host("auth.test")[0].param("scope").as_deref(), Some("repository:a/b:pull"));
    assert_ne!(registry.addr("r.test"), registry.addr("auth.test"));
}

#[tokio::test]
async fn basic_as_ecr() {
    let pki = Pki::new();
    let host = "1.dkr.ecr.eu-west-1.amazonaws.com";
    let registry = Registry::new(host).image("app:1", Image::single(&[b"x"]).docker()).basic_auth().user("AWS", "pw");
    let registry = registry.start(&pki).await;
    let client = direct(&registry, &pki);
    for style in Style::ALL {
        let pull = Pull::new(&format!("{host}/app:1"), style);
        assert!(pull.run(&client).await.is_err());
        assert_eq!(pull.user("AWS", "pw").run(&client).await.unwrap().blobs.len(), 2);
    }
    let reply = client.get(&url(host, "")).basic("AWS", "no").send().await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.bytes()[..]), (401, &b"Not Authorized\n"[..]));
}

#[tokio::test]
async fn signed_urls_expire_and_take_no_other_credential() {
    let pki = Pki::new();
    let blob = Blob::generated(4, 1000);
    let registry = Registry::new("r.test").blob("a/b", blob.clone()).cdn(CDN).signed_urls_expire_after(1);
    let registry = registry.start(&pki).await;
    let client = direct(&registry, &pki);
    let blob_url = url("r.test", &format!("a/b/blobs/{}", blob.digest()));
    let location = async || client.get(&blob_url).send().await.unwrap().header("location").to_owned();
    let signed = location().await;
    assert_eq!(client.get(&signed).bearer("t").send().await.unwrap().status, 400);
    assert_eq!(
        client.get(&signed).range("bytes=-10").send().await.unwrap().header("content-range"),
        "bytes 990-999/1000"
    );
    assert_eq!(client.get(&signed).send().await.unwrap().status, 403);
    let signed = location().await;
    registry.expire_signed_urls();
    assert_eq!(client.get(&signed).send().await.unwrap().status, 403);
    registry.fault(Fault::on("blobs").long_location(4096));
    assert!(location().await.len() > 4096);
    let gate = registry.gate_blob(&blob.digest(), 999);
    gate.open();
    assert_eq!(client.get(&location().await).send().await.unwrap().bytes().len(), 1000);
    assert_eq!(gate.arrivals(), 1);
}

#[tokio::test]
async fn quota_counts_gets_and_not_heads() {
    let pki = Pki::new();
    let registry = Registry::new("r.test").image("a/b:1", Image::multi_layer()).quota(2).start(&pki).await;
    let client = direct(&registry, &pki);
    let url = url("r.test", "a/b/manifests/1");
    let remaining = async |method: Method| {
        let reply = client.request(method, &url).send().await.unwrap();
        (reply.status.as_u16(), reply.header("ratelimit-remaining").to_owned())
    };
    assert_eq!(remaining(Method::HEAD).await, (200, "2;w=21600".to_owned()));
    assert_eq!(remaining(Method::GET).await, (200, "1;w=21600".to_owned()));
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    assert_eq!(remaining(Method::GET).await, (429, "0;w=21600".to_owned()));
    assert_eq!(remaining(Method::HEAD).await, (200, "0;w=21600".to_owned()));
    let etag = client.head(&url).send().await.unwrap().header("etag").to_owned();
    registry.set_remaining(ANONYMOUS_SOURCE, 2);
    assert_eq!(client.get(&url).header("if-none-match", &etag).send().await.unwrap().status, 304);
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(1), "a 304 is counted");
}

#[tokio::test]
async fn tags_move_and_answer_by_accept() {
    let pki = Pki::new();
    let (index, other) = (Image::two_platforms().docker(), Image::single(&[b"other"]));
    let registry = Registry::new("r.test").image("a/b:1", index.clone()).page(2).start(&pki).await;
    let client = direct(&registry, &pki);
    let tag = url("r.test", "a/b/manifests/1");
    let digest = async |accept: &str| {
        let reply = client.head(&tag).header("accept", accept).send().await.unwrap();
        reply.header("docker-content-digest").to_owned()
    };
    assert_eq!(digest("application/vnd.docker.distribution.manifest.v2+json").await, index.platforms()[0].digest());
    assert_eq!(digest("text/plain, */*;q=0.1").await, index.digest());
    let moved = registry.add_image("a/b:2", &other);
    registry.tag("a/b", "1", &moved);
    assert_eq!((digest("*/*").await, registry.tagged("a/b", "1")), (moved.clone(), Some(moved)));
    registry.add_manifest("a/b", "3", "application/json", "{}");
    let tags = client.get(&url("r.test", "a/b/tags/list")).send().await.unwrap();
    assert_eq!(tags.json()["tags"], serde_json::json!(["1", "2"]));
    assert_eq!(tags.header("link"), r#"</v2/a/b/tags/list?n=2&last=2>; rel="next""#);
    let rest = client.get(&url("r.test", "a/b/tags/list?n=2&last=2")).send().await.unwrap();
    assert_eq!((rest.json()["tags"][0].as_str(), rest.header("link")), (Some("3"), ""));
    assert_eq!(client.get(&url("r.test", "_catalog")).send().await.unwrap().json()["repositories"][0], "a/b");
    registry.untag("a/b", "1");
    assert_eq!(client.head(&tag).send().await.unwrap().status, 404);
}

#[tokio::test]
async fn pushes_are_kept() {
    let pki = Pki::new();
    let registry = Registry::new("r.test").manifest("a/b", "t", super::image::OCI_INDEX, "{}").start(&pki).await;
    let client = direct(&registry, &pki);
    let connection = client.connect(&url("r.test", "")).await.unwrap();
    let send = async |method: Method, path: &str, body: &'static [u8], range: &str| {
        let mut ask = connection.request(method, &format!("https://r.test{path}")).body(body);
        if !range.is_empty() {
            ask = ask.header("content-range", range).header("expect", "100-continue");
        }
        let reply = ask.send().await.unwrap();
        (reply.status.as_u16(), reply.header("location").to_owned(), reply.header("range").to_owned())
    };
    let (status, location, _) = send(Method::POST, "/v2/a/b/blobs/uploads/", b"", "").await;
    assert_eq!(status, 202);
    assert_eq!(send(Method::PATCH, &location, b"hel", "0-2").await.2, "0-2");
    assert_eq!(send(Method::PATCH, &location, b"x", "9-9").await.0, 416);
    assert_eq!(send(Method::GET, &location, b"", "").await.0, 204);
    let digest = sha256(b"hello");
    assert_eq!(send(Method::PUT, &format!("{location}&digest={digest}"), b"lo", "3-4").await.0, 201);
    assert_eq!(registry.stored("a/b", &digest).as_deref(), Some(&b"hello"[..]));
    assert_eq!(registry.count(|seen| seen.header("expect").is_some()), 3);
    assert_eq!(send(Method::POST, &format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b"), b"", "").await.0, 201);
    assert_eq!(send(Method::POST, &format!("/v2/c/blobs/uploads/?digest={digest}"), b"no", "").await.0, 400);
    let mut hash = Hash::new(Algorithm::Sha512);
    hash.update(b"five");
    let long = hash.finish();
    assert_eq!(send(Method::POST, &format!("/v2/c/blobs/uploads/?digest={long}"), b"five", "").await.0, 201);
    assert_eq!(Blob::from(b"five").sha512().digest(), long);
    let manifest = br#"{"mediaType":"m/t","artifactType":"sig","subject":{"digest":"sha256:00"}}"#;
    assert_eq!(send(Method::PUT, "/v2/c/manifests/x?tag=y", manifest, "").await.0, 201);
    assert_eq!(registry.tagged("c", "y"), Some(sha256(manifest)));
    let list = client.get(&url("r.test", "c/referrers/sha256:00?artifactType=sig")).send().await.unwrap();
    assert_eq!(list.json()["manifests"][0]["digest"], sha256(manifest));
    assert_eq!(send(Method::DELETE, "/v2/c/manifests/y", b"", "").await.0, 202);
    assert_eq!(send(Method::DELETE, &format!("/v2/c/blobs/{digest}"), b"", "").await.0, 202);
    registry.remove("c", &long);
    assert_eq!(registry.stored("c", &long), None);
    assert_eq!(registry.requests().last().map(|seen| seen.connection), Some(1));
}

#[tokio::test]
async fn versions_and_names_are_the_clients_to_choose() {
    let pki = Pki::new();
    let registry = Registry::new("r.test").only_h1().start(&pki).await;
    let client = direct(&registry, &pki);
    let both = client.clone().alpn(Alpn::Both);
    let connection = both.connect("https://r.test/").await.unwrap();
    assert_eq!((connection.version(), connection.peer_cert().is_some()), (Version::HTTP_11, true));
    let reply = connection.request(Method::GET, "https://r.test/v2/").host("other.test").send().await.unwrap();
    assert_eq!((reply.status.as_u16(), registry.requests()[0].authority.as_str()), (200, "other.test"));
    assert!(both.connect("https://r.test/").await.unwrap().resumed());
    assert!(matches!(client.clone().h2().connect("https://r.test/").await, Err(ClientError::Tls(_))));
    assert!(matches!(client.clone().sni("x.test").connect("https://r.test/").await, Err(ClientError::Tls(_))));
    assert!(client.no_sni().connect("https://r.test/").await.is_ok());
    let stranger = Client::direct_tls(registry.addr("r.test"), &Pki::new().ca_pem());
    assert!(matches!(stranger.get("https://r.test/v2/").send().await, Err(ClientError::Tls(_))));

    let registry = Registry::new("r.test").only_h2().start(&pki).await;
    let client = Client::direct_tls(registry.addr("r.test"), &pki.ca_pem()).alpn(Alpn::Both);
    let reply = client.get("https://r.test/v2/").send().await.unwrap();
    assert_eq!((reply.version, registry.requests()[0].version), (Version::HTTP_2, Version::HTTP_2));
    assert_eq!(registry.requests()[0].authority, "r.test");
}

#[tokio::test]
async fn plain_http_mirror_absolute_form_and_raw_bytes() {
    let pki = Pki::new();
    let registry = Registry::new("r.test:5000").plain().image("a:1", Image::single(&[b"l"])).start(&pki).await;
    let addr = registry.addr("r.test:5000");
    let pull = Pull::new("r.test:5000/a:1", Style::Docker).at("http://r.test:5000").query("ns=r.test").lengths_only();
    let clients = [Client::plain(addr), Client::plain(addr).h2(), Client::via_connect(addr, "").proxy_user("u", "p")];
    for client in clients.into_iter().chain([Client::resolving(registry.hosts(), "")]) {
        registry.reset_counts();
        let pulled = pull.clone().platform("linux/arm64").run(&client).await.unwrap();
        assert_eq!(pulled.blobs.len(), 2);
        assert_eq!(registry.requests()[1].query.as_deref(), Some("ns=r.test"));
    }
    let mut raw = Raw::connect(addr).await;
    raw.send("GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(raw.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
    raw.half_close().await;
    assert_eq!(raw.read_to_end().await, "{}");
    let refused = Client::via_connect(addr, &pki.ca_pem()).get("https://r.test/v2/").send().await;
    assert!(matches!(refused, Err(ClientError::Refused(405, reason, _)) if reason == "Method Not Allowed"));
    let ahead = Client::plain(addr).preamble("GET /ahead HTTP/1.1\r\nhost: x\r\n\r\n");
    let _mixed_up = ahead.get("http://r.test/v2/").send().await;
    assert_eq!(registry.count(|seen| seen.path == "/ahead"), 1);
}

#[test]
fn generated_bytes_are_the_same_wherever_they_are_read() {
    let blob = Blob::generated(5, 200_001);
    let all = blob.bytes();
    assert_eq!((all.len(), sha256(&all)), (200_001, blob.digest()));
    for at in [0, 1, 65_535, 65_536, 65_537, 199_999] {
        assert!(blob.holds(at, &all[usize::try_from(at).unwrap()..]), "from {at}");
    }
    assert!(!blob.holds(1, &all[..100]) && !blob.holds(200_000, b"xx") && blob.read(200_001, 9).is_empty());
    assert_ne!(blob.digest(), Blob::generated(6, 200_001).digest());
}

#[tokio::test]
async fn through_a_forward_proxy() {
    let pki = Pki::new();
    let (registry, url) = one_blob(&pki, &Blob::from(b"bytes")).await;
    let proxy = ForwardProxy::start(registry.hosts(), Some("dTpw".to_owned())).await;
    for client in for_h1_and_h2(&Client::via_connect(proxy.addr(), &pki.ca_pem())) {
        assert!(matches!(client.get(&url).send().await, Err(ClientError::Refused(407, ..))));
        let known = client.proxy_user("u", "p");
        assert_eq!(known.get(&url).send().await.unwrap().bytes(), &b"bytes"[..]);
        assert!(matches!(known.get("https://x.test/").send().await, Err(ClientError::Refused(403, ..))));
    }
    assert!(proxy.heads()[1].contains("Proxy-Authorization: Basic dTpw\r\n"));
}
