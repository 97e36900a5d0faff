//! What tags name: bindings of (registry, repository, tag, what the client accepts) to a digest.

use std::ops::Not;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use moka::sync::Cache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::pushes::Pushes;
use crate::lru::lru;
use crate::oci::digest::Digest;
use crate::oci::media_type::Accept;
use crate::oci::name::{RepositoryKey, Tag};
use crate::policy::access::within;
use crate::records::{Journal, Table, seconds, time};
use crate::upstream::requester::Credential;

/// What a tag names, for clients that accept the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The digest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: Arc<str>,
    /// Of the manifest in bytes, where upstream said it.
    pub size: Option<u64>,
    /// When upstream was last asked, and confirmed it: the question was sent then.
    pub checked: SystemTime,
    /// Whether upstream took a push of the tag since: then it is not fresh.
    pub overtaken: bool,
    /// What the tag named before, and can be served: this one may never come.
    pub before: Option<Arc<Binding>>,
}

impl Binding {
    /// When it was last confirmed, if no push overtook that.
    pub fn confirmed(&self) -> Option<SystemTime> {
        self.overtaken.not().then_some(self.checked)
    }

    /// This, where the tag named `last` until now.
    #[must_use]
    pub fn after(self, last: Option<Binding>, is_here: impl Fn(&Digest) -> bool) -> Binding {
        let before = match last {
            Some(last) if last.digest != self.digest && is_here(&last.digest) => {
                Some(Arc::new(Binding { before: None, ..last }))
            }
            last => last.and_then(|last| last.before),
        };
        Binding { before: before.filter(|before| before.digest != self.digest), ..self }
    }
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Record {
    accept: u8,
    #[serde(flatten)]
    named: Named,
    #[serde(default, skip_serializing_if = "Not::not")]
    overtaken: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Named>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    digest: Digest,
    media_type: Arc<str>,
    size: Option<u64>,
    checked: u64,
}

type Variants = Arc<[(Accept, Binding)]>;

/// The bindings.
#[derive(Debug)]
pub struct Bindings {
    journal: Journal,
    bound: Cache<Arc<str>, Variants>,
    /// Digests that were advertised to clients for a tag: they are about to ask for them.
    advertised: Cache<(RepositoryKey, Digest, Credential), SystemTime>,
    /// Pushes through seawall.
    pub pushes: Pushes,
    /// Held while bindings are changed: an answer is bound before a push is known to be taken, and
    /// overtaken, or after it, and knows.
    changing: Mutex<()>,
}

/// `REGISTRY/REPOSITORY:TAG`
pub fn key(repository: &RepositoryKey, tag: &Tag) -> Arc<str> {
    [repository.as_str(), ":", tag.as_str()].concat().into()
}

/// Tags that are remembered: about 400 bytes each, 700 where one names something that never came.
const MOST: u64 = 200_000;
/// A client asks for what was advertised to it within this time.
const ADVERTISED: Duration = Duration::from_secs(60);

impl Bindings {
    /// With what the journal knew.
    pub fn new(journal: Journal, known: Vec<(String, Vec<u8>)>) -> Bindings {
        let bound = lru(MOST);
        for (key, value) in known {
            let Ok(records) = serde_json::from_slice::<Vec<Record>>(&value) else { continue };
            let variants: Variants = records.into_iter().map(Record::read).collect();
            bound.insert(key.into(), variants);
        }
        Bindings { journal, bound, advertised: lru(10_000), pushes: Pushes::default(), changing: Mutex::default() }
    }

    /// Repositories with the digests that upstream confirmed in them, by what their tags name.
    pub fn confirmed(&self) -> Vec<(RepositoryKey, Digest)> {
        let of = |key: &str, variants: &Variants| {
            let repository: Option<RepositoryKey> = key.rsplit_once(':').map(|(repository, _)| repository.into());
            let named = variants.iter().map(|(_, binding)| binding.digest.clone());
            named.filter_map(|digest| Some((repository.clone()?, digest))).collect::<Vec<_>>()
        };
        self.bound.iter().flat_map(|(key, variants)| of(&key, &variants)).collect()
    }

