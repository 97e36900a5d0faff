//! What the pages need besides themselves: a stylesheet, an icon, one script, which is htmx
//! (assets/htmx.LICENSE).

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

const STYLE: &str = include_str!("assets/style.css");
const ICON: &str = include_str!("assets/icon.svg");
const HTMX: &str = include_str!("assets/htmx.js");

/// As long as nobody starts another version, nothing changes of them.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=3600");

pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE)
}

pub(super) async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

pub(super) async fn htmx() -> Response {
    asset("text/javascript; charset=utf-8", HTMX)
}

fn asset(media_type: &'static str, body: &'static str) -> Response {
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, KEPT),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (StatusCode::OK, fields, body).into_response()
}
