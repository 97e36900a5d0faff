//! `seawall status`: how the seawall that runs does.

use std::time::Duration;

use bytesize::ByteSize;

use super::api::Api;
use super::log::printable;
use crate::clock::Clock;
use crate::config::Config;
use crate::operate::status::{Sentence, Status};

pub(super) const EXAMPLE: &str = "\
Example: pulls fail; is it seawall, the registry or the quota?
  seawall status";

/// Flags of `status`.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {
    /// Prints JSON, as /api/v1/status has it
    #[arg(long)]
    json: bool,
    /// Where the admin listener is [default: `admin` of the configuration]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
}

/// Asks, and prints.
///
/// # Errors
/// No seawall answers.
pub fn run(args: &StatusArgs, config: &Config) -> anyhow::Result<()> {
    let status: Status = Api::at(args.admin.as_deref(), config)?.get("/api/v1/status")?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(())
}

fn print(status: &Status) {
    for Sentence { symbol, text, .. } in &status.verdict {
        println!("{symbol} {}", printable(text));
    }
    let size = |bytes| ByteSize(bytes).display().iec();
    let (room, pulls) = (&status.cache, &status.pulls);
    println!();
    println!(
        "cache     {} of {}, {} blobs, {} coming now",
        size(room.bytes),
        size(room.max_bytes),
        room.blobs,
        room.fills
    );
    if let Some(at) = room.oldest_used_at.as_deref().and_then(|at| humantime::parse_rfc3339(at).ok()) {
        let age = Clock::system().now().duration_since(at).unwrap_or_default();
        println!("          what would go next was used {} ago", span(age));
    }
    println!("pulls     {} charged by registries, {} spared", pulls.charged, pulls.spared);
    let listeners: Vec<String> = status.listeners.iter().map(ToString::to_string).collect();
    println!(
        "listening {}, up {}, version {}",
        listeners.join(" "),
        span(Duration::from_secs(status.uptime_seconds)),
        status.version
    );
    println!(
        "authority {} until {}",
        status.certificate_authority.fingerprint_sha256, status.certificate_authority.not_after
    );
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
