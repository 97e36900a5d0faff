//! Each client's way to ask a mirror: what its configuration makes of an image's name comes to the
//! same image.

use http::Method;

use crate::harness::image::OCI_INDEX;
use crate::harness::*;

const MIRROR: &str = "http://mirror.test";

/// docker.io with an alias, ghcr.io with one, a laboratory's on port 5000, and a mirror of all of
/// them.
async fn world(pki: &Pki) -> (Registry, Registry, Registry, Seawall) {
    let hub = Registry::new("registry-1.docker.io").image("library/nginx:1", Image::multi_layer()).token_auth();
    let hub = hub.start(pki).await;
    let ghcr = Registry::new("ghcr.io").image("owner/app:1", Image::multi_layer()).token_auth();
    let ghcr = ghcr.image("github/tool:1", Image::multi_layer()).start(pki).await;
    let lab = Registry::new("lab.test").image("app:1", Image::multi_layer()).plain().page(1).start(pki).await;
    let toml = "[[registry]]\nname = \"ghcr.io\"\naliases = [\"github\"]\n\
                [[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test:5000\"]\nupstreams = [{ url = \"http://lab.test:5000\" }]";
    let seawall = Seawall::before(&hub).front(&ghcr).front(&lab).toml(toml).start(pki).await;
    (hub, ghcr, lab, seawall)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_clients_form_is_understood() {
    let pki = Pki::new();
    let (hub, ghcr, lab, seawall) = world(&pki).await;
    let mirror = Client::plain(seawall.addr());
    let digest = Image::multi_layer().digest();
    let layer = Image::multi_layer().layers()[0].digest();
    for (client, name, query) in [
        // registry-mirrors of dockerd: docker.io alone, and no `ns` before containerd's store.
        ("dockerd", "library/nginx", ""),
        ("dockerd with containerd's store", "library/nginx", "ns=docker.io"),
        // hosts.toml, and the older registry.mirrors of containerd's CRI, which becomes the same.
        ("containerd", "library/nginx", "ns=docker.io"),
        ("containerd, _default", "owner/app", "ns=ghcr.io"),
        ("containerd, a port in the name", "app", "ns=lab.test%3A5000"),
        // server = "https://seawall/v2/dockerhub", override_path = true: a Harbor project's path.
        ("containerd with a Harbor project", "dockerhub/library/nginx", "ns=docker.io"),
        ("containerd with a path", "ghcr.io/owner/app", "ns=ghcr.io"),
        // registries.conf: location = "seawall/docker.io". Newer ones say `ns` besides.
        ("podman", "docker.io/library/nginx", ""),
        ("podman with ns", "docker.io/library/nginx", "ns=docker.io"),
        ("CRI-O", "ghcr.io/owner/app", ""),
        ("podman, a port in the path", "lab.test:5000/app", ""),
        ("podman, an alias for it", "lab/app", ""),
        // registries.yaml, rewrite = {"^(.*)$": "dockerhub/$1"}.
        ("K3s with a rewrite", "dockerhub/library/nginx", "ns=docker.io"),
        ("K3s", "library/nginx", "ns=docker.io"),
        // private_registries: the mirror's name before the image's.
        ("RKE", "library/nginx", ""),
        ("BuildKit with a path", "docker.io/library/nginx", "ns=docker.io"),
        ("BuildKit, an owner of the alias's name", "github/tool", "ns=ghcr.io"),
        // --registry-mirror seawall, --registry-mirror seawall/dockerhub, --registry-map
        // ghcr.io=seawall/ghcr.io
        ("kaniko", "library/nginx", ""),
        ("kaniko with a path", "dockerhub/library/nginx", ""),
        ("kaniko with a map", "ghcr.io/owner/app", ""),
        ("Harbor's clients", "dockerhub/nginx", ""),
    ] {
        let ask = |method: Method, rest: &str| {
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            mirror.request(method, &format!("{MIRROR}/v2/{name}/{rest}{query}")).header("accept", "*/*")
        };
        let namespace = query.strip_prefix("ns=").unwrap_or_default().replace("%3A", ":");
        for method in [Method::HEAD, Method::GET] {
            for rest in ["manifests/1".to_owned(), format!("manifests/{digest}"), format!("blobs/{layer}")] {
                let reply = ask(method.clone(), &rest).send().await.unwrap();
                assert_eq!(reply.status, 200, "{client} {method} {rest}: {:?}", reply.body);
                assert_eq!(reply.header("oci-namespace"), namespace, "{client} {method} {rest}");
            }
            let reply = ask(method.clone(), "tags/list").send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("oci-namespace")), (200, &*namespace), "{client} {method}");
            let reply = ask(method.clone(), &format!("referrers/{digest}")).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, OCI_INDEX), "{client} {method}");
            // Whether this is a registry at all: no client knows yet which it will ask for.
            let ping = format!("{MIRROR}/v2/{}", if query.is_empty() { String::new() } else { format!("?{query}") });
            let reply = mirror.request(method, &ping).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("oci-namespace")), (200, &*namespace), "{client}");
        }
    }
    assert_eq!((hub.gets("manifests"), ghcr.gets("manifests"), lab.gets("manifests")), (1, 0, 0), "{}", ghcr.log());
    assert_eq!(
        (hub.gets("blobs"), ghcr.gets("blobs"), lab.gets("blobs")),
        (1, 0, 0),
        "the same bytes are fetched once, wherever they are"
    );
}

