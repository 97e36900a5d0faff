//! Every client's order of requests, for everybody who may be asking, while the registry is away.

use std::time::Duration;

use crate::harness::*;
use crate::offline_grants::{ALICE, APP, HOUR, WEEK, hub};

const ALPINE: &str = "docker.io/library/alpine:3.20";
const MIRROR: &str = "http://mirror.example:3128";

#[derive(Clone, Copy)]
enum Wire {
    H1,
    H2,
}

/// crane asks as podman does, and speaks HTTP/2.
const ORDERS: [(&str, Style, Wire); 6] = [
    ("docker", Style::Docker, Wire::H1),
    ("containerd", Style::Containerd, Wire::H1),
    ("podman", Style::Podman, Wire::H1),
    ("docker, h2", Style::Docker, Wire::H2),
    ("containerd, h2", Style::Containerd, Wire::H2),
    ("crane", Style::Podman, Wire::H2),
];

const ASKING: [(&str, Option<(&str, &str)>); 4] = [
    ("nobody", None),
    ("alice", Some(ALICE)),
    ("alice with a wrong password", Some(("alice", "b"))),
    ("one never seen", Some(("carol", "c"))),
];

/// What is public, to everybody; what is private, to alice, if the operator says so; and through a
/// mirror, which takes no login, not even to her.
async fn everybody_pulls(seawall: &Seawall, toml: &str, when: &str) {
    for (order, style, wire) in ORDERS {
        let client = match wire {
            Wire::H1 => seawall.client(),
            Wire::H2 => seawall.client().h2(),
        };
        for (who, user) in ASKING {
            for image in [ALPINE, APP] {
                let pull = Pull::new(image, style);
                let pull = user.map_or(pull.clone(), |(name, password)| pull.user(name, password));
                let pulled = pull.run(&client).await;
                let expected = image == ALPINE || (who == "alice" && toml == WEEK);
                assert_eq!(pulled.is_ok(), expected, "{when}, {toml:?}, {order}, {who}, {image}: {pulled:?}");
            }
        }
    }
    let mirror = Client::plain(seawall.addr());
    for style in Style::ALL {
        Pull::new(ALPINE, style).at(MIRROR).run(&mirror).await.unwrap_or_else(|e| panic!("{when}, {style:?}: {e:?}"));
        Pull::new(APP, style)
            .at(MIRROR)
            .user(ALICE.0, ALICE.1)
            .run(&mirror)
            .await
            .expect_err("a mirror takes no login");
    }
}

