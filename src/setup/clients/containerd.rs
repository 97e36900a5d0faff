//! containerd (docs/hosts.md, docs/cri/registry.md; v2/internal/cri/config for the keys).

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::environment::{self, SHOWN, password, root_in_store, whole};
use super::mirror::{self, PUBLIC, SILENT};
use super::seen::{self, PAUSE};
use crate::setup::objection::{Files, Objection};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy, Mode::Dns];

const CONFIG: &str = "/etc/containerd/config.toml";
const CERTS: &str = "/etc/containerd/certs.d";
/// containerd 2's own, for where nothing else is said.
const DEFAULT: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";
const HOSTS: &str = "/etc/containerd/certs.d/_default/hosts.toml";
const CA: &str = "/etc/containerd/certs.d/_default/seawall.crt";
const RESTART: &str = "systemctl restart containerd   # running containers go on";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = match mode {
        Mode::Mirror => as_mirror(facts),
        Mode::Proxy => proxy(facts),
        Mode::Dns => dns(facts),
    };
    plan.check = seen::pulled(facts, &plan.files, format!("crictl pull {}", PAUSE.name), &PAUSE);
    plan.notes.push(
        "K3s, RKE2, kind and minikube have a containerd of their own that does not read these files: each is a client of its own here.".to_owned(),
    );
    plan
}

fn as_mirror(facts: &Facts) -> Plan {
    let mut files = Vec::new();
    let ca = mirror::needs_ca(facts).then_some(CA);
    if ca.is_some() {
        files.push(whole(CA, facts.ca_pem.as_str()));
    }
    let hosts: Table = mirror::hosts_toml(facts, ca).parse().expect("our own hosts.toml is TOML");
    files.push(File { path: HOSTS.into(), content: Content::Toml(hosts) });
    files.push(File { path: CONFIG.into(), content: Content::Toml(config_path(facts.containerd)) });
    let mut notes = vec![
        "_default is for every registry that has no directory of its own in /etc/containerd/certs.d; containerd says by ?ns= which one it \
         means, wildcards such as *.pkg.dev included. hosts.toml is read at each pull, config.toml when containerd starts."
            .to_owned(),
        PUBLIC.to_owned(),
        SILENT.to_owned(),
    ];
    if facts.containerd.is_none() {
        notes.push(
            "The key above is containerd 1.x's, and version = 2 is for a file that is new: leave one that is there. Where config.toml says version = 3 or more (containerd 2.x) it is \
             [plugins.\"io.containerd.cri.v1.images\".registry], with the same config_path: its default, which names two directories, is one \
             that containerd 2.x itself does not find."
                .to_owned(),
        );
    }
    notes.push(format!(
        "containerd 1.x refuses config_path beside registry.mirrors and registry.configs.*.tls, the older way, and its CRI then does not load: move \
         what stands there, or in a file that imports names, to hosts.toml. containerd before 1.5 \
         knows the older way alone: [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"*\"] endpoint = [\"{}\"].",
        facts.address
    ));
    notes.push(
        "nerdctl reads hosts.toml too; ctr where it is told to: ctr images pull --hosts-dir /etc/containerd/certs.d IMAGE.".to_owned(),
    );
    Plan { files, commands: vec![RESTART.to_owned()], notes, ..Plan::default() }
}

/// By the version that is there. Version 2 is what both 1.x and 2.x read, so it is what a new file
/// has; what is not said in it stays at containerd's defaults.
fn config_path(version: Option<i64>) -> Table {
    let text = match version {
        None => {
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"
        }
        Some(..=1) => "[plugins.cri.registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
        Some(2) => "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
        // Its default is a list of two, which its pulls through the transfer service take for one
        // name (2.1 to 2.4: image_pull.go).
        Some(_) => "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
    };
    text.parse().expect("our own config.toml is TOML")
}

/// What the CRI plugin does not load with, or what would not be asked, or not first.
pub(super) fn objection(plan: &Plan, files: &dyn Files) -> Option<Objection> {
    let hosts = plan.files.iter().find(|file| file.path == Path::new(HOSTS))?;
    of_config(files).or_else(|| of_order(&hosts.content, files))
}

