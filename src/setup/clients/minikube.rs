//! minikube (minikube.sigs.k8s.io: handbook, "Proxies and VPNs", "Certificates", "File sync").

use super::environment::{self, password, whole};
use super::mirror::{self, PUBLIC, SILENT, hosts_toml, loopback_note};
use super::seen::{self, PAUSE};
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy];

/// As ~/.minikube, whose owner is not known here.
const DIRECTORY: &str = "/etc/seawall/setup/minikube";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = if mode == Mode::Proxy { proxy(facts) } else { as_mirror(facts) };
    plan.notes.push(
        "~/.minikube/certs and ~/.minikube/files are copied into the machine by minikube start; one that exists already may need minikube \
         delete first."
            .to_owned(),
    );
    let pull = format!("minikube ssh -- sudo crictl pull {}", PAUSE.name);
    plan.check = seen::pulled(facts, &plan.files, pull, &PAUSE);
    plan.notes.extend(loopback_note(facts, "minikube's machine"));
    plan
}

fn copy() -> String {
    format!("mkdir -p ~/.minikube && cp -r {DIRECTORY}/. ~/.minikube/")
}

fn as_mirror(facts: &Facts) -> Plan {
    let (url, authority) = (&facts.address, facts.address.authority());
    let ca = "/etc/containerd/certs.d/_default/seawall-ca.crt";
    let needed = mirror::needs_ca(facts).then_some(ca);
    let mut files =
        vec![whole(format!("{DIRECTORY}/files/etc/containerd/certs.d/_default/hosts.toml"), hosts_toml(facts, needed))];
    if needed.is_some() {
        files.push(whole(format!("{DIRECTORY}/files{ca}"), facts.ca_pem.as_str()));
        files.push(whole(format!("{DIRECTORY}/files/etc/docker/certs.d/{authority}/ca.crt"), facts.ca_pem.as_str()));
    }
    let notes = vec![
        "With --container-runtime=docker the mirror is for Docker Hub alone; with containerd hosts.toml serves every registry.".to_owned(),
        PUBLIC.to_owned(),
        SILENT.to_owned(),
    ];
    let start = format!("minikube start --registry-mirror={url}   # or: minikube start --container-runtime=containerd");
    let undo = "~/.minikube keeps its copies: remove files/etc/containerd/certs.d/_default and files/etc/docker/certs.d there, then minikube delete \
                and start.";
    Plan { files, commands: vec![copy(), start], notes, undo: vec![undo.to_owned()], ..Plan::default() }
}

fn proxy(facts: &Facts) -> Plan {
    let variables = environment::variables_for_images(facts);
    let options: Vec<_> = variables.iter().map(|(name, value)| format!("--docker-env {name}={value}")).collect();
    let notes = vec![
        "--docker-env is docker's. Another runtime takes the variables that minikube start itself runs with: export them, and add the \
         cluster's networks to NO_PROXY (192.168.39.0/24, 192.168.49.0/24, 192.168.59.0/24, 10.96.0.0/12)."
            .to_owned(),
        password("minikube keeps it in ~/.minikube/profiles."),
    ];
    Plan {
        files: vec![whole(format!("{DIRECTORY}/certs/seawall.pem"), facts.ca_pem.as_str())],
        commands: vec![copy(), format!("minikube start --embed-certs {}", options.join(" "))],
        notes,
        undo: vec![
            "~/.minikube keeps its copy: remove ~/.minikube/certs/seawall.pem, then minikube delete and start."
                .to_owned(),
        ],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn both_runtimes_find_the_mirror() {
        let plan = plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        example::assert_sound(&plan);
        assert!(plan.commands[1].contains("--registry-mirror=https://seawall.lab:3128"));
        let hosts =
            example::text(&plan, "/etc/seawall/setup/minikube/files/etc/containerd/certs.d/_default/hosts.toml");
        assert!(hosts.contains("ca = \"/etc/containerd/certs.d/_default/seawall-ca.crt\""), "{hosts}");
        assert_eq!(
            example::text(&plan, "/etc/seawall/setup/minikube/files/etc/docker/certs.d/seawall.lab:3128/ca.crt"),
            example::PEM
        );
    }

    #[test]
    fn as_a_proxy_the_root_is_embedded() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        assert_eq!(example::text(&plan, "/etc/seawall/setup/minikube/certs/seawall.pem"), example::PEM);
        assert!(plan.commands[1].contains("--docker-env HTTPS_PROXY=http://seawall.lab:3128"));
    }
}
