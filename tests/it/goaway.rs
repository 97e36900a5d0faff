//! Upstreams that close connections: what they did not process is asked again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::flight::until;
use crate::harness::*;

/// Requests of one connection that are answered.
const EACH: usize = 3;

/// What becomes of those behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// GOAWAY names the last stream that was processed (nginx's `keepalive_requests`).
    GoAway,
    /// RST_STREAM with REFUSED_STREAM.
    Refuse,
    /// HTTP/1.1: the connection is closed when the next request has come, as by a balancer that forgot
    /// it.
    Close,
    /// The first connection allows one stream at once, and does not answer the second.
    Hold,
}

struct Server {
    port: u16,
    answered: Arc<AtomicUsize>,
    /// Heads of HTTP/1.1 that came, of which the body may be to come.
    begun: Arc<AtomicUsize>,
}

impl Server {
    async fn start(pki: &Pki, then: Then) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answered, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let alpn = if then == Then::Close { Alpn::H1 } else { Alpn::H2 };
        let (tls, count) = (TlsAcceptor::from(pki.server("lab.test", alpn)), (answered.clone(), begun.clone()));
        tokio::spawn(async move {
            let mut first = true;
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, count) = (tls.clone(), count.clone());
                let then = if std::mem::take(&mut first) || then != Then::Hold { then } else { Then::GoAway };
                tokio::spawn(async move {
                    let stream = tls.accept(tcp).await?;
                    match then {
                        Then::Close => h1(stream, &count).await,
                        Then::GoAway | Then::Refuse | Then::Hold => h2(stream, then, &count.0).await,
                    }
                });
            }
        });
        Server { port, answered, begun }
    }

    async fn seawall(&self, pki: &Pki) -> Seawall {
        let toml = format!(
            "[[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\n\
             auth_hosts = [\"lab.test:{0}\"]\nupstreams = [{{ url = \"https://lab.test:{0}\" }}]",
            self.port
        );
        let here = ([127, 0, 0, 1], self.port).into();
        Seawall::alone().host("lab.test", here).toml(&toml).start(pki).await
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HTTP/2 by hand (RFC 9113): a library would answer every stream that it has seen.
async fn h2(mut stream: impl AsyncRead + AsyncWrite + Unpin, then: Then, count: &AtomicUsize) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    // SETTINGS_MAX_CONCURRENT_STREAMS
    let settings: &[u8] = if then == Then::Hold { &[0, 3, 0, 0, 0, 1] } else { &[] };
    stream.write_all(&frame(4, 0, 0, settings)).await?;
    let mut answered = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (4, 0) => stream.write_all(&frame(4, 1, 0, &[])).await?,
            (6, 0) => stream.write_all(&frame(6, 1, 0, &payload)).await?,
            (1, _) if then == Then::Hold && answered == 1 => {}
            (1, _) if answered < EACH => {
                answered += 1;
                count.fetch_add(1, Ordering::Relaxed);
                // `:status: 200`, and the end.
                stream.write_all(&frame(1, 5, id, &[0x88])).await?;
                if answered == EACH && then == Then::GoAway {
                    stream.write_all(&frame(7, 0, 0, &[id.to_be_bytes(), [0; 4]].concat())).await?;
                }
            }
            (1, _) if then == Then::Refuse => stream.write_all(&frame(3, 0, id, &7u32.to_be_bytes())).await?,
            _ => {}
        }
    }
}

async fn h1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    (answered, begun): &(Arc<AtomicUsize>, Arc<AtomicUsize>),
) -> io::Result<()> {
    for _ in 0..EACH {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        begun.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&head).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        stream.read_exact(&mut vec![0; length.unwrap_or_default()]).await?;
        answered.fetch_add(1, Ordering::Relaxed);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n";
        stream.write_all(format!("{head}{}", r#"{"token":"t"}"#).as_bytes()).await?;
    }
    stream.read_u8().await.map(drop)
}

/// Its form is here, and who asks twice gets two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_for_a_token_is_sent_again() {
    let pki = Pki::new();
    let server = Server::start(&pki, Then::Close).await;
    let seawall = server.seawall(&pki).await;
    for n in 0..4 * EACH {
        let url = format!("https://lab.test:{}/token", server.port);
        let client = seawall.client();
        let ask = client.request(Method::POST, &url).header("content-type", "application/x-www-form-urlencoded");
        let form = format!("grant_type=password&service=lab&client_id=c&username=u&password={n}");
        let reply = ask.body(form).send().await.unwrap();
        assert_eq!(reply.status, 200, "{n}: {:?}", reply.body);
    }
    assert_eq!(server.answered.load(Ordering::Relaxed), 4 * EACH);
}

