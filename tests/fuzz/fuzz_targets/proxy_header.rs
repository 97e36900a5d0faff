//! The PROXY header that a balancer puts before a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::server::proxy_header::{LONGEST_V2, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Ok(Some(header)) = whole {
        assert!(header.length <= bytes.len() && header.length <= 16 + LONGEST_V2);
        // What follows a header does not change it.
        assert_eq!(parse(&bytes[..header.length]), whole);
    }
    // Nobody waits for ever for the rest.
    assert!(whole != Ok(None) || bytes.len() < 16 + LONGEST_V2);
    // However it comes, it is the same: "more" until it is known, then what the whole says.
    for end in 0..bytes.len().min(256) {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(None) || part == whole, "{end}: {part:?}, then {whole:?}");
    }
});
