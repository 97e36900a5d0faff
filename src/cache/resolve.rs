//! What a tag names now, and whether the requester may read it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::admit::{Admission, was_answered};
use super::asked::{Asked, By, is_told};
use super::found::Stale;
use super::parts::Parts;
use super::pull::{Method, Pull};
use super::tags::{self, Bindings};
use super::told::{Binding, Told, ToldTo};
use crate::access::{Checked, Ends};
use crate::error::{Error, Kind, Result};
use crate::oci::digest::Digest;
use crate::oci::manifest::ContentKind;
use crate::oci::media_type::Accept;
use crate::oci::name::{Reference, Tag};
use crate::policy::access::Standing;
use crate::policy::freshness::{self, After, Answer, Before, Granted, Reason};
use crate::policy::stamp::Stamp;
use crate::task::Coalesced;
use crate::upstream::What;
use crate::upstream::requester::Credential;

/// A tag, resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) binding: Binding,
    /// Since upstream last confirmed it.
    pub(super) age: Duration,
    /// Why that is longer ago than it should be.
    pub(super) stale: Option<Stale>,
    /// What was found out about the requester and the digest, if that was looked at.
    pub(super) checked: Option<Checked>,
}

/// What is asked once for many: a tag, by clients that accept the same, for one credential, since
/// the last push of it, the last refusal and the last trial.
type Question = (Arc<str>, Accept, Credential, Option<SystemTime>, Option<Stamp>, u64, By, Option<String>);

/// The ttl of what a tag names, as long as that is not here.
const SOON: Duration = Duration::from_secs(5);

/// What was told of a tag that may be served while upstream cannot say.
#[derive(Clone, Debug)]
struct Kept {
    told: Told,
    standing: Standing,
    /// Whether the tag names it, as far as is known, and not another since.
    is_current: bool,
}

impl Resolved {
    /// Whether upstream said so just now.
    pub(super) fn was_asked(&self) -> bool {
        self.checked.is_none() && self.stale.is_none()
    }
}

impl Kept {
    /// Whether it may be served after such an answer. A 404 ends what was told to a credential.
    fn stands(&self, answer: Answer) -> bool {
        match (self.told.to, self.standing) {
            (_, Standing::None | Standing::Claimed) => false,
            _ if answer == Answer::Missing && !self.is_current => false,
            (ToldTo::Anonymous, standing) => answer != Answer::Missing || standing == Standing::Anonymous,
            _ => answer != Answer::Missing,
        }
    }
}

/// Resolves tags: what is bound, or what upstream answers to one HEAD.
pub(super) struct Resolver {
    parts: Arc<Parts>,
    bindings: Arc<Bindings>,
    admission: Arc<Admission>,
    asked: Coalesced<Question, Result<Binding>>,
}

impl Resolver {
    pub(super) fn new(parts: Arc<Parts>, bindings: Arc<Bindings>, admission: Arc<Admission>) -> Resolver {
        Resolver { parts, bindings, admission, asked: Coalesced::default() }
    }

    pub(super) async fn resolve(self: &Arc<Self>, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Resolved> {
        let (parts, key) = (&self.parts, tags::key(&pull.key, tag));
        let told = self.bindings.told(&key);
        if let Some((binding, checked)) = self.fresh(pull, (&key, &told), accept) {
            return Ok(Resolved { age: age(&binding, parts.now()), binding, stale: None, checked: Some(checked) });
        }
        let (kept, now) = (self.kept(pull, &key, accept), parts.now());
        let stands = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.standing != Standing::None);
        let asking = Box::pin(self.ask(pull, tag, accept, &key, looked(&told, pull, accept)));
        let asked = parts.in_time(pull, stands(&kept), asking).await;
        parts.metrics.resolve(parts.now().duration_since(now).unwrap_or_default());
        if let Ok(binding) = &asked {
            self.learn_whether_public(pull, tag, accept, &binding.digest);
        }
        match asked {
            Err(failed) if self.is_answered_to_anonymous(pull, tag, accept, &failed, kept.as_ref()).await => {
                Err(failed)
            }
            // Whoever asks may have brought that about: anonymous's own question decides.
            Err(failed) if is_doubtful(pull, &failed, kept.as_ref()) => {
                let (pull, told) = (&pull.as_anonymous(), self.bindings.told(&key));
                let asking = Box::pin(self.ask(pull, tag, accept, &key, looked(&told, pull, accept)));
                let asked = parts.in_time(pull, true, asking).await;
                let kept = self.kept(pull, &key, accept);
                self.settle(pull, kept, asked).map_err(|_| failed)
            }
            asked => self.settle(pull, self.kept(pull, &key, accept), asked),
        }
    }

