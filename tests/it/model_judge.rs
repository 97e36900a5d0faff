//! What the model says of an answer: what it must be, and what it may be.

use crate::harness::exchange::{ClientError, Reply};
use crate::harness::pull::Pulled;
use crate::harness::{Image, sha256};
use crate::model::{Outage, Thing, Who};
use crate::model_books::{Span, TTL};
use crate::model_world::{Asked, SECRET, World, name};

/// Why an answer had to come, or that it need not.
pub(crate) type Must = Option<&'static str>;

/// What a client of linux/amd64 fetches.
fn parts(image: &Image) -> Vec<String> {
    let one = &image.platforms()[0];
    let blobs = one.blobs().into_iter().map(|blob| blob.digest());
    [image.digest(), one.digest()].into_iter().chain(blobs).collect()
}

impl World {
    /// A copy of what is known to be public is here: no failure of upstream's is a reason not to
    /// serve it.
    fn is_kept(&self, repo: u8, digest: &str) -> bool {
        self.is_here(digest) && self.books.is_known_public(&name(repo), digest)
    }

    /// Upstream can be asked, and says that it is open to nobody any more.
    fn is_turned(&self, repo: u8) -> bool {
        !self.outage.is_some_and(Outage::is_total) && !self.admits(repo, Who::Nobody)
    }

    fn silent(&self) -> bool {
        self.settings.silence
    }

    /// What must come for a digest.
    fn must_have(&self, who: Who, repo: u8, digest: &str, blob: bool, now: Span) -> Must {
        let answers = match self.outage {
            None => blob || !self.is_limited(now),
            Some(Outage::PullLimit) => blob,
            Some(Outage::NoTokens) => who != Who::Nobody && (blob || !self.is_limited(now)),
            Some(_) => false,
        };
        // Short deadlines: a busy machine is as good as an outage.
        let reachable = answers && !self.is_recovering(now) && !self.silent();
        if reachable && self.admits(repo, who) && self.has(repo, digest) {
            return Some("upstream has it, and lets them");
        }
        let gone = !self.outage.is_some_and(Outage::is_total) && !self.has(repo, digest);
        if self.is_kept(repo, digest) && !self.is_turned(repo) && !(gone && self.settings.forget) {
            return Some("it is here, and public");
        }
        None
    }

    /// Every digest that the answer for a tag may be; `None`: no answer is due.
    fn may_name(&self, who: Who, repo: u8, tag: u8, now: Span) -> Option<Vec<String>> {
        let known = self.books.confirmed(&name(repo), &tag.to_string());
        let named = self.named(repo, tag).filter(|_| !self.outage.is_some_and(Outage::is_total));
        if self.outage.is_none()
            && !self.is_recovering(now)
            && !self.is_limited(now)
            && named.is_some()
            && self.admits(repo, who)
        {
            let fresh = known.into_iter().filter(|known| known.at.may_be_within(TTL, now)).map(|known| known.digest);
            return Some(fresh.chain(named).collect());
        }
        let gone = named.is_none() && !self.outage.is_some_and(Outage::is_total);
        if known.is_empty() || self.is_turned(repo) || (gone && self.settings.forget) {
            return None;
        }
        // A 404 is nobody's yes.
        if gone && !known.iter().all(|known| self.is_kept(repo, &known.digest)) {
            return None;
        }
        Some(known.into_iter().map(|known| known.digest).chain(named).collect())
    }

    pub(crate) fn must_answer(&self, asked: Asked, reference: &str, from: std::time::SystemTime) -> Must {
        let (Asked { who, repo, tag, .. }, now) = (asked, Span { from, to: from });
        match asked.thing {
            // Who is about to push is told the truth.
            Thing::Foreign | Thing::HeadLayer => None,
            Thing::Tag | Thing::HeadTag => {
                let all = self.may_name(who, repo, tag, now)?;
                all.iter()
                    .map(|digest| self.must_have(who, repo, digest, false, now))
                    .collect::<Option<Vec<_>>>()?
                    .pop()
            }
            Thing::Manifest | Thing::HeadManifest => self.must_have(who, repo, reference, false, now),
            Thing::Config | Thing::Layer | Thing::Base | Thing::Range => {
                self.must_have(who, repo, reference, true, now)
            }
        }
    }

    pub(crate) fn must_pull(&self, who: Who, repo: u8, tag: u8) -> Must {
        let now = self.span();
        let mut why = None;
        for digest in self.may_name(who, repo, tag, now)? {
            let image = self.image_of(repo, &digest)?;
            let manifests = image.manifests().len();
            for (n, part) in parts(image).iter().enumerate() {
                // Whose token is missing is nobody there.
                let who = if self.outage == Some(Outage::NoTokens) { Who::Nobody } else { who };
                why = Some(self.must_have(who, repo, part, n >= manifests.min(2), now)?);
            }
        }
        why
    }

    fn span(&self) -> Span {
        Span { from: self.now(), to: self.now() }
    }

