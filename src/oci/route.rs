//! What a request to a registry is, by its method and its path (distribution-spec, "Endpoints").
//!
//! 1. `/v2/` and `/v2/_catalog` are what they are.
//! 2. The path is read from its right end, because a repository's name may contain `manifests`, `blobs` and slashes.
//! 3. GET and HEAD of a manifest or a blob are pulls: their names are checked here, once, and a wrong one is refused. A path that
//!    hides a pull from step 2 (`..`, `//`, `%6d`) is refused too: what seawall reads must be what upstream reads.
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
    /// PUT of a manifest. Afterwards the reference and the tags may name something else than before.
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
        /// Whose tags.
        repository: Repository,
    },
    /// What refers to a manifest.
    Referrers {
        /// Where it is.
        repository: Repository,
    },
    /// `/v2/_catalog`
    Catalog,
    /// Anything else, digests of an algorithm that nobody here can verify included.
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

    /// The repository it is about, where that can be told.
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
    /// The digest.
    #[error("`{0}` is not a digest: sha256: and 64 lower-case hex digits")]
    Digest(String),
    /// The tag.
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

/// Reads `NAME/manifests/REFERENCE` and its like from the right end; `rest` is the path after `/v2/`.
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
        return Err(RouteError::Name(cut(path)));
    }
    let Some(rest) = path.strip_prefix("/v2/") else { return Ok(Route::Other) };
    match shape(rest) {
        Shape::Manifest { name, reference } if reads => pull_manifest(name, reference),
        Shape::Blob { name, digest } if reads => pull_blob(name, digest),
        other => Ok(pass(method, other, query).unwrap_or(Route::Other)),
    }
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn pull_manifest(name: &str, text: &str) -> Result<Route, RouteError> {
    let repository = repository(name)?;
    let reference = match text.contains(':') {
        true => digest(text)?.map(Reference::Digest),
        false => Some(Reference::Tag(text.parse().map_err(|_| RouteError::Reference(cut(text)))?)),
    };
    Ok(reference.map_or(Route::Other, |reference| Route::Manifest { repository, reference }))
}

fn pull_blob(name: &str, text: &str) -> Result<Route, RouteError> {
    let repository = repository(name)?;
    Ok(digest(text)?.map_or(Route::Other, |digest| Route::Blob { repository, digest }))
}

fn repository(name: &str) -> Result<Repository, RouteError> {
    name.parse().map_err(|_| RouteError::Name(cut(name)))
}

/// `None` for a digest that is good but cannot be verified here: it is upstream's affair.
fn digest(text: &str) -> Result<Option<Digest>, RouteError> {
    match text.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported) => Ok(None),
        Err(DigestError::Malformed) => Err(RouteError::Digest(cut(text))),
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

/// Whether upstream might read a pull where [`shape`] reads something else, or another name: the path is not in its plain form
/// (RFC 3986, 6.2.2), and is a pull as it stands or in that form.
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

/// Whether [`plain`] would surely leave it as it is: nothing is encoded, no part is empty or begins with a dot.
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

