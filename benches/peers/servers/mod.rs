//! The servers that are compared: each a process with its children, in a directory of its own.

pub(crate) mod distribution;
pub(crate) mod nginx;
pub(crate) mod seawall;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use crate::process::free_address;
use crate::process::{cpu_of, status_of};
use crate::upstream::Upstream;

/// How to get what is not here.
pub(crate) struct Missing(pub(crate) String);

/// What all of them need to start.
pub(crate) struct Lab<'a> {
    pub(crate) upstream: &'a Upstream,
    /// Their certificates, where they do not make their own.
    pub(crate) pki: &'a crate::harness::Pki,
    pub(crate) seawall: &'a Path,
    /// Where binaries that are built stay: target/peers.
    pub(crate) cache: &'a Path,
}

/// One of them, running.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    /// What its certificate is trusted by.
    pub(crate) ca_pem: String,
    /// Of requests that others are sent, how many it is sent: one of so many, where it is slow.
    pub(crate) slowness: u64,
    children: Vec<Child>,
    /// With its log.
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            // nginx's workers end with their master only if it may say so.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let gives_up = Instant::now() + Duration::from_secs(5);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < gives_up {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    /// Whether it takes CONNECT.
    pub(crate) fn is_proxy(&self) -> bool {
        self.name == "seawall"
    }

    /// User and system time of all its processes so far (ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        self.pids().into_iter().filter_map(cpu_of).sum()
    }

    /// From now on the peak is a new one (proc(5), clear_refs).
    pub(crate) fn forget_peak(&self) {
        self.pids().into_iter().for_each(|pid| {
            let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        });
    }

    /// The most memory its processes had, added up, in KiB (proc(5), status: VmHWM; shared pages
    /// count in each).
    pub(crate) fn peak(&self) -> u64 {
        self.pids().into_iter().filter_map(|pid| status_of(pid, "VmHWM:")).sum()
    }

    /// What they have now, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.pids().into_iter().filter_map(|pid| status_of(pid, "VmRSS:")).sum()
    }

    fn pids(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.children.iter().map(Child::id).collect();
        let mut at = 0;
        while at < all.len() {
            let path = format!("/proc/{0}/task/{0}/children", all[at]);
            let text = std::fs::read_to_string(path).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            at += 1;
        }
        all
    }

    /// What it wrote, if it wrote anything that is no mere notice.
    pub(crate) fn complaints(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let bad = |line: &&str| {
            [" ERROR ", " WARN ", "[error]", "[crit]", "[alert]", "level=error"].iter().any(|w| line.contains(w))
        };
        text.lines().filter(bad).take(3).map(|line| format!("    {}: {line}\n", self.name)).collect()
    }
}

/// A directory on the disk that target/ is on.
pub(crate) fn room(lab: &Lab<'_>) -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("run-").tempdir_in(lab.cache)?)
}

/// Starts it with its output in DIR/log, and waits until it listens.
pub(crate) fn launch(command: &mut Command, dir: &Path, addresses: &[SocketAddr]) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
    let began = Instant::now();
    while addresses.iter().any(|address| std::net::TcpStream::connect(address).is_err()) {
        let said = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            bail!("{:?} ended ({status}):\n{}", command.get_program(), said());
        }
        if began.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            bail!("{:?} does not listen:\n{}", command.get_program(), said());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// What a command says of itself, on both of its outputs.
pub(crate) fn says(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{:?} failed", command.get_program());
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Where a tool is.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|file| file.is_file())
}
