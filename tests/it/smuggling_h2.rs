//! HTTP/2 in, HTTP/1.1 out: what is one field here must not become two lines, another length or
//! another request there (RFC 9113 8.1.1, 8.2, 8.3 and 10.3). Frames are written by hand: no
//! library would send these.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::*;
use crate::smuggling::World;
use crate::target::{HUB, tls_within_connect};

type Field = (&'static str, &'static str);

const TAG: &str = "/v2/library/alpine/manifests/3.20";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const ACK: u8 = 1;

/// What follows the head.
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    Data(&'static str),
    DataAndTrailers(&'static str, &'static [Field]),
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HPACK's plainest form (RFC 7541 6.2.2): a literal without indexing, with a literal name, and no
/// Huffman code.
fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    let string = |block: &mut Vec<u8>, text: &str| {
        match text.len().checked_sub(127) {
            None => block.push(u8::try_from(text.len()).unwrap()),
            Some(mut more) => {
                block.push(127);
                while more >= 128 {
                    block.push(u8::try_from(more % 128).unwrap() | 128);
                    more /= 128;
                }
                block.push(u8::try_from(more).unwrap());
            }
        }
        block.extend(text.as_bytes());
    };
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

/// A connection whose frames are ours.
struct Frames(TlsStream<TcpStream>);

impl Frames {
    async fn open(seawall: &Seawall) -> Frames {
        let mut tls = tls_within_connect(seawall, HUB, &[b"h2"]).await;
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        hello.extend(frame(SETTINGS, ACK, 0, &[]));
        tls.write_all(&hello).await.unwrap();
        Frames(tls)
    }

    async fn send(&mut self, stream: u32, fields: &[(String, String)], rest: Rest) {
        let end = if matches!(rest, Rest::Nothing) { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | end, stream, &block(fields));
        match rest {
            Rest::Nothing => {}
            Rest::Data(data) => bytes.extend(frame(DATA, END_STREAM, stream, data.as_bytes())),
            Rest::DataAndTrailers(data, trailers) => {
                bytes.extend(frame(DATA, 0, stream, data.as_bytes()));
                bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&owned(trailers))));
            }
        }
        let _ = self.0.write_all(&bytes).await;
        let _ = self.0.flush().await;
    }

    /// `200`, `reset`, `goaway` or `closed`: how a stream was answered.
    async fn answer(&mut self, stream: u32) -> String {
        let mut status = None;
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return "closed".to_owned();
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if self.0.read_exact(&mut payload).await.is_err() {
                return "closed".to_owned();
            }
            let (kind, flags) = (head[3], head[4]);
            let on = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            match kind {
                GOAWAY => return "goaway".to_owned(),
                RST_STREAM if on == stream => return status.unwrap_or_else(|| "reset".to_owned()),
                HEADERS if on == stream && status.is_none() => status = Some(status_of(&payload)),
                _ => {}
            }
            if on == stream && [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0 {
                return status.unwrap_or_default();
            }
        }
    }
}

/// `:status` comes first: from the static table (RFC 7541 appendix A, 8 to 14), or as a literal of
/// its name there, plain or in Huffman's code (appendix B: 0 to 2 have five bits, the other digits
/// six).
fn status_of(block: &[u8]) -> String {
    let block: Vec<u8> = block.iter().copied().skip_while(|byte| byte & 0xe0 == 0x20).collect();
    match block[..] {
        [indexed @ 0x88..=0x8e, ..] => {
            ["200", "204", "206", "304", "400", "404", "500"][usize::from(indexed - 0x88)].to_owned()
        }
        [0x48 | 0x08, length, ref value @ ..] if length & 0x80 == 0 => {
            String::from_utf8_lossy(&value[..usize::from(length)]).into_owned()
        }
        [0x48 | 0x08, length, ref value @ ..] => huffman_digits(&value[..usize::from(length & 0x7f)]),
        _ => format!("an unknown form: {block:02x?}"),
    }
}

fn huffman_digits(code: &[u8]) -> String {
    let bits: Vec<u8> = code.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0_u8, |sum, bit| sum << 1 | bit);
    let (mut at, mut digits) = (0, String::new());
    while digits.len() < 3 {
        let five = number(&bits[at..at + 5]);
        let (digit, used) = if five < 3 { (five, 5) } else { (number(&bits[at..at + 6]) - 0x19 + 3, 6) };
        digits.push(char::from(b'0' + digit));
        at += used;
    }
    digits
}

fn owned(fields: &[Field]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const GET: [Field; 4] = [(":method", "GET"), (":scheme", "https"), (":authority", HUB), (":path", TAG)];

/// The frame of a GET, on stream 1.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let (mut fields, last) = (owned(&GET[..3]), (":path".to_owned(), path.to_owned()));
    fields.push(last);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields))
}

