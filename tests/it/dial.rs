//! The guard, at the place where it counts: nothing inside is reached, whatever a client, a
//! registry or DNS says.

use std::net::Ipv4Addr;

use http::Method;

use crate::harness::*;

const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::multi_layer()).start(pki).await
}

/// Every way to write an address of this machine or of a metadata service that a resolver, a URL
/// parser or a translator reads.
const DISGUISES: [&str; 24] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.1.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0x0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST.",
    "x.localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "169.254.169.254",
    "[fd00:ec2::254]",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_to_the_inside_is_refused_in_every_disguise() {
    let pki = Pki::new();
    let (registry, victim) = (hub(&pki).await, Registry::new("victim.test").start(&pki).await);
    let port = victim.addr("victim.test").port();
    let toml = format!("[tunnel]\nports = [{port}]");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    for host in DISGUISES {
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = raw.read_until("\r\n").await;
        let refused = answer.starts_with("HTTP/1.1 403 ") || answer.starts_with("HTTP/1.1 400 ");
        assert!(refused, "{host}: {answer}");
    }
    assert_eq!(victim.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_or_a_realm_to_the_inside_is_refused_in_every_disguise() {
    let pki = Pki::new();
    let victim = Registry::new("victim.test").start(&pki).await;
    let port = victim.addr("victim.test").port();
    for host in DISGUISES {
        let registry = Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::multi_layer());
        let realm = format!("https://{host}:{port}/token");
        let registry = registry.token_auth().realm(&realm).start(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let client = seawall.client();
        let reply = client.get(TAG).send().await.unwrap();
        assert!([401, 502].contains(&reply.status.as_u16()), "{host}: {}", reply.status);
        registry.fault(Fault::on("manifests").redirect(&format!("https://{host}:{port}/x")));
        for method in [Method::GET, Method::HEAD] {
            let reply = client.request(method, TAG).send().await.unwrap();
            assert_eq!(reply.status, 502, "{host}");
        }
    }
    assert_eq!(victim.connections(), 0);
}

/// What DNS says is looked at, too: every address of an answer, and the one that was looked at is
/// the one that is dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_dns_is_sifted_and_asked_for_once() {
    let pki = Pki::new();
    let (registry, files) = (hub(&pki).await, Registry::new("mixed.test").start(&pki).await);
    let port = files.addr("mixed.test").port();
    let dns = Dns::start(|name, before| match (name, before) {
        ("mixed.test", _) => vec![METADATA, Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)],
        // Rebinding: harmless when it is looked at, and then not.
        ("rebinding.test", 0) => vec![Ipv4Addr::LOCALHOST],
        _ => vec![METADATA],
    })
    .await;
    // Loopback stands for the internet here.
    let toml = format!(
        "[tunnel]\nports = [{port}]\ndeny_networks = [\"metadata\", \"private\"]\n\
         [upstream]\nCA_FILE\nnameservers = [\"{}\"]",
        dns.addr()
    );
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let connect = async |host: &str| {
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        raw.read_until("\r\n").await
    };
    for (host, wanted) in [
        ("mixed.test", "HTTP/1.1 200 "),
        ("rebinding.test", "HTTP/1.1 200 "),
        ("rebinding.test", "HTTP/1.1 403 rebinding.test is refused: 169.254.169.254 is a metadata address"),
        ("metadata.test", "HTTP/1.1 403 metadata.test is refused: 169.254.169.254 is a metadata address"),
        ("intranet", "HTTP/1.1 403 intranet is refused: that is a private name"),
    ] {
        let answer = connect(host).await;
        assert!(answer.starts_with(wanted), "{host}: {answer}");
    }
    assert_eq!(dns.asked(), ["mixed.test", "rebinding.test", "rebinding.test", "metadata.test"]);
    files.until(|files| files.connections() == 2).await;
}

/// By SNI there is a name only; where it leads is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_for_a_name_that_leads_inside_is_not_passed_through() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let dns = Dns::start(|name, _| vec![if name == "loop.test" { Ipv4Addr::LOCALHOST } else { METADATA }]).await;
    let toml = format!("[upstream]\nCA_FILE\nnameservers = [\"{}\"]", dns.addr());
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let client = Client::direct_tls(seawall.addr(), &pki.ca_pem());
    for host in ["loop.test", "metadata.test", "localhost", "metadata.google.internal"] {
        let error = client.connect(&format!("https://{host}/")).await.err().expect("an alert").to_string();
        assert!(error.contains("alert"), "{host}: {error}");
    }
    assert_eq!(dns.asked(), ["loop.test", "metadata.test"], "names that say enough are not asked for");
}

/// Never its own listeners, the admin's included, even where loopback may be dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_leads_back_to_seawall() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[tunnel]\ndeny_networks = []").start(&pki).await;
    for port in [seawall.addr().port(), seawall.admin().port()] {
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]", "127.1"] {
            registry.fault(Fault::on("manifests").redirect(&format!("https://{host}:{port}/x")));
            let reply = seawall.client().get(TAG).send().await.unwrap();
            let said = String::from_utf8_lossy(reply.bytes()).into_owned();
            assert!(reply.status == 502 && said.contains("which is seawall itself"), "{host}: {said}");
            registry.clear_faults();
        }
    }
}

/// Fixed addresses are trusted as given, and a registry that the operator configured may be
/// private.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_word_is_taken() {
    let pki = Pki::new();
    let lab = Registry::new("lab.test").image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let files = Registry::new("files.test").start(&pki).await;
    let port = lab.addr("lab.test").port();
    let dns = Dns::start(|_, _| vec![Ipv4Addr::LOCALHOST]).await;
    let toml = format!(
        "[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nupstreams = [{{ url = \"https://lab.test:{port}\" }}]\n\
         [tunnel]\ndeny_networks = [\"loopback\", \"private\"]\n[upstream]\nCA_FILE\nnameservers = [\"{}\"]",
        dns.addr()
    );
    let seawall = Seawall::alone().front(&files).toml(&toml).start(&pki).await;
    seawall.client().pull("lab.test/some/thing:1", Style::Docker).await.unwrap();
    Client::via_connect(seawall.addr(), &pki.ca_pem()).connect("https://files.test/").await.unwrap();
    // The same address under a name that nobody configured.
    lab.fault(Fault::on("manifests").redirect(&format!("https://other.test:{port}/x")));
    let reply = seawall.client().get("https://lab.test/v2/some/thing/manifests/2").send().await.unwrap();
    let said = String::from_utf8_lossy(reply.bytes()).into_owned();
    assert!(said.contains("other.test is refused: 127.0.0.1 is a loopback address"), "{said}");
}