/// `ValidateRegistryConfig` (1.x): "`mirrors` cannot be set when `config_path` is provided", the
/// same of `configs.tls`; 2.x takes the latter and does not look at it. Imports are laid over the
/// file (cmd/containerd/server/config).
fn of_config(files: &dyn Files) -> Option<Objection> {
    let config = table(&files.then(Path::new(CONFIG))?)?;
    let before = files.now(Path::new(CONFIG)).and_then(|text| table(&text)).unwrap_or_default();
    if let Some(path) = another_path(&before) {
        return Some(Objection::new(CONFIG, replaced(&path)));
    }
    if has_older(&config) {
        return Some(Objection::new(CONFIG, OLDER));
    }
    imported(&config, files).into_iter().find_map(|path| {
        let import = table(&files.then(&path)?)?;
        let other = another_path(&import).map(|other| replaced(&other));
        Some(Objection::new(&path, other.or_else(|| has_older(&import).then(|| OLDER.to_owned()))?))
    })
}

const OLDER: &str = "containerd refuses config_path beside the registry.mirrors or registry.configs.*.tls that are there: move them to hosts.toml files \
                     (/etc/containerd/certs.d/REGISTRY/hosts.toml), or use --mode proxy";

fn replaced(path: &str) -> String {
    format!(
        "it says config_path = {path:?}, and what is below that would not be read any more: move it to {CERTS} and say so here, or put seawall's \
         hosts.toml into _default below that by hand"
    )
}

fn table(text: &str) -> Option<Table> {
    text.parse().ok()
}

/// Of whichever name the plugin goes by.
fn registries(config: &Table) -> impl Iterator<Item = &Table> {
    let plugins = config.get("plugins").and_then(Value::as_table).into_iter();
    plugins.flat_map(Table::values).filter_map(|plugin| plugin.get("registry")?.as_table())
}

fn another_path(config: &Table) -> Option<String> {
    let path = |registry: &Table| Some(registry.get("config_path")?.as_str()?.to_owned());
    registries(config).filter_map(path).find(|path| ![CERTS, DEFAULT, ""].contains(&path.as_str()))
}

fn has_older(config: &Table) -> bool {
    let entries =
        |registry: &Table, key: &str| registry.get(key).and_then(Value::as_table).cloned().unwrap_or_default();
    registries(config).any(|registry| {
        let configs = entries(registry, "configs");
        !entries(registry, "mirrors").is_empty() || configs.values().any(|entry| entry.get("tls").is_some())
    })
}

/// `imports`: paths, a star in the name of the file; not from an imported file's own.
fn imported(config: &Table, files: &dyn Files) -> Vec<PathBuf> {
    let entries = config.get("imports").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let paths = entries.map(|entry| Path::new("/etc/containerd").join(entry)).flat_map(|path| {
        match path.to_str().and_then(|path| path.split_once('*')) {
            None => vec![path],
            Some((before, after)) => {
                let is_meant =
                    |found: &PathBuf| found.to_str().is_some_and(|f| f.starts_with(before) && f.ends_with(after));
                let found = files.list(path.parent().unwrap_or(&path));
                found.into_iter().filter(is_meant).collect()
            }
        }
    });
    paths.collect()
}

/// containerd asks in the order of the tables (core/remotes/docker/config: `getSortedHosts`).
fn of_order(ours: &Content, files: &dyn Files) -> Option<Objection> {
    let Content::Toml(ours) = ours else { return None };
    let document: toml_edit::DocumentMut = files.then(Path::new(HOSTS))?.parse().ok()?;
    let (first, _) = document.get("host")?.as_table_like()?.iter().next()?;
    let own = ours.get("host")?.as_table()?.keys().next()?;
    let why = || {
        format!(
            "{first} stands before seawall there, and containerd asks in that order: write [host.\"{own}\"] and its keys above it by hand, \
             then do this again"
        )
    };
    (first != own).then(|| Objection::new(HOSTS, why()))
}

fn proxy(facts: &Facts) -> Plan {
    let drop_in = "/etc/systemd/system/containerd.service.d/seawall.conf";
    Plan {
        files: vec![root_in_store(facts), whole(drop_in, environment::drop_in(environment::variables_for_images(facts)))],
        commands: vec![facts.store.command.clone(), "systemctl daemon-reload".to_owned(), RESTART.to_owned()],
        notes: vec![
            STORE.to_owned(),
            "This is the daemon alone, which pulls for Kubernetes. nerdctl and ctr pull by themselves: seawall setup shell.".to_owned(),
            "Names and networks of the cluster that are not in NO_PROXY above are to be added there.".to_owned(),
            password(SHOWN),
        ],
        ..Plan::default()
    }
}

