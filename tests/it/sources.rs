//! Other sources of a registry's content: mirrors, dependency proxies, other names.

use std::time::Duration;

use http::Method;

use crate::access::{HUB, token};
use crate::harness::image::OCI_INDEX;
use crate::harness::*;

const MIRROR: &str = "mirror.example.test";

fn alpine() -> Image {
    Image::two_platforms()
}

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", alpine())
        .image("acme/app:1", Image::single(&[b"alice's own"]))
        .user("alice", "alices-password")
        .private("acme/app", &["alice"])
        .token_auth()
        .quota(100)
        .start(pki)
        .await
}

/// What docker.io's `upstreams` are.
fn upstreams(list: &str) -> String {
    format!("[[registry]]\nname = \"docker.io\"\nupstreams = [{list}]\n")
}

const HUB_FIRST: &str =
    "{ url = \"https://registry-1.docker.io\" }, { url = \"https://mirror.example.test\", tags = true }";
const MIRROR_FIRST: &str =
    "{ url = \"https://mirror.example.test\", tags = true }, { url = \"https://registry-1.docker.io\" }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_source_has_it_when_the_quota_is_spent() {
    let pki = Pki::new();
    for style in Style::ALL {
        let hub = hub(&pki).await;
        let mirror = Registry::new(MIRROR).image("library/alpine:3.20", alpine()).start(&pki).await;
        hub.set_remaining(ANONYMOUS_SOURCE, 0);
        let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(HUB_FIRST)).start(&pki).await;
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}\n{}", hub.log(), mirror.log()));
        assert_eq!(mirror.gets("manifests"), 2, "{style:?}\n{}", mirror.log());
        let told = "seawall_other_sources_total{registry=\"docker.io\",source=\"mirror.example.test\"}";
        assert!(seawall.metric(told) >= 2.0);
    }
}

/// Who cannot deliver does not get to name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_quota_is_spent_names_nothing_that_another_would_have_to_bring() {
    let pki = Pki::new();
    for style in Style::ALL {
        let (hub, older) = (hub(&pki).await, Image::single(&[b"what the mirror has"]));
        let mirror = Registry::new(MIRROR).image("library/alpine:3.20", older.clone()).start(&pki).await;
        hub.add_image("library/alpine:3.19", &older);
        hub.set_remaining(ANONYMOUS_SOURCE, 0);
        let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(HUB_FIRST)).start(&pki).await;
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}\n{}", hub.log(), mirror.log()));
        assert_eq!(mirror.gets("manifests"), 1, "{style:?}\n{}", mirror.log());
    }
}

/// Nor who names by HEAD, and fails at GET: who asks by tag gets what the next one has, and who asks for the
/// digest that was named is told another the next time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_does_not_send_what_it_named_names_nothing_for_a_while() {
    let pki = Pki::new();
    for (list, statuses) in [(HUB_FIRST, vec![429, 500, 503]), (MIRROR_FIRST, vec![401, 403, 404, 429, 500])] {
        for (status, style) in statuses.into_iter().flat_map(|status| Style::ALL.map(|style| (status, style))) {
            let (hub, older) = (hub(&pki).await, Image::single(&[b"what the mirror has"]));
            let mirror = Registry::new(MIRROR).image("library/alpine:3.20", older.clone()).start(&pki).await;
            hub.add_image("library/alpine:3.19", &older);
            let (first, second) = if list == HUB_FIRST { (&hub, &mirror) } else { (&mirror, &hub) };
            let is_get = move |seen: &Seen| seen.method == Method::GET && seen.path.contains("/manifests/");
            first.fault(Fault::on("manifests").when(is_get).error(status, "NO"));
            let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(list)).start(&pki).await;
            let pull = async || seawall.client().pull("docker.io/library/alpine:3.20", style).await.map(drop);
            let (at_once, again) = (pull().await, pull().await);
            let logs = || format!("{status} {style:?}: {at_once:?}\n{}\n{}", first.log(), second.log());
            assert!(again.is_ok(), "{again:?} {}", logs());
            assert!(at_once.is_ok() || style != Style::Podman, "{}", logs());
        }
    }
}

