//! HEAD: what does a tag name, does a repository hold a digest, may this client read it? No
//! registry counts these.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::answer::{Answer, Proves};
use super::question::{Past, Question, What, Wording};
use super::request::Author;
use super::requester::Requester;
use super::sources::Sources;
use crate::error::{Kind, Result};
use crate::http::range::parse_content_range;
use crate::http::warnings::Warnings;
use crate::oci::digest::Digest;
use crate::oci::media_type::essence;
use crate::oci::name::Repository;
use crate::policy::registry::Site;

/// What upstream says of content without sending it.
#[derive(Clone, Debug)]
pub struct Description {
    /// The digest that it names: see [`Answer::names`]. Some registries leave it out, and storage
    /// that they redirect to has none.
    pub digest: Option<Digest>,
    /// `Content-Type` without parameters; empty if there was none.
    pub media_type: String,
    /// `Content-Length`.
    pub size: Option<u64>,
    /// What it proves.
    pub proves: Proves,
    /// Who named the digest sends no manifest now, and others may: see [`Answer::is_unable`].
    pub is_unable: bool,
    /// What it warns of.
    pub warnings: Warnings,
}

impl Description {
    fn of(answer: &Answer, requester: &Requester) -> Description {
        let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        Description {
            digest: answer.names.clone(),
            media_type: text("content-type").map(|value| essence(value).to_owned()).unwrap_or_default(),
            size: text("content-length").and_then(|length| length.parse().ok()),
            proves: answer.proves(requester),
            is_unable: answer.is_unable,
            warnings: Warnings::of(answer.headers()),
        }
    }
}

/// Describes `what`.
///
/// # Errors
/// Upstream refused, or did not answer.
pub(super) async fn describe(
    sources: &Sources,
    site: &Site,
    repository: &Repository,
    what: &What,
    (accept, past): (&str, Past),
    author: Author,
    requester: &Requester,
) -> Result<Description> {
    let mut fields = HeaderMap::new();
    let accepted = match what {
        What::Manifest(_) => Some(accept),
        What::Blob(_) | What::List(_) => None,
    };
    if let Some(value) = accepted.and_then(|text| HeaderValue::try_from(text).ok()) {
        fields.insert(header::ACCEPT, value);
    }
    let wording = Wording { method: &Method::HEAD, fields: &fields, author };
    let question = Question::worded(site, repository, what, requester, wording);
    let answer = sources.ask_past(question, past).await?;
    let is_blob = matches!(what, What::Blob(_));
    if is_blob && answer.status() == StatusCode::FORBIDDEN && !answer.is_direct() {
        return first_byte(sources, question).await;
    }
    if answer.status() != StatusCode::OK {
        let error = sources.client().refusal(&site.origin.host.to_string(), answer).await;
        return Err(if error.kind() == Kind::Missing { error.coded(what.unknown()) } else { error });
    }
    let description = Description::of(&answer, requester);
    if is_blob && !says_length(&description, what) { first_byte(sources, question).await } else { Ok(description) }
}

/// Some leave the length out, and some say 0 of everything.
fn says_length(description: &Description, what: &What) -> bool {
    let is_of_nothing = || matches!(what, What::Blob(digest) if Digest::of(digest.algorithm(), b"") == *digest);
    description.size.is_some_and(|size| size > 0 || description.digest.is_some() || is_of_nothing())
}

/// Storage that signs its URLs for GET refuses HEAD with 403, and some registries leave the length
/// out: a GET of one byte has it.
async fn first_byte(sources: &Sources, question: Question<'_>) -> Result<Description> {
    let fields = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-0"))]);
    let answer = sources.ask(Question { method: &Method::GET, fields: &fields, ..question }).await?;
    match answer.status() {
        StatusCode::OK => Ok(Description::of(&answer, question.requester)),
        StatusCode::PARTIAL_CONTENT => {
            let range = answer.headers().get(header::CONTENT_RANGE).and_then(parse_content_range);
            let size = range.and_then(|range| range.total);
            Ok(Description { size, ..Description::of(&answer, question.requester) })
        }
        _ => Err(sources.client().refusal(&question.site.origin.host.to_string(), answer).await),
    }
}
