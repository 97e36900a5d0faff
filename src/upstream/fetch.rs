//! GET: the bytes of a digest, or of a tag where HEAD does not say which digest that is.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::answer::{Address, Answer, Proves, Via};
use super::lanes::Transfer;
use super::question::{ANY_MANIFEST, Question, What, Wording};
use super::request::{About, Author, build};
use super::requester::Requester;
use super::sources::Sources;
use crate::error::{Error, Kind, Result};
use crate::http::range::{ContentRange, parse_content_range};
use crate::http::warnings::Warnings;
use crate::lane::Place;
use crate::oci::media_type::essence;
use crate::oci::name::Repository;
use crate::policy::registry::Site;
use crate::policy::sound;

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
    /// Whether it says that it is packed: then no part of it is for anybody before its digest is right.
    pub is_packed: bool,
    /// What it proves: at once if it is named, else when its bytes have.
    pub proves: Proves,
    /// What upstream warns of.
    pub warnings: Warnings,
    /// Of a 206: the part that it says it is.
    pub range: Option<ContentRange>,
    /// Where they come from.
    pub source: Source,
}

/// Which bytes of the whole are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portion {
    /// From this one on.
    From(u64),
    /// These, not empty.
    Part(Range<u64>),
    /// So many at the end.
    Last(u64),
}

impl From<u64> for Portion {
    fn from(start: u64) -> Portion {
        Portion::From(start)
    }
}

impl Portion {
    fn header(&self) -> Option<String> {
        match self {
            Portion::From(0) => None,
            Portion::From(start) => Some(format!("bytes={start}-")),
            Portion::Part(part) => Some(format!("bytes={}-{}", part.start, part.end.saturating_sub(1))),
            Portion::Last(length) => Some(format!("bytes=-{length}")),
        }
    }

    /// Whether what a 206 says that it is was asked for.
    fn is(&self, range: &ContentRange) -> bool {
        match self {
            Portion::From(start) => range.start == *start,
            Portion::Part(part) => range.start == part.start && range.end_exclusive <= part.end,
            Portion::Last(length) => {
                let ends = range.total == Some(range.end_exclusive);
                ends && (range.start == 0 || range.end_exclusive - range.start == *length)
            }
        }
    }
}

/// Where the bytes of a blob come from: who asks for more of them asks there.
#[derive(Clone, Debug)]
pub struct Source {
    address: Option<Address>,
    via: Via,
    /// Length of the whole.
    pub total: Option<u64>,
    /// `ETag`, if it is a strong one.
    tag: Option<HeaderValue>,
    /// Where there are other sources: which it is.
    sent_by: Option<Arc<str>>,
    /// Whether all streams to that host share one connection.
    pub shares_connection: bool,
    /// Whether it may send parts: it did, or did not say that it does not.
    pub has_parts: bool,
}

impl Source {
    fn of(answer: &Answer, total: Option<u64>) -> Source {
        let headers = answer.headers();
        let tag = headers.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")).cloned();
        let sends_none = headers.get(header::ACCEPT_RANGES).is_some_and(|value| value.as_bytes() == b"none");
        let has_parts = answer.status() == StatusCode::PARTIAL_CONTENT || !sends_none;
        let shares_connection = answer.response.version() == Version::HTTP_2;
        let (address, via, sent_by) = (answer.address.clone(), answer.via, answer.sent_by.clone());
        Source { address, via, total, tag, sent_by, shares_connection, has_parts }
    }

    /// Whether a redirect led there.
    pub fn is_redirected(&self) -> bool {
        self.via == Via::Redirect
    }

    /// The next question goes through the registry again.
    pub fn forget_address(&mut self) {
        self.via = Via::Direct;
    }

    /// Where there are other sources: which it is.
    pub(super) fn sent_by(&self) -> Option<&Arc<str>> {
        self.sent_by.as_ref()
    }

    /// The host's name, for what is remembered of it.
    pub fn host(&self) -> String {
        self.address.as_ref().map(|address| address.origin.to_string()).unwrap_or_default()
    }

    /// Whether another source has the same bytes, as far as can be said.
    pub fn is_alike(&self, other: &Source) -> bool {
        let is_same_host = self.host() == other.host();
        self.total == other.total && (!is_same_host || self.tag == other.tag)
    }
}

impl Fetched {
    /// The same, which has a place as long as it comes.
    pub fn at(self, place: Place) -> Fetched {
        Fetched { body: self.body.at(place), ..self }
    }

    /// A success as a body on its way.
    pub fn of(answer: Answer, requester: &Requester) -> Fetched {
        let headers = answer.headers();
        let range = headers.get(header::CONTENT_RANGE).and_then(parse_content_range);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let range = range.filter(|_| answer.status() == StatusCode::PARTIAL_CONTENT);
        let total =
            if answer.status() == StatusCode::PARTIAL_CONTENT { range.and_then(|range| range.total) } else { length };
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence);
        Fetched {
            ahead: Bytes::new(),
            start: range.map_or(0, |range| range.start),
            total,
            source: Source::of(&answer, total),
            media_type: media_type.unwrap_or_default().to_owned(),
            is_named: answer.names.is_some(),
            is_packed: sound::coding(headers).is_some(),
            proves: answer.proves(requester),
            warnings: Warnings::of(headers),
            range,
            body: answer.response.into_body().into(),
        }
    }
}