    /// What the tag names for clients that accept just this.
    pub fn find(&self, key: &Arc<str>, accept: Accept) -> Option<Binding> {
        let variants = self.bound.get(key)?;
        variants.iter().find(|(bound, _)| *bound == accept).map(|(_, binding)| binding.clone())
    }

    /// The newest binding for other clients that these can read too: better than nothing while
    /// upstream is unreachable.
    pub fn find_readable(&self, key: &Arc<str>, accept: Accept) -> Option<Binding> {
        let variants = self.bound.get(key)?;
        let readable = variants.iter().map(|(_, binding)| binding).filter(|binding| accept.admits(&binding.media_type));
        readable.max_by_key(|binding| binding.checked).cloned()
    }

    /// The newest binding, for whomever it is.
    pub fn newest(&self, key: &Arc<str>) -> Option<Binding> {
        newest(&self.bound.get(key)?)
    }

    /// The tags that come after `after`, in order, at most `limit`, and what is newest of each. Who
    /// looks does not use them.
    pub fn known(&self, after: &str, limit: usize) -> Vec<(Arc<str>, Binding)> {
        let behind = self.bound.iter().filter(|(key, _)| ***key > *after);
        let mut known: Vec<(Arc<str>, Variants)> = behind.map(|(key, variants)| ((*key).clone(), variants)).collect();
        let by_name = |a: &(Arc<str>, Variants), b: &(Arc<str>, Variants)| a.0.cmp(&b.0);
        if known.len() > limit {
            known.select_nth_unstable_by(limit, by_name);
            known.truncate(limit);
        }
        known.sort_unstable_by(by_name);
        known.into_iter().filter_map(|(key, variants)| Some((key, newest(&variants)?))).collect()
    }

    /// Binds, or confirms, what upstream said to the question of [`Binding::checked`], unless what
    /// it said to a later one is bound. A push that was taken since makes it old.
    pub fn bind(&self, key: &Arc<str>, accept: Accept, binding: Binding, now: SystemTime) {
        let _changing = self.changing.lock();
        let known = self.bound.get(key);
        let (same, others): (Vec<_>, Vec<_>) =
            known.iter().flat_map(|all| all.iter()).partition(|(bound, _)| *bound == accept);
        if same.iter().any(|(_, known)| is_later(known, binding.checked, now)) {
            return;
        }
        let overtaken = self.pushes.of(key).overtook(binding.checked, now);
        let binding = Binding { overtaken, ..binding };
        self.set(key, others.into_iter().cloned().chain([(accept, binding)]).collect());
    }

    /// Upstream took a push, or a removal, of the tag: what is bound was asked for before. It is
    /// asked for again, and served while upstream cannot be asked.
    pub fn overtake(&self, key: &Arc<str>, now: SystemTime) {
        let _changing = self.changing.lock();
        self.pushes.note_taken(key, now);
        if let Some(known) = self.bound.get(key) {
            let old = |(accept, binding): &(Accept, Binding)| (*accept, Binding { overtaken: true, ..binding.clone() });
            self.set(key, known.iter().map(old).collect());
        }
    }

    /// Forgets a tag that upstream does not have, by its answer to a question that was sent at
    /// `asked`; not, if a later one was answered otherwise.
    pub fn forget(&self, key: &Arc<str>, asked: SystemTime, now: SystemTime) {
        let _changing = self.changing.lock();
        let Some(known) = self.bound.get(key) else { return };
        if self.pushes.of(key).overtook(asked, now) || known.iter().any(|(_, known)| is_later(known, asked, now)) {
            return;
        }
        // Earlier questions may be on their way.
        self.pushes.note_taken(key, asked);
        self.bound.invalidate(key);
        self.journal.remove(Table::Tags, key.to_string());
    }

    fn set(&self, key: &Arc<str>, variants: Variants) {
        let records: Vec<Record> = variants.iter().map(|(accept, binding)| Record::of(*accept, binding)).collect();
        self.journal.write(Table::Tags, key.to_string(), &records);
        self.bound.insert(key.clone(), variants);
    }

