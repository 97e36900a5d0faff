//! A name server that says what a test wants.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Dropped: it answers no more.
pub(crate) struct Dns {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _running: DropGuard,
}

impl Dns {
    /// `answer` is given the name and how often its A was asked for before. There is no AAAA, and nothing may be kept.
    pub(crate) async fn start(answer: impl Fn(&str, usize) -> Vec<Ipv4Addr> + Send + 'static) -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let addr = socket.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, running) = (asked.clone(), CancellationToken::new());
        let stopped = running.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                let (name, is_a, question) = read(&query[..length]);
                let mut answers = Vec::new();
                if is_a {
                    let before = seen.lock().iter().filter(|other| **other == name).count();
                    seen.lock().push(name.clone());
                    answers = answer(&name, before);
                }
                let count = u8::try_from(answers.len()).expect("few");
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
                reply.extend(question);
                for ip in answers {
                    // The name above, A, IN, a TTL of 0, four bytes.
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    reply.extend(ip.octets());
                }
                let _ = socket.send_to(&reply, client).await;
            }
        }));
        Dns { addr, asked, _running: running.drop_guard() }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The names whose A was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

/// The name, whether A is wanted, and the question as it is.
fn read(query: &[u8]) -> (String, bool, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), query[at + 1..at + 3] == [0, 1], query[12..at + 5].to_vec())
}
