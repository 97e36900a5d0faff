//! Lengths, codings, lines and chunks that two readers read in two ways: see `smuggling`.

use http::Method;

use crate::harness::*;
use crate::smuggling::{Case, FILES, Way, check};

/// Nobody upstream saw a request that nobody made, or a request of another shape than the one that
/// was made.
async fn framed(cases: &[Case<'_>]) {
    check(&Way::ALL, cases, |_, _, seen| oddity(seen)).await;
}

/// What a request that reached upstream should not be like.
fn oddity(seen: &Seen) -> Option<String> {
    let line = seen.line();
    let known = match seen.method {
        Method::GET | Method::HEAD => seen.path.starts_with("/v2/library/alpine/manifests/"),
        Method::POST => seen.path == "/v2/library/alpine/blobs/uploads/",
        _ => false,
    };
    let framed = [seen.header("content-length"), seen.header("transfer-encoding")];
    match framed {
        _ if !known => Some(format!("what nobody asked for: {line}")),
        _ if line.contains("smuggled") => Some(line),
        [Some(_), Some(_)] => Some(format!("two framings: {line}")),
        [_, Some(te)] if te != "chunked" => Some(format!("{te}: {line}")),
        // To a host that is no registry a body goes as it came, whatever the method.
        [length, te]
            if seen.method != Method::POST
                && seen.host != FILES
                && (length.is_some_and(|n| n != "0") || te.is_some()) =>
        {
            Some(format!("a body of a pull: {line}"))
        }
        _ => None,
    }
}

/// RFC 9112 6.3: a length that is not one number ends the connection (rule 5); a coding that is not
/// known, or not last, does too (rule 4). Nothing goes upstream.
const LENGTHS: &[Case<'_>] = &[
    ("two lengths", "{POST}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello{EVIL}", "NO"),
    ("two lengths, the longer first", "{POST}\r\nContent-Length: 50\r\nContent-Length: 5\r\n\r\nhello{EVIL}", "NO"),
    ("two lengths of a pull", "{GET}\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n{EVIL}", "NO"),
    ("a list of lengths", "{POST}\r\nContent-Length: 5, 6\r\n\r\nhello{EVIL}", "NO"),
    // The same number twice may be taken for one (RFC 9110 8.6), or refused.
    ("a length, twice", "{POST}\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello{NEXT}", "POST GET|NO"),
    ("a list of one length", "{POST}\r\nContent-Length: 5, 5\r\n\r\nhello{NEXT}", "POST GET|NO"),
    ("+5", "{POST}\r\nContent-Length: +5\r\n\r\nhello{EVIL}", "NO"),
    ("-5", "{POST}\r\nContent-Length: -5\r\n\r\nhello{EVIL}", "NO"),
    ("0x5", "{POST}\r\nContent-Length: 0x5\r\n\r\nhello{EVIL}", "NO"),
    ("5 5", "{POST}\r\nContent-Length: 5 5\r\n\r\nhello{EVIL}", "NO"),
    ("5.0", "{POST}\r\nContent-Length: 5.0\r\n\r\nhello{EVIL}", "NO"),
    ("no number", "{POST}\r\nContent-Length: \r\n\r\n{EVIL}", "NO"),
    ("2^64 and 5", "{POST}\r\nContent-Length: 18446744073709551621\r\n\r\nhello{EVIL}", "NO"),
    ("digits of another script", "{POST}\r\nContent-Length: \u{665}\r\n\r\nhello{EVIL}", "NO"),
    ("xchunked", "{POST}\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}", "NO"),
    ("chunked, then not", "{POST}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{EVIL}", "NO"),
    (
        "chunked, then not, in two lines",
        "{POST}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{EVIL}",
        "NO",
    ),
    ("identity", "{POST}\r\nTransfer-Encoding: identity\r\n\r\n{EVIL}", "NO"),
    ("gzip", "{POST}\r\nTransfer-Encoding: gzip\r\n\r\n{EVIL}", "NO"),
    ("a length and xchunked", "{POST}\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello{EVIL}", "NO"),
    ("a vertical tab", "{POST}\r\nTransfer-Encoding: \u{b}chunked\r\nContent-Length: 5\r\n\r\nhello{EVIL}", "NO"),
    ("a parameter", "{POST}\r\nTransfer-Encoding: chunked;x=1\r\n\r\n0\r\n\r\n{EVIL}", "NO"),
    ("in quotes", "{POST}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{EVIL}", "NO"),
    (
        "chunks in HTTP/1.0",
        "POST {BASE}{PUSH} HTTP/1.0\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}",
        "NO",
    ),
];

/// RFC 9112 6.1 and 6.3, rule 3: a length beside chunks is refused, or left out and the chunks
/// believed; the connection ends in either case.
const BOTH: &[Case<'_>] = &[
    (
        "a length, then chunks",
        "{POST}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}",
        "NO|POST",
    ),
    (
        "chunks, then a length",
        "{POST}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}",
        "NO|POST",
    ),
    (
        "a shorter length",
        "{POST}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}",
        "NO|POST",
    ),
    (
        "a longer length",
        "{POST}\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}",
        "NO|POST",
    ),
    (
        "no length",
        "{POST}\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}",
        "NO|POST",
    ),
    ("… of a pull", "{GET}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}", "NO|GET"),
];

/// RFC 9112 6.1 and 7: chunks are applied once, and of a coding that is not known the answer is
/// 501: a body cannot be sent on as if it had none. (Where the body ends is clear: this is no
/// smuggling.)
const CODINGS: &[Case<'_>] = &[
    ("chunks of chunks", "{POST}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}", "NO"),
    (
        "chunks, twice",
        "{POST}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}",
        "NO",
    ),
    ("not, then chunked", "{POST}\r\nTransfer-Encoding: x, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}", "NO"),
    (
        "gzip, then chunked",
        "{POST}\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}",
        "NO",
    ),
];

/// RFC 9112 2.2 and 5: what is no line, no name and no value. Nothing goes upstream. (Of these a
/// bare LF alone may be read as a line's end.)
const LINES: &[Case<'_>] = &[
    ("a blank before the colon", "{POST}\r\nContent-Length : 5\r\n\r\nhello{EVIL}", "NO"),
    (
        "… of Transfer-Encoding",
        "{POST}\r\nContent-Length: 5\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{EVIL}",
        "NO",
    ),
    (
        "a tab before the colon",
        "{POST}\r\nContent-Length: 5\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n{EVIL}",
        "NO",
    ),
    ("a folded value", "{POST}\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{EVIL}", "NO"),
    ("a folded line", "{POST}\r\nX-A: b\r\n Content-Length: 5\r\n\r\nhello{EVIL}", "NO"),
    ("a folded first line", "POST {BASE}{PUSH} HTTP/1.1\r\n Host: {HOST}\r\n\r\n{EVIL}", "NO"),
    ("NUL in a name", "{GET}\r\nX-\0: a\r\n\r\n{EVIL}", "NO"),
    ("NUL in a value", "{GET}\r\nX-A: a\0b\r\n\r\n{EVIL}", "NO"),
    ("NUL after a length", "{POST}\r\nContent-Length: 5\0\r\n\r\nhello{EVIL}", "NO"),
    ("a bare CR in a value", "{GET}\r\nX-A: a\rX-B: b\r\n\r\n{EVIL}", "NO"),
    ("a bare CR for a line", "{POST}\r\nX-A: a\rTransfer-Encoding: chunked\r\n\r\n{EVIL}", "NO"),
    ("a line without a colon", "{GET}\r\nX-A\r\n\r\n{EVIL}", "NO"),
    ("a field without a name", "{GET}\r\n: a\r\n\r\n{EVIL}", "NO"),
    ("a name in brackets", "{GET}\r\n(X): a\r\n\r\n{EVIL}", "NO"),
    ("a name beyond ASCII", "{GET}\r\nTr\u{e4}nsfer-Encoding: chunked\r\n\r\n{EVIL}", "NO"),
    (
        "two blanks in the request line",
        "GET  {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\r\nHost: {HOST}\r\n\r\n{EVIL}",
        "NO",
    ),
    (
        "a blank in the path",
        "GET {BASE}/v2/library/alpine/manifests/3.20 x HTTP/1.1\r\nHost: {HOST}\r\n\r\n{EVIL}",
        "NO",
    ),
    ("no version", "GET {BASE}/v2/library/alpine/manifests/3.20\r\nHost: {HOST}\r\n\r\n{EVIL}", "NO"),
    ("HTTP/1.2", "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.2\r\nHost: {HOST}\r\n\r\n{EVIL}", "NO"),
    ("HTTP/2.0", "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/2.0\r\nHost: {HOST}\r\n\r\n{EVIL}", "NO"),
    (
        "an LF for every line's end",
        "GET {BASE}/v2/library/alpine/manifests/3.20 HTTP/1.1\nHost: {HOST}\n\n{NEXT}",
        "GET GET|NO",
    ),
    ("an LF before what hides", "{GET}\r\nX-A: a\nX-B: b\r\n\r\n{NEXT}", "GET GET|NO"),
    ("an empty line first", "\r\n{GET}\r\n\r\n\r\n{NEXT}", "GET GET"),
];

/// RFC 9112 7.1: what is no chunk. The head was good, so upstream may have seen it; it sees no end
/// of that body, and the connection ends. (`BAD`: the upload failed.)
const CHUNKS: &[Case<'_>] = &[
    ("a length in hex with 0x", "{CHUNKED}0x5\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a length with +", "{CHUNKED}+5\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a length with -", "{CHUNKED}-5\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("no length", "{CHUNKED}\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("2^64 and 5", "{CHUNKED}10000000000000005\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a chunk longer than it says", "{CHUNKED}4\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a chunk shorter than it says", "{CHUNKED}6\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a bare LF after a length", "{CHUNKED}5\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a bare CR after a length", "{CHUNKED}5\rhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("an LF in an extension", "{CHUNKED}5;a\nb\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a bare LF after a chunk", "{CHUNKED}5\r\nhello\n0\r\n\r\n{EVIL}", "BAD|"),
    ("NUL in a length", "{CHUNKED}5\0\r\nhello\r\n0\r\n\r\n{EVIL}", "BAD|"),
    ("a folded trailer", "{CHUNKED}5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n{EVIL}", "BAD|POST"),
    ("the end is missing", "{CHUNKED}5\r\nhello\r\n", "BAD|"),
];

/// What is odd and good: the body ends where it says, and the next request is the next.
const GOOD: &[Case<'_>] = &[
    ("a length", "{POST}\r\nContent-Length: 5\r\n\r\nhello{NEXT}", "POST GET"),
    ("chunks", "{CHUNKED}2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n{NEXT}", "POST GET"),
    ("chunks in capitals", "{POST}\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}", "POST GET"),
    ("zeros before a length", "{CHUNKED}0005\r\nhello\r\n000\r\n\r\n{NEXT}", "POST GET"),
    ("an extension", "{CHUNKED}5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n{NEXT}", "POST GET"),
    ("trailers", "{CHUNKED}5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n{NEXT}", "POST GET"),
    ("a pull with a body", "{GET}\r\nContent-Length: 5\r\n\r\nhello{NEXT}", "GET GET|GET"),
    ("a pull with a request for a body", "{GET}\r\nContent-Length: {EVIL#}\r\n\r\n{EVIL}{NEXT}", "GET GET|GET"),
    ("a pull with chunks", "{GET}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{NEXT}", "GET GET|GET"),
    ("a pull with a body of no bytes", "{GET}\r\nContent-Length: 0\r\n\r\n{NEXT}", "GET GET"),
    // Somebody who is no registry is sent the body too, and does not answer to half of one.
    ("a pull and half a body", "{GET}\r\nContent-Length: 500\r\n\r\n{EVIL}", "GET|502"),
    ("three pulls at once", "{NEXT}{NEXT}{NEXT}", "GET GET GET"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_is_one_number_and_a_coding_is_chunked() {
    framed(LENGTHS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_and_a_length_end_the_connection() {
    framed(BOTH).await;
}

/// hyper takes whatever ends in `chunked`, and seawall sends the body on without its
/// `Transfer-Encoding`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coding_that_is_not_known_is_not_taken_for_none() {
    framed(CODINGS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_a_line() {
    framed(LINES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_chunk_ends_the_connection() {
    framed(CHUNKS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_good_stays_in_step() {
    framed(GOOD).await;
}
