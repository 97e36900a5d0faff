//! A parent proxy: all that is dialled goes through it, and what it will not give is said.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use http::Version;
use tokio::net::TcpListener;

use crate::harness::*;

const HUB: &str = "https://registry-1.docker.io";
const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";
/// `jane:open sesame`
const JANE: &str = "Basic amFuZTpvcGVuIHNlc2FtZQ==";

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .token_auth()
        .cdn("cdn.example.test")
        .start(pki)
        .await
}

fn upstream(proxy: &str) -> String {
    format!("[upstream]\nCA_FILE\nproxy = \"{proxy}\"")
}

/// Manifests, tokens, and blobs of a CDN: nothing is dialled but the parent. HTTP/2 comes through
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_goes_through_the_parent_and_so_do_tokens_and_redirects() {
    for secured in [false, true] {
        for style in Style::ALL {
            let pki = Pki::new();
            let registry = hub(&pki).await;
            let credentials = Some(JANE.to_owned());
            let (proxy, scheme) = match secured {
                false => (ForwardProxy::start(registry.hosts(), credentials).await, "http"),
                true => (ForwardProxy::secured(&pki, registry.hosts(), credentials).await, "https"),
            };
            let toml = upstream(&format!("{scheme}://jane:open%20sesame@{}", proxy.addr()));
            let seawall = Seawall::alone().toml(&toml).start(&pki).await;
            let pulled = seawall.client().pull("docker.io/library/alpine:3.20", style).await;
            pulled.unwrap_or_else(|e| panic!("{scheme} {style:?}: {e}\n{}\n{:?}", registry.log(), proxy.heads()));
            let hosts = ["auth.docker.io:443", "cdn.example.test:443", "registry-1.docker.io:443"];
            assert_eq!(proxy.asked(), hosts, "{style:?}");
            assert_eq!(registry.connections(), u64::try_from(proxy.heads().len()).unwrap());
            assert!(proxy.heads().iter().all(|head| head.contains(&format!("Proxy-Authorization: {JANE}\r\n"))));
            // The password is the parent's: it is in no request to anybody else.
            assert!(registry.requests().iter().all(|seen| seen.header("proxy-authorization").is_none()));
            let manifests = registry.requests().into_iter().filter(|seen| seen.kind() == "manifests");
            assert!(manifests.map(|seen| seen.version).all(|version| version == Version::HTTP_2), "{}", registry.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socks_parent_resolves_names_or_is_given_addresses() {
    for (scheme, remote) in [("socks5h", true), ("socks5", false)] {
        let pki = Pki::new();
        let registry = Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::multi_layer());
        let registry = registry.start(&pki).await;
        let dns = Dns::start(|_, _| vec![Ipv4Addr::new(198, 51, 100, 7)]).await;
        let addr = registry.addr("registry-1.docker.io");
        let known = HashMap::from(["registry-1.docker.io", "198.51.100.7"].map(|host| (host.to_owned(), addr)));
        let socks = Socks::start(known, Some(("jane", "open sesame"))).await;
        let resolving = format!("nameservers = [\"{}\"]", dns.addr());
        let toml = upstream(&format!("{scheme}://jane:open%20sesame@{}", socks.addr()));
        let seawall = Seawall::alone().toml(&format!("{toml}\n{resolving}")).start(&pki).await;
        seawall.client().pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
        let asked = socks.asked();
        let wanted = if remote { "registry-1.docker.io:443" } else { "198.51.100.7:443" };
        assert!(!asked.is_empty() && asked.iter().all(|host| host == wanted), "{asked:?}");
        assert_eq!(dns.asked().is_empty(), remote, "{:?}", dns.asked());

        let toml = upstream(&format!("{scheme}://jane:hunter2@{}", socks.addr()));
        let seawall = Seawall::alone().toml(&format!("{toml}\n{resolving}")).start(&pki).await;
        let reply = seawall.client().get(TAG).send().await.unwrap();
        let said = String::from_utf8_lossy(reply.bytes()).into_owned();
        let wanted = format!("the parent proxy {} wants other credentials: check upstream.proxy", socks.addr());
        assert!(reply.status == 502 && said.contains(&wanted) && !said.contains("hunter2"), "{said}");
    }
}

/// What a client reads of a pull and of a CONNECT.
async fn said(seawall: &Seawall, connect: &str) -> [String; 2] {
    let reply = seawall.client().get(TAG).send().await.unwrap();
    let refused = seawall.client().connect(connect).await.err().expect("no tunnel");
    let ClientError::Refused(status, why, _) = refused else { panic!("{refused}") };
    assert_eq!(reply.status.as_u16(), status);
    [String::from_utf8_lossy(reply.bytes()).into_owned(), why]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_parent_will_not_give_is_said_without_the_password() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let proxy = ForwardProxy::start(registry.hosts(), Some(JANE.to_owned())).await;
    let toml = upstream(&format!("http://jane:hunter2@{}", proxy.addr()));
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    for text in said(&seawall, "https://files.example.test/").await {
        let wanted = format!("the parent proxy {} wants other credentials: check upstream.proxy", proxy.addr());
        assert!(text.contains(&wanted) && !text.contains("hunter2"), "{text}");
    }
    assert_eq!(registry.connections(), 0);

    let none = ForwardProxy::start(HashMap::new(), None).await;
    let seawall = Seawall::alone().toml(&upstream(&format!("http://{}", none.addr()))).start(&pki).await;
    let [pull, connect] = said(&seawall, "https://files.example.test/").await;
    let wanted = |host| format!("the parent proxy {} refused a connection to {host}:443: 403 Forbidden", none.addr());
    assert!(pull.contains(&wanted("registry-1.docker.io")), "{pull}");
    assert_eq!(connect, wanted("files.example.test"));

    let away = none.addr();
    drop(none);
    let closed = async || while tokio::net::TcpStream::connect(away).await.is_ok() {};
    tokio::time::timeout(Duration::from_secs(10), closed()).await.unwrap();
    for text in said(&seawall, "https://files.example.test/").await {
        let wanted = format!("the parent proxy {away} cannot be reached: Connection refused");
        assert!(text.contains(&wanted), "{text}");
    }
}

/// `connect_timeout` is for all of it: the parent that accepts and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_says_nothing_is_given_up() {
    let pki = Pki::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = silent.local_addr().unwrap();
    for scheme in ["http", "https", "socks5h"] {
        let toml = upstream(&format!("{scheme}://{addr}")) + "\nconnect_timeout = \"200ms\"";
        let seawall = Seawall::alone().toml(&toml).start(&pki).await;
        for text in said(&seawall, "https://files.example.test/").await {
            let wanted = format!("the parent proxy {addr} gave no connection within 200ms");
            assert!(text.contains(&wanted), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_served_while_the_parent_is_away() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let proxy = ForwardProxy::start(registry.hosts(), None).await;
    let toml = upstream(&format!("http://{}", proxy.addr()));
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    let client = seawall.client();
    for style in Style::ALL {
        client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
    drop(proxy);
    // The tunnels that were open are gone, too.
    registry.down();
    seawall.clock.advance(Duration::from_secs(86_400));
    let reply = client.get(TAG).send().await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.header("cache-status").contains("fwd=stale; detail=unreachable"), "{:?}", reply.headers);
    for style in Style::ALL {
        client.pull("docker.io/library/alpine:3.20", style).await.unwrap();
    }
}

/// CONNECT is for plain HTTP as well: the parent sees where to, and nothing of what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_registry_is_tunnelled_to_as_well() {
    let pki = Pki::new();
    let lab = Registry::new("lab.test:5000").image("some/thing:1", Image::multi_layer()).plain().start(&pki).await;
    let hosts = HashMap::from([("lab.test".to_owned(), lab.addr("lab.test:5000"))]);
    let proxy = ForwardProxy::start(hosts, None).await;
    let registry = "[[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test:5000\"]\n\
                    upstreams = [{ url = \"http://lab.test:5000\" }]\n";
    let toml = format!("{registry}{}", upstream(&format!("http://{}", proxy.addr())));
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    let url = "http://lab.test:5000/v2/some/thing/manifests/1";
    let reply = seawall.client().get(url).send().await.unwrap();
    assert_eq!(reply.status, 200, "{:?} {:?}", reply.body, proxy.heads());
    assert_eq!(proxy.asked(), ["lab.test:5000"]);
}

/// `no_proxy`, this machine and the operator's fixed addresses are dialled from here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_no_proxy_and_fixed_ones_are_dialled_directly() {
    let pki = Pki::new();
    let direct = Registry::new("registry.lab.test").image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let fixed = Registry::new("ghcr.io").image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let hub = hub(&pki).await;
    let proxy = ForwardProxy::start(hub.hosts(), None).await;
    let dns = Dns::start(|_, _| vec![Ipv4Addr::LOCALHOST]).await;
    let port = direct.addr("registry.lab.test").port();
    let toml = format!(
        "[[registry]]\nname = \"lab\"\nhosts = [\"registry.lab.test\"]\n\
         upstreams = [{{ url = \"https://registry.lab.test:{port}\" }}]\n{}\nnameservers = [\"{}\"]\n\
         no_proxy = [\"lab.test:{port}\"]",
        upstream(&format!("http://{}", proxy.addr())),
        dns.addr()
    );
    let seawall = Seawall::alone().front(&fixed).toml(&toml).start(&pki).await;
    let client = seawall.client();
    client.pull("registry.lab.test/some/thing:1", Style::Docker).await.unwrap();
    client.pull("ghcr.io/some/thing:1", Style::Docker).await.unwrap();
    assert_eq!(proxy.heads(), Vec::<String>::new());
    client.pull("docker.io/library/alpine:3.20", Style::Docker).await.unwrap();
    assert!(!proxy.heads().is_empty());
    assert!(dns.asked().iter().all(|name| name == "registry.lab.test"), "{:?}", dns.asked());
}

/// A blind tunnel, by CONNECT and by SNI, is TLS with the origin itself. An upload, too, goes
/// through the parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_and_uploads_go_through_the_parent() {
    let pki = Pki::new();
    let files = Registry::new("files.example.test").image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let hub = Registry::new("registry-1.docker.io").start(&pki).await;
    let hosts = files.hosts().into_iter().chain(hub.hosts()).collect();
    let proxy = ForwardProxy::start(hosts, Some(JANE.to_owned())).await;
    let toml = upstream(&format!("http://jane:open%20sesame@{}", proxy.addr()));
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    let url = "https://files.example.test/v2/some/thing/manifests/1";
    for client in
        [Client::via_connect(seawall.addr(), &pki.ca_pem()), Client::direct_tls(seawall.addr(), &pki.ca_pem())]
    {
        for client in [client.clone(), client.h2()] {
            let reply = client.get(url).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, ""));
        }
    }
    assert_eq!(proxy.asked(), ["files.example.test:443"]);
    let begin = seawall.client();
    let reply = begin.request(http::Method::POST, &format!("{HUB}/v2/a/b/blobs/uploads/")).send().await.unwrap();
    assert_eq!(reply.status, 202, "{}", hub.log());
    assert_eq!(proxy.asked(), ["files.example.test:443", "registry-1.docker.io:443"]);
}

