//! The first bytes of a connection, and a ClientHello in pieces. The first byte says how long the
//! pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::server::sniff::{HelloReader, Sniff, sniff};

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = (usize::from(input.0) + 1, input.1);
    // Once it is known what it is, more bytes change nothing.
    let mut known = Sniff::More;
    for end in 0..=bytes.len().min(64) {
        let seen = sniff(&bytes[..end]);
        assert!(known == Sniff::More || known == seen);
        known = seen;
    }
    // A ClientHello is the same however it comes.
    let whole = HelloReader::new().read(bytes).ok().flatten();
    let mut reader = HelloReader::new();
    for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
        match reader.read(&bytes[..end]) {
            Ok(None) => {}
            Ok(Some(hello)) => {
                assert!(hello.consumed <= end);
                if let Some(whole) = whole {
                    assert!(hello.sni == whole.sni && hello.alpn == whole.alpn);
                }
                return;
            }
            Err(failed) => {
                assert!(failed.alert.len() < 64);
                return;
            }
        }
    }
});
