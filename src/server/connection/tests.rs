//! Real sockets on loopback.

mod harness;
mod limits;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::dial::{self, Fixed};
use crate::policy::guard::Network;
use crate::policy::intercept::Tunnels;
use crate::server::Settings;
use crate::server::handshake::advice;
use crate::task::Tasks;
use harness::{LONG, Seawall, head, settings, start, tunnels, upstream_settings};

async fn rest(socket: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(LONG, socket.read_to_end(&mut bytes)).await.expect("it was not closed");
    bytes
}

/// Asks something and reads the answer, whatever it is: what the gateway says is not the matter
/// here.
async fn get(socket: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) {
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n").await.unwrap();
    answer(socket).await;
}

async fn answer(socket: &mut (impl AsyncReadExt + Unpin)) -> String {
    let head = head(socket).await.to_lowercase();
    assert!(head.starts_with("http/1.1 "), "{head}");
    let mut body = Vec::new();
    match head.split("content-length: ").nth(1) {
        Some(length) => {
            body.resize(length.lines().next().unwrap().parse().unwrap(), 0);
            socket.read_exact(&mut body).await.unwrap();
        }
        None => {
            while !body.ends_with(b"0\r\n\r\n") {
                body.push(socket.read_u8().await.unwrap());
            }
        }
    }
    head + &String::from_utf8(body).unwrap()
}

/// Sends back what it gets.
async fn echo() -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = Tasks::new().spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            Tasks::new().spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (port, serving)
}

#[test]
fn a_client_without_our_root_is_told_apart() {
    use rustls::AlertDescription::{HandshakeFailure, UnknownCA};
    let alert = |alert| std::io::Error::new(std::io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert));
    assert!(advice(&alert(UnknownCA)).contains("seawall ca install"));
    assert_eq!(advice(&alert(HandshakeFailure)), "");
    assert_eq!(advice(&std::io::ErrorKind::UnexpectedEof.into()), "");
}

#[tokio::test]
async fn a_host_that_is_no_registry_is_tunnelled_to() {
    let (port, _echo) = echo().await;
    let seawall = Seawall::start(Settings { tunnels: tunnels(port), ..settings() }, upstream_settings()).await;
    let (reply, mut socket) = seawall.tunnel(&format!("127.0.0.1:{port}")).await;
    assert!(reply.starts_with("HTTP/1.1 200 Connection established\r\n"), "{reply}");
    assert!(!reply.to_lowercase().contains("content-length"), "{reply}");
    socket.write_all(b"hello").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, b"hello");
}

#[tokio::test]
async fn what_a_client_sends_before_the_200_is_not_lost() {
    let (port, _echo) = echo().await;
    let seawall = Seawall::start(Settings { tunnels: tunnels(port), ..settings() }, upstream_settings()).await;
    let mut socket = seawall.connect().await;
    let request = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nhello");
    socket.write_all(request.as_bytes()).await.unwrap();
    head(&mut socket).await;
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, b"hello");
}

#[tokio::test]
async fn a_refused_connect_says_why_in_its_status_text() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let settings = Settings { tunnels: tunnels(closed), ..settings() };
    let upstream = dial::Settings { deny_networks: vec![Network::LinkLocal], ..upstream_settings() };
    let seawall = Seawall::start(settings, upstream).await;
    let own = seawall.address.port();
    for (target, expected) in [
        ("github.com:22".to_owned(), "403 port 22 is not in tunnel.ports"),
        (
            format!("169.254.169.254:{closed}"),
            "403 169.254.169.254 is refused: 169.254.169.254 is a link-local address",
        ),
        (format!("127.0.0.1:{closed}"), "502 127.0.0.1 cannot be reached: Connection refused"),
        (format!("no-such-host.invalid:{closed}"), "502 no-such-host.invalid cannot be resolved"),
        ("github.com:0".to_owned(), "400 CONNECT needs host:port"),
        ("2130706433:443".to_owned(), "400 CONNECT needs host:port"),
        (format!("127.0.0.1:{own}"), "403 port"),
    ] {
        let mut socket = seawall.connect().await;
        socket.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let reply = answer(&mut socket).await;
        let (status, reason) = expected.split_once(' ').unwrap();
        let reason = reason.to_lowercase();
        assert!(reply.starts_with(&format!("http/1.1 {status} {reason}")), "{target}: {reply}");
        assert!(
            reply.rsplit("\r\n").next().unwrap().to_lowercase().starts_with(&format!("seawall: {reason}")),
            "{reply}"
        );
        // The connection stays of use.
        get(&mut socket).await;
    }
}

