//! What is asked of a registry: the content, and the parts of the request for it.

use http::{HeaderMap, Method};

use super::request::Wire;
use super::requester::Requester;
use crate::ledger::Identity;
use crate::oci::digest::Digest;
use crate::oci::error::Code;
use crate::oci::name::{Reference, Repository};
use crate::oci::route;
use crate::policy::registry::Site;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A manifest.
    Manifest(Reference),
    /// A blob.
    Blob(Digest),
    /// A list of the repository, by the rest of its path and its query: `tags/list?n=10`, `referrers/sha256:…`.
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

    /// The metrics' word.
    pub fn kind(&self) -> route::Kind {
        match self {
            What::Manifest(_) => route::Kind::Manifest,
            What::Blob(_) => route::Kind::Blob,
            What::List(rest) if rest.starts_with("referrers/") => route::Kind::Referrers,
            What::List(_) => route::Kind::Tags,
        }
    }

    /// What a registry's 404 for it says.
    pub(super) fn unknown(&self) -> Code {
        match self {
            What::Manifest(_) => Code::ManifestUnknown,
            What::Blob(_) => Code::BlobUnknown,
            What::List(_) => Code::NameUnknown,
        }
    }

    pub(super) fn wire(&self) -> Wire {
        match self {
            What::Manifest(_) | What::List(_) => Wire::Any,
            What::Blob(_) => Wire::H1,
        }
    }
}

/// One request, as its parts.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) site: &'a Site,
    /// As it is called there.
    pub(super) repository: &'a Repository,
    /// As the client calls it.
    pub(super) known_as: &'a Repository,
    pub(super) what: &'a What,
    pub(super) method: &'a Method,
    pub(super) fields: &'a HeaderMap,
    pub(super) requester: &'a Requester,
    /// Whose credential is shown.
    pub(super) charged: Identity,
}
