//! dockerd (docs.docker.com: daemon configuration, daemon proxy, certificates).

use serde_json::json;

use super::environment::{self, PASSWORD, root_in_store, whole};
use super::mirror::{self, SILENT};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror, Mode::Dns];

const RESTART: &str =
    "systemctl restart docker   # ends running containers, unless daemon.json has \"live-restore\": true";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    match mode {
        Mode::Proxy => proxy(facts),
        Mode::Mirror => as_mirror(facts),
        Mode::Dns => dns(facts),
    }
}

/// A drop-in, since dockerd before 23.0 does not start with `proxies` in its daemon.json.
fn proxy(facts: &Facts) -> Plan {
    let drop_in = "/etc/systemd/system/docker.service.d/seawall.conf";
    let mut notes = store_notes();
    notes.extend([
        "This is dockerd alone. Steps of a build and containers have neither the proxy nor the root; builders of buildx' docker-container \
         driver are another daemon: seawall setup buildkit."
            .to_owned(),
        "The command docker build fetches a registry's token itself: where a shell reaches the internet only through a proxy, seawall setup \
         shell."
            .to_owned(),
        "Names and networks that must not go through a proxy besides those in NO_PROXY are to be added there.".to_owned(),
        "dockerd without systemd (docker in docker) reads the same variables from its environment, or, from 23.0 on, \"proxies\" in \
         daemon.json; that key wins over the environment."
            .to_owned(),
        PASSWORD.to_owned(),
    ]);
    Plan {
        files: vec![
            root_in_store(facts),
            whole(drop_in, environment::drop_in(environment::variables_for_images(facts))),
        ],
        commands: vec![facts.store.command.clone(), "systemctl daemon-reload".to_owned(), RESTART.to_owned()],
        notes,
    }
}

/// `insecure-registries` is for images that are named with seawall's address, and for BuildKit within dockerd 20.10, which looks for the
/// mirror's whole URL there and fails the build otherwise. dockerd takes the scheme off, with a warning.
fn as_mirror(facts: &Facts) -> Plan {
    let authority = facts.address.authority();
    let mut daemon = json!({ "registry-mirrors": [facts.address.to_string()] });
    let mut files = Vec::new();
    if mirror::needs_ca(facts) {
        files.push(whole(format!("/etc/docker/certs.d/{authority}/seawall.crt"), facts.ca_pem.as_str()));
    } else {
        daemon["insecure-registries"] = json!([facts.address.to_string()]);
    }
    files.push(File { path: "/etc/docker/daemon.json".into(), content: Content::Json(daemon) });
    let notes = vec![
        format!("registry-mirrors is for docker.io and nothing else. Other registries' images have to be named at seawall \
                 (docker pull {authority}/ghcr.io/owner/app), or come as they are called by --mode proxy."),
        "dockerd keeps its credentials from mirrors: public images come through seawall, private ones straight from the registry. --mode \
         proxy serves both."
            .to_owned(),
        SILENT.to_owned(),
        "dockerd does not start when the same key is in daemon.json and among its flags: take --registry-mirror and --insecure-registry out of \
         its unit."
            .to_owned(),
        "Rootless dockerd reads ~/.config/docker/daemon.json; Docker Desktop has the same keys under Settings, Docker Engine."
            .to_owned(),
    ];
    Plan { files, commands: vec!["systemctl reload docker".to_owned()], notes }
}

fn dns(facts: &Facts) -> Plan {
    let mut notes = vec![mirror::NAMES.to_owned()];
    notes.extend(store_notes());
    Plan { files: vec![root_in_store(facts)], commands: vec![facts.store.command.clone(), RESTART.to_owned()], notes }
}

fn store_notes() -> Vec<String> {
    vec![
        "The root is in the system's store because dockerd's older image store ignores /etc/docker/certs.d for docker.io, and certs.d knows no \
         wildcards such as *.pkg.dev. dockerd reads the store once, when it starts."
            .to_owned(),
        "Rootless dockerd: systemctl --user, and the drop-in in ~/.config/systemd/user/docker.service.d.".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn a_mirror_over_tls_is_trusted_and_one_in_the_clear_is_named_insecure() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        let daemon = json!({"registry-mirrors": ["http://seawall.lab:3128"], "insecure-registries": ["http://seawall.lab:3128"]});
        assert_eq!(plan.files, [File { path: "/etc/docker/daemon.json".into(), content: Content::Json(daemon) }]);
        let plan = super::plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        assert_eq!(example::text(&plan, "/etc/docker/certs.d/seawall.lab:3128/seawall.crt"), example::PEM);
        assert!(!example::text(&plan, "/etc/docker/daemon.json").contains("insecure"));
    }
}
