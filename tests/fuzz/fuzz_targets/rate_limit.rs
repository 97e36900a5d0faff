//! The four fields of a quota, one on each line.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use seawall::oci::rate_limit::RateLimit;

const NAMES: [&str; 5] =
    ["ratelimit-limit", "ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-remaining", "docker-ratelimit-source"];

fuzz_target!(|bytes: &[u8]| {
    let mut headers = HeaderMap::new();
    for (name, line) in NAMES.into_iter().cycle().zip(bytes.split(|b| *b == b'\n')).take(1000) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
        }
    }
    RateLimit::of(&headers);
});
