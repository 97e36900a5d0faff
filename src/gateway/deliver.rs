//! From what was found to a response: HEAD, 304, ranges, and the fields that every pull has.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use super::parts::Parts;
use crate::cache::reader::Reader;
use crate::cache::{Content, Found, Method};
use crate::http::cache_status::{Outcome, cache_status, warning};
use crate::http::conditional::{not_modified, range_counts};
use crate::http::headers::{CACHE_STATUS, DOCKER_CONTENT_DIGEST, DOCKER_DISTRIBUTION_API_VERSION};
use crate::http::range::{Selection, content_range, select, unsatisfied};
use crate::oci::media_type::OCTET_STREAM;
use crate::upstream::Transfer;

/// What a request asks of what was found.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// GET or HEAD.
    pub method: Method,
    /// The request's header fields: conditions and `Range`.
    pub headers: &'a HeaderMap,
    /// Whether the answer depends on `Accept`.
    pub negotiated: Negotiated,
    /// How long upstream may be silent within a body.
    pub idle: std::time::Duration,
}

/// Whether another `Accept` could have got another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// It could: a tag was asked for.
    Yes,
    /// It could not: a digest was asked for.
    No,
}

/// The response with what was found; `warned` is the text of its `Warning`.
pub fn deliver(mut found: Found, asked: Asked<'_>, warned: Option<String>) -> Response<Body> {
    let digest = found.digest.to_string();
    let is_known = is_verified(&found) && not_modified(asked.headers, &digest);
    let range = asked.headers.get(header::RANGE).filter(|_| asked.method == Method::Get);
    let range = range.filter(|_| range_counts(asked.headers, &digest));
    let warnings = std::mem::take(&mut found.warnings);
    let fields = fields(&found, digest, asked.negotiated, warned);
    let mut response =
        if is_known { status(StatusCode::NOT_MODIFIED, Body::empty()) } else { content(found, asked, range) };
    // What upstream says of a part that it sent itself stays; all else is ours.
    let parts = response.headers_mut().remove(header::CONTENT_TYPE);
    let headers = response.headers_mut();
    headers.reserve(FIELDS);
    for (name, value) in fields.into_iter().flatten().chain(parts.map(|value| (header::CONTENT_TYPE, value))) {
        headers.insert(name, value);
    }
    for value in warnings.values() {
        headers.append(header::WARNING, value);
    }
    response
}

/// Whether what was found is what the digest names: of what comes from upstream just now nobody knows
/// that yet.
fn is_verified(found: &Found) -> bool {
    !matches!(found.content, Content::Unproved(_) | Content::Through(..) | Content::Part(_))
}

/// Whether upstream did not say that it has the digest, but answered as if.
fn is_unproved(found: &Found) -> bool {
    matches!(found.content, Content::Unproved(_))
}

fn status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn content(found: Found, asked: Asked<'_>, range: Option<&HeaderValue>) -> Response<Body> {
    let media_type = found.media_type;
    match found.content {
        Content::Sized(size) | Content::Unproved(size) => sized(size),
        Content::Memory(bytes) if asked.method == Method::Head => sized(bytes.len() as u64),
        Content::File(_, Some(size)) if asked.method == Method::Head => sized(size),
        Content::Memory(bytes) => match select(range, bytes.len() as u64) {
            // Of a manifest, which nobody asks so for.
            Selection::Whole | Selection::Parts(_) => whole(Some(bytes.len() as u64), Body::full(bytes)),
            Selection::Unsatisfiable => unsatisfiable(bytes.len() as u64),
            Selection::Part(part) => {
                let total = bytes.len() as u64;
                // In memory means shorter than what a usize counts.
                let slice = usize::try_from(part.start).unwrap_or(0)..usize::try_from(part.end).unwrap_or(0);
                partial(&part, total, Body::full(bytes.slice(slice)))
            }
        },
        Content::File(source, None) => whole(None, Body::reader(Reader::whole(source, None))),
        Content::File(source, Some(size)) => match select(range, size) {
            Selection::Whole => whole(Some(size), Body::reader(Reader::whole(source, Some(size)))),
            Selection::Unsatisfiable => unsatisfiable(size),
            Selection::Part(part) => partial(&part.clone(), size, Body::reader(Reader::part(source, part, size))),
            Selection::Parts(parts) => several(Parts::new(source, parts, size, &media_type)),
        },
        // Whatever its length is, which nobody has verified.
        Content::Through(_, Some(size)) if matches!(select(range, u64::MAX), Selection::Unsatisfiable) => {
            unsatisfiable(size)
        }
        Content::Through(through, Some(size)) if select(range, size) == Selection::Part(0..size) => {
            partial(&(0..size), size, Body::through(through, Some(size)))
        }
        Content::Through(through, size) => whole(size, Body::through(through, size)),
        Content::Part(upstream) => upstream_part(upstream, asked.idle),
    }
}

