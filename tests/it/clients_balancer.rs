//! Who may use the proxy: clients behind a balancer, and how many connections one has.

use http::Method;

use crate::harness::exchange::Connection;
use crate::harness::*;
use crate::target::{HUB, TAG, hub};

/// Everything is on 127.0.0.1: it is the balancer, and no client.
pub(crate) const BALANCED: &str =
    "[clients]\nproxy_protocol_from = [\"127.0.0.0/8\"]\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

pub(crate) fn v1(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let balancer = if client.contains(':') { "::1" } else { "10.0.0.1" };
    format!("PROXY {family} {client} {balancer} 4660 443\r\n").into_bytes()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

fn v2_of(client: [u8; 4]) -> Vec<u8> {
    // With a TLV behind the addresses: PP2_TYPE_NOOP.
    v2(0x21, 0x11, &[&client[..], &[10, 0, 0, 1, 0x12, 0x34, 1, 0xbb, 4, 0, 2, 0, 0]].concat())
}

/// What a connection that begins with these bytes gets to read.
async fn answer(seawall: &Seawall, bytes: &[u8]) -> String {
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send(bytes).await;
    raw.read_to_end().await
}

fn refused(seawall: &Seawall, reason: &str) -> f64 {
    seawall.metric(&format!("seawall_clients_refused_total{{reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancers_header_says_who_the_client_is() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(BALANCED).start(&pki).await;
    for header in [v1("192.0.2.7"), v1("2001:db8::7"), v2_of([192, 0, 2, 7])] {
        for client in [seawall.client(), Client::direct_tls(seawall.addr(), &seawall.ca_pem)] {
            let reply = client.preamble(header.clone()).get(TAG).send().await.unwrap();
            assert_eq!(reply.status, 200, "{header:?}");
        }
        // What follows the header in the same packet is not lost.
        assert!(answer(&seawall, &[&header, HEALTH].concat()).await.starts_with("HTTP/1.1 200 "), "{header:?}");
    }
    assert_eq!(seawall.metric("seawall_clients_refused_total"), 0.0);
    // clients.allow is about the client, wherever the balancer is.
    for header in [v1("198.51.100.1"), v1("127.0.0.1"), v2_of([10, 0, 0, 1]), v1("2001:db9::1")] {
        assert_eq!(answer(&seawall, &[&header, HEALTH].concat()).await, "", "{header:?}");
    }
    assert_eq!(refused(&seawall, "allow"), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_may_come_byte_by_byte() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(BALANCED).start(&pki).await;
    for header in [v1("192.0.2.7"), v2_of([192, 0, 2, 7])] {
        let mut raw = Raw::connect(seawall.addr()).await;
        for byte in [&header, HEALTH].concat() {
            raw.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert!(raw.read_to_end().await.starts_with("HTTP/1.1 200 "));
    }
}

/// v2 LOCAL and v1 UNKNOWN: the balancer speaks for itself, and is a client like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_without_a_client_is_the_balancers_own() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let headers = [
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0, 1, 0, 1]),
        b"PROXY UNKNOWN 192.0.2.7 x\r\n".to_vec(),
    ];
    let strict = Seawall::before(&registry).toml(BALANCED).start(&pki).await;
    let usual = "[clients]\nproxy_protocol_from = [\"127.0.0.1\"]";
    let usual = Seawall::before(&registry).toml(usual).start(&pki).await;
    for header in headers {
        let bytes = [&header, HEALTH].concat();
        assert_eq!(answer(&strict, &bytes).await, "", "127.0.0.1 is not in clients.allow");
        assert!(answer(&usual, &bytes).await.starts_with("HTTP/1.1 200 "), "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_good_header_a_balancers_connection_is_closed() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(BALANCED).start(&pki).await;
    let wrong = [
        HEALTH.to_vec(),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n".to_vec(),
        [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(),
        v2(0x21, 0x12, &[192, 0, 2, 7, 10, 0, 0, 1, 0, 1, 0, 1]),
        v2(0x21, 0, &[]),
        [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
    ];
    for bytes in &wrong {
        assert_eq!(answer(&seawall, bytes).await, "", "{bytes:?}");
    }
    assert_eq!(refused(&seawall, "proxy_header"), wrong.len() as f64);
    // It went away in the middle; before anything, it is a balancer that looks whether somebody
    // listens.
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.send("PROXY TC").await;
    raw.half_close().await;
    assert_eq!(raw.read_to_end().await, "");
    let mut raw = Raw::connect(seawall.addr()).await;
    raw.half_close().await;
    assert_eq!(raw.read_to_end().await, "");
    assert_eq!(refused(&seawall, "proxy_header"), wrong.len() as f64 + 1.0);
    assert_eq!(registry.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_is_not_waited_for_for_ever() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(&format!("client_timeout = \"1s\"\n{BALANCED}")).start(&pki).await;
    let header = v2_of([192, 0, 2, 7]);
    for begun in [&b""[..], b"PROXY TCP4 192.0.2.7 ", &header[..20]] {
        assert_eq!(answer(&seawall, begun).await, "", "{begun:?}");
    }
    assert_eq!(refused(&seawall, "proxy_header"), 3.0);
    // And the drain waits for nobody who is silent there.
    let _silent = Raw::connect(seawall.addr()).await;
    seawall.stop().await;
}

/// Whoever is not in the list cannot say that they are somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_header_is_not_believed() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let strict = "[clients]\nproxy_protocol_from = [\"192.0.2.250\"]\nallow = [\"192.0.2.0/24\"]";
    let strict = Seawall::before(&registry).toml(strict).start(&pki).await;
    let usual = "[clients]\nproxy_protocol_from = [\"192.0.2.250\"]";
    let usual = Seawall::before(&registry).toml(usual).start(&pki).await;
    for header in [v1("192.0.2.7"), v2_of([192, 0, 2, 7])] {
        let bytes = [&header, HEALTH].concat();
        assert_eq!(answer(&strict, &bytes).await, "");
        // Without being believed it is just not HTTP.
        let said = answer(&usual, &bytes).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    assert_eq!(refused(&strict, "allow"), 2.0);
    assert!(answer(&usual, HEALTH).await.starts_with("HTTP/1.1 200 "));
}

// How many.

/// A connection that has been served.
async fn kept(client: &Client) -> Connection {
    let connection = client.connect(TAG).await.unwrap();
    assert_eq!(connection.request(Method::GET, TAG).send().await.unwrap().status, 200);
    connection
}

async fn until_connections(seawall: &Seawall, count: f64) {
    while seawall.metric("seawall_connections") != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_than_max_per_client_is_closed_at_once() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[clients]\nmax_per_client = 2").start(&pki).await;
    let client = seawall.client();
    let (first, _second) = (kept(&client).await, kept(&client).await);
    for _ in 0..3 {
        assert_eq!(answer(&seawall, HEALTH).await, "");
    }
    assert_eq!(refused(&seawall, "limit"), 3.0);
    drop(first);
    until_connections(&seawall, 1.0).await;
    assert!(answer(&seawall, HEALTH).await.starts_with("HTTP/1.1 200 "), "there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_client_behind_a_balancer_has_connections_of_its_own() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml(&format!("{BALANCED}\nmax_per_client = 2")).start(&pki).await;
    let mut all = Vec::new();
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
        for _ in 0..2 {
            all.push(kept(&seawall.client().preamble(v1(client))).await);
        }
    }
    // An IPv6 client has more addresses than it has connections: all of its /64 are one.
    for client in ["192.0.2.1", "2001:db8:0:1:ffff::1"] {
        assert_eq!(answer(&seawall, &[&v1(client), HEALTH].concat()).await, "", "{client}");
    }
    assert_eq!(refused(&seawall, "limit"), 2.0);
    assert!(answer(&seawall, &[&v1("192.0.2.3"), HEALTH].concat()).await.starts_with("HTTP/1.1 200 "));
    drop(all);
}

/// Before the header it is the balancer's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_header_yet_are_counted_too() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = format!("{BALANCED}\nmax_per_client = 2\nmax_connections = 3");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let (mut first, second) = (Raw::connect(seawall.addr()).await, Raw::connect(seawall.addr()).await);
    assert_eq!(answer(&seawall, &[&v1("192.0.2.1"), HEALTH].concat()).await, "");
    assert_eq!(refused(&seawall, "limit"), 1.0);
    first.send([&v1("192.0.2.1"), HEALTH].concat()).await;
    assert!(first.read_to_end().await.starts_with("HTTP/1.1 200 "));
    let client = seawall.client().preamble(v1("192.0.2.1"));
    let _both = (kept(&client).await, kept(&client).await);
    // Three are here: one more waits in the backlog, header or not.
    let waiting = seawall.client().preamble(v1("192.0.2.2"));
    let waiting = tokio::spawn(async move { waiting.get(TAG).send().await.unwrap().status });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    drop(second);
    assert_eq!(waiting.await.unwrap(), 200);
}

/// After its restart a balancer has all its clients' connections open before the first header is
/// read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_behind_one_balancer_is_let_in() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let toml = format!("{BALANCED}\nmax_per_client = 1\nmax_connections = 200");
    let seawall = Seawall::before(&registry).toml(&toml).start(&pki).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Raw::connect(seawall.addr()).await);
    }
    for (n, raw) in crowd.iter_mut().enumerate() {
        raw.send([&v1(&format!("192.0.2.{n}")), HEALTH].concat()).await;
    }
    for raw in &mut crowd {
        assert!(raw.read_to_end().await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(refused(&seawall, "limit"), 0.0);
}

/// A refused tunnel is counted, whichever way it was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_that_policy_refuses_are_counted() {
    let pki = Pki::new();
    let registry = hub(&pki).await;
    let seawall = Seawall::before(&registry).toml("[tunnel]\nhosts = [\"127.0.0.1\"]").start(&pki).await;
    for url in [format!("https://{HUB}:22/"), "https://github.com/".to_owned(), "https://127.0.0.1/".to_owned()] {
        assert!(matches!(seawall.client().connect(&url).await, Err(ClientError::Refused(403, ..))), "{url}");
    }
    let by_name = Client::direct_tls(seawall.addr(), "");
    assert!(by_name.connect("https://github.com/").await.is_err());
    assert_eq!(refused(&seawall, "tunnel"), 4.0);
    // The guard's refusals are policy's too: this host is on loopback, and the operator did not say
    // so.
    let seawall = Seawall::before(&registry).start(&pki).await;
    let by_name = Client::direct_tls(seawall.addr(), "");
    assert!(by_name.connect("https://localhost/").await.is_err());
    assert_eq!(refused(&seawall, "tunnel"), 1.0);
}
