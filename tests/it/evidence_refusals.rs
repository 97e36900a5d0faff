//! A refusal says nothing of what is here: status, fields, body and what it costs upstream are the
//! same of what is in the cache and of what is not (section 5 of the design, "What a client sees").

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;

use crate::access::{ALICE, BOB};
use crate::evidence::*;
use crate::flight::landed;
use crate::harness::exchange::Reply;
use crate::harness::*;
use crate::tags::MINUTE;

/// Longer than any pause between two trials of a host that does not answer: each request is one.
const TRIAL: Duration = Duration::from_secs(6);

/// acme/app:cached, which alice has pulled, and acme/app:absent, which nobody has, of one size.
struct World {
    pki: Pki,
    registry: Registry,
    seawall: Seawall,
    pairs: Vec<[String; 2]>,
}

async fn world(registry: Registry) -> World {
    let pki = Pki::new();
    let (cached, absent) = (secret("cached"), secret("absent"));
    let registry = registry.image("acme/app:cached", cached.clone()).image("acme/app:absent", absent.clone());
    let registry = registry.private("acme/app", &["alice"]).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    pull_as_alice(&seawall, "docker.io/acme/app:cached").await;
    let pairs = places("acme/app", "cached", &cached).into_iter().zip(places("acme/app", "absent", &absent));
    let pairs = pairs.map(|(cached, absent)| [cached, absent]).collect();
    World { pki, registry, seawall, pairs }
}

/// All that a client can see of an answer, but for when it came, with the name of what was asked for
/// taken out.
fn shape(reply: &Reply, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap();
    let fields = reply.headers.iter().filter(|(field, _)| !["date", "retry-after"].contains(&field.as_str()));
    let mut fields: Vec<String> =
        fields.map(|(field, value)| format!("{field}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    let body = reply.body.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let text = format!("{}\n{}\n{body:?}", reply.status, fields.join("\n")).replace(name, "NAME");
    // As a challenge to who shows nothing: upstream may have said it to a token of seawall's own.
    without_times(&text.replace(",error=\"insufficient_scope\"", ""))
}

/// With a star for each digit of `2026-11-30T03:05:52Z`.
fn without_times(text: &str) -> String {
    let times = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").unwrap();
    times.replace_all(text, "****-**-**T**:**:**Z").into_owned()
}

/// For each way of asking, by each of these: that the two of a pair look the same. Before each
/// request the clock moves on by `step`.
async fn differences(world: &World, who: &[(&'static str, Reader)], step: Duration, when: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, reader) in who {
        // From here on it was said to all of them.
        nothing_of_it(&reader.get(&manifest("acme/app", "never")).await, name);
        for pair in &world.pairs {
            for (cached, absent) in ways(&pair[0]).into_iter().zip(ways(&pair[1])) {
                let mut shapes = Vec::new();
                for ((method, field, value), path) in [(cached.clone(), &pair[0]), (absent, &pair[1])] {
                    world.seawall.clock.advance(step);
                    let reply = reader.request(method, path).header(field, &value).send().await.unwrap();
                    nothing_of_it(&reply, &format!("{when}, {name}: {path}"));
                    shapes.push(shape(&reply, path));
                }
                if shapes[0] != shapes[1] {
                    let asked = format!("{when}, {name}: {} {} {}: {}", cached.0, pair[0], cached.1, cached.2);
                    wrong.push(format!("{asked}\nhere: {}\nnot here: {}", shapes[0], shapes[1]));
                }
            }
        }
    }
    wrong
}

fn none(wrong: &[String]) {
    let shown = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} answers differ:\n{shown}", wrong.len());
}

/// Item 5, by every way in: asked anew each time, or refused at once since upstream has just said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_the_same_whether_it_is_here_or_not() {
    let mut wrong = Vec::new();
    for registry in [hub(), hub().hides()] {
        let world = world(registry).await;
        let who = strangers(&world.seawall, "acme/app").await;
        for step in [Duration::ZERO, MINUTE] {
            wrong.extend(differences(&world, &who, step, "online").await);
        }
    }
    none(&wrong);
}

/// … while upstream is away, fails, or says nonsense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_the_same_whether_it_is_here_or_not() {
    let world = world(hub()).await;
    let who = strangers(&world.seawall, "acme/app").await;
    // What was said to them is repeated for a minute, which is not to end between two of a pair.
    world.seawall.clock.advance(MINUTE);
    let mut wrong = Vec::new();
    let host = || Fault::on("*").host("registry-1.docker.io");
    for (when, fault) in
        [("503", host().status(503, "down")), ("429", host().abuse_limit(1)), ("a page", host().page())]
    {
        world.registry.fault(fault);
        wrong.extend(differences(&world, &who[..4], TRIAL, when).await);
        world.registry.clear_faults();
    }
    world.registry.down();
    wrong.extend(differences(&world, &who, TRIAL, "away").await);
    none(&wrong);
}

/// … and after a restart, while upstream is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_the_same_after_a_restart() {
    let mut world = world(hub()).await;
    world.registry.down();
    world.seawall = world.seawall.restart(&world.pki).await;
    let who = [
        ("anonymous", Reader::anonymous(&world.seawall)),
        ("at the mirror", Reader::at_mirror(&world.seawall)),
        ("made up", Reader::showing(&world.seawall, "Bearer token-999-alice.")),
    ];
    none(&differences(&world, &who, TRIAL, "away").await);
}

