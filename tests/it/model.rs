//! Seawall against a model: random steps of an upstream that changes owners, turns private, breaks
//! and comes back, and of clients between them. Of every answer the model says whether it was
//! allowed, and of some that they had to come.
//!
//! The oracle of permission is upstream itself over time (`model_past`): whoever gets bytes, a
//! length or a type could have got them from upstream lately enough. Which answers had to come is
//! read from what upstream said (`model_books`, `model_due`).
//!
//! A failure prints its seed and the shortest steps that fail still. `MODEL_SEED=n` plays one
//! again, `MODEL_SEEDS=n` and `MODEL_STEPS=n` play more.
//!
//! No `proptest-state-machine`: no step here has a precondition (one that has nothing to do does
//! nothing), so any of them can be left out.

use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::harness::Style;
use crate::model_steps::{Outage, Settings, Step, Who, steps as some_steps};
use crate::model_world::{World, Wrong};

/// How long one failure is made shorter, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// The steps of a seed.
fn drawn(seed: u64, steps: usize) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = proptest::collection::vec(some_steps(), steps).new_tree(&mut runner).expect("nothing is filtered");
    let mut steps_drawn = tree.current().concat();
    steps_drawn.truncate(steps);
    steps_drawn
}

fn play(settings: Settings, steps: &[Step]) -> Result<(), Wrong> {
    // One each: what a seawall that failed still does ends with it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let done = runtime.block_on(World::play(settings, steps));
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

/// The fewest steps that fail in the same way still: pieces are left out, ever smaller ones.
fn shortest(settings: Settings, mut steps: Vec<Step>, mut wrong: Wrong) -> (Vec<Step>, Wrong) {
    let begin = Instant::now();
    steps.truncate(wrong.step + 1);
    let mut piece = steps.len() / 2;
    while piece > 0 {
        let (mut at, before) = (0, steps.len());
        while at + piece < steps.len() && begin.elapsed() < PATIENCE {
            let rest = [&steps[..at], &steps[at + piece..]].concat();
            match play(settings, &rest) {
                Err(same) if same.sort() == wrong.sort() => {
                    (steps, wrong) = (rest, same);
                    steps.truncate(wrong.step + 1);
                }
                _ => at += piece,
            }
        }
        // Once more with the smallest, as long as that helps.
        piece = if piece == 1 && steps.len() < before && begin.elapsed() < PATIENCE { 1 } else { piece / 2 };
    }
    (steps, wrong)
}

/// Plays one seed; a failure as its message.
fn play_seed(seed: u64, settings: Settings, steps: usize) -> Result<(), String> {
    let steps = drawn(seed, steps);
    let Err(wrong) = play(settings, &steps) else { return Ok(()) };
    let (steps, wrong) = shortest(settings, steps, wrong);
    let steps: String = steps.iter().map(|step| format!("    Step::{step:?},\n")).collect();
    Err(format!("MODEL_SEED={seed}, {settings:?}: {wrong}\n  the steps:\n{steps}"))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn settings(seed: u64, silence: bool) -> Settings {
    Settings { small: seed % 2 == 1, forget: seed % 4 >= 2, hides: seed % 3 == 1, account: seed % 5 >= 3, silence }
}

fn play_all(first: u64, seeds: u64, steps: usize, silence: bool) {
    let steps = number("MODEL_STEPS").map_or(steps, |steps| usize::try_from(steps).unwrap());
    let seeds = match number("MODEL_SEED") {
        Some(one) => one..one + 1,
        None => first..first + number("MODEL_SEEDS").unwrap_or(seeds),
    };
    let all = seeds.clone().count();
    let played = |seed| play_seed(seed, settings(seed, silence), steps).inspect_err(|wrong| eprintln!("{wrong}"));
    let wrong: Vec<String> = seeds.filter_map(|seed| played(seed).err()).collect();
    assert!(wrong.is_empty(), "{} of {all} seeds:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_answer_is_one_that_the_model_allows() {
    play_all(1, 12, 240, false);
}

/// The same with an upstream that takes requests and says nothing.
#[test]
fn every_answer_is_one_that_the_model_allows_when_upstream_can_be_silent() {
    play_all(100_000, 4, 80, true);
}

/// Found by seeds 69 and 96: containerd and a single request never ask for `/v2/`; what they
/// brought is not pulled by docker and podman while upstream is away, for want of its challenge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containerd_brought_is_pulled_by_all_while_upstream_is_away() {
    for style in Style::ALL {
        let pull = |style| Step::Pull { who: Who::Nobody, repo: 0, tag: 0, style };
        let steps = [pull(Style::Containerd), Step::Break(Outage::Down), pull(style)];
        World::play(Settings::default(), &steps).await.unwrap_or_else(|wrong| panic!("{style:?}: {wrong}"));
    }
}
