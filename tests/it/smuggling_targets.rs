//! Which manifest does a path name, and who is meant? Paths, hosts, methods and sizes that two
//! readers read in two ways.

use crate::harness::*;
use crate::smuggling::{Answer, Case, Way, World, check};

/// In which ways a path means a pull.
const PULLS: [Way; 3] = [Way::Mirror, Way::Connect, Way::Absolute];

/// What reached upstream is what was written, to the byte (`AS IS`), or nothing at all but the good
/// request that follows.
fn as_written(way: Way, case: &Case<'_>, seen: &Seen) -> Option<String> {
    let written = way.filled(case.1);
    let target = written.split(' ').nth(1).unwrap().strip_prefix(&way.base()).unwrap_or_default().to_owned();
    let query = seen.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let reached = format!("{}{query}", seen.path);
    let good = reached == "/v2/library/alpine/manifests/3.20";
    let passed = case.2.contains("404") && way != Way::Mirror && reached == target;
    (!good && !passed).then(|| seen.line())
}

/// A path that hides a pull is refused: who else reads it may read another (RFC 3986 6.2.2). What
/// is no pull goes as it is, and is answered by upstream (404): nothing of it is kept, so nothing
/// is kept under a wrong name.
const PATHS: &[(&str, &str)] = &[
    ("/v2/library/alpine/manifests/3.20", "GET"),
    ("/v2/library/../library/alpine/manifests/3.20", "400"),
    ("/v2/../v2/library/alpine/manifests/3.20", "400"),
    ("/../v2/library/alpine/manifests/3.20", "400"),
    ("/v2/./library/alpine/manifests/3.20", "400"),
    ("/v2/library/alpine/blobs/../manifests/3.20", "400"),
    ("/v2/library/alpine/tags/list/../../manifests/3.20", "400"),
    ("/v2/library/alpine/%2e%2e/alpine/manifests/3.20", "400"),
    ("/v2/library/alpine/%2E./alpine/manifests/3.20", "400"),
    ("/v2/library/%252e%252e/alpine/manifests/3.20", "400"),
    ("/v2/library/..;/alpine/manifests/3.20", "400"),
    ("//v2/library/alpine/manifests/3.20", "400|GET"),
    ("/v2//library/alpine/manifests/3.20", "400"),
    ("/v2/library//alpine/manifests/3.20", "400"),
    ("/v2/library/alpine/manifests//3.20", "400"),
    ("/v2/library/alpine/manifests/3.20/", "400"),
    ("/v2/library/%61lpine/manifests/3.20", "400"),
    ("/v2/library/%2561lpine/manifests/3.20", "400"),
    ("/v2/library%2falpine/manifests/3.20", "400"),
    ("/v2/library%2Falpine%2fmanifests%2f3.20", "400"),
    ("/v2/library/alpine/%6danifests/3.20", "400"),
    ("/%76%32/library/alpine/manifests/3.20", "400"),
    ("/v2/library/alpine/manifests/3%2e20", "400"),
    ("/v2/library/alpine/manifests/3.20%00", "400"),
    ("/v2/library/alpine/manifests/3.20%0d%0aHost:%20evil.test", "400"),
    ("/v2/library/alpine%20/manifests/3.20", "400"),
    ("/v2/library/alpine%/manifests/3.20", "400"),
    ("/v2/library/alpine;x=1/manifests/3.20", "400"),
    ("/v2/library\\alpine/manifests/3.20", "400"),
    ("/v2/library/..\\alpine/manifests/3.20", "400"),
    ("/v2/library/alp\u{ed}ne/manifests/3.20", "400"),
    ("/v2/Library/alpine/manifests/3.20", "400"),
    ("/v2/library/alpine/manifests/{HEX}", "404"),
    ("/v2/library/alpine/manifests/sha256:{HEX}", "GET"),
    ("/v2/library/alpine/manifests/sha256%3a{HEX}", "GET"),
    ("/v2/library/alpine/manifests/sha256:{UPPER}", "400"),
    ("/v2/library/alpine/manifests/SHA256:{HEX}", "400"),
    ("/v2/library/alpine/manifests/sha256:{HEX}0", "400"),
    ("/v2/library/alpine/manifests/sha256::{HEX}", "400"),
    ("/v2/library/alpine/blobs/sha256%3A{HEX}", "404"),
    ("/v2/library/alpine/blobs/sha256:{UPPER}", "400"),
    ("/v2/library/alpine/blobs/sha256:..", "400"),
    ("/v2/library/alpine/blobs/sha256:../../../../etc/passwd", "404"),
    ("/v2/library/alpine/manifests/3.20?x=/../../y&digest=sha256:0", "GET"),
    ("/v2/library/alpine/manifests/3.20?", "GET"),
    // RFC 9112 3.2: a target has no fragment. It may be refused, or left out.
    ("/v2/library/alpine/manifests/3.20#/../other", "GET|400"),
    // These name nothing that seawall reads: 404 is upstream's, for the very bytes of the path.
    ("/V2/library/alpine/manifests/3.20", "404"),
    ("/v2\\library\\alpine\\manifests\\3.20", "404"),
    ("/v2/library/alpine/manifests;x/3.20", "404"),
    ("/v2/library/alpine/manifests/3.20;x=1", "404"),
    ("/v2/library/alpine/manifests/3.20/..", "404"),
    ("/v2/library/alpine/manifests/-3.20", "404"),
    ("/v2/library/alpine/tags%2flist", "404"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_read_in_one_way_or_not_at_all() {
    let digest = Image::multi_layer().digest();
    let hex = digest.strip_prefix("sha256:").unwrap();
    for ways in [&[Way::Mirror][..], &[Way::Connect, Way::Absolute]] {
        let mirror = ways == [Way::Mirror];
        let case = |(path, expected): &(&'static str, &'static str)| {
            let path = path.replace("{HEX}", hex).replace("{UPPER}", &hex.to_uppercase());
            // A mirror says 400 to what is no pull; the others ask.
            let words = expected.split('|').map(|word| format!("{word} GET")).collect::<Vec<_>>().join("|");
            let words = if mirror { words.replace("404", "BAD").replace("400", "BAD") } else { words };
            (path.clone(), format!("GET {{BASE}}{path} HTTP/1.1\r\nHost: {{HOST}}\r\n\r\n{{NEXT}}"), words)
        };
        let cases: Vec<_> = PATHS.iter().map(case).collect();
        let cases: Vec<Case<'_>> = cases.iter().map(|case| (&*case.0, &*case.1, &*case.2)).collect();
        check(ways, &cases, |way, case, seen| {
            // The tag that looks like a digest is a tag.
            let tag = case.0.ends_with(&format!("manifests/{hex}")) && seen.path == case.0;
            // An encoded colon is a colon.
            let colon = seen.path == case.0.replace("%3A", ":").replace("%3a", ":");
            as_written(way, case, seen).filter(|_| !tag && !colon)
        })
        .await;
    }
}

/// What is too long is refused before it is anything: 400 where it is a name, 414 or 431 where it
/// is a line or a head, and then the connection ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_goes_nowhere() {
    let get =
        |path: &str, fields: &str| format!("GET {{BASE}}{path} HTTP/1.1\r\nHost: {{HOST}}\r\n{fields}\r\n{{NEXT}}");
    let tag = "/v2/library/alpine/manifests/3.20";
    let many = |n: usize| (0..n).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
    let cases = [
        ("a repository of 255", get(&format!("/v2/{}/manifests/1", "a/".repeat(127) + "b"), ""), "BAD GET"),
        ("a repository of 256", get(&format!("/v2/{}/manifests/1", "a".repeat(256)), ""), "400 GET"),
        ("a tag of 128", get(&format!("/v2/library/alpine/manifests/{}", "a".repeat(128)), ""), "404 GET"),
        ("a tag of 129", get(&format!("/v2/library/alpine/manifests/{}", "a".repeat(129)), ""), "404 GET"),
        ("a path of 64 KiB", get(&format!("/v2/library/alpine/manifests/{}", "a".repeat(64 << 10)), ""), "NO"),
        ("a path of 1 MiB", get(&format!("/v2/{}", "a/".repeat(512 << 10)), ""), "NO"),
        ("a field of 48 KiB", get(tag, &format!("X-A: {}\r\n", "a".repeat(48 << 10))), "GET GET"),
        // The limit is what is in the buffer when it is looked at: up to twice 64 KiB.
        ("a field of 130 KiB", get(tag, &format!("X-A: {}\r\n", "a".repeat(130 << 10))), "NO"),
        ("a name of 140 KB", get(tag, &format!("{}: a\r\n", "x".repeat(140_000))), "NO"),
        ("a token of 32 KiB", get(tag, &format!("Accept: {}\r\n", "a/b, ".repeat(6000))), "GET GET|404 GET"),
        ("100 fields", get(tag, &many(99)), "GET GET"),
        ("101 fields", get(tag, &many(100)), "NO"),
        ("3000 fields", get(tag, &many(3000)), "NO"),
    ];
    let cases: Vec<Case<'_>> = cases.iter().map(|(name, bytes, expected)| (*name, bytes.as_str(), *expected)).collect();
    check(&PULLS, &cases, |_, case, seen| {
        let long = seen.path.len() > 300 || seen.headers.iter().any(|(_, value)| value.len() > 1000);
        (long || case.2 == "NO" || case.0.contains("256") || case.0.contains("129"))
            .then(|| seen.line())
            .filter(|line| !line.contains("/3.20 "))
    })
    .await;
}

/// RFC 9110 7.2, 7.4, 15.5.20 and RFC 9112 3.2: one host, and the connection's own. Nobody else is
/// asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_one_host() {
    const TAG: &str = "/v2/library/alpine/manifests/3.20";
    let to = |target: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        format!("GET {target} HTTP/1.1\r\n{hosts}\r\n{{NEXT}}")
    };
    let here = format!("{{BASE}}{TAG}");
    let both = [
        ("two hosts", to(&here, &["{HOST}", "evil.test"]), "400 GET"),
        ("a host, twice", to(&here, &["{HOST}", "{HOST}"]), "400 GET"),
    ];
    let not_here = [
        ("another", to(&here, &["evil.test"]), "421 GET"),
        ("a list", to(&here, &["{HOST}, evil.test"]), "421 GET|400 GET"),
        ("a user", to(&here, &["{HOST}@evil.test"]), "421 GET|400 GET"),
        ("a path", to(&here, &["{HOST}/evil"]), "421 GET|400 GET"),
        ("another port", to(&here, &["{HOST}:8443"]), "421 GET"),
        ("no port", to(&here, &["{HOST}:x"]), "421 GET|400 GET"),
        ("a blank in it", to(&here, &["{HOST} evil.test"]), "421 GET|400 GET"),
        ("beyond ASCII", to(&here, &["r\u{e9}gistry"]), "421 GET|400 GET"),
    ];
    let inside = [
        ("nothing", to(&here, &[""]), "421 GET|400 GET"),
        ("the URL another", to(&format!("http://ghcr.io{TAG}"), &["{HOST}"]), "421 GET"),
        ("the URL another, and Host too", to(&format!("https://ghcr.io{TAG}"), &["ghcr.io"]), "421 GET"),
        ("the URL another, and no Host", to(&format!("https://plain.test{TAG}"), &[]), "400 GET"),
        ("the URL with a user", to(&format!("https://{{HOST}}@evil.test{TAG}"), &["{HOST}"]), "421 GET|400 GET|NO"),
        ("the URL itself", to(&format!("https://{{HOST}}{TAG}"), &["{HOST}"]), "GET GET"),
        ("the asterisk", to("*", &["{HOST}"]), "400 GET"),
        ("no target", to("", &["{HOST}"]), "NO"),
        ("a target without a slash", to("v2/library/alpine/manifests/3.20", &["{HOST}"]), "NO|400 GET|421 GET"),
        ("an authority for a target", to("evil.test:443", &["{HOST}"]), "NO|400 GET|421 GET"),
        (
            "a CONNECT",
            "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n{NEXT}".to_owned(),
            "405 GET|405|400",
        ),
        (
            "a CONNECT to itself",
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n{NEXT}".to_owned(),
            "405 GET|405|400",
        ),
    ];
    for (ways, cases) in
        [(&PULLS[..], &both[..]), (&[Way::Connect, Way::Absolute], &not_here), (&[Way::Connect], &inside)]
    {
        let cases: Vec<Case<'_>> =
            cases.iter().map(|(name, bytes, expected)| (*name, bytes.as_str(), *expected)).collect();
        check(ways, &cases, |_, _, seen| (seen.path != TAG).then(|| seen.line())).await;
    }
}

/// RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
/// request message that lacks a Host header field".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_1_without_a_host_is_refused() {
    let bytes = "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\r\n\r\n{NEXT}";
    check(&PULLS, &[("no Host", bytes, "400 GET|400")], |_, _, _| None).await;
}

/// What is no method here ends the connection in the clear, where the first byte decides what is
/// spoken; within TLS it is 400. A method that nobody here knows is upstream's to answer, as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_is_a_word_and_case_matters() {
    let tag = "{BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\r\nHost: {HOST}\r\n\r\n{EVIL}";
    let bad = [
        ("a tab behind it", format!("GET\t{tag}"), "NO|"),
        ("a tab within it", format!("GE\tT {tag}"), "NO|"),
        ("NUL", format!("GET\0 {tag}"), "NO|"),
        ("none", format!(" {tag}"), "NO|"),
        ("brackets", format!("(GET) {tag}"), "NO|"),
        ("a colon", format!("GET: {tag}"), "NO|"),
        ("h2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{EVIL}".to_owned(), "NO|"),
        ("a line before it", format!("x\r\nGET {tag}"), "NO|"),
    ];
    let bad: Vec<Case<'_>> = bad.iter().map(|(name, bytes, expected)| (*name, bytes.as_str(), *expected)).collect();
    check(&Way::ALL, &bad, |_, _, seen| Some(seen.line())).await;

    let tag = "{BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n{NEXT}";
    let unknown = ["TRACE", "OPTIONS", "get", "GETT", "PROPFIND", "head", "PATCH"];
    let cases: Vec<_> = unknown.iter().map(|method| (*method, format!("{method} {tag}"))).collect();
    let cases: Vec<Case<'_>> = cases.iter().map(|(name, bytes)| (*name, bytes.as_str(), "BAD GET|")).collect();
    check(&PULLS, &cases, |_, case, seen| {
        let good = seen.path.ends_with("/manifests/3.20");
        (!good || ![case.0, "GET", "HEAD"].contains(&seen.method.as_str())).then(|| seen.line())
    })
    .await;
}