/// How clients reach a registry has nothing to do with how seawall does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_whose_source_is_in_the_clear_is_intercepted_on_443() {
    let pki = Pki::new();
    for style in Style::ALL {
        let mirror = Registry::new("mirror.lan").plain().image("library/alpine:3.20", alpine()).start(&pki).await;
        let toml = upstreams("{ url = \"http://mirror.lan:8081\" }");
        let seawall = Seawall::before(&mirror).toml(&toml).start(&pki).await;
        for client in [seawall.client(), Client::direct_tls(seawall.addr(), &seawall.ca_pem)] {
            let pulled = client.pull("docker.io/library/alpine:3.20", style).await;
            pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}", mirror.log()));
        }
        assert_eq!(mirror.gets("manifests"), 2, "one pull brings what both get: {style:?}\n{}", mirror.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_gone_is_not_missed() {
    let pki = Pki::new();
    for style in Style::ALL {
        let hub = hub(&pki).await;
        let mirror = Registry::new(MIRROR).image("library/alpine:3.20", alpine()).start(&pki).await;
        let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(HUB_FIRST)).start(&pki).await;
        // Clients ask for `/v2/` first: that was seen.
        seawall.client().get(&format!("{HUB}/v2/")).send().await.unwrap();
        hub.fault(Fault::on("manifests").status(503, "down"));
        hub.fault(Fault::on("blobs").hang_up());
        let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}\n{}", hub.log(), mirror.log()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_first_spares_the_registry_and_need_not_have_it() {
    let pki = Pki::new();
    let hub = hub(&pki).await;
    let mirror = Registry::new(MIRROR).image("library/alpine:3.20", alpine()).start(&pki).await;
    hub.add_image("library/rare:1", &Image::single(&[b"rare"]));
    let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(MIRROR_FIRST)).start(&pki).await;
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    assert_eq!(hub.remaining(ANONYMOUS_SOURCE), Some(100), "{}", hub.log());
    client.pull("docker.io/library/rare:1", Style::Podman).await.unwrap();
    assert_eq!(hub.remaining(ANONYMOUS_SOURCE), Some(99), "{}", hub.log());
}

/// Invariant 8: a client's credential goes to the registry it is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_credential_goes_to_no_other_source() {
    let pki = Pki::new();
    let hub = hub(&pki).await;
    let mirror =
        Registry::new(MIRROR).image("acme/app:1", Image::single(&[b"alice's own"])).token_auth().start(&pki).await;
    for list in [HUB_FIRST, MIRROR_FIRST] {
        let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(list)).start(&pki).await;
        let alice = token(&seawall.client(), Some(("alice", "alices-password")), "acme/app").await;
        hub.fault(Fault::on("blobs").status(503, "down"));
        let layer = Image::single(&[b"alice's own"]).layers()[0].digest();
        for url in [format!("{HUB}/v2/acme/app/manifests/1"), format!("{HUB}/v2/acme/app/blobs/{layer}")] {
            let reply = seawall.client().get(&url).bearer(&alice).header("accept", OCI_INDEX).send().await.unwrap();
            assert_eq!(reply.status, 200, "{url}\n{}\n{}", hub.log(), mirror.log());
        }
        hub.clear_faults();
        let hers = |seen: &Seen| seen.authorization().is_some_and(|shown| shown.contains("alice"));
        assert_eq!(mirror.count(hers), 0, "{}", mirror.log());
    }
}

/// A dependency proxy with an account of the operator's has what it has by that account: its yes
/// opens nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_with_an_account_gives_bytes_and_no_permission() {
    let pki = Pki::new();
    let hub = hub(&pki).await;
    let proxy = Registry::new("gitlab.example.test")
        .image("acme-org/dependency_proxy/containers/library/alpine:3.20", alpine())
        .image("acme-org/dependency_proxy/containers/acme/app:1", Image::single(&[b"alice's own"]))
        .user("bot", "bots-password")
        .private("acme-org/dependency_proxy/containers/library/alpine", &["bot"])
        .private("acme-org/dependency_proxy/containers/acme/app", &["bot"])
        .token_auth_at("gitlab.example.test")
        .start(&pki)
        .await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "bots-password").unwrap();
    let account = format!("username = \"bot\", password_file = {:?}", password.path());
    let prefix = "prefix = \"acme-org/dependency_proxy/containers\"";
    let list = format!(
        "{{ url = \"https://registry-1.docker.io\", missing = \"next\" }}, {{ url = \"https://gitlab.example.test\", {prefix}, {account} }}"
    );
    let seawall = Seawall::before(&hub).front(&proxy).toml(&upstreams(&list)).start(&pki).await;
    let client = seawall.client();
    // Everybody may, says the registry; its quota is spent.
    hub.set_remaining(ANONYMOUS_SOURCE, 0);
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    assert!(proxy.gets("manifests") >= 2, "{}", proxy.log());
    // Nobody may, says the registry; or nothing.
    let image = Image::single(&[b"alice's own"]);
    let (tag, layer) = (format!("{HUB}/v2/acme/app/manifests/1"), image.layers()[0].digest());
    let urls =
        [tag, format!("{HUB}/v2/acme/app/manifests/{}", image.digest()), format!("{HUB}/v2/acme/app/blobs/{layer}")];
    proxy.reset_counts();
    for refusal in
        [None, Some(Fault::on("manifests").status(503, "down")), Some(Fault::on("manifests").error(404, "UNKNOWN"))]
    {
        refusal.into_iter().for_each(|fault| hub.fault(fault));
        for url in &urls {
            let reply = client.get(url).header("accept", OCI_INDEX).send().await.unwrap();
            assert!(reply.status.as_u16() >= 400, "{url}: {}", reply.status);
        }
        hub.clear_faults();
    }
    assert_eq!(proxy.requests().len(), 0, "{}", proxy.log());
    // What was public is not kept so by the proxy's yes.
    seawall.clock.advance(Duration::from_secs(16 * 60));
    hub.make_private("library/alpine", &["alice"]);
    let reply = client.get(&format!("{HUB}/v2/library/alpine/manifests/3.20")).header("accept", OCI_INDEX).send().await;
    assert_eq!(reply.unwrap().status, 401);
}

