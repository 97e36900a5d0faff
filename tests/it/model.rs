//! Seawall against a model: random steps of an upstream that changes, breaks and comes back, and of
//! clients between them. The model (`model_books`) says of every answer whether it was allowed, and
//! of some that they had to come.
//!
//! A failure prints its seed and the shortest steps that fail still. `MODEL_SEED=n` plays one
//! again, `MODEL_SEEDS=n` and `MODEL_STEPS=n` play more.
//!
//! No `proptest-state-machine`: no step here has a precondition (one that has nothing to do does
//! nothing), so a `Vec<Step>` shrinks as it is.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::harness::Style;
use crate::model_world::World;

/// What seawall is told for a whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// A cache that holds a third of what there is.
    pub(crate) small: bool,
    /// `gone = "forget"`
    pub(crate) forget: bool,
    /// Upstream can be silent. Deadlines are short, so that silence is: an answer may come late for
    /// that alone.
    pub(crate) silence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Nobody,
    Alice,
    Bob,
}

/// Who may read a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Public,
    Alice,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Down,
    HangUp,
    Broken,
    /// Where there is none in this run: as `Down`.
    Silent,
    /// The token service alone answers 503.
    NoTokens,
    /// No GET of a manifest more, for anybody.
    PullLimit,
    /// 429 for everything.
    AbuseLimit,
}

impl Outage {
    /// Nothing helpful comes from upstream, whatever is asked.
    pub(crate) fn is_total(self) -> bool {
        !matches!(self, Outage::NoTokens | Outage::PullLimit)
    }
}

/// What one request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Tag,
    HeadTag,
    Manifest,
    HeadManifest,
    Config,
    Layer,
    /// Every image of every repository has it.
    Base,
    Range,
    HeadLayer,
    /// What another repository holds, and this one does not.
    Foreign,
}

/// Which image of a repository's four; `None`: the one its tag named last.
pub(crate) type Which = Option<u8>;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The tag names this image now. It is pushed where it is not there.
    Push {
        repo: u8,
        tag: u8,
        image: u8,
    },
    /// 404 from now on.
    Delete {
        repo: u8,
        tag: u8,
    },
    Turn {
        repo: u8,
        to: Access,
    },
    Break(Outage),
    Recover,
    Restart,
    /// Seconds.
    Pass(u64),
    Pull {
        who: Who,
        repo: u8,
        tag: u8,
        style: Style,
    },
    Ask {
        who: Who,
        repo: u8,
        tag: u8,
        image: Which,
        thing: Thing,
        h2: bool,
    },
}

pub(crate) const REPOS: u8 = 3;
pub(crate) const TAGS: u8 = 2;
pub(crate) const IMAGES: u8 = 4;

fn step() -> impl Strategy<Value = Step> {
    let (repo, tag, image) = (0..REPOS, 0..TAGS, 0..IMAGES);
    let spot = || (repo.clone(), tag.clone());
    let who = || select(vec![Who::Nobody, Who::Nobody, Who::Alice, Who::Bob]);
    let access = select(vec![Access::Public, Access::Public, Access::Alice, Access::Both]);
    let outage = select(vec![
        Outage::Down,
        Outage::HangUp,
        Outage::Broken,
        Outage::Silent,
        Outage::NoTokens,
        Outage::PullLimit,
        Outage::AbuseLimit,
    ]);
    let thing = select(vec![
        Thing::Tag,
        Thing::Tag,
        Thing::HeadTag,
        Thing::Manifest,
        Thing::HeadManifest,
        Thing::Config,
        Thing::Layer,
        Thing::Base,
        Thing::Range,
        Thing::HeadLayer,
        Thing::Foreign,
    ]);
    let which = prop_oneof![3 => Just(None), 1 => image.clone().prop_map(Some)];
    prop_oneof![
        5 => (spot(), image).prop_map(|((repo, tag), image)| Step::Push { repo, tag, image }),
        1 => spot().prop_map(|(repo, tag)| Step::Delete { repo, tag }),
        3 => (repo.clone(), access).prop_map(|(repo, to)| Step::Turn { repo, to }),
        4 => outage.prop_map(Step::Break),
        5 => Just(Step::Recover),
        1 => Just(Step::Restart),
        8 => select(vec![1, 25, 70, 70, 400, 1000, 90_000]).prop_map(Step::Pass),
        10 => (who(), spot(), select(Style::ALL.to_vec()))
            .prop_map(|(who, (repo, tag), style)| Step::Pull { who, repo, tag, style }),
        26 => (who(), spot(), which, thing, any::<bool>())
            .prop_map(|(who, (repo, tag), image, thing, h2)| Step::Ask { who, repo, tag, image, thing, h2 }),
    ]
}

/// Plays one seed; a failure as its message.
fn play(seed: u64, settings: Settings, steps: usize) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_time: 60_000,
        max_shrink_iters: 5000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let played = runner.run(&proptest::collection::vec(step(), steps), |steps| {
        // One each: what a seawall that failed still does ends with it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let done = runtime.block_on(World::play(settings, &steps));
        runtime.shutdown_timeout(Duration::from_secs(5));
        done.map_err(TestCaseError::fail)
    });
    played.map_err(|error| match error {
        TestError::Fail(why, steps) => {
            let steps: String = steps.iter().map(|step| format!("    {step:?}\n")).collect();
            format!("MODEL_SEED={seed}, {settings:?}: {why}\n  the steps:\n{steps}")
        }
        TestError::Abort(why) => format!("seed {seed}: {why}"),
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn settings(seed: u64, silence: bool) -> Settings {
    Settings { small: seed % 2 == 1, forget: seed % 4 >= 2, silence }
}

fn play_all(first: u64, seeds: u64, steps: usize, silence: bool) {
    let steps = number("MODEL_STEPS").map_or(steps, |steps| usize::try_from(steps).unwrap());
    let seeds = match number("MODEL_SEED") {
        Some(one) => one..one + 1,
        None => first..first + number("MODEL_SEEDS").unwrap_or(seeds),
    };
    let all = seeds.clone().count();
    let played = |seed| play(seed, settings(seed, silence), steps).inspect_err(|wrong| eprintln!("{wrong}"));
    let wrong: Vec<String> = seeds.filter_map(|seed| played(seed).err()).collect();
    assert!(wrong.is_empty(), "{} of {all} seeds:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_answer_is_one_that_the_model_allows() {
    play_all(1, 8, 60, false);
}

/// The same with an upstream that takes requests and says nothing.
#[test]
fn every_answer_is_one_that_the_model_allows_when_upstream_can_be_silent() {
    play_all(1000, 4, 40, true);
}

/// Found by seeds 69 and 96: containerd and a single request never ask for `/v2/`; what they
/// brought is not pulled by docker and podman while upstream is away, for want of its challenge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containerd_brought_is_pulled_by_all_while_upstream_is_away() {
    let settings = Settings { small: false, forget: false, silence: false };
    for style in Style::ALL {
        let pull = |style| Step::Pull { who: Who::Nobody, repo: 0, tag: 0, style };
        let steps = [pull(Style::Containerd), Step::Break(Outage::Down), pull(style)];
        World::play(settings, &steps).await.unwrap_or_else(|wrong| panic!("{style:?}: {wrong}"));
    }
}
