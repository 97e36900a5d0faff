//! seawall as a process of its own: for what ends with it, and for what is measured of it alone.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Client, Pki, Registry};

/// What its disk takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    Plenty,
    None,
}

impl Room {
    fn as_str(self) -> &'static str {
        match self {
            Room::Plenty => "unlimited",
            Room::None => "0",
        }
    }
}

/// Dropped: it is killed.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    pub(crate) ca_pem: String,
    log: Arc<Mutex<String>>,
    _dir: tempfile::TempDir,
}

/// Benches of packages of their own have none.
const BINARY: Option<&str> = option_env!("CARGO_BIN_EXE_seawall");

/// The binary under limits that a shell sets.
fn limited(limits: &str) -> Command {
    let mut command = Command::new("bash");
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, BINARY.expect("a test of the package itself")]);
    command
}

impl Process {
    /// `seawall serve` in front of `registry`, with these lines at the top level of its
    /// configuration.
    pub(crate) fn start(registry: &Registry, pki: &Pki, toml: &str) -> Process {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Process::run(Command::new(BINARY.expect("a test of the package itself")), dir, &data, registry, pki, toml)
    }

    /// The same, with its data in `data`, which stays.
    pub(crate) fn over(data: &Path, registry: &Registry, pki: &Pki, toml: &str) -> Process {
        let command = Command::new(BINARY.expect("a test of the package itself"));
        Process::run(command, tempfile::tempdir().unwrap(), data, registry, pki, toml)
    }

    /// The same, which may open so many files.
    pub(crate) fn with_descriptors(most: usize, registry: &Registry, pki: &Pki) -> Process {
        let (command, dir) = (limited(&format!("ulimit -n {most}")), tempfile::tempdir().unwrap());
        let data = dir.path().join("data");
        Process::run(command, dir, &data, registry, pki, "")
    }

    /// The same, with its data in `data`, on a disk of the test's: see [`Process::room`].
    pub(crate) fn on_disk(room: Room, data: &Path, registry: &Registry, pki: &Pki) -> Process {
        let command = limited(&format!("trap '' XFSZ; ulimit -S -f {}", room.as_str()));
        Process::run(command, tempfile::tempdir().unwrap(), data, registry, pki, "")
    }

    /// From now on.
    pub(crate) fn room(&self, room: Room) {
        let (limit, pid) = (format!("--fsize={}:unlimited", room.as_str()), self.child.id().to_string());
        assert!(Command::new("prlimit").args([&limit, "--pid", &pid]).status().unwrap().success());
    }

    fn run(
        mut command: Command,
        dir: tempfile::TempDir,
        data: &Path,
        registry: &Registry,
        pki: &Pki,
        toml: &str,
    ) -> Process {
        let (ca, file) = (dir.path().join("upstream-ca.pem"), dir.path().join("seawall.toml"));
        std::fs::write(&ca, pki.ca_pem()).unwrap();
        let hosts: Vec<String> = registry.hosts().iter().map(|(host, addr)| format!("{host:?} = \"{addr}\"")).collect();
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nadmin = \"\"\ndata = {data:?}\n{toml}\n[upstream]\nca_file = {ca:?}\nhosts = {{ {} }}\n",
            hosts.join(", ")
        );
        std::fs::write(&file, text).unwrap();
        let mut child = command
            .args(["--config".as_ref(), file.as_os_str(), "serve".as_ref()])
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = log.next().unwrap_or_else(|| panic!("it ended:\n{said}")).unwrap();
            if let Some((_, address)) = line.split_once("listening address=") {
                break address.trim().parse().unwrap();
            }
            said.push_str(&line);
        };
        // Its stderr is read to the end, or it would stop when the pipe is full.
        let said = Arc::new(Mutex::new(said));
        let hears = said.clone();
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| hears.lock().push_str(&(line + "\n"))));
        let ca_pem = std::fs::read_to_string(data.join("ca/ca.crt")).unwrap();
        Process { child, address, ca_pem, log: said, _dir: dir }
    }

    /// Whether its log has this.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.log.lock().contains(text)
    }

    pub(crate) fn client(&self) -> Client {
        Client::via_connect(self.address, &self.ca_pem)
    }

    /// Sends a signal: `TERM`, `INT`, …
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let waiting = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        tokio::time::timeout(super::faults::PATIENCE, waiting).await.expect("it does not end").unwrap()
    }

    /// Bytes of memory it has now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
