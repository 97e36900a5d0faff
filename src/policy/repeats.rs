//! How often the log says that the mirror refused a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, SystemTime};

use super::clients::Notice;

/// The same refusal by the same registry is logged once in this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Refusals that were logged: at most one entry for each pair of registry and code.
#[derive(Debug, Default)]
pub struct Notices(HashMap<(String, &'static str), Said>);

#[derive(Debug)]
struct Said {
    at: SystemTime,
    unsaid: u64,
}

impl Notices {
    /// Counts one more refusal. `registry` and `code` are of fixed lists.
    pub fn notice(&mut self, registry: &str, code: &'static str, now: SystemTime) -> Notice {
        let said = self.0.entry((registry.to_owned(), code));
        let is_first = matches!(said, Entry::Vacant(_));
        let said = said.or_insert(Said { at: now, unsaid: 0 });
        let is_over = now.duration_since(said.at).is_ok_and(|passed| passed >= WINDOW);
        if is_first || is_over {
            said.at = now;
            return Notice::Say { unsaid: std::mem::take(&mut said.unsaid) };
        }
        said.unsaid += 1;
        Notice::Count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_refusals_is_a_line_a_minute() {
        let (start, mut notices) = (SystemTime::UNIX_EPOCH, Notices::default());
        let say = |unsaid| Notice::Say { unsaid };
        assert_eq!(notices.notice("docker.io", "DENIED", start), say(0));
        for _ in 0..1000 {
            assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW / 2), Notice::Count);
        }
        assert_eq!(notices.notice("docker.io", "TOOMANYREQUESTS", start), say(0));
        assert_eq!(notices.notice("ghcr.io", "DENIED", start), say(0));
        assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW), say(1000));
        assert_eq!(notices.notice("docker.io", "DENIED", start + WINDOW), Notice::Count);
        assert_eq!(notices.0.len(), 3);
    }
}
