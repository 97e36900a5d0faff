//! Answers of this listener: a body, its type, and `no-store`.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    typed(status, "application/json", format!("{body:#}\n"))
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    typed(status, "text/plain; charset=utf-8", body.into())
}

pub(super) fn typed(status: StatusCode, media_type: &'static str, body: String) -> Response {
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let now = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (status, [content_type, now], body).into_response()
}

/// What needs the cache was asked for before that is loaded.
pub(super) fn starting() -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, "starting: the cache is being loaded\n")
}