/// RFC 9110 15.5.4: policy refuses, the request is not malformed.
#[tokio::test]
async fn plain_http_that_policy_refuses_is_forbidden() {
    let seawall = start().await;
    let mut socket = seawall.connect().await;
    socket.write_all(b"GET http://example.com:8080/ HTTP/1.1\r\nHost: example.com:8080\r\n\r\n").await.unwrap();
    let reply = answer(&mut socket).await;
    assert!(reply.starts_with("http/1.1 403 ") && reply.contains("DENIED"), "{reply}");
    assert!(reply.contains("8080 is not in tunnel.ports"), "{reply}");
}

#[tokio::test]
async fn seawall_does_not_tunnel_to_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = Settings { listen: vec![address], tunnels: tunnels(address.port()), ..settings() };
    let seawall = Seawall::start(settings, upstream_settings()).await;
    let (reply, _socket) = seawall.tunnel(&address.to_string()).await;
    assert!(reply.starts_with("HTTP/1.1 403 "), "{reply}");
    assert!(reply.contains("which is seawall itself"), "{reply}");
}

#[tokio::test]
async fn a_connect_to_a_registry_is_answered_with_a_leaf() {
    let seawall = start().await;
    let offers: [&[&[u8]]; 3] = [&[], &[b"http/1.1"], &[b"h2", b"http/1.1"]];
    for alpn in offers {
        let (reply, socket) = seawall.tunnel("registry.test:443").await;
        assert!(reply.starts_with("HTTP/1.1 200 Connection established\r\n"), "{reply}");
        let mut tls = seawall.tls(socket, "registry.test", alpn).await;
        if alpn.len() < 2 {
            get(&mut tls).await;
            get(&mut tls).await;
        } else {
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            h2_get(tls).await;
        }
    }
}

async fn h2_get(tls: tokio_rustls::client::TlsStream<TcpStream>) {
    let io = hyper_util::rt::TokioIo::new(tls);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, driver) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    Tasks::new().spawn(driver);
    let request =
        ::http::Request::get("https://registry.test/v2/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let reply = client.send_request(request).await.unwrap();
    assert_eq!(reply.version(), ::http::Version::HTTP_2);
    http_body_util::BodyExt::collect(reply.into_body()).await.unwrap();
}

#[tokio::test]
async fn a_client_without_sni_gets_the_leaf_of_its_connect() {
    let seawall = start().await;
    let (_, socket) = seawall.tunnel("registry.test:443").await;
    let mut config = seawall.client(&[]);
    config.enable_sni = false;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("registry.test").unwrap();
    get(&mut connector.connect(name, socket).await.unwrap()).await;
}

#[tokio::test]
async fn plain_http_within_a_connect_is_for_plain_registries() {
    let seawall = start().await;
    let (_, mut socket) = seawall.tunnel("plain.test:5000").await;
    get(&mut socket).await;
    let (_, mut socket) = seawall.tunnel("registry.test:443").await;
    socket.write_all(b"GET /v2/ HTTP/1.1\r\nHost: registry.test\r\n\r\n").await.unwrap();
    let reply = String::from_utf8(rest(&mut socket).await).unwrap();
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.ends_with("not plain HTTP"), "{reply}");
}

#[tokio::test]
async fn tls_by_name_is_terminated_for_registries() {
    let seawall = start().await;
    let socket = seawall.connect().await;
    let mut tls = seawall.tls(socket, "registry.test", &[]).await;
    get(&mut tls).await;
}

