//! Bodies of registry errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::oci::error;

fuzz_target!(|bytes: &[u8]| {
    if let Some(code) = error::code_of(bytes) {
        assert!(code.bytes().all(|b| b.is_ascii_graphic()));
    }
    let text = String::from_utf8_lossy(bytes);
    let body = error::body(error::Code::Denied, &text, Some(&text));
    assert_eq!(error::code_of(&body).as_deref(), Some("DENIED"));
});
