//! Pulls: what a client asked for, from the cache or from upstream, on its way to a response.
//!
//! ```text
//! manifest, blob   → Pull → cache.get → the challenge that upstream gave is noted → deliver
//! list             → upstream's own answer, redirects followed
//! ```

use http::{HeaderMap, Method, Request, Response, header};
use hyper::body::Incoming;

use super::body::Body;
use super::challenges::Challenges;
use super::deliver::{Asked, Negotiated, deliver};
use super::relay::relay;
use super::telemetry::Record;
use crate::cache::{self, Cache, Found, Pull, Wanted};
use crate::error::{Error, Result};
use crate::http::conditional::range_counts;
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Repository};
use crate::oci::route::RouteError;
use crate::policy::mirror::without_ns;
use crate::policy::registry::Site;
use crate::upstream::paced_at;
use crate::upstream::requester::{Credential, Requester};
use crate::upstream::{Author, Upstream, What, Wording};

/// The repository whose manifest Docker Hub answers with what is left of the quota.
const PROBED: &str = "ratelimitpreview/test";

/// Answers pulls.
#[derive(Clone)]
pub(crate) struct Pulls {
    pub(crate) cache: Cache,
    pub(crate) upstream: Upstream,
    pub(crate) challenges: Challenges,
}

/// The repository that is read, and the client that reads it.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) site: Site,
    pub(crate) repository: Repository,
    pub(crate) requester: Requester,
}

impl Pulls {
    /// Answers a GET or a HEAD of a manifest.
    ///
    /// # Errors
    /// The client may not read it, there is none, or upstream cannot say.
    pub(crate) async fn manifest(
        &self,
        request: &Request<Incoming>,
        reading: Reading,
        reference: Reference,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.reference = reference.to_string();
        let accept = Accept::of(accepted(request.headers()));
        let negotiated = if reference.tag().is_some() { Negotiated::Yes } else { Negotiated::No };
        let is_probe = &*reading.site.namespace == "docker.io" && reading.repository.as_str() == PROBED;
        if (accept.is_empty() || is_probe) && negotiated == Negotiated::Yes {
            // It wants something that is not kept here: schema 1, a type of its own, what is left of
            // a quota.
            return Box::pin(self.uncached(request, &reading, &What::Manifest(reference))).await;
        }
        let pull = pull(request, reading, Wanted::Manifest(reference, accept));
        self.pulled(&pull, request.headers(), negotiated, record).await
    }

    /// Answers a GET or a HEAD of a blob.
    ///
    /// # Errors
    /// The client may not read it, there is none, or upstream cannot say.
    pub(crate) async fn blob(
        &self,
        request: &Request<Incoming>,
        reading: Reading,
        digest: Digest,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.reference = digest.to_string();
        let pull = pull(request, reading, Wanted::Blob(digest));
        self.pulled(&pull, request.headers(), Negotiated::No, record).await
    }

    /// Answers a GET of a list of tags or referrers: `list` is its URL behind the repository's
    /// name.
    ///
    /// # Errors
    /// Upstream did not answer, or refused.
    pub(crate) async fn list(
        &self,
        request: &Request<Incoming>,
        reading: &Reading,
        list: String,
    ) -> Result<Response<Body>> {
        self.uncached(request, reading, &What::List(list)).await
    }

    async fn pulled(
        &self,
        pull: &Pull,
        headers: &HeaderMap,
        negotiated: Negotiated,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let found = Box::pin(self.cache.get(pull)).await;
        self.challenges.note_challenge(&pull.site, &pull.requester);
        let found = found?;
        record.outcome = found.outcome;
        let warning = warning(&found, &pull.site);
        let asked = Asked { method: pull.method, headers, negotiated, idle: self.upstream.idle_timeout() };
        Ok(deliver(found, asked, warning))
    }

    /// Upstream's answer to a request with the client's own `Accept`, redirects followed. Nothing
    /// of it is kept.
    async fn uncached(&self, request: &Request<Incoming>, reading: &Reading, what: &What) -> Result<Response<Body>> {
        let mut fields = HeaderMap::new();
        for value in request.headers().get_all(header::ACCEPT) {
            fields.append(header::ACCEPT, value.clone());
        }
        let Reading { site, repository, requester } = reading;
        let wording = Wording { method: request.method(), fields: &fields, author: Author::Client };
        let (answer, place) = self.upstream.fetch_as_asked(site, repository, what, wording, requester).await?;
        Ok(relay(paced_at(place, answer.response), self.upstream.idle_timeout()))
    }
}

/// The requester that reads `repository`: the operator's account, if the client is anonymous and
/// the operator shares the repository.
pub(crate) fn on_behalf(site: &Site, repository: Option<&Repository>, requester: Requester) -> Requester {
    let registry = &site.registry;
    let shared = registry.account.is_some() && repository.is_some_and(|r| registry.repositories.shares(r));
    match requester.credential {
        Credential::Anonymous if shared => requester.on_account(),
        _ => requester,
    }
}

/// The error of a path that is no pull's although it looks like one.
pub(crate) fn bad_route(error: RouteError) -> Error {
    Error::request(error.code(), error.to_string())
}

/// What a list's URL says behind the repository's name, without `ns`.
pub(crate) fn list_of(path: &str, repository: &str, query: Option<&str>) -> String {
    let rest = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(repository)).unwrap_or_default();
    let kept: Vec<&str> = without_ns(query).collect();
    let rest = rest.trim_start_matches('/');
    if kept.is_empty() { rest.to_owned() } else { format!("{rest}?{}", kept.join("&")) }
}

/// The lines of `Accept`.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok())
}

fn pull(request: &Request<Incoming>, reading: Reading, wanted: Wanted) -> Pull {
    let Reading { site, repository, requester } = reading;
    let method = if *request.method() == Method::HEAD { cache::Method::Head } else { cache::Method::Get };
    let counts = || match &wanted {
        Wanted::Blob(digest) | Wanted::Manifest(Reference::Digest(digest), _) => {
            range_counts(request.headers(), &digest.to_string())
        }
        Wanted::Manifest(Reference::Tag(_), _) => false,
    };
    let range = request.headers().get(header::RANGE).filter(|_| method == cache::Method::Get && counts()).cloned();
    let key = site.key(&repository);
    let accept = match &wanted {
        Wanted::Manifest(..) => request.headers().get_all(header::ACCEPT).iter().cloned().collect(),
        Wanted::Blob(_) => Vec::new(),
    };
    Pull { site, repository, wanted, accept, requester, method, range, key }
}

fn warning(found: &Found, site: &Site) -> Option<String> {
    let stale = found.stale.as_ref()?;
    Some(format!("served from cache ({}): {}", site.namespace, stale.message))
}