/// What a client first says, and where it says it to `host`.
fn client_hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn tls_by_name_of_others_is_passed_through_byte_by_byte() {
    let (port, _echo) = echo().await;
    let fixed = Fixed { ip: [127, 0, 0, 1].into(), port: Some(port) };
    let hosts = HashMap::from([("other.test".parse().unwrap(), fixed)]);
    let seawall = Seawall::start(settings(), dial::Settings { hosts, ..upstream_settings() }).await;
    let mut socket = seawall.connect().await;
    let mut hello = client_hello("other.test");
    hello.extend(b"and more");
    // A post-quantum hello comes in more than one segment.
    for piece in hello.chunks(700) {
        socket.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, hello);
}

#[tokio::test]
async fn tls_that_is_for_no_known_host_is_refused_by_an_alert() {
    let seawall = Seawall::start(
        Settings { tunnels: Tunnels { hosts: Vec::new(), ports: vec![443] }, ..settings() },
        upstream_settings(),
    )
    .await;
    for (host, alert) in [("10.0.0.1", 112), ("github.com", 49)] {
        let mut socket = seawall.connect().await;
        socket.write_all(&client_hello(host)).await.unwrap();
        assert_eq!(rest(&mut socket).await, [0x15, 3, 3, 0, 2, 2, alert], "{host}");
    }
}

/// The type of a message of the handshake.
async fn message(socket: &mut TcpStream) -> u8 {
    let mut record = [0; 6];
    socket.read_exact(&mut record).await.unwrap();
    record[5]
}

/// A harmless name in the CONNECT goes round no policy: what the ClientHello names counts.
#[tokio::test]
async fn a_tunnel_to_another_host_is_no_way_to_a_registry() {
    let (port, _echo) = echo().await;
    let fixed = Fixed { ip: [127, 0, 0, 1].into(), port: Some(port) };
    let hosts = HashMap::from([("harmless.test".parse().unwrap(), fixed)]);
    let seawall = Seawall::start(settings(), dial::Settings { hosts, ..upstream_settings() }).await;
    let (_, socket) = seawall.tunnel("harmless.test:443").await;
    get(&mut seawall.tls(socket, "registry.test", &[]).await).await;
    // However it comes: with the CONNECT, or a byte at a time.
    let hello = client_hello("registry.test");
    let mut socket = seawall.connect().await;
    socket.write_all(&[b"CONNECT harmless.test:443 HTTP/1.1\r\n\r\n", &hello[..]].concat()).await.unwrap();
    head(&mut socket).await;
    assert_eq!(message(&mut socket).await, 2, "a ServerHello, and no echo");
    let (_, mut socket) = seawall.tunnel("harmless.test:443").await;
    for byte in &hello {
        socket.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(message(&mut socket).await, 2);
    // TLS to others, what is cut or garbled, and what is no TLS, as before.
    let other = client_hello("other.test");
    for bytes in [&other[..], b"\x16\x09\x09 no TLS", b"SSH-2.0-"] {
        let (_, mut socket) = seawall.tunnel("harmless.test:443").await;
        socket.write_all(bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(rest(&mut socket).await, bytes);
    }
    let (_, mut socket) = seawall.tunnel("harmless.test:443").await;
    socket.write_all(&hello[..hello.len() - 1]).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, b"", "half a ClientHello may be one for a registry");
}

/// A server that speaks first waits for no client.
#[tokio::test]
async fn in_a_tunnel_either_side_may_speak_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _serving = Tasks::new().spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 hello\r\n").await.unwrap();
        let mut word = [0; 4];
        socket.read_exact(&mut word).await.unwrap();
        socket.write_all(&word).await.unwrap();
    });
    let seawall = Seawall::start(Settings { tunnels: tunnels(port), ..settings() }, upstream_settings()).await;
    let (_, mut socket) = seawall.tunnel(&format!("127.0.0.1:{port}")).await;
    let mut greeting = [0; 11];
    socket.read_exact(&mut greeting).await.unwrap();
    socket.write_all(b"EHLO").await.unwrap();
    assert_eq!(rest(&mut socket).await, b"EHLO");
}
