//! RKE, the first one, whose nodes run docker
//! (rke.docs.rancher.com/config-options/private-registries).

use serde_json::json;

use super::docker::RESTART;
use super::environment::whole;
use super::mirror::{self, PUBLIC, SILENT};
use super::seen;
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror];

const CLUSTER: &str = "/etc/seawall/setup/rke/cluster.yml";

/// The default registry is for RKE's own images, which are Docker Hub's: `rancher/…` becomes
/// `HOST:PORT/rancher/…`.
pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let authority = facts.address.authority();
    let cluster =
        format!("# seawall: of cluster.yml.\nprivate_registries:\n  - url: \"{authority}\"\n    is_default: true\n");
    let mut daemon = json!({ "registry-mirrors": [facts.address.to_string()] });
    let mut files = vec![whole(CLUSTER, cluster)];
    if mirror::needs_ca(facts) {
        files.push(whole(format!("/etc/docker/certs.d/{authority}/ca.crt"), facts.ca_pem.as_str()));
    } else {
        daemon["insecure-registries"] = json!([authority]);
    }
    files.push(File { path: "/etc/docker/daemon.json".into(), content: Content::Json(daemon) });
    let notes = vec![
        format!("{CLUSTER} is for the machine on which rke runs: take its keys over into your cluster.yml. What is below /etc/docker is for \
                 every node."),
        "The default registry is for RKE's own images; those of workloads come by docker's registry-mirrors, which are Docker Hub's \
         alone. For every registry: seawall setup docker --mode proxy on the nodes."
            .to_owned(),
        PUBLIC.to_owned(),
        SILENT.to_owned(),
        "RKE is no longer kept up since July 2025: RKE2 takes its place.".to_owned(),
    ];
    let commands =
        vec![format!("{RESTART}; on every node, one after another"), "rke up --config cluster.yml".to_owned()];
    let undo = "Your cluster.yml still has private_registries: take them out, then rke up.";
    Plan {
        check: seen::docker(facts, &files, Mode::Mirror, "on every node"),
        files,
        commands,
        notes,
        undo: vec![undo.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn system_images_come_from_it() {
        for (address, insecure) in [("http://seawall.lab:3128", true), ("https://seawall.lab:3128", false)] {
            let plan = plan(&example::facts(address), Mode::Mirror);
            example::assert_sound(&plan);
            assert!(example::text(&plan, CLUSTER).contains("- url: \"seawall.lab:3128\"\n    is_default: true\n"));
            let daemon = example::text(&plan, "/etc/docker/daemon.json");
            assert_eq!(daemon.contains("insecure-registries"), insecure, "{daemon}");
            let has_ca = plan.files.iter().any(|file| file.path.ends_with("seawall.lab:3128/ca.crt"));
            assert_eq!(has_ca, !insecure);
        }
    }
}
