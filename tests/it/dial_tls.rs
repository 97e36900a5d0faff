//! TLS upstream: who is believed, who is shown a certificate, and what is said of the others.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::*;

const HOST: &str = "registry.corp.test";
const TAG: &str = "https://registry.corp.test/v2/some/thing/manifests/1";

/// A `[[registry]]`, and files for it that live as long as the directory.
fn registry(dir: &tempfile::TempDir, files: &[(&str, &str)]) -> String {
    let mut toml = format!("[[registry]]\nname = \"corp\"\nhosts = [\"{HOST}\"]\nauth_hosts = [\"auth.corp.test\"]\n");
    for (key, text) in files {
        let path = dir.path().join(key);
        std::fs::write(&path, text).unwrap();
        toml.push_str(&format!("{key} = {path:?}\n"));
    }
    toml
}

const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Its own hosts see it; a CDN that a redirect leads to, and a realm elsewhere, ask for one as well
/// and get none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_for_the_registry_alone() {
    let pki = Pki::new();
    let (certificate, key) = pki.client_certificate();
    for (auth_host, shown_to_auth, versions) in
        [("auth.corp.test", true, TLS12), ("auth.corp.test", true, TLS13), ("tokens.example.test", false, TLS13)]
    {
        let corp = Registry::new(HOST).image("some/thing:1", Image::two_platforms()).cdn("cdn.example.test");
        let corp = corp.token_auth_at(auth_host).mutual_tls(versions).start(&pki).await;
        let dir = tempfile::tempdir().unwrap();
        let toml = registry(&dir, &[("client_certificate_file", &certificate), ("client_key_file", &key)]);
        let seawall = Seawall::before(&corp).toml(&toml).start(&pki).await;
        let reply = seawall.client().get(TAG).send().await.unwrap();
        assert_eq!(reply.status, 200, "{:?}\n{}", reply.body, corp.log());
        let layer = Image::two_platforms().layers()[0].digest();
        let blob = format!("https://{HOST}/v2/some/thing/blobs/{layer}");
        assert_eq!(seawall.client().get(&blob).send().await.unwrap().status, 200, "{}", corp.log());
        assert!(corp.certificates(HOST) >= 1);
        assert!(!corp.on_host("cdn.example.test").is_empty() && corp.certificates("cdn.example.test") == 0);
        assert!(!corp.on_host(auth_host).is_empty());
        assert_eq!(corp.certificates(auth_host) > 0, shown_to_auth, "{auth_host}");
    }
}

/// In TLS 1.3 the handshake is over for the client before the server has looked at the certificate:
/// what it says of it may come after the connection is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_wants_a_certificate_says_so() {
    let pki = Pki::new();
    let (strange, key) = Pki::new().client_certificate();
    for versions in [TLS12, TLS13] {
        let corp = Registry::new(HOST).image("some/thing:1", Image::multi_layer()).mutual_tls(versions);
        let corp = corp.start(&pki).await;
        let dir = tempfile::tempdir().unwrap();
        for (files, wanted) in [
            (vec![], "it wants a client certificate: client_certificate_file of the registry"),
            (
                vec![("client_certificate_file", strange.as_str()), ("client_key_file", key.as_str())],
                "it refuses the client certificate: client_certificate_file of the registry",
            ),
        ] {
            let seawall = Seawall::before(&corp).toml(&registry(&dir, &files)).start(&pki).await;
            let reply = seawall.client().get(TAG).send().await.unwrap();
            let said = String::from_utf8_lossy(reply.bytes()).into_owned();
            let broke = versions == TLS13 && said.contains("broke before it answered");
            assert!(reply.status == 502 && (broke || said.contains(wanted)), "{said}");
        }
        assert!(corp.requests().is_empty());
    }
}

/// `ca_file` of a registry is believed in what is asked on its behalf, its redirects included, and
/// in nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrys_root_is_believed_for_it_and_where_it_leads() {
    let (pki, private) = (Pki::new(), Pki::new());
    let corp = Registry::new(HOST).image("some/thing:1", Image::two_platforms()).cdn("storage.corp.test");
    let corp = corp.start(&private).await;
    let other = Registry::new("ghcr.io").image("some/thing:1", Image::multi_layer()).start(&private).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = registry(&dir, &[("ca_file", &private.ca_pem())]);
    let seawall = Seawall::before(&corp).front(&other).toml(&toml).start(&pki).await;
    seawall.client().pull(&format!("{HOST}/some/thing:1"), Style::Docker).await.unwrap();
    assert!(!corp.on_host("storage.corp.test").is_empty());
    let reply = seawall.client().get("https://ghcr.io/v2/some/thing/manifests/1").send().await.unwrap();
    let said = String::from_utf8_lossy(reply.bytes()).into_owned();
    assert!(reply.status == 502 && said.contains("invalid peer certificate: "), "{said}");
    assert!(said.contains("no root that is trusted here signed it: upstream.ca_file"), "{said}");
    assert!(other.requests().is_empty());
}

/// What is said of a registry that is served by `server`.
async fn said_of(pki: &Pki, server: Arc<ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = async {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let _ = TlsAcceptor::from(server.clone()).accept(tcp).await;
        }
    };
    tokio::select! {
        () = serving => unreachable!(),
        said = said_at(pki, addr) => said,
    }
}

async fn said_at(pki: &Pki, addr: std::net::SocketAddr) -> String {
    let toml = format!("[[registry]]\nname = \"{HOST}\"\nupstreams = [{{ url = \"https://{addr}\" }}]");
    let seawall = Seawall::alone().toml(&toml).start(pki).await;
    let reply = seawall.client().get(TAG).send().await.unwrap();
    assert_eq!(reply.status, 502);
    String::from_utf8_lossy(reply.bytes()).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_wrong_is_refused_and_said() {
    let pki = Pki::new();
    let said = said_of(&pki, pki.server("other.test", Alpn::Both)).await;
    assert!(said.contains("certificate not valid for name") && said.contains("only valid for"), "{said}");
    let said = said_of(&pki, pki.expired_server("127.0.0.1")).await;
    assert!(said.contains("certificate expired"), "{said}");
    let said = said_of(&pki, Pki::new().server("127.0.0.1", Alpn::Both)).await;
    assert!(said.contains("no root that is trusted here") && said.contains("upstream.ca_file"), "{said}");
}

/// A ServerHello of TLS 1.1 (RFC 4346 7.4.1.3), and what such a server says to a client that wants
/// more (RFC 5246 E.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_below_1_2_is_refused() {
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let alert = vec![0x15, 3, 2, 0, 2, 2, 70];
    let pki = Pki::new();
    for answer in [hello, alert] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = async {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut hello = [0; 5];
                tcp.read_exact(&mut hello).await.unwrap();
                let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
                tcp.read_exact(&mut rest).await.unwrap();
                tcp.write_all(&answer).await.unwrap();
                let _ = tcp.read_to_end(&mut rest).await;
            }
        };
        let said = tokio::select! {
            () = serving => unreachable!(),
            said = said_at(&pki, addr) => said,
        };
        assert!(said.contains("TLS with 127.0.0.1") && said.contains("TLS 1.2 is the least"), "{said}");
    }
}
