//! How a client is pointed at seawall, so that nobody has to look up another tool's configuration format.
//!
//! 1. [`plan`] says which files a client needs, what is to be run and restarted afterwards, and which traps it has: pure, from
//!    [`Facts`]. One file per client in `clients`.
//! 2. [`Plan::text`] prints it, for the command line and for `/setup/CLIENT`.
//! 3. `write` merges the files into what is below a root directory, says what it changes, and takes it back.

mod clients;

use std::path::PathBuf;

use crate::http::origin::Origin;
use crate::policy::registry::Registries;

/// How a client comes to seawall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `HTTPS_PROXY`: every registry, and logins work; needs the CA.
    Proxy,
    /// As a mirror: public images alone, since clients keep their credentials from mirrors; needs no CA over plain HTTP.
    Mirror,
    /// The registries' names lead to seawall's port 443; needs the CA.
    Dns,
}

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How seawall is reached from the client: `http://seawall.lab:3128`, or https where it has a name and a certificate of its own.
    pub address: Origin,
    /// The root that clients must trust.
    pub ca_pem: String,
    /// Where the client's system keeps its roots, and what makes one count.
    pub store: TrustStore,
    /// What is intercepted.
    pub registries: Registries,
    /// What `version` says in the client's `/etc/containerd/config.toml`, where that is known: 2 (containerd 1.x) and 3 (2.x) have
    /// other names for the same keys.
    pub containerd: Option<i64>,
}

/// A system's trust store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustStore {
    /// Where a PEM file goes, absolute: `/usr/local/share/ca-certificates/seawall.crt`.
    pub file: PathBuf,
    /// What makes it count: `update-ca-certificates`.
    pub command: String,
}

/// What makes a client use seawall.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub files: Vec<File>,
    /// To be run afterwards, in this order; what must be restarted is among them.
    pub commands: Vec<String>,
    /// What these files do not reach, and what surprises: one sentence or two each.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Absolute on the client's machine: `/etc/docker/daemon.json`.
    pub path: PathBuf,
    /// What it must say.
    pub content: Content,
}

/// What a file must say, and what becomes of what it says already.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A file of seawall's own: written whole, removed by undo.
    Whole(String),
    /// Keys of a JSON file that others write too: tables are merged, of lists ours come first and others stay, other values are ours.
    Json(serde_json::Value),
    /// The same for TOML. Comments and order stay.
    Toml(toml::Table),
    /// The same for YAML.
    Yaml(serde_json::Value),
    /// Lines in a file of others (`/etc/hosts`, `/etc/environment`), between two lines that mark them.
    Lines(String),
}
