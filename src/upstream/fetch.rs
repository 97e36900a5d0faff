//! GET: the bytes of a digest, or of a tag where HEAD does not say which digest that is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;

use super::answer::{Answer, Proves};
use super::question::{ANY_MANIFEST, Question, What, Wording};
use super::requester::Requester;
use super::sources::Sources;
use crate::error::{Error, Kind, Result};
use crate::http::range::parse_content_range;
use crate::http::warnings::Warnings;
use crate::oci::media_type::essence;
use crate::oci::name::Repository;
use crate::policy::registry::Site;

/// A body on its way, and where in the whole it begins.
#[derive(Debug)]
pub struct Fetched {
    /// What of it was read already, if anything: it comes first.
    pub ahead: Bytes,
    /// The bytes.
    pub body: Incoming,
    /// Offset of the first of them in the whole.
    pub start: u64,
    /// Length of the whole, where upstream says it.
    pub total: Option<u64>,
    /// `Content-Type` without parameters; empty if there was none.
    pub media_type: String,
    /// Whether it names the digest that was asked for: see [`Answer::names`]. If not, its bytes
    /// have to prove it.
    pub is_named: bool,
    /// What it proves: at once if it is named, else when its bytes have.
    pub proves: Proves,
    /// What upstream warns of.
    pub warnings: Warnings,
}

/// Fetches from byte `from` on. Upstream may ignore that: see [`Fetched::start`].
///
/// # Errors
/// Upstream refused, did not answer, or sent something that makes no sense.
pub(super) async fn fetch(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    from: u64,
    requester: &Requester,
) -> Result<Fetched> {
    let range = (from > 0).then(|| format!("bytes={from}-"));
    let answer = get(sources, site, repository, what, range.as_deref(), requester).await?;
    let host = &site.origin.host;
    let total = answer.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let media_type = answer.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(essence);
    let media_type = media_type.unwrap_or_default().to_owned();
    let (is_named, proves) = (answer.names.is_some(), answer.proves(requester));
    let warnings = Warnings::of(answer.headers());
    match answer.status() {
        StatusCode::OK => {
            let body = answer.response.into_body();
            Ok(Fetched { ahead: Bytes::new(), body, start: 0, total, media_type, is_named, proves, warnings })
        }
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.headers().get(header::CONTENT_RANGE).and_then(parse_content_range);
            let range = range
                .filter(|range| range.start == from)
                .ok_or_else(|| Error::new(Kind::Broken, format!("{host} sent another range than was asked for")))?;
            let (body, total) = (answer.response.into_body(), range.total);
            Ok(Fetched { ahead: Bytes::new(), body, start: from, total, media_type, is_named, proves, warnings })
        }
        _ => Err(sources.client().refusal(&host.to_string(), answer).await),
    }
}

/// Passes a client's `Range` on and the answer back, whatever it is: 200, 206 or 416.
///
/// # Errors
/// Upstream refused, or did not answer.
pub(super) async fn fetch_range(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    range: &HeaderValue,
    requester: &Requester,
) -> Result<Answer> {
    let answer = get(sources, site, repository, what, range.to_str().ok(), requester).await?;
    match answer.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(answer),
        _ => Err(sources.client().refusal(&site.origin.host.to_string(), answer).await),
    }
}

async fn get(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    range: Option<&str>,
    requester: &Requester,
) -> Result<Answer> {
    let mut fields = HeaderMap::new();
    if let What::Manifest(_) = what {
        fields.insert(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST));
    }
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        fields.insert(header::RANGE, range);
    }
    let question = Question::new(site, repository, what, requester, &Method::GET, &fields);
    sources.ask(question).await
}

/// A request with the client's own fields, for what is never kept.
///
/// # Errors
/// Upstream refused, or did not answer.
pub(super) async fn fetch_as_asked(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    wording: Wording<'_>,
    requester: &Requester,
) -> Result<Answer> {
    let answer = sources.ask(Question::worded(site, repository, what, requester, wording)).await?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(sources.client().refusal(&site.origin.host.to_string(), answer).await)
}
