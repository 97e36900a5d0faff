//! A client of a mirror falls back in silence: seawall counts what it refused, and says it once in
//! a while.

use std::time::Duration;

use crate::harness::*;

const MIRROR: &str = "http://mirror.test";

#[test]
fn what_a_mirror_refused_is_counted_and_said_once_a_minute() {
    alone("mirror_refused::refused_alone");
}

#[tokio::test]
#[ignore = "what tracing remembers is the process's: run by the test above"]
async fn refused_alone() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:1", Image::multi_layer())
        .image("acme/app:1", Image::multi_layer())
        .user("alice", "secret")
        .private("acme/app", &["alice"])
        .token_auth()
        .start(&pki)
        .await;
    let toml = "[[registry]]\nname = \"docker.io\"\ndeny = [\"evil/*\"]";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let mirror = Client::plain(seawall.addr());
    let ask =
        async |path: &str| mirror.get(&format!("{MIRROR}{path}")).header("accept", "*/*").send().await.unwrap().status;
    let refused = |labels: &str| seawall.metric(&format!("seawall_mirror_refused_total{{{labels}}}"));
    let said = |text: &str| log.text().lines().filter(|line| line.contains("WARN") && line.contains(text)).count();

    for _ in 0..5 {
        assert_eq!(ask("/v2/acme/app/manifests/1").await, 403);
    }
    assert_eq!(refused("registry=\"docker.io\",code=\"DENIED\""), 5.0);
    assert_eq!(said("ask the registry itself"), 1, "a storm is a line");
    assert_eq!(said("share the repository"), 1);

    seawall.clock.advance(Duration::from_secs(61));
    assert_eq!(ask("/v2/acme/app/manifests/1").await, 403);
    assert_eq!((said("unsaid=4"), said("ask the registry itself")), (1, 2));

    assert_eq!(ask("/v2/library/app/manifests/1?ns=evil.example").await, 404);
    assert_eq!(ask("/v2/a/b/manifests/1?ns=another.example").await, 404);
    assert_eq!(refused("registry=\"unknown\",code=\"NAME_UNKNOWN\""), 2.0, "names of clients are no labels");
    assert_eq!(said("add a [[registry]] for it"), 1);

    // What the registry does not have either is counted, and no reason to worry: signatures are
    // looked for everywhere.
    let before = said("ask the registry itself");
    assert_eq!(ask("/v2/library/alpine/manifests/sha256-0.sig").await, 404);
    assert_eq!(said("ask the registry itself"), before);

    // A person is no client of a mirror, and who asks as a proxy gets the registry's own answer.
    let counted = seawall.metric("seawall_mirror_refused_total");
    assert_eq!(ask("/nothing").await, 404);
    let direct = seawall.client().get("https://registry-1.docker.io/v2/acme/app/manifests/1").send().await.unwrap();
    assert_eq!(direct.status, 401);
    assert_eq!(seawall.metric("seawall_mirror_refused_total"), counted);

    registry.fault(Fault::on("manifests").pull_limit());
    assert_eq!(ask("/v2/library/alpine/manifests/1").await, 429);
    assert_eq!(
        (refused("registry=\"docker.io\",code=\"TOOMANYREQUESTS\""), said("an account with a higher limit")),
        (1.0, 1)
    );
    assert!(!log.text().contains("secret"));
}
