//! seawall itself, in this process by its own entry point, in front of fake registries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use seawall::clock::Clock;
use seawall::config::{Config, Overrides};
use seawall::daemon::Daemon;

use super::{Client, Pki, Registry};

/// What it is started with.
pub(crate) struct Builder {
    hosts: HashMap<String, SocketAddr>,
    toml: String,
    data: Option<PathBuf>,
    clock: Clock,
}

/// A running seawall, and the directory it keeps.
pub(crate) struct Seawall {
    daemon: Option<Daemon>,
    address: SocketAddr,
    pub(crate) data: PathBuf,
    _dir: Option<tempfile::TempDir>,
    pub(crate) clock: Clock,
    pub(crate) ca_pem: String,
    builder: (HashMap<String, SocketAddr>, String),
}

impl Builder {
    /// More TOML. `[upstream]` is taken: use [`Builder::data`] and [`Builder::front`] for what they
    /// set.
    pub(crate) fn toml(mut self, more: &str) -> Builder {
        self.toml.push_str(more);
        self.toml.push('\n');
        self
    }

    /// Where a host is that is no fake registry.
    pub(crate) fn host(mut self, name: &str, addr: SocketAddr) -> Builder {
        self.hosts.insert(name.to_owned(), addr);
        self
    }

    /// In front of this registry too.
    pub(crate) fn front(mut self, registry: &Registry) -> Builder {
        self.hosts.extend(registry.hosts());
        self
    }

    /// In this directory, which stays.
    pub(crate) fn data(mut self, data: &Path) -> Builder {
        self.data = Some(data.to_owned());
        self
    }

    pub(crate) async fn start(self, pki: &Pki) -> Seawall {
        let dir = self.data.is_none().then(|| tempfile::tempdir().unwrap());
        let data = self.data.clone().unwrap_or_else(|| dir.as_ref().unwrap().path().join("data"));
        let home = tempfile::tempdir().unwrap();
        let (ca, file) = (home.path().join("upstream-ca.pem"), home.path().join("seawall.toml"));
        std::fs::write(&ca, pki.ca_pem()).unwrap();
        let hosts: Vec<String> = self.hosts.iter().map(|(host, addr)| format!("{host:?} = \"{addr}\"")).collect();
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\ndata = {data:?}\n{}\n",
            self.toml.replace("CA_FILE", &format!("ca_file = {ca:?}\nhosts = {{ {} }}", hosts.join(", ")))
        );
        let text = if text.contains("[upstream]") {
            text
        } else {
            format!(
                "{text}\n[upstream]\nresolve_deadline = \"30s\"\nca_file = {ca:?}\nhosts = {{ {} }}\n",
                hosts.join(", ")
            )
        };
        std::fs::write(&file, &text).unwrap();
        let config = Config::load(Some(&file), std::iter::empty(), Overrides::default())
            .unwrap_or_else(|e| panic!("{e}\n{text}"));
        let daemon = Daemon::start_at(config, self.clock.clone()).await.unwrap_or_else(|e| panic!("{e:#}"));
        let ca_pem = std::fs::read_to_string(data.join("ca/ca.crt")).unwrap();
        let address = daemon.addresses()[0];
        Seawall {
            address,
            daemon: Some(daemon),
            data,
            _dir: dir,
            clock: self.clock,
            ca_pem,
            builder: (self.hosts, self.toml),
        }
    }
}

impl Seawall {
    /// In front of nothing that has a fixed address.
    pub(crate) fn alone() -> Builder {
        Builder { hosts: HashMap::new(), toml: String::new(), data: None, clock: Clock::system() }
    }

    /// In front of `registry`, with defaults. TOML that has an `[upstream]` section writes
    /// `CA_FILE` in it, alone on a line.
    pub(crate) fn before(registry: &Registry) -> Builder {
        Seawall::alone().front(registry)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.daemon.as_ref().unwrap().admin_address().unwrap()
    }

    /// Through HTTPS_PROXY.
    pub(crate) fn client(&self) -> Client {
        Client::via_connect(self.address, &self.ca_pem)
    }

    /// Stops it as SIGTERM does.
    pub(crate) async fn stop(mut self) -> (Option<tempfile::TempDir>, PathBuf) {
        self.daemon.take().unwrap().drain().await;
        (self._dir.take(), self.data.clone())
    }

    /// Stops it and starts it again over the same directory, at the same time.
    pub(crate) async fn restart(self, pki: &Pki) -> Seawall {
        let toml = self.builder.1.clone();
        self.restart_with(&toml, pki).await
    }

    /// … with another TOML.
    pub(crate) async fn restart_with(mut self, toml: &str, pki: &Pki) -> Seawall {
        self.daemon.take().unwrap().drain().await;
        let (hosts, toml) = (self.builder.0.clone(), toml.to_owned());
        let builder = Builder { hosts, toml, data: Some(self.data.clone()), clock: self.clock.clone() };
        let mut again = builder.start(pki).await;
        again._dir = self._dir.take();
        again
    }

    /// The value of a metric's line that starts with `name`; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.daemon.as_ref().unwrap().metrics().encode();
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}
