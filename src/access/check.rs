//! One place that answers who may read what, and hears what upstream says of that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::inquiry::{Given, Inquiry};
use super::logins::Logins;
use super::persons::Persons;
use super::presence::{Named, Presences};
use super::refusals::{Lasting, Refusals};
use super::secret::Secret;
use super::stamps::Stamps;
use crate::clock::Clock;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::{Elsewhere, Evidence, GrantTtls, Permission, Presence, Standing};
use crate::policy::stamp::{Now, Stamp};
use crate::records::{Journal, Records};
use crate::task::Tasks;
use crate::upstream::requester::{Credential, Requester};

/// What is known of who may read what. Clones share it.
#[derive(Clone, Debug)]
pub struct Access(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ttls: GrantTtls,
    pub(super) stamps: Stamps,
    pub(super) presences: Presences,
    pub(super) persons: Persons,
    pub(super) refusals: Refusals,
    pub(super) journal: Journal,
    pub(super) logins: Logins,
    secret: Arc<Secret>,
}

/// What [`Access::check`] found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Whether the requester may read.
    pub permission: Permission,
    /// The manifest to ask about where upstream has to be asked, if not about the digest itself.
    pub by: Option<Digest>,
    /// Whether its bytes were read in this repository before.
    pub is_read: bool,
    /// On what a manifest would be given.
    pub given: Option<Given>,
}

/// What ends an answer that was asked for before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// The latest refusal to the requester in the repository.
    pub refused: Option<Stamp>,
    /// The latest removal of the digest.
    pub removed: Option<Stamp>,
    /// Whether upstream's last word of it to the requester was that there is none.
    pub is_missing: bool,
}

