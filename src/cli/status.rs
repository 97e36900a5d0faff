//! `seawall status`: how the seawall that runs does.

use std::io::Write as _;
use std::time::Duration;

use bytesize::ByteSize;

use super::api::{AdminArgs, Api};
use super::log::printable;
use crate::clock::Clock;
use crate::config::Config;
use crate::operate::status::{Authority, Room, Sentence, Status};
use crate::operate::traffic::{Amount, HitShare, Traffic};

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
    lines.extend(worth(&status.traffic));
    let listeners: Vec<String> = status.listeners.iter().map(ToString::to_string).collect();
    let up = span(Duration::from_secs(status.uptime_seconds));
    lines.push(format!("listening {}, up {up}, version {}", listeners.join(" "), status.version));
    let Authority { fingerprint_sha256, not_after } = &status.certificate_authority;
    lines.push(format!("authority {fingerprint_sha256} until {not_after}"));
    let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

/// Whether it is worth it.
fn worth(traffic: &Traffic) -> [String; 2] {
    let (shares, spared) = (&traffic.hit_share, &traffic.spared);
    let amount = |Amount { pulls, bytes }| format!("{pulls} pulls and {}", ByteSize(bytes).display().iec());
    let hits = match (hits(shares.day), hits(shares.hour)) {
        (None, _) => "nothing was pulled in 24 h".to_owned(),
        (Some(day), None) => format!("{day} in 24 h"),
        (Some(day), Some(hour)) => format!("{day} in 24 h; {hour} in the last hour"),
    };
    let spared = format!("{} today, {} in 30 days", amount(spared.today), amount(spared.month));
    [format!("hits      {hits}"), format!("spared    {spared}")]
}

/// `None`: nothing was pulled.
fn hits(share: HitShare) -> Option<String> {
    // Rounded down: what is not all is not 100 %.
    let percent = |share: f64| format!("{:.0} %", (share * 100.0).floor());
    let bytes = share.bytes.map_or_else(String::new, |share| format!(" and {} of bytes", percent(share)));
    Some(format!("{} of requests{bytes}", percent(share.requests?)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::traffic::{HitShares, Spared};

    #[test]
    fn whether_it_is_worth_it_in_two_lines() {
        let share = |requests, bytes| HitShare { requests, bytes };
        let nothing = worth(&Traffic::default());
        assert_eq!(nothing[0], "hits      nothing was pulled in 24 h");
        assert_eq!(nothing[1], "spared    0 pulls and 0 B today, 0 pulls and 0 B in 30 days");
        let mut traffic = Traffic {
            hit_share: HitShares { day: share(Some(0.9371), Some(0.9999)), ..HitShares::default() },
            spared: Spared {
                today: Amount { pulls: 12, bytes: 1_288_490_188 },
                month: Amount { pulls: 340, bytes: 40 << 30 },
            },
        };
        assert_eq!(worth(&traffic)[0], "hits      93 % of requests and 99 % of bytes in 24 h");
        assert_eq!(worth(&traffic)[1], "spared    12 pulls and 1.2 GiB today, 340 pulls and 40.0 GiB in 30 days");
        traffic.hit_share.hour = share(Some(1.0), None);
        assert_eq!(
            worth(&traffic)[0],
            "hits      93 % of requests and 99 % of bytes in 24 h; 100 % of requests in the last hour"
        );
    }
}
