//! What is known of registries whose HEAD of a manifest failed: whether GET is asked, and what it said
//! of tags that are not there.

use std::sync::Arc;

use moka::sync::Cache;

use crate::error::{Error, Kind};
use crate::lru::lru;
use crate::policy::heads::{Got, Heads};
use crate::upstream::requester::Credential;

/// Name spaces of which it is known whether HEAD works there.
const MOST_NAMESPACES: u64 = 1_000;
/// Tags whose 404 is known in the registry's own words.
const MOST_WORDS: u64 = 1_000;
/// Bytes of such a body. A longer one is asked for again.
const LONGEST_WORDS: usize = 4 << 10;

/// They. Clones share everything.
#[derive(Clone)]
pub(super) struct KnownHeads {
    /// By name space.
    heads: Cache<Arc<str>, Heads>,
    words: Cache<(Arc<str>, Credential), Error>,
}

impl Default for KnownHeads {
    fn default() -> KnownHeads {
        KnownHeads { heads: lru(MOST_NAMESPACES), words: lru(MOST_WORDS) }
    }
}

impl KnownHeads {
    /// Whether GET is asked for what HEAD did not get, or for why.
    pub(super) fn ask_by_get(&self, namespace: &str, failed: &Error) -> bool {
        self.of(namespace).asks_by_get(replied(failed))
    }

    /// Whether HEAD may have failed since there is none, though GET gets it.
    pub(super) fn are_in_doubt(&self, namespace: &str, failed: &Error) -> bool {
        self.of(namespace).is_in_doubt(replied(failed))
    }

    fn of(&self, namespace: &str) -> Heads {
        self.heads.get(namespace).unwrap_or_default()
    }

    /// HEAD was a success.
    pub(super) fn succeeded(&self, namespace: &Arc<str>) {
        self.change(namespace, Heads::after_success);
    }

    /// GET was asked after HEAD had failed so.
    pub(super) fn got<T>(&self, namespace: &Arc<str>, failed: &Error, came: &Result<T, Error>) {
        let status = replied(failed);
        match came {
            Ok(_) => self.change(namespace, |heads| heads.after_get(status, Got::It)),
            Err(error) if error.kind() == Kind::Missing => {
                self.change(namespace, |heads| heads.after_get(status, Got::Nothing));
            }
            Err(_) => {}
        }
    }

    fn change(&self, namespace: &Arc<str>, change: impl FnOnce(Heads) -> Heads) {
        let heads = self.of(namespace);
        let changed = change(heads);
        if changed != heads {
            self.heads.insert(namespace.clone(), changed);
        }
    }

    /// What GET said to them of a tag that is not there.
    pub(super) fn words(&self, tag: &Arc<str>, who: Credential) -> Option<Error> {
        self.words.get(&(tag.clone(), who))
    }

    pub(super) fn remember_words(&self, tag: &Arc<str>, who: Credential, said: &Error) {
        let is_short = said.reply().is_some_and(|reply| reply.body.len() <= LONGEST_WORDS);
        if said.kind() == Kind::Missing && is_short {
            self.words.insert((tag.clone(), who), said.clone());
        }
    }
}

/// The status of upstream's answer; 0: there was none.
fn replied(error: &Error) -> u16 {
    error.reply().map_or(0, |reply| reply.status.as_u16())
}
