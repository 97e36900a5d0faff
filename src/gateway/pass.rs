//! Requests that are no pulls: uploads, removals, lists. Passed to the registry and its answer to
//! the client, streamed untouched.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::Body;
use super::challenges::Challenges;
use super::relay::{Recipient, relay, send};
use super::telemetry::Record;
use crate::cache::Cache;
use crate::error::Result;
use crate::http::cache_status::Outcome;
use crate::oci::manifest::ContentKind;
use crate::oci::name::Reference;
use crate::oci::route::Route;
use crate::policy::registry::Site;
use crate::upstream::Upstream;
use crate::upstream::requester::Requester;

/// Passes requests to registries.
pub(crate) struct Passthrough {
    pub(crate) cache: Cache,
    pub(crate) upstream: Upstream,
    pub(crate) challenges: Challenges,
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
        if let Route::PushManifest { .. } = route {
            // Before it is sent as well: the client may have left when the answer comes.
            self.note_change(site, &route);
        }
        let recipient = Recipient { registry: &site.registry.name, origin: &site.origin, kind: route.kind() };
        let response = send(&self.upstream, request, recipient, requester).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.upstream.learn(site, response.headers());
            self.challenges.note_challenge(site, requester);
            self.cache.access().login_refused(site, requester);
        }
        if response.status().is_success() {
            self.note_change(site, &route);
        }
        Ok(relay(response, self.upstream.idle_timeout()))
    }

    /// Tells the cache what a push or a removal changed.
    fn note_change(&self, site: &Site, route: &Route) {
        match route {
            Route::PushManifest { repository, reference, tags } => {
                for tag in tags.iter().chain(reference.tag()) {
                    self.cache.tag_changed(&site.key(repository), tag);
                }
            }
            Route::DeleteManifest { repository, reference: Reference::Tag(tag) } => {
                self.cache.tag_changed(&site.key(repository), tag);
            }
            Route::DeleteManifest { repository, reference: Reference::Digest(digest) } => {
                self.cache.digest_removed(&site.key(repository), digest, ContentKind::Manifest);
            }
            Route::DeleteBlob { repository, digest } => {
                self.cache.digest_removed(&site.key(repository), digest, ContentKind::Blob);
            }
            _ => {}
        }
    }
}
