//! GitLab Runner (docs.gitlab.com/runner/configuration: advanced-configuration, proxy;
//! docs.gitlab.com/ci/docker).
//!
//! `[[runners]]` is a list of tables whose entries have owners: nothing can be merged into it. So
//! its part is a template, which `gitlab-runner register --template-config` reads, or a person.

use super::dind::{ROOT, daemon_json, needs_root};
use super::environment::{self, indented, password, whole};
use super::mirror::{PUBLIC, SILENT, loopback_note};
use super::seen;
use crate::setup::{Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror];

const DIRECTORY: &str = "/etc/seawall/setup/gitlab-runner";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let root = needs_root(facts, mode);
    let mut files = vec![whole(format!("{DIRECTORY}/daemon.json"), daemon_json(facts, mode))];
    if root {
        files.push(whole(format!("{DIRECTORY}/ca.crt"), facts.ca_pem.as_str()));
    }
    files.push(docker_executor(facts, mode, root));
    files.push(kubernetes_executor(facts, mode, root));
    files.push(config_map(facts, mode, root));
    let commands = vec![
        format!("gitlab-runner register --template-config {DIRECTORY}/docker.toml   # a new runner; --executor docker"),
        format!(
            "kubectl apply -f {DIRECTORY}/configmap.yaml   # the kubernetes executor, in the namespace of its jobs"
        ),
        "gitlab-runner restart".to_owned(),
    ];
    let maps = if root { "configmap/seawall-docker configmap/seawall-ca" } else { "configmap/seawall-docker" };
    let undo = vec![
        format!(
            "Runners that took docker.toml over mount files that no longer exist, and docker makes directories of them: take the lines with {DIRECTORY} \
                 out of /etc/gitlab-runner/config.toml, then gitlab-runner restart."
        ),
        format!("In the cluster there is still: kubectl delete {maps}, after its volumes in the runner's config.toml."),
    ];
    let check = seen::docker(facts, &files, mode, "in a job that has a docker:dind service");
    Plan { files, commands, check, notes: notes(facts, mode), undo }
}

/// Volumes are mounted into jobs and their services alike, so a dind service has its daemon.json.
fn docker_executor(facts: &Facts, mode: Mode, root: bool) -> File {
    let mut volumes = vec!["/certs/client".to_owned(), "/cache".to_owned()];
    volumes.push(format!("{DIRECTORY}/daemon.json:/etc/docker/daemon.json:ro"));
    if root {
        volumes.push(format!("{DIRECTORY}/ca.crt:{ROOT}:ro"));
    }
    let volumes: String = volumes.iter().map(|volume| format!("      \"{volume}\",\n")).collect();
    let text = format!(
        "# seawall: for a new runner, or to be taken over into one of /etc/gitlab-runner/config.toml.\n[[runners]]\n{}  [runners.docker]\n    \
         volumes = [\n{volumes}    ]\n",
        variables(facts, mode)
    );
    whole(format!("{DIRECTORY}/docker.toml"), text)
}

/// A ConfigMap for each, since a pod has one volume of a name.
fn kubernetes_executor(facts: &Facts, mode: Mode, root: bool) -> File {
    let volume = |name: &str, path: &str, key: &str| {
        format!(
            "    [[runners.kubernetes.volumes.config_map]]\n      name = \"{name}\"\n      mount_path = \"{path}\"\n      sub_path = \
             \"{key}\"\n"
        )
    };
    let root = if root { volume("seawall-ca", ROOT, "ca.crt") } else { String::new() };
    let text = format!(
        "# seawall: for a new runner, or to be taken over into one of its config.toml (the chart's runners.config).\n[[runners]]\n{}  \
         [runners.kubernetes]\n{}{root}",
        variables(facts, mode),
        volume("seawall-docker", "/etc/docker/daemon.json", "daemon.json")
    );
    whole(format!("{DIRECTORY}/kubernetes.toml"), text)
}

