//! Name servers of seawall's own: in every way they are asked, and what becomes of those that do
//! not answer.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::harness::*;

const TAG: &str = "https://lab.test/v2/some/thing/manifests/1";
const NAME: &str = "dns.corp.test";
/// RFC 1035 4.1.1.
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

async fn lab(pki: &Pki) -> Registry {
    Registry::new("lab.test").image("some/thing:1", Image::multi_layer()).start(pki).await
}

/// seawall in front of the lab, which is where these say.
async fn asking(servers: &[String], lab: &Registry, pki: &Pki) -> Seawall {
    let port = lab.addr("lab.test").port();
    let toml = format!(
        "[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nupstreams = [{{ url = \"https://lab.test:{port}\" }}]\n\
         [upstream]\nCA_FILE\nnameservers = {servers:?}"
    );
    Seawall::alone().toml(&toml).start(pki).await
}

async fn here(over: Over) -> Dns {
    Dns::over(over, |_, _| vec![Ipv4Addr::LOCALHOST]).await
}

async fn ask(seawall: &Seawall) -> (u16, String) {
    let reply = seawall.client().get(TAG).send().await.unwrap();
    (reply.status.as_u16(), String::from_utf8_lossy(reply.bytes()).into_owned())
}

/// What is asked of it over UDP, over TCP when it does not fit, over TCP alone, over TLS and over
/// HTTPS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_is_asked_in_the_way_that_is_written() {
    let pki = Pki::new();
    let lab = lab(&pki).await;
    for (over, before) in [
        (Over::Udp, "".to_owned()),
        (Over::Udp, "udp://".to_owned()),
        (Over::Truncated, "".to_owned()),
        (Over::Tcp, "tcp://".to_owned()),
        (Over::Tls(pki.server(NAME, Alpn::None)), format!("tls://{NAME}@")),
        (Over::Tls(pki.server("127.0.0.1", Alpn::None)), "tls://".to_owned()),
        (Over::Https(pki.server(NAME, Alpn::H2)), format!("https://{NAME}@")),
        (Over::Https(pki.server("127.0.0.1", Alpn::H2)), "https://".to_owned()),
    ] {
        let dns = here(over).await;
        let seawall = asking(&[format!("{before}{}", dns.addr())], &lab, &pki).await;
        let (status, said) = ask(&seawall).await;
        assert_eq!(status, 200, "{before}: {said}");
        assert!(dns.asked().iter().all(|name| name == "lab.test"), "{before}: {:?}", dns.asked());
        assert!(!dns.asked().is_empty(), "{before}");
    }
}

