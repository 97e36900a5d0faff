//! `seawall setup`: what points one client at seawall, printed, written below a root directory, and
//! taken back.

mod args;
mod facts;
mod root;

use std::io::Write as _;
use std::path::Path;

use anyhow::bail;

pub use args::SetupArgs;

use crate::config::Config;
use crate::setup::write::{self, Outcome, Report, SetUp};
use crate::setup::{Facts, Mode, Plan, note_item};

pub(super) const EXAMPLE: &str = "\
Example: print what dockerd needs
  seawall setup docker --address seawall.lab:3128

Example: write it, with a diff of each file, and take it back
  seawall setup containerd --mode mirror --address seawall.lab:3128 \\
    --write /
  seawall setup containerd --mode mirror --address seawall.lab:3128 \\
    --write / --undo

Example: the same as printed, on a machine without seawall
  curl -fsS http://seawall.lab:3128/setup/docker";

/// Runs the command. The result goes to stdout, what is for people beside it to stderr.
pub fn run(args: &SetupArgs, config: &Config) -> anyhow::Result<()> {
    let (client, root) = (args.client, args.write.as_deref());
    if let Some(root) = root.filter(|_| args.undo) {
        return undo(args, root);
    }
    let mode = args.mode.unwrap_or(client.default_mode());
    if !client.modes().contains(&mode) {
        let modes: Vec<_> = client.modes().iter().map(|mode| mode.as_str()).collect();
        bail!("{client} cannot come by --mode {mode}: it has {}", modes.join(", "));
    }
    let (facts, plan) = facts::gather(args, mode, config)?;
    match root {
        None => print(args, mode, &plan, &facts),
        Some(root) => write_below(args, root, mode, &plan, &facts),
    }
}

fn print(args: &SetupArgs, mode: Mode, plan: &Plan, facts: &Facts) -> anyhow::Result<()> {
    match args.json {
        true => stdout(&format!("{:#}\n", plan.to_json(args.client, mode, &facts.address))),
        false => stdout(&plan.text(args.client, mode, &facts.address)),
    }
}

fn write_below(args: &SetupArgs, root: &Path, mode: Mode, plan: &Plan, facts: &Facts) -> anyhow::Result<()> {
    let client = args.client;
    let report = write::write(root, client, mode, plan)?;
    if args.json {
        let mut data = plan.to_json(client, mode, &facts.address);
        data["changes"] = serde_json::to_value(&report.changes)?;
        data["before"] = serde_json::to_value(&report.before)?;
        stdout(&format!("{data:#}\n"))?;
        return all_is_back(&report);
    }
    stdout(&report.text())?;
    if !report.changes.is_empty() && report.changes.iter().all(|change| change.outcome == Outcome::Unchanged) {
        eprintln!("{client} comes by --mode {mode} already: nothing changed.");
        plan.check.iter().for_each(|command| eprintln!("See that it works: {command}"));
        return Ok(());
    }
    if plan.files.is_empty() {
        eprintln!("{client} has no files: this is for its commands.");
    }
    let machine = if root == Path::new("/") { "" } else { " on that machine" };
    plan.commands.iter().for_each(|command| eprintln!("Now run{machine}: {command}"));
    plan.check.iter().for_each(|command| eprintln!("Then see that it works: {command}"));
    if let Some(before) = report.before.as_ref().filter(|before| before.mode != mode) {
        if report.left().next().is_none() {
            eprintln!("{client} came by --mode {}: that is taken back.", before.mode);
        }
        what_remains(before, plan, &report);
    }
    plan.notes.iter().for_each(|note| eprint!("{}", note_item(note)));
    all_is_back(&report)
}

fn undo(args: &SetupArgs, root: &Path) -> anyhow::Result<()> {
    let report = write::undo(root, args.client)?;
    match args.json {
        true => {
            let data = serde_json::json!({ "client": args.client.as_str(), "changes": report.changes, "before": report.before });
            stdout(&format!("{data:#}\n"))?;
        }
        false => stdout(&report.text())?,
    }
    if let Some(before) = &report.before {
        what_remains(before, &Plan::default(), &report);
    }
    all_is_back(&report)
}

/// Daemons keep what they read from files that no longer exist until they are restarted, and some
/// things are no files; `next` takes their place.
fn what_remains(before: &SetUp, next: &Plan, report: &Report) {
    let is_of_next = |command: &&String| next.commands.contains(command);
    let left = before.commands.iter().filter(|command| !is_of_next(command));
    let commands: Vec<_> = left.filter(|command| !report.names_what_is_gone(command)).collect();
    if !commands.is_empty() {
        eprintln!("These were run for what is taken back. Run again what restarts, reloads or updates something:");
        commands.iter().for_each(|command| eprintln!("  {command}"));
    }
    before.undo.iter().filter(|note| !next.undo.contains(note)).for_each(|note| eprint!("{}", note_item(note)));
}

fn all_is_back(report: &Report) -> anyhow::Result<()> {
    let left: Vec<_> = report.left().map(|change| change.path.display().to_string()).collect();
    if !left.is_empty() {
        bail!("not all is taken back, since somebody has changed it: {}", left.join(", "));
    }
    Ok(())
}

fn stdout(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
