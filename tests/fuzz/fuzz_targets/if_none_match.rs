//! Lines of `If-None-Match`; and the header fields seawall writes from any text.
#![no_main]

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use seawall::http::cache_status::{self, Outcome};
use seawall::http::conditional;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|b| *b == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(IF_NONE_MATCH, value);
        }
    }
    let text = String::from_utf8_lossy(bytes);
    if conditional::not_modified(&headers, DIGEST) {
        assert!(text.contains('*') || text.contains(DIGEST));
    }
    assert!(cache_status::warning(&text).len() <= 4096);
    assert!(cache_status::cache_status(Outcome::Stale, Some(&text)).to_str().is_ok());
});
