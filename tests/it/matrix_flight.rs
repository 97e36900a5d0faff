//! The matrix while it is on its way: see `matrix`. The fake's gate holds the first one's answer
//! midway; all others ask meanwhile. Whoever is to be refused is, with the gate still closed;
//! whoever is let in follows, and upstream is asked for the bytes once.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::harness::*;
use crate::matrix::{Cell, Expected, How, Place, State, Thing, Who};
use crate::matrix_world::{HELD_AT, Scene, Spoken, World};

/// How long somebody may wait who must not wait for the gate. Nobody waits this long when all is
/// well.
const AT_ONCE: Duration = Duration::from_secs(30);
/// The same, where somebody does wait: the time that a failing test takes.
const SOON: Duration = Duration::from_secs(5);

/// A pull that stands still, and those who ask meanwhile.
struct Flight {
    scene: Scene,
    thing: Thing,
    /// In scenes of their own, as what upstream says to a HEAD closes a repository to others.
    hows: &'static [How],
    gate: Gate,
}

fn flights(places: &[Place]) -> Vec<Flight> {
    let mut flights = Vec::new();
    for &place in places {
        for thing in Thing::ALL {
            for hows in [&[How::Get, How::Condition][..], &[How::Head]] {
                let scene = Scene::new(place, State::InFlight, &format!("{thing:?}/{:?}", hows[0]));
                flights.push(Flight { scene, thing, hows, gate: Gate::new() });
            }
        }
    }
    flights
}

impl Flight {
    /// The first one begins, and gets stuck.
    async fn begin(&self, world: &Arc<World>) -> tokio::task::JoinHandle<(Scene, Thing, Option<String>)> {
        let (kind, at) = if self.thing.is_manifest() { ("manifests", 10) } else { ("bytes", HELD_AT) };
        let at = if self.thing == Thing::Config { 10 } else { at };
        let digest = self.scene.digest(self.thing);
        world.registry.fault(Fault::on(kind).method(Method::GET).digest(&digest).hold_body(at, &self.gate).times(1));
        let thing = if self.thing == Thing::Range { Thing::Blob } else { self.thing };
        let (world, scene) = (world.clone(), self.scene.clone());
        let first = world.first(&scene);
        let leading = tokio::spawn(async move {
            let reply = world.ask_apart(&scene, first, thing, How::Get).await;
            let whole = reply.body.as_ref().is_ok_and(|bytes| sha256(bytes) == scene.digest(thing));
            let wrong = (reply.status != 200 || !whole)
                .then(|| format!("{}: the first got {}", scene.repository, reply.status));
            (scene, thing, wrong)
        });
        self.gate.reached().await;
        leading
    }

    /// All ask; what is wrong with what they get.
    async fn followed(&self, world: &Arc<World>) -> Vec<String> {
        let (mut soon, mut later) = (Vec::new(), Vec::new());
        for &who in world.requesters() {
            for &how in self.hows {
                let (world, scene, thing) = (world.clone(), self.scene.clone(), self.thing);
                let cell = Cell { place: scene.place, state: scene.state, who: world.taken_for(who), thing, how };
                let asking = tokio::spawn(async move {
                    let reply = world.ask_apart(&scene, who, thing, how).await;
                    world.judged(&scene, who, thing, how, &reply)
                });
                let waits = cell.expected() == Expected::Served && how != How::Head;
                (if waits { &mut later } else { &mut soon }).push((cell, asking));
            }
        }
        let mut wrong = Vec::new();
        for (cell, asking) in soon {
            match tokio::time::timeout(AT_ONCE, asking).await {
                Ok(judged) => wrong.extend(judged.unwrap()),
                Err(_) => wrong.push(format!("{cell:?}: it waits for the gate")),
            }
        }
        self.gate.open();
        for (_, asking) in later {
            wrong.extend(asking.await.unwrap());
        }
        wrong
    }
}