fn cut(text: &str) -> String {
    text.chars().take(255).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn get(path: &str) -> Result<Route, RouteError> {
        route(&Method::GET, path, None)
    }

    fn manifest(name: &str, tag: &str) -> Route {
        Route::Manifest { repository: name.parse().unwrap(), reference: Reference::Tag(tag.parse().unwrap()) }
    }

    fn repository(name: &str) -> Repository {
        name.parse().unwrap()
    }

    #[test]
    fn pulls() {
        assert_eq!(get("/v2/library/alpine/manifests/3.20"), Ok(manifest("library/alpine", "3.20")));
        let by_digest =
            Route::Manifest { repository: repository("a"), reference: Reference::Digest(D.parse().unwrap()) };
        assert_eq!(get(&format!("/v2/a/manifests/{D}")), Ok(by_digest));
        let blob = Route::Blob { repository: repository("a/b"), digest: D.parse().unwrap() };
        assert_eq!(route(&Method::HEAD, &format!("/v2/a/b/blobs/{D}"), Some("ns=docker.io")), Ok(blob));
    }

    #[test]
    fn names_may_contain_the_words_of_the_path() {
        for name in ["manifests", "blobs", "tags/list", "a/manifests/b", "a/blobs/uploads", "v2", "referrers/x"] {
            assert_eq!(get(&format!("/v2/{name}/manifests/latest")), Ok(manifest(name, "latest")));
            assert_eq!(get(&format!("/v2/{name}/tags/list")), Ok(Route::Tags { repository: repository(name) }));
            let upload = route(&Method::POST, &format!("/v2/{name}/blobs/uploads/"), None);
            assert_eq!(upload, Ok(Route::Upload { repository: repository(name) }));
        }
        assert_eq!(get("/v2/a/manifests/manifests"), Ok(manifest("a", "manifests")));
    }

    #[test]
    fn bad_pulls_are_refused_with_the_code_for_it() {
        let long = format!("/v2/{}/manifests/x", "a".repeat(256));
        for (path, code) in [
            ("/v2/Alpine/manifests/x", Code::NameInvalid),
            ("/v2//manifests/x", Code::NameInvalid),
            ("/v2/a//b/manifests/x", Code::NameInvalid),
            ("/v2//a/manifests/x", Code::NameInvalid),
            ("//v2/a/manifests/x", Code::NameInvalid),
            ("/v2/a/../b/manifests/x", Code::NameInvalid),
            ("/v2/a/./manifests/x", Code::NameInvalid),
            ("/x/../v2/a/manifests/x", Code::NameInvalid),
            ("/v2/a/manifests/x/", Code::NameInvalid),
            ("/v2/a/manifests/x/.", Code::NameInvalid),
            ("/v2/a/manifests/..", Code::NameInvalid),
            ("/v2/a/manifests/", Code::NameInvalid),
            ("/v2/a%2fb/manifests/x", Code::NameInvalid),
            ("/v2/a/%6Danifests/x", Code::NameInvalid),
            ("/v2/a/manifests%2Fx", Code::NameInvalid),
            ("/%76%32/a/manifests/x", Code::NameInvalid),
            ("/v2/a/manifests/sha256%3A00", Code::NameInvalid),
            ("/v2/a/blobs/%", Code::DigestInvalid),
            ("/v2/a:5000/b/manifests/x", Code::NameInvalid),
            (long.as_str(), Code::NameInvalid),
            ("/v2/a/blobs/x", Code::DigestInvalid),
            ("/v2/a/blobs/sha256:00", Code::DigestInvalid),
            ("/v2/a/manifests/sha256:00", Code::DigestInvalid),
            ("/v2/a/manifests/-x", Code::ManifestUnknown),
            ("/v2/a/manifests/x+y", Code::ManifestUnknown),
        ] {
            assert_eq!(get(path).map_err(|e| e.code()), Err(code), "{path}");
        }
    }

    #[test]
    fn what_passes_through() {
        let repository = || repository("a/b");
        let tag = |t: &str| t.parse::<Tag>().unwrap();
        for (method, path, query, expected) in [
            ("GET", "/v2/", None, Route::Ping),
            ("HEAD", "/v2", None, Route::Ping),
            ("POST", "/v2/", None, Route::Other),
            ("GET", "/v2/_catalog", Some("n=2"), Route::Catalog),
            ("GET", "/", None, Route::Other),
            ("GET", "/v1/a/manifests/x", None, Route::Other),
            ("GET", "/token", Some("scope=x"), Route::Other),
            ("GET", "/v2/manifests/x", None, Route::Other),
            ("GET", "/v2/a/blobs/blake3:00", None, Route::Other),
            ("GET", "/v2/a/manifests/blake3:00", None, Route::Other),
            ("POST", "/v2/a/manifests/x", None, Route::Other),
            ("GET", "/v2/A/tags/list", None, Route::Other),
            ("DELETE", "/v2/a/tags/list", None, Route::Other),
            ("GET", "/v2/a/b/tags/list", None, Route::Tags { repository: repository() }),
            ("GET", "/v2/a/b/referrers/sha256:00", None, Route::Referrers { repository: repository() }),
            ("POST", "/v2/a/b/blobs/uploads/", Some("mount=x&from=y"), Route::Upload { repository: repository() }),
            ("POST", "/v2/a/b/blobs/uploads", None, Route::Upload { repository: repository() }),
            ("GET", "/v2/a/b/blobs/uploads/4b1-%2F=", Some("_state=z"), Route::Upload { repository: repository() }),
            ("PUT", "/v2/a/b/blobs/uploads/4b1", Some("digest=x"), Route::Upload { repository: repository() }),
            ("DELETE", "/v2/a/b/blobs/x", None, Route::Other),
            ("PUT", "/v2/A/manifests/x", None, Route::Other),
            (
                "PUT",
                "/v2/a/b/manifests/x",
                Some("tag=y&tag=v1%2E0&tag=%20&other=z&tag"),
                Route::PushManifest {
                    repository: repository(),
                    reference: Reference::Tag(tag("x")),
                    tags: vec![tag("y"), tag("v1.0")],
                },
            ),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(route(&method, path, query), Ok(expected), "{method} {path}");
        }
        let delete = route(&Method::DELETE, "/v2/a/b/manifests/x", None);
        assert_eq!(delete, Ok(Route::DeleteManifest { repository: repository(), reference: Reference::Tag(tag("x")) }));
        let delete = route(&Method::DELETE, &format!("/v2/a/b/blobs/{D}"), None);
        assert_eq!(delete, Ok(Route::DeleteBlob { repository: repository(), digest: D.parse().unwrap() }));
    }

    #[test]
    fn errors_are_short() {
        let error = get(&format!("/v2/a/manifests/{}", "é".repeat(9000))).unwrap_err();
        assert!(error.to_string().len() < 1000);
    }

    proptest! {
        #[test]
        fn any_path(path in "(/v2/)?([a-z./%:-]|[.]{2}|%2[eEfF]|manifests|blobs|uploads|tags/list|.){0,20}", query: Option<String>) {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                if let Ok(Route::Manifest { repository, reference }) = route(&method, &path, query.as_deref()) {
                    // What seawall read is all there was to read.
                    prop_assert_eq!(format!("/v2/{repository}/manifests/{reference}"), path.clone());
                }
            }
        }

        #[test]
        fn every_pull(name in "[a-z0-9]{1,4}(/(manifests|blobs|tags|list|uploads|[a-z]{1,3})){0,4}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
            prop_assert_eq!(get(&format!("/v2/{name}/manifests/{tag}")), Ok(manifest(&name, &tag)));
        }
    }
}
