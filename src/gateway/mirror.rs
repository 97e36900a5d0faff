//! seawall as a server of its own: a mirror below `/v2/`, pages for people elsewhere.
//!
//! What a client sends to a mirror is for the mirror: no registry gets its credentials, and it may
//! read what is public or shared by the operator. `policy/mirror` decides which registry a request
//! is for; `mirror_refusals` counts what is refused.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;

use super::body::Body;
use super::next_page::link_here;
use super::pages::Pages;
use super::permitted::permitted_repository;
use super::pings::pong;
use super::pulls::{Pulls, Reading, bad_route, list_of, on_behalf};
use super::target::Here;
use super::telemetry::Record;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::http::cache_status::Outcome;
use crate::oci::error::Code;
use crate::oci::name::Repository;
use crate::oci::route::{self, Route};
use crate::policy::mirror::{Meant, Said, Unclear, api_path, meant, ns, with_port};
use crate::policy::registry::Registries;
use crate::upstream::Upstream;

/// The header of a mirror's reply that names the `ns` it is for (distribution-spec, "Registry
/// Proxying").
const OCI_NAMESPACE: &str = "oci-namespace";

/// Answers what is asked of seawall itself.
pub(crate) struct Mirror {
    pub(crate) registries: Arc<Registries>,
    pub(crate) pages: Pages,
    pub(crate) pulls: Pulls,
    pub(crate) upstream: Upstream,
    pub(crate) clock: Clock,
}

impl Mirror {
    /// A page, or a pull from the registry that the path or `ns` names.
    ///
    /// # Errors
    /// No registry is named or two are, it is no pull, or the pull failed.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        here: &Here,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        match api_path(&self.registries, request.uri().path()) {
            Some(path) if path.len() <= "/v2/".len() => {
                record.outcome = Outcome::Hit;
                Ok(pong())
            }
            Some(path) => self.pull(&request, &path, record).await,
            None => {
                let page = self.pages.answer(request.method(), request.uri(), here, &self.registries);
                record.outcome = if page.status().is_success() { Outcome::Hit } else { Outcome::Error };
                Ok(page)
            }
        }
    }

    async fn pull(&self, request: &Request<Incoming>, path: &str, record: &mut Record) -> Result<Response<Body>> {
        let requester = self.upstream.keyring().requester(None, self.clock.now()).through(request.headers());
        let requester = requester.of(record.tenant());
        record.cost = requester.cost.clone();
        let query = request.uri().query();
        let (host, plain) = with_port(path);
        let route = route::route(request.method(), &plain, query).map_err(bad_route)?;
        record.kind = route.kind();
        let named = route.repository().map(ToString::to_string).ok_or_else(unsupported)?;
        let ns = ns(query);
        let said = Said { host: host.as_deref(), ns: ns.as_deref() };
        let Meant { site, repository } = meant(&self.registries, &named, said).map_err(|unclear| refused(&unclear))?;
        record.registry = site.registry.name.clone();
        record.subject.clone_from(&repository);
        let no_name = |_| Error::request(Code::NameInvalid, format!("{repository:?} is not a repository's name"));
        let repository: Repository = repository.parse().map_err(no_name)?;
        permitted_repository(&site, &repository)?;
        let requester = on_behalf(&site, Some(&repository), requester);
        let reading = Reading { site, repository, requester };
        match route {
            Route::Manifest { reference, .. } => self.pulls.manifest(request, reading, reference, record).await,
            Route::Blob { digest, .. } => self.pulls.blob(request, reading, digest, record).await,
            Route::Tags { .. } | Route::Referrers { .. } => {
                let list = list_of(&plain, &named, query);
                let mut response = Box::pin(self.pulls.list(request, &reading, list)).await?;
                link_here(response.headers_mut(), request.uri())?;
                Ok(response)
            }
            _ => Err(unsupported()),
        }
    }
}

fn unsupported() -> Error {
    Error::request(Code::Unsupported, "a mirror is for pulls: ask the registry itself")
}

fn refused(unclear: &Unclear) -> Error {
    let code = match unclear {
        Unclear::Unknown(_) => Code::NameUnknown,
        Unclear::Two { .. } | Unclear::NoOverride(_) => Code::NameInvalid,
    };
    Error::request(code, unclear.to_string())
}

/// Names in a reply the `ns` it is for: "A registry that uses the `ns` query parameter to scope the
/// request SHOULD return the `ns` query parameter value in the `OCI-Namespace` header". An `ns`
/// that names no registry is not repeated.
pub(crate) fn say_namespace(headers: &mut HeaderMap, uri: &Uri, registries: &Registries) {
    let is_api = uri.path() == "/v2" || uri.path().starts_with("/v2/");
    let known = ns(uri.query()).filter(|ns| is_api && registries.by_name(ns).is_some());
    if let Some(value) = known.and_then(|ns| HeaderValue::try_from(&*ns).ok()) {
        headers.insert(OCI_NAMESPACE, value);
    }
}

/// Whether a request is for the mirror, and not for a page.
pub(crate) fn is_mirrored(method: &Method, uri: &Uri) -> bool {
    uri.path().starts_with("/v2/") && matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::Registry;

    fn registries() -> Registries {
        Registries::new(vec![Registry {
            name: "lab".into(),
            hosts: vec!["lab:5000".parse().unwrap()],
            upstream: Some(Origin::from_url("http://lab:5000").unwrap().0),
            ..Registry::default()
        }])
    }

    #[test]
    fn a_namespace_is_said_if_it_is_one() {
        let said = |uri: &str| {
            let mut headers = HeaderMap::new();
            say_namespace(&mut headers, &uri.parse().unwrap(), &registries());
            headers.get(OCI_NAMESPACE).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert_eq!(said("/v2/?ns=lab%3A5000"), "lab:5000");
        assert_eq!(said("/v2/a/tags/list?n=1&ns=lab"), "lab");
        assert_eq!(said("/v2/a/tags/list?ns=evil.example"), "");
        assert_eq!(said("/setup/docker?ns=lab"), "");
    }
}