/// An upload of which nothing has come yet can be sent again, and none of it says that its host is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_has_not_begun_is_sent_again() {
    for then in [Then::GoAway, Then::Refuse, Then::Close] {
        let pki = Pki::new();
        let server = Server::start(&pki, then).await;
        let seawall = server.seawall(&pki).await;
        for n in 0..4 * EACH {
            let method = if n % 2 == 0 { Method::PUT } else { Method::POST };
            let url = format!("https://lab.test/v2/acme/app{n}/blobs/uploads/1?digest={}", sha256(b"x"));
            let client = seawall.client();
            let (feed, ask) = client.request(method, &url).header("content-length", "1").fed();
            // Over HTTP/2 this server answers before it has come.
            let feeding = async {
                if then == Then::Close {
                    until("its head came", || server.begun.load(Ordering::Relaxed) > n).await;
                    feed.send("x".into()).await.unwrap();
                }
            };
            let reply = tokio::join!(ask.send(), feeding).0.unwrap();
            assert_eq!(reply.status, 200, "{then:?} {n}: {:?}", reply.body);
        }
        assert_eq!(server.answered.load(Ordering::Relaxed), 4 * EACH, "{then:?}: nothing was sent twice");
    }
}

/// Lists, token requests and uploads that begin: none has a copy to fall back to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_processed_is_asked_again() {
    for then in [Then::GoAway, Then::Refuse, Then::Close] {
        let pki = Pki::new();
        let server = Server::start(&pki, then).await;
        let seawall = server.seawall(&pki).await;
        let mut asked = 0;
        for round in 0..6 {
            let ask = async |n: usize| {
                let (method, path) = match n % 4 {
                    0 => (Method::POST, "acme/app/blobs/uploads/".to_owned()),
                    1 => (Method::GET, format!("acme/app{n}/referrers/{}", sha256(b"x"))),
                    2 => (Method::DELETE, format!("acme/app/manifests/{n}")),
                    _ => (Method::GET, format!("acme/app{n}/tags/list")),
                };
                let url = format!("https://lab.test/v2/{path}");
                let reply = seawall.client().request(method.clone(), &url).send().await.unwrap();
                assert_eq!(reply.status, 200, "{then:?}, round {round}: {method} {path}: {:?}", reply.body);
            };
            let all: Vec<_> = (0..40).map(ask).collect();
            asked += all.len();
            futures_util::future::join_all(all).await;
        }
        let answered = server.answered.load(Ordering::Relaxed);
        assert_eq!(answered, asked, "{then:?}: nothing was asked twice");
    }
}

/// A request that is given to a connection just as it ends may be forgotten there. One that waits behind the
/// streams that a connection allows is as one that is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connection_does_not_take_up_is_asked_over_another() {
    let pki = Pki::new();
    let server = Server::start(&pki, Then::Hold).await;
    let seawall = server.seawall(&pki).await;
    let ask = async |n: u64| {
        // In this order: the first is answered before there is a second.
        tokio::time::sleep(Duration::from_millis(300 * n.saturating_sub(1))).await;
        let url = format!("https://lab.test/v2/acme/app{n}/tags/list");
        seawall.client().request(Method::GET, &url).send().await.unwrap().status
    };
    assert_eq!(ask(0).await, 200);
    let answered = async {
        tokio::select! {
            _ = ask(1) => panic!("it is not answered"),
            _ = ask(2) => panic!("it is the next that may be sent"),
            status = ask(3) => status,
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    assert_eq!(answered.expect("long before the idle timeout"), 200);
}

/// RFC 9110, 9.2.2: to a host that is no registry, what may have been done is not done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_may_have_done_is_not_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(tcp.read_u8().await?);
                    }
                    if head.starts_with(b"POST ") {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    if n > 0 {
                        break;
                    }
                    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
                }
                io::Result::Ok(())
            });
        }
    });
    let toml = format!("[tunnel]\nports = [{port}]\ndeny_networks = []");
    let seawall = Seawall::alone().toml(&toml).start(&Pki::new()).await;
    for (method, status) in [("GET", "200"), ("POST", "502"), ("GET", "200"), ("GET", "200")] {
        let mut raw = Raw::connect(seawall.addr()).await;
        raw.send(&format!(
            "{method} http://127.0.0.1:{port}/job HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let reply = raw.read_until("\r\n\r\n").await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {reply}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
