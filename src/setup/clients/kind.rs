//! kind: nodes are containers with a containerd (kind.sigs.k8s.io, configuration: extraMounts,
//! containerdConfigPatches).

use super::environment::{self, password, whole};
use super::mirror::{self, PUBLIC, SILENT, hosts_toml, loopback_note};
use super::seen::{self, PAUSE};
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy];

const DIRECTORY: &str = "/etc/seawall/setup/kind";
const CA_IN_NODE: &str = "/etc/containerd/certs.d/_default/seawall-ca.crt";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = if mode == Mode::Proxy { proxy(facts) } else { as_mirror(facts) };
    let pull = format!("docker exec kind-control-plane crictl pull {}", PAUSE.name);
    plan.check = seen::pulled(facts, &plan.files, pull, &PAUSE);
    plan.undo = vec!["Clusters that were made with it keep their mounts and variables, whose files no longer exist: kind delete cluster, then create it again."
        .to_owned()];
    plan.notes.extend(loopback_note(facts, "the node"));
    plan.notes.push(
        "One node is written down: give every node of yours the same extraMounts. The node image itself is pulled by the host's docker."
            .to_owned(),
    );
    plan
}

/// `_default` applies to every registry that has no directory of its own, Docker Hub included.
fn as_mirror(facts: &Facts) -> Plan {
    let ca = mirror::needs_ca(facts).then_some(CA_IN_NODE);
    let default = format!("{DIRECTORY}/certs.d/_default");
    let mut files = vec![whole(format!("{default}/hosts.toml"), hosts_toml(facts, ca))];
    if ca.is_some() {
        files.push(whole(format!("{default}/seawall-ca.crt"), facts.ca_pem.as_str()));
    }
    // Nodes of kind 0.27 and newer have this config_path already.
    let patch = "containerdConfigPatches:\n  - |-\n    [plugins.\"io.containerd.grpc.v1.cri\".registry]\n      config_path = \
                 \"/etc/containerd/certs.d\"\n";
    files.push(cluster(patch, &format!("{DIRECTORY}/certs.d"), "/etc/containerd/certs.d"));
    let running = format!(
        "for node in $(kind get nodes); do docker cp {DIRECTORY}/certs.d/. \"$node:/etc/containerd/certs.d\"; done   # or into a running \
         cluster of kind 0.27 or newer; no restart"
    );
    Plan {
        files,
        commands: vec![create(), running],
        notes: vec![PUBLIC.to_owned(), SILENT.to_owned()],
        ..Plan::default()
    }
}

/// kind hands its own variables to the nodes. Go reads every file in /etc/ssl/certs, so the root is
/// there before containerd starts.
fn proxy(facts: &Facts) -> Plan {
    let ca = format!("{DIRECTORY}/ca.crt");
    let files = vec![cluster("", &ca, "/etc/ssl/certs/seawall-ca.pem"), whole(&ca, facts.ca_pem.as_str())];
    let variables = environment::variables_for_images(facts);
    let words: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let notes = vec![
        "A cluster that runs keeps its environment: delete and create it. kind adds the cluster's networks to NO_PROXY.".to_owned(),
        password("Who may ask the docker daemon can read it in the node (docker inspect)."),
    ];
    Plan { files, commands: vec![format!("{} {}", words.join(" "), create())], notes, ..Plan::default() }
}

fn create() -> String {
    format!("kind create cluster --config {DIRECTORY}/cluster.yaml")
}

fn cluster(patches: &str, host_path: &str, container_path: &str) -> crate::setup::File {
    let text = format!(
        "# seawall\nkind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{patches}nodes:\n  - role: control-plane\n    extraMounts:\n      - \
         hostPath: {host_path}\n        containerPath: {container_path}\n"
    );
    whole(format!("{DIRECTORY}/cluster.yaml"), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn a_node_finds_its_mirror_and_root() {
        let plan = plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        example::assert_sound(&plan);
        let hosts = example::text(&plan, "/etc/seawall/setup/kind/certs.d/_default/hosts.toml");
        assert!(hosts.contains("[host.\"https://seawall.lab:3128\"]") && hosts.contains(CA_IN_NODE), "{hosts}");
        assert_eq!(example::text(&plan, "/etc/seawall/setup/kind/certs.d/_default/seawall-ca.crt"), example::PEM);
        assert!(
            example::text(&plan, "/etc/seawall/setup/kind/cluster.yaml")
                .contains("containerPath: /etc/containerd/certs.d\n")
        );
    }

    #[test]
    fn over_http_no_root_is_needed_and_localhost_is_the_node() {
        let plan = plan(&example::facts("http://localhost:3128"), Mode::Mirror);
        assert_eq!(plan.files.len(), 2);
        assert!(plan.notes.iter().any(|note| note.contains("localhost is the node itself")));
    }

    #[test]
    fn as_a_proxy_the_variables_are_kinds_own() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        assert!(plan.commands[0].contains("HTTPS_PROXY=http://seawall.lab:3128 "), "{:?}", plan.commands);
        assert!(example::text(&plan, "/etc/seawall/setup/kind/cluster.yaml").contains("/etc/ssl/certs/seawall-ca.pem"));
    }
}
