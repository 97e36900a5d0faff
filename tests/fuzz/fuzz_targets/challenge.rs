//! Lines of `WWW-Authenticate`.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use seawall::oci::challenge;

fuzz_target!(|text: &str| {
    for found in challenge::parse(text.lines()) {
        let printed = found.to_string();
        assert!(HeaderValue::from_str(&printed).is_ok_and(|v| v.to_str().is_ok()));
        if let Some(url) = found.token_url(Some("repository:a/b:pull")) {
            assert!(url.bytes().all(|b| b.is_ascii_graphic()));
        }
        assert_eq!(challenge::parse([printed.as_str()].into_iter()), [found]);
    }
});
