//! When a manifest is asked for by GET after its HEAD failed: some registries do not answer HEAD for
//! what they answer GET (Nexus, old ones), and why they refuse is said in a body. What is missing is
//! asked for all the time, and a GET may be counted: not where HEAD is known to tell the truth.

/// What a registry's answers to HEAD of a manifest are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// One was a success.
    has_answered: bool,
    /// One said that there is no such thing, and GET said so too.
    was_confirmed: bool,
    /// One said so of what GET got.
    was_wrong: bool,
}

/// What GET came to where HEAD had failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The manifest.
    It,
    /// That there is none.
    Nothing,
}

impl Heads {
    /// Whether GET is asked for what HEAD did not get, or for why. 401 and 429 are about who asks.
    pub fn asks_by_get(self, status: u16) -> bool {
        match status {
            401 | 408 | 429 => false,
            status if says_missing(status) => !self.is_trusted(),
            500 | 501 => true,
            status => (400..500).contains(&status),
        }
    }

    /// Whether HEAD may have failed since there is none, though GET gets it.
    pub fn is_in_doubt(self, status: u16) -> bool {
        (says_missing(status) || matches!(status, 500 | 501)) && self.asks_by_get(status)
    }

    /// Whether what it does not find is not there. A success alone does not show it: some have HEAD for
    /// what they have fetched themselves.
    fn is_trusted(self) -> bool {
        self.has_answered && self.was_confirmed && !self.was_wrong
    }

    /// After a HEAD that was a success.
    #[must_use]
    pub fn after_success(self) -> Heads {
        Heads { has_answered: true, ..self }
    }

    /// After GET, where HEAD had answered so.
    #[must_use]
    pub fn after_get(self, status: u16, got: Got) -> Heads {
        match got {
            Got::It if says_missing(status) => Heads { was_wrong: true, ..self },
            Got::Nothing if says_missing(status) => Heads { was_confirmed: true, ..self },
            Got::It | Got::Nothing => self,
        }
    }
}

fn says_missing(status: u16) -> bool {
    matches!(status, 404 | 410)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Heads = Heads { has_answered: false, was_confirmed: false, was_wrong: false };

    #[test]
    fn every_status() {
        let trusted = NEW.after_success().after_get(404, Got::Nothing);
        let wrong = trusted.after_get(410, Got::It);
        for status in [404, 410] {
            assert!(!trusted.asks_by_get(status), "{status}");
            for heads in [NEW, NEW.after_success(), NEW.after_get(404, Got::Nothing), wrong, wrong.after_success()] {
                assert!(heads.asks_by_get(status) && heads.is_in_doubt(status), "{heads:?} {status}");
            }
        }
        for heads in [NEW, trusted, wrong] {
            for status in [500, 501] {
                assert!(heads.asks_by_get(status) && heads.is_in_doubt(status), "{heads:?} {status}");
            }
            for status in [400, 403, 405, 412, 451] {
                assert!(heads.asks_by_get(status) && !heads.is_in_doubt(status), "{heads:?} {status}");
            }
            for status in [0, 200, 401, 408, 429, 502, 503, 504] {
                assert!(!heads.asks_by_get(status) && !heads.is_in_doubt(status), "{heads:?} {status}");
            }
        }
    }

    #[test]
    fn a_get_after_another_failure_teaches_nothing() {
        for (status, got) in [(403, Got::It), (500, Got::It), (501, Got::Nothing), (412, Got::Nothing)] {
            assert_eq!(NEW.after_get(status, got), NEW, "{status} {got:?}");
        }
    }
}
