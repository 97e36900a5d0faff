//! Who is asked, and who is not, while a 429 stands.

use crate::access::token;
use crate::harness::*;
use crate::quota::{as_client, gets_of, message, ratelimits};
use crate::tags::{ALL, HUB, MINUTE, TAG, hub};

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

/// Nobody may read what the operator shares: a 401 would send clients for a login, and end what was
/// granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_and_cannot_be_paid_for_is_a_429() {
    let pki = Pki::new();
    let (registry, seawall, _kept) = sharing(&pki).await;
    let client = seawall.client();
    let url = |tag: &str| format!("{HUB}/v2/acme/shared/manifests/{tag}");
    assert_eq!(as_client(&client, &url("1")).await.status, 200, "{}", registry.log());
    registry.set_remaining("ci", 0);
    for round in ["upstream said so", "it stands"] {
        let reply = as_client(&client, &url("2")).await;
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
    assert_eq!(as_client(&client, &url("1")).await.status, 200, "what is here is served");
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
    [&hub, &mirror].into_iter().for_each(Registry::reset_counts);
    hub.set_remaining(ANONYMOUS_SOURCE, 0);
    for registry in [&hub, &mirror] {
        registry.add_image("library/new:1", &Image::single(&[b"new"]));
    }
    for round in 0..5 {
        message(&as_client(&client, &format!("{HUB}/v2/library/new/manifests/1")).await);
        let asked = mirror.gets("manifests") + hub.count(|seen| seen.status() == 429);
        assert_eq!(asked, usize::from(round == 0), "{round}: {}\n{}", mirror.log(), hub.log());
        [&hub, &mirror].into_iter().for_each(Registry::reset_counts);
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
    for registry in [&hub, &mirror] {
        registry.add_image("library/new:1", &Image::single(&[b"new"]));
    }
    client.pull("docker.io/library/new:1", Style::Podman).await.unwrap();
    assert_eq!(hub.gets("manifests"), 2, "it is the first again: {}\n{}", mirror.log(), hub.log());
}

/// docker asks for a new token before each pull.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_stands_for_a_user_with_a_new_token() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::single(&[b"alpine"]))
        .user("alice", "alices-password")
        .user("bob", "bobs-password")
        .token_auth()
        .quota(100)
        .start(&pki)
        .await;
    registry.set_remaining("alice", 0);
    let seawall = Seawall::before(&registry).start(&pki).await;
    let pull = async |user: &str, password: &str| {
        let pull = Pull::new("docker.io/library/alpine:3.20", Style::Docker).user(user, password);
        pull.run(&seawall.client()).await
    };
    for _ in 0..3 {
        pull("alice", "alices-password").await.unwrap_err();
        assert_eq!(registry.gets("manifests"), 1, "{}", registry.log());
        seawall.clock.advance(MINUTE);
    }
    pull("bob", "bobs-password").await.unwrap();
    assert_eq!(gets_of(&registry, "bob"), 1, "{}", registry.log());
}

/// Upstream's window slides, or began before seawall saw it: its end is a guess, and nobody is sent
/// away for hours for a guess.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_without_an_end_is_doubted_by_a_head() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let url = format!("{HUB}/v2/library/alpine/manifests/{}", Image::two_platforms().digest());
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    assert_eq!(as_client(&client, &url).await.status, 429);
    for _ in 0..3 {
        registry.reset_counts();
        for _ in 0..5 {
            assert_eq!(as_client(&client, &url).await.status, 429);
        }
        assert_eq!(registry.requests().len(), 0, "{}", registry.log());
        seawall.clock.advance(MINUTE);
        assert_eq!(as_client(&client, &url).await.status, 429);
        assert_eq!((registry.requests().len(), registry.heads("manifests")), (1, 1), "{}", registry.log());
    }
    registry.set_remaining(ANONYMOUS_SOURCE, 1);
    seawall.clock.advance(6 * MINUTE);
    assert_eq!(as_client(&client, &url).await.status, 200, "with a new token: {}", registry.log());
}

/// Docker Hub does not count pulls of sponsored images, and says nothing of quota with them
/// (docs/protocol.md 1.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_counted_is_pulled_when_nothing_is_left() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    registry.add_image("sponsored/app:1", &Image::single(&[b"sponsored"]));
    let counted = || Fault::on("manifests").path_contains("library/");
    registry.fault(counted().set("ratelimit-remaining", "0;w=21600"));
    registry.fault(counted().method(http::Method::GET).pull_limit());
    registry.fault(Fault::on("manifests").path_contains("sponsored/").set("ratelimit-limit", "unlimited"));
    for reserve in [0, 10] {
        let toml = format!("[[registry]]\nname = \"docker.io\"\nreserve = {reserve}");
        let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
        assert_eq!(as_client(&seawall.client(), TAG).await.status, 429, "{}", registry.log());
        assert_eq!(as_client(&seawall.client(), TAG).await.status, 429);
        let reply = as_client(&seawall.client(), &format!("{HUB}/v2/sponsored/app/manifests/1")).await;
        assert_eq!(reply.status, 200, "{reserve}: {}", registry.log());
    }
}

