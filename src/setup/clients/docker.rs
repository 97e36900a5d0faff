//! dockerd (docs.docker.com: daemon configuration, daemon proxy, certificates).

use std::path::Path;

use serde_json::{Value, json};

use super::environment::{self, SHOWN, password, root_in_store, whole};
use super::mirror::{self, SILENT};
use super::seen;
use crate::setup::objection::{Files, Objection};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror, Mode::Dns];

const DAEMON: &str = "/etc/docker/daemon.json";
const DROP_IN: &str = "/etc/systemd/system/docker.service.d/seawall.conf";
pub(super) const RESTART: &str =
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
    let mut notes = vec![STORE.to_owned()];
    notes.extend([
        "Rootless dockerd: systemctl --user, and the drop-in in ~/.config/systemd/user/docker.service.d.".to_owned(),
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
        password(SHOWN),
    ]);
    let files =
        vec![root_in_store(facts), whole(DROP_IN, environment::drop_in(environment::variables_for_images(facts)))];
    Plan {
        check: seen::docker(facts, &files, Mode::Proxy, ""),
        files,
        commands: vec![facts.store.command.clone(), "systemctl daemon-reload".to_owned(), RESTART.to_owned()],
        notes,
        ..Plan::default()
    }
}

/// "overriding existing proxy variable with value from configuration" (cmd/dockerd:
/// `configureProxyEnv`) is in dockerd's log alone.
pub(super) fn objection(plan: &Plan, files: &dyn Files) -> Option<Objection> {
    let ours = plan.files.iter().find(|file| file.path == Path::new(DROP_IN))?.content.text();
    let daemon: Value = serde_json::from_str(&files.then(Path::new(DAEMON))?).ok()?;
    let theirs = daemon.get("proxies")?.get("https-proxy")?.as_str().filter(|url| !url.is_empty())?;
    let why = "\"proxies\" there counts instead of what this writes: take it out (a no-proxy of it can become a drop-in that is read after \
               seawall.conf, such as zz-no-proxy.conf); if the registries are reached through that proxy, it becomes upstream.proxy of seawall";
    (!ours.contains(&format!("\"HTTPS_PROXY={theirs}\""))).then(|| Objection::new(DAEMON, why))
}

/// `insecure-registries` is for images that are named with seawall's address, and for BuildKit
/// within dockerd 20.10 (Debian 12's), which looks for the mirror's whole URL there and fails the build
/// otherwise. dockerd takes the scheme off, with a warning: rather that than no build.
fn as_mirror(facts: &Facts) -> Plan {
    let authority = facts.address.authority();
    let mut daemon = json!({ "registry-mirrors": [facts.address.to_string()] });
    let mut files = Vec::new();
    if mirror::needs_ca(facts) {
        files.push(whole(format!("/etc/docker/certs.d/{authority}/seawall.crt"), facts.ca_pem.as_str()));
    } else {
        daemon["insecure-registries"] = json!([facts.address.to_string()]);
    }
    files.push(File { path: DAEMON.into(), content: Content::Json(daemon) });
    let notes = vec![
        format!("registry-mirrors is for docker.io and nothing else. Other registries' images have to be named at seawall \
                 (docker pull {authority}/ghcr.io/owner/app), or come as they are called by --mode proxy."),
        "dockerd keeps its credentials from mirrors: public images come through seawall, private ones straight from the registry. --mode \
         proxy serves both."
            .to_owned(),
        SILENT.to_owned(),
        "dockerd warns that insecure-registries has a scheme, and takes it off: the builder within dockerd 20.10 looks for the whole URL."
            .to_owned(),
        "docker build by a dockerd before 23.0 takes mirrors at the daemon's start alone: systemctl restart docker there, which ends running \
         containers unless daemon.json has \"live-restore\": true."
            .to_owned(),
        "dockerd does not start when the same key is in daemon.json and among its flags: take --registry-mirror and --insecure-registry out of \
         its unit."
            .to_owned(),
        "Rootless dockerd reads ~/.config/docker/daemon.json; Docker Desktop has the same keys under Settings, Docker Engine."
            .to_owned(),
    ];
    Plan {
        check: seen::docker(facts, &files, Mode::Mirror, ""),
        files,
        commands: vec!["systemctl reload docker".to_owned()],
        notes,
        ..Plan::default()
    }
}

fn dns(facts: &Facts) -> Plan {
    let files = vec![root_in_store(facts)];
    Plan {
        check: seen::docker(facts, &files, Mode::Dns, ""),
        files,
        commands: vec![facts.store.command.clone(), RESTART.to_owned()],
        notes: vec![
            mirror::NAMES.to_owned(),
            STORE.to_owned(),
            "Rootless dockerd is restarted by systemctl --user restart docker.".to_owned(),
        ],
        ..Plan::default()
    }
}

const STORE: &str = "The root is in the system's store because dockerd's older image store ignores /etc/docker/certs.d for docker.io, and certs.d knows no \
                     wildcards such as *.pkg.dev. dockerd reads the store once, when it starts.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example::{self, There};

    #[test]
    fn a_mirror_over_tls_is_trusted_and_one_in_the_clear_is_named_insecure() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        let daemon = json!({"registry-mirrors": ["http://seawall.lab:3128"], "insecure-registries": ["http://seawall.lab:3128"]});
        assert_eq!(plan.files, [File { path: "/etc/docker/daemon.json".into(), content: Content::Json(daemon) }]);
        let plan = super::plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
        assert_eq!(example::text(&plan, "/etc/docker/certs.d/seawall.lab:3128/seawall.crt"), example::PEM);
        assert!(!example::text(&plan, "/etc/docker/daemon.json").contains("insecure"));
    }

    #[test]
    fn a_proxy_of_daemon_json_wins_and_is_said() {
        let facts = example::facts("http://seawall.lab:3128");
        for (mode, text, expected) in [
            (Mode::Proxy, r#"{"proxies": {"https-proxy": "http://corp:8080"}}"#, true),
            (Mode::Proxy, r#"{"proxies": {"https-proxy": "http://seawall.lab:3128"}}"#, false),
            (Mode::Proxy, r#"{"proxies": {"no-proxy": ".corp"}}"#, false),
            (Mode::Proxy, "{}", false),
            (Mode::Mirror, r#"{"proxies": {"https-proxy": "http://corp:8080"}}"#, false),
        ] {
            let plan = super::plan(&facts, mode);
            let said = objection(&plan, &There::new(&plan, &[]).merged(DAEMON, text));
            assert_eq!(said.is_some(), expected, "{mode} {text}");
        }
    }

    #[test]
    fn each_way_has_its_own_notes() {
        let notes = |mode| super::plan(&example::facts("http://seawall.lab:3128"), mode).notes.join("\n");
        assert!(notes(Mode::Proxy).contains("the drop-in in ~") && !notes(Mode::Dns).contains("drop-in"));
        assert!(notes(Mode::Mirror).contains("before 23.0 takes mirrors at the daemon's start"));
    }
}
