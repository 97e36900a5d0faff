//! Which answers have to come, and which cost nothing upstream.

use std::time::Duration;

use crate::harness::Style;
use crate::model_asks::{Asked, Wanted};
use crate::model_past::{Span, TTL};
use crate::model_steps::{Outage, SHARED, Thing, Who};
use crate::model_stock::{Kind, STOCK, name};
use crate::model_world::World;

/// Why an answer had to come, or that it need not.
pub(crate) type Must = Option<&'static str>;

/// How long who shows nothing may be given the last challenge unasked.
const CHALLENGED: Duration = Duration::from_secs(60);
/// How long after a push nothing is believed of its tag.
const PUSHED: Duration = Duration::from_secs(65);

impl World {
    /// Upstream would give it to them: its own answer comes.
    fn lets_in(&self, who: Who, repo: u8) -> bool {
        let place = name(repo);
        match who {
            Who::Nobody => !self.books.was_refused_within(&place, CHALLENGED, self.span()) && self.admits(repo, None),
            Who::Alice | Who::Bob => self.admits(repo, who.user()),
            Who::Stranger | Who::Elsewhere | Who::Long => false,
        }
    }

    /// Where the operator shares, who shows nothing may have been given what the account may read.
    fn speaks_for_all(&self, who: Who, repo: u8) -> bool {
        !self.settings.account || repo != SHARED || who == Who::Nobody
    }

    /// A copy that anonymous may read, as far as upstream said last, is here: no failure of
    /// upstream's is a reason not to serve it.
    fn is_kept(&self, repo: u8, digest: &str) -> bool {
        self.is_here(digest) && self.books.is_open(&name(repo), digest)
    }

    /// What must come for a digest.
    fn must_have(&self, who: Who, repo: u8, kind: Kind, digest: &str) -> Must {
        let now = self.span();
        let open = self.speaks_for_all(who, repo);
        if open && self.is_here(digest) && self.books.is_believed(&name(repo), digest, now) {
            return Some("it is here, and was open to everybody just now");
        }
        if self.is_total() {
            return (open && self.is_kept(repo, digest))
                .then_some("it is here, was open to everybody, and upstream is away");
        }
        if self.is_blocked(repo, kind, digest) || self.outage.is_some_and(Outage::is_unreliable) {
            return None;
        }
        let limited = kind == Kind::Manifest && (self.outage == Some(Outage::PullLimit) || self.is_limited(now));
        let no_tokens = self.outage == Some(Outage::NoTokens);
        let asked = !no_tokens || (who.user().is_some() && !self.settings.account);
        // Short deadlines: a busy machine is as good as an outage.
        let reachable = asked && !limited && !self.is_recovering(now) && !self.settings.silence;
        if reachable && self.lets_in(who, repo) && self.has(repo, kind, digest) {
            return Some("upstream has it, and lets them");
        }
        if !open || !self.is_kept(repo, digest) || !self.admits(repo, None) {
            return None;
        }
        let gone = !self.has(repo, kind, digest);
        match who {
            // Their own question fails, and then anonymous's says yes.
            Who::Long => (!gone && reachable && !no_tokens).then_some("it is here, and open to everybody"),
            Who::Stranger | Who::Elsewhere => None,
            Who::Nobody if self.books.was_refused_within(&name(repo), CHALLENGED, now) => None,
            _ => (!(gone && self.settings.forget)).then_some("it is here, and open to everybody"),
        }
    }

    /// Every digest that the answer for a tag may be; `None`: no answer is due.
    fn may_name(&self, who: Who, repo: u8, tag: u8) -> Option<Vec<String>> {
        let (now, place, tag_name) = (self.span(), name(repo), tag.to_string());
        let all = self.books.told(&place, &tag_name);
        let digests = |told: Vec<crate::model_books::Told>| told.into_iter().map(|told| told.digest);
        let named = self.named(repo, tag).filter(|_| !self.is_total());
        let is_up = self.outage.is_none() && !self.is_recovering(now) && !self.is_limited(now);
        let told = self.books.told_to_anonymous(&place, &tag_name);
        let let_in = self.lets_in(who, repo) || (who == Who::Long && self.admits(repo, None) && !told.is_empty());
        if is_up && named.is_some() && let_in {
            let fresh = all.into_iter().filter(|told| told.at.may_be_within(TTL, now)).collect();
            return Some(digests(fresh).chain(named).collect());
        }
        let gone = named.is_none() && !self.is_total();
        if told.is_empty() || (!self.is_total() && !self.admits(repo, None)) || (gone && self.settings.forget) {
            return None;
        }
        // It is asked about anew, and they are refused.
        let asks = who == Who::Long || self.lets_in(who, repo) || self.books.is_fresh(&place, &tag_name, now);
        if !self.is_total() && !asks {
            return None;
        }
        // Refused, not gone.
        if gone && self.registry.tagged(&place, &tag_name).is_some() {
            return None;
        }
        if gone && !told.iter().all(|told| self.is_kept(repo, &told.digest)) {
            return None;
        }
        // What was told to a credential may be what it is given.
        let shared = self.settings.account && repo == SHARED;
        let told = if who.user().is_some() || shared { all } else { told };
        Some(digests(told).chain(named).collect())
    }

