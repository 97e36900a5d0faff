//! `seawall status`: how the seawall that runs does.

use std::io::Write as _;
use std::time::Duration;

use bytesize::ByteSize;

use super::api::{AdminArgs, Api};
use super::log::printable;
use crate::clock::Clock;
use crate::config::Config;
use crate::operate::status::{Authority, Room, Sentence, Status};

pub(super) const EXAMPLE: &str = "\
Example: pulls fail; is it seawall, the registry or the quota?
  seawall status";

/// Blobs on their way that are shown.
const SHOWN: usize = 5;

/// Flags of `status`.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// Prints JSON, as /api/v1/status has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Asks, and prints.
///
/// # Errors
/// No seawall answers.
pub fn run(args: &StatusArgs, config: &Config) -> anyhow::Result<()> {
    let status: Status = Api::at(&args.admin, config)?.get("/api/v1/status")?;
    let mut said = if args.json { serde_json::to_string_pretty(&status)? } else { written(&status) };
    said.push('\n');
    Ok(std::io::stdout().write_all(said.as_bytes())?)
}

fn written(status: &Status) -> String {
    let verdict = status.verdict.iter().map(|Sentence { symbol, text, .. }| format!("{symbol} {text}"));
    let mut lines: Vec<String> = verdict.chain([String::new()]).collect();
    let size = |bytes| ByteSize(bytes).display().iec();
    let Room { bytes, max_bytes, blobs, fills, .. } = status.cache;
    lines.push(format!("cache     {} of {}, {blobs} blobs, {fills} coming now", size(bytes), size(max_bytes)));
    if let Some(at) = status.cache.oldest_used_at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok()) {
        let age = Clock::system().now().duration_since(at).unwrap_or_default();
        lines.push(format!("          what would go next was used {} ago", span(age)));
    }
    for fill in status.fills.iter().take(SHOWN) {
        let of = fill.total_bytes.map_or_else(String::new, |total| format!(" of {}", size(total)));
        let (what, took) = (&fill.repository, span(Duration::from_secs(fill.seconds)));
        lines.push(format!("coming    {what} {}: {}{of} in {took}", fill.digest, size(fill.bytes)));
    }
    lines.push(format!("pulls     {} charged by registries, {} spared", status.pulls.charged, status.pulls.spared));
    let listeners: Vec<String> = status.listeners.iter().map(ToString::to_string).collect();
    let up = span(Duration::from_secs(status.uptime_seconds));
    lines.push(format!("listening {}, up {up}, version {}", listeners.join(" "), status.version));
    let Authority { fingerprint_sha256, not_after } = &status.certificate_authority;
    lines.push(format!("authority {fingerprint_sha256} until {not_after}"));
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

/// In its largest unit, as people round it.
fn span(time: Duration) -> String {
    let (count, unit) = match time.as_secs() {
        seconds if seconds < 120 => (seconds, "s"),
        seconds if seconds < 2 * 3600 => (seconds / 60, "min"),
        seconds if seconds < 48 * 3600 => (seconds / 3600, "h"),
        seconds => (seconds / (24 * 3600), "d"),
    };
    format!("{count} {unit}")
}
