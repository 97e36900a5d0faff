//! The ways in by CONNECT and by name: who is understood, and who is sent away.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Version};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::*;

pub(crate) const HUB: &str = "registry-1.docker.io";
pub(crate) const TAG: &str = "https://registry-1.docker.io/v2/library/alpine/manifests/3.20";
/// A host that no registry has.
pub(crate) const FILES: &str = "files.example.test";

pub(crate) async fn hub(pki: &Pki) -> Registry {
    Registry::new(HUB).image("library/alpine:3.20", Image::multi_layer()).start(pki).await
}

async fn files(pki: &Pki) -> Registry {
    Registry::new(FILES).image("some/thing:1", Image::multi_layer()).start(pki).await
}

fn reason(error: ClientError) -> (u16, String) {
    match error {
        ClientError::Refused(status, reason, _) => (status, reason),
        other => panic!("not refused: {other}"),
    }
}

// Which way.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_is_spoken_for_by_connect_and_by_name_in_h1_and_h2() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let by_name = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    for client in [seawall.client(), by_name] {
        for (alpn, version) in [
            (Alpn::None, Version::HTTP_11),
            (Alpn::H1, Version::HTTP_11),
            (Alpn::H2, Version::HTTP_2),
            (Alpn::Both, Version::HTTP_2),
        ] {
            let connection = client.clone().alpn(alpn).connect(TAG).await.unwrap();
            assert_eq!(connection.version(), version, "{alpn:?}");
            for _ in 0..2 {
                let reply = connection.request(Method::GET, TAG).send().await.unwrap();
                assert_eq!((reply.status.as_u16(), reply.version), (200, version), "{alpn:?}");
                assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest());
            }
        }
    }
}

