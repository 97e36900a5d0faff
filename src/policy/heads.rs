//! When a tag is asked for by GET after its HEAD failed: some registries do not answer HEAD for what
//! they answer GET (Nexus, old ones), and why they refuse is said in a body. What is missing is asked
//! for all the time, and a GET may be counted: not where HEAD is known to work.

/// What a registry's answers to HEAD of a manifest are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heads {
    /// None was a success yet.
    #[default]
    Unknown,
    /// One was: what it denies it does not have.
    Answered,
    /// One failed where GET did not.
    Wrong,
}

impl Heads {
    /// Whether GET is asked for what HEAD did not get, or for why. 401 and 429 are about who asks.
    pub fn asks_by_get(self, status: u16) -> bool {
        match status {
            401 | 408 | 429 => false,
            status if is_doubtful(status) => self != Heads::Answered,
            status => (400..500).contains(&status),
        }
    }

    /// What they are worth after GET got what HEAD had answered so.
    #[must_use]
    pub fn after_get(self, status: u16) -> Heads {
        if is_doubtful(status) { Heads::Wrong } else { self }
    }
}

/// Whether HEAD's answer may mean that there is no such thing, or no HEAD.
fn is_doubtful(status: u16) -> bool {
    matches!(status, 404 | 410 | 500 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status() {
        for status in [404, 410, 500, 501] {
            assert!(Heads::Unknown.asks_by_get(status) && Heads::Wrong.asks_by_get(status), "{status}");
            assert!(!Heads::Answered.asks_by_get(status), "{status}");
        }
        for heads in [Heads::Unknown, Heads::Answered, Heads::Wrong] {
            for status in [400, 403, 405, 412, 451] {
                assert!(heads.asks_by_get(status), "{heads:?} {status}");
            }
            assert_eq!((heads.after_get(404), heads.after_get(403)), (Heads::Wrong, heads));
            for status in [200, 401, 429, 502, 503, 504] {
                assert!(!heads.asks_by_get(status), "{heads:?} {status}");
            }
        }
    }
}
