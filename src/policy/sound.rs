//! Whether an answer of upstream is the registry's word, by its status and its fields: a login page,
//! a maintenance page or a proxy in between answer 200 too. Only what is sound is a grant, a
//! presence, a binding, or bytes for a client.

use http::{HeaderMap, HeaderName, StatusCode, header};

use crate::http::headers::DOCKER_CONTENT_DIGEST;
use crate::http::range::parse_content_range;
use crate::oci::digest::{Digest, DigestError};
use crate::oci::media_type::{essence, is_json};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// The content of a digest.
    Digest(&'a Digest),
    /// What a tag names.
    Tag,
    /// A list: it has no digest, and is passed on in the coding that it came in.
    List,
}

/// Why a success is no answer. No text of upstream's is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// A success that no question has: 201, 204 …
    #[error("{0}")]
    Status(u16),
    /// A web page.
    #[error("{0} with {1}")]
    Page(u16, &'static str),
    /// A part, of which the length of the whole is not said.
    #[error("206 without the length of the whole")]
    Part,
    /// A part of a body in a coding that nobody asked for: no digest tells whether it is.
    #[error("{0} with a part of a body in {1}, though asked not to,")]
    Coded(u16, &'static str),
    /// It names another digest, or what is no digest.
    #[error("{0} with another digest")]
    Digest(u16),
}

impl Nonsense {
    /// What the person who reads the error may look for.
    pub fn hint(self) -> &'static str {
        match self {
            Nonsense::Page(..) => "a login page, a maintenance page or a proxy between?",
            _ => "is there a proxy between that changes answers?",
        }
    }
}

/// HTML's types.
const PAGES: [&str; 2] = ["text/html", "application/xhtml+xml"];

/// The codings that change bytes (RFC 9110, 8.4.1; RFC 7932; RFC 8878). Stores write them over plain bytes,
/// too, as all others (`identity`, `aws-chunked`, `none`).
const CODINGS: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// The digest that a success names; `None`: it names none that can be compared with what was asked
/// for, and its bytes or its length have to prove what it says. What is no success is not judged.
///
/// # Errors
/// It is no answer to what was asked.
pub fn judge(status: StatusCode, fields: &HeaderMap, asked: Asked<'_>) -> Result<Option<Digest>, Nonsense> {
    if !status.is_success() {
        return Ok(None);
    }
    let code = status.as_u16();
    match status {
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT if has_total(fields) => {}
        StatusCode::PARTIAL_CONTENT => return Err(Nonsense::Part),
        _ => return Err(Nonsense::Status(code)),
    }
    if let Some(page) = page(fields) {
        return Err(Nonsense::Page(code, page));
    }
    let said = match asked {
        Asked::List => return Ok(None),
        Asked::Tag => None,
        Asked::Digest(digest) => Some(digest),
    };
    match coding(fields) {
        Some(coding) if status == StatusCode::PARTIAL_CONTENT => return Err(Nonsense::Coded(code, coding)),
        // The digest decides: what is named may be what was packed.
        Some(_) => return Ok(None),
        None => {}
    }
    let mut named = None;
    for line in lines(fields, &DOCKER_CONTENT_DIGEST) {
        match (line.trim().parse::<Digest>(), said.or(named.as_ref())) {
            (Ok(digest), Some(said)) if digest.algorithm() != said.algorithm() => {}
            (Ok(digest), Some(said)) if digest != *said => return Err(Nonsense::Digest(code)),
            (Ok(digest), _) => named = Some(digest),
            (Err(DigestError::Malformed), _) if is_of_known_algorithm(line) => return Err(Nonsense::Digest(code)),
            // Another algorithm's, or nothing: as if it were not there.
            (Err(_), _) => {}
        }
    }
    Ok(named)
}

/// The coding that changes bytes, if a body says that it is in one.
pub fn coding(fields: &HeaderMap) -> Option<&'static str> {
    let mut codings = lines(fields, &header::CONTENT_ENCODING).flat_map(|line| line.split(','));
    codings.find_map(|coding| known(&CODINGS, coding.trim()))
}

