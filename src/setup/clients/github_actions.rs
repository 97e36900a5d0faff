//! GitHub's self-hosted runners: on a machine (docs.github.com, "Using a proxy server with
//! self-hosted runners"), and in a cluster by the Actions Runner Controller
//! (charts/gha-runner-scale-set/values.yaml).

use std::fmt::Write as _;

use super::dind::{self, ROOT};
use super::environment::{self, ONCE, password, root_in_store, whole};
use super::mirror::{PUBLIC, SILENT, loopback_note};
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror];

/// What the runner reads from its .env when it starts, and hands to its jobs. Not written there:
/// that directory is an unprivileged user's, and where it is only they know.
const ENVIRONMENT: &str = "/etc/seawall/setup/github-actions/runner.env";
const VALUES: &str = "/etc/seawall/setup/github-actions/arc-values.yaml";
const CA: &str = "/etc/seawall/setup/github-actions/seawall-ca.yaml";

/// GitHub's own traffic need not come through; `no_proxy` of the runner knows names alone, no
/// addresses.
const DIRECT: &[&str] = &["localhost", "github.com", "api.github.com", "actions.githubusercontent.com"];

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = Plan::default();
    if mode == Mode::Proxy {
        on_a_machine(facts, &mut plan);
    }
    in_a_cluster(facts, mode, &mut plan);
    if mode == Mode::Proxy {
        let either = format!(
            "A runner on a machine takes runner.env, one in a cluster (ARC) {VALUES} and {CA}: leave the other."
        );
        plan.notes.insert(0, either);
    }
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
    plan.check = seen::docker(facts, &plan.files, mode, "in a job, by a runner in a cluster");
    plan
}

fn on_a_machine(facts: &Facts, plan: &mut Plan) {
    let url = environment::proxy_url(facts);
    let lines = format!("https_proxy={url}\nno_proxy={}\n", DIRECT.join(","));
    plan.files = vec![root_in_store(facts), whole(ENVIRONMENT, lines)];
    plan.commands = vec![
        facts.store.command.clone(),
        format!(
            "su RUNNER -c 'cat {ENVIRONMENT} >> ~/actions-runner/.env'   # on a machine: as the runner's user, in its directory"
        ),
        "cd ~RUNNER/actions-runner && ./svc.sh stop && ./svc.sh start   # if it is a service".to_owned(),
    ];
    plan.undo = vec!["The runner's .env still has https_proxy and no_proxy: take them out and restart it.".to_owned()];
    plan.notes = vec![
        "The .env file lies in the directory of the runner application, and its last line of a name counts.".to_owned(),
        "Everything that a job fetches over HTTPS takes this way: what is no registry is tunnelled unless [tunnel] refuses it.".to_owned(),
        ONCE.to_owned(),
        password("In .env it is its owner's alone (chmod 600), but jobs see their environment; ARC has proxy.https.credentialSecretRef."),
    ];
    plan.notes.extend(environment::plain_http_note(facts));
}

/// The pod that `containerMode.type=dind` makes, written out, since that is the only way to change
/// its docker daemon.
fn in_a_cluster(facts: &Facts, mode: Mode, plan: &mut Plan) {
    plan.files.push(whole(VALUES, values(facts, mode)));
    if dind::needs_root(facts, mode) {
        plan.files.push(whole(CA, format!("# seawall\n{}", environment::root_config_map(facts))));
        plan.commands.push(format!("kubectl apply -n RUNNERS -f {CA}   # ARC: the namespace of the scale set"));
    }
    plan.undo.push(
        "ARC: the scale set keeps these values: helm upgrade with --reset-values and your own, then kubectl -n RUNNERS delete configmap \
         seawall-ca where there is one."
            .to_owned(),
    );
    plan.commands.push(format!(
        "helm upgrade SCALE-SET --namespace RUNNERS --reuse-values -f {VALUES} \
         --version VERSION oci://ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set   # ARC: the controller's version (helm list -A)"
    ));
    plan.notes.push(
        "ARC: containerMode must be left unset, this template replaces containerMode.type=dind. Runner pods themselves are pulled by the \
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
        assert!(plan.files.iter().all(|file| !file.path.starts_with("/home")), "it is not root's");
        let helm = plan.commands.iter().find(|command| command.starts_with("helm")).unwrap();
        assert!(helm.contains(" --version VERSION "), "the newest chart may not fit the controller: {helm}");
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
