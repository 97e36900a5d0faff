use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::super::presence::Presences;
use super::super::secret::Secret;
use super::*;
use crate::clock::Clock;
use crate::oci::digest::Algorithm;
use crate::policy::access::{GrantTtls, Standing, Verdict};
use crate::records::{Journal, Records};
use crate::store::index::Index;
use crate::task::Tasks;
use crate::upstream::requester::Keyring;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    access: Access,
    index: Index,
    clock: Clock,
    ring: Keyring,
    key: RepositoryKey,
}

impl World {
    fn new() -> World {
        let (clock, tasks, journal) = (Clock::system(), Tasks::new(), Journal::off());
        let index = Index::new(journal.clone());
        let presences = Presences::new(index.clone(), journal.clone());
        let ttls = GrantTtls { public: 15 * MINUTE, own: 5 * MINUTE, offline: Duration::ZERO, stale: Duration::MAX };
        let secret = Arc::new(Secret::random());
        let access = Access::new(ttls, presences, secret, &journal, &mut Records::default(), &clock, &tasks);
        World { access, index, clock, ring: Keyring::new(), key: "r/a".into() }
    }

    fn requester(&self, text: Option<&'static str>) -> Requester {
        let shown = text.map(HeaderValue::from_static);
        self.ring.requester(shown.as_ref(), SystemTime::UNIX_EPOCH)
    }

    /// A blob that is here, and came from this registry.
    fn put(&self, name: &str) -> Digest {
        let digest = digest(name);
        drop(self.index.insert(&digest, 1, None, SystemTime::UNIX_EPOCH));
        digest
    }

    fn ask(&self, requester: &Requester) -> Inquiry {
        self.access.inquire(&self.key, requester)
    }

    fn hear(&self, requester: &Requester, digest: &Digest, kind: ContentKind) {
        self.access.hear(&self.ask(requester), Proves::Grant(requester.credential), (digest, kind));
    }

    fn verdict(&self, requester: &Requester, digest: &Digest, kind: ContentKind) -> Verdict {
        self.access.check(requester, &self.key, (digest, kind)).permission.verdict
    }

    fn stands(&self, requester: &Requester, digest: &Digest, kind: ContentKind) -> Standing {
        self.access.check(requester, &self.key, (digest, kind)).permission.standing
    }

    fn give(&self, requester: &Requester, manifest: &Digest, listed: &[(Digest, ContentKind)]) {
        let given = self.access.check(requester, &self.key, (manifest, ContentKind::Manifest)).given.unwrap();
        self.access.give(requester, &self.key, manifest, given, listed);
    }
}