/// Whether an answer to `/v2/` says how clients have to authenticate: 401 with a challenge, or 200
/// with JSON or with nothing.
pub fn is_ping(status: StatusCode, fields: &HeaderMap) -> bool {
    match status {
        StatusCode::UNAUTHORIZED => lines(fields, &header::WWW_AUTHENTICATE).any(|line| !line.is_empty()),
        StatusCode::OK => {
            let is_empty = fields.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
            is_empty || lines(fields, &header::CONTENT_TYPE).all(|line| essence(line).is_empty() || is_json(line))
        }
        _ => false,
    }
}

/// Whether a 401 or 403 has the form of a registry's: a challenge, or JSON.
pub fn is_registrys(fields: &HeaderMap) -> bool {
    let is_challenge = fields.contains_key(header::WWW_AUTHENTICATE);
    is_challenge || lines(fields, &header::CONTENT_TYPE).next().is_some_and(is_json)
}

/// Whether a success of a token service may be a reply: 200, and no web page.
pub fn is_token_reply(status: StatusCode, fields: &HeaderMap) -> bool {
    status == StatusCode::OK && page(fields).is_none()
}

/// Whether an answer to a push or a removal says that it was taken: a success, and no web page.
pub fn is_taken(status: StatusCode, fields: &HeaderMap) -> bool {
    status.is_success() && page(fields).is_none()
}

/// The type of a web page, where it is one.
fn page(fields: &HeaderMap) -> Option<&'static str> {
    lines(fields, &header::CONTENT_TYPE).find_map(|line| known(&PAGES, essence(line)))
}

fn has_total(fields: &HeaderMap) -> bool {
    let range = fields.get(header::CONTENT_RANGE).and_then(parse_content_range);
    range.is_some_and(|range| range.total.is_some())
}

fn is_of_known_algorithm(line: &str) -> bool {
    let algorithm = line.trim().split_once(':').map_or("", |(algorithm, _)| algorithm);
    ["sha256", "sha512"].iter().any(|known| algorithm.eq_ignore_ascii_case(known))
}