    /// Whether upstream answers anonymous, where what a remembered login was told would stand since
    /// its own question failed.
    async fn is_answered_to_anonymous(
        &self,
        pull: &Pull,
        tag: &Tag,
        accept: Accept,
        failed: &Error,
        kept: Option<&Kept>,
    ) -> bool {
        let is_logins = kept.is_some_and(|kept| kept.standing == Standing::Login);
        if !is_logins || !pull.is_own() || Reason::of(failed.kind()).is_none() {
            return false;
        }
        let (pull, key) = (pull.as_anonymous(), tags::key(&pull.key, tag));
        let looked = looked(&self.bindings.told(&key), &pull, accept);
        let asking = Box::pin(self.ask(&pull, tag, accept, &key, looked));
        was_answered(&self.parts.in_time(&pull, true, asking).await)
    }

    /// Anonymous is asked the same, where what a client with a credential was told may be public.
    /// Nobody waits.
    fn learn_whether_public(self: &Arc<Self>, pull: &Pull, tag: &Tag, accept: Accept, named: &Digest) {
        if !self.admission.may_be_public(pull, (named, ContentKind::Manifest)) {
            return;
        }
        let (this, anonymous, tag, named) = (self.clone(), pull.as_anonymous(), tag.clone(), named.clone());
        self.parts.tasks.spawn(async move {
            let key = tags::key(&anonymous.key, &tag);
            let looked = looked(&this.bindings.told(&key), &anonymous, accept);
            let inquiry = this.parts.inquire(&anonymous);
            let asked = this.ask(&anonymous, &tag, accept, &key, looked).await;
            if asked.is_err_and(|error| error.kind() == Kind::Missing) {
                // Some say 404 to whoever may not read: they are not asked for this again.
                this.parts.access.miss(&inquiry, (&named, ContentKind::Manifest), Ends::Nothing).await;
            }
        });
    }

    /// What the tag names, where that was told to the requester, or to anonymous, less than its ttl
    /// ago, and is granted.
    fn fresh(&self, pull: &Pull, (key, told): (&Arc<str>, &[Told]), accept: Accept) -> Option<(Binding, Checked)> {
        let now = self.parts.now();
        let pushed = self.bindings.pushes.of(key);
        let is_fresh = |binding: &Binding| {
            let ttl = self.ttl(key, binding);
            freshness::before(binding.confirmed(), ttl, pushed, now) == Before::Serve && self.may_come(pull, binding)
        };
        let mine = told.iter().filter(|told| told.accept == accept && is_told(told.to, pull));
        let granted = mine.map(|told| &told.binding).filter(|binding| is_fresh(binding)).filter_map(|binding| {
            let checked = self.parts.check(pull, (&binding.digest, ContentKind::Manifest));
            checked.permission.is_granted().then_some((binding, checked))
        });
        let (binding, checked) = granted.max_by_key(|(binding, _)| binding.checked)?;
        Some((binding.clone(), checked))
    }

