//! This program under callgrind, and what it counted.

use std::path::Path;
use std::process::Command;

/// A case, and the instructions of one round of it.
pub(crate) type Count = (String, u64);

/// Runs the cases (name, rounds) under callgrind.
pub(crate) fn under_callgrind(cases: &[(&'static str, u64)]) -> Result<Vec<Count>, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let counts = run(&dir).and_then(|()| read(&dir, cases));
    let _ = std::fs::remove_dir_all(&dir);
    counts
}

fn run(dir: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let out = dir.join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--quiet", "--separate-threads=yes", "--compress-strings=no"]);
    // sled waits in a loop for what another of its threads makes: that one has to come to its turn.
    valgrind.arg("--fair-sched=try");
    valgrind.args(["--dump-before=*instructions::mark*", "--dump-instr=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(program).arg("measured");
    // The system's roots take longer to read than all cases, and are not needed.
    valgrind.env("SEAWALL_INSTRUCTIONS_DIR", dir).env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", dir);
    let ran = valgrind.output().map_err(|error| format!("valgrind: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}{}", ran.status, String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)))
}

/// The first mark ends what came before all cases; from there on every second part is a case, and
/// the part before it its warming up.
fn read(dir: &Path, cases: &[(&'static str, u64)]) -> Result<Vec<Count>, String> {
    let count = |(at, (name, rounds)): (usize, &(&'static str, u64))| {
        // Of the main thread.
        let file = dir.join(format!("counts.{}-01", 2 * at + 2));
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let total = total(&text).ok_or_else(|| format!("{}: no totals in it", file.display()))?;
        Ok(((*name).to_owned(), total / rounds))
    };
    cases.iter().enumerate().map(count).collect()
}

/// `totals: 12345`
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}