    /// A digest was advertised to `who` for a tag in a repository.
    pub fn advertise(&self, repository: &RepositoryKey, digest: &Digest, who: Credential, now: SystemTime) {
        self.advertised.insert((repository.clone(), digest.clone(), who), now);
    }

    /// Whether `who` asks for `digest` for a tag's sake: docker and containerd ask for what was
    /// advertised.
    pub fn was_advertised(
        &self,
        repository: &RepositoryKey,
        digest: &Digest,
        who: Credential,
        now: SystemTime,
    ) -> bool {
        within(self.advertised.get(&(repository.clone(), digest.clone(), who)), ADVERTISED, now)
    }
}

/// Whether a binding was asked for after `asked`. What a wrong clock wrote down as of the future is
/// not later than anything.
fn is_later(binding: &Binding, asked: SystemTime, now: SystemTime) -> bool {
    binding.checked > asked && binding.checked <= now
}

fn newest(variants: &[(Accept, Binding)]) -> Option<Binding> {
    variants.iter().map(|(_, binding)| binding).max_by_key(|binding| binding.checked).cloned()
}

impl Record {
    fn of(accept: Accept, binding: &Binding) -> Record {
        let before = binding.before.as_deref().map(Named::of);
        Record { accept: accept.bits(), named: Named::of(binding), overtaken: binding.overtaken, before }
    }

    fn read(self) -> (Accept, Binding) {
        let before = self.before.map(|before| Arc::new(before.read()));
        (Accept::from_bits(self.accept), Binding { before, overtaken: self.overtaken, ..self.named.read() })
    }
}

impl Named {
    fn of(binding: &Binding) -> Named {
        Named {
            digest: binding.digest.clone(),
            media_type: binding.media_type.clone(),
            size: binding.size,
            checked: seconds(binding.checked),
        }
    }

