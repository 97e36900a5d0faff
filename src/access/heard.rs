//! What upstream's answers change: a yes, a no, a 404, a manifest that was given, a blob that came.

use super::check::Access;
use super::inquiry::{Given, Inquiry};
use super::persons::{Content, Shared};
use super::refusals::Lasting;
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::name::RepositoryKey;
use crate::policy::access::{Presence, Yes};
use crate::policy::stamp::Stamp;
use crate::upstream::Proves;
use crate::upstream::requester::{Credential, Requester};

/// Of what a manifest lists, so much is granted by it: no image has more, and who lists more gets
/// the rest asked for.
const MOST_LISTED: usize = 1024;

/// What a 404 means for what was granted to anonymous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It stands: the operator keeps what is gone, or the 404 was not to anonymous.
    Nothing,
    /// It ends.
    Open,
}

impl Access {
    /// A sound yes: upstream has a digest in a repository, and lets somebody read it.
    pub fn hear(&self, inquiry: &Inquiry, proves: Proves, content: (&Digest, ContentKind)) {
        let came = self.0.stamps.next();
        let Inquiry { key, sent, .. } = inquiry;
        let who = match proves {
            Proves::Nothing => return,
            Proves::Presence => None,
            Proves::Grant(who) => Some(who),
        };
        let refused = who.and_then(Lasting::of).and_then(|who| self.0.refusals.of(who, key));
        let who = who.filter(|who| Some(*sent) > refused.max(inquiry.refused_to(*who)));
        let mut was_refused = false;
        self.0.presences.change(key, content, *sent, |before| {
            let mut presence = Presence::named(before, came);
            let yes = match who {
                // It said no of this very digest since.
                Some(Credential::Anonymous) if Some(*sent) <= presence.ended => return Some(presence),
                Some(Credential::Anonymous) => {
                    presence.ended = None;
                    &mut presence.open
                }
                Some(Credential::Account) => &mut presence.shared,
                _ => return Some(presence),
            };
            was_refused = yes.is_some() && *yes <= refused;
            *yes = Some(*sent).max(*yes);
            Some(presence)
        });
        if was_refused {
            self.0.journal.change(content.0);
        }
        if let Some(who) = who {
            let person = if who == inquiry.who { inquiry.person.clone() } else { self.0.persons.of(key, who) };
            let counts = person.lock().hear((content.0.clone(), content.1), *sent);
            if counts {
                self.0.persons.keep(key, who, &person);
            }
            if let (Credential::Known(print), true) = (who, counts) {
                self.0.logins.granted(print, key, came);
            }
        }
    }

    /// The bytes of a digest came in answer to a question, and are right.
    pub fn deliver(&self, inquiry: &Inquiry, proves: Proves, content: (&Digest, ContentKind)) {
        self.hear(inquiry, proves, content);
        self.mark(&inquiry.key, content, |presence| Presence { is_delivered: true, ..presence });
    }

    /// The same, and they are on their way to who asked.
    pub fn deliver_and_read(&self, inquiry: &Inquiry, proves: Proves, content: (&Digest, ContentKind)) {
        self.hear(inquiry, proves, content);
        self.mark(&inquiry.key, content, |presence| Presence { is_delivered: true, is_read: true, ..presence });
    }

    /// The bytes of a digest that are here are read in a repository for the first time.
    pub fn read(&self, key: &RepositoryKey, content: (&Digest, ContentKind)) {
        self.mark(key, content, |presence| Presence { is_read: true, ..presence });
    }

    fn mark(&self, key: &RepositoryKey, content: (&Digest, ContentKind), mark: impl FnOnce(Presence) -> Presence) {
        self.0.presences.change(key, content, self.0.stamps.next(), |before| before.map(mark));
    }

    /// Upstream refused. Of what is on disk the refusal is there too when this returns.
    pub async fn refuse(&self, inquiry: &Inquiry) {
        let came = self.0.stamps.next();
        inquiry.person.lock().refuse(came);
        self.refuse_at(&inquiry.key, inquiry.who, came).await;
    }

    /// Upstream refused the operator's account itself.
    pub async fn account_refused(&self, key: &RepositoryKey) {
        let came = self.0.stamps.next();
        self.refuse_at(key, Credential::Account, came).await;
    }

