//! GET: the bytes of a digest, or of a tag where HEAD does not say which digest that is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::answer::{Answer, Proves};
use super::lanes::Transfer;
use super::question::{ANY_MANIFEST, Question, What, Wording};
use super::requester::Requester;
use super::sources::Sources;
use crate::error::{Error, Kind, Result};
use crate::http::range::{ContentRange, parse_content_range};
use crate::http::warnings::Warnings;
use crate::lane::Place;
use crate::oci::media_type::essence;
use crate::oci::name::Repository;
use crate::policy::registry::Site;

/// A body on its way, and where in the whole it begins.
#[derive(Debug)]
pub struct Fetched {
    /// What of it was read already, if anything: it comes first.
    pub ahead: Bytes,
    /// The bytes.
    pub body: Transfer,
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
    /// Of a 206: the part that it says it is.
    pub range: Option<ContentRange>,
}

impl Fetched {
    /// The same, which has a place as long as it comes.
    pub fn at(self, place: Place) -> Fetched {
        Fetched { body: self.body.at(place), ..self }
    }

    /// A success as a body on its way, which begins at that byte.
    pub fn of(answer: Answer, start: u64, requester: &Requester) -> Fetched {
        let headers = answer.headers();
        let range = headers.get(header::CONTENT_RANGE).and_then(parse_content_range);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let total =
            if answer.status() == StatusCode::PARTIAL_CONTENT { range.and_then(|range| range.total) } else { length };
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence);
        Fetched {
            ahead: Bytes::new(),
            start,
            total,
            media_type: media_type.unwrap_or_default().to_owned(),
            is_named: answer.names.is_some(),
            proves: answer.proves(requester),
            warnings: Warnings::of(headers),
            range,
            body: answer.response.into_body().into(),
        }
    }
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
    match answer.status() {
        StatusCode::OK => Ok(Fetched::of(answer, 0, requester)),
        StatusCode::PARTIAL_CONTENT => {
            let fetched = Fetched::of(answer, from, requester);
            let is_asked_for = fetched.range.is_some_and(|range| range.start == from);
            is_asked_for
                .then_some(fetched)
                .ok_or_else(|| Error::new(Kind::Broken, format!("{host} sent another range than was asked for")))
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
