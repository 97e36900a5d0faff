//! `Range` and `Content-Range`. The first eight bytes are the length.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use seawall::http::range::{self, Selection};

fuzz_target!(|input: (u64, &[u8])| {
    let (size, bytes) = input;
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let first = range::first_byte(Some(&value));
    match range::select(Some(&value), size) {
        Selection::Part(part) => {
            assert!(part.start < part.end && part.end <= size);
            assert!(first.is_none_or(|f| f == part.start));
            let read = range::parse_content_range(&range::content_range(&part, size));
            assert!(size == u64::MAX || read.is_some_and(|r| (r.start, r.end_exclusive) == (part.start, part.end)));
        }
        Selection::Parts(parts) => {
            assert!(parts.len() > 1 && parts.iter().all(|part| part.start < part.end && part.end <= size));
            assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= size);
        }
        Selection::Whole | Selection::Unsatisfiable => {}
    }
    if let Some(part) = range::parse_content_range(&value) {
        assert!(part.start < part.end_exclusive && part.total.is_none_or(|t| part.end_exclusive <= t));
    }
});
