//! Requests that go on to a registry as a client sent them, and answers that come back as the
//! registry gave them.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::body::Body;
use super::upload::{self, WhenLeft};
use crate::error::Result;
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::headers::relayed;
use crate::http::origin::Origin;
use crate::oci::route::Kind;
use crate::upstream::Transfer;
use crate::upstream::Upstream;
use crate::upstream::requester::Requester;

/// Where a request goes on to, and what it is counted as.
#[derive(Clone, Copy)]
pub(crate) struct Recipient<'a> {
    pub(crate) registry: &'a Arc<str>,
    pub(crate) origin: &'a Origin,
    pub(crate) kind: Kind,
}

/// Sends a client's request on, its body as it comes.
///
/// # Errors
/// No answer came.
pub(crate) async fn send(
    upstream: &Upstream,
    request: Request<Incoming>,
    to: Recipient<'_>,
    requester: &Requester,
) -> Result<Response<Transfer>> {
    send_noting(upstream, request, to, requester, None).await
}

/// The same; `when_left` is called when all of the request has left.
///
/// # Errors
/// No answer came.
pub(crate) async fn send_noting(
    upstream: &Upstream,
    request: Request<Incoming>,
    to: Recipient<'_>,
    requester: &Requester,
    when_left: Option<WhenLeft>,
) -> Result<Response<Transfer>> {
    let target = path_and_query(&request);
    let (parts, body) = request.into_parts();
    let request = upload::forward(parts.headers, parts.method, body, when_left);
    upstream.pass(to.registry, to.kind, &requester.cost, to.origin, &target, request).await
}

/// Sends a client's request on and relays the answer.
///
/// # Errors
/// No answer came.
pub(crate) async fn forward(
    upstream: &Upstream,
    request: Request<Incoming>,
    to: Recipient<'_>,
    requester: &Requester,
) -> Result<Response<Body>> {
    let response = send(upstream, request, to, requester).await?;
    Ok(relay(response, upstream.idle_timeout()))
}

/// An upstream's answer for the client, streamed as it comes; it may be silent for `idle`.
pub(crate) fn relay(response: Response<Transfer>, idle: Duration) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers = relayed(&parts.headers);
    parts.headers.insert("cache-status", cache_status(Outcome::Bypass, None));
    parts.version = Version::default();
    parts.extensions = Extensions::new();
    Response::from_parts(parts, Body::upstream(body, idle))
}

/// The path and the query of a request.
pub(crate) fn path_and_query(request: &Request<Incoming>) -> String {
    request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}

/// Whether a response is the word of who was asked: 5xx and 429 say nothing, so that what is known
/// remains valid, nor does a success that is not sound, such as a page with status 200.
pub(crate) fn is_word<B>(response: &Response<B>, is_sound: fn(StatusCode, &HeaderMap) -> bool) -> bool {
    let status = response.status();
    let says_nothing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    !says_nothing && (!status.is_success() || is_sound(status, response.headers()))
}