/// The parent resolves names, so the name is all there is to look at. Addresses are addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parent_is_not_asked_for_what_is_local() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let victim = Registry::new("victim.test").start(&pki).await;
    let inside = victim.addr("victim.test");
    let mut hosts = registry.hosts();
    for host in ["127.0.0.1", "localhost", "a.localhost", "169.254.169.254", "metadata.google.internal"] {
        hosts.insert(host.to_owned(), inside);
    }
    for scheme in ["http", "socks5h"] {
        let (forward, socks) =
            (ForwardProxy::start(hosts.clone(), None).await, Socks::start(hosts.clone(), None).await);
        let proxy = if scheme == "http" { forward.addr() } else { socks.addr() };
        let seawall = Seawall::alone().toml(&upstream(&format!("{scheme}://{proxy}"))).start(&pki).await;
        let client = seawall.client();
        for host in [
            "127.0.0.1",
            "localhost",
            "LocalHost.",
            "a.localhost",
            "169.254.169.254",
            "metadata.google.internal",
            "metadata",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:7f00:1::]",
            "[::1]",
            "0.0.0.0",
        ] {
            let refused = Client::via_connect(seawall.addr(), &pki.ca_pem()).connect(&format!("https://{host}/")).await;
            let Some(ClientError::Refused(403, why, _)) = refused.err() else { panic!("{host}") };
            assert!(why.contains("is refused: "), "{host}: {why}");
            registry.fault(Fault::on("manifests").redirect(&format!("https://{host}:{}/x", inside.port())));
            let reply = client.get(TAG).send().await.unwrap();
            assert_eq!(reply.status, 502, "{host}");
            registry.clear_faults();
        }
        let asked: Vec<_> = forward.asked().into_iter().chain(socks.asked()).collect();
        assert!(asked.iter().all(|host| host.contains("docker.io")), "{asked:?}");
    }
    assert_eq!(victim.connections(), 0);
}

