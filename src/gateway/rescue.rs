//! The one place where an error becomes a response.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::body::Body;
use crate::error::{Error, Kind, Reply};
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::oci::error::{Code, body};
use crate::oci::route;
use crate::policy::quota::is_told_to_wait;

/// What a client takes seawall for, which decides what it gets of a registry's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facing {
    /// The registry: its refusals and challenges are passed on as they are.
    Registry,
    /// A mirror: a registry's challenge is not for it to answer.
    Mirror,
}

/// The outcome of a request that failed, as the log and the metrics call it.
pub(crate) fn outcome(error: &Error) -> Outcome {
    match error.kind() {
        // Upstream's plain answer.
        Kind::Missing => Outcome::Bypass,
        Kind::Refused | Kind::Limited => Outcome::Denied,
        Kind::Rejected if is_policy(error.status()) => Outcome::Denied,
        Kind::Rejected if error.reply().is_some() => Outcome::Bypass,
        Kind::Request if error.code() == Code::Denied => Outcome::Denied,
        _ => Outcome::Error,
    }
}

/// Whether a registry withholds what it has: Harbor answers 412, others 403 or 451.
fn is_policy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 403 | 412 | 451)
}

/// The response to a request that failed: a registry's own refusal where there is one, else an
/// error of seawall's.
pub(crate) fn rescue(
    error: &Error,
    facing: Facing,
    about: route::Kind,
    user_agent: Option<&HeaderValue>,
) -> Response<Body> {
    let mut response = match (error.reply(), facing) {
        (Some(_), Facing::Mirror) if error.kind() == Kind::Refused => refused_mirror(error),
        (Some(reply), _) if reply.body.is_empty() => without_body(reply, about, error.message()),
        (Some(reply), _) => {
            let mut response = Response::new(Body::full(reply.body.clone()));
            *response.status_mut() = reply.status;
            *response.headers_mut() = relayed(&reply.headers);
            response
        }
        (None, _) => ours(error.status(), error.code(), error.message()),
    };
    let headers = response.headers_mut();
    let user_agent = user_agent.and_then(|value| value.to_str().ok()).unwrap_or_default();
    if error.kind() == Kind::Limited && !is_told_to_wait(user_agent, retry_after(headers)) {
        headers.remove(header::RETRY_AFTER);
    }
    if error.kind() == Kind::Busy {
        headers.insert(header::RETRY_AFTER, SOON);
    }
    headers.insert("cache-status", cache_status(outcome(error), Some(error.kind().as_str())));
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
}

/// Seconds after which a place may be free.
const SOON: HeaderValue = HeaderValue::from_static("5");

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or_default())
}

/// A registry's refusal that has no body: it was asked by HEAD, and the client may have asked by
/// GET.
fn without_body(reply: &Reply, about: route::Kind, message: &str) -> Response<Body> {
    let code = match (reply.status, about) {
        (StatusCode::UNAUTHORIZED, _) => Code::Unauthorized,
        (StatusCode::FORBIDDEN, _) => Code::Denied,
        (StatusCode::NOT_FOUND | StatusCode::GONE, route::Kind::Manifest) => Code::ManifestUnknown,
        (StatusCode::NOT_FOUND | StatusCode::GONE, route::Kind::Blob) => Code::BlobUnknown,
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Code::NameUnknown,
        (StatusCode::TOO_MANY_REQUESTS, _) => Code::TooManyRequests,
        _ => Code::Unavailable,
    };
    let mut response = ours(reply.status, code, message);
    let mut headers = relayed(&reply.headers);
    headers.remove(header::CONTENT_ENCODING);
    headers.extend(std::mem::take(response.headers_mut()));
    *response.headers_mut() = headers;
    response
}

fn refused_mirror(error: &Error) -> Response<Body> {
    let message = format!(
        "{}; a mirror is given no credentials, so it serves public repositories only: pull through HTTPS_PROXY to use yours",
        error.message()
    );
    ours(StatusCode::FORBIDDEN, Code::Denied, &message)
}

/// A response with an error of seawall's own, in the JSON of registries, which clients print.
pub(crate) fn ours(status: StatusCode, code: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(body(code, &format!("seawall: {message}"), None)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The response to a refused CONNECT. Clients show its status text and nothing else (Go:
/// `proxyconnect: …`), people read the body.
pub(crate) fn refused_connect(status: StatusCode, reason: &str) -> Response<Body> {
    let text = format!("seawall: {reason}\n");
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(phrase) = ReasonPhrase::try_from(reason.as_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    response
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A registry's plain answer is none of seawall's errors.
    #[test]
    fn every_outcome() {
        let said = |kind, status: u16| {
            let reply =
                Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: Bytes::new() };
            outcome(&Error::replied(kind, "it answered", reply))
        };
        for (kind, status, expected) in [
            (Kind::Missing, 404, Outcome::Bypass),
            (Kind::Refused, 401, Outcome::Denied),
            (Kind::Limited, 429, Outcome::Denied),
            (Kind::Rejected, 412, Outcome::Denied),
            (Kind::Rejected, 451, Outcome::Denied),
            (Kind::Rejected, 403, Outcome::Denied),
            (Kind::Rejected, 400, Outcome::Bypass),
            (Kind::Rejected, 405, Outcome::Bypass),
            (Kind::Broken, 503, Outcome::Error),
        ] {
            assert_eq!(said(kind, status), expected, "{kind:?} {status}");
        }
        assert_eq!(outcome(&Error::new(Kind::Rejected, "ours")), Outcome::Error);
        assert_eq!(outcome(&Error::request(Code::Denied, "not allowed")), Outcome::Denied);
    }
}