    /// The best of what was told: what stands first, then what clients were told that accept just
    /// this, then the newest. A remembered login has what any client was told.
    fn kept(&self, pull: &Pull, key: &Arc<str>, accept: Accept) -> Option<Kept> {
        let told = self.bindings.told(key);
        let is_readable = |told: &&Told| told.accept == accept || accept.admits(&told.binding.media_type);
        let named = told.iter().flat_map(|told| {
            let before = told.binding.before.as_deref().cloned();
            let before = before.map(|binding| Told { binding, ..told.clone() });
            [(Some(told.clone()), true), (before, false)]
        });
        let readable =
            named.filter_map(|(told, is_current)| Some((told.filter(|told| is_readable(&told))?, is_current)));
        let kept = readable.filter_map(|(told, is_current)| {
            let permission = self.parts.check(pull, (&told.binding.digest, ContentKind::Manifest)).permission;
            let is_logins = told.to.is_clients() && permission.standing == Standing::Login;
            let is_theirs = is_told(told.to, pull) || is_logins;
            is_theirs.then_some(Kept { told, standing: permission.standing, is_current })
        });
        kept.max_by_key(|kept| {
            let Told { accept: accepted, binding, .. } = &kept.told;
            (kept.standing != Standing::None, *accepted == accept, kept.is_current, binding.checked)
        })
    }

    /// What never came, where something else could be served, may be out of reach: it is asked for
    /// again soon.
    fn ttl(&self, key: &str, bound: &Binding) -> Duration {
        let ttl = self.parts.tags.ttl_of(key);
        let never_came =
            |before: &Arc<Binding>| !self.parts.is_here(&bound.digest) && self.parts.is_here(&before.digest);
        if bound.before.as_ref().is_some_and(never_came) { ttl.min(SOON) } else { ttl }
    }

    /// Whether what a tag names is here, or was not asked for in vain a moment ago where another source may
    /// name what it has.
    fn may_come(&self, pull: &Pull, binding: &Binding) -> bool {
        let Pull { site, repository, requester, .. } = pull;
        self.parts.is_here(&binding.digest)
            || !self.parts.upstream.is_unsent(site, repository, &binding.digest, requester)
    }

    /// One HEAD for all who ask for the same at once. What it says is bound whether they wait for
    /// it or not. `looked`: when what they found before was asked for.
    async fn ask(
        &self,
        pull: &Pull,
        tag: &Tag,
        accept: Accept,
        key: &Arc<str>,
        looked: Option<SystemTime>,
    ) -> Result<Binding> {
        let (namespace, heads) = (&pull.site.namespace, &self.parts.heads);
        let error = match self.ask_by(By::Head, pull, tag, accept, (key, looked)).await {
            Ok(binding) => {
                heads.succeeded(namespace);
                return Ok(binding);
            }
            Err(error) => error,
        };
        let who = pull.requester.credential.asked_as();
        let words = heads.words(key, who).filter(|_| error.kind() == Kind::Missing);
        // What is missing is asked for by GET once, for what the registry says to people.
        let is_worded = error.kind() != Kind::Missing || tag.is_of_digest() || words.is_some();
        let is_got = pull.method == Method::Get && (heads.ask_by_get(namespace, &error) || !is_worded);
        if !is_got && error.status() != StatusCode::METHOD_NOT_ALLOWED {
            return Err(words.unwrap_or(error));
        }
        let read = Box::pin(self.ask_by(By::Get, pull, tag, accept, (key, looked))).await;
        heads.got(namespace, &error, &read);
        read.map_err(|said| {
            heads.remember_words(key, who, &said);
            // What HEAD said stands, but for better words.
            if is_better(said.kind()) { said } else { error }
        })
    }

