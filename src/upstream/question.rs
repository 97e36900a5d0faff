//! What is asked of a registry: which content, in which repository, for whom.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::request::{Author, Wire};
use super::requester::Requester;
use crate::error::{Error, Kind, Result};
use crate::ledger::Identity;
use crate::oci::digest::Digest;
use crate::oci::error::Code;
use crate::oci::manifest;
use crate::oci::name::{Reference, Repository};
use crate::oci::route;
use crate::policy::registry::Site;
use crate::policy::sound::Asked;

/// The `Accept` of a manifest by digest: bytes have one type, whatever the client accepts; but distribution has
/// none of a type that is not named, `*/*` or not.
pub const ANY_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, */*";

/// The content of a repository that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A manifest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
    /// A list of the repository, by the rest of its path and its query: `tags/list?n=10`,
    /// `referrers/sha256:…`.
    List(String),
}

impl What {
    /// Its path at the registry.
    pub fn path(&self, repository: &Repository) -> String {
        match self {
            What::Manifest(reference) => format!("/v2/{repository}/manifests/{reference}"),
            What::Blob(digest) => format!("/v2/{repository}/blobs/{digest}"),
            What::List(rest) => format!("/v2/{repository}/{rest}"),
        }
    }

    /// The digest by which it is asked for.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            What::Manifest(Reference::Digest(digest)) | What::Blob(digest) => Some(digest),
            What::Manifest(Reference::Tag(_)) | What::List(_) => None,
        }
    }

    /// As what the repository has it; nothing for a list.
    pub fn content(&self) -> Option<manifest::ContentKind> {
        match self {
            What::Manifest(_) => Some(manifest::ContentKind::Manifest),
            What::Blob(_) => Some(manifest::ContentKind::Blob),
            What::List(_) => None,
        }
    }

    /// Its label in the metrics.
    pub fn kind(&self) -> route::Kind {
        match self {
            What::Manifest(_) => route::Kind::Manifest,
            What::Blob(_) => route::Kind::Blob,
            What::List(rest) if rest.starts_with("referrers/") => route::Kind::Referrers,
            What::List(_) => route::Kind::Tags,
        }
    }

    /// The code of a registry's 404 for it.
    pub(super) fn unknown(&self) -> Code {
        match self {
            What::Manifest(_) => Code::ManifestUnknown,
            What::Blob(_) => Code::BlobUnknown,
            What::List(_) => Code::NameUnknown,
        }
    }

    /// As an answer to it is judged.
    pub(super) fn sought(&self) -> Asked<'_> {
        match self {
            What::Manifest(Reference::Tag(_)) => Asked::Tag,
            What::Manifest(Reference::Digest(digest)) | What::Blob(digest) => Asked::Digest(digest),
            What::List(_) => Asked::List,
        }
    }

    /// The word for it in a sentence.
    pub(super) fn noun(&self) -> &'static str {
        match self {
            What::Manifest(_) => "a manifest",
            What::Blob(_) => "a blob",
            What::List(_) => "a list",
        }
    }

    /// Blobs have a connection each: none waits for the flow control of another, and a byte costs
    /// less.
    pub(super) fn wire(&self) -> Wire {
        match self {
            What::Manifest(_) | What::List(_) => Wire::Any,
            What::Blob(_) => Wire::H1,
        }
    }
}

/// Which sources are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// None.
    Nobody,
    /// Those that cannot send it: who cannot deliver does not get to name what is to be fetched.
    Unable,
}

/// How a question is put.
#[derive(Clone, Copy, Debug)]
pub struct Wording<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// Fields of the request besides those that every request has.
    pub fields: &'a HeaderMap,
    /// Who wrote them, and what is asked for.
    pub author: Author,
}

/// One question to one source. Redirects and challenges may make several requests of it.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) site: &'a Site,
    /// The repository's name at this source.
    pub(super) repository: &'a Repository,
    /// The repository's name as the client has it.
    pub(super) known_as: &'a Repository,
    pub(super) what: &'a What,
    pub(super) method: &'a Method,
    pub(super) fields: &'a HeaderMap,
    pub(super) author: Author,
    pub(super) requester: &'a Requester,
    /// Whose credential is shown.
    pub(super) charged: Identity,
    /// Whether it is asked beside one that is answered: see [`About::is_beside`].
    ///
    /// [`About::is_beside`]: super::request::About::is_beside
    pub(super) is_beside: bool,
}

impl<'a> Question<'a> {
    /// A question to the registry itself, without a credential so far.
    pub(super) fn new(
        site: &'a Site,
        repository: &'a Repository,
        what: &'a What,
        requester: &'a Requester,
        method: &'a Method,
        fields: &'a HeaderMap,
    ) -> Question<'a> {
        let wording = Wording { method, fields, author: Author::Seawall };
        Question::worded(site, repository, what, requester, wording)
    }

    /// The same, as it is put.
    pub(super) fn worded(
        site: &'a Site,
        repository: &'a Repository,
        what: &'a What,
        requester: &'a Requester,
        Wording { method, fields, author }: Wording<'a>,
    ) -> Question<'a> {
        let charged = Identity::Anonymous;
        let is_beside = false;
        Question { site, repository, known_as: repository, what, method, fields, author, requester, charged, is_beside }
    }

    /// Whether registries count it as a pull: a GET of a manifest.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self.what, What::Manifest(_)) && self.method == Method::GET
    }
}

/// The result of `asking`, if it comes before the deadline.
///
/// # Errors
/// Those of `asking`, and that it took too long.
pub async fn in_time<T>(site: &Site, deadline: Option<Duration>, asking: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else { return asking.await };
    match tokio::time::timeout(deadline, asking).await {
        Ok(said) => said,
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!("{} did not answer within {}", site.origin.host, humantime::format_duration(deadline)),
        )),
    }
}