fn sized(size: u64) -> Response<Body> {
    whole(Some(size), Body::empty())
}

fn whole(size: Option<u64>, body: Body) -> Response<Body> {
    let mut response = status(StatusCode::OK, body);
    if let Some(size) = size {
        response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    }
    response
}

fn partial(part: &std::ops::Range<u64>, total: u64, body: Body) -> Response<Body> {
    let mut response = status(StatusCode::PARTIAL_CONTENT, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, (part.end - part.start).into());
    response.headers_mut().insert(header::CONTENT_RANGE, content_range(part, total));
    response
}

/// Its type is its own: what the parts are is said in each.
fn several(parts: Parts) -> Response<Body> {
    let (length, media_type) = (parts.remaining(), HeaderValue::try_from(parts.media_type()));
    let mut response = status(StatusCode::PARTIAL_CONTENT, Body::parts(parts));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().extend(media_type.ok().map(|value| (header::CONTENT_TYPE, value)));
    response
}

fn unsatisfiable(total: u64) -> Response<Body> {
    let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
    response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
    response.headers_mut().insert(header::CONTENT_RANGE, unsatisfied(total));
    response
}

fn upstream_part(upstream: Response<Transfer>, idle: std::time::Duration) -> Response<Body> {
    let (parts, body) = upstream.into_parts();
    let mut response = status(parts.status, Body::upstream(body, idle));
    // They belong to this very answer, which is not kept: a probe of the quota asks for them.
    let quota = ["ratelimit-limit", "ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-remaining"];
    let quota = quota.into_iter().chain(["docker-ratelimit-source"]).map(header::HeaderName::from_static);
    for name in quota.chain([header::CONTENT_LENGTH, header::CONTENT_RANGE]) {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// Room for as many fields as there may be, with those that hyper adds: to make room later means to
/// hash all of them again.
const FIELDS: usize = 12;

type Field = Option<(HeaderName, HeaderValue)>;

fn fields(found: &Found, digest: String, negotiated: Negotiated, warned: Option<String>) -> [Field; 9] {
    let text = |value: String| HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""));
    let media_type = HeaderValue::try_from(&*found.media_type).unwrap_or(HeaderValue::from_static(OCTET_STREAM));
    let tag = ["\"", &digest, "\""].concat();
    let detail = found.stale.as_ref().map(|stale| stale.reason.as_str());
    let (is_negotiated, is_proved) = (negotiated == Negotiated::Yes, !is_unproved(found));
    let age = found.age.filter(|_| matches!(found.outcome, Outcome::Hit | Outcome::Revalidated | Outcome::Stale));
    [
        Some((header::CONTENT_TYPE, media_type)),
        Some((header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))),
        is_proved.then(|| (header::ETAG, text(tag))),
        is_proved.then(|| (DOCKER_CONTENT_DIGEST, text(digest))),
        Some((DOCKER_DISTRIBUTION_API_VERSION, HeaderValue::from_static("registry/2.0"))),
        Some((CACHE_STATUS, cache_status(found.outcome, detail))),
        is_negotiated.then(|| (header::VARY, HeaderValue::from_static("Accept"))),
        age.map(|age| (header::AGE, age.as_secs().into())),
        warned.map(|warned| (header::WARNING, warning(&warned))),
    ]
}