fn digest(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

use ContentKind::{Blob, Manifest};

#[test]
fn a_yes_is_for_one_digest_kind_repository_and_requester() {
    let world = World::new();
    let (alice, bob) = (world.requester(Some("Basic a")), world.requester(Some("Basic b")));
    let (one, two) = (world.put("one"), world.put("two"));
    world.hear(&alice, &one, Blob);
    assert_eq!(world.verdict(&alice, &one, Blob), Verdict::Granted);
    for (who, digest, kind) in [(&alice, &one, Manifest), (&alice, &two, Blob), (&bob, &one, Blob)] {
        assert_eq!(world.verdict(who, digest, kind), Verdict::Ask);
    }
    let elsewhere = world.access.check(&alice, &"r/b".into(), (&one, Blob));
    assert_eq!(elsewhere.permission.verdict, Verdict::Ask);
    // Anonymous's is everybody's.
    world.hear(&world.requester(None), &two, Blob);
    assert_eq!(world.verdict(&bob, &two, Blob), Verdict::Granted);
    world.clock.advance(5 * MINUTE);
    assert_eq!(world.verdict(&alice, &one, Blob), Verdict::Ask);
    assert_eq!(world.verdict(&bob, &two, Blob), Verdict::Granted);
    world.clock.advance(10 * MINUTE);
    assert_eq!((world.verdict(&bob, &two, Blob), world.stands(&bob, &two, Blob)), (Verdict::Ask, Standing::Anonymous));
}

/// Row 10, of anonymous too.
#[tokio::test]
async fn a_late_yes_is_void_after_a_refusal() {
    for shown in [None, Some("Basic a")] {
        let world = World::new();
        let (who, one) = (world.requester(shown), world.put("one"));
        let (early, refused) = (world.ask(&who), world.ask(&who));
        world.access.refuse(&refused).await;
        world.access.hear(&early, Proves::Grant(who.credential), (&one, Blob));
        assert_eq!((world.verdict(&who, &one, Blob), world.stands(&who, &one, Blob)), (Verdict::Ask, Standing::None));
        world.hear(&who, &one, Blob);
        assert_eq!(world.verdict(&who, &one, Blob), Verdict::Granted);
        world.access.refuse(&refused).await;
        assert_eq!(world.stands(&who, &one, Blob), Standing::None, "it ends what was before it");
    }
}

/// Rows 11 to 14, and pitfall 46.
#[tokio::test]
async fn a_404_is_about_who_asked() {
    let world = World::new();
    let (alice, bob, anonymous) =
        (world.requester(Some("Basic a")), world.requester(Some("Basic b")), world.requester(None));
    let (one, two) = (world.put("one"), world.put("two"));
    for (who, digest) in [(&alice, &one), (&bob, &one), (&bob, &two), (&anonymous, &two)] {
        world.hear(who, digest, Blob);
    }
    world.access.miss(&world.ask(&bob), (&one, Blob), Ends::Open).await;
    assert_eq!(world.verdict(&bob, &one, Blob), Verdict::Ask);
    assert_eq!(world.verdict(&alice, &one, Blob), Verdict::Granted);
    world.access.miss(&world.ask(&bob), (&two, Blob), Ends::Open).await;
    assert_eq!(world.verdict(&bob, &two, Blob), Verdict::Granted, "public is for all");
    world.access.miss(&world.ask(&anonymous), (&two, Blob), Ends::Nothing).await;
    assert_eq!(world.stands(&bob, &two, Blob), Standing::Anonymous);
    world.access.miss(&world.ask(&anonymous), (&two, Blob), Ends::Open).await;
    assert_eq!(world.stands(&bob, &two, Blob), Standing::None);
}

/// Rows 6 and 7; and a claim renews nothing.
#[test]
fn a_manifest_gives_what_had_been_named_by_then() {
    for shown in [None, Some("Basic a")] {
        let world = World::new();
        let (who, stranger) = (world.requester(shown), world.requester(Some("Basic s")));
        let (manifest, before, after) = (world.put("manifest"), world.put("before"), world.put("after"));
        world.hear(&stranger, &manifest, Manifest);
        world.hear(&stranger, &before, Blob);
        world.hear(&who, &manifest, Manifest);
        world.hear(&stranger, &after, Blob);
        let listed = [(before.clone(), Blob), (after.clone(), Blob)];
        world.give(&who, &manifest, &listed);
        assert_eq!(world.verdict(&who, &before, Blob), Verdict::Granted);
        assert_eq!(world.verdict(&who, &after, Blob), Verdict::Ask);
        let by = world.access.check(&who, &world.key, (&after, Blob)).by;
        assert_eq!(by.as_ref(), Some(&manifest), "one question renews the image");
        world.hear(&who, &manifest, Manifest);
        world.give(&who, &manifest, &listed);
        assert_eq!(world.verdict(&who, &after, Blob), Verdict::Granted);
        // Another manifest claims it, newer than any word of it: that makes nothing younger.
        world.clock.advance(20 * MINUTE);
        let claims = world.put("claims");
        world.hear(&who, &claims, Manifest);
        world.give(&who, &claims, &listed);
        assert_eq!(world.verdict(&who, &after, Blob), Verdict::Ask);
    }
}

/// The account's yes is for whom the operator shares with.
#[tokio::test]
async fn the_accounts_yes_is_for_what_is_shared() {
    let world = World::new();
    let (account, anonymous) = (world.requester(None).on_account(), world.requester(None));
    let one = world.put("one");
    world.hear(&account, &one, Blob);
    world.clock.advance(6 * MINUTE);
    assert_eq!(world.stands(&account, &one, Blob), Standing::Login);
    assert_eq!(world.stands(&anonymous, &one, Blob), Standing::None);
    world.access.account_refused(&world.key).await;
    assert_eq!(world.stands(&account, &one, Blob), Standing::None);
}

#[test]
fn a_manifest_without_end_gives_a_part_of_what_it_lists() {
    let world = World::new();
    let (who, manifest) = (world.requester(None), world.put("manifest"));
    let listed: Vec<_> = (0..2 * MOST_LISTED).map(|n| (digest(&n.to_string()), Blob)).collect();
    for n in [0, MOST_LISTED] {
        drop(world.index.insert(&listed[n].0, 1, None, SystemTime::UNIX_EPOCH));
        world.hear(&world.requester(Some("Basic s")), &listed[n].0, Blob);
    }
    world.hear(&who, &manifest, Manifest);
    world.hear(&world.requester(Some("Basic s")), &listed[0].0, Blob);
    world.hear(&world.requester(Some("Basic s")), &listed[MOST_LISTED].0, Blob);
    world.hear(&who, &manifest, Manifest);
    world.give(&who, &manifest, &listed);
    assert_eq!(world.verdict(&who, &listed[0].0, Blob), Verdict::Granted);
    assert_eq!(world.verdict(&who, &listed[MOST_LISTED].0, Blob), Verdict::Ask);
}
