//! What it was measured on.

use std::process::Command;

use serde::Serialize;

use crate::servers::{Server, says};

/// The machine, the versions, the day.
#[derive(Serialize)]
pub(crate) struct Machine {
    cpu: String,
    /// Of those that decide how fast encryption and hashing are.
    flags: Vec<String>,
    cores: usize,
    kernel: String,
    date: String,
    versions: Vec<String>,
}

const FLAGS: [&str; 6] = ["aes", "vaes", "vpclmulqdq", "sha_ni", "avx2", "avx512f"];

impl Machine {
    pub(crate) fn here(versions: &[String]) -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(": ").map_or(String::new(), |(_, value)| value.to_owned())
        };
        let has = field("flags");
        let flags = FLAGS.iter().filter(|flag| has.split(' ').any(|one| one == **flag)).map(ToString::to_string);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Machine {
            cpu: field("model name"),
            flags: flags.collect(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel,
            date: now.get(..10).unwrap_or_default().to_owned(),
            versions: versions.to_vec(),
        }
    }

    pub(crate) fn markdown(&self) -> String {
        format!(
            "{}, {} cores, {} · Linux {} · {} · {}",
            self.cpu,
            self.cores,
            self.flags.join(" "),
            self.kernel,
            self.versions.join(", "),
            self.date
        )
    }
}

/// Of the servers, and of the client.
pub(crate) fn versions(servers: &[Server]) -> Vec<String> {
    let bare = |server: &Server| server.version.strip_prefix(server.name).unwrap_or(&server.version).trim().to_owned();
    let mut all: Vec<String> = servers.iter().map(|server| format!("{} {}", server.name, bare(server))).collect();
    all.extend(says(Command::new("h2load").arg("--version")));
    all
}