async fn in_flight(spoken: Spoken, places: &[Place]) {
    let flights = flights(places);
    let scenes: Vec<Scene> = flights.iter().map(|flight| flight.scene.clone()).collect();
    let world = Arc::new(World::start(spoken, &scenes).await);
    for scene in scenes.iter().filter(|scene| scene.place != Place::Private) {
        world.make_known(scene).await;
    }
    world.settled().await;
    let mut leading = Vec::new();
    for flight in &flights {
        leading.push(flight.begin(&world).await);
    }
    scenes.iter().for_each(|scene| world.turn(scene));
    let mut wrong = Vec::new();
    for long in [false, true] {
        if long {
            world.seawall.clock.advance(Duration::from_secs(15 * 60));
        }
        for flight in flights.iter().filter(|flight| (flight.scene.place == Place::TurnedLong) == long) {
            wrong.extend(flight.followed(&world).await);
        }
    }
    for leader in leading {
        let (scene, thing, broken) = leader.await.unwrap();
        wrong.extend(broken);
        let digest = scene.digest(thing);
        let kind = if thing.is_manifest() { "manifests" } else { "cdn" };
        let fetched = world.registry.count(|seen| {
            seen.method == Method::GET
                && seen.kind() == kind
                && seen.ask.digest() == Some(&digest)
                && seen.status() / 100 == 2
        });
        if fetched != 1 {
            wrong.push(format!("{} {thing:?}: fetched {fetched} times", scene.repository));
        }
    }
    wrong.extend(world.gone_astray());
    assert!(wrong.is_empty(), "{spoken:?}: {} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_in_flight_h1() {
    in_flight(Spoken::H1, &[Place::Public, Place::Private, Place::Turned, Place::TurnedLong]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_in_flight_h2() {
    in_flight(Spoken::H2, &[Place::Public, Place::Private, Place::Turned, Place::TurnedLong]).await;
}

/// A mirror cannot begin to fetch what is private.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_in_flight_a_mirror() {
    in_flight(Spoken::Mirror, &[Place::Public, Place::Turned, Place::TurnedLong]).await;
}

/// A pull whose answer has not even begun keeps nobody waiting who is to be refused. (To wait is to
/// learn that somebody is reading it.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_does_not_wait_for_somebody_elses_answer() {
    let scene = Scene::new(Place::Private, State::InFlight, "head");
    let world = Arc::new(World::start(Spoken::H1, std::slice::from_ref(&scene)).await);
    let gate = Gate::new();
    let digest = scene.digest(Thing::Blob);
    world.registry.fault(Fault::on("blobs").method(Method::GET).digest(&digest).hold_head(&gate).times(1));
    let leading = tokio::spawn({
        let (world, scene) = (world.clone(), scene.clone());
        async move { world.ask_apart(&scene, Who::Alice, Thing::Blob, How::Get).await }
    });
    gate.reached().await;
    let strangers = [Who::Nobody, Who::Anonymous, Who::Bob, Who::Elsewhere, Who::MadeUp, Who::Basic];
    let asking = strangers.map(|who| {
        let (world, scene) = (world.clone(), scene.clone());
        tokio::spawn(async move { (who, world.ask_apart(&scene, who, Thing::Blob, How::Get).await.status.as_u16()) })
    });
    let refused = tokio::time::timeout(SOON, futures_util::future::try_join_all(asking)).await;
    gate.open();
    assert_eq!(leading.await.unwrap().status, 200);
    for (who, status) in refused.expect("they waited for alice's answer").unwrap() {
        assert_eq!(status, 401, "{who:?}");
    }
}

/// A registry that does not answer holds nobody up who pulls the same bytes from another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_registry_holds_up_no_pull_from_another() {
    let pki = Pki::new();
    let layer = Blob::generated(5, 10 << 10);
    let image = || Image::of(vec![layer.clone()]);
    let silent = Registry::new("ghcr.io").image("a/b:1", image()).start(&pki).await;
    let good = Registry::new("quay.io").image("c/d:1", image()).start(&pki).await;
    let seawall = Seawall::before(&good).front(&silent);
    let seawall = seawall.toml("[upstream]\nCA_FILE\nresolve_deadline = \"300ms\"").start(&pki).await;
    let gate = Gate::new();
    silent.fault(Fault::on("blobs").method(Method::GET).hold_head(&gate));
    let ask = |url: String| {
        let client = seawall.client();
        tokio::spawn(async move { client.get(&url).send().await.unwrap().status.as_u16() })
    };
    let first = ask(format!("https://ghcr.io/v2/a/b/blobs/{}", layer.digest()));
    gate.reached().await;
    let second = ask(format!("https://quay.io/v2/c/d/blobs/{}", layer.digest()));
    let soon = tokio::time::timeout(SOON, second).await;
    gate.open();
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(soon.expect("it waited for the silent one").unwrap(), 200);
}
