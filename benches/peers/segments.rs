//! One cold blob from a registry whose connections are slow, over one of them and over several; and parts of
//! it, as containerd and lazy readers ask for them.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;

use crate::report::Report;
use crate::servers::{Lab, Server, seawall};
use crate::upstream::Upstream;
use crate::wire::Target;
use crate::{KIB, MIB};

/// Of each connection, bytes a second.
pub(crate) const EACH: u64 = 8_000_000;

/// `segments`, and the name in the report.
const SERVERS: [(u8, &str); 4] = [(1, "segments 1"), (2, "segments 2"), (4, "segments 4"), (8, "segments 8")];

struct Scene {
    name: &'static str,
    len: u64,
    /// What clients ask for, all at once; none: all of it.
    parts: fn(u64) -> Vec<(u64, u64)>,
    /// Fills of other blobs that run beside.
    beside: u64,
}

fn quarters(len: u64) -> Vec<(u64, u64)> {
    (0..4).map(|n| (n * len / 4, (n + 1) * len / 4)).collect()
}

const SCENES: [Scene; 4] = [
    Scene { name: "1 client, 192 MiB", len: 192 * MIB, parts: |_| Vec::new(), beside: 0 },
    Scene { name: "1 client, 96 MiB, ten fills beside", len: 96 * MIB, parts: |_| Vec::new(), beside: 10 },
    Scene { name: "4 ranges of 96 MiB at once", len: 96 * MIB, parts: quarters, beside: 0 },
    Scene { name: "last 64 KiB of 30 MiB", len: 30 * MIB, parts: |len| vec![(len - 64 * KIB, len)], beside: 0 },
];

/// Servers that differ in nothing else.
pub(crate) fn start(lab: &Lab<'_>) -> Result<Vec<Server>> {
    SERVERS.into_iter().map(|(segments, name)| seawall::start_with(lab, name, segments)).collect()
}

/// Each scene directly and through each, in turns, with blobs that nobody has seen.
pub(crate) async fn run(
    section: &str,
    servers: &[Server],
    upstream: &mut Upstream,
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let warm = upstream.blob("bench/cold", 1, 1024)?;
    for server in servers {
        Target::tls(server)?.fetch(&path(&warm), "*/*", 1024).await?;
    }
    let straight = Target::at(upstream.place.named, &upstream.place.ca_pem)?;
    let mut seed = 5_000_000;
    for scene in SCENES {
        for _ in 0..rounds {
            let mut direct = None;
            let others = servers.iter().map(|server| (server.name, Target::tls(server)));
            for (name, target) in std::iter::once(("direct", Ok(straight.clone()))).chain(others) {
                seed += 100;
                let digest = upstream.blob("bench/cold", seed, scene.len)?;
                let beside = (1..=scene.beside).map(|n| upstream.blob("bench/cold", seed + n, scene.len / 2));
                let beside = beside.collect::<Result<Vec<_>>>()?;
                upstream.counts()?;
                let seconds = play(&scene, &digest, &beside, &target?).await?.as_secs_f64();
                // What comes after who asked has enough, too.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let sent = upstream.sent()? as f64 / scene.len as f64;
                let mut fact = |what: &str, unit, value| {
                    report.fact(section, &format!("{}: {what}", scene.name), name, unit, value);
                };
                let before = *direct.get_or_insert(seconds);
                fact("last byte, last client", "s", seconds);
                fact("time of going directly", "×", seconds / before);
                if scene.beside == 0 {
                    fact("bytes from upstream, of the blob", "×", sent);
                }
            }
        }
        report.tell_facts(section, scene.name);
    }
    Ok(())
}

fn path(digest: &str) -> String {
    format!("bench/cold/blobs/{digest}")
}

async fn play(scene: &Scene, digest: &str, beside: &[String], target: &Target) -> Result<Duration> {
    let others: Vec<_> = beside
        .iter()
        .map(|digest| {
            let (target, path, len) = (target.clone(), path(digest), scene.len / 2);
            tokio::spawn(async move { target.fetch(&path, "*/*", len).await })
        })
        .collect();
    let (began, parts) = (Instant::now(), (scene.parts)(scene.len));
    if parts.is_empty() {
        target.fetch(&path(digest), "*/*", scene.len).await?;
    } else {
        let asked = parts.into_iter().map(|(from, to)| {
            let (target, path) = (target.clone(), path(digest));
            tokio::spawn(async move { target.fetch_part(&path, from..to).await })
        });
        try_join_all(asked).await?.into_iter().collect::<Result<Vec<_>>>()?;
    }
    let took = began.elapsed();
    for other in others {
        other.await??;
    }
    Ok(took)
}
