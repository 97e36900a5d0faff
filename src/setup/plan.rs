//! A plan: what it is made of, and what it says.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::http::origin::Origin;
use crate::policy::registry::Registries;

/// What is written where seawall's IP address goes, if only its name is known: every resolver
/// refuses to load it.
pub(super) const PLACEHOLDER: &str = "SEAWALL-IP-ADDRESS";

/// How a client comes to seawall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// `HTTPS_PROXY`: every registry, and logins work; needs the CA.
    Proxy,
    /// As a mirror: public images alone, since clients keep their credentials from mirrors; needs
    /// no CA over plain HTTP.
    Mirror,
    /// The registries' names lead to seawall's port 443; needs the CA.
    Dns,
}

impl Mode {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Proxy => "proxy",
            Mode::Mirror => "mirror",
            Mode::Dns => "dns",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Mode, Unknown> {
        let all = [Mode::Proxy, Mode::Mirror, Mode::Dns];
        all.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| Unknown(text.to_owned()))
    }
}

/// Not a client, or not a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not known", self.0)
    }
}

impl std::error::Error for Unknown {}

/// What a plan is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// How seawall is reached from the client: `http://seawall.lab:3128`, or https where it has a
    /// name and a certificate of its own.
    pub address: Origin,
    /// The root that clients must trust.
    pub ca_pem: String,
    /// Where the client's system keeps its roots, and what makes one count.
    pub store: TrustStore,
    /// What is intercepted.
    pub registries: Registries,
    /// What `version` says in the client's `/etc/containerd/config.toml`, where that is known: 2
    /// (containerd 1.x) and 3 (2.x) have other names for the same keys.
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

impl TrustStore {
    /// Debian's, and Ubuntu's and Alpine's: for a system of which nothing is known.
    pub fn debian() -> TrustStore {
        TrustStore {
            file: PathBuf::from("/usr/local/share/ca-certificates/seawall.crt"),
            command: "update-ca-certificates".to_owned(),
        }
    }
}

/// What makes a client use seawall.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub files: Vec<File>,
    /// To be run afterwards, in this order; what must be restarted is among them.
    pub commands: Vec<String>,
    /// Show that it works: one each.
    pub check: Vec<String>,
    /// What these files do not reach, and what surprises: one sentence or two each.
    pub notes: Vec<String>,
    /// What remains once the files are taken back, and must be undone by hand.
    pub undo: Vec<String>,
}

impl Plan {
    /// Whether a file lacks seawall's IP address, which is not known from its name.
    pub fn lacks_address(&self) -> bool {
        self.files.iter().any(|file| file.content.text().contains(PLACEHOLDER))
    }
}

/// One file of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Absolute on the client's machine: `/etc/docker/daemon.json`.
    pub path: PathBuf,
    /// What it must say.
    pub content: Content,
}

/// What a file must say, and what becomes of what it says already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A file of seawall's own: written whole, removed by undo.
    Whole(String),
    /// Keys of a JSON file that others write too: tables are merged, of lists ours come first and
    /// others stay, other values are ours.
    Json(serde_json::Value),
    /// The same for TOML. Comments and order stay.
    Toml(toml::Table),
    /// The same for YAML.
    Yaml(serde_json::Value),
    /// Lines in a file of others (`/etc/hosts`, `/etc/environment`), between two lines that mark
    /// them.
    Lines(String),
}
