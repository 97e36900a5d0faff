//! The operator's `allow` and `deny` of repositories, before anything goes upstream.
//!
//! If some repositories are refused, so is a path that might name one in a way that a registry
//! understands and seawall does not.

use http::{Request, header};

use crate::error::{Error, Result};
use crate::oci::error::Code;
use crate::oci::mount::{mounted_from, mounts};
use crate::oci::name::Repository;
use crate::oci::percent::decoded;
use crate::oci::route::{Route, cut};
use crate::policy::registry::Site;

/// Checks all repositories that a request names.
///
/// # Errors
/// The operator refuses one of them.
pub(crate) fn permitted<B>(site: &Site, route: &Route, request: &Request<B>) -> Result<()> {
    let path = request.uri().path();
    let is_restricted = !site.registry.repositories.permits_all();
    if is_restricted && (is_doubtful(route, path) || request.uri().query().is_some_and(|query| query.contains(';'))) {
        return Err(denied(site, path));
    }
    if let Route::Upload { .. } = route {
        permitted_mount(site, request)?;
    }
    route.repository().map_or(Ok(()), |repository| permitted_repository(site, repository))
}

/// Checks one repository.
///
/// # Errors
/// The operator refuses it.
pub(crate) fn permitted_repository(site: &Site, repository: &Repository) -> Result<()> {
    if site.registry.repositories.permits(repository) { Ok(()) } else { Err(denied(site, repository.as_str())) }
}

/// Checks the repository that a mount takes bytes from. Registries read its name in a form too
/// (Go's `FormValue`).
fn permitted_mount<B>(site: &Site, request: &Request<B>) -> Result<()> {
    let form = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = form.is_some_and(|name| name.to_ascii_lowercase().contains("form"));
    if is_form && !site.registry.repositories.permits_all() {
        return Err(denied(site, request.uri().path()));
    }
    let query = request.uri().query();
    let from = mounted_from(query);
    // Without a source a registry takes it from where it likes (distribution-spec 1.1, "Mounting a blob").
    if from.is_empty() && mounts(query) && !site.registry.repositories.permits_all() {
        let name = &site.registry.name;
        let message = format!(
            "a mount that does not say from where may be from a repository that `allow` and `deny` of the [[registry]] {name} refuse: say `from`, or upload"
        );
        return Err(Error::request(Code::Denied, message));
    }
    for from in from {
        match from.parse::<Repository>() {
            Ok(repository) => permitted_repository(site, &repository)?,
            Err(_) => return Err(denied(site, &from)),
        }
    }
    Ok(())
}

/// Whether a path is not in its plain form (encoded, with dots or parameters), or not of the API that
/// names repositories: a registry's own API names them in its own way. Where tokens are had is not asked
/// here.
fn is_doubtful(route: &Route, path: &str) -> bool {
    // What follows is the registry's own, and opaque, unless it leads out of there.
    let (named, session) = match route {
        Route::Upload { .. } => path.split_once("/blobs/uploads").unwrap_or((path, "")),
        _ => (path, ""),
    };
    let encoded = named.contains(['%', ';', '\\']) || named.contains("//") || named.split('/').any(is_dots);
    let is_api = path == "/v2" || path.starts_with("/v2/") && !matches!(route, Route::Other);
    encoded || leads_out(session) || !(is_api || path.starts_with(SESSIONS))
}

/// Where Google's registries have the sessions of uploads that were begun, and permitted, below `/v2/`.
const SESSIONS: &str = "/artifacts-uploads/";

/// Servers on the way decode what they get, one after another: more often than this none does.
const MOST_CODINGS: usize = 4;

/// Whether a path leads out of where it is, however often it is decoded.
fn leads_out(session: &str) -> bool {
    let mut path = session.to_owned();
    for _ in 0..MOST_CODINGS {
        let next = decoded(&path).into_owned();
        if next == path {
            return path.split(['/', '\\']).any(is_dots);
        }
        path = next;
    }
    true
}

fn is_dots(part: &str) -> bool {
    part == "." || part == ".."
}

fn denied(site: &Site, what: &str) -> Error {
    let (name, what) = (&site.registry.name, what.trim_start_matches("/v2/").trim_start_matches('/'));
    // A path may be as long as a head.
    let message =
        format!("{name}/{} may not be used here: `allow` and `deny` of the [[registry]] {name} say so", cut(what));
    Error::request(Code::Denied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::route::route;
    use http::Method;

    #[test]
    fn what_might_name_a_repository_in_disguise_is_doubtful() {
        for (method, path, doubtful) in [
            (Method::GET, "/v2/", false),
            (Method::GET, "/v2", false),
            (Method::GET, "/v2/_catalog", false),
            (Method::GET, "/v2/a/v2/b/manifests/1", false),
            (Method::GET, "/v2/a/b/tags/list", false),
            (Method::PATCH, "/v2/a/b/blobs/uploads/4b1-%2F=", false),
            (Method::GET, "/artifacts-uploads/namespaces/x", false),
            (Method::GET, "/V2/a/b/manifests/1", true),
            (Method::GET, "/api/v1/repository/a/b", true),
            (Method::GET, "/artifactory/docker-local/a/1/manifest.json", true),
            (Method::PUT, "/v2/a/b/blobs/uploads/..%2f..%2f..%2fc/d/blobs/uploads/1", true),
            (Method::PUT, "/v2/a/b/blobs/uploads/%252e%252e%252fc", true),
            (Method::PUT, "/v2/a/b/blobs/uploads/%252525252525252541", true),
            (Method::GET, "/v2/a/b/blobs/uploads/../../../c/d/tags/list", true),
            (Method::GET, "/v2/a/b/_trust/tuf/root.json", true),
            (Method::GET, "/%762/a/b/tags/list", true),
            (Method::PUT, "/v2/a%2fb/manifests/1", true),
            (Method::POST, "/v2/a/../b/blobs/uploads/", true),
            (Method::GET, "//v2/a/b/tags/list", true),
            (Method::GET, "/x/../v2/a/b/tags/list", true),
            (Method::GET, "/v2;x/a/b/tags/list", true),
            (Method::GET, "/artifactory/api/docker/hub/v2/a/b/manifests/1", true),
        ] {
            let route = route(&method, path, None).unwrap_or(Route::Other);
            assert_eq!(is_doubtful(&route, path), doubtful, "{method} {path}");
        }
    }
}
