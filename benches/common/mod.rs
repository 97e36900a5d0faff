//! What the benches share: seawall as a process of its own, its CPU time and its memory, and medians.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Client, Pki, Registry};

/// seawall, as a process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    /// From its start to its first connection.
    pub(crate) ready: Duration,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// In front of `registry`, with `more` at the end of its configuration (keys of sections of their own).
    pub(crate) fn start(pki: &Pki, registry: &Registry, more: &str) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        Server::with(dir, &data, pki, registry, more)
    }

    /// The same, with the data directory that is there.
    pub(crate) fn start_on(data: &Path, pki: &Pki, registry: &Registry, more: &str) -> Server {
        Server::with(tempfile::tempdir().expect("a temporary directory"), data, pki, registry, more)
    }

    fn with(dir: tempfile::TempDir, data: &Path, pki: &Pki, registry: &Registry, more: &str) -> Server {
        let (file, ca) = (dir.path().join("seawall.toml"), dir.path().join("ca.pem"));
        let address = free_address();
        std::fs::write(&ca, pki.ca_pem()).expect("written");
        let hosts: Vec<String> = registry.hosts().iter().map(|(host, addr)| format!("{host:?} = \"{addr}\"")).collect();
        let text = format!(
            "listen = [\"{address}\"]\nadmin = \"\"\ndata = {data:?}\n[log]\nlevel = \"warn\"\n[upstream]\nca_file = {ca:?}\nhosts = {{ {} }}\n{more}",
            hosts.join(", ")
        );
        std::fs::File::create(&file).and_then(|mut f| f.write_all(text.as_bytes())).expect("written");
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["serve", "--config"])
            .arg(&file)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("seawall starts");
        while std::net::TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "seawall does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
        let ready = started.elapsed();
        let ca_pem = std::fs::read_to_string(data.join("ca/ca.crt")).expect("the root is there");
        Server { child, address, ca_pem, ready, _dir: dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::via_connect(self.address, &self.ca_pem)
    }

    /// User and system time so far (proc(5), stat: fields 14 and 15, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let after_name = stat.rsplit(") ").next().expect("a name in parentheses");
        let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// The same of the threads that it has now, to the ns (`task/*/schedstat`).
    pub(crate) fn cpu_of_threads(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs").flatten();
        let times = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
        Duration::from_nanos(times.filter_map(|times| times.split(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Files and sockets that it has open.
    pub(crate) fn open_files(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count() as u64
    }

    /// The most memory it had, in MiB (proc(5), status: VmHWM).
    pub(crate) fn peak(&self) -> u64 {
        self.status("VmHWM:") / 1024
    }

    /// The memory it has, in bytes (proc(5), status: VmRSS).
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("it has memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

pub(crate) fn median<T: Ord + Copy>(mut samples: Vec<T>) -> T {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
