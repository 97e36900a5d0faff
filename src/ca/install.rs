//! Where clients look for roots they trust: the stores of systems, and `certs.d` of docker and of
//! podman and its family.
//!
//! [`plan`] decides which files, below which root, and what is to be run and restarted afterwards;
//! [`Plan::write`] writes them. To do it again changes nothing.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::CaError;
use crate::fs::{self, Tree};
use crate::http::origin::parse_authority;

/// Whom to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// The system's trust store: good for every client that is not in a container of its own.
    System,
    /// dockerd, a directory per registry.
    Docker,
    /// podman, skopeo, buildah and CRI-O, a directory per registry.
    Containers,
}

/// What is to be written, run and known.
#[derive(Debug)]
pub struct Plan {
    files: Vec<PathBuf>,
    pem: String,
    /// To be run afterwards, in this order.
    pub commands: Vec<String>,
    /// What to restart, and what these files do not reach.
    pub notes: Vec<String>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The file that was changed.
    pub path: PathBuf,
    /// What was done to it.
    pub change: Change,
}

/// How a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there.
    Made,
    /// It held another certificate.
    Replaced,
    /// It held this one.
    Unchanged,
}

impl Change {
    /// As a person reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Made => "made",
            Change::Replaced => "replaced",
            Change::Unchanged => "unchanged",
        }
    }
}

/// A trust store: which systems have it, where a PEM file goes, and what makes it count.
struct Store {
    /// `ID` or a word of `ID_LIKE` in os-release.
    systems: &'static [&'static str],
    /// What is there on such a system even without os-release.
    mark: &'static str,
    file: &'static str,
    command: &'static str,
}

/// Bytes of an os-release; those that are there have a few hundred.
const LONGEST: u64 = 1 << 16;

/// In this order where there is no os-release: SUSE has an update-ca-certificates too.
const STORES: &[Store] = &[
    Store {
        systems: &["rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn"],
        mark: "etc/pki/ca-trust/source",
        file: "etc/pki/ca-trust/source/anchors/seawall.pem",
        command: "update-ca-trust extract",
    },
    Store {
        systems: &["suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles"],
        mark: "etc/pki/trust",
        file: "etc/pki/trust/anchors/seawall.pem",
        command: "update-ca-certificates",
    },
    Store {
        systems: &["arch"],
        mark: "etc/ca-certificates/trust-source",
        file: "etc/ca-certificates/trust-source/anchors/seawall.crt",
        command: "update-ca-trust",
    },
    // The name must end in .crt, and the file hold one certificate.
    Store {
        systems: &["debian", "ubuntu", "alpine"],
        mark: "usr/sbin/update-ca-certificates",
        file: "usr/local/share/ca-certificates/seawall.crt",
        command: "update-ca-certificates",
    },
];

/// Says what makes `client` trust the certificate `pem`, on the system whose root directory is
/// `below`. `hosts` are those of the registries, with a port where it is not 443; the system's
/// store does not need them.
pub fn plan(below: &Path, client: Client, hosts: &[String], pem: &str) -> Result<Plan, CaError> {
    match client {
        Client::System => system(below, pem),
        Client::Docker => Ok(per_host(below, client, hosts, pem)),
        Client::Containers => Ok(per_host(below, client, hosts, pem)),
    }
}

impl Plan {
    /// Writes what is not there yet. What was written before an error stays.
    pub fn write(&self) -> Result<Vec<Written>, CaError> {
        self.files.iter().map(|path| put(path, self.pem.as_bytes())).collect()
    }
}

fn put(path: &Path, pem: &[u8]) -> Result<Written, CaError> {
    let change = match fs::exists(path) {
        true if fs::read(path)? == pem => Change::Unchanged,
        true => Change::Replaced,
        false => Change::Made,
    };
    if change != Change::Unchanged {
        if let Some(dir) = path.parent() {
            fs::create_shared_dir(dir)?;
        }
        fs::replace(path, 0o644, pem)?;
    }
    Ok(Written { path: path.to_owned(), change })
}

