//! seawall as a mirror: every way to name a registry, and nothing but what is public.

use http::Method;

use crate::harness::image::{OCI_INDEX, OCI_MANIFEST};
use crate::harness::*;

const MIRROR: &str = "http://mirror.test";

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/app:1", Image::single(&[b"private"]))
        .user("alice", "secret")
        .private("acme/app", &["alice"])
        .token_auth()
        .cdn("cdn.example.test")
        .quota(100)
        .page(2)
        .start(pki)
        .await
}

async fn ghcr(pki: &Pki) -> Registry {
    Registry::new("ghcr.io").image("owner/app:1", Image::multi_layer()).token_auth().start(pki).await
}

/// However it is named, it is one image: fetched once, served to all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_of_an_image_is_one_image() {
    let pki = Pki::new();
    let (hub, ghcr) = (hub(&pki).await, ghcr(&pki).await);
    let toml = "[[registry]]\nname = \"ghcr.io\"\naliases = [\"github\"]";
    let seawall = Seawall::before(&hub).front(&ghcr).toml(toml).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for style in Style::ALL {
        let alpine = Image::two_platforms().digest();
        for (name, query) in [
            ("docker.io/library/alpine:3.20", ""),
            ("docker.io/alpine:3.20", ""),
            ("docker.io/library/alpine:3.20", "ns=docker.io"),
            ("x/docker.io/library/alpine:3.20", ""),
            ("x/registry-1.docker.io/library/alpine:3.20", ""),
        ] {
            let pull = Pull::new(name, style).at(MIRROR).query(query);
            let pulled =
                pull.run(&mirror).await.unwrap_or_else(|e| panic!("{name} {query} {style:?}: {e}\n{}", hub.log()));
            assert_eq!(pulled.digest, alpine);
        }
        for (name, query) in
            [("x/owner/app:1", "ns=ghcr.io"), ("x/ghcr.io/owner/app:1", ""), ("x/github/owner/app:1", "")]
        {
            let pull = Pull::new(name, style).at(MIRROR).query(query);
            let pulled =
                pull.run(&mirror).await.unwrap_or_else(|e| panic!("{name} {query} {style:?}: {e}\n{}", ghcr.log()));
            assert_eq!(pulled.digest, Image::multi_layer().digest());
        }
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    assert_eq!(
        (hub.heads("manifests"), hub.gets("manifests"), hub.gets("cdn")),
        (2, 2, 3),
        "a 401 and a HEAD\n{}",
        hub.log()
    );
    assert_eq!(ghcr.gets("manifests"), 1, "{}", ghcr.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_nobody_who_they_are() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for path in ["/v2/", "/v2"] {
        let reply = mirror.get(&format!("{MIRROR}{path}")).basic("alice", "secret").send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("docker-distribution-api-version")), (200, "registry/2.0"));
        assert_eq!(reply.json(), serde_json::json!({}));
    }
    assert_eq!(registry.requests().len(), 0);
}

/// Pitfall 14, and distribution-spec "Registry Proxying": credentials for a mirror are not for the
/// registry behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_what_is_public_and_says_how_to_get_the_rest() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let pull = Pull::new("docker.io/acme/app:1", Style::Docker).user("alice", "secret");
    pull.run(&seawall.client()).await.unwrap();
    registry.reset_counts();
    let mirror = Client::plain(seawall.addr());
    let image = Image::single(&[b"private"]);
    for path in [
        "manifests/1".to_owned(),
        format!("manifests/{}", image.digest()),
        format!("blobs/{}", image.layers()[0].digest()),
        "tags/list".to_owned(),
    ] {
        let ask = mirror.get(&format!("{MIRROR}/v2/acme/app/{path}")).basic("alice", "secret");
        let reply = ask.header("accept", OCI_MANIFEST).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (403, ""), "{path}");
        let json = reply.json();
        assert_eq!(json["errors"][0]["code"], "DENIED");
        assert!(json["errors"][0]["message"].as_str().unwrap().contains("HTTPS_PROXY"), "{path} {json}");
    }
    assert!(registry.requests().iter().all(|seen| !seen.authorization().unwrap_or_default().starts_with("Basic")));
    assert!(!registry.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_pushed_through_a_mirror() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").image("a/b:1", Image::multi_layer()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for (method, path) in [
        (Method::POST, "/v2/a/b/blobs/uploads/"),
        (Method::PUT, "/v2/a/b/manifests/1"),
        (Method::DELETE, "/v2/a/b/manifests/1"),
        (Method::PATCH, "/v2/a/b/blobs/uploads/x"),
        (Method::POST, "/v2/ghcr.io/a/b/blobs/uploads/?mount=sha256:0&from=x"),
        (Method::GET, "/v2/_catalog"),
        (Method::GET, "/v2/a/b/_custom"),
    ] {
        let reply = mirror.request(method.clone(), &format!("{MIRROR}{path}")).body("x").send().await.unwrap();
        assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.status);
        assert_eq!(reply.json()["errors"][0]["code"], "UNSUPPORTED", "{method} {path}");
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
}

