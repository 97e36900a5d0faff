//! A request for a manifest or a blob.

use http::HeaderValue;

use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::media_type::{Accept, is_worded};
use crate::oci::name::{Reference, Repository, RepositoryKey};
use crate::policy::registry::Site;
use crate::upstream::What;
use crate::upstream::requester::{Credential, Requester};

/// One request for a manifest or a blob.
#[derive(Clone, Debug)]
pub struct Pull {
    /// The registry.
    pub site: Site,
    /// The repository, as upstream knows it.
    pub repository: Repository,
    /// The manifest or blob.
    pub wanted: Wanted,
    /// `Accept` of a manifest, as the client sent it.
    pub accept: Vec<HeaderValue>,
    /// Who asks.
    pub requester: Requester,
    /// Whether the bytes are wanted.
    pub method: Method,
    /// `Range`, as the client sent it.
    pub range: Option<HeaderValue>,
    /// The registry and the repository: the unit of permission.
    pub key: RepositoryKey,
}

impl Pull {
    /// The same, asked by seawall itself as anonymous.
    pub(super) fn as_anonymous(&self) -> Pull {
        Pull { requester: self.requester.as_anonymous(), ..self.clone() }
    }

    /// Media types that the client takes besides those of [`Wanted`]: see [`Accept::others`].
    pub(super) fn others(&self) -> Option<String> {
        Accept::others(self.accept.iter().filter_map(|line| line.to_str().ok()))
    }

    /// The same, where types are among them that no other client takes.
    pub(super) fn types_of_its_own(&self) -> Option<String> {
        self.others().filter(|others| is_worded(others))
    }

    /// `Accept`, as the client sent it: its own types included.
    pub(super) fn accepted(&self, accept: Accept) -> String {
        let others = self.others().map(|others| format!(", {others}"));
        accept.header() + &others.unwrap_or_default()
    }

    /// Whether the client shows a credential of its own.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.requester.credential, Credential::Known(_))
    }

    /// Whether it is asked as anonymous anyway.
    pub(super) fn is_anonymous(&self) -> bool {
        self.requester.credential.asked_as() == Credential::Anonymous
    }
}

/// What a pull is for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A manifest, for a client that accepts these types.
    Manifest(Reference, Accept),
    /// A blob.
    Blob(Digest),
}

/// Whether a pull is for the bytes, or for what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The bytes.
    Get,
    /// The head that would come with them.
    Head,
}

/// Whether the requester may be about to push: who asks for a blob by HEAD may be.
pub(super) fn may_push(pull: &Pull, what: &What) -> bool {
    pull.method == Method::Head && matches!(what, What::Blob(_))
}

/// As what the pull's repository has what is asked for: a pull is for no list.
pub(super) fn content_kind(what: &What) -> ContentKind {
    what.content().unwrap_or(ContentKind::Blob)
}
