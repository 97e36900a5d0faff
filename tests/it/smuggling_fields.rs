//! Which fields are whose? What a client writes for seawall, for upstream, for another hop, and
//! what only looks like it.

use http::Method;

use crate::harness::*;
use crate::smuggling::{Case, Way, World, check};

/// What seawall says of itself to a registry when it asks for a pull. A client's own words are not
/// among it, but its credential.
const OURS: [&str; 7] = ["host", "accept", "accept-encoding", "user-agent", "authorization", "range", "via"];

/// What a client might hope that somebody behind seawall believes.
const HOPES: &str = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: http\r\nX-Real-IP: 10.0.0.1\r\n\
    Forwarded: for=10.0.0.1;host=evil.test\r\nVia: 1.1 evil.test\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /v2/_catalog\r\n\
    X-Rewrite-URL: /v2/_catalog\r\nCookie: sid=1\r\nProxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\n\
    x_forwarded_for: 10.0.0.1\r\ncontent_length: 500\r\ntransfer_encoding: chunked\r\nauthorization_: Bearer x\r\nTE: trailers\r\n\
    Keep-Alive: timeout=5\r\nMax-Forwards: 0\r\nDocker-Content-Digest: sha256:0\r\nIf-Match: \"x\"\r\n";

/// A pull is asked for in seawall's own words: nothing that a client adds reaches a registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_takes_nothing_of_the_clients_along() {
    let world = World::start().await;
    for (way, path) in [Way::Mirror, Way::Connect, Way::Absolute].into_iter().flat_map(|way| {
        let layer = Image::multi_layer().layers()[0].digest();
        let paths =
            ["manifests/other".to_owned(), format!("blobs/{layer}"), format!("blobs/sha256:{}", "0".repeat(64))];
        paths.map(|path| (way, path))
    }) {
        world.forget();
        let bytes = format!(
            "GET {{BASE}}/v2/library/alpine/{path} HTTP/1.1\r\nHost: {{HOST}}\r\n{HOPES}Range: bytes=0-3\r\n\r\n{{NEXT}}"
        );
        let said = world.said(way, way.filled(&bytes).as_bytes()).await;
        assert_eq!(said.len(), 2, "{way:?} {path}: {said:?}");
        for seen in world.seen() {
            let names: Vec<_> = seen.headers.keys().filter(|name| !OURS.contains(&name.as_str())).collect();
            assert!(names.is_empty(), "{way:?} {path}: {names:?} in {}", seen.line());
            assert!(seen.authorization().is_none(), "{way:?} {path}");
            let vias: Vec<_> = seen.headers.get_all("via").iter().collect();
            assert!(
                vias.len() == 1 && vias[0].to_str().unwrap().starts_with("1.1 seawall-"),
                "{way:?} {path}: {vias:?}"
            );
            assert_eq!(seen.authority, if way == Way::Absolute { "plain.test" } else { "registry-1.docker.io" });
        }
    }
}

/// RFC 9110 7.6.1: what is for this hop ends here, whatever names it; what is for the registry
/// arrives, whatever names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_strips_what_is_for_this_hop_and_nothing_else() {
    let world = World::start().await;
    for way in [Way::Connect, Way::Absolute, Way::Forward] {
        world.forget();
        let bytes = format!(
            "{{POST}}\r\nAuthorization: Bearer mine\r\nContent-Length: 5\r\nX-Secret: a\r\nX-Kept: b\r\n\
             Connection: authorization, content-length, host, X-Secret, content-type, close-ish\r\nContent-Type: a/b\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n{HOPES}\r\nhello{{NEXT}}"
        );
        let said = world.said(way, way.filled(&bytes).as_bytes()).await;
        let statuses: Vec<u16> = said.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [201, 200], "{way:?}: no upgrade, and the next is the next");
        let seen = world.upstream(way).requests().into_iter().find(|seen| seen.method == Method::POST).unwrap();
        assert_eq!(seen.authorization(), Some("Bearer mine"), "{way:?}");
        assert_eq!((seen.authority.as_str(), seen.header("content-length")), (way.host(), Some("5")), "{way:?}");
        assert_eq!((seen.header("content-type"), seen.header("x-kept")), (Some("a/b"), Some("b")), "{way:?}");
        for gone in [
            "x-secret",
            "connection",
            "upgrade",
            "http2-settings",
            "te",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
        ] {
            assert_eq!(seen.header(gone), None, "{way:?}: {gone}");
        }
        // What says who asks is the client's own: seawall neither adds its address nor takes the
        // client's word away.
        for (name, value) in
            [("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1;host=evil.test"), ("x-real-ip", "10.0.0.1")]
        {
            let lines: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(lines, [value], "{way:?}: {name}");
        }
        assert!(!format!("{:?}", seen.headers).contains("127.0.0.1"), "{way:?}: {:?}", seen.headers);
    }
}