    /// Nothing at all goes upstream for it.
    pub(crate) fn is_free(&self, asked: Asked, reference: &str, from: std::time::SystemTime) -> bool {
        let now = Span { from, to: from };
        let believed = |digest: &str| self.is_here(digest) && self.books.is_believed(&name(asked.repo), digest, now);
        match asked.thing {
            _ if self.silent() => false,
            Thing::Foreign | Thing::HeadLayer => false,
            Thing::Tag | Thing::HeadTag => {
                let known = self.books.confirmed(&name(asked.repo), reference);
                let good =
                    |known: &crate::model_books::Confirmed| known.at.is_within(TTL, now) && believed(&known.digest);
                !known.is_empty() && known.iter().all(good)
            }
            _ => believed(reference),
        }
    }

    /// An answer that upstream did not confirm may stand.
    fn is_excused(&self, repo: u8, tag: u8, now: Span) -> bool {
        let gone = self.named(repo, tag).is_none() && !self.settings.forget;
        self.outage.is_some() || self.is_recovering(now) || self.is_limited(now) || self.silent() || gone
    }

    fn judge_tag(&self, repo: u8, tag: u8, digest: &str, excused: bool, now: Span) -> Result<(), String> {
        if self.image_of(repo, digest).is_none() {
            return Err(format!("{digest} is no image of {}", name(repo)));
        }
        self.books.named(&name(repo), &tag.to_string(), digest, excused, now)
    }

    fn may(&self, repo: u8, who: Who, words: Option<&str>, now: Span) -> Result<(), String> {
        let unasked = match self.outage {
            // HEADs are answered.
            None | Some(Outage::PullLimit) => false,
            Some(Outage::NoTokens) => who == Who::Nobody,
            Some(_) => true,
        };
        let away = unasked || self.is_recovering(now) || self.silent() || self.is_gone;
        self.books.may(&name(repo), who, words, away, now)
    }

    pub(crate) fn judge_pull(
        &self,
        (who, repo, tag): (Who, u8, u8),
        must: Must,
        pulled: &Result<Pulled, ClientError>,
        now: Span,
    ) -> Result<(), String> {
        match (pulled, must) {
            (Ok(pulled), _) => {
                let excused = self.is_excused(repo, tag, now);
                self.judge_tag(repo, tag, &pulled.digest, excused, now)?;
                self.may(repo, who, None, now)
            }
            (Err(error), Some(why)) => Err(format!("it had to be pulled ({why}), but: {error}")),
            (Err(_), None) => Ok(()),
        }
    }

    pub(crate) fn judge_answer(
        &self,
        asked: Asked,
        reference: &str,
        words: Option<&str>,
        must: Must,
        reply: &Result<Reply, ClientError>,
        now: Span,
    ) -> Result<(), String> {
        let failed = |what: &str| match must {
            Some(why) => Err(format!("it had to come ({why}), but: {what}")),
            None => Ok(()),
        };
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return failed(&error.to_string()),
        };
        let Ok(body) = &reply.body else { return failed("it broke off") };
        if !reply.status.is_success() {
            let text = String::from_utf8_lossy(body);
            if text.contains(SECRET) {
                return Err(format!("{} with bytes of it: {text}", reply.status));
            }
            return failed(&format!("{} {text}", reply.status));
        }
        if asked.thing == Thing::Foreign {
            return Err(format!("{} has no such blob", name(asked.repo)));
        }
        self.judge_bytes(asked, reference, reply)?;
        if matches!(asked.thing, Thing::Tag | Thing::HeadTag) {
            let marked = reply.header("cache-status").contains("fwd=stale") && !reply.header("warning").is_empty();
            let excused = self.is_excused(asked.repo, asked.tag, now);
            if marked && !excused {
                return Err(format!("stale with no reason: {}", reply.header("warning")));
            }
            self.judge_tag(asked.repo, asked.tag, reply.header("docker-content-digest"), marked, now)?;
        }
        self.may(asked.repo, asked.who, words, now)
    }

    fn judge_bytes(&self, asked: Asked, reference: &str, reply: &Reply) -> Result<(), String> {
        let digest = reply.header("docker-content-digest");
        if reference.contains(':') && digest != reference {
            return Err(format!("{digest} in place of {reference}"));
        }
        let Some(whole) = self.contents.get(digest) else { return Err(format!("a digest of nothing: {digest:?}")) };
        let (status, expected) = match asked.thing {
            Thing::HeadTag | Thing::HeadManifest | Thing::HeadLayer => (200, &[][..]),
            Thing::Range => (206, &whole[2..12]),
            _ => (200, &whole[..]),
        };
        if reply.status != status || reply.bytes() != expected {
            return Err(format!(
                "{} {} bytes ({}) for {digest}",
                reply.status,
                reply.bytes().len(),
                sha256(reply.bytes())
            ));
        }
        let length = if expected.is_empty() { whole.len() } else { expected.len() };
        match reply.header("content-length") {
            told if told == length.to_string() => Ok(()),
            told => Err(format!("a length of {told} for {length}")),
        }
    }
}
