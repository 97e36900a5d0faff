//! What all pages have: the head, where one is, who is signed in.

use askama::Template;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tracing::error;

use crate::admin::reply;

/// The pages, in order.
const TABS: [(&str, &str); 4] =
    [("/", "Overview"), ("/images", "Images"), ("/live", "Live"), ("/upstreams", "Upstreams")];

/// It.
pub(super) struct Frame {
    /// The path of the page.
    pub(super) here: &'static str,
    /// What stands in the forms of who is signed in.
    pub(super) form: Option<String>,
    /// What came of what was done.
    pub(super) said: Option<&'static str>,
    pub(super) version: &'static str,
}

/// One page.
pub(super) struct Tab {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    pub(super) is_here: bool,
}

impl Frame {
    pub(super) fn tabs(&self) -> Vec<Tab> {
        TABS.map(|(path, name)| Tab { path, name, is_here: path == self.here }).into()
    }
}

/// Nothing of another origin is loaded, nor is a page shown within one.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A page.
pub(super) fn page(status: StatusCode, page: &impl Template) -> Response {
    let body = match page.render() {
        Ok(body) => body,
        Err(error) => {
            error!(%error, "a page cannot be written");
            return reply::text(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be written\n");
        }
    };
    let mut response = reply::typed(status, "text/html; charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    response
}

/// To another page, after something was done.
pub(super) fn see(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static(path))]).into_response()
}
