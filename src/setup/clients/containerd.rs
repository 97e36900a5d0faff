//! containerd (docs/hosts.md, docs/cri/registry.md; v2/internal/cri/config for the keys).

use std::path::Path;

use serde_json::Value;
use toml::Table;

use super::environment::{self, PASSWORD, root_in_store, whole};
use super::mirror::{self, PUBLIC, SILENT};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy, Mode::Dns];

const CONFIG: &str = "/etc/containerd/config.toml";
const CA: &str = "/etc/containerd/certs.d/_default/seawall.crt";
const RESTART: &str = "systemctl restart containerd   # running containers go on";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = match mode {
        Mode::Mirror => as_mirror(facts),
        Mode::Proxy => proxy(facts),
        Mode::Dns => dns(facts),
    };
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
    files.push(File { path: "/etc/containerd/certs.d/_default/hosts.toml".into(), content: Content::Toml(hosts) });
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
        "containerd refuses config_path beside registry.mirrors, the older way: move what stands there to hosts.toml. containerd before 1.5 \
         knows the older way alone: [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"*\"] endpoint = [\"{}\"].",
        facts.address
    ));
    notes.push(
        "nerdctl reads hosts.toml too; ctr where it is told to: ctr images pull --hosts-dir /etc/containerd/certs.d IMAGE.".to_owned(),
    );
    Plan { files, commands: vec![RESTART.to_owned()], notes }
}

/// By the version that is there. Version 2 is what both 1.x and 2.x read, so it is what a new file has; what is not said in it stays at
/// containerd's defaults.
fn config_path(version: Option<i64>) -> Table {
    let text = match version {
        None => {
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"
        }
        Some(..=1) => "[plugins.cri.registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
        Some(2) => "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
        // Its default is a list of two, which its pulls through the transfer service take for one name (2.1 to 2.4: image_pull.go).
        Some(_) => "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
    };
    text.parse().expect("our own config.toml is TOML")
}

/// `ValidateRegistryConfig`: "`mirrors` cannot be set when `config_path` is provided", and the CRI plugin does not load.
pub(super) fn objection(path: &Path, merged: &Value) -> Option<&'static str> {
    if path != Path::new(CONFIG) {
        return None;
    }
    let plugins = merged.get("plugins")?.as_object()?;
    plugins.values().any(has_both).then_some(
        "containerd refuses config_path beside the registry.mirrors that are there: move them to hosts.toml files \
         (/etc/containerd/certs.d/REGISTRY/hosts.toml), or use --mode proxy",
    )
}

fn has_both(plugin: &Value) -> bool {
    let Some(registry) = plugin.get("registry") else { return false };
    let path = registry.get("config_path").and_then(Value::as_str);
    let mirrors = registry.get("mirrors").and_then(Value::as_object);
    path.is_some_and(|path| !path.is_empty()) && mirrors.is_some_and(|mirrors| !mirrors.is_empty())
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
            PASSWORD.to_owned(),
        ],
    }
}

const STORE: &str = "containerd reads the system's store when it starts. Where that store is out of reach, hosts.toml has ca = \"FILE\" for \
                     a registry, or in _default for all.";

fn dns(facts: &Facts) -> Plan {
    Plan {
        files: vec![root_in_store(facts)],
        commands: vec![facts.store.command.clone(), RESTART.to_owned()],
        notes: vec![mirror::NAMES.to_owned(), STORE.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

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

    #[test]
    fn what_containerd_would_not_start_with_is_refused() {
        let merged = |text: &str| serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
        let path = Path::new(CONFIG);
        let both = merged(
            "[plugins.cri.registry]\nconfig_path = \"/x\"\n[plugins.cri.registry.mirrors.\"docker.io\"]\nendpoint = []",
        );
        assert!(objection(path, &both).is_some());
        assert_eq!(objection(Path::new("/etc/other"), &both), None);
        let one = merged("[plugins.cri.registry]\nconfig_path = \"/x\"\n[plugins.cri.registry.mirrors]");
        assert_eq!(objection(path, &one), None);
    }

    #[test]
    fn a_mirror_over_tls_brings_its_root() {
        let plan = plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        assert_eq!(example::text(&plan, CA), example::PEM);
        assert!(example::text(&plan, "/etc/containerd/certs.d/_default/hosts.toml").contains(CA));
    }
}
