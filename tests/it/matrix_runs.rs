//! The matrix with upstream up, and away: see `matrix`.

use std::time::Duration;

use crate::harness::*;
use crate::matrix::{How, Place, State, Thing, Who, asks};
use crate::matrix_world::{Scene, Spoken, World};

const PUBLIC_TTL: Duration = Duration::from_secs(15 * 60);

/// One scene for each of the requesters.
fn for_each(spoken: Spoken, place: Place, state: State) -> Vec<(Scene, Who)> {
    spoken.requesters().iter().map(|who| (Scene::new(place, state, &format!("{who:?}")), *who)).collect()
}

/// One scene for each requester and each request, since the first request changes what is here.
fn for_each_request(spoken: Spoken, place: Place, state: State) -> Vec<(Scene, Who, Thing, How)> {
    let of = |who: Who| asks().into_iter().map(move |(thing, how)| (who, thing, how));
    let scene = |(who, thing, how)| (Scene::new(place, state, &format!("{who:?}/{thing:?}/{how:?}")), who, thing, how);
    spoken.requesters().iter().flat_map(|who| of(*who)).map(scene).collect()
}

fn report(spoken: Spoken, cells: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{spoken:?}: {} of {cells} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Cached and not cached, in all four kinds of repository.
async fn while_upstream_answers(spoken: Spoken) {
    const PLACES: [Place; 4] = [Place::Public, Place::Private, Place::Turned, Place::TurnedLong];
    // A mirror has no way to cache what is private.
    let places = PLACES.iter().copied().filter(|place| spoken != Spoken::Mirror || *place != Place::Private);
    let cached: Vec<_> = places.flat_map(|place| for_each(spoken, place, State::Cached)).collect();
    let empty: Vec<_> = PLACES.iter().flat_map(|place| for_each_request(spoken, *place, State::NotCached)).collect();
    let scenes = cached.iter().map(|(scene, _)| scene).chain(empty.iter().map(|(scene, ..)| scene));
    let scenes: Vec<Scene> = scenes.cloned().collect();
    let world = World::start(spoken, &scenes).await;
    for (scene, _) in &cached {
        world.cache(scene).await;
    }
    for (scene, ..) in empty.iter().filter(|(scene, ..)| matches!(scene.place, Place::Turned | Place::TurnedLong)) {
        world.make_known(scene).await;
    }
    world.settled().await;
    scenes.iter().for_each(|scene| world.turn(scene));
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for long in [false, true] {
        if long {
            world.seawall.clock.advance(PUBLIC_TTL);
        }
        let now = |scene: &Scene| (scene.place == Place::TurnedLong) == long;
        for (scene, who) in cached.iter().filter(|(scene, _)| now(scene)) {
            wrong.extend(world.asked_in_turn(scene, *who, &asks()).await);
            cells += asks().len();
        }
        for (scene, who, thing, how) in empty.iter().filter(|(scene, ..)| now(scene)) {
            wrong.extend(world.asked_in_turn(scene, *who, &[(*thing, *how)]).await);
            cells += 1;
        }
    }
    wrong.extend(world.gone_astray());
    report(spoken, cells, &wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_answers_h1() {
    while_upstream_answers(Spoken::H1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_answers_h2() {
    while_upstream_answers(Spoken::H2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_answers_a_mirror() {
    while_upstream_answers(Spoken::Mirror).await;
}

/// How upstream does not answer.
#[derive(Clone, Copy, Debug)]
enum Away {
    Refuses,
    HangsUp,
    Is503,
}

impl Away {
    fn take_effect(self, registry: &Registry) {
        match self {
            Away::Refuses => registry.down(),
            Away::HangsUp => registry.fault(Fault::on("*").hang_up()),
            Away::Is503 => registry.fault(Fault::on("*").status(503, "later")),
        }
    }
}

/// Upstream goes away: what is here is served to whom it was open, for as long as that is believed.
async fn while_upstream_is_away(spoken: Spoken, away: Away) {
    let scenes = |rows: &[(Place, State)]| -> Vec<(Scene, Who)> {
        let rows = rows.iter().filter(|(place, _)| spoken != Spoken::Mirror || *place != Place::Private);
        rows.flat_map(|(place, state)| for_each(spoken, *place, *state)).collect()
    };
    let soon = scenes(&[(Place::Public, State::Down), (Place::Private, State::Down), (Place::Turned, State::Down)]);
    let empty = scenes(&[(Place::Public, State::DownEmpty), (Place::Private, State::DownEmpty)]);
    let long = scenes(&[
        (Place::Public, State::DownLong),
        (Place::Private, State::DownLong),
        (Place::TurnedLong, State::DownLong),
    ]);
    let all: Vec<Scene> = soon.iter().chain(&empty).chain(&long).map(|(scene, _)| scene.clone()).collect();
    let world = World::start(spoken, &all).await;
    for (scene, _) in soon.iter().chain(&long) {
        world.cache(scene).await;
    }
    world.settled().await;
    all.iter().for_each(|scene| world.turn(scene));
    away.take_effect(&world.registry);
    let mut wrong = Vec::new();
    for (scene, who) in soon.iter().chain(&empty) {
        wrong.extend(world.asked_in_turn(scene, *who, &asks()).await);
    }
    world.seawall.clock.advance(PUBLIC_TTL);
    for (scene, who) in &long {
        wrong.extend(world.asked_in_turn(scene, *who, &asks()).await);
    }
    report(spoken, all.len() * asks().len(), &wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_is_away_h1() {
    while_upstream_is_away(Spoken::H1, Away::Refuses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_hangs_up() {
    while_upstream_is_away(Spoken::H1, Away::HangsUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_answers_503() {
    while_upstream_is_away(Spoken::H1, Away::Is503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_is_away_h2() {
    while_upstream_is_away(Spoken::H2, Away::Refuses).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_while_upstream_is_away_a_mirror() {
    while_upstream_is_away(Spoken::Mirror, Away::Refuses).await;
}

/// Upstream said that it is private, and went away after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_after_upstream_said_no_and_went_away() {
    let told = for_each(Spoken::H1, Place::TurnedLong, State::DownTold);
    let scenes: Vec<Scene> = told.iter().map(|(scene, _)| scene.clone()).collect();
    for away in [Away::Refuses, Away::HangsUp] {
        let world = World::start(Spoken::H1, &scenes).await;
        for scene in &scenes {
            world.cache(scene).await;
        }
        world.settled().await;
        scenes.iter().for_each(|scene| world.turn(scene));
        world.seawall.clock.advance(PUBLIC_TTL);
        for scene in &scenes {
            assert_eq!(world.ask(scene, Who::Nobody, Thing::Blob, How::Get).await.status, 401);
            assert_eq!(world.ask(scene, Who::Alice, Thing::Tag, How::Get).await.status, 200);
        }
        away.take_effect(&world.registry);
        let mut wrong = Vec::new();
        for (scene, who) in &told {
            wrong.extend(world.asked_in_turn(scene, *who, &asks()).await);
        }
        report(Spoken::H1, told.len() * asks().len(), &wrong);
    }
}
