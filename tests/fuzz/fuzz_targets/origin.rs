//! Hosts, authorities, URLs and patterns of hosts.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use seawall::http::origin::{Host, HostPattern, Origin, parse_authority};

fuzz_target!(|text: &str| {
    if let Ok(host) = text.parse::<Host>() {
        let printed = host.to_string();
        assert!(printed.is_ascii() && printed.len() <= 253);
        assert_eq!(printed.parse::<Host>().as_ref(), Ok(&host));
        if let Ok(pattern) = text.parse::<HostPattern>() {
            assert!(!pattern.is_wildcard() && pattern.matches(&host, pattern.port().unwrap_or(443), 443));
        }
    }
    if let Some((host, port)) = parse_authority(text, 443) {
        assert_eq!(parse_authority(&format!("{host}:{port}"), 1), Some((host, port)));
    }
    if let Ok((origin, path)) = Origin::from_url(text) {
        assert!(path.starts_with('/') && HeaderValue::from_str(&origin.authority()).is_ok());
        assert_eq!(Origin::from_url(&format!("{origin}{path}")), Ok((origin, path)));
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert!(pattern.to_string().parse::<HostPattern>() == Ok(pattern));
    }
});
