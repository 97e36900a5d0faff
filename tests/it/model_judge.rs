//! What the model says of an answer: whether it may be, and whether it is what was asked for.

use crate::harness::exchange::ClientError;
use crate::harness::pull::Pulled;
use crate::harness::was_here;
use crate::model_asks::{Asked, Got, Wanted};
use crate::model_due::Must;
use crate::model_past::{GRANT_TTL, PUBLIC_TTL, Since, Sought, Span};
use crate::model_steps::{Outage, SHARED, Thing, Who};
use crate::model_stock::{Kind, SECRET, STOCK, name};
use crate::model_world::{LIE, World};

/// Who asks, and from when on upstream's yes to them counts.
#[derive(Clone, Copy)]
struct Requester<'a> {
    who: Who,
    credential: &'a str,
    since: Since,
    /// They may have shown nothing.
    is_bare: bool,
}

impl World {
    /// Invariant 7: upstream would have said yes to who asked, lately enough.
    fn may(&self, requester: Requester<'_>, sought: Sought<'_>, head: bool, now: Span) -> Result<(), String> {
        let Requester { who, .. } = requester;
        if self.is_allowed(requester, sought, now) {
            return Ok(());
        }
        // What anonymous may read elsewhere, and this place lists.
        let open = self.past.was_open_anywhere(sought.kind, sought.digest, self.anonymous_since(sought, now), now);
        let mut listing = STOCK.listing(sought.kind, sought.digest);
        let manifest = |digest| Sought { kind: Kind::Manifest, digest, ..sought };
        if open && !head && listing.any(|digest| self.is_allowed(requester, manifest(digest), now)) {
            return Ok(());
        }
        let Sought { place, kind, digest } = sought;
        Err(format!("{who:?} was given {} {digest} of {place}, which upstream would not have given", kind.path()))
    }

    fn is_allowed(&self, requester: Requester<'_>, sought: Sought<'_>, now: Span) -> bool {
        let Requester { who, credential, since, is_bare } = requester;
        let own = who.user().is_some_and(|user| self.past.was_granted(user, credential, sought, since, now));
        own || self.past.was_open(sought, self.anonymous_since(sought, now), now)
            || (is_bare && self.is_shared(sought, now))
    }

    /// With the operator's account, for who shows no credential.
    fn is_shared(&self, sought: Sought<'_>, now: Span) -> bool {
        let since = if self.is_away(now) { Since::Ever } else { Since::Ago(GRANT_TTL) };
        let shared = self.settings.account && sought.place == name(SHARED);
        shared && self.past.was_granted("ci", "ci", sought, since, now)
    }

    /// Anonymous's last yes stands while upstream is away, and where it says 404, if the operator
    /// wants.
    fn anonymous_since(&self, sought: Sought<'_>, now: Span) -> Since {
        let admitted = self.past.admits(self.moment, sought.place, None);
        let told_404 = if admitted { !self.past.has(self.moment, sought) } else { self.settings.hides };
        if self.is_away(now) || (told_404 && !self.settings.forget) { Since::Ever } else { Since::Ago(PUBLIC_TTL) }
    }

    pub(crate) fn judge_pull(
        &mut self,
        (who, repo, tag): (Who, u8, u8),
        must: Must,
        pulled: &Result<Pulled, ClientError>,
        now: Span,
    ) -> Result<(), String> {
        let place = name(repo);
        let pulled = match (pulled, must) {
            (Ok(pulled), _) => pulled,
            (Err(error), Some(why)) => return Err(format!("it had to be pulled ({why}), but: {error}")),
            (Err(_), None) => {
                // It broke off after some of it was read.
                let parts = self.named(repo, tag).map(|top| STOCK.pulled(&top)).unwrap_or_default();
                self.read.extend(parts.into_iter().map(|(_, digest)| (place.clone(), digest)));
                return Ok(());
            }
        };
        self.judge_tag(&place, tag, &pulled.digest, self.is_excused(repo, tag, now), now)?;
        // Its token was got just now, if it was asked for one.
        let requester = Requester { who, credential: "", since: Since::Time(now.from), is_bare: true };
        let manifests = pulled.manifests.keys().map(|digest| (Kind::Manifest, digest));
        for (kind, digest) in manifests.chain(pulled.blobs.keys().map(|digest| (Kind::Blob, digest))) {
            self.may(requester, Sought { place: &place, kind, digest }, false, now)?;
            self.read.insert((place.clone(), digest.clone()));
        }
        Ok(())
    }

