//! Times as reports have them.

use std::time::SystemTime;

/// RFC 3339, in UTC, to the second.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