    fn read(self) -> Binding {
        let Named { digest, media_type, size, checked } = self;
        Binding { digest, media_type, size, checked: time(checked), overtaken: false, before: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::digest::Algorithm;
    use crate::oci::media_type::{OCI_INDEX, OCI_MANIFEST};

    fn binding(media_type: &str, at: u64) -> Binding {
        let digest = Digest::of(Algorithm::Sha256, media_type.as_bytes());
        let (media_type, checked) = (media_type.into(), time(at));
        Binding { digest, media_type, size: Some(1), checked, overtaken: false, before: None }
    }

    /// Pitfalls 1 and 13: the registry and what the client accepts are in the key.
    #[test]
    fn one_tag_names_different_things_for_different_clients_and_registries() {
        let bindings = Bindings::new(Journal::off(), Vec::new());
        let tag: Tag = "1".parse().unwrap();
        let (hub, ghcr) = (key(&"docker.io/a/b".into(), &tag), key(&"ghcr.io/a/b".into(), &tag));
        let (old, new) = (Accept::of([OCI_MANIFEST].into_iter()), Accept::of([OCI_MANIFEST, OCI_INDEX].into_iter()));
        bindings.bind(&hub, old, binding(OCI_MANIFEST, 1), time(1));
        assert_eq!(bindings.find(&hub, new), None);
        assert_eq!(bindings.find(&ghcr, old), None);
        assert_eq!(bindings.find_readable(&hub, new).unwrap().media_type.as_ref(), OCI_MANIFEST);
        bindings.bind(&hub, new, binding(OCI_INDEX, 2), time(2));
        assert_eq!(bindings.find(&hub, old).unwrap().media_type.as_ref(), OCI_MANIFEST);
        assert_eq!(bindings.find_readable(&hub, old).unwrap().media_type.as_ref(), OCI_MANIFEST);
        bindings.forget(&hub, time(9), time(9));
        assert_eq!(bindings.find_readable(&hub, new), None);
    }

    /// Pitfall 46: what a push does to what is bound, and to answers from before it.
    #[test]
    fn a_push_makes_its_tag_old_and_no_other() {
        let bindings = Bindings::new(Journal::off(), Vec::new());
        let (one, two): (Arc<str>, Arc<str>) = ("r/a:1".into(), "r/a:2".into());
        let any = Accept::of([OCI_MANIFEST].into_iter());
        let confirmed = |key| bindings.find(key, any).unwrap().confirmed();
        for key in [&one, &two] {
            bindings.bind(key, any, binding("old", 10), time(10));
        }
        bindings.overtake(&one, time(20));
        assert_eq!((confirmed(&one), confirmed(&two)), (None, Some(time(10))));
        assert_eq!(bindings.find(&one, any).unwrap().checked, time(10), "it stands for as long as before");
        bindings.bind(&one, any, binding("old", 19), time(21));
        assert_eq!(confirmed(&one), None, "asked before");
        bindings.bind(&one, any, binding("new", 22), time(23));
        assert_eq!(confirmed(&one), Some(time(22)));
        bindings.bind(&one, any, binding("old", 19), time(24));
        assert_eq!(confirmed(&one), Some(time(22)), "a late answer");
        bindings.forget(&one, time(21), time(24));
        assert_eq!(confirmed(&one), Some(time(22)), "a late 404");
        bindings.bind(&two, any, binding("old", 1), time(62));
        assert_eq!(confirmed(&two), Some(time(10)));
        bindings.bind(&two, any, binding("slow", 25), time(90));
        assert_eq!(confirmed(&two), None, "who knows what was pushed since");
        bindings.bind(&two, any, binding("future", 900), time(900));
        bindings.bind(&two, any, binding("now", 91), time(91));
        assert_eq!(confirmed(&two), Some(time(91)), "the clock was wrong");
    }

    #[test]
    fn what_was_served_last_stays_at_hand_until_what_is_new_is_here() {
        let (one, two, three) = (binding("one", 1), binding("two", 2), binding("three", 3));
        let here = |names: &'static [&str]| {
            move |digest: &Digest| names.iter().any(|name| *digest == Digest::of(Algorithm::Sha256, name.as_bytes()))
        };
        let before = |binding: &Binding| binding.before.as_ref().map(|before| before.media_type.to_string());
        assert_eq!(before(&one.clone().after(None, here(&["one"]))), None);
        let moved = two.clone().after(Some(one.clone()), here(&["one"]));
        assert_eq!(before(&moved).as_deref(), Some("one"));
        assert_eq!(
            before(&two.clone().after(Some(moved.clone()), here(&["one"]))).as_deref(),
            Some("one"),
            "confirmed"
        );
        assert_eq!(
            before(&three.clone().after(Some(moved.clone()), here(&["one"]))).as_deref(),
            Some("one"),
            "moved on"
        );
        assert_eq!(before(&three.after(Some(moved.clone()), here(&["one", "two"]))).as_deref(), Some("two"), "it came");
        assert_eq!(before(&one.clone().after(Some(moved), here(&["one"]))), None, "moved back");
        assert_eq!(before(&two.after(Some(one), here(&[]))), None, "nothing to serve");
    }

    #[test]
    fn what_a_tag_named_before_is_written_down_too() {
        let new = binding("new", 2).after(Some(binding("old", 1)), |_| true);
        let accept = Accept::of([OCI_MANIFEST].into_iter());
        let written = serde_json::to_vec(&[Record::of(accept, &new)]).unwrap();
        let read: Vec<Record> = serde_json::from_slice(&written).unwrap();
        assert_eq!(read.into_iter().map(Record::read).collect::<Vec<_>>(), [(accept, new)]);
        let plain = serde_json::to_string(&Record::of(accept, &binding("new", 2))).unwrap();
        assert!(!plain.contains("before") && !plain.contains("overtaken"), "{plain}: as earlier versions wrote it");
        let old = Binding { overtaken: true, ..binding("old", 1) };
        let written = serde_json::to_vec(&Record::of(accept, &old)).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&written).unwrap().read(), (accept, old));
    }
}
