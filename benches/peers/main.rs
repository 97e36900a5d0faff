//! seawall beside nginx and CNCF Distribution: the same bytes from the same registry, the same
//! clients, in turns.
//!
//! `cargo bench -p seawall-peers` (`-- --help` says what else) builds seawall as it is released and
//! measures that; `SEAWALL=FILE` says what else to measure. Figures of a shared machine are noisy:
//! the ratios of servers that were measured in turns say more, and the CPU of the server more than
//! the time, since client and server share the cores.
//!
//! `upstream` the registry behind · `servers` what is compared · `load` h2load, `wire` a client of
//! our own · `hot`, `connections` hits · `cold` misses, `far` over a `link` that is long or bad ·
//! `memory` · `report`, `machine` what is kept in target/peers.

#![expect(clippy::disallowed_methods, reason = "a bench reads clocks and files as it likes")]

mod cold;
mod connections;
mod far;
#[path = "../../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, clippy::unwrap_used, reason = "a bench needs a part of the tests' harness")]
mod harness;
mod hot;
mod link;
mod load;
mod machine;
mod memory;
#[path = "../common/process.rs"]
mod process;
mod report;
mod segments;
mod servers;
mod upstream;
mod wire;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use machine::Machine;
use report::Report;
use servers::{Lab, Missing, Server, distribution, nginx, seawall};
use upstream::Upstream;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The registry that is cached.
const HOST: &str = "registry-1.docker.io";

/// In the order of the report.
const SECTIONS: [(&str, &str); 7] = [
    ("hot", "Hits over kept connections"),
    ("connections", "Hits over new connections"),
    ("memory", "Memory, 100 transfers of 1 GiB at once"),
    ("cold", "Cold, the registry on the same machine"),
    ("far", "Cold, the registry 50 ms away, 25 MB/s"),
    ("lossy", "Cold, the registry 50 ms away, 1 % of packets lost"),
    ("segments", "Cold, the registry 50 ms away, 8 MB/s a connection, 80 MB/s in all"),
];

/// seawall beside its peers
#[derive(Parser)]
#[command(name = "peers")]
struct Arguments {
    /// A few seconds for each, for developing
    #[arg(long)]
    quick: bool,
    /// These alone
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// These servers alone: nginx,seawall,docker-registry,distribution
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// How often each case is measured at each server
    #[arg(long)]
    rounds: Option<usize>,
    /// The binary to measure; else it is built: cargo build --profile dist --locked
    #[arg(long, env = "SEAWALL", value_name = "FILE")]
    seawall: Option<PathBuf>,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Hot,
    Connections,
    Memory,
    Cold,
    /// 50 ms and 1 % of loss
    Far,
    /// One blob over several connections
    Segments,
}

/// What this binary is, when it was started by itself.
#[derive(Subcommand)]
#[command(hide = true)]
enum Role {
    /// The registry
    Upstream {
        /// Of its namespace, where it is reached
        address: Option<IpAddr>,
        /// Bytes a second of each connection
        each: Option<u64>,
    },
    /// Within a namespace
    Far(far::Inside),
}

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Quick,
    Full { rounds: usize },
}

impl Pace {
    fn rounds(self) -> usize {
        match self {
            Pace::Quick => 2,
            Pace::Full { rounds } => rounds,
        }
    }

    fn cold(self) -> cold::Sizes {
        match self {
            Pace::Quick => cold::Sizes { one: 64 * MIB, ten: 64 * MIB, hundred: 16 * MIB, each: MIB, rounds: 2 },
            Pace::Full { rounds } => {
                cold::Sizes { one: 256 * MIB, ten: 256 * MIB, hundred: 64 * MIB, each: 8 * MIB, rounds }
            }
        }
    }
}

fn main() -> Result<()> {
    // `cargo test --benches` runs this too, without the word, and wants no load.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.role {
            Some(Role::Upstream { address, each }) => upstream::serve(address, each).await,
            Some(Role::Far(told)) => far::inside(told, &cache()).await,
            None => all(&arguments).await,
        }
    })
}