/// Servers that turn names into variables (CGI, RFC 3875 4.1.18) read `content_length` as
/// `Content-Length`. seawall takes it for neither, and what it sends on must be read by others as
/// it was read here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_underscores_are_not_sent_on_as_what_they_look_like() {
    let world = World::start().await;
    for way in [Way::Connect, Way::Absolute] {
        world.forget();
        let bytes = "{POST}\r\nContent-Length: 5\r\ncontent_length: 0\r\ntransfer_encoding: chunked\r\nx_forwarded_for: 10.0.0.1\r\n\r\nhello{NEXT}";
        let said = world.said(way, way.filled(bytes).as_bytes()).await;
        assert_eq!(said.iter().map(|answer| answer.status).collect::<Vec<_>>(), [201, 200], "{way:?}");
        let seen = world.upstream(way).requests().into_iter().find(|seen| seen.method == Method::POST).unwrap();
        for name in ["content_length", "transfer_encoding"] {
            assert_eq!(seen.header(name), None, "{way:?}: {name}");
        }
    }
}

/// (…) With underscores a body is as long as its true length says, on this side of seawall.
const UNDERSCORES: &[Case<'_>] = &[
    ("a length", "{POST}\r\nContent-Length: 5\r\ncontent_length: 500\r\n\r\nhello{NEXT}", "POST GET"),
    ("only such a length", "{GET}\r\ncontent_length: 5\r\n\r\n{NEXT}", "GET GET"),
    ("chunks", "{POST}\r\nContent-Length: 5\r\ntransfer_encoding: chunked\r\n\r\nhello{NEXT}", "POST GET"),
    ("only such chunks", "{GET}\r\ntransfer_encoding: chunked\r\n\r\n{NEXT}", "GET GET"),
    ("a range", "{GET}\r\nIf_None_Match: *\r\nR_ange: bytes=0-1\r\n\r\n{NEXT}", "GET GET"),
    ("a host", "{GET}\r\nho_st: evil.test\r\n\r\n{NEXT}", "GET GET"),
];

/// RFC 9110 5.3: a field that is no list is there once. What decides who may read is refused when
/// it is there twice; of the rest, one is believed, or none.
const TWICE: &[Case<'_>] = &[
    ("Authorization", "{GET}\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n{NEXT}", "400 GET"),
    ("Authorization, the same", "{GET}\r\nAuthorization: Bearer a\r\nAuthorization: Bearer a\r\n\r\n{NEXT}", "400 GET"),
    ("Authorization, one empty", "{GET}\r\nAuthorization: \r\nAuthorization: Bearer a\r\n\r\n{NEXT}", "400 GET"),
    (
        "Authorization of an upload",
        "{POST}\r\nContent-Length: 5\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\nhello{NEXT}",
        "400 GET|400",
    ),
];