/// Fetches a portion. Upstream may ignore that and send all: see [`Fetched::start`]. `types`: of a manifest, what
/// a client takes that no other does.
///
/// # Errors
/// Upstream refused, did not answer, or sent something that makes no sense.
pub(super) async fn fetch(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    (what, types): (&What, Option<&str>),
    portion: &Portion,
    requester: &Requester,
) -> Result<Fetched> {
    if let Some(types) = types {
        let fields = HeaderMap::from_iter([(header::ACCEPT, accepting(types)?)]);
        let wording = Wording { method: &Method::GET, fields: &fields, author: Author::Client };
        match fetch_as_asked(sources, site, repository, what, wording, requester).await {
            // What a client wrote may be why there is no answer: then what seawall asks decides.
            Err(error) if error.kind() != Kind::Timeout => {}
            answer => return read(sources, site, &Portion::From(0), requester, answer?).await,
        }
    }
    let fields = fields(what, portion.header().as_deref());
    let answer = sources.ask(Question::new(site, repository, what, requester, &Method::GET, &fields)).await?;
    read(sources, site, portion, requester, answer).await
}

async fn read(
    sources: &Sources,
    site: &Site,
    portion: &Portion,
    requester: &Requester,
    answer: Answer,
) -> Result<Fetched> {
    let host = &site.origin.host;
    match answer.status() {
        StatusCode::OK => Ok(Fetched::of(answer, requester)),
        StatusCode::PARTIAL_CONTENT => {
            let fetched = Fetched::of(answer, requester);
            // No file is longer than what a signed number counts.
            let is_possible = fetched.total.is_none_or(|total| i64::try_from(total).is_ok());
            let is_asked_for = is_possible && fetched.range.is_some_and(|range| portion.is(&range));
            is_asked_for
                .then_some(fetched)
                .ok_or_else(|| Error::new(Kind::Broken, format!("{host} sent another range than was asked for")))
        }
        _ => Err(sources.client().refusal(&host.to_string(), answer).await),
    }
}

/// Fetches a portion beside another that comes from `source`: where a redirect led to, from there itself,
/// without a credential. It can be done without: see [`About::is_beside`].
///
/// `None`: that address is no longer good, a signature has expired, say.
///
/// # Errors
/// It has no such portion, or not of the same bytes, as far as can be said.
pub(super) async fn fetch_beside(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    portion: &Portion,
    (requester, source): (&Requester, &Source),
) -> Result<Option<Fetched>> {
    let fields = fields(what, portion.header().as_deref());
    let answer = match &source.address {
        Some(address) if source.via == Via::Redirect => {
            let request = build(&Method::GET, &address.origin, &address.target, &fields, None)?;
            let about = About::new(&site.registry.name, what.kind(), &requester.cost);
            let about = About { wire: what.wire(), is_beside: true, ..about };
            let answer = sources.client().send(about, request).await?;
            if matches!(answer.status().as_u16(), 400 | 401 | 403 | 404 | 410) {
                return Ok(None);
            }
            Answer { via: Via::Redirect, address: Some(address.clone()), ..answer }
        }
        _ => {
            let question = Question::new(site, repository, what, requester, &Method::GET, &fields);
            sources.ask(Question { is_beside: true, ..question }).await?
        }
    };
    let fetched = read(sources, site, portion, requester, answer).await?;
    let host = &site.origin.host;
    let is_part = fetched.range.is_some() && fetched.source.host() == source.host();
    match is_part && source.is_alike(&fetched.source) {
        true => Ok(Some(fetched)),
        false => Err(Error::new(Kind::Broken, format!("{host} does not send parts of the same bytes"))),
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
    let fields = fields(what, range.to_str().ok());
    let answer = sources.ask(Question::new(site, repository, what, requester, &Method::GET, &fields)).await?;
    match answer.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(answer),
        _ => Err(sources.client().refusal(&site.origin.host.to_string(), answer).await),
    }
}

/// The `Accept` of a manifest by digest, where a client takes types of its own besides.
fn accepting(types: &str) -> Result<HeaderValue> {
    let text = format!("{ANY_MANIFEST}, {types}");
    HeaderValue::try_from(text).map_err(|error| Error::caused(Kind::Request, "Accept cannot be sent", error))
}

fn fields(what: &What, range: Option<&str>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let What::Manifest(_) = what {
        fields.insert(header::ACCEPT, HeaderValue::from_static(ANY_MANIFEST));
    }
    if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
        fields.insert(header::RANGE, range);
    }
    fields
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