    async fn ask_by(
        &self,
        by: By,
        pull: &Pull,
        tag: &Tag,
        accept: Accept,
        (key, looked): (&Arc<str>, Option<SystemTime>),
    ) -> Result<Binding> {
        let pushed = self.bindings.pushes.generation(key);
        let generation = self.parts.upstream.generation(&pull.site);
        let who = pull.requester.credential.asked_as();
        let refused = self.parts.access.refused(who, &pull.key);
        let (to, what) = (ToldTo::of(who), What::Manifest(Reference::Tag(tag.clone())));
        let asked = Asked { pull: pull.clone(), what, accept, to, key: key.clone(), looked, by };
        let others = pull.others();
        let question = (key.clone(), accept, who, pushed, refused, generation, by, others);
        let (parts, bindings) = (self.parts.clone(), self.bindings.clone());
        let work = move || async move { asked.answer(&parts, &bindings).await };
        self.asked.run(question, work).await
    }

    /// What a GET of the tag brings, where its HEAD named a digest that cannot be had by itself.
    pub(super) async fn read(&self, pull: &Pull, tag: &Tag, accept: Accept) -> Result<Binding> {
        let key = tags::key(&pull.key, tag);
        let now = Some(self.parts.now());
        Box::pin(self.ask_by(By::Get, pull, tag, accept, (&key, now))).await
    }

    fn settle(&self, pull: &Pull, kept: Option<Kept>, asked: Result<Binding>) -> Result<Resolved> {
        let parts = &self.parts;
        let answer = answer(&asked, kept.as_ref().map(|kept| &kept.told.binding));
        let stands = granted(kept.as_ref().is_some_and(|kept| kept.stands(answer)));
        let now = parts.now();
        let checked = kept.as_ref().map(|kept| kept.told.binding.checked);
        match (freshness::after(answer, checked, stands, &parts.tags, now), asked, kept) {
            (After::Confirmed | After::Moved, Ok(binding), _) => {
                Ok(Resolved { binding, age: Duration::ZERO, stale: None, checked: None })
            }
            (After::Stale(reason), Err(error), Some(Kept { told: Told { binding, .. }, .. })) => {
                parts.metrics.stale(&pull.site.registry.name, reason.as_str());
                let stale = Some(Stale { reason, message: error.message().to_owned() });
                Ok(Resolved { age: age(&binding, now), binding, stale, checked: None })
            }
            (_, asked, _) => {
                Err(asked.err().unwrap_or_else(|| Error::new(Kind::Ours, "a tag was asked for and not answered")))
            }
        }
    }
}

/// Whether what a GET came to says more than the refusal of its HEAD.
fn is_better(kind: Kind) -> bool {
    kind == Kind::Corrupt || kind.is_answer() && kind != Kind::Limited
}

/// When what a requester was told itself was asked for.
fn looked(told: &[Told], pull: &Pull, accept: Accept) -> Option<SystemTime> {
    let to = ToldTo::of(pull.requester.credential);
    told.iter().find(|told| told.accept == accept && told.to == to).map(|told| told.binding.checked)
}

/// Whether a client's own question failed where what anonymous was told may stand.
fn is_doubtful(pull: &Pull, failed: &Error, kept: Option<&Kept>) -> bool {
    let is_no_answer = failed.kind() == Kind::Missing || Reason::of(failed.kind()).is_some();
    let may_stand = kept.is_some_and(|kept| kept.told.to == ToldTo::Anonymous && kept.standing == Standing::Anonymous);
    is_no_answer && may_stand && !pull.is_anonymous()
}

pub(super) fn age(binding: &Binding, now: SystemTime) -> Duration {
    now.duration_since(binding.checked).unwrap_or_default()
}

fn granted(is_granted: bool) -> Granted {
    if is_granted { Granted::Yes } else { Granted::No }
}

fn answer(asked: &Result<Binding>, kept: Option<&Binding>) -> Answer {
    match asked {
        Ok(binding) if kept.is_some_and(|kept| kept.digest == binding.digest) => Answer::Same,
        Ok(_) => Answer::Other,
        Err(error) => match Reason::of(error.kind()) {
            Some(reason) => Answer::Away(reason),
            None if error.kind() == Kind::Missing => Answer::Missing,
            None => Answer::Refused,
        },
    }
}
