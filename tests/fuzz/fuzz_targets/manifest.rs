//! Manifests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::oci::manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = manifest::parse(bytes) {
        assert!(manifest.inferred_media_type().bytes().all(|b| b.is_ascii_graphic()));
    }
});