/// A burst takes no more of the last pulls than one after the other would.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_under_way_are_taken_off_what_is_left() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let names = ["library/a", "library/b", "library/c"];
    for name in names {
        registry.add_image(&format!("{name}:1"), &Image::single(&[name.as_bytes()]));
    }
    let toml = "[[registry]]\nname = \"docker.io\"\nreserve = 98";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    let gate = Gate::new();
    registry.fault(Fault::on("manifests").method(http::Method::GET).hold_head(&gate));
    let (client, urls) = (seawall.client(), names.map(|name| format!("{HUB}/v2/{name}/manifests/1")));
    let late = async {
        gate.reached_by(2).await;
        let said = message(&as_client(&client, &urls[2]).await);
        gate.open();
        said
    };
    let (one, two, said) = tokio::join!(as_client(&client, &urls[0]), as_client(&client, &urls[1]), late);
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200), "{}", registry.log());
    assert!(said.contains("the last 98 are for what is asked for by digest"), "{said}");
    assert_eq!(registry.remaining(ANONYMOUS_SOURCE), Some(98));
}

/// Whose token was asked for: the name in a `Basic` credential.
fn asks_as(user: &'static str) -> impl Fn(&Seen) -> bool + Send + Sync + 'static {
    move |seen| {
        let shown = seen.authorization().and_then(|shown| shown.strip_prefix("Basic "));
        let login = shown.and_then(|shown| data_encoding::BASE64.decode(shown.as_bytes()).ok());
        login.is_some_and(|login| login.starts_with(format!("{user}:").as_bytes()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_services_429_stands_for_who_got_it() {
    const TOKEN: &str = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:library/alpine:pull";
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").user("alice", "alices-password").user("bob", "bobs-password");
    let registry = registry.token_auth().quota(100).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let ask = async |user: &str, password: &str| client.get(TOKEN).basic(user, password).send().await.unwrap();
    registry.fault(Fault::on("token").when(asks_as("alice")).abuse_limit(60).times(1));
    assert_eq!(ask("alice", "alices-password").await.status, 429);
    for _ in 0..5 {
        let reply = ask("alice", "alices-password").await;
        let said = message(&reply);
        assert!(said.contains("the token service of docker.io (auth.docker.io) gives no tokens until 20"), "{said}");
        assert!((1..=60).contains(&reply.header("retry-after").parse::<u64>().unwrap()));
    }
    assert_eq!(registry.count(asks_as("alice")), 1, "{}", registry.log());
    assert_eq!(ask("bob", "bobs-password").await.status, 200);
    assert_eq!(client.get(TOKEN).send().await.unwrap().status, 200);
    assert_eq!(seawall.metric("seawall_ratelimit_held_back_total{registry=\"docker.io\",limit=\"tokens\"}"), 5.0);
    seawall.clock.advance(MINUTE);
    assert_eq!(ask("alice", "alices-password").await.status, 200);
    // Nobody's, and no one else's.
    registry.fault(Fault::on("token").abuse_limit(60).times(1));
    for _ in 0..5 {
        let other = TOKEN.replace("alpine", "other");
        assert_eq!(client.get(&other).send().await.unwrap().status, 429);
    }
    assert_eq!(registry.count(|seen| seen.status() == 429), 2, "{}", registry.log());
    assert_eq!(ask("alice", "alices-password").await.status, 200);
}

/// A login that is refused too often locks the account; pulls go on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_accounts_login_rests_while_its_429_stands() {
    let pki = Pki::new();
    let (registry, seawall, _kept) = sharing(&pki).await;
    let client = seawall.client();
    registry.fault(Fault::on("token").when(asks_as("ci")).abuse_limit(60));
    client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap();
    for _ in 0..5 {
        // Past what failed a moment ago.
        seawall.clock.advance(std::time::Duration::from_secs(11));
        let reply = as_client(&client, &format!("{HUB}/v2/acme/shared/manifests/1")).await;
        assert_eq!(reply.status, 429, "{}", registry.log());
    }
    assert_eq!(registry.count(asks_as("ci")), 1, "{}", registry.log());
    registry.clear_faults();
    seawall.clock.advance(MINUTE);
    assert_eq!(
        as_client(&client, &format!("{HUB}/v2/acme/shared/manifests/1")).await.status,
        200,
        "{}",
        registry.log()
    );
}

/// containers/image does as it is told, a minute at a time, and says nothing to its user meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_in_silence_is_told_to_wait_in_words_alone() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.set_remaining(ANONYMOUS_SOURCE, 0);
    for (user_agent, told) in [("containerd/2.1", true), ("containers/5.24.2 (github.com/containers/image)", false)] {
        let client = seawall.client();
        let (mut replies, shown) = (Vec::new(), token(&client, None, "library/alpine").await);
        for _ in 0..2 {
            let ask = client.get(TAG).header("user-agent", user_agent).bearer(&shown);
            replies.push(ask.header("accept", &ALL.join(",")).send().await.unwrap());
        }
        for reply in replies {
            assert_eq!((reply.status.as_u16(), reply.header("retry-after").is_empty()), (429, !told), "{user_agent}");
            let said = reply.json()["errors"][0]["message"].to_string();
            assert!(said.contains("allows no more pulls") && said.contains("until 20"), "{said}");
        }
    }
}

/// A registry that throttles one endpoint says nothing of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_to_a_list_holds_back_no_pull() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    registry.fault(Fault::on("tags").abuse_limit(3600));
    let client = Client::plain(seawall.addr());
    for path in ["v2/docker.io/library/alpine/tags/list", "v2/library/alpine/tags/list"] {
        let reply = client.get(&format!("http://{}/{path}", seawall.addr())).send().await.unwrap();
        assert_eq!(reply.status, 429, "{path}");
    }
    seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
}
