//! seawall as a server of its own: a mirror below `/v2/`, pages for people elsewhere.
//!
//! What a client of a mirror sends is for the mirror: no registry gets its credentials, and it gets what is public, or shared by the
//! operator. Which registry is meant: `policy/mirror`. What is refused is counted and said: `refused`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;

use super::body::Body;
use super::deliver::Negotiated;
use super::gateway::{Gateway, bad_route, pull, rest_of};
use super::next_page::link_here;
use super::permitted::permitted_repository;
use super::target::Here;
use super::telemetry::Record;
use crate::cache::Wanted;
use crate::error::{Error, Result};
use crate::http::cache_status::Outcome;
use crate::oci::error::Code;
use crate::oci::name::Repository;
use crate::oci::percent::decoded;
use crate::oci::route::{self, Route};
use crate::policy::mirror::{self, Said, Unclear};
use crate::policy::registry::Registries;
use crate::upstream::What;

/// A mirror's reply says for which `ns` it is (distribution-spec, "Registry Proxying").
const OCI_NAMESPACE: &str = "oci-namespace";

impl Gateway {
    /// seawall itself: a mirror, or a web server.
    pub(crate) async fn own(
        &self,
        request: Request<Incoming>,
        here: &Here,
        record: &mut Record,
    ) -> Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        if path == "/v2" || path == "/v2/" {
            record.outcome = Outcome::Hit;
            return Ok(super::ping::pong());
        }
        if !path.starts_with("/v2/") {
            record.outcome = Outcome::Hit;
            return Ok(self.pages.answer(request.method(), request.uri(), here, &self.registries));
        }
        let requester = self.upstream.keyring().requester(None, self.clock.now()).through(request.headers());
        record.cost = requester.cost.clone();
        let (host, plain) = with_port(&path);
        let query = request.uri().query();
        let route = route::route(request.method(), &plain, query).map_err(bad_route)?;
        record.kind = route.kind();
        let unsupported = || Error::request(Code::Unsupported, "a mirror is for pulls: ask the registry itself");
        let named = route.repository().map(ToString::to_string).ok_or_else(unsupported)?;
        let ns = ns(query);
        let said = Said { host: host.as_deref(), ns: ns.as_deref() };
        let meant = mirror::meant(&self.registries, &named, said).map_err(|unclear| refused(&unclear))?;
        record.registry = meant.site.registry.name.clone();
        record.subject.clone_from(&meant.repository);
        let name = |_| Error::request(Code::NameInvalid, format!("{:?} is not a repository's name", meant.repository));
        let repository: Repository = meant.repository.parse().map_err(name)?;
        permitted_repository(&meant.site, &repository)?;
        let requester = self.on_behalf(&meant.site, Some(&repository), requester);
        match route {
            Route::Manifest { reference, .. } => {
                self.manifest(request, meant.site, repository, reference, requester, record).await
            }
            Route::Blob { digest, .. } => {
                record.reference = digest.to_string();
                let pull = pull(&request, meant.site, repository, Wanted::Blob(digest), requester);
                self.pulled(&pull, request.headers(), Negotiated::No, record).await
            }
            Route::Tags { .. } | Route::Referrers { .. } => {
                let what = What::List(rest_of(&plain, &named, query));
                let asking = Box::pin(self.as_asked(&request, &meant.site, &repository, &what, &requester));
                let mut response = asking.await?;
                link_here(response.headers_mut(), request.uri())?;
                Ok(response)
            }
            _ => Err(unsupported()),
        }
    }
}

fn refused(unclear: &Unclear) -> Error {
    let code = match unclear {
        Unclear::Unknown(_) => Code::NameUnknown,
        Unclear::Two { .. } => Code::NameInvalid,
    };
    Error::request(code, unclear.to_string())
}

/// `/v2/lab:5000/app/…`: a registry by its host and port, and the path without it. No repository's name has a colon, so it is taken
/// off before one is read.
fn with_port(path: &str) -> (Option<Cow<'_, str>>, Cow<'_, str>) {
    let named = path.strip_prefix("/v2/").and_then(|path| path.split_once('/'));
    match named.map(|(first, rest)| (decoded(first), rest)).filter(|(first, _)| first.contains(':')) {
        Some((host, rest)) => (Some(host), format!("/v2/{rest}").into()),
        None => (None, path.into()),
    }
}

/// `ns=…` as it stands in a query.
pub(crate) fn ns_pair(query: Option<&str>) -> Option<&str> {
    query?.split('&').find(|pair| pair.starts_with("ns="))
}

/// `ns`, the registry's name (distribution-spec, "Registry Proxying").
fn ns(query: Option<&str>) -> Option<Cow<'_, str>> {
    ns_pair(query)?.strip_prefix("ns=").map(decoded)
}

/// Says in a reply for which `ns` it is: "A registry that uses the `ns` query parameter to scope the request SHOULD return the `ns`
/// query parameter value in the `OCI-Namespace` header". One that names nothing has no reply to be for.
pub(crate) fn say_namespace(headers: &mut HeaderMap, uri: &Uri, registries: &Registries) {
    let is_api = uri.path() == "/v2" || uri.path().starts_with("/v2/");
    let known = ns(uri.query()).filter(|ns| is_api && registries.by_name(ns).is_some());
    if let Some(value) = known.and_then(|ns| HeaderValue::try_from(&*ns).ok()) {
        headers.insert(OCI_NAMESPACE, value);
    }
}

/// Whether a request is one to the mirror, and no page.
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
    fn a_port_in_a_path_is_no_part_of_a_repositorys_name() {
        let read = |path: &str| {
            let (host, plain) = with_port(path);
            format!("{plain} {}", host.unwrap_or_default())
        };
        assert_eq!(read("/v2/lab:5000/a/tags/list"), "/v2/a/tags/list lab:5000");
        assert_eq!(read("/v2/lab%3A5000/a/tags/list"), "/v2/a/tags/list lab:5000");
        assert_eq!(read("/v2/lab/a/tags/list"), "/v2/lab/a/tags/list ");
        assert_eq!(read("/v2/a/manifests/sha256:0"), "/v2/a/manifests/sha256:0 ");
        assert_eq!(read("/v2/"), "/v2/ ");
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
