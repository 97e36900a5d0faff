//! `seawall cache`: what is in a cache, and what is done to it.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::Subcommand;

use super::api::{AdminArgs, Api};
use super::jobs;
use crate::cache::Pass;
use crate::config::Config;
use crate::operate::verify::{Finding, Report, everything};
use crate::store::Store;

pub(super) const EXAMPLE: &str = "\
Example: is everything on disk what it should be?
  seawall cache verify --config /etc/seawall/seawall.toml";

/// Flags of `cache`.
#[derive(clap::Args, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand, Debug)]
enum CacheCommand {
    /// Hashes everything in the cache, and moves away what is damaged.
    ///
    /// A damaged blob is moved to rotten/ in the data directory, and fetched again when it is wanted.
    /// The seawall that runs is asked to do it, beside what it serves; where none runs, it is done here.
    /// Exit codes: 0 all is right, or was healed; 1 something could not be.
    #[command(after_help = EXAMPLE)]
    Verify(VerifyArgs),
}

#[derive(clap::Args, Debug)]
struct VerifyArgs {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Does what was asked.
///
/// # Errors
/// What kept it from that, or could not be healed.
pub fn run(args: &CacheArgs, config: &Config) -> anyhow::Result<()> {
    let CacheCommand::Verify(args) = &args.command;
    verify(args, config)
}

fn verify(args: &VerifyArgs, config: &Config) -> anyhow::Result<()> {
    match running(&args.admin, config)? {
        Some(api) => verify_there(args, &api),
        None => verify_here(args, config),
    }
}

/// The seawall that runs, if one does where the configuration says. One that was named must.
fn running(args: &AdminArgs, config: &Config) -> anyhow::Result<Option<Api>> {
    if args.admin.is_none() && config.admin.listen.is_none() {
        return Ok(None);
    }
    let api = Api::at(args, config)?;
    Ok((args.admin.is_some() || api.is_there()).then_some(api))
}

fn verify_there(args: &VerifyArgs, api: &Api) -> anyhow::Result<()> {
    let pass: Pass = jobs::done(api, "/api/v1/verify")?;
    let Pass { blobs, bytes, rotten, unreadable } = pass;
    let mut said = if args.json {
        serde_json::to_string_pretty(&pass)?
    } else {
        let sound = blobs.saturating_sub(rotten + unreadable);
        let damaged = if rotten > 0 { format!("; {rotten} damaged, fetched again when wanted") } else { String::new() };
        format!("{sound} of {blobs} blobs are right ({}){damaged}", ByteSize(bytes).display().iec())
    };
    said.push('\n');
    std::io::stdout().write_all(said.as_bytes())?;
    if unreadable > 0 {
        bail!("{unreadable} of {blobs} blobs could not be read: the log of seawall names them");
    }
    Ok(())
}

fn verify_here(args: &VerifyArgs, config: &Config) -> anyhow::Result<()> {
    let data = &config.data;
    if !crate::fs::exists(&data.join("blobs")) {
        bail!(
            "{} holds no cache that {} can see: name its directory (SEAWALL_DATA, or `data` of the configuration)",
            data.display(),
            crate::fs::user()
        );
    }
    if !crate::fs::is_own(data) {
        bail!(
            "{} is another user's: run this as that user, or files of {} would be closed to the seawall that runs there",
            data.display(),
            crate::fs::user()
        );
    }
    let store = Store::open(data).with_context(|| {
        let data = data.display();
        format!("{data} cannot be used; a seawall that runs there is asked by its admin listener (`admin`, or --admin)")
    })?;
    let names = store.names()?;
    let progress = jobs::progress(store.bytes(&names));
    let report = everything(&store, &names, |bytes| progress.inc(bytes));
    progress.finish_and_clear();
    let mut said = if args.json { serde_json::to_string_pretty(&report)? } else { written(&report) };
    said.push('\n');
    std::io::stdout().write_all(said.as_bytes())?;
    match report.failed.len() {
        0 => Ok(()),
        failed => bail!("{failed} of {} blobs could not be verified, or not be moved away", report.blobs),
    }
}

fn written(report: &Report) -> String {
    let Report { blobs, bytes, healed, failed } = report;
    let line = |Finding { digest, why }: &Finding, what: &str| format!("{digest}  {what}: {why}");
    let healed_lines = healed.iter().map(|it| line(it, "damaged, fetched again when it is wanted"));
    let sound = blobs - (healed.len() + failed.len()) as u64;
    let last = format!("{sound} of {blobs} blobs are right ({})", ByteSize(*bytes).display().iec());
    let lines: Vec<_> = healed_lines.chain(failed.iter().map(|it| line(it, "failed"))).chain([last]).collect();
    lines.join("\n")
}