    async fn refuse_at(&self, key: &RepositoryKey, who: Credential, came: Stamp) {
        self.0.persons.of(key, who).lock().refuse(came);
        if let Credential::Known(print) = who {
            self.0.logins.revoked(print, key);
            if self.0.logins.is_on() {
                self.0.journal.settled().await;
            }
        }
        let is_to_be_written = Lasting::of(who).is_some_and(|who| {
            let granted = self.0.presences.granted(who, key);
            self.0.refusals.note(who, key, came, granted)
        });
        if is_to_be_written {
            self.0.journal.settled().await;
        }
    }

    /// Upstream said to a requester that a repository has no such digest, or that it may not read
    /// this one.
    pub async fn miss(&self, inquiry: &Inquiry, (digest, kind): (&Digest, ContentKind), ends: Ends) {
        let came = self.0.stamps.next();
        inquiry.person.lock().miss(&(digest.clone(), kind), came);
        let mut is_ended = false;
        // Some say 404 to whoever may not read: a login that is remembered covers what it was not
        // denied since.
        if let Credential::Known(print) = inquiry.who
            && self.0.logins.is_on()
            && self.0.presences.find(&inquiry.key, digest, kind).is_some()
        {
            self.0.logins.revoked(print, &inquiry.key);
            is_ended = true;
        }
        self.0.presences.change(&inquiry.key, (digest, kind), inquiry.sent, |before| {
            let before = before?;
            let after = match inquiry.who {
                Credential::Anonymous if ends == Ends::Open => {
                    Presence { open: None, ended: Some(came).max(before.ended), ..before }
                }
                Credential::Account => Presence { shared: None, ..before },
                _ => before,
            };
            let is_changed = after != before;
            is_ended |= is_changed;
            is_changed.then_some(after)
        });
        if is_ended {
            self.0.journal.settled().await;
        }
    }

    /// A digest was removed from a repository upstream, by a request through seawall. That is on disk
    /// when this returns.
    pub async fn remove(&self, key: &RepositoryKey, digest: &Digest, kind: ContentKind) {
        self.0.presences.remove(key, digest, kind, self.0.stamps.next());
        self.0.journal.settled().await;
    }

    /// A manifest was given to a requester: what it lists is granted to the same, as far as upstream
    /// had named it by then; the rest is a claim of whoever wrote the manifest.
    pub fn give(
        &self,
        requester: &Requester,
        key: &RepositoryKey,
        manifest: &Digest,
        given: Given,
        listed: &[(Digest, ContentKind)],
    ) {
        let listed = &listed[..listed.len().min(MOST_LISTED)];
        if listed.iter().any(|(_, kind)| *kind == ContentKind::Blob) {
            self.0.persons.of(key, requester.credential).lock().set_image(manifest.clone());
        }
        for (who, at) in [(Some(requester.credential), given.own), (Some(Credential::Anonymous), given.open)] {
            if let (Some(who), Some(at)) = (who, at) {
                let person = self.0.persons.of(key, who);
                let grant = |content| self.grant_through((who, &person), key, (manifest, given.since), at, content);
                listed.iter().for_each(grant);
            }
        }
    }

    fn grant_through(
        &self,
        (who, person): (Credential, &Shared),
        key: &RepositoryKey,
        (manifest, listed_since): (&Digest, Stamp),
        at: Stamp,
        content: &Content,
    ) {
        let (digest, kind) = (&content.0, content.1);
        let presence = self.0.presences.find(key, digest, kind);
        let mut person = person.lock();
        // Its last word of the digest itself was a no: a manifest does not change that.
        let is_ended = person.is_missing(content) || presence.is_some_and(|presence| presence.ended.is_some());
        if Some(at) <= person.refused() || is_ended {
            return;
        }
        if presence.is_none() && !person.has_room() {
            return;
        }
        let yes = Yes::through(person.yes(content), manifest, at, listed_since, presence);
        person.set(content.clone(), yes);
        drop(person);
        // What was known before may be more than a claim, and gets no younger by one.
        let is_covered = presence.is_some_and(|presence| presence.is_covered(at, listed_since));
        if !is_covered || Lasting::of(who).is_none() {
            return;
        }
        self.0.presences.change(key, (digest, kind), at, |before| {
            let mut presence = before?;
            let latest = if who == Credential::Anonymous { &mut presence.open } else { &mut presence.shared };
            *latest = Some(at).max(*latest);
            Some(presence)
        });
    }
}

#[cfg(test)]
mod tests;