/// What is kept, and what is written while it runs.
fn cache() -> PathBuf {
    sources().join("target/peers")
}

/// Where seawall's Cargo.toml is.
fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// seawall as it is released: cargo builds it again where it is older than its sources.
fn built() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(sources()).args(["build", "--profile", "dist", "--locked", "--bin", "seawall"]);
    ensure!(cargo.status()?.success(), "cargo build --profile dist failed");
    // This program is target/release/deps/peers-….
    let this = std::env::current_exe()?;
    Ok(this.ancestors().nth(3).context("no target directory")?.join("dist/seawall"))
}

async fn all(arguments: &Arguments) -> Result<()> {
    let binary = arguments.seawall.clone().map_or_else(built, Ok)?.canonicalize().context("SEAWALL")?;
    let cache = cache();
    std::fs::create_dir_all(&cache)?;
    let mut report = Report::default();
    let pace = match arguments.rounds {
        _ if arguments.quick => Pace::Quick,
        rounds => Pace::Full { rounds: rounds.unwrap_or(5) },
    };
    let pki = harness::Pki::new();
    let mut upstream = Upstream::start()?;
    let scratch = tempfile::tempdir()?;
    let mut versions = Vec::new();
    for section in
        Section::value_variants().iter().filter(|one| arguments.only.is_empty() || arguments.only.contains(one))
    {
        let links: &[&str] = match section {
            Section::Far => &["far", "lossy"],
            Section::Segments => &["segments"],
            _ => &[],
        };
        if !links.is_empty() {
            far::run(&binary, links, pace, scratch.path(), &mut report)?;
            continue;
        }
        // Each section with servers of its own: no cache is fuller, no heap larger for what was
        // before.
        let lab = Lab { upstream: &upstream, pki: &pki, seawall: &binary, cache: &cache };
        let servers = start(&lab, &arguments.servers, &mut report)?;
        versions = machine::versions(&servers);
        match section {
            Section::Hot if servers::tool("h2load").is_none() => {
                report.skip("hits over kept connections: h2load: apt-get install nghttp2-client");
            }
            Section::Hot => hot::run(&servers, &mut upstream, pace, scratch.path(), &mut report)?,
            Section::Connections => connections::run(&servers, &mut upstream, pace, &mut report).await?,
            Section::Memory => memory::run(&servers, &mut upstream, pace, &mut report).await?,
            Section::Cold | Section::Far | Section::Segments => {
                cold::run("cold", &servers, &mut upstream, pace.cold(), &mut report).await?
            }
        }
        servers.iter().for_each(|server| print!("{}", server.complaints()));
        keep(&report, &Machine::here(&versions), &cache)?;
    }
    let machine = Machine::here(&versions);
    keep(&report, &machine, &cache)?;
    println!("\n{}", report.markdown(&machine));
    Ok(())
}

fn keep(report: &Report, machine: &Machine, cache: &Path) -> Result<()> {
    std::fs::write(cache.join("peers.json"), serde_json::to_vec_pretty(&report.json(machine))?)?;
    std::fs::write(cache.join("peers.md"), report.markdown(machine))?;
    Ok(())
}

fn start(lab: &Lab<'_>, only: &[String], report: &mut Report) -> Result<Vec<Server>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    type Start = fn(&Lab<'_>) -> Result<Result<Server, Missing>>;
    let all: [(&str, Start); 4] = [
        ("nginx", nginx::start),
        ("seawall", |lab| seawall::start(lab).map(Ok)),
        ("docker-registry", distribution::debian),
        ("distribution", distribution::current),
    ];
    let mut servers = Vec::new();
    for (name, start) in all {
        match wanted(name).then(|| start(lab)).transpose()? {
            Some(Ok(server)) => servers.push(server),
            Some(Err(Missing(how))) => report.skip(&how),
            None => {}
        }
    }
    Ok(servers)
}
