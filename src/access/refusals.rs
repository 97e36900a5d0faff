//! When upstream last refused anonymous, and the operator's account, in a repository: on disk before
//! it is answered, for what it ends is on disk.

use std::collections::HashMap;

use parking_lot::RwLock;

use crate::oci::name::RepositoryKey;
use crate::policy::stamp::Stamp;
use crate::records::{Journal, Table};
use crate::upstream::requester::Credential;

/// Whose grants are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lasting {
    /// Anonymous.
    Anonymous,
    /// The operator's account.
    Account,
}

impl Lasting {
    /// Whoever asks with this credential, if its grants are on disk.
    pub(super) fn of(who: Credential) -> Option<Lasting> {
        match who {
            Credential::Anonymous => Some(Lasting::Anonymous),
            Credential::Account => Some(Lasting::Account),
            Credential::Known(_) | Credential::Remembered(_) => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Lasting::Anonymous => "anonymous",
            Lasting::Account => "account",
        }
    }

    fn parse(text: &str) -> Option<Lasting> {
        [Lasting::Anonymous, Lasting::Account].into_iter().find(|who| who.as_str() == text)
    }
}

/// The latest refusals.
#[derive(Debug)]
pub(super) struct Refusals {
    journal: Journal,
    known: RwLock<HashMap<(Lasting, RepositoryKey), Stamp>>,
    /// What was granted up to here may have been refused since: refusals were lost.
    floor: Option<Stamp>,
}

/// The key of the floor, by which is known that no refusal was lost since.
const FLOOR: &str = "*";
/// Refusals that are remembered, where nothing was granted that they end: they are in memory alone.
const MOST: usize = 100_000;

impl Refusals {
    /// With what the journal knew. Without its floor the table was lost, and all that was granted up
    /// to `latest` has to be asked for again.
    pub(super) fn new(journal: Journal, written: Vec<(String, u64)>, latest: Stamp) -> Refusals {
        let mut floor = None;
        let mut known = HashMap::new();
        for (key, at) in written {
            let at = Stamp::from_micros(at);
            match key.split_once(' ').and_then(|(who, key)| Some((Lasting::parse(who)?, key))) {
                Some((who, key)) => drop(known.insert((who, key.into()), at)),
                None if key == FLOOR => floor = Some(at),
                None => journal.remove(Table::Refusals, key),
            }
        }
        let floor = floor.unwrap_or_else(|| {
            journal.write(Table::Refusals, FLOOR.to_owned(), &latest.micros());
            latest
        });
        let floor = Some(floor).filter(|floor| *floor > Stamp::default());
        Refusals { journal, known: RwLock::new(known), floor }
    }

    /// The latest that was read at start.
    pub(super) fn latest(&self) -> Stamp {
        self.known.read().values().copied().chain(self.floor).max().unwrap_or_default()
    }

    /// The latest refusal.
    pub(super) fn of(&self, who: Lasting, key: &RepositoryKey) -> Option<Stamp> {
        let known = self.known.read();
        let refused = if known.is_empty() { None } else { known.get(&(who, key.clone())).copied() };
        refused.max(self.floor)
    }

    /// Upstream refused. `granted`: when it was asked for what it granted last. True, if that is on
    /// disk only once the journal has settled.
    pub(super) fn note(&self, who: Lasting, key: &RepositoryKey, came: Stamp, granted: Option<Stamp>) -> bool {
        let mut known = self.known.write();
        let place = (who, key.clone());
        let before = known.get(&place).copied().max(self.floor);
        let ends_some = granted.is_some_and(|granted| Some(granted) > before);
        if ends_some || known.len() < MOST || known.contains_key(&place) {
            known.insert(place, came);
        }
        drop(known);
        if ends_some {
            self.journal.write(Table::Refusals, format!("{} {key}", who.as_str()), &came.micros());
        }
        ends_some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_grant_is_written_and_what_was_lost_ends_all() {
        let (at, key) = (Stamp::from_micros, RepositoryKey::from("r/a"));
        let refusals = Refusals::new(Journal::off(), vec![("*".to_owned(), 0)], at(9));
        assert_eq!(refusals.of(Lasting::Anonymous, &key), None);
        assert!(!refusals.note(Lasting::Anonymous, &key, at(10), None));
        assert!(!refusals.note(Lasting::Anonymous, &key, at(12), Some(at(10))));
        assert!(refusals.note(Lasting::Anonymous, &key, at(14), Some(at(13))));
        assert_eq!(refusals.of(Lasting::Anonymous, &key), Some(at(14)));
        assert_eq!(refusals.of(Lasting::Account, &key), None);
        let written = vec![("anonymous r/a".to_owned(), 14), ("*".to_owned(), 0)];
        let again = Refusals::new(Journal::off(), written, at(20));
        assert_eq!((again.of(Lasting::Anonymous, &key), again.latest()), (Some(at(14)), at(14)));
        let lost = Refusals::new(Journal::off(), Vec::new(), at(20));
        assert_eq!(lost.of(Lasting::Anonymous, &key), Some(at(20)));
    }
}
