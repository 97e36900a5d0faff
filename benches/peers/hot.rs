//! Hits: everything is in every cache, and in memory.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::load::{Burst, Protocol};
use crate::report::{Report, Unit};
use crate::servers::Server;
use crate::upstream::Upstream;
use crate::{KIB, MIB, Pace};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One thing that is asked for.
struct Thing {
    name: &'static str,
    path: String,
    accept: &'static str,
    len: u64,
    /// By number of connections.
    requests: [(u64, u64); 3],
    unit: Unit,
}

fn things(upstream: &mut Upstream, pace: Pace) -> Result<Vec<Thing>> {
    let manifest = upstream.image("bench/app:1")?;
    let mut all = vec![Thing {
        name: "manifest by tag",
        path: "bench/app/manifests/1".to_owned(),
        accept: MANIFEST,
        len: manifest,
        requests: [(2, 16_000), (32, 16_000), (256, 16_000)],
        unit: Unit::Request,
    }];
    let blobs = [
        ("32 KiB", 32 * KIB, [(2, 8_000), (32, 8_000), (256, 8_000)], Unit::Request),
        ("8 MiB", 8 * MIB, [(2, 256), (32, 256), (256, 256)], Unit::Gib),
        ("256 MiB", 256 * MIB, [(2, 8), (32, 32), (256, 0)], Unit::Gib),
    ];
    for (seed, (name, len, requests, unit)) in (1..).zip(blobs) {
        let digest = upstream.blob("bench/hot", seed, len)?;
        all.push(Thing { name, path: format!("bench/hot/blobs/{digest}"), accept: "*/*", len, requests, unit });
    }
    if pace == Pace::Quick {
        for thing in &mut all {
            let few = if thing.unit == Unit::Request { thing.requests[0].1 / 4 } else { 1024 * MIB / thing.len };
            thing.requests = [(2, few.min(64 * MIB)), (32, few.max(32)), (256, 0)];
        }
        all[3].requests[1].1 = 0;
    }
    Ok(all)
}

/// Fills every cache, then asks each for the same in turn.
pub(crate) fn run(
    servers: &[Server],
    upstream: &mut Upstream,
    pace: Pace,
    scratch: &Path,
    report: &mut Report,
) -> Result<()> {
    for thing in things(upstream, pace)? {
        for protocol in [Protocol::H1, Protocol::H2, Protocol::Plain] {
            let burst = |requests, connections| Burst {
                protocol,
                path: &thing.path,
                accept: thing.accept,
                len: thing.len,
                requests,
                connections,
            };
            for server in servers {
                burst(2, 1).run(server, scratch).with_context(|| format!("{} warms", server.name))?;
            }
            for (connections, requests) in thing.requests.into_iter().filter(|(_, requests)| *requests > 0) {
                let case = format!("{}, {}, {connections} connections", thing.name, protocol.as_str());
                for _ in 0..pace.rounds() {
                    for server in servers {
                        let requests = (requests / server.slowness).max(connections);
                        let sample = burst(requests, connections).run(server, scratch);
                        let sample = sample.with_context(|| format!("{case}: {}", server.name))?;
                        report.add("hot", &case, server.name, thing.unit, sample);
                    }
                }
                report.tell("hot", &case);
            }
        }
    }
    for server in servers {
        report.fact("hot", "peak memory of all that", server.name, "MiB", server.peak() as f64 / 1024.0);
    }
    Ok(())
}
