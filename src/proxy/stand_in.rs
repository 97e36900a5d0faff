//! A token of our own, while the token service is away.
//!
//! Most clients ask for a token before they ask for an image, and theirs last minutes. What everybody may read is served from
//! here without upstream; this lets them get as far as asking for it. The token is no secret and opens nothing: whoever sends it
//! is nobody, and it never leaves.

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use super::body::Body;
use super::gateway::Gateway;
use super::passing::{issued, says_nothing};
use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::http::cache_status::{Outcome, cache_status};
use crate::http::origin::Origin;
use crate::oci::challenge::pulled_repositories;
use crate::policy::registry::Site;
use crate::upstream::asker::Asker;
use crate::upstream::auth::SHORTEST_LIFE;

const TOKEN: &str = "seawall-stands-for-nobody";

/// Takes the stand-in out of a request: what is left is what it means.
pub(super) fn lay_down(headers: &mut HeaderMap) {
    let ours = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split_once(' ')
            .is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && token.trim() == TOKEN)
    };
    if headers.get(header::AUTHORIZATION).is_some_and(ours) {
        headers.remove(header::AUTHORIZATION);
    }
}

impl Gateway {
    /// The token service's answer. If there is none in time, and the token is for what everybody may read here: the stand-in.
    pub(super) async fn token_or_stand_in(
        &self,
        request: Request<Incoming>,
        site: &Site,
        origin: &Origin,
        asker: &Asker,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let wanted = pulled_repositories(request.uri().query().unwrap_or_default());
        let public = wanted.is_some_and(|all| all.iter().all(|repository| self.cache.is_public(site, repository)));
        if !public || *request.method() != Method::GET {
            return self.token(request, site, origin, asker, record).await;
        }
        let deadline = self.upstream.resolve_deadline();
        let answered = tokio::time::timeout(deadline, self.token(request, site, origin, asker, record)).await;
        let why = match answered {
            Ok(Ok(response)) if !says_nothing(response.status()) => return Ok(response),
            Ok(Ok(response)) => Error::new(Kind::Broken, format!("{} answered {}", origin.host, response.status())),
            Ok(Err(error)) => error,
            Err(_) => Error::new(Kind::Timeout, format!("{} did not answer in time", origin.host)),
        };
        record.failed(&why);
        record.outcome = Outcome::Stale;
        // Good for the shortest time that clients believe in: the token service may be back soon.
        Ok(issued(TOKEN, SHORTEST_LIFE, cache_status(Outcome::Stale, Some(why.kind().as_str()))))
    }
}