impl Access {
    /// With what was recorded of refusals and logins, which is taken out of `records`.
    pub fn new(
        ttls: GrantTtls,
        presences: Presences,
        secret: Arc<Secret>,
        journal: &Journal,
        records: &mut Records,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Access {
        let written = std::mem::take(&mut records.refusals);
        let refusals = Refusals::new(journal.clone(), written, presences.latest());
        let known = std::mem::take(&mut records.logins);
        let logins = Logins::new(ttls.offline, secret.clone(), journal.clone(), clock.clone(), tasks.clone(), known);
        let latest = presences.latest().max(refusals.latest()).max(logins.latest());
        let stamps = Stamps::after(latest, clock.clone());
        let (persons, journal) = (Persons::default(), journal.clone());
        Access(Arc::new(Inner { ttls, stamps, presences, persons, refusals, journal, logins, secret }))
    }

    /// Whether a requester may read a digest, as this, in a repository.
    pub fn check(&self, requester: &Requester, key: &RepositoryKey, content: (&Digest, ContentKind)) -> Checked {
        let now = self.0.stamps.now();
        let evidence = self.evidence(requester.credential, key, content, now);
        let permission = evidence.permission(self.0.ttls, now);
        let by = if permission.is_granted() { None } else { self.by(key, &evidence) };
        let is_read = evidence.presence.is_some_and(|presence| presence.is_read);
        Checked { permission, by, is_read, given: Given::of(&evidence) }
    }

    fn evidence(
        &self,
        who: Credential,
        key: &RepositoryKey,
        (digest, kind): (&Digest, ContentKind),
        now: Now,
    ) -> Evidence {
        let inner = &*self.0;
        let presence = inner.presences.find(key, digest, kind);
        let evidence = Evidence {
            presence,
            anonymous_refused: inner.refusals.of(Lasting::Anonymous, key),
            // What it was granted is in the presence too.
            refused: if who == Credential::Account { self.refused(who, key) } else { None },
            is_shared: who == Credential::Account,
            is_proved: presence.is_some_and(|presence| presence.is_delivered)
                || self.is_proved(key, (digest, kind), now),
            ..Evidence::default()
        };
        // What is public is asked for most.
        if evidence.permission(inner.ttls, now).is_granted() {
            return evidence;
        }
        let content = (digest.clone(), kind);
        let removed = inner.presences.removed(key, (digest, kind));
        let yes = |who| {
            let yes = inner.persons.find(key, who)?.lock().yes(&content).cloned();
            yes.filter(|yes| Some(yes.at) > removed)
        };
        let own = match who {
            Credential::Known(_) | Credential::Account => yes(who),
            Credential::Anonymous | Credential::Remembered(_) => None,
        };
        let anonymous = yes(Credential::Anonymous);
        let is_claimed = [&own, &anonymous].into_iter().flatten().any(|yes| yes.is_claim);
        let elsewhere = if is_claimed { self.elsewhere(key, (digest, kind), now) } else { Elsewhere::default() };
        Evidence { own, anonymous, refused: self.refused(who, key), login: self.login(who, key), elsewhere, ..evidence }
    }

    /// The manifest to ask about: upstream's answer renews all that it lists. One that merely claimed
    /// the digest when it was asked about last grants it now, if upstream has named it since.
    fn by(&self, key: &RepositoryKey, evidence: &Evidence) -> Option<Digest> {
        let last = evidence.presence?.last;
        let is_older = |manifest: &&Digest| {
            let listing = self.0.presences.find(key, manifest, ContentKind::Manifest);
            listing.is_some_and(|listing| listing.since <= last)
        };
        evidence.by().find(is_older).cloned()
    }

    /// The image that a requester was given last.
    pub fn image_of(&self, requester: &Requester, key: &RepositoryKey) -> Option<Digest> {
        self.0.persons.find(key, requester.credential)?.lock().image().cloned()
    }

    /// The manifests that may have named a digest to a requester: through which it was granted last,
    /// and which was given last.
    pub fn named_by(
        &self,
        requester: &Requester,
        key: &RepositoryKey,
        (digest, kind): (&Digest, ContentKind),
    ) -> [Option<Digest>; 2] {
        let Some(person) = self.0.persons.find(key, requester.credential) else { return [None, None] };
        let person = person.lock();
        let granted = person.yes(&(digest.clone(), kind)).and_then(|yes| yes.by.clone());
        [granted, person.image().cloned()]
    }

    /// Whether what a claim opens stands: anonymous may read it in another repository, whose registry
    /// is unreachable too.
    pub fn stands_elsewhere(
        &self,
        key: &RepositoryKey,
        content: (&Digest, ContentKind),
        is_away: impl Fn(&str) -> bool,
    ) -> bool {
        let now = self.0.stamps.now();
        let mut others = self.others(key, content);
        others.any(|other| self.is_open(&other.key, other.presence, None, now) && is_away(other.key.namespace()))
    }

    /// When upstream last refused a requester.
    pub fn refused(&self, who: Credential, key: &RepositoryKey) -> Option<Stamp> {
        match Lasting::of(who) {
            Some(who) => self.0.refusals.of(who, key),
            None => self.0.persons.find(key, who).and_then(|person| person.lock().refused()),
        }
    }

    fn login(&self, who: Credential, key: &RepositoryKey) -> Option<Stamp> {
        match who {
            Credential::Known(print) => self.0.logins.read_by(print, key),
            Credential::Remembered(login) => self.0.logins.read(login, key),
            Credential::Anonymous | Credential::Account => None,
        }
    }

    /// Whether anonymous may read a digest, as this, in another repository.
    fn elsewhere(&self, key: &RepositoryKey, content: (&Digest, ContentKind), now: Now) -> Elsewhere {
        self.others(key, content).fold(Elsewhere::default(), |found, other| Elsewhere {
            is_open: found.is_open || self.is_open(&other.key, other.presence, Some(self.0.ttls.public), now),
            stands: found.stands || self.is_open(&other.key, other.presence, None, now),
        })
    }

    /// Whether a registry may serve the bytes of a digest that are here: they came from it once, or
    /// anonymous may read them somewhere, so that there is nothing to hide.
    fn is_proved(&self, key: &RepositoryKey, (digest, kind): (&Digest, ContentKind), now: Now) -> bool {
        self.delivered(digest).iter().any(|named| {
            let is_open = || self.is_open(&named.key, named.presence, Some(self.0.ttls.public), now);
            named.key.namespace() == key.namespace() || named.kind == kind && is_open()
        })
    }

    /// Where upstream named a digest whose bytes are here, at registries that sent them once. What
    /// another says of them it may have made up.
    fn delivered(&self, digest: &Digest) -> Vec<Named> {
        let mut all = self.0.presences.all(digest);
        let sent = all.iter().filter(|named| named.presence.is_delivered);
        let senders: HashSet<String> = sent.map(|named| named.key.namespace().to_owned()).collect();
        all.retain(|named| senders.contains(named.key.namespace()));
        all
    }

    /// The same, of other repositories than that, as the same kind.
    fn others(&self, key: &RepositoryKey, (digest, kind): (&Digest, ContentKind)) -> impl Iterator<Item = Named> {
        self.delivered(digest).into_iter().filter(move |named| named.kind == kind && named.key != *key)
    }

    /// Whether anonymous's yes is valid, and no older than that.
    fn is_open(&self, key: &RepositoryKey, presence: Presence, ttl: Option<Duration>, now: Now) -> bool {
        let open = presence.open.filter(|at| self.stands(key, *at));
        open.is_some_and(|at| ttl.is_none_or(|ttl| now.is_within(at, ttl)))
    }

    /// Whether anonymous was not refused since a yes was asked for.
    fn stands(&self, key: &RepositoryKey, at: Stamp) -> bool {
        Some(at) > self.0.refusals.of(Lasting::Anonymous, key)
    }

    /// A question that is sent now, whose answer is one to the requester.
    pub fn inquire(&self, key: &RepositoryKey, requester: &Requester) -> Inquiry {
        let who = requester.credential.asked_as();
        let person = self.0.persons.of(key, who);
        Inquiry { key: key.clone(), who, sent: self.0.stamps.next(), person }
    }

    /// Whether an answer to a question would be a yes that is fresh, if it is about what was asked
    /// for: who asks the same has a share of it while it comes.
    pub fn is_believed(&self, inquiry: &Inquiry, content: (&Digest, ContentKind)) -> bool {
        let ttl = if inquiry.is_anonymous() { self.0.ttls.public } else { self.0.ttls.own };
        self.is_valid(inquiry, content) && self.0.stamps.now().is_within(inquiry.sent, ttl)
    }

    /// Whether nothing ended an answer about a digest since it was asked for: no refusal, no word
    /// that there is none, no removal.
    pub fn is_valid(&self, inquiry: &Inquiry, content: (&Digest, ContentKind)) -> bool {
        let ended = self.ended(inquiry.who, &inquiry.key, content);
        let refused = ended.refused.max(inquiry.person.lock().refused());
        Some(inquiry.sent) > refused.max(ended.removed) && !ended.is_missing
    }

    /// What ended earlier answers to a requester about a digest.
    pub fn ended(&self, who: Credential, key: &RepositoryKey, content: (&Digest, ContentKind)) -> Ended {
        Ended {
            refused: self.refused(who, key),
            removed: self.0.presences.removed(key, content),
            is_missing: self.is_missing(who, key, content),
        }
    }

    /// Whether upstream's last word of a digest was that there is none, to whom it was granted by
    /// what stands, or to the requester.
    pub fn was_missing(
        &self,
        requester: &Requester,
        key: &RepositoryKey,
        (digest, kind): (&Digest, ContentKind),
        standing: Standing,
    ) -> bool {
        let is_missing = |who| self.is_missing(who, key, (digest, kind));
        let to_anonymous = || standing == Standing::Anonymous && is_missing(Credential::Anonymous);
        is_missing(requester.credential.asked_as()) || to_anonymous()
    }

    /// Whether that was upstream's last word to one requester.
    pub fn is_missing(&self, who: Credential, key: &RepositoryKey, (digest, kind): (&Digest, ContentKind)) -> bool {
        let content = (digest.clone(), kind);
        self.0.persons.find(key, who).is_some_and(|person| person.lock().is_missing(&content))
    }

    /// The same question, to which anonymous got the answer: the account's was a refusal.
    pub fn asked_as_anonymous(&self, inquiry: &Inquiry) -> Inquiry {
        let (key, who) = (inquiry.key.clone(), Credential::Anonymous);
        let person = self.0.persons.of(&key, who);
        Inquiry { key, who, sent: inquiry.sent, person }
    }

    /// What upstream said of digests.
    pub fn presences(&self) -> &Presences {
        &self.0.presences
    }

    /// Logins that were good before upstream became unreachable.
    pub fn logins(&self) -> &Logins {
        &self.0.logins
    }

    /// What this installation alone knows.
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// Whether anything in a repository was granted to anonymous, and no refusal followed.
    pub fn is_public(&self, key: &RepositoryKey) -> bool {
        self.0.presences.opened(key).is_some_and(|at| self.stands(key, at))
    }

    /// Whether anything in a repository was ever granted to anonymous.
    pub fn was_ever_public(&self, key: &RepositoryKey) -> bool {
        self.0.presences.opened(key).is_some()
    }

    /// Whether anonymous was refused in a repository less than this ago.
    pub fn was_anonymous_refused(&self, key: &RepositoryKey, within: Duration) -> bool {
        let refused = self.0.refusals.of(Lasting::Anonymous, key);
        refused.is_some_and(|at| self.0.stamps.now().is_within(at, within))
    }

    /// Whether anonymous may read a digest by a fresh yes.
    pub fn is_freshly_open(&self, key: &RepositoryKey, (digest, kind): (&Digest, ContentKind)) -> bool {
        let presence = self.0.presences.find(key, digest, kind);
        presence.is_some_and(|presence| self.is_open(key, presence, Some(self.0.ttls.public), self.0.stamps.now()))
    }

    /// Whether there is anything in a registry that upstream's last answer opens to anonymous, or
    /// to a login that is remembered.
    pub fn opens_some(&self, namespace: &str) -> bool {
        let is_open = |key: &RepositoryKey, at: Stamp| key.is_in(namespace) && self.stands(key, at);
        self.0.presences.is_any_open(is_open) || self.0.logins.knows_some(namespace)
    }
}
