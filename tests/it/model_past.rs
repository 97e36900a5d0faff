//! The oracle: what upstream was, moment for moment, and whether a requester could read something
//! there lately. Of what seawall knows and how it came to know it there is nothing here, but for
//! what upstream said to anonymous: a refusal ends what was true before it, and only what was said
//! can stand in an outage.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;

use crate::harness::{Held, Seen};
use crate::model_steps::{Outage, Settings};
use crate::model_stock::{Kind, STOCK};

/// What README promises.
pub(crate) const TTL: Duration = Duration::from_secs(60);
pub(crate) const PUBLIC_TTL: Duration = Duration::from_secs(900);
pub(crate) const GRANT_TTL: Duration = Duration::from_secs(300);
const RECENT: Since = Since::Ago(PUBLIC_TTL);
/// What is written down has whole seconds, and a step takes some time.
pub(crate) const BLUR: Duration = Duration::from_secs(3);

/// When something happened: between these.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: SystemTime,
    pub(crate) to: SystemTime,
}

impl Span {
    pub(crate) fn at(now: SystemTime) -> Span {
        Span { from: now, to: now }
    }

    /// It may be no older than this at the beginning of `now`.
    pub(crate) fn may_be_within(self, limit: Duration, now: Span) -> bool {
        now.from.duration_since(self.to).unwrap_or_default() < limit + BLUR
    }

    /// It is no older than this even at the end of `now`.
    pub(crate) fn is_within(self, limit: Duration, now: Span) -> bool {
        now.to.duration_since(self.from).unwrap_or_default() + BLUR < limit
    }
}

/// When, and from what, a step's answers came.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) at: Span,
    pub(crate) outage: Option<Outage>,
    pub(crate) settings: Settings,
}

/// Who reads: `None` is anonymous.
pub(crate) type Reader = Option<&'static str>;

/// From when on upstream's state counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// … as long before the answer.
    Ago(Duration),
    /// … from this moment on.
    Time(SystemTime),
    /// However long ago; for anonymous, if it was said then.
    Ever,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sought<'a> {
    pub(crate) place: &'a str,
    pub(crate) kind: Kind,
    pub(crate) digest: &'a str,
}

/// Upstream from `at` on.
struct Moment {
    at: SystemTime,
    held: HashMap<String, Arc<Held>>,
}

#[derive(Default)]
pub(crate) struct Past {
    moments: Vec<Moment>,
    /// By repository and digest: when anonymous was told that it may have it.
    said: HashMap<(String, String), Vec<usize>>,
    /// By repository and credential ("" is anonymous): the moment of the last refusal.
    refused: HashMap<(String, String), usize>,
    /// By repository, and digest as what it was asked for: … of the last time that anonymous was told
    /// that it may not be had.
    ended: HashMap<(String, String), usize>,
    /// … that it was deleted through seawall.
    deleted: HashMap<(String, String), usize>,
    /// By repository and tag: … of the last push or deletion through seawall.
    pushed: HashMap<(String, String), (usize, SystemTime)>,
}

fn as_kind(kind: &str, digest: &str) -> String {
    format!("{kind}/{digest}")
}

impl Past {
    /// The number of the moment that begins. `places`: every repository.
    pub(crate) fn note(&mut self, at: SystemTime, places: impl Iterator<Item = (String, Held)>) -> usize {
        let before = self.moments.last().map(|moment| moment.held.clone()).unwrap_or_default();
        let mut held = before.clone();
        for (place, now) in places {
            if held.get(&place).is_none_or(|known| **known != now) {
                held.insert(place, Arc::new(now));
            }
        }
        if self.moments.is_empty() || held != before {
            self.moments.push(Moment { at, held });
        }
        self.moments.len() - 1
    }

