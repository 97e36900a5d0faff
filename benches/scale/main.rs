//! Scale: what a thousand blobs cost and what a million cost, ten thousand connections that wait, a
//! thousand downloads at once.
//!
//! `cargo bench --bench scale [-- --quick] [--blobs N] [--only
//! start,index,requests,idle,transfers]` prints tables, and draws `target/scale/scale.svg`: CPU per
//! request against the number of blobs.
//!
//! The data directories are made by the library itself and stay below `target/scale` for the next
//! run: a million files (sparse, of the length the index knows) and the journal as it writes it.
//! Ratios within one run say more than times.

#![expect(clippy::disallowed_methods, reason = "a bench reads clocks and files as it likes")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, clippy::unwrap_used, reason = "a bench needs a part of the tests' harness")]
mod harness;

mod crowd;
mod fill;
mod plot;
mod requests;
mod start;
mod words;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Start-up, and memory per blob.
    Start,
    /// The index alone: insert, use, evict, and what is written.
    Index,
    /// CPU per hit, and the picture.
    Requests,
    /// Connections that do nothing.
    Idle,
    /// Downloads that go on side by side.
    Transfers,
}

#[derive(Parser)]
struct Options {
    /// A tenth of everything: does it run?
    #[arg(long)]
    quick: bool,
    /// Blobs in the largest index.
    #[arg(long, default_value_t = 1_000_000)]
    blobs: u64,
    /// These parts alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// What cargo says when it is no test.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// `full`, or the tenth of it.
    fn scaled(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }

    /// From a thousand on, in powers of ten.
    fn sizes(&self) -> Vec<u64> {
        let most = self.scaled(self.blobs).max(1000);
        let powers = std::iter::successors(Some(1000), |n| Some(n * 10)).take_while(|n| *n < most);
        powers.chain([most]).collect()
    }
}

/// Where everything is kept.
fn place() -> PathBuf {
    let target = option_env!("CARGO_TARGET_DIR").unwrap_or("target");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target).join("scale")
}

/// A line of the report.
fn row(what: &str, figures: &str) {
    println!("| {what:<52} | {figures:<60} |");
}

fn title(what: &str) {
    println!("\n| {what:<52} | {:<60} |\n|{:-<54}|{:-<62}|", "", "", "");
}

fn main() {
    // `cargo test --benches` runs this too, and wants nothing of it.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let options = Options::parse();
    let files = crowd::raise_limit(65_536);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    if options.wants(Part::Index) {
        words::costs(&options.sizes());
    }
    runtime.block_on(async {
        if options.wants(Part::Start) {
            start::times(&options.sizes()).await;
        }
        if options.wants(Part::Requests) {
            let points = requests::costs(&options.sizes(), options.scaled(5000)).await;
            let picture = place().join("scale.svg");
            std::fs::write(&picture, plot::svg(&points)).expect("written");
            println!("\n{}", picture.display());
        }
        if options.wants(Part::Idle) {
            crowd::idle(options.scaled(10_000), files).await;
        }
        if options.wants(Part::Transfers) {
            crowd::transfers(options.scaled(1000)).await;
        }
    });
}
