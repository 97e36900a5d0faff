//! An answer before faults, and how it becomes a response.

use std::ops::Range;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

use super::body::{Cut, Played};
use super::faults::Effect;
use super::image::Blob;
use super::record::Seen;
use super::wire::Line;

pub(super) type Body = UnsyncBoxBody<Bytes, Cut>;

/// Whether a `Range` is honoured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranges {
    Honoured,
    Ignored,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Blob,
    pub(super) ranges: Ranges,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &str, content: Blob) -> Answer {
        let mut answer = Answer { status, headers: HeaderMap::new(), content, ranges: Ranges::Ignored };
        if !content_type.is_empty() {
            answer.set("content-type", content_type);
        }
        answer
    }

    pub(super) fn empty(status: StatusCode) -> Answer {
        Answer::new(status, "", Blob::new(Bytes::new()))
    }

    pub(super) fn text(status: StatusCode, text: &str) -> Answer {
        Answer::new(status, "text/plain", Blob::new(text.to_owned()))
    }

    pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
        Answer::new(status, "application/json", Blob::new(value.to_string()))
    }

    pub(super) fn error(status: StatusCode, code: &str) -> Answer {
        let message = code.to_lowercase().replace('_', " ");
        Answer::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Answer {
        self.set(name, value);
        self
    }

    /// Ranges, HEAD and whatever the faults want.
    pub(super) fn deliver(mut self, seen: &Seen, effects: &[Effect], line: &Line) -> Response<Body> {
        let total = self.content.len();
        let mut range = 0..total;
        let ignored = effects.iter().any(|effect| matches!(effect, Effect::NoRange));
        if self.ranges == Ranges::Honoured && self.status == StatusCode::OK && !ignored {
            self.set("accept-ranges", "bytes");
            match seen.range().map(|asked| part(asked, total)) {
                Some(Some(part)) if part.is_empty() => {
                    self = Answer::empty(StatusCode::RANGE_NOT_SATISFIABLE);
                    self.set("content-range", &format!("bytes */{total}"));
                    range = 0..0;
                }
                Some(Some(part)) => {
                    self.status = StatusCode::PARTIAL_CONTENT;
                    range = shifted(part, effects);
                    self.set("content-range", &format!("bytes {}-{}/{total}", range.start, range.end - 1));
                }
                Some(None) | None => {}
            }
        }
        let mut length = Some(i64::try_from(range.end - range.start).expect("below 2^63"));
        let mut version = None;
        for effect in effects {
            match effect {
                Effect::ClaimLength(off_by) => length = length.map(|length| (length + off_by).max(0)),
                Effect::Chunked => length = None,
                Effect::NoLength => {
                    length = None;
                    version = (seen.version != http::Version::HTTP_2).then_some(http::Version::HTTP_10);
                }
                Effect::NoDigest => {
                    self.headers.remove("docker-content-digest");
                    self.headers.remove(header::ETAG);
                }
                Effect::Empty => {
                    range = range.start..range.start;
                    length = Some(0);
                }
                Effect::Set(name, value) => {
                    self.headers.insert(name.clone(), value.clone());
                }
                Effect::LongLocation(bytes) => self.stretch_location(*bytes),
                _ => {}
            }
        }
        let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&self.status);
        if let Some(length) = length.filter(|_| !bodiless) {
            self.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        seen.fate.status.store(self.status.as_u16(), SeqCst);
        line.news.tell();
        let body = if seen.method == Method::HEAD || bodiless {
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        } else {
            Played::new(self.content, range, effects, seen, line.clone()).boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(version) = version {
            *response.version_mut() = version;
        }
        response
    }

    fn stretch_location(&mut self, bytes: usize) {
        let Some(location) = self.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
        let joint = if location.contains('?') { '&' } else { '?' };
        let longer = format!("{location}{joint}pad={}", "p".repeat(bytes));
        self.set("location", &longer);
    }
}

fn shifted(part: Range<u64>, effects: &[Effect]) -> Range<u64> {
    let by = effects.iter().find_map(|effect| match effect {
        Effect::ShiftRange(by) => Some(*by),
        _ => None,
    });
    (part.start + by.unwrap_or(0)).min(part.end - 1)..part.end
}

/// The bytes of a single range (RFC 9110 14.1.2): empty when not satisfiable, None when to be
/// ignored.
fn part(asked: &str, total: u64) -> Option<Range<u64>> {
    let (first, last) = asked.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        return Some(total.saturating_sub(suffix)..total);
    }
    let first: u64 = first.parse().ok()?;
    let last: u64 = if last.is_empty() { total } else { last.parse::<u64>().ok()?.saturating_add(1) };
    if last <= first && first < total {
        return None;
    }
    Some(if first < total { first..last.min(total) } else { 0..0 })
}
