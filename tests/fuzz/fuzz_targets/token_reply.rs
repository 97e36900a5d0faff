//! Bodies that token hosts send.
#![no_main]

use std::time::Duration;

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use seawall::oci::challenge;

fuzz_target!(|bytes: &[u8]| {
    if let Some(reply) = challenge::parse_token_reply(bytes) {
        assert!((Duration::from_secs(60)..=Duration::from_secs(86_400)).contains(&reply.expires_in));
        assert!(HeaderValue::from_str(&format!("Bearer {}", *reply.token)).is_ok());
    }
});