fn variables(facts: &Facts, mode: Mode) -> String {
    if mode != Mode::Proxy {
        return String::new();
    }
    // The docker CLI asks a daemon at tcp://docker:2376 through the proxy, too, unless that
    // is forbidden.
    let services = |name: &str| if name.eq_ignore_ascii_case("NO_PROXY") { ",docker" } else { "" };
    let entry = |(name, value): (String, String)| format!("    \"{name}={value}{}\",\n", services(&name));
    let entries: String = environment::in_both_cases(environment::variables(facts)).into_iter().map(entry).collect();
    format!("  environment = [\n{entries}  ]\n")
}

fn config_map(facts: &Facts, mode: Mode, root: bool) -> File {
    let root = if root { format!("---\n{}", environment::root_config_map(facts)) } else { String::new() };
    let text = format!(
        "# seawall\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: seawall-docker\ndata:\n  daemon.json: |\n{}{root}",
        indented(&daemon_json(facts, mode), 4)
    );
    whole(format!("{DIRECTORY}/configmap.yaml"), text)
}

fn notes(facts: &Facts, mode: Mode) -> Vec<String> {
    let mut notes = vec![
        "The images of jobs and services are pulled by the docker daemon of the runner's machine, or by the nodes: seawall setup docker \
         there, seawall setup kubernetes here. With seawall at hand pull_policy = [\"always\", \"if-not-present\"] costs one HEAD per job."
            .to_owned(),
        "GitLab itself is reached through a tunnel and shows its own certificate: /etc/gitlab-runner/certs needs nothing of seawall's, \
         unless GitLab's host is a configured registry; then its root goes to /etc/gitlab-runner/certs/HOST.crt."
            .to_owned(),
    ];
    if mode == Mode::Proxy {
        notes.push(
            "Everything that a job fetches over HTTPS takes this way: what is no registry is tunnelled unless [tunnel] refuses it. Jobs \
             find the root in /etc/ssl/certs: Go programs read it there; others need update-ca-certificates."
                .to_owned(),
        );
        notes.push(
            "A dind service of .gitlab-ci.yml without these volumes does not come to seawall: its daemon needs them, the root and the \
             \"proxies\" of daemon.json."
                .to_owned(),
        );
        notes.push(password(
            "gitlab-runner keeps its config.toml to root, but jobs see the variables, and daemon.json and the templates here are 0644: chmod 600.",
        ));
        notes.extend(environment::plain_http_note(facts));
    } else {
        notes.push(format!(
            "A dind service of .gitlab-ci.yml without these volumes takes command: [\"--registry-mirror={}\"] there.",
            facts.address
        ));
        notes.push("docker's registry-mirrors are Docker Hub's alone.".to_owned());
        notes.extend([PUBLIC.to_owned(), SILENT.to_owned()]);
    }
    notes.extend(loopback_note(facts, "a job's container"));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn templates_are_toml_of_one_runner() {
        for (address, mode, root) in [
            ("http://seawall.lab:3128", Mode::Proxy, true),
            ("http://seawall.lab:3128", Mode::Mirror, false),
            ("https://seawall.lab:3128", Mode::Mirror, true),
        ] {
            let plan = plan(&example::facts(address), mode);
            example::assert_sound(&plan);
            for file in ["docker.toml", "kubernetes.toml"] {
                let text = example::text(&plan, &format!("{DIRECTORY}/{file}"));
                let table: toml::Table = text.parse().unwrap();
                let runners = table["runners"].as_array().unwrap();
                assert_eq!(runners.len(), 1);
                assert_eq!(runners[0].get("environment").is_some(), mode == Mode::Proxy);
                assert!(text.contains("/etc/docker/daemon.json"), "{text}");
                assert_eq!(text.matches(",docker\"").count(), if mode == Mode::Proxy { 2 } else { 0 }, "{text}");
                assert_eq!(text.contains(ROOT), root, "{text}");
            }
            assert_eq!(plan.files.iter().any(|file| file.path.ends_with("ca.crt")), root);
            assert!(!plan.files.iter().any(|file| file.path.starts_with("/etc/gitlab-runner")), "others own it");
            assert_eq!(plan.notes.join(" ").contains("--registry-mirror="), mode == Mode::Mirror);
        }
    }
}