/// RFC 6066, 3: an address is not named in a ClientHello; the host of the CONNECT is what the leaf
/// is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sni_the_leaf_is_for_the_host_of_the_connect() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let reply = seawall.client().no_sni().get(TAG).send().await.unwrap();
    assert_eq!(reply.status, 200);
    let by_name = Client::direct_tls(seawall.addr(), &seawall.ca_pem).no_sni();
    assert!(matches!(by_name.get(TAG).send().await, Err(ClientError::Tls(_))), "nobody knows whom it is for");

    let by_address = Registry::new("127.0.0.1").image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let lab = "[[registry]]\nname = \"lab\"\nhosts = [\"127.0.0.1:5443\"]";
    let seawall = Seawall::before(&by_address).toml(lab).start(&pki).await;
    let url = "https://127.0.0.1:5443/v2/some/thing/manifests/1";
    for client in [seawall.client(), seawall.client().h2()] {
        let connection = client.connect(url).await.unwrap();
        let leaf = connection.peer_cert().unwrap().to_vec();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(format!("{names:?}"), "[IPAddress([127, 0, 0, 1])]");
        let reply = connection.request(Method::GET, url).send().await.unwrap();
        assert_eq!(reply.status, 200, "{}", by_address.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_for_others_is_passed_through_end_to_end() {
    let pki = Pki::new();
    let (registry, others) = (hub(&pki).await, files(&pki).await);
    let seawall = Seawall::before(&registry).front(&others).toml("[tunnel]\ndeny_networks = []").start(&pki).await;
    let url = "https://files.example.test/v2/some/thing/manifests/1";
    let straight = Client::resolving(others.hosts(), &pki.ca_pem()).connect(url).await.unwrap();
    // The client trusts the origin's root and not seawall's: nobody stands between.
    for client in
        [Client::direct_tls(seawall.addr(), &pki.ca_pem()), Client::via_connect(seawall.addr(), &pki.ca_pem())]
    {
        for alpn in [Alpn::None, Alpn::H2] {
            let connection = client.clone().alpn(alpn).connect(url).await.unwrap();
            assert_eq!(connection.peer_cert(), straight.peer_cert());
            let reply = connection.request(Method::GET, url).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("cache-status")), (200, ""));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_tunnel_says_why_in_its_status_text() {
    let pki = Pki::new();
    let (registry, others) = (hub(&pki).await, files(&pki).await);
    let toml = "[tunnel]\nhosts = [\"*.example.test\", \"127.0.0.1\"]";
    let seawall = Seawall::before(&registry).front(&others).toml(toml).start(&pki).await;
    let client = Client::via_connect(seawall.addr(), &pki.ca_pem());
    let refused = async |url: &str| reason(client.connect(url).await.err().expect("a refusal"));
    let (status, why) = refused("https://files.example.test:8443/").await;
    assert_eq!((status, &*why), (403, "port 8443 is not in tunnel.ports"));
    let (status, why) = refused("https://example.org/").await;
    assert_eq!((status, &*why), (403, "example.org is no configured registry and not in tunnel.hosts"));
    let (status, why) = refused("https://127.0.0.1/").await;
    assert_eq!(status, 403);
    assert!(why.contains("127.0.0.1 is a loopback address") && why.contains("tunnel.deny_networks"), "{why}");
    others.down();
    let (status, why) = refused("https://files.example.test/").await;
    assert!(status == 502 && why.contains(FILES), "{status} {why}");
    // By name there is no status text: an alert.
    let by_name = Client::direct_tls(seawall.addr(), &pki.ca_pem());
    let error = by_name.connect("https://example.org/").await.err().expect("an alert");
    assert!(error.to_string().contains("AccessDenied"), "{error}");
}

/// Pitfall 2: `Host: other.example` inside a connection for a registry is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_host_than_the_connections_is_misdirected() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let other = Registry::new("ghcr.io").image("library/alpine:3.20", Image::two_platforms()).start(&pki).await;
    let seawall = Seawall::before(&registry).front(&other).start(&pki).await;
    let by_name = Client::direct_tls(seawall.addr(), &seawall.ca_pem);
    for client in [seawall.client(), by_name] {
        for alpn in [Alpn::None, Alpn::H2] {
            let connection = client.clone().alpn(alpn).connect(TAG).await.unwrap();
            for host in ["ghcr.io", "registry-1.docker.io:8443", "seawall.invalid", "registry-1.docker.io.evil.test"] {
                let reply = connection.request(Method::GET, TAG).host(host).send().await.unwrap();
                assert_eq!(reply.status, 421, "{alpn:?} {host}");
                let said = reply.json()["errors"][0]["message"].to_string();
                assert!(said.contains("this connection is for registry-1.docker.io"), "{said}");
            }
            for host in ["registry-1.docker.io:443", "REGISTRY-1.docker.IO"] {
                let reply = connection.request(Method::GET, TAG).host(host).send().await.unwrap();
                assert_eq!(reply.status, 200, "{alpn:?} {host}: the connection is as good as before");
            }
        }
        // Both names of h2 must agree, too.
        let reply = client.h2().get(TAG).header("host", "ghcr.io").send().await.unwrap();
        assert_eq!(reply.status, 421);
    }
    assert_eq!(other.requests().len(), 0);
}

/// Trusts anybody: for a client that names one host in its CONNECT and another in its ClientHello.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn trusting_anybody(alpn: &[&[u8]]) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn said<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut reply = Vec::new();
    // A peer that closes TCP without closing TLS has said all it will.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

/// TLS as `sni` within a CONNECT to the hub.
pub(crate) async fn tls_within_connect(seawall: &Seawall, sni: &str, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut tcp = TcpStream::connect(seawall.addr()).await.unwrap();
    tcp.write_all(b"CONNECT registry-1.docker.io:443 HTTP/1.1\r\nHost: registry-1.docker.io:443\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    trusting_anybody(alpn).connect(ServerName::try_from(sni.to_owned()).unwrap(), tcp).await.unwrap()
}

/// What is answered to bytes there.
pub(crate) async fn within_connect(seawall: &Seawall, sni: &str, request: &str) -> String {
    said(tls_within_connect(seawall, sni, &[]).await, request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_names_another_host_than_its_connect_is_misdirected() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    for (sni, host, status) in [(HUB, HUB, "200"), ("ghcr.io", HUB, "421"), ("ghcr.io", "ghcr.io", "421")] {
        let request = format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let reply = within_connect(&seawall, sni, &request).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{sni} {host}: {reply}");
    }
}

/// Sends a byte at a time.
struct Dribble(TcpStream);

impl AsyncRead for Dribble {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A post-quantum key share alone is longer than a packet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hello_may_come_byte_by_byte() {
    let pki = Pki::new();
    let (registry, others) = (hub(&pki).await, files(&pki).await);
    let seawall = Seawall::before(&registry).front(&others).start(&pki).await;
    for host in [HUB, FILES] {
        let tcp = TcpStream::connect(seawall.addr()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let tls = trusting_anybody(&[]).connect(ServerName::try_from(host).unwrap(), Dribble(tcp)).await.unwrap();
        let group = tls.get_ref().1.negotiated_key_exchange_group().unwrap().name();
        assert!(host == FILES || format!("{group:?}").contains("MLKEM"), "{group:?} is not longer than a packet");
        let reply = said(tls, &format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{host}: {reply}");
    }
}

// Certificates.

/// Pitfall 41: leaves do not expire while the process runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_is_renewed_while_the_process_runs_and_sessions_resume() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[ca]\nleaf_days = 1").start(&pki).await;
    let kept = seawall.client();
    let first = kept.connect(TAG).await.unwrap();
    assert_eq!(first.request(Method::GET, TAG).send().await.unwrap().status, 200);
    assert!(!first.resumed());
    let again = kept.connect(TAG).await.unwrap();
    assert!(again.resumed(), "a session is resumed on another connection");
    assert_eq!(again.peer_cert(), first.peer_cert());

    // Two thirds of its day are over. No client's clock says that it has not begun.
    seawall.clock.advance(Duration::from_secs(20 * 3600));
    let renewed = seawall.client().connect(TAG).await.unwrap();
    assert!(!renewed.resumed() && renewed.peer_cert() != first.peer_cert());
    assert_eq!(renewed.request(Method::GET, TAG).send().await.unwrap().status, 200);
    let resumed = kept.connect(TAG).await.unwrap();
    assert!(resumed.resumed(), "the new leaf's configuration knows the sessions of the old one's");
    assert_eq!(resumed.request(Method::GET, TAG).send().await.unwrap().status, 200);
    assert_eq!(first.request(Method::GET, TAG).send().await.unwrap().status, 200, "and what is open stays open");
}
