//! The breaks of issue 13, each as a run of the model: what its random steps have to find when a
//! rule is missing.

use crate::harness::Style;
use crate::model_steps::{Access, Outage, Settings, Step, Thing, Who};
use crate::model_world::World;

const PLAIN: Settings = Settings { small: false, forget: false, hides: false, account: false, silence: false };
const HIDES: Settings = Settings { hides: true, ..PLAIN };
const ACCOUNT: Settings = Settings { account: true, ..PLAIN };

const fn pull(who: Who, tag: u8) -> Step {
    Step::Pull { who, repo: 0, tag, style: Style::Docker }
}

const fn ask(who: Who, tag: u8, thing: Thing) -> Step {
    Step::Ask { who, repo: 0, tag, image: None, thing, h2: false }
}

const fn turn(to: Access) -> Step {
    Step::Turn { repo: 0, to }
}

const fn push(image: u8) -> Step {
    Step::Push { repo: 0, tag: 1, image }
}

/// Tag 1 and what it names, by everybody who may not. Each of some is asked for first once: what
/// comes after a refusal tells little.
async fn all_asked(settings: Settings, before: &[Step]) {
    asked_by(&[Who::Nobody, Who::Bob, Who::Stranger, Who::Elsewhere, Who::Long], settings, before).await;
}

async fn asked_by(requesters: &[Who], settings: Settings, before: &[Step]) {
    let mut things = vec![
        Thing::Layer,
        Thing::HeadLayer,
        Thing::Manifest,
        Thing::HeadManifest,
        Thing::Beyond,
        Thing::Known,
        Thing::Range,
        Thing::Config,
        Thing::HeadTag,
        Thing::Tag,
    ];
    let mut wrong = Vec::new();
    for _first in 0..4 {
        for who in requesters {
            let asks: Vec<Step> = things.iter().map(|thing| ask(*who, 1, *thing)).collect();
            if let Err(why) = World::play(settings, &[before, &asks].concat()).await {
                wrong.push(format!("{who:?}: {why}"));
            }
        }
        things.rotate_left(1);
    }
    assert!(wrong.is_empty(), "{} runs:\n{}", wrong.len(), wrong.join("\n"));
}

async fn is_right(settings: Settings, steps: &[Step]) {
    World::play(settings, steps).await.unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Item 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_since_it_turned_private_is_nobodys() {
    let before = [pull(Who::Nobody, 0), turn(Access::Alice), push(2), pull(Who::Alice, 1)];
    for settings in [PLAIN, HIDES, ACCOUNT] {
        all_asked(settings, &before).await;
    }
}

/// Item 1, for a credential's yes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_since_an_account_lost_access_is_not_its() {
    let before =
        [turn(Access::Both), ask(Who::Bob, 0, Thing::Layer), turn(Access::Alice), push(2), pull(Who::Alice, 1)];
    all_asked(PLAIN, &before).await;
}

/// Item 1, for what was deleted, and the name given to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_repository_had_before_it_was_made_again_is_not_there() {
    let remake = Step::Remake { repo: 0, to: Access::Public, image: 2 };
    let before = [turn(Access::Alice), Step::Pass(1000), pull(Who::Alice, 1), remake, pull(Who::Nobody, 0)];
    all_asked(PLAIN, &before).await;
}

/// Item 2: repository 2 is public and lists what repository 0 has, which was public long ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_listed_elsewhere_is_not_there() {
    let there = |thing| Step::Ask { who: Who::Nobody, repo: 2, tag: 1, image: None, thing, h2: false };
    let claim = Step::Claim { repo: 2, tag: 1, image: 1 };
    let before = [pull(Who::Nobody, 1), turn(Access::Alice), Step::Pass(1000), claim, there(Thing::Tag)];
    for thing in [Thing::Config, Thing::Layer, Thing::Range, Thing::HeadLayer, Thing::Known, Thing::Beyond] {
        is_right(PLAIN, &[&before[..], &[there(thing)]].concat()).await;
    }
}

/// Item 3: upstream is away, or a client makes it seem so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_opens_nothing_that_was_not_open() {
    let private = [pull(Who::Nobody, 0), turn(Access::Alice), push(2), pull(Who::Alice, 1), Step::Pass(1000)];
    for outage in [Outage::Down, Outage::Broken, Outage::NoTokens, Outage::AbuseLimit] {
        asked_by(&[Who::Nobody, Who::Stranger], PLAIN, &[&private[..], &[Step::Break(outage)]].concat()).await;
    }
}

/// Item 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_at_which_upstream_hangs_up_makes_no_outage() {
    let before = [pull(Who::Nobody, 0), turn(Access::Alice), push(2), pull(Who::Alice, 1), Step::Pass(1000)];
    all_asked(PLAIN, &before).await;
    let public =
        [pull(Who::Nobody, 0), Step::Pass(1000), ask(Who::Long, 0, Thing::Layer), ask(Who::Long, 0, Thing::Tag)];
    is_right(PLAIN, &public).await;
}