const STORE: &str = "containerd reads the system's store when it starts. Where that store is out of reach, hosts.toml has ca = \"FILE\" for \
                     a registry, or in _default for all.";

fn dns(facts: &Facts) -> Plan {
    Plan {
        files: vec![root_in_store(facts)],
        commands: vec![facts.store.command.clone(), RESTART.to_owned()],
        notes: vec![mirror::NAMES.to_owned(), STORE.to_owned()],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example::{self, There};

    #[test]
    fn the_key_is_where_this_version_looks() {
        for (version, plugin) in [
            (None, "io.containerd.grpc.v1.cri"),
            (Some(1), "cri"),
            (Some(2), "io.containerd.grpc.v1.cri"),
            (Some(3), "io.containerd.cri.v1.images"),
            (Some(4), "io.containerd.cri.v1.images"),
        ] {
            let table = config_path(version);
            assert_eq!(table.contains_key("version"), version.is_none(), "a version that is there stays");
            let path = table["plugins"][plugin]["registry"]["config_path"].as_str().unwrap();
            assert!(path.starts_with("/etc/containerd/certs.d"));
        }
    }

    const CRI: &str = "plugins.\"io.containerd.grpc.v1.cri\".registry";

    #[test]
    fn what_containerd_would_not_start_with_is_refused() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        for (text, expected) in [
            (format!("[{CRI}.mirrors.\"docker.io\"]\nendpoint = []\n"), Some("hosts.toml")),
            (format!("[{CRI}.configs.\"lab\".tls]\nca_file = \"/ca\"\n"), Some("hosts.toml")),
            ("[plugins.cri.registry.mirrors.\"docker.io\"]\nendpoint = []\n".to_owned(), Some("hosts.toml")),
            (format!("[{CRI}.configs.\"lab\".auth]\nusername = \"x\"\n"), None),
            (format!("[{CRI}.mirrors]\n"), None),
            (format!("[{CRI}]\nconfig_path = \"/srv/certs.d\"\n"), Some("/srv/certs.d")),
            (format!("[{CRI}]\nconfig_path = \"{DEFAULT}\"\n"), None),
            (format!("[{CRI}]\nconfig_path = \"\"\n"), None),
            ("version = 3\n".to_owned(), None),
        ] {
            let there = There::new(&plan, &[(CONFIG, &text)]).merged(CONFIG, &text);
            let said = objection(&plan, &there);
            assert_eq!(said.is_some(), expected.is_some(), "{text}: {said:?}");
            assert!(said.is_none_or(|said| said.why.contains(expected.unwrap())), "{text}");
        }
    }

    #[test]
    fn imports_are_looked_into() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        let older = format!("[{CRI}.mirrors.\"docker.io\"]\nendpoint = []\n");
        for (imports, file, expected) in [
            ("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/a.toml", true),
            ("/etc/containerd/conf.d/*.toml", "/etc/containerd/conf.d/a.toml.bak", false),
            ("more.toml", "/etc/containerd/more.toml", true),
            ("/other.toml", "/etc/containerd/more.toml", false),
        ] {
            let config = format!("imports = [\"{imports}\"]\n");
            let there = There::new(&plan, &[(CONFIG, &config), (file, &older)]).merged(CONFIG, &config);
            assert_eq!(objection(&plan, &there).map(|o| o.path), expected.then(|| file.into()), "{imports} {file}");
        }
    }

    #[test]
    fn seawall_is_asked_first_or_nothing_is_written() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        let own = "[host.\"http://seawall.lab:3128\"]\ncapabilities = [\"pull\", \"resolve\"]\n";
        let theirs = "server = \"https://x\"\n[host.\"https://corp\"]\nca = \"/x\"\n";
        for (text, expected) in [
            (own.to_owned(), None),
            (format!("{theirs}\n{own}"), Some("https://corp stands before")),
            (format!("{own}\n[host.\"https://corp\"]\nca = \"/x\"\n"), None),
        ] {
            let said = objection(&plan, &There::new(&plan, &[]).merged(HOSTS, &text));
            assert_eq!(said.is_some(), expected.is_some(), "{text}");
            assert!(said.is_none_or(|said| said.why.contains(expected.unwrap())), "{text}");
        }
    }

    #[test]
    fn a_mirror_over_tls_brings_its_root() {
        let plan = plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        assert_eq!(example::text(&plan, CA), example::PEM);
        assert!(example::text(&plan, "/etc/containerd/certs.d/_default/hosts.toml").contains(CA));
    }
}