    /// Upstream named it, lately enough.
    fn judge_tag(&self, place: &str, tag: u8, digest: &str, excused: bool, now: Span) -> Result<(), String> {
        let since = if excused { Since::Ever } else { Since::Ago(crate::model_past::TTL) };
        if self.past.named(place, &tag.to_string(), digest, since, now) {
            return Ok(());
        }
        Err(format!("{place}:{tag} was said to be {digest}, which upstream did not say; excused: {excused}"))
    }

    pub(crate) fn judge_answer(
        &mut self,
        asked: Asked,
        wanted: &Wanted,
        must: Must,
        got: &Result<Got, String>,
        now: Span,
    ) -> Result<(), String> {
        let failed = |what: &str| match must {
            Some(why) => Err(format!("it had to come ({why}), but: {what}")),
            None => Ok(()),
        };
        let got = match got {
            Ok(got) => got,
            Err(error) => return failed(error),
        };
        // What is not changed, or not so long, is here too.
        let is_told = got.status.is_success() || [304, 416].contains(&got.status.as_u16());
        if !is_told {
            let text = String::from_utf8_lossy(&got.body);
            judge_refusal(got, &text)?;
            return failed(&format!("{} {text}", got.status));
        }
        let place = asked.place();
        if asked.thing == Thing::List {
            return self.judge_list(asked, &place, now);
        }
        let digest = wanted.digest().unwrap_or_else(|| got.header("docker-content-digest")).to_owned();
        let sought = Sought { place: &place, kind: wanted.kind, digest: &digest };
        if self.is_of_the_gate(wanted, got) {
            return failed("a gate's words");
        }
        if STOCK.kind(&digest) != Some(wanted.kind) {
            return Err(format!("{} for {digest:?}, as one of {}", got.status, wanted.kind.path()));
        }
        let lied = asked.is_liar && asked.thing.is_head() && got.header("content-length") == LIE.to_string();
        if lied {
            return Ok(());
        }
        judge_bytes(asked.thing, &digest, got, self.outage == Some(Outage::NoDigest))?;
        if asked.thing.is_tag() {
            let marked = got.header("cache-status").contains("fwd=stale") && !got.header("warning").is_empty();
            // At their requests upstream hangs up, so that they show nothing of its being back.
            let is_long = asked.who == Who::Long;
            if marked && !is_long && !self.is_excused(asked.repo, asked.tag, now) {
                return Err(format!("stale with no reason: {}", got.header("warning")));
            }
            self.judge_tag(&place, asked.tag, &digest, marked, now)?;
        }
        self.judge_right(asked, sought, now)?;
        self.judge_first_read(asked.thing, (place.clone(), digest.clone()), got)?;
        if got.is_whole { Ok(()) } else { failed("it broke off") }
    }

    /// What a gate in front of upstream said in answer to the request for a blob that is not here: it
    /// may be the blob, until its end. Nothing of the true one is in it.
    fn is_of_the_gate(&self, wanted: &Wanted, got: &Got) -> bool {
        let Some(whole) = STOCK.bytes(&wanted.reference) else { return false };
        let length = whole.len().to_string();
        let told = match got.status.as_u16() {
            416 => got.header("content-range").rsplit('/').next().unwrap_or_default(),
            _ => got.header("content-length"),
        };
        let ends = got.status.is_success() && got.is_whole && !got.body.is_empty();
        self.outage.is_some_and(Outage::is_nonsense)
            && wanted.kind == Kind::Blob
            && !got.header("content-type").contains("html")
            && !ends
            // Where upstream says no length, the manifest does.
            && (told != length || self.outage == Some(Outage::Stream))
            && (got.body.is_empty() || !whole.starts_with(&got.body))
    }

    /// Nobody learns what others read elsewhere.
    fn judge_first_read(&mut self, thing: Thing, read: (String, String), got: &Got) -> Result<(), String> {
        // What tags name is no content.
        let is_hit = thing != Thing::HeadTag && was_here(got.header("cache-status"));
        if is_hit && !self.read.contains(&read) {
            return Err(format!("a hit, though nobody had read {} of {} before", read.1, read.0));
        }
        if !thing.is_head() && (got.status.is_success() || [304, 416].contains(&got.status.as_u16())) {
            self.read.insert(read);
        }
        Ok(())
    }