/// Item 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_to_who_may_not_read_opens_nothing() {
    let before = [pull(Who::Nobody, 0), turn(Access::Alice), push(2), pull(Who::Alice, 1), Step::Pass(1000)];
    all_asked(HIDES, &before).await;
}

/// Item 4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_does_not_have_it_opens_nothing() {
    let lie = |thing| Step::Liar { who: Who::Nobody, repo: 0, tag: 1, image: None, thing };
    let things = [Thing::HeadManifest, Thing::Manifest, Thing::HeadLayer, Thing::Layer, Thing::Range, Thing::Crossed];
    for thing in things {
        let private = [turn(Access::Alice), Step::Pass(1000), pull(Who::Alice, 1)];
        is_right(PLAIN, &[&private[..], &[lie(thing), lie(thing)]].concat()).await;
    }
}

/// Item 5: what others read elsewhere, and what is refused, is not told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_learns_what_others_read() {
    let elsewhere = Step::Ask { who: Who::Alice, repo: 2, tag: 0, image: None, thing: Thing::Base, h2: false };
    is_right(PLAIN, &[pull(Who::Nobody, 0), elsewhere]).await;
    for settings in [PLAIN, HIDES] {
        for thing in [Thing::Manifest, Thing::HeadManifest, Thing::Layer, Thing::HeadLayer, Thing::Range] {
            let asks = [ask(Who::Bob, 0, thing), ask(Who::Nobody, 0, thing)];
            let steps = [&[turn(Access::Alice), Step::Pass(1000), pull(Who::Alice, 0)], &asks[..]].concat();
            is_right(settings, &steps).await;
        }
    }
}

/// Item 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_fetches_nothing_for_who_may_not_read_it() {
    all_asked(ACCOUNT, &[pull(Who::Nobody, 0), turn(Access::Closed), push(2)]).await;
}

/// Item 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_beginning_of_what_is_private_is_private() {
    let broken = [turn(Access::Alice), Step::Pass(1000), push(2), ask(Who::Alice, 1, Thing::BrokenOff)];
    for outage in [Outage::Page, Outage::Json, Outage::Stream, Outage::Empty, Outage::Down] {
        let after = [Step::Break(outage), ask(Who::Nobody, 1, Thing::Layer), ask(Who::Stranger, 1, Thing::Range)];
        is_right(PLAIN, &[&broken[..], &after].concat()).await;
    }
}

/// Items 8 and 9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_opens_nothing_and_takes_nothing_away() {
    for outage in [Outage::Page, Outage::PageButTokens, Outage::Json, Outage::NoContent, Outage::Packed, Outage::Empty]
    {
        let private = [turn(Access::Alice), Step::Pass(1000), pull(Who::Alice, 1), Step::Break(outage)];
        asked_by(&[Who::Nobody, Who::Stranger], PLAIN, &private).await;
        let again = [Step::Restart, Step::Break(Outage::Down), ask(Who::Nobody, 1, Thing::Layer)];
        is_right(PLAIN, &[&private[..], &[ask(Who::Nobody, 1, Thing::HeadTag)], &again].concat()).await;
        let public = [pull(Who::Nobody, 0), Step::Pass(1000), Step::Break(outage), pull(Who::Nobody, 0)];
        let later = [Step::Recover, Step::Pass(70), pull(Who::Nobody, 0)];
        is_right(PLAIN, &[&public[..], &later].concat()).await;
    }
}

/// Item 10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_is_no_blob() {
    let crossed = [ask(Who::Nobody, 0, Thing::Crossed), ask(Who::Nobody, 0, Thing::CrossedBlob)];
    is_right(PLAIN, &[&[pull(Who::Nobody, 0)], &crossed[..]].concat()).await;
}

/// Item 11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_push_takes_nothing_away() {
    let put = |who| Step::Put { who, repo: 0, tag: 0, image: 1 };
    for who in [Who::Nobody, Who::Stranger, Who::Long] {
        let steps = [pull(Who::Nobody, 0), put(who), Step::Break(Outage::Down), Step::Restart, pull(Who::Nobody, 0)];
        is_right(PLAIN, &steps).await;
    }
}

/// Item 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_ends_nothing_for_others() {
    for who in [Who::Stranger, Who::Elsewhere, Who::Long] {
        let asks = [ask(who, 0, Thing::Layer), ask(who, 0, Thing::HeadTag), ask(who, 0, Thing::Manifest)];
        let away = [Step::Break(Outage::Down), pull(Who::Nobody, 0)];
        is_right(PLAIN, &[&[pull(Who::Nobody, 0), Step::Pass(1000)], &asks[..], &away].concat()).await;
    }
}
