//! A token of our own: while the token service is away, and for what the operator shares.
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
use crate::oci::name::Repository;
use crate::oci::route;
use crate::policy::registry::Site;
use crate::upstream::asker::{Asker, Credential};
use crate::upstream::auth::SHORTEST_LIFE;

const TOKEN: &str = "seawall-stands-for-nobody";

/// No name and no password: what podman shows to a registry that wants Basic when it has no login for it.
const NOBODY: &str = "Og==";

/// Takes the stand-in out of a request: what is left is what it means.
pub(super) fn lay_down(headers: &mut HeaderMap) {
    let means_nobody = |value: &HeaderValue| {
        let (scheme, shown) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let is = |name: &str, what: &str| scheme.eq_ignore_ascii_case(name) && shown.trim() == what;
        is("bearer", TOKEN) || is("basic", NOBODY)
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    if shown.next().is_some_and(means_nobody) && shown.next().is_none() {
        headers.remove(header::AUTHORIZATION);
    }
}

/// Whether all that a token is wanted for is what the operator shares.
fn all_shared(site: &Site, wanted: &Option<Vec<Repository>>) -> bool {
    let shared = |all: &Vec<Repository>| all.iter().all(|repository| site.registry.repositories.shares(repository));
    site.registry.account.is_some() && wanted.as_ref().is_some_and(shared)
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
        if asker.credential == Credential::Anonymous && *request.method() == Method::GET && all_shared(site, &wanted) {
            // What the operator shares needs no token, and none of the operator's leaves.
            record.kind = route::Kind::Token;
            record.outcome = Outcome::Hit;
            return Ok(issued(TOKEN, SHORTEST_LIFE, cache_status(Outcome::Hit, None)));
        }
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
