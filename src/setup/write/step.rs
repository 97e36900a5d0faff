//! One file, worked out: who has a claim on it, what it says then, and what is said about that.

use std::path::{Path, PathBuf};

use super::super::{Client, Content};
use super::content::{Bytes, Left, Unfit};
use super::record::{self, Entry};
use super::report::{self, Change, Outcome};
use crate::fs::Present;

/// What is known of a file before.
pub(super) struct Asked<'a> {
    pub(super) path: &'a Path,
    /// Where it is, if that is elsewhere.
    pub(super) leads_to: Option<PathBuf>,
    pub(super) current: Option<Present>,
    pub(super) known: Option<&'a Entry>,
    pub(super) client: Client,
    /// What the client wants of it from now on; `None`: nothing.
    pub(super) content: Option<&'a Content>,
}

/// What is done with it.
pub(super) struct Step {
    pub(super) path: PathBuf,
    pub(super) current: Option<Present>,
    pub(super) next: Bytes,
    pub(super) entry: Entry,
    /// What the record says until all is written.
    pub(super) meanwhile: Entry,
    pub(super) left: Left,
    pub(super) change: Change,
}

/// The claims on a file, and what of those that go must stay.
struct Claimed {
    entry: Entry,
    left: Left,
}

/// What a file says then.
struct Becomes {
    bytes: Bytes,
    rewritten: bool,
}

impl Asked<'_> {
    fn now(&self) -> Option<&[u8]> {
        self.current.as_ref().map(|present| &*present.bytes)
    }

    fn is_undo(&self) -> bool {
        self.content.is_none()
    }

    /// A file of ours that somebody has changed keeps its entry: as long as it is there, something
    /// of ours may be in it.
    fn claimed(&self) -> Result<Claimed, Unfit> {
        let now = self.now();
        let mut claimed = match self.known {
            None => Claimed { entry: Entry::of(now.map(<[u8]>::to_vec)), left: Left::default() },
            Some(known) if known.is_overwritten(now) => {
                let claimed = Claimed { entry: known.clone(), left: Left::Whole };
                if self.is_undo() {
                    return Ok(claimed);
                }
                claimed
            }
            Some(known) => {
                let base = known.base(now)?;
                let mut entry = Entry::of(base.bytes);
                entry.claims.clone_from(&known.claims);
                Claimed { entry, left: base.left }
            }
        };
        claimed.entry.claim(self.client, self.content);
        Ok(claimed)
    }

    /// What says it already stays as it is, however it is written.
    fn becomes(&self, claimed: &Claimed) -> Result<Becomes, Unfit> {
        let now = self.now();
        let kept = || Ok(Becomes { bytes: now.map(<[u8]>::to_vec), rewritten: false });
        let is_overwritten = claimed.left == Left::Whole;
        if self.is_undo() && is_overwritten {
            return kept();
        }
        let claims = &claimed.entry.claims;
        let says_it = || record::wanted(now, claims).is_ok_and(|wanted| wanted.bytes.as_deref() == now);
        let same_claims = self.known.is_some_and(|known| known.claims == *claims);
        if same_claims && !is_overwritten && now.is_some() && says_it() {
            return kept();
        }
        let wanted = record::wanted(claimed.entry.original()?.as_deref(), claims)?;
        Ok(Becomes { bytes: wanted.bytes, rewritten: wanted.rewritten })
    }

    fn outcome(&self, claimed: &Claimed, next: Option<&[u8]>) -> Outcome {
        let now = self.now();
        let is_back = || claimed.entry.claims.is_empty() && self.known.is_some_and(|known| known.is_untouched(now));
        match (now, next) {
            _ if self.is_undo() && !claimed.left.is_nothing() => Outcome::Left,
            (now, next) if now == next => Outcome::Unchanged,
            (None, _) => Outcome::Made,
            (_, None) => Outcome::Removed,
            _ if self.is_undo() && is_back() => Outcome::Restored,
            _ => Outcome::Changed,
        }
    }

    fn notes(&self, claimed: &Claimed, becomes: &Becomes, outcome: Outcome) -> Option<String> {
        let is_unclaimed = claimed.entry.claims.is_empty();
        let what = match (outcome, &claimed.left) {
            (Outcome::Left, Left::Whole) => {
                Some("somebody has changed it since it was written: take out what is not needed, or remove it, then --undo again".to_owned())
            }
            (Outcome::Left, Left::Keys(keys)) => {
                Some(format!("changed by somebody since, and left as it is: {}", keys.join(", ")))
            }
            (_, Left::Whole) => Some("it had been changed by hand since it was written: that change is lost".to_owned()),
            (Outcome::Unchanged, _) if self.known.is_none() => {
                Some("it was so before: --undo leaves it as it is".to_owned())
            }
            (Outcome::Unchanged, _) if self.is_undo() && is_unclaimed && self.current.is_some() => {
                Some("it was so before".to_owned())
            }
            (Outcome::Changed, _) if self.known.is_none() && matches!(self.content, Some(Content::Whole(_))) => {
                Some("somebody else's file was there: it is replaced whole, and comes back with --undo".to_owned())
            }
            _ => None,
        };
        let rewritten = becomes.rewritten.then(|| {
            "it could not be edited in place: it is rewritten without its comments. They come back with --undo, unless it is edited before"
                .to_owned()
        });
        let leads = self.leads_to.as_ref().map(|place| format!("it leads to {}", place.display()));
        let notes: Vec<String> = leads.into_iter().chain(what).chain(rewritten).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// A document's content, for what is said about it.
    fn document(&self) -> Option<&Content> {
        self.content.or_else(|| self.known.and_then(|known| known.claim_of(self.client)))
    }
}

/// What becomes of one file.
pub(super) fn step(asked: Asked<'_>) -> Result<Step, Unfit> {
    let mut claimed = asked.claimed()?;
    let becomes = asked.becomes(&claimed)?;
    let (now, next) = (asked.now(), becomes.bytes.as_deref());
    let outcome = asked.outcome(&claimed, next);
    let change = Change {
        path: asked.path.to_owned(),
        outcome,
        diff: report::diff(asked.path, asked.current.as_ref(), next, asked.document()),
        note: asked.notes(&claimed, &becomes, outcome),
    };
    let is_kept = asked.known.is_some_and(|known| known.claims == claimed.entry.claims) && now == next;
    match asked.known {
        // Laid over what is there by now, it would forget what was there at first.
        Some(known) if is_kept => claimed.entry = known.clone(),
        _ => claimed.entry.writing(None, next),
    }
    let mut meanwhile = match asked.known {
        Some(known) if asked.is_undo() => known.clone(),
        _ => claimed.entry.clone(),
    };
    if outcome != Outcome::Left && !is_kept {
        // Until all is written, a file may be what it was or what it becomes.
        meanwhile.writing(now, next);
    }
    Ok(Step {
        path: asked.path.to_owned(),
        next: becomes.bytes,
        entry: claimed.entry,
        meanwhile,
        left: if asked.is_undo() { claimed.left } else { Left::default() },
        change,
        current: asked.current,
    })
}

impl Step {
    /// It stays as it is, with its claims, for the sake of another file that was left.
    pub(super) fn keep(&mut self, known: &Entry, for_the_sake_of: &Path) {
        self.next = self.current.as_ref().map(|present| present.bytes.clone());
        (self.entry, self.meanwhile) = (known.clone(), known.clone());
        self.change.outcome = Outcome::Unchanged;
        self.change.diff = String::new();
        self.change.note = Some(format!("it is kept as long as {} needs it", for_the_sake_of.display()));
    }
}
