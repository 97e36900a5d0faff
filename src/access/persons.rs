//! What upstream said to one requester in one repository, in memory.

use std::sync::Arc;

use hashlink::LruCache;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::Yes;
use crate::policy::stamp::Stamp;
use crate::upstream::requester::Credential;

/// Requesters in repositories that are remembered.
const MOST: u64 = 10_000;
/// Digests of one.
const MOST_DIGESTS: usize = 512;
/// Beyond so many, what is only claimed and not here is not remembered.
const SPARE: usize = 256;

/// A digest, and as what it is asked for.
pub(super) type Content = (Digest, ContentKind);

/// The records of one requester in one repository. They come and go together: a refusal is never
/// forgotten before the yes that it ended.
#[derive(Debug)]
pub(super) struct Person {
    refused: Option<Stamp>,
    /// To digests themselves, and through manifests. Anonymous's and the account's are here for the
    /// manifest alone: when is in the presence.
    yes: LruCache<Content, Yes>,
    /// Digests of which upstream last said that there is no such thing.
    missing: LruCache<Content, Stamp>,
    /// The manifest that was given last and lists blobs.
    image: Option<Digest>,
}

impl Default for Person {
    fn default() -> Person {
        Person { refused: None, yes: LruCache::new(MOST_DIGESTS), missing: LruCache::new(MOST_DIGESTS), image: None }
    }
}

impl Person {
    pub(super) fn refused(&self) -> Option<Stamp> {
        self.refused
    }

    /// The latest yes. (What is only looked at is not used.)
    pub(super) fn yes(&self, content: &Content) -> Option<&Yes> {
        self.yes.peek(content)
    }

    pub(super) fn set(&mut self, content: Content, yes: Yes) {
        self.yes.insert(content, yes);
    }

    /// Upstream said yes to the digest itself, to a question of `sent`. Tells whether that counts: not,
    /// where it said no since.
    pub(super) fn hear(&mut self, content: Content, sent: Stamp) -> bool {
        if Some(sent) <= self.refused.max(self.missing.peek(&content).copied()) {
            return false;
        }
        self.missing.remove(&content);
        let before = self.yes.peek(&content).filter(|yes| !yes.is_claim).map(|yes| yes.at);
        self.yes.insert(content, Yes { at: before.map_or(sent, |at| at.max(sent)), by: None, is_claim: false });
        true
    }

    /// Upstream refused.
    pub(super) fn refuse(&mut self, came: Stamp) {
        self.refused = self.refused.max(Some(came));
        self.yes.clear();
    }

    /// Upstream said that there is no such thing.
    pub(super) fn miss(&mut self, content: &Content, came: Stamp) {
        self.yes.remove(content);
        self.missing.insert(content.clone(), came);
    }

    /// Whether there is room for what merely may be of use.
    pub(super) fn has_room(&self) -> bool {
        self.yes.len() < SPARE
    }

    pub(super) fn image(&self) -> Option<&Digest> {
        self.image.as_ref()
    }

    pub(super) fn set_image(&mut self, manifest: Digest) {
        self.image = Some(manifest);
    }

    /// Whether that was upstream's last word.
    pub(super) fn is_missing(&self, content: &Content) -> bool {
        self.missing.contains_key(content)
    }
}

/// All requesters that are remembered.
#[derive(Debug)]
pub(super) struct Persons {
    /// To whom upstream said yes.
    known: Cache<(RepositoryKey, Credential), Shared>,
    /// The rest: anybody can make up tokens, and pushes no one out who has a yes.
    strangers: Cache<(RepositoryKey, Credential), Shared>,
}

/// One of them. Who waits for upstream's answer holds it.
pub(super) type Shared = Arc<Mutex<Person>>;

impl Default for Persons {
    fn default() -> Persons {
        Persons { known: lru(MOST), strangers: lru(MOST) }
    }
}

impl Persons {
    /// The records of a requester, empty if there are none.
    pub(super) fn of(&self, key: &RepositoryKey, who: Credential) -> Shared {
        self.known
            .get(&(key.clone(), who))
            .unwrap_or_else(|| self.strangers.get_with((key.clone(), who), Shared::default))
    }

    /// The records of a requester, if there are any.
    pub(super) fn find(&self, key: &RepositoryKey, who: Credential) -> Option<Shared> {
        let place = (key.clone(), who);
        self.known.get(&place).or_else(|| self.strangers.get(&place))
    }

    /// Upstream said yes to a requester.
    pub(super) fn keep(&self, key: &RepositoryKey, who: Credential, person: &Shared) {
        let place = (key.clone(), who);
        if !self.known.contains_key(&place) {
            self.known.insert(place.clone(), person.clone());
            self.strangers.invalidate(&place);
        }
    }
}
