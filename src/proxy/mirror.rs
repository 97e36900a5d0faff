//! seawall as a server of its own: a mirror below `/v2/`, pages for people elsewhere.
//!
//! What a client of a mirror sends is for the mirror: no registry gets its credentials, and it gets what is public, or shared by the
//! operator. Which registry is meant: `policy/mirror`. What is refused is counted and said: `refused`.

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::body::Body;
use super::deliver::Negotiated;
use super::door::Here;
use super::gateway::{Gateway, bad_route, pull, rest_of};
use super::permitted::permitted_repository;
use super::record::Record;
use crate::cache::Wanted;
use crate::error::{Error, Result};
use crate::http::cache_status::Outcome;
use crate::oci::error::Code;
use crate::oci::name::Repository;
use crate::oci::route::{self, Route};
use crate::policy::mirror;
use crate::policy::registry::{Registries, Site};
use crate::upstream::What;

/// A mirror's reply says for which `ns` it is (distribution-spec, "Registry Proxying").
const OCI_NAMESPACE: &str = "oci-namespace";

/// The path of a request, and the registry that its first part names if that part could be in no repository's name.
struct Path<'a> {
    /// As a registry would read it.
    plain: std::borrow::Cow<'a, str>,
    site: Option<Site>,
}

impl Gateway {
    /// seawall itself: a mirror, or a web server.
    pub(super) async fn own(
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
        let asker = self.upstream.keyring().asker(None, self.clock.now());
        record.bill = asker.bill.clone();
        let Path { plain, site } = with_port(&self.registries, &path).map_err(unknown)?;
        let query = request.uri().query();
        let route = route::route(request.method(), &plain, query).map_err(bad_route)?;
        record.kind = route.kind();
        let unsupported = || Error::request(Code::Unsupported, "a mirror is for pulls: ask the registry itself");
        let named = route.repository().map(ToString::to_string).ok_or_else(unsupported)?;
        let ns = site.map(|site| site.namespace.to_string()).or_else(|| ns(query));
        let meant = mirror::meant(&self.registries, &named, ns.as_deref()).map_err(unknown)?;
        record.registry = meant.site.registry.name.clone();
        record.subject.clone_from(&meant.repository);
        let name = |_| Error::request(Code::NameInvalid, format!("{:?} is not a repository's name", meant.repository));
        let repository: Repository = meant.repository.parse().map_err(name)?;
        permitted_repository(&meant.site, &repository)?;
        let asker = self.on_behalf(&meant.site, Some(&repository), asker);
        match route {
            Route::Manifest { reference, .. } => {
                self.manifest(request, meant.site, repository, reference, asker, record).await
            }
            Route::Blob { digest, .. } => {
                record.reference = digest.to_string();
                let pull = pull(&request, meant.site, repository, Wanted::Blob(digest), asker);
                self.pulled(&pull, request.headers(), Negotiated::No, record).await
            }
            Route::Tags { .. } | Route::Referrers { .. } => {
                let what = What::List(rest_of(&plain, &named, query));
                let mut response = self.as_asked(&request, &meant.site, &repository, &what, &asker).await?;
                link_here(response.headers_mut(), request.uri());
                Ok(response)
            }
            _ => Err(unsupported()),
        }
    }
}

fn unknown(unknown: mirror::Unknown) -> Error {
    let message = format!("{:?} is no registry that this mirror is configured for: add a [[registry]]", unknown.0);
    Error::request(Code::NameUnknown, message)
}

/// `/v2/lab:5000/app/…`: a registry by its host and port. No repository's name has a colon, so it is taken off before one is read.
fn with_port<'a>(registries: &Registries, path: &'a str) -> std::result::Result<Path<'a>, mirror::Unknown> {
    let named = path.strip_prefix("/v2/").and_then(|path| path.split_once('/'));
    let named = named.map(|(first, rest)| (first.replace("%3A", ":").replace("%3a", ":"), rest));
    let Some((name, rest)) = named.filter(|(name, _)| name.contains(':')) else {
        return Ok(Path { plain: path.into(), site: None });
    };
    let site = registries.by_name(&name).ok_or(mirror::Unknown(name))?;
    Ok(Path { plain: format!("/v2/{rest}").into(), site: Some(site) })
}

/// `ns`, the registry's name (distribution-spec, "Registry Proxying").
fn ns(query: Option<&str>) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix("ns="))?;
    Some(value.replace("%3A", ":").replace("%3a", ":"))
}

/// Says in a reply for which `ns` it is: "A registry that uses the `ns` query parameter to scope the request SHOULD return the `ns`
/// query parameter value in the `OCI-Namespace` header". One that names nothing has no reply to be for.
pub(super) fn say_namespace(headers: &mut HeaderMap, uri: &Uri, registries: &Registries) {
    let is_api = uri.path() == "/v2" || uri.path().starts_with("/v2/");
    let known = ns(uri.query()).filter(|ns| is_api && registries.by_name(ns).is_some());
    if let Some(value) = known.and_then(|ns| HeaderValue::try_from(ns).ok()) {
        headers.insert(OCI_NAMESPACE, value);
    }
}

