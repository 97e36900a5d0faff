//! What a request to a registry is, by its method and its path (distribution-spec, "Endpoints").
//!
//! 1. `/v2/` and `/v2/_catalog` are what they are.
//! 2. The path is read from its right end, because a repository's name may contain `manifests`,
//!    `blobs` and slashes.
//! 3. GET and HEAD of a manifest or a blob are pulls: their names are checked here, once, and a
//!    wrong one is refused. A path that hides a pull from step 2 (`..`, `//`, `%6d`) is refused
//!    too: what seawall reads must be what upstream reads.
//! 4. All else passes through, so what is not understood is [`Route::Other`] and no error.

use ::http::Method;

use super::digest::{Digest, DigestError};
use super::error::Code;
use super::name::{Reference, Repository, Tag};
use super::percent;

/// A request to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry, and who may use it?
    Ping,
    /// A pull: GET or HEAD of a manifest.
    Manifest {
        /// Where it is.
        repository: Repository,
        /// Which one it is.
        reference: Reference,
    },
    /// A pull: GET or HEAD of a blob.
    Blob {
        /// Where it is.
        repository: Repository,
        /// Which one it is.
        digest: Digest,
    },
    /// PUT of a manifest. Afterwards the reference and the tags may name something else than
    /// before.
    PushManifest {
        /// Where it goes.
        repository: Repository,
        /// The name it gets.
        reference: Reference,
        /// More names it gets: `?tag=a&tag=b`.
        tags: Vec<Tag>,
    },
    /// DELETE of a manifest or a tag.
    DeleteManifest {
        /// Where it was.
        repository: Repository,
        /// Which one it was.
        reference: Reference,
    },
    /// DELETE of a blob.
    DeleteBlob {
        /// Where it was.
        repository: Repository,
        /// Which one it was.
        digest: Digest,
    },
    /// Any step of an upload.
    Upload {
        /// Where it goes.
        repository: Repository,
    },
    /// `tags/list`
    Tags {
        /// The repository whose tags are listed.
        repository: Repository,
    },
    /// What refers to a manifest.
    Referrers {
        /// Where it is.
        repository: Repository,
    },
    /// `/v2/_catalog`
    Catalog,
    /// Anything else, digests of an algorithm that seawall cannot verify included.
    Other,
}

/// The metrics' word for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pull, push or removal of a manifest.
    Manifest,
    /// Pull or removal of a blob.
    Blob,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
    /// A token. No [`Route`] has it: tokens come from other hosts and paths.
    Token,
    /// A step of an upload.
    Upload,
    /// Anything else.
    Other,
}

impl Kind {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Manifest => "manifest",
            Kind::Blob => "blob",
            Kind::Tags => "tags",
            Kind::Referrers => "referrers",
            Kind::Token => "token",
            Kind::Upload => "upload",
            Kind::Other => "other",
        }
    }
}

impl Route {
    /// The metrics' word for it.
    pub fn kind(&self) -> Kind {
        match self {
            Route::Manifest { .. } | Route::PushManifest { .. } | Route::DeleteManifest { .. } => Kind::Manifest,
            Route::Blob { .. } | Route::DeleteBlob { .. } => Kind::Blob,
            Route::Upload { .. } => Kind::Upload,
            Route::Tags { .. } => Kind::Tags,
            Route::Referrers { .. } => Kind::Referrers,
            Route::Ping | Route::Catalog | Route::Other => Kind::Other,
        }
    }

    /// The repository it is about, if it has one.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Route::Manifest { repository, .. }
            | Route::Blob { repository, .. }
            | Route::PushManifest { repository, .. }
            | Route::DeleteManifest { repository, .. }
            | Route::DeleteBlob { repository, .. }
            | Route::Upload { repository }
            | Route::Tags { repository }
            | Route::Referrers { repository } => Some(repository),
            Route::Ping | Route::Catalog | Route::Other => None,
        }
    }
}

/// Why a pull is refused. Each holds what was asked, cut to 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The repository's name, or the whole path where it is written in a way that hides the name.
    #[error("`{0}` is not a repository name: a-z, 0-9, and . _ - between them, parts divided by single /, 255 at most")]
    Name(String),
    /// The digest is malformed.
    #[error("`{0}` is not a digest: sha256: and 64 lower-case hex digits")]
    Digest(String),
    /// The tag is malformed.
    #[error("`{0}` is neither a tag nor a digest: a-z, A-Z, 0-9, _ . -, 128 at most, not beginning with . or -")]
    Reference(String),
}

impl RouteError {
    /// The code in the body of the answer.
    pub fn code(&self) -> Code {
        match self {
            RouteError::Name(_) => Code::NameInvalid,
            RouteError::Digest(_) => Code::DigestInvalid,
            // No code is about tags. What cannot be a name is the name of nothing.
            RouteError::Reference(_) => Code::ManifestUnknown,
        }
    }
}

