//! GitHub's self-hosted runners: on a machine (docs.github.com, "Using a proxy server with self-hosted runners"), and in a cluster
//! by the Actions Runner Controller (charts/gha-runner-scale-set/values.yaml).

use std::fmt::Write as _;

use super::dind::{self, ROOT};
use super::environment::{self, ONCE, PASSWORD, root_in_store, whole};
use super::mirror::{PUBLIC, SILENT, loopback_note};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror];

/// Read by the runner when it starts, and handed to its jobs.
const ENVIRONMENT: &str = "/home/runner/actions-runner/.env";
const VALUES: &str = "/etc/seawall/setup/github-actions/arc-values.yaml";
const CA: &str = "/etc/seawall/setup/github-actions/seawall-ca.yaml";

/// GitHub's own traffic need not come through; `no_proxy` of the runner knows names alone, no addresses.
const DIRECT: &[&str] = &["localhost", "github.com", "api.github.com", "actions.githubusercontent.com"];

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = Plan::default();
    if mode == Mode::Proxy {
        on_a_machine(facts, &mut plan);
    }
    in_a_cluster(facts, mode, &mut plan);
    plan.notes.insert(
        0,
        "Images of jobs (container:, services:, docker steps) are pulled by the docker daemon of the runner's machine: seawall setup docker \
         there."
            .to_owned(),
    );
    if mode != Mode::Proxy {
        plan.notes.push("docker's registry-mirrors are Docker Hub's alone.".to_owned());
        plan.notes.extend([PUBLIC.to_owned(), SILENT.to_owned()]);
    }
    plan.notes.extend(loopback_note(facts, "the runner's pod"));
    plan
}

fn on_a_machine(facts: &Facts, plan: &mut Plan) {
    let url = environment::proxy_url(facts);
    let lines = format!("https_proxy={url}\nno_proxy={}\n", DIRECT.join(","));
    plan.files = vec![root_in_store(facts), File { path: ENVIRONMENT.into(), content: Content::Lines(lines) }];
    plan.commands = vec![
        facts.store.command.clone(),
        "cd /home/runner/actions-runner && ./svc.sh stop && ./svc.sh start   # if it is a service".to_owned(),
    ];
    plan.notes = vec![
        "The .env file lies in the directory of the runner application: move the lines where yours is elsewhere.".to_owned(),
        "Everything that a job fetches over HTTPS takes this way: what is no registry is tunnelled unless [tunnel] refuses it.".to_owned(),
        ONCE.to_owned(),
        PASSWORD.to_owned(),
    ];
    plan.notes.extend(environment::plain_http_note(facts));
}

/// The pod that `containerMode.type=dind` makes, written out, since that is the only way to change its docker daemon.
fn in_a_cluster(facts: &Facts, mode: Mode, plan: &mut Plan) {
    plan.files.push(whole(VALUES, values(facts, mode)));
    if dind::needs_root(facts, mode) {
        plan.files.push(whole(CA, format!("# seawall\n{}", environment::root_config_map(facts))));
        plan.commands.push(format!("kubectl apply -n RUNNERS -f {CA}   # ARC: the namespace of the scale set"));
    }
    plan.commands.push(format!(
        "helm upgrade SCALE-SET --namespace RUNNERS --reuse-values -f {VALUES} \
         oci://ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set   # ARC"
    ));
    plan.notes.push(
        "ARC: containerMode must be left unset, this template stands for containerMode.type=dind. Runner pods themselves are pulled by the \
         nodes: seawall setup kubernetes."
            .to_owned(),
    );
}

fn values(facts: &Facts, mode: Mode) -> String {
    let root = dind::needs_root(facts, mode);
    let mut text = "# seawall: values of the chart gha-runner-scale-set.\n".to_owned();
    let (mut arguments, mut variables) = (String::new(), String::new());
    if mode == Mode::Proxy {
        let _ = write!(text, "proxy:\n  https:\n    url: {}\n  noProxy:\n", environment::proxy_url(facts));
        text.extend(DIRECT.iter().map(|host| format!("    - {host}\n")));
        variables = environment::yaml(facts, 10);
    } else {
        arguments = format!("          - --registry-mirror={}\n", facts.address);
    }
    let mount = format!("          - {{name: seawall-ca, mountPath: {ROOT}, subPath: ca.crt}}\n");
    let mount = if root { mount.as_str() } else { "" };
    let volume = "      - name: seawall-ca\n        configMap:\n          name: seawall-ca\n";
    let volume = if root { volume } else { "" };
    let _ = write!(
        text,
        r#"template:
  spec:
    initContainers:
      - name: init-dind-externals
        image: ghcr.io/actions/actions-runner:latest
        command: ["cp", "-r", "/home/runner/externals/.", "/home/runner/tmpDir/"]
        volumeMounts:
          - {{name: dind-externals, mountPath: /home/runner/tmpDir}}
      - name: dind
        image: docker:dind
        args:
          - dockerd
          - --host=unix:///var/run/docker.sock
          - --group=$(DOCKER_GROUP_GID)
{arguments}        env:
          - {{name: DOCKER_GROUP_GID, value: "123"}}
{variables}        securityContext:
          privileged: true
        restartPolicy: Always
        startupProbe:
          exec:
            command: ["docker", "info"]
          failureThreshold: 24
          periodSeconds: 5
        volumeMounts:
          - {{name: work, mountPath: /home/runner/_work}}
          - {{name: dind-sock, mountPath: /var/run}}
          - {{name: dind-externals, mountPath: /home/runner/externals}}
{mount}    containers:
      - name: runner
        image: ghcr.io/actions/actions-runner:latest
        command: ["/home/runner/run.sh"]
        env:
          - {{name: DOCKER_HOST, value: "unix:///var/run/docker.sock"}}
          - {{name: RUNNER_WAIT_FOR_DOCKER_IN_SECONDS, value: "120"}}
        volumeMounts:
          - {{name: work, mountPath: /home/runner/_work}}
          - {{name: dind-sock, mountPath: /var/run}}
{mount}    volumes:
      - name: work
        emptyDir: {{}}
      - name: dind-sock
        emptyDir: {{}}
      - name: dind-externals
        emptyDir: {{}}
{volume}"#
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn as_a_proxy_the_runner_and_its_docker_ask_it() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        let lines = example::text(&plan, ENVIRONMENT);
        assert!(lines.starts_with("https_proxy=http://seawall.lab:3128\nno_proxy=localhost,"), "{lines}");
        assert!(!lines.contains("ghcr.io"), "{lines}");
        assert!(!DIRECT.iter().any(|entry| entry.contains('/')), "the runner reads no networks there");
        let values = example::text(&plan, VALUES);
        assert!(values.contains("proxy:\n  https:\n    url: http://seawall.lab:3128\n"), "{values}");
        assert_eq!(values.matches(ROOT).count(), 2, "{values}");
        assert!(example::text(&plan, CA).contains("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn as_a_mirror_only_its_docker_does() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        example::assert_sound(&plan);
        let values = example::text(&plan, VALUES);
        assert!(
            values.contains("- --registry-mirror=http://seawall.lab:3128\n") && !values.contains("proxy:"),
            "{values}"
        );
        assert_eq!(plan.files.len(), 1);
    }
}