    /// Takes in the refusals that reached seawall. `issued`: the last token before the step.
    /// `foreign`: a token of anonymous that clients show for what it is not for.
    pub(crate) fn read(&mut self, log: &[Seen], heard: Heard, issued: u64, foreign: &str) {
        let Heard { outage, settings, .. } = heard;
        let is_nonsense = outage.is_some_and(Outage::is_nonsense);
        for seen in log.iter().filter(|seen| [Method::GET, Method::HEAD].contains(&seen.method)) {
            let (Some(place), Some(shown)) = (seen.ask.repository(), seen.authorization()) else { continue };
            if shown == foreign {
                continue;
            }
            let anonymous = shown.contains("-anonymous.");
            match (seen.status(), seen.ask.digest()) {
                (200..=399, digest) if anonymous && !is_nonsense => {
                    let tagged = || self.tagged(seen.moment(), place, seen.path.rsplit('/').next()?);
                    if let Some(digest) = digest.map(str::to_owned).or_else(tagged) {
                        self.said.entry((place.to_owned(), digest)).or_default().push(seen.moment());
                    }
                }
                // A token got anew was refused too.
                (401 | 403, _) if anonymous && serial(shown) > issued => self.refuse(place, "", seen.moment()),
                (401 | 403, _) if shown.contains("-ci.") => self.refuse(place, "ci", seen.moment()),
                (401 | 403, _) if !anonymous => self.refuse(place, shown, seen.moment()),
                (404 | 410, Some(digest)) if anonymous && settings.forget => {
                    self.ended.insert((place.to_owned(), as_kind(seen.kind(), digest)), seen.moment());
                }
                (412 | 451, Some(digest)) if anonymous => {
                    self.ended.insert((place.to_owned(), as_kind(seen.kind(), digest)), seen.moment());
                }
                _ => {}
            }
        }
    }

    fn refuse(&mut self, place: &str, credential: &str, moment: usize) {
        let last = self.refused.entry((place.to_owned(), credential.to_owned())).or_insert(moment);
        *last = moment.max(*last);
    }

    /// A push or deletion through seawall that upstream took: what was before is over.
    pub(crate) fn push(&mut self, place: &str, reference: &str, moment: usize, at: SystemTime) {
        self.pushed.insert((place.to_owned(), reference.to_owned()), (moment, at));
    }

    pub(crate) fn delete(&mut self, place: &str, digest: &str, moment: usize) {
        self.deleted.insert((place.to_owned(), digest.to_owned()), moment);
    }

    pub(crate) fn pushed_within(&self, place: &str, tag: &str, limit: Duration, now: Span) -> bool {
        let pushed = self.pushed.get(&(place.to_owned(), tag.to_owned()));
        pushed.is_some_and(|(_, at)| now.from.duration_since(*at).unwrap_or_default() < limit + BLUR)
    }

    /// The moments of a window: their numbers.
    fn window(&self, since: Since, floor: usize, now: Span) -> std::ops::Range<usize> {
        let from = match since {
            Since::Ago(limit) => now.from.checked_sub(limit + BLUR).expect("a time after 1970"),
            Since::Time(at) => at,
            Since::Ever => SystemTime::UNIX_EPOCH,
        };
        // The one before the first that began inside was still there at its beginning.
        let first = self.moments.partition_point(|moment| moment.at <= from).saturating_sub(1);
        first.max(floor)..self.moments.len()
    }

    fn held(&self, moment: usize, place: &str) -> Option<&Held> {
        self.moments[moment].held.get(place).map(|held| &**held)
    }

    pub(crate) fn has(&self, moment: usize, sought: Sought<'_>) -> bool {
        self.held(moment, sought.place).is_some_and(|held| match sought.kind {
            Kind::Manifest => held.manifests.contains(sought.digest),
            Kind::Blob => held.blobs.contains(sought.digest),
        })
    }

    /// What a tag named.
    pub(crate) fn tagged(&self, moment: usize, place: &str, tag: &str) -> Option<String> {
        self.held(moment, place)?.tags.get(tag).cloned()
    }

    pub(crate) fn admits(&self, moment: usize, place: &str, reader: Reader) -> bool {
        let readers = self.held(moment, place).map(|held| &held.readers);
        readers.is_some_and(|readers| match (readers, reader) {
            (None, _) => true,
            (Some(readers), Some(user)) => readers.contains(user),
            (Some(_), None) => false,
        })
    }

    /// Upstream has it there, or lists it there in what it has, and had named it by then: who may
    /// read a manifest may read what it lists.
    fn covers(&self, moment: usize, sought: Sought<'_>) -> bool {
        if self.has(moment, sought) {
            return true;
        }
        STOCK.listing(sought.kind, sought.digest).any(|manifest| {
            let manifest = Sought { kind: Kind::Manifest, digest: manifest, ..sought };
            let named = |first: usize| (first..=moment).any(|then| self.has(then, sought));
            let first = (0..=moment).find(|then| self.has(*then, manifest));
            first.is_some_and(named) && self.covers(moment, manifest)
        })
    }

    /// At some moment of the window upstream would have given this to this reader.
    fn readable(&self, reader: Reader, sought: Sought<'_>, since: Since, floor: usize, now: Span) -> bool {
        let mut window = self.window(since, floor, now);
        window.any(|moment| self.admits(moment, sought.place, reader) && self.covers(moment, sought))
    }

