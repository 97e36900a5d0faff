//! The cold path again with a registry that is 50 ms away, and with one packet of a hundred lost:
//! this binary started again within a namespace of its own, since servers and clients must be
//! there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::cold::{self, Sizes};
use crate::link::{FAR, Link, NEAR, Quality, REGISTRY};
use crate::report::Report;
use crate::servers::Lab;
use crate::upstream::Upstream;
use crate::{KIB, MIB, Pace, harness, segments, start};

/// The links there are, as sections of the report.
pub(crate) const LINKS: [(&str, Quality); 3] = [
    ("far", Quality { round_trip: Duration::from_millis(50), lost: 0, rate: 25_000_000 }),
    ("lossy", Quality { round_trip: Duration::from_millis(50), lost: 10, rate: 25_000_000 }),
    (SEGMENTS, Quality { round_trip: Duration::from_millis(50), lost: 0, rate: 80_000_000 }),
];
const SEGMENTS: &str = "segments";

/// What the process within the namespace is told.
#[derive(Args)]
pub(crate) struct Inside {
    section: String,
    facts: PathBuf,
    seawall: PathBuf,
    #[arg(long)]
    rounds: usize,
}

fn sizes(section: &str, rounds: usize) -> Sizes {
    match section {
        // One connection that loses 1 % at 50 ms carries about half a MiB in a second.
        "lossy" => Sizes { one: 2 * MIB, ten: 2 * MIB, hundred: 0, each: 256 * KIB, rounds },
        _ => Sizes { one: 64 * MIB, ten: 64 * MIB, hundred: 16 * MIB, each: MIB, rounds },
    }
}

/// Each link in turn; what the machine cannot do is said.
pub(crate) fn run(seawall: &Path, only: &[&str], pace: Pace, scratch: &Path, report: &mut Report) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        report.skip("registries that are far: network namespaces need root");
        return Ok(());
    }
    for (section, quality) in LINKS.into_iter().filter(|(section, _)| only.contains(section)) {
        let link = match Link::new(quality) {
            Ok(link) => link,
            Err(error) => {
                report.skip(&format!("{section}: no link can be made here: {error:#}"));
                continue;
            }
        };
        let facts = scratch.join(section);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NEAR]).arg(std::env::current_exe()?).args(["--bench", "far", section]);
        command.arg(&facts).arg(seawall).arg("--rounds").arg(pace.rounds().min(3).to_string());
        ensure!(command.status()?.success(), "{section} failed");
        report.take_facts(&std::fs::read_to_string(&facts)?)?;
        drop(link);
    }
    Ok(())
}

/// What runs within.
pub(crate) async fn inside(told: Inside, cache: &Path) -> Result<()> {
    let mut report = Report::default();
    let pki = harness::Pki::new();
    let is_slow = told.section == SEGMENTS;
    let mut upstream = Upstream::start_in(FAR, REGISTRY, is_slow.then_some(segments::EACH))?;
    let lab = Lab { upstream: &upstream, pki: &pki, seawall: &told.seawall, cache };
    if is_slow {
        let servers = segments::start(&lab)?;
        segments::run(&told.section, &servers, &mut upstream, told.rounds, &mut report).await?;
        servers.iter().for_each(|server| print!("{}", server.complaints()));
        return Ok(std::fs::write(told.facts, report.facts()?)?);
    }
    let servers = start(&lab, &["nginx".to_owned(), "seawall".to_owned()], &mut report)?;
    cold::run(&told.section, &servers, &mut upstream, sizes(&told.section, told.rounds), &mut report).await?;
    servers.iter().for_each(|server| print!("{}", server.complaints()));
    std::fs::write(told.facts, report.facts()?)?;
    Ok(())
}
