//! What plans are made of, in tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::http::origin::Origin;
use crate::policy::registry::{Registries, Registry};
use crate::setup::objection::Files;
use crate::setup::{Content, Facts, Plan, TrustStore};

/// Begins like a root.
pub(super) const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

/// Every kind of host there is.
pub(super) fn registries() -> Registries {
    let registry = |name: &str, hosts: &[&str], auth: &[&str], upstream: Option<&str>| Registry {
        name: name.into(),
        hosts: hosts.iter().map(|host| host.parse().expect("an example is valid")).collect(),
        auth_hosts: auth.iter().map(|host| host.parse().expect("an example is valid")).collect(),
        upstream: upstream.map(|url| Origin::from_url(url).expect("an example is valid").0),
        ..Registry::default()
    };
    Registries::new(vec![
        registry(
            "docker.io",
            &["docker.io", "registry-1.docker.io"],
            &["auth.docker.io"],
            Some("https://registry-1.docker.io"),
        ),
        registry("ghcr.io", &["ghcr.io"], &[], Some("https://ghcr.io")),
        registry("gcr.io", &["gcr.io", "*.gcr.io"], &[], None),
        registry("pkg.dev", &["*.pkg.dev"], &[], None),
        registry("ecr", &["*.dkr.ecr.*.amazonaws.com"], &[], None),
        registry("elastic", &["docker.elastic.co"], &["docker-auth.elastic.co"], Some("https://docker.elastic.co")),
        registry("lab", &["http://lab.corp:5000"], &[], Some("http://lab.corp:5000")),
        registry("tls", &["tls.corp:8443"], &[], Some("https://tls.corp:8443")),
        registry("ip", &["10.1.2.3"], &[], Some("https://10.1.2.3")),
    ])
}

/// A Debian client of the seawall at `address`.
pub(super) fn facts(address: &str) -> Facts {
    Facts {
        address: Origin::from_url(address).expect("an example is valid").0,
        ca_pem: PEM.to_owned(),
        store: TrustStore {
            file: PathBuf::from("/usr/local/share/ca-certificates/seawall.crt"),
            command: "update-ca-certificates".to_owned(),
        },
        registries: registries(),
        containerd: None,
    }
}

/// The text of the file at `path`.
pub(super) fn text(plan: &Plan, path: &str) -> String {
    let file = plan.files.iter().find(|file| file.path.to_str() == Some(path));
    let paths: Vec<_> = plan.files.iter().map(|file| &file.path).collect();
    match &file.unwrap_or_else(|| panic!("{path} is not among {paths:?}")).content {
        Content::Whole(text) | Content::Lines(text) => text.clone(),
        Content::Json(value) | Content::Yaml(value) => value.to_string(),
        Content::Toml(table) => table.to_string(),
    }
}

/// What holds for every plan.
pub(super) fn assert_sound(plan: &Plan) {
    assert!(!plan.files.is_empty() || !plan.commands.is_empty());
    let mut paths: Vec<_> = plan.files.iter().map(|file| &file.path).collect();
    assert!(paths.iter().all(|path| path.is_absolute()), "{paths:?}");
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), plan.files.len(), "one file twice");
    for file in &plan.files {
        if let Content::Whole(text) | Content::Lines(text) = &file.content {
            assert!(text.ends_with('\n') && !text.contains('\t'), "{}", file.path.display());
        }
    }
    let lines = plan.commands.iter().chain(&plan.check);
    assert!(lines.clone().all(|line| !line.trim().is_empty() && !line.contains('\n')), "{:?}", plan.commands);
    let is_sentence = |note: &String| note.lines().next().is_some_and(|line| line.ends_with('.'));
    assert!(plan.notes.iter().all(is_sentence), "{:?}", plan.notes);
    assert!(plan.undo.iter().all(is_sentence), "{:?}", plan.undo);
}

/// A machine with some files on which a plan's own files are as good as written; documents are laid
/// over nothing.
pub(super) struct There {
    now: BTreeMap<PathBuf, String>,
    then: BTreeMap<PathBuf, String>,
}

impl There {
    /// What is there, and what of it becomes something else than the plan alone would say.
    pub(super) fn new(plan: &Plan, files: &[(&str, &str)]) -> There {
        let now: BTreeMap<_, _> = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let mut then = now.clone();
        for file in &plan.files {
            then.insert(file.path.clone(), file.content.text());
        }
        There { now, then }
    }

    /// What a document is once ours is laid over it.
    pub(super) fn merged(mut self, path: &str, text: &str) -> There {
        self.then.insert(path.into(), text.to_owned());
        self
    }
}

impl Files for There {
    fn now(&self, path: &Path) -> Option<String> {
        self.now.get(path).cloned()
    }

    fn then(&self, path: &Path) -> Option<String> {
        self.then.get(path).cloned()
    }

    fn list(&self, dir: &Path) -> Vec<PathBuf> {
        self.now.keys().filter(|path| path.parent() == Some(dir)).cloned().collect()
    }
}