    /// … to anonymous, whose refusals end what was before them.
    pub(crate) fn was_open(&self, sought: Sought<'_>, since: Since, now: Span) -> bool {
        let of = (sought.place.to_owned(), sought.digest.to_owned());
        let as_asked = (sought.place.to_owned(), as_kind(sought.kind.path(), sought.digest));
        let ended = [self.ended.get(&as_asked), self.deleted.get(&of), self.last_no(sought.place, "")];
        let floor = ended.into_iter().flatten().max().copied().unwrap_or(0);
        match since {
            Since::Ever => self.was_said(sought, sought, floor) || self.readable(None, sought, RECENT, floor, now),
            _ => self.readable(None, sought, since, floor, now),
        }
    }

    /// Anonymous was told since then that it may have this, or what lists it and `sought`.
    fn was_said(&self, this: Sought<'_>, sought: Sought<'_>, floor: usize) -> bool {
        let said = self.said.get(&(this.place.to_owned(), this.digest.to_owned()));
        let named = |moment: usize| {
            let first = (0..=moment).find(|then| self.has(*then, this)).unwrap_or(moment);
            this.digest == sought.digest || (first..=moment).any(|then| self.has(then, sought))
        };
        let mut lists = STOCK.listing(this.kind, this.digest);
        said.is_some_and(|said| said.iter().any(|moment| *moment >= floor && named(*moment)))
            || lists.any(|digest| self.was_said(Sought { kind: Kind::Manifest, digest, ..this }, sought, floor))
    }

    /// … to who showed this credential.
    pub(crate) fn was_granted(
        &self,
        reader: &'static str,
        credential: &str,
        sought: Sought<'_>,
        since: Since,
        now: Span,
    ) -> bool {
        let of = (sought.place.to_owned(), sought.digest.to_owned());
        let ended = [self.deleted.get(&of), self.last_no(sought.place, credential)];
        let floor = ended.into_iter().flatten().max().copied().unwrap_or(0);
        self.readable(Some(reader), sought, since, floor, now)
    }

    fn last_no(&self, place: &str, credential: &str) -> Option<&usize> {
        self.refused.get(&(place.to_owned(), credential.to_owned()))
    }

    /// In some repository.
    pub(crate) fn was_open_anywhere(&self, kind: Kind, digest: &str, since: Since, now: Span) -> bool {
        let mut places = self.moments.last().into_iter().flat_map(|moment| moment.held.keys());
        places.any(|place| self.was_open(Sought { place, kind, digest }, since, now))
    }

    /// A reader was let in at all.
    pub(crate) fn admitted(&self, reader: Reader, place: &str, since: Since, now: Span) -> bool {
        self.window(since, 0, now).any(|moment| self.admits(moment, place, reader))
    }

    /// The tag named this.
    pub(crate) fn named(&self, place: &str, tag: &str, digest: &str, since: Since, now: Span) -> bool {
        let pushed = self.pushed.get(&(place.to_owned(), tag.to_owned())).map_or(0, |(moment, _)| *moment);
        let floor = if since == Since::Ever { 0 } else { pushed };
        let names = |held: &Held| held.tags.get(tag).is_some_and(|named| named == digest);
        self.window(since, floor, now).any(|moment| self.held(moment, place).is_some_and(names))
    }

    /// The numbers of the last moments in which things were otherwise, for a failure's message.
    pub(crate) fn told(&self, place: &str, now: SystemTime) -> String {
        let mut text = String::new();
        for (n, moment) in self.moments.iter().enumerate() {
            let Some(held) = moment.held.get(place) else { continue };
            if n > 0 && self.held(n - 1, place) == Some(&**held) {
                continue;
            }
            let ago = now.duration_since(moment.at).unwrap_or_default().as_secs();
            text += &format!("    {n}: {ago} s ago, readers {:?}, tags {:?}\n", held.readers, held.tags);
        }
        let of_place = |map: &HashMap<(String, String), usize>| {
            let mut all: Vec<_> = map.iter().filter(|((at, _), _)| at == place).collect();
            all.sort();
            all.into_iter().map(|((_, what), n)| format!("{what}: {n}")).collect::<Vec<_>>().join(", ")
        };
        text += &format!("    refused {{{}}}, ", of_place(&self.refused));
        text + &format!("ended {{{}}}, deleted {{{}}}", of_place(&self.ended), of_place(&self.deleted))
    }
}

/// `Bearer token-17-anonymous.` is the 17th.
fn serial(shown: &str) -> u64 {
    let number = shown.strip_prefix("Bearer token-").and_then(|rest| rest.split('-').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