    pub(crate) fn must_answer(&self, asked: Asked, wanted: &Wanted) -> Must {
        let Asked { who, repo, tag, .. } = asked;
        if asked.is_liar {
            return None;
        }
        match asked.thing {
            Thing::Tag | Thing::HeadTag => {
                let all = self.may_name(who, repo, tag)?;
                let each = all.iter().map(|digest| self.must_have(who, repo, Kind::Manifest, digest));
                each.collect::<Option<Vec<_>>>()?.pop()
            }
            Thing::Manifest
            | Thing::HeadManifest
            | Thing::Child
            | Thing::Config
            | Thing::Layer
            | Thing::Base
            | Thing::Range => self.must_have(who, repo, wanted.kind, &wanted.reference),
            // Who is about to push is told the truth.
            Thing::HeadLayer | Thing::Foreign | Thing::HeadForeign => None,
            Thing::Known | Thing::Beyond | Thing::Crossed | Thing::CrossedBlob | Thing::BrokenOff | Thing::List => None,
        }
    }

    pub(crate) fn must_pull(&self, who: Who, repo: u8, tag: u8, style: Style) -> Must {
        // Who shows nothing at first, and is told 404 for it, asks for no token.
        if style == Style::Containerd && who != Who::Nobody && self.settings.hides && !self.admits(repo, None) {
            return None;
        }
        // Whose token is missing is nobody there.
        let who = if self.outage == Some(Outage::NoTokens) { Who::Nobody } else { who };
        let mut why = None;
        for digest in self.may_name(who, repo, tag)? {
            for (kind, part) in STOCK.pulled(&digest) {
                why = Some(self.must_have(who, repo, kind, &part)?);
            }
        }
        why
    }

    /// Nothing at all goes upstream for it.
    pub(crate) fn is_free(&self, asked: Asked, wanted: &Wanted) -> bool {
        let (now, place) = (self.span(), name(asked.repo));
        let believed = |digest: &str| self.is_here(digest) && self.books.is_believed(&place, digest, now);
        if self.settings.silence || asked.is_liar || !self.speaks_for_all(asked.who, asked.repo) {
            return false;
        }
        match asked.thing {
            Thing::Tag | Thing::HeadTag => {
                let told = self.books.told(&place, &wanted.reference);
                let pushed = self.past.pushed_within(&place, &wanted.reference, PUSHED, now);
                !pushed
                    && self.books.is_fresh(&place, &wanted.reference, now)
                    && told.iter().all(|told| believed(&told.digest))
            }
            Thing::Manifest
            | Thing::HeadManifest
            | Thing::Child
            | Thing::Config
            | Thing::Layer
            | Thing::Base
            | Thing::Range
            | Thing::Known
            | Thing::Beyond => believed(&wanted.reference),
            _ => false,
        }
    }

    /// How much of what anonymous pulls may be asked for upstream: nothing of what is believed; when
    /// the tag is due, or the image, one HEAD. `None`: as much as it takes.
    pub(crate) fn allowance(&self, who: Who, repo: u8, tag: u8) -> Option<usize> {
        let (now, place, tag_name) = (self.span(), name(repo), tag.to_string());
        let told = self.books.told(&place, &tag_name);
        let [first, rest @ ..] = &told[..] else { return None };
        let top = &first.digest;
        let all_here = STOCK.pulled(top).iter().all(|(_, digest)| self.is_here(digest));
        let shared = self.settings.account && repo == SHARED;
        let one = rest.iter().all(|told| told.digest == *top);
        let pushed = self.past.pushed_within(&place, &tag_name, PUSHED, now);
        if who != Who::Nobody || shared || !one || !all_here || pushed || self.settings.silence {
            return None;
        }
        let believed = |digest: &str| self.books.is_believed(&place, digest, now);
        let fresh = self.books.is_fresh(&place, &tag_name, now);
        if fresh && STOCK.pulled(top).iter().all(|(_, digest)| believed(digest)) {
            return Some(0);
        }
        let is_up = self.outage.is_none() && !self.is_recovering(now) && !self.is_limited(now);
        let same = is_up && self.lets_in(who, repo) && self.named(repo, tag).as_ref() == Some(top);
        // As fresh as the tag may be, and old enough to be asked: nobody knows which.
        let old = told.iter().all(|told| !told.at.may_be_within(TTL, now));
        (same && old && self.books.is_renewed_by(&place, top)).then_some(1)
    }

    /// An answer that upstream did not confirm may stand.
    pub(crate) fn is_excused(&self, repo: u8, tag: u8, now: Span) -> bool {
        let told_404 = self.named(repo, tag).is_none() || (self.settings.hides && !self.admits(repo, None));
        let gone = told_404 && !self.settings.forget;
        self.outage.is_some() || self.is_recovering(now) || self.is_limited(now) || self.settings.silence || gone
    }
}