/// The next page is where the first one was: at the mirror, under the client's name for it, over
/// TLS too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_under_every_name() {
    let pki = Pki::new();
    let lab = Registry::new("lab.test").image("app:1", Image::multi_layer()).image("app:2", Image::multi_layer());
    let lab = lab.plain().page(1).start(&pki).await;
    let toml = "[tls]\nnames = [\"seawall.corp.example\"]\n\
                [[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test:5000\"]\nupstreams = [{ url = \"http://lab.test:5000\" }]";
    let seawall = Seawall::before(&lab).toml(toml).start(&pki).await;
    let clients = [
        (MIRROR, Client::plain(seawall.addr())),
        ("https://seawall.corp.example:3128", Client::direct_tls(seawall.addr(), &seawall.ca_pem)),
    ];
    for (base, client) in &clients {
        for (path, query) in [
            ("/v2/lab/app", ""),
            ("/v2/lab.test:5000/app", ""),
            ("/v2/app", "ns=lab"),
            ("/v2/app", "ns=lab.test%3A5000"),
        ] {
            for absolute in [false, true] {
                if absolute {
                    let next = "<http://lab.test:5000/v2/app/tags/list?n=1>; rel=\"first\", \
                                <http://lab.test:5000/v2/app/tags/list?last=1&n=1>; rel=\"next\"";
                    lab.fault(Fault::on("tags").times(1).set("link", next));
                }
                let first = format!("{base}{path}/tags/list?n=1{}{query}", if query.is_empty() { "" } else { "&" });
                let reply = client.get(&first).send().await.unwrap();
                assert_eq!(reply.json()["tags"], serde_json::json!(["1"]), "{first}");
                let link = reply.header("link").to_owned();
                let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a next page").0;
                assert!(next.starts_with(&format!("{path}/tags/list?")), "{link}");
                let reply = client.get(&format!("{base}{next}")).send().await.unwrap();
                assert_eq!(reply.json()["tags"], serde_json::json!(["2"]), "{next}");
            }
        }
    }
}

/// Who says the registry besides means the name as it stands: its first part may be an owner's
/// there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_the_registrys_name_keeps_its_images() {
    let pki = Pki::new();
    let (right, wrong) = (Image::multi_layer(), Image::single(&[b"somebody else's"]));
    let lab = Registry::new("lab.test").image("lab/team/app:1", right.clone()).image("team/app:1", wrong.clone());
    let lab = lab.start(&pki).await;
    let ghcr = Registry::new("ghcr.io").image("github/owner/app:1", right.clone()).image("owner/app:1", wrong);
    let ghcr = ghcr.start(&pki).await;
    let toml = "[[registry]]\nname = \"ghcr.io\"\naliases = [\"github\"]\n\
                [[registry]]\nname = \"lab\"\nhosts = [\"lab.test:5000\", \"*.lab.test:5000\"]";
    let seawall = Seawall::before(&lab).front(&ghcr).toml(toml).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    let ask =
        async |path: &str| mirror.get(&format!("{MIRROR}/v2/{path}")).header("accept", "*/*").send().await.unwrap();
    for path in [
        "lab/team/app/manifests/1?ns=lab.test:5000",
        "lab/team/app/manifests/1?ns=lab.test%3A5000",
        "lab.test:5000/lab/team/app/manifests/1",
        "lab.test:5000/lab/team/app/manifests/1?ns=lab.test:5000",
        "github/owner/app/manifests/1?ns=ghcr.io",
    ] {
        let reply = ask(path).await;
        assert_eq!(reply.header("docker-content-digest"), right.digest(), "{path}: {:?}", reply.body);
    }
    let two = ask("lab.test:5000/lab/team/app/manifests/1?ns=ghcr.io").await;
    assert_eq!(two.status, 400, "{:?}", two.body);
}

/// A first part with a dot can be no owner at Docker Hub: nobody is asked for it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_not_configured_is_not_looked_for_at_docker_hub() {
    let pki = Pki::new();
    let (hub, _, _, seawall) = world(&pki).await;
    let mirror = Client::plain(seawall.addr());
    for name in ["registry.corp/app", "registry.corp:5000/app", "localhost/app", "lab.test/app", "lab.test:5001/app"] {
        let reply = mirror.get(&format!("{MIRROR}/v2/{name}/manifests/1")).send().await.unwrap();
        let json = reply.json();
        assert_eq!((reply.status.as_u16(), &json["errors"][0]["code"]), (404, &"NAME_UNKNOWN".into()), "{name}");
        let (message, first) = (json["errors"][0]["message"].as_str().unwrap(), name.split('/').next().unwrap());
        assert!(message.contains("add a [[registry]]") && message.contains(first), "{json}");
    }
    assert_eq!(hub.requests().len(), 0, "{}", hub.log());
}

/// A client with both a proxy and a mirror may ask the one for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mirrors_url_through_the_proxy_is_the_mirror() {
    let pki = Pki::new();
    let hub = Registry::new("registry-1.docker.io").image("library/nginx:1", Image::multi_layer()).start(&pki).await;
    let seawall = Seawall::before(&hub).toml("[tls]\nnames = [\"seawall.corp.example\"]").start(&pki).await;
    let url = format!("http://seawall.corp.example:{}/v2/library/nginx/manifests/1", seawall.addr().port());
    let reply = seawall.client().get(&url).header("accept", "*/*").send().await.unwrap();
    assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest(), "{:?}", reply.body);
}
