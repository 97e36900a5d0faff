//! Instructions of the hot paths, counted by callgrind and compared with what they were: a guard
//! against what makes them dearer.
//!
//! ```text
//! cargo bench -p seawall-instructions --profile release
//! ```
//!
//! 1. It runs itself under valgrind: [`cases`] does each of its cases so many times, on one thread,
//!    and calls [`mark`] in between, at which callgrind writes down what it has counted.
//! 2. [`counted`] reads what the main thread did between the marks.
//! 3. [`baseline`] compares, says what is over, or (`UPDATE_BASELINE=1`) is written again.
//!
//! The counts are those of one compiler and one set of flags: of another they are shown, and
//! nothing fails. Without valgrind, or under `cargo test`, it does nothing.

#![expect(clippy::disallowed_methods, reason = "a bench reads files and spawns as it likes")]

mod baseline;
mod cases;
mod counted;
mod upstream;
mod words;

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.toml");

/// callgrind is told to write down what it has counted whenever this is entered.
#[inline(never)]
pub(crate) fn mark(what: &str) {
    black_box(what);
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "measured") {
        cases::run();
        return ExitCode::SUCCESS;
    }
    match Command::new("valgrind").arg("--version").stdout(Stdio::null()).status() {
        Ok(found) if found.success() => {}
        _ => {
            println!("skipped: valgrind is not here (instruction counts)");
            return ExitCode::SUCCESS;
        }
    }
    let counts = match counted::under_callgrind(&cases::names()) {
        Ok(counts) => counts,
        Err(error) => {
            println!("instruction counts: {error}");
            return ExitCode::FAILURE;
        }
    };
    baseline::judge(std::path::Path::new(BASELINE), &counts)
}
