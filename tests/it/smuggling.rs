//! Where does a message end? Requests that two readers read in two ways (RFC 9112 section 11.2), in
//! every way in.
//!
//! Every case is a table's line: bytes, and what may be answered. After them come, in one write, a
//! request nobody made (`{EVIL}`, hidden in a body) or one that is good (`{NEXT}`): what is
//! answered says whether the connection stayed in step or was closed. Upstream writes down whatever
//! reaches it: nothing but what the client plainly asked for.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;
use crate::target::{HUB, tls_within_connect};

pub(crate) const PLAIN: &str = "plain.test";
pub(crate) const FILES: &str = "files.example.test";

const EVIL: &str = "GET {BASE}/v2/library/smuggled/manifests/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n";

/// How the bytes get to seawall, and whom they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Origin-form on the proxy's port.
    Mirror,
    /// TLS within a CONNECT to a registry.
    Connect,
    /// Absolute-form, to a registry in the clear.
    Absolute,
    /// Absolute-form, to a host that is no registry.
    Forward,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Mirror, Way::Connect, Way::Absolute, Way::Forward];

    pub(crate) fn host(self) -> &'static str {
        match self {
            Way::Mirror => "mirror.test",
            Way::Connect => HUB,
            Way::Absolute => PLAIN,
            Way::Forward => FILES,
        }
    }

    /// What stands before the path on the request line.
    pub(crate) fn base(self) -> String {
        match self {
            Way::Mirror | Way::Connect => String::new(),
            Way::Absolute | Way::Forward => format!("http://{}", self.host()),
        }
    }

    /// A template, filled in: whole requests `{NEXT}` and `{EVIL}`, request lines with Host `{GET}`
    /// and `{POST}`, and `{BASE}`, `{HOST}`, `{PUSH}` (the path of an upload of "hello").
    pub(crate) fn filled(self, template: &str) -> String {
        template
            .replace("{NEXT}", "{GET}\r\n\r\n")
            .replace("{CHUNKED}", "{POST}\r\nTransfer-Encoding: chunked\r\n\r\n")
            .replace(
                "{EVIL#}",
                &(EVIL.len() + self.base().len() + self.host().len() - "{BASE}{HOST}".len()).to_string(),
            )
            .replace("{EVIL}", EVIL)
            .replace("{GET}", "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\r\nHost: {HOST}")
            .replace("{POST}", "POST {BASE}{PUSH} HTTP/1.1\r\nHost: {HOST}")
            .replace("{PUSH}", &format!("/v2/library/alpine/blobs/uploads/?digest={}", sha256(b"hello")))
            .replace("{BASE}", &self.base())
            .replace("{HOST}", self.host())
    }
}

/// Three origins that speak HTTP/1.1 only, which is where smuggling has its victims, and seawall.
pub(crate) struct World {
    hub: Registry,
    plain: Registry,
    files: Registry,
    pub(crate) seawall: Seawall,
}

impl World {
    pub(crate) async fn start() -> World {
        let pki = Pki::new();
        let with_image = |registry: Registry| registry.image("library/alpine:3.20", Image::multi_layer()).only_h1();
        let hub = with_image(Registry::new(HUB)).start(&pki).await;
        let plain = with_image(Registry::new(PLAIN)).plain().start(&pki).await;
        let files = with_image(Registry::new(FILES)).plain().start(&pki).await;
        let toml = "[tunnel]\nports = [80, 443]\n[[registry]]\nname = \"plain\"\nhosts = [\"http://plain.test\"]\n\
            upstreams = [{ url = \"http://plain.test\" }]";
        let seawall = Seawall::before(&hub).front(&plain).front(&files).toml(toml).start(&pki).await;
        let world = World { hub, plain, files, seawall };
        // What is good is here: what reaches upstream later is about something else.
        for way in Way::ALL {
            world.said(way, way.filled("{NEXT}").as_bytes()).await;
        }
        world
    }

    /// Whom a way leads to.
    pub(crate) fn upstream(&self, way: Way) -> &Registry {
        match way {
            Way::Mirror | Way::Connect => &self.hub,
            Way::Absolute => &self.plain,
            Way::Forward => &self.files,
        }
    }