/// A good head with these fields instead (`-name`: without it), and these after it.
fn head(instead: &[Field], after: &[Field]) -> Vec<(String, String)> {
    let kept = |field: &Field| match instead.iter().find(|(name, _)| name.trim_start_matches('-') == field.0) {
        Some((name, _)) if name.starts_with('-') => None,
        Some(other) => Some(*other),
        None => Some(*field),
    };
    let push = format!("/v2/library/alpine/blobs/uploads/?digest={}", sha256(b"hello"));
    let head: Vec<Field> = GET.iter().filter_map(kept).chain(after.iter().copied()).collect();
    owned(&head).into_iter().map(|(name, value)| (name, value.replace("{PUSH}", &push))).collect()
}

const POST: [Field; 2] = [(":method", "POST"), (":path", "{PUSH}")];
/// Refused as a stream, a connection or a request: nothing was done.
const NO: &str = "reset|goaway|closed|400|405|421|501";

/// (what is wrong, instead of a good head's, after it, body, how it may be answered)
type Case = (&'static str, &'static [Field], &'static [Field], Rest, &'static str);

const CASES: &[Case] = &[
    ("a good pull", &[], &[], Rest::Nothing, "200"),
    ("a pull with a body", &[], &[], Rest::Data("hello"), "200"),
    ("a good upload", &POST, &[("content-length", "5")], Rest::Data("hello"), "201"),
    ("an upload without a length", &POST, &[], Rest::Data("hello"), "201"),
    ("trailers", &POST, &[], Rest::DataAndTrailers("hello", &[("x-a", "b")]), "201"),
    ("te: trailers", &[], &[("te", "trailers")], Rest::Nothing, "200"),
    // 8.1.1: a length that is not that of the DATA frames.
    ("a length too short", &POST, &[("content-length", "3")], Rest::Data("hello"), NO),
    ("a length too long", &POST, &[("content-length", "50")], Rest::Data("hello"), "reset|goaway|closed|400|502"),
    ("a length and nothing", &POST, &[("content-length", "5")], Rest::Nothing, "reset|goaway|closed|400|502"),
    ("two lengths", &POST, &[("content-length", "5"), ("content-length", "6")], Rest::Data("hello"), NO),
    ("a list of lengths", &POST, &[("content-length", "5, 6")], Rest::Data("hello"), NO),
    ("+5", &POST, &[("content-length", "+5")], Rest::Data("hello"), NO),
    // 8.2.2: what belongs to a connection.
    (
        "transfer-encoding",
        &POST,
        &[("transfer-encoding", "chunked")],
        Rest::Data("0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        NO,
    ),
    ("connection", &[], &[("connection", "authorization")], Rest::Nothing, NO),
    ("keep-alive", &[], &[("keep-alive", "timeout=5")], Rest::Nothing, NO),
    ("proxy-connection", &[], &[("proxy-connection", "keep-alive")], Rest::Nothing, NO),
    ("upgrade", &[], &[("upgrade", "h2c")], Rest::Nothing, NO),
    ("te: gzip", &[], &[("te", "gzip")], Rest::Nothing, NO),
    // 8.2.1: what is no name and no value. It would be a line of its own in HTTP/1.1.
    ("CRLF in a value", &POST, &[("x-a", "a\r\nx-smuggled: b")], Rest::Data("hello"), NO),
    ("LF in a value", &POST, &[("x-a", "a\nx-smuggled: b")], Rest::Data("hello"), NO),
    ("CR in a value", &POST, &[("x-a", "a\rx-smuggled: b")], Rest::Data("hello"), NO),
    ("NUL in a value", &POST, &[("x-a", "a\0b")], Rest::Data("hello"), NO),
    ("CRLF in a name", &POST, &[("x-a: b\r\nx-smuggled", "b")], Rest::Data("hello"), NO),
    ("a colon in a name", &POST, &[("x-a:b", "c")], Rest::Data("hello"), NO),
    ("a blank in a name", &POST, &[("transfer-encoding ", "chunked")], Rest::Data("hello"), NO),
    ("a capital in a name", &POST, &[("Content-Length", "0")], Rest::Data("hello"), NO),
    ("no name", &POST, &[("", "c")], Rest::Data("hello"), NO),
    // 8.3: pseudo-fields.
    ("an unknown one", &[], &[(":smuggled", "x")], Rest::Nothing, NO),
    ("one of responses", &[], &[(":status", "200")], Rest::Nothing, NO),
    ("one after a field", &[("-:path", "")], &[("x-a", "b"), (":path", TAG)], Rest::Nothing, NO),
    ("two paths", &[], &[(":path", "/v2/library/smuggled/manifests/1")], Rest::Nothing, NO),
    ("two methods", &[], &[(":method", "POST")], Rest::Nothing, NO),
    ("two authorities", &[], &[(":authority", "ghcr.io")], Rest::Nothing, NO),
    ("no path", &[("-:path", "")], &[], Rest::Nothing, NO),
    ("no method", &[("-:method", "")], &[], Rest::Nothing, NO),
    ("an empty path", &[(":path", "")], &[], Rest::Nothing, NO),
    ("a path without a slash", &[(":path", "v2/library/alpine/manifests/3.20")], &[], Rest::Nothing, NO),
    ("a blank in the path", &[(":path", "/v2/library/alpine/manifests/3.20 HTTP/1.1")], &[], Rest::Nothing, NO),
    (
        "CRLF in the path",
        &[(":path", "/v2/ HTTP/1.1\r\nhost: x\r\n\r\nGET /v2/library/smuggled/manifests/1")],
        &[],
        Rest::Nothing,
        NO,
    ),
    ("a blank in the method", &[(":method", "GET /v2/smuggled HTTP/1.1")], &[], Rest::Nothing, NO),
    ("CRLF in the method", &[(":method", "GET /smuggled HTTP/1.1\r\nx: y\r\n\r\nGET")], &[], Rest::Nothing, NO),
    ("another authority", &[(":authority", "ghcr.io")], &[], Rest::Nothing, "421"),
    ("an authority with a user", &[(":authority", "registry-1.docker.io@evil.test")], &[], Rest::Nothing, NO),
    ("an authority with a path", &[(":authority", "registry-1.docker.io/smuggled")], &[], Rest::Nothing, NO),
    ("CRLF in the authority", &[(":authority", "registry-1.docker.io\r\nx-smuggled: y")], &[], Rest::Nothing, NO),
    ("an authority and another host", &[], &[("host", "ghcr.io")], Rest::Nothing, "421"),
    ("another host alone", &[("-:authority", "")], &[("host", "ghcr.io")], Rest::Nothing, "421"),
    ("two hosts", &[], &[("host", HUB), ("host", "ghcr.io")], Rest::Nothing, NO),
    ("a scheme with more in it", &[(":scheme", "https://evil.test/smuggled?")], &[], Rest::Nothing, NO),
    ("two credentials", &[], &[("authorization", "Bearer a"), ("authorization", "Bearer b")], Rest::Nothing, "400"),
    (
        "CONNECT",
        &[(":method", "CONNECT"), ("-:path", ""), ("-:scheme", ""), (":authority", "evil.test:443")],
        &[],
        Rest::Nothing,
        "405|400|reset",
    ),
    ("extended CONNECT", &[(":method", "CONNECT")], &[(":protocol", "websocket")], Rest::Nothing, NO),
    ("a path that hides another", &[(":path", "/v2/library/%61lpine/manifests/3.20")], &[], Rest::Nothing, "400"),
    ("a path that is long", &[(":path", "/v2/library/..//../alpine/manifests/3.20")], &[], Rest::Nothing, "400"),
    // Trailers are no fields (8.1): they end a body and say nothing of who asks or how long it was.
    // (A pseudo-field among them is malformed; the library drops it, and it gets no further.)
    ("a length for a trailer", &POST, &[], Rest::DataAndTrailers("hello", &[("content-length", "0")]), "201|reset|400"),
    ("a pseudo-field for a trailer", &POST, &[], Rest::DataAndTrailers("hello", &[(":path", "/smuggled")]), "201"),
    (
        "a coding for a trailer",
        &POST,
        &[],
        Rest::DataAndTrailers("hello", &[("transfer-encoding", "chunked")]),
        "201|reset|goaway|400|502",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_h2_allows_nobody_is_not_written_in_h1() {
    let world = World::start().await;
    let mut wrong = Vec::new();
    for (name, instead, after, rest, expected) in CASES {
        world.forget();
        let mut frames = Frames::open(&world.seawall).await;
        frames.send(1, &head(instead, after), *rest).await;
        let said = frames.answer(1).await;
        if !expected.split('|').any(|word| word == said) {
            wrong.push(format!("{name}: {said} instead of {expected}"));
        }
        // One stream's error is not the others' (RFC 9113 5.4.2), and what the connection knows of
        // fields is what it was.
        if said != "goaway" && said != "closed" {
            frames.send(3, &head(&[], &[]), Rest::Nothing).await;
            let next = frames.answer(3).await;
            if next != "200" {
                wrong.push(format!("{name}: then {next}"));
            }
        }
        for seen in world.seen() {
            let line = format!("{} {:?}", seen.line(), seen.headers);
            let known = seen.path == TAG || seen.path == "/v2/library/alpine/blobs/uploads/";
            let framed = seen.header("transfer-encoding").is_none() || seen.header("content-length").is_none();
            if !known || !framed || line.contains("smuggled") {
                wrong.push(format!("{name}: upstream saw {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_status_is_read_in_every_form() {
    assert_eq!(status_of(&[0x20, 0x88, 0x5f]), "200");
    assert_eq!(status_of(&[0x48, 3, b'4', b'2', b'1']), "421");
    // RFC 7541 C.6.1: "302".
    assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), "302");
}