/// What upstream is asked is the same as well, so that a refusal takes as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_costs_the_same_whether_it_is_here_or_not() {
    for registry in [hub(), hub().hides()] {
        let world = world(registry).await;
        let bob = Reader::of(&world.seawall, BOB, "acme/app").await;
        let mut wrong = Vec::new();
        for pair in &world.pairs {
            for method in [Method::GET, Method::HEAD] {
                let mut costs = Vec::new();
                for path in pair {
                    world.seawall.clock.advance(MINUTE);
                    world.registry.reset_counts();
                    let reply = bob.ask(method.clone(), path).await;
                    nothing_of_it(&reply, path);
                    let asked = world.registry.requests();
                    let mut asked: Vec<_> =
                        asked.iter().map(|seen| format!("{} {}", seen.method, seen.kind())).collect();
                    asked.sort();
                    costs.push(asked);
                }
                if costs[0] != costs[1] {
                    wrong.push(format!("{method} {}\nhere: {:?}\nnot here: {:?}", pair[0], costs[0], costs[1]));
                }
            }
        }
        none(&wrong);
    }
}

/// A digest of somebody else's, asked for in a repository of one's own, is as unknown there as one
/// that nobody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_is_as_unknown_as_what_nobody_has() {
    let mut world = world(hub().image("acme/bobs:1", Image::single(&[b"bob's"])).private("acme/bobs", &["bob"])).await;
    for [cached, absent] in &mut world.pairs {
        *cached = cached.replace("acme/app", "acme/bobs");
        *absent = absent.replace("acme/app", "acme/bobs");
    }
    let bob = [("bob", Reader::of(&world.seawall, BOB, "acme/bobs").await)];
    assert_eq!(bob[0].1.status(&manifest("acme/bobs", "1")).await, 200);
    let mut wrong = differences(&world, &bob, MINUTE / 10, "online").await;
    world.registry.down();
    wrong.extend(differences(&world, &bob, TRIAL, "away").await);
    none(&wrong);
}

/// Item 5: of bytes that came here through another repository the first read in this one is a miss,
/// as of bytes that nobody has read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_read_is_a_miss_whoever_read_it_elsewhere() {
    let pki = Pki::new();
    let (kept, open, cold) = (secret("alice's and bob's"), secret("of two that are public"), secret("colder"));
    let registry = hub();
    for (name, image) in [("acme/app", &kept), ("acme/bobs", &kept), ("library/one", &open), ("library/two", &open)] {
        registry.add_image(&format!("{name}:1"), image);
        registry.add_image(&format!("{name}:2"), &cold);
    }
    let registry = registry.private("acme/app", &["alice"]).private("acme/bobs", &["bob"]).start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    // Once through a private repository, and once through a public one.
    pull_as_alice(&seawall, "docker.io/acme/app:1").await;
    let anonymous = Reader::anonymous(&seawall);
    all_open("anonymous", &anonymous, &places("library/one", "1", &open)).await;
    landed(&seawall).await;
    let alice = Reader::of(&seawall, ALICE, "acme/app").await;
    let again = alice.get(&blob("acme/app", &kept.layers()[0].digest())).await;
    assert_eq!(again.header("cache-status"), REVALIDATED);
    let bob = Reader::of(&seawall, BOB, "acme/bobs").await;
    for (reader, name, image) in [(&bob, "acme/bobs", &kept), (&anonymous, "library/two", &open)] {
        let pairs = places(name, "1", image).into_iter().zip(places(name, "2", &cold)).skip(1);
        for (here, not_here) in pairs {
            let (first, other) = (reader.get(&here).await, reader.get(&not_here).await);
            landed(&seawall).await;
            assert_eq!((first.status.as_u16(), other.status.as_u16()), (200, 200), "{here}");
            let told = (first.header("cache-status"), other.header("cache-status"));
            assert!(told.0.contains("fwd=miss") && told.0 == told.1, "{here}: {told:?}");
            let names = |reply: &Reply| reply.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
            assert_eq!(names(&first), names(&other), "{here}: fields");
            // Of what is merely listed in library/two, and open in library/one, nothing is recorded.
            let again = reader.get(&here).await;
            assert!(
                name == "library/two" || again.header("cache-status").contains("hit"),
                "{here}: {:?}",
                again.headers
            );
        }
    }
}

/// Who shows nothing is told at once what upstream has just told all who show nothing; a minute
/// later it is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_is_given_unasked_for_a_minute() {
    let World { registry, seawall, pairs, pki: _ } = world(hub()).await;
    let anonymous = Reader::anonymous(&seawall);
    let challenged = async |path: &str| {
        let reply = anonymous.get(path).await;
        let scope = "scope=\"repository:acme/app:pull\"";
        let challenge = reply.header("www-authenticate");
        assert!(reply.status == 401 && challenge.contains(scope), "{path}: {} {challenge}", reply.status);
        shape(&reply, path)
    };
    challenged(&manifest("acme/app", "never")).await;
    registry.reset_counts();
    seawall.clock.advance(MINUTE / 2);
    let unasked = challenged(&manifest("acme/app", "never")).await;
    for path in pairs.iter().flatten() {
        assert_eq!(challenged(path).await, unasked, "{path}");
    }
    assert_eq!(registry.requests().len(), 0, "{}", registry.log());
    registry.make_public("acme/app");
    seawall.clock.advance(MINUTE);
    assert_eq!(anonymous.status(&pairs[0][1]).await, 200, "{}", registry.log());
}