/// Neither its name nor its issuer may be another: and what is wrong is said, with the server's
/// name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_with_a_wrong_certificate_is_refused() {
    let (pki, strange) = (Pki::new(), Pki::new());
    let lab = lab(&pki).await;
    for (over, scheme, why) in [
        (Over::Tls(pki.server("other.test", Alpn::None)), "tls", "not valid for name"),
        (Over::Tls(strange.server(NAME, Alpn::None)), "tls", "upstream.ca_file"),
        (Over::Https(pki.server("other.test", Alpn::H2)), "https", "not valid for name"),
        (Over::Https(strange.server(NAME, Alpn::H2)), "https", "upstream.ca_file"),
    ] {
        let dns = here(over).await;
        let server = format!("{scheme}://{NAME}@{}", dns.addr());
        let seawall = asking(std::slice::from_ref(&server), &lab, &pki).await;
        let (status, said) = ask(&seawall).await;
        assert_eq!(status, 502, "{said}");
        assert!(said.contains("lab.test cannot be resolved: ") && said.contains(&server), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(dns.asked().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_is_asked_where_one_is_silent_or_errs() {
    let pki = Pki::new();
    let lab = lab(&pki).await;
    let (silent, broken, good) = (here(Over::Silent).await, here(Over::Fails(SERVFAIL)).await, here(Over::Udp).await);
    let gone = here(Over::Tcp).await.addr();
    let servers =
        [silent.addr().to_string(), format!("tcp://{gone}"), broken.addr().to_string(), good.addr().to_string()];
    let seawall = asking(&servers, &lab, &pki).await;
    let begun = Instant::now();
    let (status, said) = ask(&seawall).await;
    assert_eq!(status, 200, "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!silent.asked().is_empty() && !broken.asked().is_empty());
    // Who answered is asked first from now on.
    let refused =
        seawall.client().connect("https://other.test/").await.err().expect("no tunnel to loopback").to_string();
    assert!(refused.contains("other.test is refused"), "{refused}");
    assert!(good.asked().contains(&"other.test".to_owned()) && !silent.asked().contains(&"other.test".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_that_fails_is_named() {
    let pki = Pki::new();
    let lab = lab(&pki).await;
    let broken = here(Over::Fails(SERVFAIL)).await;
    let gone = here(Over::Tcp).await.addr();
    let seawall = asking(&[format!("tcp://{gone}"), broken.addr().to_string()], &lab, &pki).await;
    let (status, said) = ask(&seawall).await;
    let wanted = format!(
        "lab.test cannot be resolved: tcp://{gone} cannot be asked: Connection refused (os error 111); {} answers Server Failure",
        broken.addr()
    );
    assert!(status == 502 && said.contains(&wanted), "{said}");
}

/// One that takes a connection and says nothing is told as what it is, and not as the registry's
/// silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_hangs_is_named() {
    let pki = Pki::new();
    let lab = lab(&pki).await;
    let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("tls://{NAME}@{}", hangs.local_addr().unwrap());
    let seawall = asking(std::slice::from_ref(&server), &lab, &pki).await;
    let (status, said) = ask(&seawall).await;
    assert!(
        status == 502 && said.contains(&format!("lab.test cannot be resolved: {server} does not answer")),
        "{said}"
    );
}

/// That a name does not exist is what was asked for: the next one is not asked for a better answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_such_name_is_an_answer() {
    let pki = Pki::new();
    let lab = lab(&pki).await;
    let (none, other) = (Dns::over(Over::Fails(NXDOMAIN), |_, _| Vec::new()).await, here(Over::Udp).await);
    let seawall = asking(&[none.addr().to_string(), other.addr().to_string()], &lab, &pki).await;
    let (status, said) = ask(&seawall).await;
    let wanted = format!("lab.test cannot be resolved: {} says that there is no such name", none.addr());
    assert!(status == 502 && said.contains(&wanted), "{said}");
    assert!(other.asked().is_empty());
    let empty = Dns::start(|_, _| Vec::new()).await;
    let seawall = asking(&[empty.addr().to_string(), other.addr().to_string()], &lab, &pki).await;
    let wanted = format!("{} says that it has no address", empty.addr());
    let (_, said) = ask(&seawall).await;
    assert!(said.contains(&wanted) && other.asked().is_empty(), "{said}");
}

/// That nobody else is asked, `upstream::resolve` tests: here the system knows none of the names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_out_asks_them() {
    let pki = Pki::new();
    let registry = Registry::new("lab.test").image("some/thing:1", Image::multi_layer()).cdn("cdn.test");
    let registry = registry.token_auth_at("auth.test").start(&pki).await;
    let files = Registry::new("files.test").start(&pki).await;
    let dns = here(Over::Udp).await;
    let (port, files_port) = (registry.addr("lab.test").port(), files.addr("files.test").port());
    let proxy = ForwardProxy::start(registry.hosts(), None).await;
    let common = |more: &str| {
        format!(
            "[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nauth_hosts = [\"auth.test\"]\n\
             upstreams = [{{ url = \"https://lab.test:{port}\" }}]\n\
             [tunnel]\ndeny_networks = []\nports = [443, {files_port}]\n\
             [upstream]\nCA_FILE\nnameservers = [\"{}\"]\n{more}",
            dns.addr()
        )
    };
    // A tunnel, and TLS passed through by its SNI: to port 443, where nobody is.
    let seawall = Seawall::alone().toml(&common("")).start(&pki).await;
    Client::via_connect(seawall.addr(), &pki.ca_pem())
        .connect(&format!("https://files.test:{files_port}/"))
        .await
        .unwrap();
    let direct = Client::direct_tls(seawall.addr(), &pki.ca_pem());
    let _ = direct.connect("https://passed.test/").await;
    // The registry, and its token service on another host.
    ask(&seawall).await;
    for name in ["files.test", "passed.test", "lab.test", "auth.test"] {
        assert!(dns.asked().iter().any(|asked| asked == name), "{name}: {:?}", dns.asked());
    }
    // A parent proxy that has a name.
    let parent = format!("proxy = \"http://parent.test:{}\"", proxy.addr().port());
    let seawall = Seawall::alone().toml(&common(&parent)).start(&pki).await;
    ask(&seawall).await;
    assert!(dns.asked().iter().any(|asked| asked == "parent.test"), "{:?}", dns.asked());
    assert!(!proxy.asked().is_empty());
}