/// Nothing is waited for, and next to nothing asked.
async fn all_orders(toml: &str, go_away: impl Fn(&Registry)) {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    seawall.client().pull(ALPINE, Style::Podman).await.unwrap();
    Pull::new(APP, Style::Containerd).user(ALICE.0, ALICE.1).run(&seawall.client()).await.unwrap();
    go_away(&registry);
    everybody_pulls(&seawall, toml, "at once").await;
    seawall.clock.advance(HOUR);
    everybody_pulls(&seawall, toml, "when all tokens have ended").await;
    // Two images that are broken there are no outage; three are.
    let third = Pull::new("docker.io/acme/other:1", Style::Docker).user(ALICE.0, ALICE.1);
    third.run(&seawall.client()).await.expect_err("it is not here");
    registry.reset_counts();
    let began = seawall.clock.now();
    everybody_pulls(&seawall, toml, "once more").await;
    // A trial every half of five seconds at most. A gateway that answers at once for one path of
    // the token service keeps nobody waiting.
    let seconds = seawall.clock.now().duration_since(began).unwrap().as_secs();
    let asked = u64::try_from(registry.count(|seen| seen.kind() != "token")).unwrap();
    assert!(asked <= 2 + seconds, "{asked} requests in {seconds} s:\n{}", registry.log());
    let seawall = seawall.restart(&pki).await;
    everybody_pulls(&seawall, toml, "after a restart").await;
    registry.clear_faults();
    registry.up();
    // The trials are due.
    seawall.clock.advance(Duration::from_secs(5));
    for (order, style, _) in ORDERS {
        for image in [ALPINE, APP] {
            let pulled = Pull::new(image, style).user(ALICE.0, ALICE.1).run(&seawall.client()).await;
            pulled.unwrap_or_else(|e| panic!("it is back, {order}, {image}: {e:?}\n{}", registry.log()));
        }
    }
    let ours = registry.count(|seen| seen.authorization().is_some_and(|value| value.contains("seawall")));
    assert_eq!(ours, 0, "{}", registry.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_orders_while_nobody_listens() {
    all_orders(WEEK, Registry::down).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_orders_while_nobody_listens_and_no_login_is_remembered() {
    all_orders("", Registry::down).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_orders_while_a_gateway_answers() {
    all_orders(WEEK, |registry| registry.fault(Fault::on("*").status(503, "no"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_orders_while_connections_break() {
    all_orders(WEEK, |registry| registry.fault(Fault::on("*").hang_up())).await;
}

/// `/v2/` is answered by what a pull was told: containerd and mirrors never ask for it. Across a
/// restart too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_brought_without_a_ping_is_pulled_by_all() {
    for by_mirror in [false, true] {
        let pki = Pki::new();
        let registry = hub().start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let pull = Pull::new(ALPINE, Style::Containerd);
        if by_mirror {
            pull.at(MIRROR).run(&Client::plain(seawall.addr())).await.unwrap();
        } else {
            pull.run(&seawall.client()).await.unwrap();
        }
        assert_eq!(registry.gets("ping"), 0, "{}", registry.log());
        let seawall = seawall.restart(&pki).await;
        registry.down();
        seawall.clock.advance(HOUR);
        let reply = seawall.client().get("https://registry-1.docker.io/v2/").send().await.unwrap();
        let challenge = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, challenge));
        for (order, style, _) in ORDERS {
            seawall.client().pull(ALPINE, style).await.unwrap_or_else(|e| panic!("{by_mirror}, {order}: {e:?}"));
        }
    }
}

/// Registries that were never seen to want anything: the best known ones do (another source may
/// have brought what is here), and a token is given in their place; of others nothing is wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_brought_without_a_challenge_is_pulled_by_all() {
    let lab = "[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nupstreams = [{ url = \"https://lab.test\" }]";
    for (host, toml, status) in [("lab.test", lab, 200), ("ghcr.io", "", 401), ("quay.io", "", 401)] {
        let pki = Pki::new();
        let registry = Registry::new(host).image("a/b:1", Image::two_platforms()).start(&pki).await;
        let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
        let image = format!("{host}/a/b:1");
        seawall.client().pull(&image, Style::Containerd).await.unwrap();
        let seawall = seawall.restart(&pki).await;
        registry.down();
        seawall.clock.advance(HOUR);
        let ping = async || seawall.client().get(&format!("https://{host}/v2/")).send().await.unwrap().status;
        assert_eq!(ping().await, status, "{host}");
        for (order, style, _) in ORDERS {
            seawall.client().pull(&image, style).await.unwrap_or_else(|e| panic!("{host}, {order}: {e:?}"));
        }
        registry.up();
        seawall.clock.advance(Duration::from_secs(5));
        // Pulls find out that it is back.
        seawall.client().pull(&image, Style::Containerd).await.unwrap();
        assert_eq!(ping().await, 200, "{host} itself");
    }
}

/// gitlab.com is no host of seawall's: nobody can answer for its token service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_elsewhere_are_not_needed_for_what_is_public() {
    let pki = Pki::new();
    let registry = Registry::new("registry.gitlab.com").image("a/b:1", Image::two_platforms());
    let registry = registry.token_auth_at("gitlab.com").start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let image = "registry.gitlab.com/a/b:1";
    seawall.client().pull(image, Style::Containerd).await.unwrap();
    let reply = seawall.client().get("https://registry.gitlab.com/v2/").send().await.unwrap();
    assert_eq!(reply.status, 401);
    registry.down();
    for later in [HOUR, HOUR] {
        seawall.clock.advance(later);
        for (order, style, _) in ORDERS {
            seawall.client().pull(image, style).await.unwrap_or_else(|e| panic!("{order}: {e:?}"));
        }
    }
}

/// Nothing is here: that the registry is away is all there is to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_copy_the_ping_tells_the_truth() {
    let pki = Pki::new();
    let registry = hub().start(&pki).await;
    registry.down();
    let seawall = Seawall::before(&registry).start(&pki).await;
    let reply = seawall.client().get("https://registry-1.docker.io/v2/").send().await.unwrap();
    assert_eq!(reply.status, 502);
}

/// Not an outage, but the same order: containerd (and docker since 29) shows no login before it was
/// asked to. What is public is asked for nobody then, and nobody's pulls may be spent where this
/// client's own are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_nothing_is_asked_to_log_in_when_nobodys_pulls_are_spent() {
    let pki = Pki::new();
    let registry = hub().quota(100).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    Pull::new(ALPINE, Style::Containerd).user(ALICE.0, ALICE.1).run(&seawall.client()).await.unwrap();
}