/// A list goes on where the client began it: at this mirror, under the name it used (distribution-spec, "Listing Tags"). Upstream's
/// link may be a path, or a whole URL; what it says of where to go on is in its query.
fn link_here(headers: &mut HeaderMap, asked: &Uri) {
    let links: Vec<HeaderValue> = headers.get_all(header::LINK).iter().cloned().collect();
    headers.remove(header::LINK);
    let next = links.iter().filter_map(|link| link.to_str().ok()).find_map(|link| {
        let (to, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        Some((to.split_once('?')?.1, parameters))
    });
    let Some((query, parameters)) = next else { return };
    let kept = query.split('&').filter(|pair| !pair.starts_with("ns="));
    let ns = asked.query().into_iter().flat_map(|query| query.split('&')).find(|pair| pair.starts_with("ns="));
    let query: Vec<&str> = kept.chain(ns).collect();
    if let Ok(value) = HeaderValue::try_from(format!("<{}?{}>{parameters}", asked.path(), query.join("&"))) {
        headers.insert(header::LINK, value);
    }
}

/// Whether a request is one to the mirror, and no page.
pub(super) fn is_mirrored(method: &Method, uri: &Uri) -> bool {
    uri.path().starts_with("/v2/") && matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origin::Origin;
    use crate::policy::registry::Registry;
    use proptest::prelude::*;

    fn registries() -> Registries {
        Registries::new(vec![Registry {
            name: "lab".into(),
            hosts: vec!["lab:5000".parse().unwrap()],
            upstream: Some(Origin::from_url("http://lab:5000").unwrap().0),
            ..Registry::default()
        }])
    }

    fn rewritten(asked: &str, link: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, link.parse().unwrap());
        link_here(&mut headers, &asked.parse().unwrap());
        headers.get(header::LINK).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn links_lead_here() {
        for (asked, link, expected) in [
            ("/v2/a/tags/list", "</v2/a/tags/list?last=1>; rel=\"next\"", "</v2/a/tags/list?last=1>; rel=\"next\""),
            (
                "/v2/ghcr.io/a/tags/list?n=1",
                "<https://ghcr.io/v2/a/tags/list?last=1&n=1>; rel=next",
                "</v2/ghcr.io/a/tags/list?last=1&n=1>; rel=next",
            ),
            (
                "/v2/lab:5000/a/tags/list",
                "</v2/a/tags/list?last=1>;rel=next",
                "</v2/lab:5000/a/tags/list?last=1>;rel=next",
            ),
            (
                "/v2/a/tags/list?n=1&ns=lab%3A5000",
                "</v2/a/tags/list?ns=upstreams&last=1>; rel=next",
                "</v2/a/tags/list?last=1&ns=lab%3A5000>; rel=next",
            ),
            (
                "/v2/a/referrers/sha256:0?artifactType=x",
                "</v2/a/referrers/sha256:0?next=a%2Fb>; rel=next",
                "</v2/a/referrers/sha256:0?next=a%2Fb>; rel=next",
            ),
            ("/v2/a/tags/list", "</v2/a/tags/list>; rel=next", ""),
            ("/v2/a/tags/list", "nonsense", ""),
        ] {
            assert_eq!(rewritten(asked, link), expected);
        }
    }

    #[test]
    fn a_port_in_a_path_is_no_part_of_a_repositorys_name() {
        let registries = registries();
        let read = |path: &str| match with_port(&registries, path) {
            Ok(Path { plain, site }) => {
                format!("{plain} {}", site.map(|site| site.namespace.to_string()).unwrap_or_default())
            }
            Err(unknown) => format!("no {}", unknown.0),
        };
        assert_eq!(read("/v2/lab:5000/a/tags/list"), "/v2/a/tags/list lab");
        assert_eq!(read("/v2/lab%3A5000/a/tags/list"), "/v2/a/tags/list lab");
        assert_eq!(read("/v2/lab/a/tags/list"), "/v2/lab/a/tags/list ");
        assert_eq!(read("/v2/lab:5001/a/tags/list"), "no lab:5001");
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

    proptest! {
        #[test]
        fn any_link(link in "\\PC{0,40}", query in "[a-z=&]{0,12}") {
            if let Ok(value) = HeaderValue::try_from(&link) {
                let mut headers = HeaderMap::new();
                headers.insert(header::LINK, value);
                link_here(&mut headers, &format!("/v2/a/tags/list?{query}").parse().unwrap());
                let left = headers.get(header::LINK).and_then(|value| value.to_str().ok()).unwrap_or("</v2/a/tags/list?");
                prop_assert!(left.starts_with("</v2/a/tags/list?"));
            }
        }
    }
}