    fn judge_right(&self, asked: Asked, sought: Sought<'_>, now: Span) -> Result<(), String> {
        let credential = self.tokens.get(&asked.who).map_or("", String::as_str);
        let is_bare = matches!(asked.who, Who::Nobody | Who::Elsewhere);
        let requester = Requester { who: asked.who, credential, since: Since::Ago(GRANT_TTL), is_bare };
        if !asked.is_liar {
            return self.may(requester, sought, asked.thing.is_head(), now);
        }
        // It has nothing: only what is open to everybody need not come from there.
        if self.past.was_open_anywhere(sought.kind, sought.digest, Since::Ago(PUBLIC_TTL), now) {
            return Ok(());
        }
        Err(format!("{} was given through a registry that does not have it", sought.digest))
    }

    fn judge_list(&self, asked: Asked, place: &str, now: Span) -> Result<(), String> {
        let since = |limit| if self.is_away(now) { Since::Ever } else { Since::Ago(limit) };
        let public = self.past.admitted(None, place, since(PUBLIC_TTL), now);
        let own = asked.who.user().filter(|user| self.past.admitted(Some(user), place, Since::Ago(GRANT_TTL), now));
        let shared = self.settings.account && place == name(SHARED);
        let nonsense = self.outage.is_some_and(Outage::is_nonsense);
        if asked.is_liar || nonsense || public || own.is_some() || shared {
            return Ok(());
        }
        Err(format!("{:?} was given the tags of {place}", asked.who))
    }

    /// Upstream refuses this requester whatever they ask for in this repository.
    pub(crate) fn is_refused(&self, asked: Asked, wanted: &Wanted, got: &Got, now: Span) -> bool {
        let is_up = self.outage.is_none() && !self.is_recovering(now) && !self.is_limited(now);
        let admitted = |reader| self.admits(asked.repo, reader);
        let shared = self.settings.account && asked.repo == SHARED;
        is_up
            && !self.settings.silence
            && !asked.is_liar
            && !shared
            && asked.who != Who::Long
            && ![Thing::BrokenOff, Thing::List].contains(&asked.thing)
            && wanted.digest().is_some()
            && [401, 403, 404].contains(&got.status.as_u16())
            && !admitted(None)
            && !asked.who.user().is_some_and(|user| admitted(Some(user)))
    }
}

/// A refusal says nothing of what is refused.
fn judge_refusal(got: &Got, text: &str) -> Result<(), String> {
    if text.contains(SECRET) {
        return Err(format!("{} with bytes of it: {text}", got.status));
    }
    let told = ["docker-content-digest", "etag", "accept-ranges", "content-range"];
    if let Some(field) = told.into_iter().find(|field| got.headers.contains_key(*field)) {
        return Err(format!("{} with {field}: {}", got.status, got.header(field)));
    }
    // A challenge may be the last one.
    if got.status != 401 && was_here(got.header("cache-status")) {
        return Err(format!("{} is a hit", got.status));
    }
    Ok(())
}

fn judge_bytes(thing: Thing, digest: &str, got: &Got, unnamed: bool) -> Result<(), String> {
    let named = got.header("docker-content-digest");
    if got.status.is_success() && named != digest && !(unnamed && named.is_empty()) {
        return Err(format!("{named:?} in place of {digest}"));
    }
    let whole = STOCK.bytes(digest).expect("looked up before");
    let (status, expected) = match thing {
        _ if thing.is_head() => (200, &[][..]),
        Thing::Range => (206, &whole[2..12]),
        Thing::Known => (304, &[][..]),
        Thing::Beyond => (416, &[][..]),
        _ => (200, &whole[..]),
    };
    if [304, 416].contains(&status) && got.status == status {
        return Ok(());
    }
    let expected = if [304, 416].contains(&status) { &whole[..] } else { expected };
    let is_right = if got.is_whole { got.body == expected } else { expected.starts_with(&got.body) };
    let is_status = got.status == if [304, 416].contains(&status) { 200 } else { status };
    if !is_status || !is_right {
        return Err(format!("{} and {} bytes for {digest}, not as asked", got.status, got.body.len()));
    }
    let length = if expected.is_empty() { whole.len() } else { expected.len() };
    match got.header("content-length") {
        told if told == length.to_string() => Ok(()),
        told => Err(format!("a length of {told} for {length}")),
    }
}
