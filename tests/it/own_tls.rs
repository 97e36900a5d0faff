//! TLS to seawall itself, by a name or an address of its own: inside it is all that the port
//! answers in the clear.

use http::{Method, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::*;
use crate::target::{FILES, HUB, TAG, hub};

const NAME: &str = "seawall.corp.example";
const MIRROR: &str = "https://seawall.corp.example:3128";
const MANIFEST: &str = "https://seawall.corp.example:3128/v2/library/alpine/manifests/3.20";
const NAMES: &str = "[tls]\nnames = [\"seawall.corp.example\", \"10.1.2.3\"]";

/// Any address, said by name and by number, in h1 and h2, is one mirror; and the next pull asks
/// nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_over_tls_by_name_and_by_address_in_h1_and_h2() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(NAMES).start(&pki).await;
    let client = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    for base in [MIRROR, "https://10.1.2.3:3128"] {
        for (alpn, version) in [
            (Alpn::None, Version::HTTP_11),
            (Alpn::H1, Version::HTTP_11),
            (Alpn::H2, Version::HTTP_2),
            // Go offers both to a proxy, and then speaks h1 whatever was chosen.
            (Alpn::Both, Version::HTTP_11),
        ] {
            let client = client.clone().alpn(alpn);
            let connection = client.connect(base).await.unwrap();
            assert_eq!(connection.version(), version, "{base} {alpn:?}");
            let reply = connection.request(Method::GET, &format!("{base}/v2/library/alpine/manifests/3.20"));
            let reply = reply.send().await.unwrap();
            assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest(), "{base} {alpn:?}");
            for style in Style::ALL {
                Pull::new("docker.io/library/alpine:3.20", style).at(base).run(&client).await.unwrap();
            }
            let page = connection.request(Method::GET, &format!("{base}/ca.crt")).send().await.unwrap();
            assert!(page.status == 200 && page.bytes().starts_with(b"-----BEGIN CERTIFICATE"));
        }
    }
    assert_eq!(registry.gets("manifests"), 1, "{}", registry.log());
    let leaf = client.connect(MIRROR).await.unwrap().peer_cert().unwrap().to_vec();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(format!("{names:?}"), "[DNSName(\"seawall.corp.example\"), IPAddress([10, 1, 2, 3])]");
}

/// RFC 9110, 7.4: SNI and Host agree. They may be two of its names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_host_is_misdirected() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(NAMES).start(&pki).await;
    for alpn in [Alpn::None, Alpn::H2] {
        let client = Client::direct_tls(seawall.addr(), &seawall.ca_pem).alpn(alpn);
        let connection = client.connect(MIRROR).await.unwrap();
        for (host, status) in
            [(HUB, 421), ("other.corp.example", 421), ("10.1.2.3", 200), ("SEAWALL.corp.example:443", 200)]
        {
            let reply = connection.request(Method::GET, MANIFEST).host(host).send().await.unwrap();
            assert_eq!(reply.status, status, "{alpn:?} {host}: {:?}", reply.body);
        }
        // And inside TLS for a registry it has no name.
        let reply = client.get(TAG).header("host", NAME).send().await.unwrap();
        assert_eq!(reply.status, 421);
    }
    let refused = seawall.metric("seawall_mirror_refused_total{registry=\"unknown\",code=\"UNSUPPORTED\"}");
    assert_eq!(refused, 4.0, "a mirror's client says nothing of it");
    let nobody = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    let unknown = nobody.connect("https://other.corp.example/").await;
    assert!(matches!(unknown, Err(ClientError::Tls(_))), "no leaf for a name that is not seawall's");
}

/// A TLS stream to the port itself, as `name`.
async fn to_proxy(seawall: &Seawall, name: &str) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(seawall.addr()).await.unwrap();
    let config = trusting(&seawall.ca_pem, Alpn::Both, Sni::Sent);
    TlsConnector::from(config).connect(server_name(name), tcp).await.unwrap()
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn connect(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), target: &str, fields: &str) -> String {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    head(stream).await
}

async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), url: &str, host: &str) -> String {
    let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    head(stream).await
}

