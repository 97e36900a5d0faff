//! What the kernel says of a process (proc(5)).

use std::net::SocketAddr;
use std::time::Duration;

/// User and system time of its threads so far (stat: fields 14 and 15, in ticks of 10 ms).
pub(crate) fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit(") ").next()?;
    let ticks: Option<u64> = after_name.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks? * 10))
}

/// A line of its status in KiB: `VmRSS:` the memory it has, `VmHWM:` the most it had.
pub(crate) fn status_of(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