/// Bytes are verified, whoever sends them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_lies_is_found_out() {
    let pki = Pki::new();
    let hub = hub(&pki).await;
    let mirror = Registry::new(MIRROR).image("library/alpine:3.20", alpine()).start(&pki).await;
    mirror.fault(Fault::on("bytes").corrupt(3));
    let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(MIRROR_FIRST)).start(&pki).await;
    let layer = alpine().platforms()[0].layers()[0].digest();
    for _ in 0..3 {
        let reply = seawall.client().get(&format!("{HUB}/v2/library/alpine/blobs/{layer}")).send().await;
        let whole =
            reply.ok().filter(|reply| reply.status == 200 && reply.body.is_ok()).map(|reply| sha256(reply.bytes()));
        assert!(whole.is_none_or(|digest| digest == layer));
    }
    mirror.clear_faults();
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
}

/// The next one who asks for it has it, and who lied is asked for it last, for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_lied_about_a_digest_is_asked_for_it_last() {
    let (pki, blobs) = (Pki::new(), [Blob::generated(95, 200_000), Blob::generated(96, 200_000)]);
    let hub = Registry::new("registry-1.docker.io").image("library/big:1", Image::of(blobs.to_vec())).start(&pki).await;
    let mirror = Registry::new(MIRROR).image("library/big:1", Image::of(blobs.to_vec())).start(&pki).await;
    mirror.fault(Fault::on("bytes").corrupt(3));
    let seawall = Seawall::before(&hub).front(&mirror).toml(&upstreams(MIRROR_FIRST)).start(&pki).await;
    let client = seawall.client();
    let url = |blob: &Blob| format!("{HUB}/v2/library/big/blobs/{}", blob.digest());
    let whole = async |blob: &Blob| {
        let reply = client.get(&url(blob)).send().await.ok();
        reply.is_some_and(|reply| reply.status == 200 && reply.body.is_ok() && blob.holds(0, reply.bytes()))
    };
    // The registry's grant comes first: a mirror is asked for nothing else.
    for blob in &blobs {
        assert_eq!(client.head(&url(blob)).send().await.unwrap().status, 200);
    }
    assert!(!whole(&blobs[0]).await, "it was the mirror's");
    mirror.reset_counts();
    assert!(whole(&blobs[0]).await, "{}", mirror.log());
    assert_eq!((mirror.gets("blobs"), hub.gets("blobs")), (0, 1), "{}{}", mirror.log(), hub.log());
    // Of another digest it lied about nothing yet.
    assert!(!whole(&blobs[1]).await);
    assert_eq!(mirror.gets("blobs"), 1);
    mirror.clear_faults();
    seawall.clock.advance(Duration::from_secs(3601));
    for blob in &blobs {
        let _ = client.head(&url(blob)).send().await;
    }
    assert!(whole(&blobs[1]).await);
    assert_eq!(mirror.gets("blobs"), 2, "{}", mirror.log());
}

/// Pitfall 33, the Bitnami purge: the client goes on asking for the old name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_that_moved_is_found_under_its_old_name() {
    let pki = Pki::new();
    let hub = hub(&pki).await;
    hub.add_image("bitnamilegacy/nginx:1", &Image::single(&[b"moved"]));
    let rewrite =
        "[[registry]]\nname = \"docker.io\"\nrewrite = [{ from = \"^bitnami/(.*)$\", to = \"bitnamilegacy/$1\" }]";
    for style in Style::ALL {
        let seawall = Seawall::before(&hub).toml(rewrite).start(&pki).await;
        let pulled = seawall.client().pull("docker.io/bitnami/nginx:1", style).await;
        pulled.unwrap_or_else(|e| panic!("{style:?}: {e}\n{}", hub.log()));
        if style != Style::Containerd {
            // containerd asks for its token by POST, in a body that is passed on as it is.
            let pull = Pull::new("docker.io/bitnami/nginx:1", style).user("alice", "alices-password");
            pull.run(&seawall.client()).await.unwrap_or_else(|e| panic!("{style:?}, alice: {e}\n{}", hub.log()));
        }
        let tags = seawall.client().get(&format!("{HUB}/v2/bitnami/nginx/tags/list")).send().await.unwrap();
        assert_eq!(tags.status, 200, "{style:?}");
    }
}