/// A list's next page is at the mirror too, under the name that the client used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_where_it_began() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").token_auth().page(2).start(&pki).await;
    for tag in ["1", "2", "3"] {
        registry.add_image(&format!("owner/app:{tag}"), &Image::multi_layer());
    }
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for (first, next) in [
        ("/v2/ghcr.io/owner/app/tags/list", "/v2/ghcr.io/owner/app/tags/list?n=2&last=2"),
        ("/v2/owner/app/tags/list?ns=ghcr.io", "/v2/owner/app/tags/list?n=2&last=2&ns=ghcr.io"),
    ] {
        let reply = mirror.get(&format!("{MIRROR}{first}")).send().await.unwrap();
        assert_eq!(reply.json()["tags"], serde_json::json!(["1", "2"]));
        assert_eq!(reply.header("link"), format!("<{next}>; rel=\"next\""));
        let reply = mirror.get(&format!("{MIRROR}{next}")).send().await.unwrap();
        assert_eq!((&reply.json()["tags"], reply.header("link")), (&serde_json::json!(["3"]), ""));
    }
    registry.fault(Fault::on("tags").set("link", "<https://ghcr.io/v2/owner/app/tags/list?last=2>; rel=\"next\""));
    let reply = mirror.get(&format!("{MIRROR}/v2/ghcr.io/owner/app/tags/list")).send().await.unwrap();
    assert_eq!(reply.header("link"), "</v2/ghcr.io/owner/app/tags/list?last=2>; rel=\"next\"");
    let referrers =
        format!("{MIRROR}/v2/ghcr.io/owner/app/referrers/{}?artifactType=sig", Image::multi_layer().digest());
    let reply = mirror.get(&referrers).send().await.unwrap();
    assert_eq!((reply.header("content-type"), reply.header("oci-filters-applied")), (OCI_INDEX, "artifactType"));
    assert!(registry.requests().last().unwrap().query.as_deref() == Some("artifactType=sig"));
}

/// containerd without `override_path`, a mirror's URL that ends with a slash, a colon that is encoded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_as_clients_make_them() {
    let pki = Pki::new();
    let registry = Registry::new("ghcr.io").image("owner/app:1", Image::multi_layer()).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let (mirror, digest) = (Client::plain(seawall.addr()), Image::multi_layer().digest());
    for path in [
        "/v2/ghcr.io/owner/app/manifests/1".to_owned(),
        "/ghcr.io/v2/owner/app/manifests/1".to_owned(),
        "/ghcr.io/v2/".to_owned(),
        "//v2/ghcr.io/owner/app/manifests/1".to_owned(),
        "/ghcr.io/v2/owner/app/tags/list".to_owned(),
        format!("/v2/ghcr.io/owner/app/manifests/{}", digest.replace(':', "%3A")),
    ] {
        let reply = mirror.get(&format!("{MIRROR}{path}")).send().await.unwrap();
        assert_eq!(reply.status, 200, "{path}: {:?}", reply.body);
    }
    // It may be an owner's name, too.
    let unclear = mirror.get(&format!("{MIRROR}/v2/ghcr.io/v2/owner/app/manifests/1?ns=ghcr.io")).send().await.unwrap();
    assert_eq!(unclear.status, 400);
    assert!(String::from_utf8_lossy(unclear.bytes()).contains("override_path = true"), "{:?}", unclear.body);
}