#[test]
fn the_parents_password_appears_nowhere() {
    alone("parent::password_alone");
}

/// One thread, so that all of it is logged here.
#[tokio::test]
#[ignore = "the_parents_password_appears_nowhere runs it"]
async fn password_alone() {
    let (log, _guard) = Log::capture();
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let forward = ForwardProxy::start(registry.hosts(), Some(JANE.to_owned())).await;
    let socks = Socks::start(registry.hosts(), Some(("jane", "open sesame"))).await;
    let mut said = String::new();
    for (proxy, password) in [
        (format!("http://jane:open%20sesame@{}", forward.addr()), "open%20sesame"),
        (format!("http://jane:hunter2@{}", forward.addr()), "hunter2"),
        (format!("https://jane:hunter2@{}", forward.addr()), "hunter2"),
        (format!("socks5h://jane:open%20sesame@{}", socks.addr()), "open%20sesame"),
        (format!("socks5h://jane:hunter2@{}", socks.addr()), "hunter2"),
    ] {
        let seawall = Seawall::alone().toml(&(upstream(&proxy) + "\nconnect_timeout = \"1s\"")).start(&pki).await;
        let reply = seawall.client().get(TAG).send().await.unwrap();
        said.push_str(&format!("{:?} {}", reply.headers, String::from_utf8_lossy(reply.bytes())));
        if let Some(refused) = seawall.client().connect("https://files.example.test/").await.err() {
            said.push_str(&refused.to_string());
        }
        let metrics = Client::plain(seawall.admin()).get("http://admin.test/metrics").send().await.unwrap();
        said.push_str(&String::from_utf8_lossy(metrics.bytes()));
        seawall.stop().await;
        // And what a person sees who checks it.
        for (args, proxy) in [
            (&["check"][..], proxy.as_str()),
            (&["check", "--json"], &proxy),
            (&["check"], &proxy.replace("://", ":")),
            (&["check"], &proxy.replace(password, &format!("{password}/{password}"))),
        ] {
            let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
            let output = check.args(args).env("SEAWALL_UPSTREAM__PROXY", proxy).current_dir("/").output().unwrap();
            said.push_str(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        }
    }
    assert!(said.contains("wants other credentials") && said.contains("a proxy is a URL"), "{said}");
    let logged = log.text();
    assert!(logged.contains("seawall"), "there is a log");
    for secret in ["hunter2", "sesame", "amFuZTp"] {
        assert!(!logged.contains(secret), "{secret} in the log");
        assert!(!said.contains(secret), "{secret} in an answer: {said}");
    }
}
