//! Who is asked, and who is not, while a 429 stands.

use crate::harness::*;
use crate::quota::{gets_of, message};
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