    /// Everything that reached anybody.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        [&self.hub, &self.plain, &self.files].into_iter().flat_map(|registry| registry.requests()).collect()
    }

    pub(crate) fn forget(&self) {
        [&self.hub, &self.plain, &self.files].into_iter().for_each(Registry::reset_counts);
    }

    /// Sends the bytes at once, says that there are no more, and reads all that is answered.
    pub(crate) async fn said(&self, way: Way, bytes: &[u8]) -> Vec<Answer> {
        let talking = async {
            if way == Way::Connect {
                talk(tls_within_connect(&self.seawall, HUB, &[]).await, bytes).await
            } else {
                talk(TcpStream::connect(self.seawall.addr()).await.unwrap(), bytes).await
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(30), talking).await;
        let said = said.unwrap_or_else(|_| panic!("{way:?}: neither answered nor closed: {}", shown(bytes)));
        answers(&said)
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> Vec<u8> {
    // An error is that the other side has closed already: what it said before is there to read.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let _ = stream.shutdown().await;
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    said
}

/// One of the answers on a connection.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Takes answers apart as a strict client would. Nothing asked is a HEAD.
fn answers(mut said: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while !said.is_empty() {
        let end = said.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", shown(said)));
        let head = String::from_utf8_lossy(&said[..end]).into_owned();
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status line: {head}"));
        said = &said[end + 4..];
        if status < 200 {
            continue;
        }
        assert_eq!(field(&head, "transfer-encoding"), None, "nothing here is answered in chunks: {head}");
        let length = field(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let (body, rest) = said.split_at(said.len().min(length));
        answers.push(Answer { status, head, body: String::from_utf8_lossy(body).into_owned() });
        said = rest;
    }
    answers
}

pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() > 600 { format!("{}… ({} bytes)", &text[..600], bytes.len()) } else { text }
}

/// `GET`: the answer to a good pull. `POST`: to a good upload, which a mirror does not take. `NO`:
/// 400, or what else says that this is nothing.
fn is(word: &str, answer: &Answer, way: Way) -> bool {
    let status = answer.status;
    match word {
        "GET" => status == 200 && answer.body.as_bytes() == Image::multi_layer().manifest(),
        "POST" => status == if way == Way::Mirror { 400 } else { 201 },
        "NO" => [400, 405, 411, 413, 414, 415, 417, 431, 501, 505].contains(&status),
        "206" => status == 206 && answer.header("content-range").is_some_and(|range| range.starts_with("bytes 0-")),
        "BAD" => status >= 400,
        code => code.parse() == Ok(status),
    }
}

/// Whether the answers are one of `allowed`: `GET GET|GET` is both or the first and the end of the
/// connection.
fn allowed(allowed: &str, answers: &[Answer], way: Way) -> bool {
    allowed.split('|').any(|words| {
        let words: Vec<&str> = words.split_whitespace().collect();
        // A mirror takes no uploads: it says so, and need not read to the end of one.
        let refused = way == Way::Mirror && words.starts_with(&["POST"]) && answers.len() == 1;
        let as_many = words.len() == answers.len() || refused;
        as_many && words.iter().zip(answers).all(|(word, answer)| is(word, answer, way))
    })
}

/// (what is wrong, the bytes, what may be answered)
pub(crate) type Case<'a> = (&'a str, &'a str, &'a str);

/// Every case in each of these ways. `odd` says what a request should not be like that reached
/// upstream.
pub(crate) async fn check(ways: &[Way], cases: &[Case<'_>], odd: impl Fn(Way, &Case<'_>, &Seen) -> Option<String>) {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for &way in ways {
        for case in cases {
            let (name, template, expected) = case;
            world.forget();
            let bytes = way.filled(template);
            let said = world.said(way, bytes.as_bytes()).await;
            let statuses: Vec<u16> = said.iter().map(|answer| answer.status).collect();
            if !allowed(expected, &said, way) {
                wrong.push(format!("{way:?}: {name}: {statuses:?} instead of {expected}"));
            }
            for seen in world.seen() {
                wrong.extend(odd(way, case, &seen).map(|odd| format!("{way:?}: {name}: upstream saw {odd}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
