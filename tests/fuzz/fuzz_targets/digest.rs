//! Digests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::oci::digest::Digest;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
});