/// (…) Conditions and ranges.
const CONDITIONS: &[Case<'_>] = &[
    ("two ranges", "{GET}\r\nRange: bytes=0-3\r\nRange: bytes=4-7\r\n\r\n{NEXT}", "GET GET|206 GET"),
    ("a range of another unit", "{GET}\r\nRange: lines=0-3\r\n\r\n{NEXT}", "GET GET"),
    ("a range that is none", "{GET}\r\nRange: bytes=3-0\r\n\r\n{NEXT}", "GET GET|416 GET"),
    ("a range beyond 2^64", "{GET}\r\nRange: bytes=0-99999999999999999999999\r\n\r\n{NEXT}", "GET GET|206 GET"),
    (
        "two conditions, one true",
        "{GET}\r\nIf-None-Match: \"x\"\r\nIf-None-Match: \"{DIGEST}\"\r\n\r\n{NEXT}",
        "304 GET",
    ),
    ("two conditions, one of anything", "{GET}\r\nIf-None-Match: \"x\"\r\nIf-None-Match: *\r\n\r\n{NEXT}", "304 GET"),
    ("a condition and a range", "{GET}\r\nIf-None-Match: \"{DIGEST}\"\r\nRange: bytes=0-3\r\n\r\n{NEXT}", "304 GET"),
    (
        "a condition that contradicts",
        "{GET}\r\nIf-None-Match: \"x\"\r\nIf-Modified-Since: Fri, 31 Dec 2049 23:59:59 GMT\r\n\r\n{NEXT}",
        "GET GET",
    ),
];

/// RFC 9110 7.8 and 10.1.1, RFC 9113 3.1: nothing is upgraded, nothing is expected but
/// 100-continue.
const OFFERS: &[Case<'_>] = &[
    (
        "h2c",
        "{GET}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{NEXT}",
        "GET GET",
    ),
    (
        "h2c without a word in Connection",
        "{GET}\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n{NEXT}",
        "GET GET",
    ),
    (
        "h2c, and its preface at once",
        "{GET}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET|GET NO",
    ),
    (
        "websocket",
        "{GET}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n{NEXT}",
        "GET GET",
    ),
    ("TLS", "{GET}\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n{NEXT}", "GET GET"),
    ("an expectation nobody knows", "{GET}\r\nExpect: weird\r\n\r\n{NEXT}", "GET GET|417 GET|417"),
    ("100-continue and no body", "{GET}\r\nExpect: 100-continue\r\n\r\n{NEXT}", "GET GET"),
    (
        "100-continue and a body of a pull",
        "{GET}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello{NEXT}",
        "GET GET|GET",
    ),
    ("close, and more", "{GET}\r\nConnection: close\r\n\r\n{EVIL}", "GET"),
    ("HTTP/1.0, and more", "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.0\r\nHost: {HOST}\r\n\r\n{EVIL}", "GET"),
];

async fn on_pulls(cases: &[Case<'_>]) {
    let digest = Image::multi_layer().digest();
    let cases: Vec<_> =
        cases.iter().map(|(name, text, words)| (*name, text.replace("{DIGEST}", &digest), *words)).collect();
    let cases: Vec<Case<'_>> = cases.iter().map(|(name, text, words)| (*name, text.as_str(), *words)).collect();
    check(&[Way::Mirror, Way::Connect, Way::Absolute], &cases, |_, case, seen| {
        let upload = seen.method == Method::POST && case.2.starts_with("POST");
        (!upload && !seen.path.contains("/library/alpine/manifests/")).then(|| seen.line())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_underscore_is_no_hyphen() {
    on_pulls(UNDERSCORES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_credential_is_one() {
    // A mirror reads no credential: what it is sent for upstream goes nowhere, be it there twice.
    let cases = TWICE;
    check(&[Way::Connect, Way::Absolute], cases, |_, _, seen| (seen.method == Method::POST).then(|| seen.line())).await;
}

/// Where the first of two is the token that seawall gave itself, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_credential_is_one_beside_the_stand_in() {
    let two = "{GET}\r\nAuthorization: Bearer seawall.stands-for-nobody\r\nAuthorization: Bearer a\r\n\r\n{NEXT}";
    check(&[Way::Connect, Way::Absolute], &[("two", two, "400 GET")], |_, _, _| None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_and_ranges_that_contradict_each_other() {
    on_pulls(CONDITIONS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_upgraded_and_nothing_expected() {
    on_pulls(OFFERS).await;
}
