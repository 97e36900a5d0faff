//! What the counts were, and what it means that they are others now.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use crate::counted::Count;

/// As it is written down.
#[derive(Serialize, Deserialize, Default)]
struct Baseline {
    /// Of which build these are the counts.
    build: Build,
    /// Percent by which a case may be over.
    tolerance: f64,
    /// Of a case, where it is another one.
    #[serde(default)]
    tolerances: BTreeMap<String, f64>,
    /// Instructions of one round.
    instructions: BTreeMap<String, u64>,
}

/// What changes all counts.
#[derive(Serialize, Deserialize, Default, PartialEq, Eq)]
struct Build {
    rustc: String,
    profile: String,
    target: String,
    /// What compiled the C in it, what counted, and the instructions that both choose by.
    tools: String,
}

impl Build {
    fn this() -> Build {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        // Cargo.toml says so, where no variable does.
        let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
        let lto = setting("CARGO_PROFILE_RELEASE_LTO", "off");
        let units = setting("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        Build {
            rustc: version(&rustc),
            profile: format!("release, lto {lto}, codegen-units {units}"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            tools: format!("{}, {}, {}", version("cc"), version("valgrind"), processor()),
        }
    }
}

/// The first line of what a program says of itself.
fn version(program: &str) -> String {
    let said = Command::new(program).arg("--version").output().map(|out| out.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// What valgrind passes on of it.
fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    "any processor"
}

/// What a count is beside its baseline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Less,
    Over,
    New,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Same => "",
            Verdict::Less => "less: accept it, so that it stays",
            Verdict::Over => "OVER",
            Verdict::New => "not in the baseline",
        }
    }
}

/// `tolerance` in percent.
fn verdict(before: Option<u64>, now: u64, tolerance: f64) -> Verdict {
    match before.map(|before| percent(before, now)) {
        None => Verdict::New,
        Some(more) if more > tolerance => Verdict::Over,
        Some(more) if more < -tolerance => Verdict::Less,
        Some(_) => Verdict::Same,
    }
}

fn percent(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

/// Prints a table, and fails where a case is over; or writes the baseline again.
pub(crate) fn judge(path: &Path, counts: &[Count]) -> ExitCode {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let before: Baseline = match toml::from_str(&text) {
        Ok(before) => before,
        Err(_) if text.is_empty() => Baseline { tolerance: 5.0, ..Baseline::default() },
        Err(error) => {
            println!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let build = Build::this();
    let is_same_build = build == before.build;
    let verdicts = table(&before, counts);
    if std::env::var_os("UPDATE_BASELINE").is_some() {
        return write(path, Baseline { build, instructions: counts.iter().cloned().collect(), ..before });
    }
    if !is_same_build {
        let (old, new) = (&before.build, &build);
        println!("not compared: the baseline is of {}, {}, {}, {}", old.rustc, old.profile, old.target, old.tools);
        println!("              and this is       {}, {}, {}, {}", new.rustc, new.profile, new.target, new.tools);
        return ExitCode::SUCCESS;
    }
    if verdicts.contains(&Verdict::Over) {
        println!("dearer than it was. If that is what it costs: UPDATE_BASELINE=1, and say in the commit why");
        return ExitCode::FAILURE;
    }
    if verdicts.contains(&Verdict::New) || before.instructions.len() > counts.len() {
        println!("the baseline is of other cases: UPDATE_BASELINE=1");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn table(before: &Baseline, counts: &[Count]) -> Vec<Verdict> {
    println!("| {:<40} | {:>12} | {:>12} | {:>7} |", "instructions of one", "baseline", "now", "%");
    println!("|{:-<42}|{:->14}|{:->14}|{:->9}|", "", ":", ":", ":");
    let row = |(name, now): &Count| {
        let was = before.instructions.get(name).copied();
        let tolerance = before.tolerances.get(name).copied().unwrap_or(before.tolerance);
        let verdict = verdict(was, *now, tolerance);
        let shown = was.map_or_else(|| "-".to_owned(), |was| was.to_string());
        let change = was.map_or_else(|| "-".to_owned(), |was| format!("{:+.1}", percent(was, *now)));
        println!("| {name:<40} | {shown:>12} | {now:>12} | {change:>7} | {}", verdict.as_str());
        verdict
    };
    counts.iter().map(row).collect()
}

fn write(path: &Path, baseline: Baseline) -> ExitCode {
    let head = "# Instructions under callgrind: see main.rs. Written by UPDATE_BASELINE=1; `tolerance` and `tolerances` (percent) are kept.\n\n";
    let written = toml::to_string(&baseline)
        .map_err(|error| error.to_string())
        .and_then(|text| std::fs::write(path, format!("{head}{text}")).map_err(|error| error.to_string()));
    match written {
        Ok(()) => {
            println!("{} is written", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}
