//! The cases: what is done, how often.
//!
//! A request goes through seawall as it runs, from the socket to the response, in the clear; the
//! client is on the same thread, and a few hundred instructions of it are counted too. The count is
//! the main thread's: what is done on a thread of its own (a file that is opened) is not in it, but
//! the way there and back is.

use std::net::SocketAddr;

use seawall::config::{Config, Overrides};
use seawall::daemon::Daemon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::mark;
use crate::upstream::{self, Contents, HOST, digest};
use crate::words::{self, ACCEPT, Round};

enum Work {
    /// No connection.
    Words(fn() -> Round),
    /// A request on a kept connection.
    Asked(fn(&Contents) -> String),
}

use Work::{Asked, Words};

const CASES: [(&str, u64, Work); 18] = [
    ("route a tag", 1000, Words(words::route_tag)),
    ("route a blob", 1000, Words(words::route_blob)),
    ("read Accept", 1000, Words(words::read_accept)),
    ("find a manifest in memory", 1000, Words(words::find_manifest)),
    ("hash 1 MiB", 4, Words(words::hash)),
    ("leaf for a new host", 20, Words(words::mint)),
    ("leaf for a known host", 1000, Words(words::known_leaf)),
    ("sniff and read a ClientHello", 200, Words(words::read_hello)),
    ("GET /v2/ of the mirror", 300, Asked(|_| mirror("GET", ""))),
    ("GET /v2/ of a registry", 300, Asked(|_| proxied("GET", "/v2/"))),
    ("GET a token, from memory", 300, Asked(|_| proxied("GET", "/token?service=lab&scope=repository:app:pull"))),
    ("GET a manifest by tag", 300, Asked(|_| mirror("GET", "lab/app/manifests/1"))),
    ("GET a manifest by tag, by the proxy", 300, Asked(|_| proxied("GET", "/v2/app/manifests/1"))),
    ("GET a manifest by digest", 300, Asked(|it| by_digest("GET", it))),
    ("HEAD a manifest by tag", 300, Asked(|_| mirror("HEAD", "lab/app/manifests/1"))),
    ("HEAD a manifest by digest", 300, Asked(|it| by_digest("HEAD", it))),
    ("GET a blob of 32 KiB", 200, Asked(|it| blob(&it.small))),
    ("GET a blob of 1 MiB", 20, Asked(|it| blob(&it.large))),
];

/// Before it is counted.
const WARM: usize = 10;

/// What there is, in the order in which [`run`] does it.
pub(crate) fn names() -> Vec<(&'static str, u64)> {
    CASES.iter().map(|(name, rounds, _)| (*name, *rounds)).collect()
}

fn request(method: &str, target: &str, host: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: containerd/2.1.4\r\nAccept: {ACCEPT}\r\n\r\n")
}

fn mirror(method: &str, path: &str) -> String {
    request(method, &format!("/v2/{path}"), "localhost:3128")
}

fn proxied(method: &str, path: &str) -> String {
    request(method, &format!("http://{HOST}{path}"), HOST)
}

fn by_digest(method: &str, contents: &Contents) -> String {
    mirror(method, &format!("lab/app/manifests/{}", digest(&contents.manifest)))
}

fn blob(bytes: &[u8]) -> String {
    mirror("GET", &format!("lab/app/blobs/{}", digest(bytes)))
}

/// Does all of them, with a mark before and after each.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let contents = Contents::new();
        let (address, _daemon) = start(contents.clone().serve().await).await;
        for (name, rounds, work) in &CASES {
            match work {
                Words(make) => {
                    let mut round = make();
                    round();
                    mark(name);
                    (0..*rounds).for_each(|_| round());
                }
                Asked(ask) => {
                    let mut client = Client::connect(address, ask(&contents)).await;
                    for _ in 0..WARM {
                        client.body = None;
                        client.ask().await;
                    }
                    let before = upstream::asked();
                    mark(name);
                    for _ in 0..*rounds {
                        client.ask().await;
                    }
                    assert_eq!(upstream::asked(), before, "{name}: not from here");
                }
            }
            mark(name);
        }
    });
}

async fn start(upstream: SocketAddr) -> (SocketAddr, Daemon) {
    let (dir, file) = (words::dir().join("data"), words::dir().join("seawall.toml"));
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nadmin = \"\"\ndata = {dir:?}\n[log]\nlevel = \"warn\"\n[upstream]\n\
         hosts = {{ {HOST:?} = \"{upstream}\" }}\n[cache]\npublic_ttl = \"1d\"\n[cache.tags]\nttl = \"1d\"\n\
         [[registry]]\nname = \"lab\"\nupstreams = [{{ url = \"http://{HOST}\" }}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let config = Config::load(Some(&file), std::iter::empty(), Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    let daemon = Daemon::start(config).await.unwrap_or_else(|e| panic!("{e:#}"));
    (daemon.addresses()[0], daemon)
}

/// A client that keeps its connection, and asks the same again and again.
struct Client {
    socket: TcpStream,
    text: String,
    space: Vec<u8>,
    /// Of the answers, where it is known.
    body: Option<usize>,
}

impl Client {
    async fn connect(address: SocketAddr, text: String) -> Client {
        let socket = TcpStream::connect(address).await.expect("it listens");
        Client { socket, text, space: vec![0; 64 << 10], body: None }
    }

    async fn ask(&mut self) {
        self.socket.write_all(self.text.as_bytes()).await.expect("it reads");
        let (mut filled, mut head) = (0, None);
        while head.is_none() {
            filled += self.socket.read(&mut self.space[filled..]).await.expect("it answers");
            head = self.space[..filled].windows(4).position(|four| four == b"\r\n\r\n");
        }
        let head = head.map_or(0, |end| end + 4);
        let body = *self.body.get_or_insert_with(|| length(&self.text, &self.space[..head]));
        let mut left = (head + body).checked_sub(filled).unwrap_or_else(|| panic!("too much: {}", self.text));
        while left > 0 {
            left -= self.socket.read(&mut self.space).await.expect("it answers");
        }
    }
}

/// Of a body, by the head of an answer that is no error.
fn length(asked: &str, head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ") || head.starts_with("http/1.1 401 "), "{asked}{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    if asked.starts_with("HEAD ") { 0 } else { length.expect("a length") }
}
