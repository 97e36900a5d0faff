//! Which header fields go where.

use ::http::HeaderMap;
use ::http::header::{self, HeaderName};

/// What ends at this hop (RFC 9110, 7.6.1), named or not. `Proxy-*` besides.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What `Connection` must not name (RFC 9110, 7.6.1: "A sender MUST NOT send a connection option
/// corresponding to a field that is intended for all recipients of the content"): without these a
/// message would be another one than the one that was checked.
const END_TO_END: [HeaderName; 10] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::LOCATION,
    header::RANGE,
    header::WWW_AUTHENTICATE,
    DOCKER_CONTENT_DIGEST,
];

/// The digest of what is answered (distribution-spec, "Pulling manifests").
pub const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// This is a registry.
pub const DOCKER_DISTRIBUTION_API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What a stored answer keeps. Lengths, entity tags and ranges are computed again from the bytes;
/// all else is about the moment, the connection or the one client it was for: cookies, dates,
/// quotas, trace ids, `Alt-Svc`, encodings.
const STORED: [HeaderName; 3] = [header::CONTENT_TYPE, DOCKER_CONTENT_DIGEST, DOCKER_DISTRIBUTION_API_VERSION];

/// Takes out what is between two neighbours only: before a request is sent on, before a response
/// is.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|option| option.trim().parse().ok())
        .filter(|name| !END_TO_END.contains(name))
        .collect();
    let proxy: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in HOP_BY_HOP.iter().chain(&named).chain(&proxy) {
        headers.remove(name);
    }
}

/// Marks what must be in no log, and in no table of HPACK (RFC 7541, 7.1.3).
pub fn mark_sensitive(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE] {
        if let header::Entry::Occupied(mut entry) = headers.entry(name) {
            entry.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// Takes out what some servers read as another field (CGI turns `-` into `_`): without it here,
/// with it there, a message is two.
pub fn strip_look_alikes(headers: &mut HeaderMap) {
    let is_one = |name: &&HeaderName| {
        let plain = name.as_str().replace('_', "-");
        let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::AUTHORIZATION];
        plain != name.as_str() && framing.iter().chain(&HOP_BY_HOP).any(|field| field.as_str() == plain)
    };
    let look_alikes: Vec<HeaderName> = headers.keys().filter(is_one).cloned().collect();
    for name in look_alikes {
        headers.remove(name);
    }
}

/// The fields of an upstream's answer that are kept beside its bytes; each at most once.
pub fn stored(upstream: &HeaderMap) -> HeaderMap {
    STORED.iter().filter_map(|name| Some((name.clone(), upstream.get(name)?.clone()))).collect()
}

/// The fields of an upstream's answer that a client gets when the answer is passed on: all but what
/// is between two neighbours, and the advertisement of other ways to the host, which lead past
/// seawall.
pub fn relayed(upstream: &HeaderMap) -> HeaderMap {
    let mut headers = upstream.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove(header::ALT_SVC);
    mark_sensitive(&mut headers);
    headers
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_ends_at_this_hop() {
        let mut headers = map(&[
            ("connection", "close, X-One"),
            ("connection", "x-two ,, not a name, content-length, Host"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-status", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("host", "ghcr.io"),
            ("content-length", "5"),
            ("authorization", "Bearer x"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["authorization", "content-length", "host", "set-cookie", "x-three"]);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn what_is_kept_and_what_is_passed_on() {
        let upstream = map(&[
            ("content-type", "application/json"),
            ("content-type", "text/html"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("docker-content-digest", "sha256:x"),
            ("docker-distribution-api-version", "registry/2.0"),
            ("etag", "\"x\""),
            ("set-cookie", "sid=1"),
            ("ratelimit-remaining", "1"),
            ("alt-svc", "h3=\":443\""),
            ("connection", "keep-alive"),
        ]);
        let kept = stored(&upstream);
        assert_eq!(names(&kept), ["content-type", "docker-content-digest", "docker-distribution-api-version"]);
        assert_eq!(kept.get_all("content-type").iter().count(), 1);
        let passed = relayed(&upstream);
        assert!(passed.get("alt-svc").is_none() && passed.get("connection").is_none());
        assert_eq!(passed.keys_len(), upstream.keys_len() - 2);
    }

    proptest! {
        #[test]
        fn any_connection_header(line in "([a-z-]{1,8}|[, ]|host|content-length|.){0,12}") {
            if let Ok(value) = HeaderValue::from_str(&line) {
                let mut headers = map(&[("host", "x"), ("content-length", "1"), ("range", "bytes=0-")]);
                headers.insert(header::CONNECTION, value);
                strip_hop_by_hop(&mut headers);
                prop_assert_eq!(names(&headers), ["content-length", "host", "range"]);
            }
        }
    }
}
