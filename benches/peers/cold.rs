//! Misses: what a cache costs and delays when it has nothing yet, against going to the registry
//! directly.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;

use crate::MIB;
use crate::process::cpu_of;
use crate::report::{Report, median};
use crate::servers::Server;
use crate::upstream::Upstream;
use crate::wire::{Fetched, Target};

const GIB: f64 = (1_u64 << 30) as f64;

/// How large things are: a slow link needs smaller ones.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// The blob that one, ten, a hundred ask for; 0: not asked.
    pub(crate) one: u64,
    pub(crate) ten: u64,
    pub(crate) hundred: u64,
    /// Of each of a hundred different blobs.
    pub(crate) each: u64,
    pub(crate) rounds: usize,
}

/// One cold moment: who asks for what.
#[derive(Clone, Copy)]
struct Scene {
    clients: usize,
    /// One for all, or one for each.
    blobs: usize,
    len: u64,
}

impl Scene {
    fn name(self) -> String {
        let size = if self.len >= MIB { format!("{} MiB", self.len / MIB) } else { format!("{} KiB", self.len >> 10) };
        match (self.clients, self.blobs) {
            (1, _) => format!("1 client, {size}"),
            (clients, 1) => format!("{clients} clients of one blob, {size}"),
            (clients, _) => format!("{clients} clients of {clients} blobs, {size} each"),
        }
    }
}

/// What happened in it.
struct Outcome {
    first: Duration,
    last: Duration,
    cpu: Duration,
    gets: usize,
    connections: u64,
}

/// Each scene directly and through each server, in turns, with blobs that nobody has seen.
pub(crate) async fn run(
    section: &str,
    servers: &[Server],
    upstream: &mut Upstream,
    sizes: Sizes,
    report: &mut Report,
) -> Result<()> {
    let scenes = [
        Scene { clients: 1, blobs: 1, len: sizes.one },
        Scene { clients: 10, blobs: 1, len: sizes.ten },
        Scene { clients: 100, blobs: 1, len: sizes.hundred },
        Scene { clients: 100, blobs: 100, len: sizes.each },
    ];
    // The first answer of a server opens its connections and takes its anonymous grant.
    let warm = upstream.blob("bench/cold", 1, 1024)?;
    for server in servers {
        Target::tls(server)?.fetch(&path(&warm), "*/*", 1024).await.with_context(|| server.name)?;
    }
    let mut seed = 1_000_000;
    for scene in scenes.into_iter().filter(|scene| scene.len > 0) {
        for _ in 0..sizes.rounds {
            let digests = (0..scene.blobs as u64).map(|n| upstream.blob("bench/cold", seed + n, scene.len));
            let digests = digests.collect::<Result<Vec<_>>>()?;
            seed += scene.blobs as u64;
            // One transfer of a blob that all want; all transfers, where each wants its own: what
            // registry and link can do.
            let target = Target::at(upstream.place.named, &upstream.place.ca_pem)?;
            let straight = Scene { clients: scene.blobs, ..scene };
            let direct = play(straight, &digests, &target, None, upstream).await.context("directly")?;
            tell(section, scene, "direct", &direct, &direct, report);
            for server in servers {
                let target = Target::tls(server)?;
                let outcome = play(scene, &digests, &target, Some(server), upstream).await;
                let outcome = outcome.with_context(|| format!("{}: {}", scene.name(), server.name))?;
                tell(section, scene, server.name, &outcome, &direct, report);
            }
        }
        report.tell_facts(section, &scene.name());
    }
    Ok(())
}

fn path(digest: &str) -> String {
    format!("bench/cold/blobs/{digest}")
}

async fn play(
    scene: Scene,
    digests: &[String],
    target: &Target,
    server: Option<&Server>,
    upstream: &mut Upstream,
) -> Result<Outcome> {
    upstream.counts()?;
    let cpu = || server.map_or_else(|| cpu_of(upstream.pid()).unwrap_or_default(), Server::cpu);
    let (before, began) = (cpu(), Instant::now());
    let paths: Vec<String> = (0..scene.clients).map(|n| path(&digests[n % digests.len()])).collect();
    // Tasks, so that the client can use more than one core.
    let clients = paths.into_iter().map(|path| {
        let target = target.clone();
        tokio::spawn(async move { target.fetch(&path, "*/*", scene.len).await })
    });
    let all: Vec<Fetched> = try_join_all(clients).await?.into_iter().collect::<Result<_>>()?;
    let (last, cpu) = (began.elapsed(), cpu() - before);
    let first = median(all.iter().map(|fetched| fetched.first.as_secs_f64()).collect());
    let (gets, connections) = upstream.counts()?;
    Ok(Outcome { first: Duration::from_secs_f64(first), last, cpu, gets, connections })
}

fn tell(section: &str, scene: Scene, who: &str, outcome: &Outcome, direct: &Outcome, report: &mut Report) {
    let name = scene.name();
    let mut fact = |what: &str, unit, value| report.fact(section, &format!("{name}: {what}"), who, unit, value);
    let (first, seconds) = (outcome.first.as_secs_f64(), outcome.last.as_secs_f64());
    fact("first byte, median client", "ms", first * 1e3);
    fact("last byte, last client", "s", seconds);
    if who != "direct" {
        fact("first byte, later than directly", "ms", (first - direct.first.as_secs_f64()) * 1e3);
        fact("time of a direct transfer", "×", seconds / direct.last.as_secs_f64());
    }
    // Directly: the registry's.
    let per_gib = |blobs: usize| outcome.cpu.as_secs_f64() * GIB / (blobs as f64 * scene.len as f64);
    fact("server CPU per GiB filled", "s", per_gib(scene.blobs));
    if scene.clients > scene.blobs && who != "direct" {
        fact("server CPU per GiB served", "s", per_gib(scene.clients));
    }
    fact("upstream GETs", "", outcome.gets as f64);
    fact("upstream connections made", "", outcome.connections as f64);
}
