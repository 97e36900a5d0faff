//! A connection that seawall ends takes nothing back: a socket closed over unread bytes answers
//! with RST, and the kernel throws away what the client has not read yet.

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;
use crate::smuggling_h2::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, SETTINGS, frame, get};
use crate::target::{HUB, tls_within_connect};

const BIG: usize = 1 << 20;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// A client whose kernel takes little at once: most of an answer waits in seawall's.
async fn narrow(seawall: &Seawall) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&seawall.addr().into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

async fn read_to_end(mut tcp: TcpStream) -> Vec<u8> {
    let (mut all, mut piece) = (Vec::new(), [0; 4 << 10]);
    loop {
        match tcp.read(&mut piece).await {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(error) => panic!("{error} after {} bytes", all.len()),
        }
    }
}

async fn warm_hub(pki: &Pki, blob: &Blob) -> (Registry, Seawall) {
    let registry = Registry::new(HUB).blob("library/big", blob.clone()).start(pki).await;
    let seawall = Seawall::before(&registry).start(pki).await;
    let url = format!("https://{HUB}/v2/library/big/blobs/{}", blob.digest());
    assert!(blob.holds(0, seawall.client().get(&url).send().await.unwrap().bytes()));
    (registry, seawall)
}

/// HTTP/1.1: a request whose body nobody wants ends its connection (RFC 9112 section 9.6), and its
/// answer arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_request_that_was_not_read_to_its_end_arrives() {
    let (pki, blob) = (Pki::new(), Blob::generated(51, BIG as u64));
    let (_registry, seawall) = warm_hub(&pki, &blob).await;
    let mut tcp = narrow(&seawall).await;
    let path = format!("/v2/library/big/blobs/{}", blob.digest());
    let head = format!("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nContent-Length: 10000000\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(&[b'x'; 300_000]).await.unwrap();
    let reply = read_to_end(tcp).await;
    let split = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(reply.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&reply[..split]));
    assert!(reply.len() - split == BIG && blob.holds(0, &reply[split..]), "{} of {BIG}", reply.len() - split);
}

/// HTTP/2: seawall stops, says so, sends what it owes and ends the connection, while the client
/// speaks on: window updates, pings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_reset_a_client_that_speaks_while_it_reads() {
    let (pki, blob) = (Pki::new(), Blob::generated(52, BIG as u64));
    let registry = Registry::new(HUB).blob("library/big", blob.clone()).start(&pki).await;
    let gate = registry.gate_blob(&blob.digest(), 100_000);
    let seawall = Seawall::before(&registry).start(&pki).await;
    let mut tls = tls_within_connect(&seawall, HUB, &[b"h2"]).await;
    let window = 0x7fff_0000_u32.to_be_bytes();
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE, and the connection's: all of it may come at once.
    hello.extend(frame(SETTINGS, 0, 0, &[&[0, 4], &window[..]].concat()));
    hello.extend(frame(WINDOW_UPDATE, 0, 0, &window));
    hello.extend(get(&format!("/v2/library/big/blobs/{}", blob.digest())));
    tls.write_all(&hello).await.unwrap();
    // A stream that was answered is one that the end waits for.
    while read_frame(&mut tls).await.unwrap().kind != HEADERS {}
    let stopping = tokio::spawn(seawall.stop());
    let (mut came, mut goodbyes, mut ended) = (0, 0, false);
    while !ended {
        let read = read_frame(&mut tls).await.unwrap_or_else(|error| panic!("{error} after {came} bytes"));
        let said = match read.kind {
            // What it asks before it says for good which stream is the last (RFC 9113 6.8).
            PING if read.flags & ACK == 0 => frame(PING, ACK, 0, &read.payload),
            _ => frame(PING, 0, 0, &[7; 8]),
        };
        let _ = tls.write_all(&said).await;
        match read.kind {
            GOAWAY => goodbyes += 1,
            DATA => (came, ended) = (came + read.payload.len(), read.flags & END_STREAM != 0),
            _ => {}
        }
        if goodbyes == 2 {
            goodbyes = 0;
            gate.open();
            registry.until(|registry| registry.count(|seen| seen.end() == Some(End::Whole)) == 1).await;
        }
    }
    assert_eq!(came, BIG);
    drop(tls);
    stopping.await.unwrap();
}

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap()];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind: head[3], flags: head[4], payload })
}