/// What a path ends with.
enum Shape<'a> {
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Upload { name: &'a str },
    Tags { name: &'a str },
    Referrers { name: &'a str },
    None,
}

/// Reads `NAME/manifests/REFERENCE` and its like from the right end; `rest` is the path after
/// `/v2/`.
fn shape(rest: &str) -> Shape<'_> {
    let Some((head, last)) = rest.rsplit_once('/') else { return Shape::None };
    match (head.rsplit_once('/'), last) {
        (Some((name, "manifests")), reference) => Shape::Manifest { name, reference },
        (Some((name, "tags")), "list") => Shape::Tags { name },
        (Some((name, "referrers")), _) => Shape::Referrers { name },
        (Some((name, "blobs")), "uploads") => Shape::Upload { name },
        (Some((name, "blobs")), digest) => Shape::Blob { name, digest },
        (Some((before, "uploads")), _) => match before.rsplit_once('/') {
            Some((name, "blobs")) => Shape::Upload { name },
            _ => Shape::None,
        },
        _ => Shape::None,
    }
}

/// Classifies a request. `path` and `query` are as the client sent them; only pulls can fail.
pub fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    let reads = reads(method);
    match path {
        "/v2" | "/v2/" if reads => return Ok(Route::Ping),
        "/v2/_catalog" if reads => return Ok(Route::Catalog),
        _ => {}
    }
    if reads && hides_a_pull(path) {
        return match with_plain_colon(path).filter(|plain| !hides_a_pull(plain)) {
            Some(plain) => route(method, &plain, query),
            None => Err(RouteError::Name(cut(path).to_owned())),
        };
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return Ok(Route::Other) };
    match shape(rest) {
        Shape::Manifest { name, reference } if reads => pull_manifest(name, reference),
        Shape::Blob { name, digest } if reads => pull_blob(name, digest),
        other => Ok(pass(method, other, query).unwrap_or(Route::Other)),
    }
}

/// Some write the colon of a digest as `%3A`, which is the same (RFC 3986, 2.2 and 3.3).
fn with_plain_colon(path: &str) -> Option<String> {
    let (before, last) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
    let end = last.find('%').filter(|at| last[*at..].get(..3).is_some_and(|text| text.eq_ignore_ascii_case("%3a")))?;
    Some(format!("{before}{}:{}", &last[..end], &last[end + 3..]))
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn pull_manifest(name: &str, text: &str) -> Result<Route, RouteError> {
    let repository = repository(name)?;
    let reference = match text.contains(':') {
        true => digest(text)?.map(Reference::Digest),
        false => Some(Reference::Tag(text.parse().map_err(|_| RouteError::Reference(cut(text).to_owned()))?)),
    };
    Ok(reference.map_or(Route::Other, |reference| Route::Manifest { repository, reference }))
}

fn pull_blob(name: &str, text: &str) -> Result<Route, RouteError> {
    let repository = repository(name)?;
    Ok(digest(text)?.map_or(Route::Other, |digest| Route::Blob { repository, digest }))
}

fn repository(name: &str) -> Result<Repository, RouteError> {
    name.parse().map_err(|_| RouteError::Name(cut(name).to_owned()))
}

/// `None` for a digest that is good but cannot be verified here: it is upstream's affair.
fn digest(text: &str) -> Result<Option<Digest>, RouteError> {
    match text.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported) => Ok(None),
        Err(DigestError::Malformed) => Err(RouteError::Digest(cut(text).to_owned())),
    }
}

/// What is no pull. `None` when it is not understood.
fn pass(method: &Method, shape: Shape<'_>, query: Option<&str>) -> Option<Route> {
    let reference = |text: &str| match text.parse() {
        Ok(tag) => Some(Reference::Tag(tag)),
        Err(_) => text.parse().ok().map(Reference::Digest),
    };
    Some(match shape {
        Shape::Manifest { name, reference: text } if *method == Method::PUT => {
            Route::PushManifest { repository: name.parse().ok()?, reference: reference(text)?, tags: tags(query) }
        }
        Shape::Manifest { name, reference: text } if *method == Method::DELETE => {
            Route::DeleteManifest { repository: name.parse().ok()?, reference: reference(text)? }
        }
        Shape::Blob { name, digest } if *method == Method::DELETE => {
            Route::DeleteBlob { repository: name.parse().ok()?, digest: digest.parse().ok()? }
        }
        Shape::Upload { name } => Route::Upload { repository: name.parse().ok()? },
        Shape::Tags { name } if reads(method) => Route::Tags { repository: name.parse().ok()? },
        Shape::Referrers { name } if reads(method) => Route::Referrers { repository: name.parse().ok()? },
        _ => return None,
    })
}

/// The tags of `?tag=a&tag=b`; what is no tag is left out.
fn tags(query: Option<&str>) -> Vec<Tag> {
    query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("tag="))
        .filter_map(|value| percent::decoded(value).parse().ok())
        .collect()
}

/// Whether upstream might read a pull where [`shape`] reads something else, or another name: the
/// path is not in its plain form (RFC 3986, 6.2.2), and is a pull as it stands or in that form.
fn hides_a_pull(path: &str) -> bool {
    if is_plain(path.as_bytes()) {
        return false;
    }
    let is_pull = |path: &str| {
        let shape = path.strip_prefix("/v2/").map_or(Shape::None, shape);
        matches!(shape, Shape::Manifest { .. } | Shape::Blob { .. })
    };
    let plain = plain(path);
    plain != path && (is_pull(path) || is_pull(&plain))
}

/// Whether [`plain`] would surely leave it as it is: nothing is encoded, no part is empty or begins
/// with a dot.
fn is_plain(path: &[u8]) -> bool {
    let begun_well = |(at, byte): (usize, &u8)| match byte {
        b'%' => false,
        b'/' => !matches!(path.get(at + 1), None | Some(b'/' | b'.')),
        _ => true,
    };
    path.first() == Some(&b'/') && path.iter().enumerate().all(begun_well)
}

/// A path with nothing encoded and no `.`, `..` or empty part.
fn plain(path: &str) -> String {
    let path = percent::decoded(path);
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().flat_map(|part| ["/", part]).collect()
}

/// What a client wrote, as far as an error or a line of the log has room for it: a field that costs it a
/// byte each time, by HTTP/2's table, would cost thousands here.
pub fn cut(text: &str) -> &str {
    text.char_indices().nth(255).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