fn system(below: &Path, pem: &str) -> Result<Plan, CaError> {
    let store = store(&Tree::open(below)?).ok_or_else(|| CaError::NoStore(below.to_owned()))?;
    let command = match below == Path::new("/") {
        true => store.command.to_owned(),
        false => format!("chroot {} {}", below.display(), store.command),
    };
    Ok(Plan {
        files: vec![below.join(store.file)],
        pem: pem.to_owned(),
        commands: vec![command],
        notes: vec![
            "restart dockerd, containerd, CRI-O and k3s: they read the store when they start".to_owned(),
            "podman, skopeo, buildah, crane, helm and oras read it at each start: nothing to do".to_owned(),
            "BuildKit's docker-container builders and kaniko have a store in their own image: see ca/README.md"
                .to_owned(),
        ],
    })
}

/// Where the system `below` keeps its roots, as an absolute path there, and what makes one count.
pub fn trust_store(below: &Tree) -> Option<(PathBuf, &'static str)> {
    store(below).map(|store| (Path::new("/").join(store.file), store.command))
}

/// All that are known, Debian's first, as file and command.
pub fn trust_stores() -> impl Iterator<Item = (PathBuf, &'static str)> {
    STORES.iter().rev().map(|store| (Path::new("/").join(store.file), store.command))
}

fn store(below: &Tree) -> Option<&'static Store> {
    let words = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|file| below.read(Path::new(file), LONGEST).ok().flatten())
        .map(|found| systems(&String::from_utf8_lossy(&found.bytes)))
        .unwrap_or_default();
    words
        .iter()
        .find_map(|word| STORES.iter().find(|s| s.systems.contains(&word.as_str())))
        .or_else(|| STORES.iter().find(|s| below.has(Path::new(s.mark))))
}

/// `ID`, then the words of `ID_LIKE` (os-release(5)).
fn systems(os_release: &str) -> Vec<String> {
    let value = |key: &str| {
        os_release.lines().find_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name == key).then(|| value.trim_matches(['"', '\'']).to_ascii_lowercase())
        })
    };
    let like = value("ID_LIKE").unwrap_or_default();
    value("ID").into_iter().chain(like.split_whitespace().map(str::to_owned)).collect()
}

/// docker-certs.d, containers-certs.d(5): a directory for each HOST or HOST:PORT as it is in an
/// image's name; every `*.crt` in it is trusted besides the system's, and read at each pull.
fn per_host(below: &Path, client: Client, hosts: &[String], pem: &str) -> Plan {
    let dir = match client {
        Client::Docker => "etc/docker/certs.d",
        _ => "etc/containers/certs.d",
    };
    let (names, skipped): (Vec<_>, Vec<_>) = hosts.iter().map(|h| directory(h).ok_or(h)).partition(Result::is_ok);
    let mut files: Vec<_> = names.into_iter().flatten().map(|n| below.join(dir).join(n).join("seawall.crt")).collect();
    files.sort();
    files.dedup();
    let mut notes = Vec::new();
    let skipped: Vec<_> = skipped.into_iter().filter_map(Result::err).map(String::as_str).collect();
    if !skipped.is_empty() {
        let skipped = skipped.join(", ");
        notes.push(format!("not possible for {skipped}: certs.d knows no wildcards; use the system's store for these"));
    }
    notes.push(match client {
        Client::Docker => {
            "nothing to restart. For Docker Hub, dockerd reads certs.d only with the containerd image store \
                           (the default since Docker 29); before that use the system's store"
                .to_owned()
        }
        _ => "nothing to restart but CRI-O".to_owned(),
    });
    Plan { files, pem: pem.to_owned(), commands: Vec::new(), notes }
}

