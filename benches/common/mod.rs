//! What the benches share: seawall as a process of its own, its CPU time and its memory, and
//! medians.

mod process;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use process::{cpu_of, free_address, status_of};

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
    /// In front of `registry`, with `more` at the end of its configuration (keys of sections of
    /// their own).
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
        let address = free_address().expect("a port");
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

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.child.id()).expect("it runs")
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
        status_of(self.child.id(), name).expect("it runs, and has memory")
    }
}

pub(crate) fn median<T: Ord + Copy>(mut samples: Vec<T>) -> T {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