fn known(words: &[&'static str], word: &str) -> Option<&'static str> {
    words.iter().find(|known| known.eq_ignore_ascii_case(word)).copied()
}

fn lines<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // Bytes that are no text are no word that is known here.
    fields.get_all(name).iter().map(|value| value.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::oci::digest::Algorithm;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        };
        let mut fields = HeaderMap::new();
        for (name, value) in lines.iter().map(field) {
            fields.append(name, value);
        }
        fields
    }

    fn said(status: u16, lines: &[(&str, &str)], asked: Asked<'_>) -> Result<Option<Digest>, Nonsense> {
        judge(StatusCode::from_u16(status).unwrap(), &fields(lines), asked)
    }

    fn digest(n: u8) -> Digest {
        Digest::of(Algorithm::Sha256, &[n])
    }

    #[test]
    fn every_status() {
        let digest = digest(1);
        for asked in [Asked::Digest(&digest), Asked::Tag, Asked::List] {
            assert_eq!(said(200, &[], asked), Ok(None));
            for status in [201, 202, 203, 204, 205, 207, 226, 299] {
                assert_eq!(said(status, &[], asked), Err(Nonsense::Status(status)), "{asked:?}");
            }
            for status in [301, 304, 401, 403, 404, 416, 429, 500, 503] {
                let page = [("content-type", "text/html"), ("content-encoding", "gzip")];
                assert_eq!(said(status, &page, asked), Ok(None), "{status}: what is no success is not judged");
            }
            assert_eq!(said(206, &[("content-range", "bytes 0-0/100")], asked), Ok(None));
            for range in ["bytes 0-0/*", "bytes */100", "bytes 5-1/100", "bytes 0-100/100", "lines 0-0/100", ""] {
                assert_eq!(said(206, &[("content-range", range)], asked), Err(Nonsense::Part), "{range}");
            }
            assert_eq!(said(206, &[], asked), Err(Nonsense::Part));
        }
    }

    #[test]
    fn every_type() {
        let digest = digest(1);
        for (status, range) in [(200, "bytes 0-0/1"), (206, "bytes 0-0/1")] {
            for asked in [Asked::Digest(&digest), Asked::Tag, Asked::List] {
                for (value, page) in [
                    ("text/html", "text/html"),
                    ("TEXT/Html", "text/html"),
                    ("text/html; charset=utf-8", "text/html"),
                    (" text/html ;q=1", "text/html"),
                    ("application/xhtml+xml", "application/xhtml+xml"),
                    ("Application/XHTML+xml;a=b", "application/xhtml+xml"),
                ] {
                    for name in ["content-type", "Content-Type", "CONTENT-TYPE"] {
                        let lines = [(name, value), ("content-range", range)];
                        assert_eq!(said(status, &lines, asked), Err(Nonsense::Page(status, page)), "{value}");
                        let second = [("content-type", "application/octet-stream"), lines[0], lines[1]];
                        assert_eq!(said(status, &second, asked), Err(Nonsense::Page(status, page)), "{value}");
                    }
                }
                for value in [
                    "",
                    "application/octet-stream",
                    "application/json",
                    "text/plain; charset=utf-8",
                    "application/vnd.oci.image.manifest.v1+json",
                    "application/vnd.docker.distribution.manifest.v1+prettyjws",
                    "x-unknown/x; a=\"text/html\"",
                    "text/htmlx",
                    "nonsense",
                ] {
                    let lines = [("content-type", value), ("content-range", range)];
                    assert_eq!(said(status, &lines, asked), Ok(None), "{value}");
                }
            }
        }
    }

    #[test]
    fn every_coding() {
        let digest = digest(1);
        let named = ("docker-content-digest", &*digest.to_string());
        let range = ("content-range", "bytes 0-0/9");
        for asked in [Asked::Digest(&digest), Asked::Tag] {
            for (value, coding) in [
                ("gzip", "gzip"),
                ("GZip", "gzip"),
                ("x-gzip", "x-gzip"),
                ("deflate", "deflate"),
                ("br", "br"),
                ("zstd", "zstd"),
                ("compress", "compress"),
                ("identity, gzip", "gzip"),
                ("aws-chunked,br", "br"),
            ] {
                let lines = [("content-encoding", value), named, range];
                let two = [("content-encoding", "identity"), lines[0], named, range];
                for lines in [&lines[..], &two] {
                    assert_eq!(said(200, lines, asked), Ok(None), "{value}: its bytes have to prove it");
                    assert_eq!(said(206, lines, asked), Err(Nonsense::Coded(206, coding)), "{value}");
                }
            }
            for value in ["", "identity", "Identity", "aws-chunked", "none", "utf-8", ",", "unknown"] {
                for status in [200, 206] {
                    let said = said(status, &[("content-encoding", value), named, range], asked);
                    assert_eq!(said, Ok(Some(digest.clone())), "{value}");
                }
            }
        }
        assert_eq!(said(200, &[("content-encoding", "gzip")], Asked::List), Ok(None), "it is passed on");
    }

    #[test]
    fn every_digest() {
        let (one, two) = (digest(1), digest(2));
        let long = Digest::of(Algorithm::Sha512, &[1]).to_string();
        let (text, other) = (one.to_string(), two.to_string());
        let upper = text.to_uppercase().replace("SHA256", "sha256");
        let wrong = Err(Nonsense::Digest(200));
        for (lines, by_digest, by_tag) in [
            (vec![], Ok(None), Ok(None)),
            (vec![&*text], Ok(Some(&one)), Ok(Some(&one))),
            (vec![&*other], wrong, Ok(Some(&two))),
            (vec![&*text, &*text], Ok(Some(&one)), Ok(Some(&one))),
            (vec![&*text, &*other], wrong, wrong),
            (vec!["sha256:00"], wrong, wrong),
            (vec!["sha256:"], wrong, wrong),
            (vec![&*upper], wrong, wrong),
            (vec!["SHA256:00"], wrong, wrong),
            (vec![""], Ok(None), Ok(None)),
            (vec!["blake3:00"], Ok(None), Ok(None)),
            (vec!["nonsense"], Ok(None), Ok(None)),
            (vec!["blake3:00", &*text], Ok(Some(&one)), Ok(Some(&one))),
        ] {
            for name in ["docker-content-digest", "Docker-Content-Digest"] {
                let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
                assert_eq!(
                    said(200, &lines, Asked::Digest(&one)),
                    by_digest.map(Option::<&Digest>::cloned),
                    "{lines:?}"
                );
                assert_eq!(said(200, &lines, Asked::Tag), by_tag.map(Option::<&Digest>::cloned), "{lines:?}");
                assert_eq!(said(200, &lines, Asked::List), Ok(None), "{lines:?}");
            }
        }
        let lines = [("docker-content-digest", &*long)];
        assert_eq!(said(200, &lines, Asked::Digest(&one)), Ok(None), "another algorithm's says nothing");
        assert_eq!(said(200, &lines, Asked::Tag), Ok(Some(long.parse().unwrap())));
    }

    #[test]
    fn every_token_reply() {
        for (status, lines, expected) in [
            (200, vec![("content-type", "application/json")], true),
            (200, vec![], true),
            (200, vec![("content-type", "text/html; charset=utf-8")], false),
            (204, vec![], false),
            (206, vec![("content-type", "application/json")], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_token_reply(status, &fields(&lines)), expected, "{status} {lines:?}");
            let is_page = lines.iter().any(|(_, value)| value.contains("html"));
            assert_eq!(is_taken(status, &fields(&lines)), !is_page, "{status} {lines:?}");
        }
    }

    #[test]
    fn every_refusal() {
        for (lines, expected) in [
            (vec![("www-authenticate", "Basic realm=\"a\""), ("content-type", "text/html")], true),
            (vec![("content-type", "application/json; charset=utf-8")], true),
            (vec![("content-type", "Application/JSON")], true),
            (vec![("content-type", "application/problem+json")], true),
            (vec![("content-type", "application/Problem+JSON;a=b")], true),
            (vec![("content-type", "text/html")], false),
            (vec![("content-type", "")], false),
            (vec![], false),
        ] {
            assert_eq!(is_registrys(&fields(&lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_said_of_nonsense() {
        for (nonsense, expected) in [
            (Nonsense::Page(200, "text/html"), "200 with text/html"),
            (Nonsense::Status(204), "204"),
            (Nonsense::Coded(206, "gzip"), "206 with a part of a body in gzip, though asked not to,"),
        ] {
            assert_eq!(nonsense.to_string(), expected);
        }
        assert!(Nonsense::Page(200, "text/html").hint().contains("login page"));
    }

    #[test]
    fn every_ping() {
        let challenge = ("www-authenticate", "Bearer realm=\"https://a/t\"");
        for (status, lines, expected) in [
            (401, vec![challenge], true),
            (401, vec![challenge, ("content-type", "text/html")], true),
            (401, vec![], false),
            (200, vec![], true),
            (200, vec![("content-type", "application/json")], true),
            (200, vec![("Content-Type", "Application/JSON; charset=utf-8")], true),
            (200, vec![("content-type", "application/vnd.docker+json")], true),
            (200, vec![("content-type", "text/html"), ("content-length", "0")], true),
            (200, vec![("content-type", "")], true),
            (200, vec![("content-type", "text/html")], false),
            (200, vec![("content-type", "TEXT/HTML; charset=utf-8"), ("content-length", "312")], false),
            (200, vec![("content-type", "application/json"), ("content-type", "text/html")], false),
            (200, vec![("content-type", "text/plain")], false),
            (204, vec![], false),
            (302, vec![], false),
            (403, vec![challenge], false),
            (503, vec![challenge], false),
        ] {
            assert_eq!(is_ping(StatusCode::from_u16(status).unwrap(), &fields(&lines)), expected, "{status} {lines:?}");
        }
    }
}