/// A CONNECT to a registry that is followed by HTTP: nothing of it is a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_connect_is_tls_or_nothing() {
    let world = World::start().await;
    let host = crate::target::HUB;
    for (head, expected) in [
        (format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"), &[200, 400][..]),
        // A body of a CONNECT means nothing (RFC 9110 9.3.6): what was announced for one is not TLS
        // either.
        (format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nContent-Length: 500\r\n\r\n"), &[200]),
        (format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nTransfer-Encoding: chunked\r\n\r\n"), &[200]),
        (format!("CONNECT {host}:443@evil.test:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"), &[400]),
        (format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]),
        (format!("CONNECT http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]),
        (format!("CONNECT /v2/ HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[400]),
        (format!("CONNECT {host}:0 HTTP/1.1\r\nHost: {host}:0\r\n\r\n"), &[400]),
        (format!("CONNECT {host}:65979 HTTP/1.1\r\nHost: {host}:65979\r\n\r\n"), &[400]),
    ] {
        world.forget();
        let evil = Way::Mirror.filled("{EVIL}");
        let said: Vec<Answer> = world.said(Way::Mirror, format!("{head}{evil}").as_bytes()).await;
        let statuses: Vec<u16> = said.iter().map(|answer| answer.status).collect();
        assert!(statuses.starts_with(expected), "{head}: {said:?}");
        if expected[0] == 200 {
            assert!(statuses.len() <= 2 && world.seen().is_empty(), "{head}: {said:?}");
        }
    }
}
