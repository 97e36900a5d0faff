//! Lines of `Accept`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::oci::media_type::{self, Accept};

fuzz_target!(|text: &str| {
    let accept = Accept::of(text.lines());
    assert_eq!(Accept::from_bits(accept.bits()), accept);
    if !accept.is_empty() {
        assert_eq!(Accept::of([accept.header().as_str()].into_iter()), accept);
    }
    if let Some(others) = Accept::others(text.lines()) {
        assert!(http::HeaderValue::from_str(&others).is_ok() && others.len() < 4096);
        assert_eq!(Accept::others([others.as_str()].into_iter()), Some(others));
    }
    assert!(!(media_type::is_index(text) && media_type::is_manifest(text)));
    assert_eq!(media_type::is_index(text), media_type::is_index(media_type::essence(text)));
});