/// `HTTPS_PROXY=https://seawall.corp.example:3128`: TLS for the registry within TLS for the proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_over_tls() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let others = Registry::new(FILES).image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let plain = Registry::new("lab.test").image("some/app:1", Image::multi_layer()).plain().start(&pki).await;
    let toml = format!(
        "{NAMES}\n[tunnel]\ndeny_networks = []\n[[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test\"]\nupstreams = [{{ url = \"http://lab.test\" }}]"
    );
    let seawall = Seawall::before(&registry).front(&others).front(&plain).toml(&toml).start(&pki).await;
    let mut proxy = to_proxy(&seawall, NAME).await;
    let reply = connect(&mut proxy, "registry-1.docker.io:443", "").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let inner = TlsConnector::from(trusting(&seawall.ca_pem, Alpn::None, Sni::Sent));
    let mut inner = inner.connect(server_name(HUB), proxy).await.unwrap();
    for _ in 0..2 {
        let reply = get(&mut inner, "/v2/", HUB).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        let mut body = vec![0; 2];
        inner.read_exact(&mut body).await.unwrap();
    }
    let reply = connect(&mut inner, "registry-1.docker.io:443", "").await;
    assert!(reply.starts_with("HTTP/1.1 405 "), "a registry is no proxy: {reply}");

    let mut proxy = to_proxy(&seawall, "10.1.2.3").await;
    assert!(connect(&mut proxy, "files.example.test:443", "").await.starts_with("HTTP/1.1 200 "));
    let inner = TlsConnector::from(trusting(&pki.ca_pem(), Alpn::None, Sni::Sent));
    let mut inner = inner.connect(server_name(FILES), proxy).await.unwrap();
    let reply = get(&mut inner, "/v2/some/thing/manifests/1", FILES).await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && !reply.contains("cache-status"), "unopened: {reply}");

    let mut proxy = to_proxy(&seawall, NAME).await;
    let reply = get(&mut proxy, "http://lab.test/v2/some/app/manifests/1", "lab.test").await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.contains("cache-status"), "absolute form: {reply}");
    let mut proxy = to_proxy(&seawall, NAME).await;
    assert!(connect(&mut proxy, "example.org:22", "").await.starts_with("HTTP/1.1 403 port 22"));
}

/// A client with both a proxy and a mirror over TLS asks the one for the other, unless its NO_PROXY
/// knows better.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_to_itself_is_itself() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(NAMES).start(&pki).await;
    let port = seawall.addr().port();
    for (scheme, host) in [("https", NAME), ("https", "10.1.2.3"), ("http", NAME)] {
        let url = format!("{scheme}://{host}:{port}/v2/library/alpine/manifests/3.20");
        let reply = seawall.client().get(&url).send().await.unwrap();
        assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest(), "{url}");
    }
    // Once: whoever goes on like this wants to see how deep it is.
    let target = format!("{NAME}:{port}");
    let mut proxy = to_proxy(&seawall, NAME).await;
    assert!(connect(&mut proxy, &target, "").await.starts_with("HTTP/1.1 200 "));
    let reply = connect(&mut proxy, &target, "").await;
    assert!(reply.starts_with("HTTP/1.1 403 "), "{reply}");
    assert_eq!(registry.gets("manifests"), 1);
    let elsewhere = seawall.client().get(&format!("https://{NAME}:9443/")).send().await;
    assert!(matches!(elsewhere, Err(ClientError::Refused(403, ..))), "another service of that machine");
}

/// Where there are users, they are asked as in the clear: there is a place for a password here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_have_a_place_within_tls_to_itself() {
    use std::io::Write as _;
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let mut users = tempfile::NamedTempFile::new().unwrap();
    writeln!(users, "ci:{}", bcrypt::hash("correct horse", 4).unwrap()).unwrap();
    let toml = format!("{NAMES}\n[clients]\nusers_file = {:?}", users.path());
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    for alpn in [Alpn::None, Alpn::H2] {
        let client = Client::direct_tls(seawall.addr(), &seawall.ca_pem).alpn(alpn);
        let reply = client.get(MANIFEST).send().await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, "Basic realm=\"seawall\""));
        let reply = client.get(MANIFEST).basic("ci", "wrong").send().await.unwrap();
        assert_eq!(reply.status, 401);
        let reply = client.get(MANIFEST).basic("ci", "correct horse").send().await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(client.get(&format!("{MIRROR}/ca.crt")).send().await.unwrap().status, 200, "open to all");
        assert!(client.get(TAG).send().await.is_err(), "a registry by its name has no place for a password");
    }
    let refused = seawall.metric("seawall_mirror_refused_total{registry=\"unknown\",code=\"UNAUTHORIZED\"}");
    assert_eq!(refused, 4.0);
    let mut proxy = to_proxy(&seawall, NAME).await;
    let reply = connect(&mut proxy, "registry-1.docker.io:443", "").await;
    assert!(reply.starts_with("HTTP/1.1 407 "), "{reply}");
    let mut proxy = to_proxy(&seawall, NAME).await;
    let shown = "Proxy-Authorization: Basic Y2k6Y29ycmVjdCBob3JzZQ==\r\n";
    let reply = connect(&mut proxy, "registry-1.docker.io:443", shown).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(registry.requests().iter().all(|seen| seen.authorization().is_none()), "the password is for seawall alone");
}

