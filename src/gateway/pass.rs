//! Requests that are no pulls: uploads, removals, lists. Passed to the registry and its answer to
//! the client, streamed untouched.
//!
//! What a push or a removal changes is noted when upstream has taken it, and not before: anybody
//! can send one.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use super::challenges::Challenges;
use super::relay::{Recipient, relay, send, send_noting};
use super::telemetry::Record;
use crate::cache::{Cache, Push};
use crate::error::Result;
use crate::http::cache_status::Outcome;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::{Reference, RepositoryKey};
use crate::oci::route::Route;
use crate::policy::freshness::ANSWERED;
use crate::policy::registry::Site;
use crate::policy::sound;
use crate::task::Tasks;
use crate::upstream::Transfer;
use crate::upstream::Upstream;
use crate::upstream::requester::Requester;

/// Passes requests to registries.
pub(crate) struct Passthrough {
    pub(crate) cache: Cache,
    pub(crate) upstream: Upstream,
    pub(crate) challenges: Challenges,
    pub(crate) tasks: Tasks,
}

/// What a request changes, if upstream takes it.
enum Change {
    /// What tags name.
    Tags(Arc<Push>),
    /// A repository has a digest no longer.
    Removal(RepositoryKey, Digest, ContentKind),
}

impl Passthrough {
    /// The registry's answer to `request`, which is a `route`. What it changes there is noted here.
    ///
    /// # Errors
    /// The registry did not answer.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        site: &Site,
        route: Route,
        requester: &Requester,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        record.outcome = Outcome::Bypass;
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let response = match self.change(site, &route) {
            Some(change) => self.send_change(request, site, &route, requester, change).await?,
            None => send(&self.upstream, request, recipient(site, &route), requester).await?,
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            self.upstream.learn(site, response.headers());
            self.challenges.note_challenge(site, requester);
            self.cache.access().login_refused(site, requester);
            // What refuses a push, or a removal, may take the token for what it is for.
            if let (true, Some(repository), Some(shown)) = (is_read, route.repository(), &requester.authorization) {
                self.upstream.token_refused(site, repository, shown);
            }
        }
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    fn change(&self, site: &Site, route: &Route) -> Option<Change> {
        let push = match route {
            Route::PushManifest { repository, reference, tags } => {
                self.cache.push(&site.key(repository), tags.iter().chain(reference.tag()))
            }
            Route::DeleteManifest { repository, reference: Reference::Tag(tag) } => {
                self.cache.push(&site.key(repository), std::iter::once(tag))
            }
            Route::DeleteManifest { repository, reference: Reference::Digest(digest) } => {
                return Some(Change::Removal(site.key(repository), digest.clone(), ContentKind::Manifest));
            }
            Route::DeleteBlob { repository, digest } => {
                return Some(Change::Removal(site.key(repository), digest.clone(), ContentKind::Blob));
            }
            _ => return None,
        };
        Some(Change::Tags(Arc::new(push)))
    }

    /// Sends a request that changes something, and notes that if it was taken: also when its client
    /// has left, which may be a moment before the answer comes.
    async fn send_change(
        &self,
        request: Request<Incoming>,
        site: &Site,
        route: &Route,
        requester: &Requester,
        change: Change,
    ) -> Result<Response<Transfer>> {
        let (cache, upstream) = (self.cache.clone(), self.upstream.clone());
        let (site, route, requester) = (site.clone(), route.clone(), requester.clone());
        let sending = async move {
            let push = match &change {
                Change::Tags(push) => Some(Arc::downgrade(push)),
                Change::Removal(..) => None,
            };
            let left = move || push.and_then(|push| push.upgrade()).iter().for_each(|push| push.left());
            let (recipient, left) = (recipient(&site, &route), Some(Box::new(left) as _));
            let response = send_noting(&upstream, request, recipient, &requester, left).await?;
            if sound::is_taken(response.status(), response.headers()) {
                match &change {
                    Change::Tags(push) => push.taken(),
                    Change::Removal(key, digest, kind) => cache.digest_removed(key, digest, *kind).await,
                }
            }
            Ok(response)
        };
        Box::pin(self.tasks.outliving(ANSWERED, sending)).await
    }
}

fn recipient<'a>(site: &'a Site, route: &Route) -> Recipient<'a> {
    Recipient { registry: &site.registry.name, origin: &site.origin, kind: route.kind() }
}
