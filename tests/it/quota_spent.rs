//! Who is asked, and who is not, while a 429 stands.

use crate::harness::*;
use crate::quota::{gets_of, message, ratelimits};
use crate::tags::{HUB, get};

const PASSWORD: &str = "the-operators-own-password";

/// acme/shared is the account's, and the operator shares it; library/alpine is everybody's.
async fn sharing(pki: &Pki) -> (Registry, Seawall, tempfile::NamedTempFile) {
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .image("acme/shared:1", Image::single(&[b"one"]))
        .image("acme/shared:2", Image::single(&[b"two"]))
        .user("ci", PASSWORD)
        .private("acme/shared", &["ci"])
        .token_auth()
        .quota(100)
        .start(pki)
        .await;
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), PASSWORD).unwrap();
    let account = format!("username = \"ci\"\npassword_file = {:?}\nshare = [\"acme/shared\"]", password.path());
    let seawall = Seawall::before(&registry).toml(&format!("[[registry]]\nname = \"docker.io\"\n{account}")).start(pki);
    (registry, seawall.await, password)
}

/// Nobody may read what the operator shares: a 401 would send clients for a login, and end what was granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_and_cannot_be_paid_for_is_a_429() {
    let pki = Pki::new();
    let (registry, seawall, _kept) = sharing(&pki).await;
    let client = seawall.client();
    let url = |tag: &str| format!("{HUB}/v2/acme/shared/manifests/{tag}");
    assert_eq!(get(&client, &url("1")).await.status, 200, "{}", registry.log());
    registry.set_remaining("ci", 0);
    for round in ["upstream said so", "it stands"] {
        let reply = get(&client, &url("2")).await;
        let said = message(&reply);
        assert!(
            said.contains("docker.io allows no more pulls to seawall's own account (100 in 6h) until 20"),
            "{said}"
        );
        assert!(said.contains("an account with a larger quota"), "{said}");
        assert!(!said.contains("ci ") && !format!("{:?}", reply.headers).contains("\"ci\""), "{round}: {said}");
        let wait: u64 = reply.header("retry-after").parse().unwrap();
        assert!((21_000..=21_600).contains(&wait), "{wait}");
    }
    assert_eq!(gets_of(&registry, "ci"), 2, "{}", registry.log());
    assert_eq!(get(&client, &url("1")).await.status, 200, "what is here is served");
}

const MIRROR: &str = "mirror.example.test";

/// docker.io with a mirror before it; both have library/alpine and library/busybox.
async fn mirrored(pki: &Pki) -> (Registry, Registry, Seawall) {
    let build = |host: &str| {
        Registry::new(host)
            .image("library/alpine:3.20", Image::single(&[b"alpine"]))
            .image("library/busybox:1", Image::single(&[b"busybox"]))
            .quota(100)
    };
    let hub = build("registry-1.docker.io").token_auth().start(pki).await;
    let mirror = build(MIRROR).start(pki).await;
    let list = format!("{{ url = \"https://{MIRROR}\", tags = true }}, {{ url = \"https://registry-1.docker.io\" }}");
    let toml = format!("[[registry]]\nname = \"docker.io\"\nupstreams = [{list}]");
    let seawall = Seawall::before(&hub).front(&mirror).toml(&toml).start(pki).await;
    (hub, mirror, seawall)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_whose_pulls_are_spent_is_passed_over() {
    let pki = Pki::new();
    let (hub, mirror, seawall) = mirrored(&pki).await;
    mirror.set_remaining(ANONYMOUS_SOURCE, 0);
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    assert_eq!((mirror.gets("manifests"), hub.gets("manifests")), (1, 1), "{}\n{}", mirror.log(), hub.log());
    client.pull("docker.io/library/busybox:1", Style::Podman).await.unwrap();
    assert_eq!((mirror.gets("manifests"), hub.gets("manifests")), (1, 2), "{}\n{}", mirror.log(), hub.log());
    let limited = ratelimits(&seawall).await["limited"].clone();
    assert_eq!((limited.as_array().unwrap().len(), &limited[0]["host"]), (1, &MIRROR.into()), "{limited:#}");
    // Both are spent: the answer is the registry's.
    [&hub, &mirror].map(Registry::reset_counts);
    hub.set_remaining(ANONYMOUS_SOURCE, 0);
    [&hub, &mirror].map(|registry| registry.add_image("library/new:1", &Image::single(&[b"new"])));
    for round in 0..5 {
        message(&get(&client, &format!("{HUB}/v2/library/new/manifests/1")).await);
        let asked = mirror.gets("manifests") + hub.count(|seen| seen.status() == 429);
        assert_eq!(asked, usize::from(round == 0), "{round}: {}\n{}", mirror.log(), hub.log());
        [&hub, &mirror].map(Registry::reset_counts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_wants_no_requests_gets_none() {
    let pki = Pki::new();
    let (hub, mirror, seawall) = mirrored(&pki).await;
    mirror.fault(Fault::on("*").abuse_limit(60).times(1));
    let client = seawall.client();
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    client.pull("docker.io/library/busybox:1", Style::Podman).await.unwrap();
    assert_eq!((mirror.requests().len(), hub.gets("manifests")), (1, 2), "{}\n{}", mirror.log(), hub.log());
    seawall.clock.advance(std::time::Duration::from_secs(61));
    [&hub, &mirror].map(|registry| registry.add_image("library/new:1", &Image::single(&[b"new"])));
    client.pull("docker.io/library/new:1", Style::Podman).await.unwrap();
    assert_eq!(hub.gets("manifests"), 2, "it is the first again: {}\n{}", mirror.log(), hub.log());
}