/// The directory's name; `None` for a pattern.
fn directory(host: &str) -> Option<String> {
    let (host, port) = parse_authority(host, 443)?;
    Some(if port == 443 { host.to_string() } else { format!("{host}:{port}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn system_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_shared_dir(path.parent().unwrap()).unwrap();
            fs::create_new(&path, 0o644, text.as_bytes()).unwrap();
        }
        dir
    }

    #[test]
    fn each_system_has_its_store() {
        for (os_release, file, command) in [
            (
                "NAME=\"Debian GNU/Linux\"\nID=debian\n",
                "usr/local/share/ca-certificates/seawall.crt",
                "update-ca-certificates",
            ),
            ("ID=ubuntu\nID_LIKE=debian\n", "usr/local/share/ca-certificates/seawall.crt", "update-ca-certificates"),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "usr/local/share/ca-certificates/seawall.crt",
                "update-ca-certificates",
            ),
            ("ID=alpine\n", "usr/local/share/ca-certificates/seawall.crt", "update-ca-certificates"),
            (
                "ID=\"rhel\"\nID_LIKE=\"fedora\"\n",
                "etc/pki/ca-trust/source/anchors/seawall.pem",
                "update-ca-trust extract",
            ),
            ("ID='rocky'\n", "etc/pki/ca-trust/source/anchors/seawall.pem", "update-ca-trust extract"),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                "etc/pki/trust/anchors/seawall.pem",
                "update-ca-certificates",
            ),
            ("ID=sles\n", "etc/pki/trust/anchors/seawall.pem", "update-ca-certificates"),
        ] {
            let root = system_with(&[("etc/os-release", os_release)]);
            let plan = plan(root.path(), Client::System, &[], PEM).unwrap();
            let written = plan.write().unwrap();
            assert_eq!(written, [Written { path: root.path().join(file), change: Change::Made }], "{os_release}");
            assert_eq!(fs::read_to_string(&root.path().join(file)).unwrap(), PEM);
            assert_eq!(fs::mode(&root.path().join(file)).unwrap(), 0o644);
            assert_eq!(plan.commands, [format!("chroot {} {command}", root.path().display())]);
        }
        let debian = system_with(&[("usr/lib/os-release", "ID=debian\n")]);
        assert!(store(&Tree::open(debian.path()).unwrap()).is_some(), "os-release(5): the second place");
    }

    #[test]
    fn a_system_without_os_release_is_known_by_its_files() {
        for (mark, command) in [
            ("etc/pki/ca-trust/source/README", "update-ca-trust extract"),
            ("etc/pki/trust/anchors/x.pem", "update-ca-certificates"),
            ("usr/sbin/update-ca-certificates", "update-ca-certificates"),
        ] {
            let root = system_with(&[(mark, "")]);
            assert_eq!(store(&Tree::open(root.path()).unwrap()).unwrap().command, command);
        }
        let empty = tempfile::tempdir().unwrap();
        let said = plan(empty.path(), Client::System, &[], PEM).unwrap_err().to_string();
        assert!(said.contains("ca-certificates"), "{said}");
    }

    #[test]
    fn a_second_time_changes_nothing_and_a_new_root_replaces() {
        let root = tempfile::tempdir().unwrap();
        let hosts = [
            "docker.io".to_owned(),
            "registry.corp:5000".to_owned(),
            "*.gcr.io".to_owned(),
            "docker.io:443".to_owned(),
        ];
        let changes = |pem: &str| {
            let plan = plan(root.path(), Client::Docker, &hosts, pem).unwrap();
            assert!(plan.notes.iter().any(|n| n.contains("*.gcr.io")));
            plan.write().unwrap().into_iter().map(|w| w.change).collect::<Vec<_>>()
        };
        assert_eq!(changes(PEM), [Change::Made; 2]);
        assert_eq!(changes(PEM), [Change::Unchanged; 2]);
        assert_eq!(changes("other"), [Change::Replaced; 2]);
        let certs = root.path().join("etc/docker/certs.d");
        assert_eq!(fs::read_to_string(&certs.join("registry.corp:5000/seawall.crt")).unwrap(), "other");
        assert_eq!(fs::list(&certs.join("docker.io")).unwrap().len(), 1, "nothing is left beside it");
    }

    #[test]
    fn users_without_privilege_can_read_it() {
        let root = tempfile::tempdir().unwrap();
        plan(root.path(), Client::Containers, &["quay.io".to_owned()], PEM).unwrap().write().unwrap();
        let certs = root.path().join("etc/containers/certs.d");
        assert_eq!(fs::mode(&certs.join("quay.io")).unwrap() & 0o005, 0o005, "rootless podman reads it");
        assert_eq!(fs::mode(&certs.join("quay.io/seawall.crt")).unwrap() & 0o004, 0o004);
    }

    #[test]
    fn no_host_leads_out_of_the_directory() {
        for host in ["../../root", "a/b", "..", "", "/etc"] {
            assert_eq!(directory(host), None, "{host}");
        }
        assert_eq!(directory("Registry.Corp:5000").as_deref(), Some("registry.corp:5000"));
    }
}
