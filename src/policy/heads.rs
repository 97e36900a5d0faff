//! Registries that do not answer HEAD for what they answer GET (Nexus, old ones): when a tag is asked
//! for by GET after its HEAD failed. Registries count a GET, so not where HEAD is known to work.

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
    /// Whether GET may get what HEAD did not. 401 and 429 are about who asks.
    pub fn may_be_wrong(self, status: u16) -> bool {
        match status {
            405 => true,
            400 | 403 | 404 | 500 | 501 => self != Heads::Answered,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status() {
        for status in [400, 403, 404, 500, 501] {
            assert!(Heads::Unknown.may_be_wrong(status) && Heads::Wrong.may_be_wrong(status), "{status}");
            assert!(!Heads::Answered.may_be_wrong(status), "{status}");
        }
        for heads in [Heads::Unknown, Heads::Answered, Heads::Wrong] {
            assert!(heads.may_be_wrong(405));
            for status in [200, 401, 410, 412, 429, 451, 502, 503, 504] {
                assert!(!heads.may_be_wrong(status), "{heads:?} {status}");
            }
        }
    }
}