/// The company's own CA, which all machines trust already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_certificate_is_shown_for_its_own_names_and_for_nobody_else() {
    let (pki, company) = (Pki::new(), Pki::new());
    let registry = hub(&pki).await;
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let (chain_pem, key_pem) = company.server_certificate(&["*.corp.example", "10.1.2.3"]);
    std::fs::write(&certificate, chain_pem).unwrap();
    std::fs::write(&key, key_pem).unwrap();
    let toml = format!("{NAMES}\ncertificate_file = {certificate:?}\nkey_file = {key:?}");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let colleague = Client::direct_tls(seawall.addr(), &company.ca_pem());
    for (url, alpn) in [(MANIFEST, Alpn::None), (MANIFEST, Alpn::H2)] {
        assert_eq!(colleague.clone().alpn(alpn).get(url).send().await.unwrap().status, 200);
    }
    let by_address = MANIFEST.replace(NAME, "10.1.2.3");
    assert_eq!(colleague.get(&by_address).send().await.unwrap().status, 200);
    assert!(matches!(colleague.get(TAG).send().await, Err(ClientError::Tls(_))), "a registry's leaf is seawall's");
    let seawalls = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    assert_eq!(seawalls.get(TAG).send().await.unwrap().status, 200);
    assert!(matches!(seawalls.get(MANIFEST).send().await, Err(ClientError::Tls(_))));
}

/// A mirror at one port, a proxy at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_to_another_listener_of_its_own_is_itself() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seawall.toml");
    let listen = "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"";
    std::fs::write(&file, format!("{listen}\ndata = {:?}\n[tls]\nnames = [{NAME:?}]", dir.path().join("data")))
        .unwrap();
    let config = seawall::config::Config::load(Some(&file), std::iter::empty(), Default::default()).unwrap();
    let daemon = seawall::daemon::Daemon::start(config).await.unwrap();
    let ca = std::fs::read_to_string(dir.path().join("data/ca/ca.crt")).unwrap();
    let [proxy, mirror] = daemon.addresses() else { panic!("two listeners") };
    let client = Client::via_connect(*proxy, &ca);
    let reply = client.get(&format!("https://{NAME}:{}/healthz", mirror.port())).send().await.unwrap();
    assert_eq!(reply.status, 200);
    let admin = format!("https://{NAME}:{}/healthz", daemon.admin_address().unwrap().port());
    assert!(matches!(client.get(&admin).send().await, Err(ClientError::Refused(403, ..))), "the operator's is none");
    daemon.drain().await;
}

/// Nobody can tell for whom it is: that is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_names_nobody_is_counted_where_no_address_is_seawalls() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[tls]\nnames = [\"seawall.corp.example\"]").start(&pki).await;
    let client = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    assert!(client.connect("https://10.1.2.3:3128/").await.is_err());
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"tunnel\"}"), 1.0);
}

/// What `check` says of the configuration that [`refused`] wrote last.
fn checked(data: &std::path::Path) -> (bool, String) {
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    let output = check.arg("--config").arg(data.join("seawall.toml")).args(["check", "--offline"]).output().unwrap();
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

async fn refused(toml: &str, data: &std::path::Path) -> String {
    let file = data.join("seawall.toml");
    let listen = "listen = [\"127.0.0.1:0\"]\nadmin = \"\"";
    std::fs::write(&file, format!("{listen}\ndata = {:?}\n{toml}\n", data.join("data"))).unwrap();
    let overrides = seawall::config::Overrides::default();
    let config = seawall::config::Config::load(Some(&file), std::iter::empty(), overrides).unwrap();
    match seawall::daemon::Daemon::start(config).await {
        Ok(daemon) => {
            daemon.drain().await;
            String::new()
        }
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_fail_later_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(refused("", dir.path()).await, "");
    let error = refused(NAMES, dir.path()).await;
    assert!(error.contains("do not allow") && error.contains("seawall ca renew"), "{error}");
    let (is_good, said) = checked(dir.path());
    assert!(!is_good && said.contains(&error), "{said}");
    assert_eq!(refused("[ca]\ndir = \"\"", dir.path()).await, "", "it starts as before without them");

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let pem = dir.path().join("own.pem");
    std::fs::write(&pem, params.self_signed(&key).unwrap().pem() + &key.serialize_pem()).unwrap();
    let error = refused(&format!("[tls]\nnames = [\"{NAME}\"]\ncertificate_file = {pem:?}"), dir.path()).await;
    assert!(error.starts_with(&format!("tls.certificate_file {} has expired at 2002-01-01", pem.display())), "{error}");
    let (is_good, said) = checked(dir.path());
    assert!(!is_good && said.contains(&error), "{said}");
}
