//! Jenkins: the controller's unit (jenkins.io, "Managing systemd services") and a pod for the
//! Kubernetes plugin's agents.

use super::dind::{self, ROOT};
use super::environment::{self, ONCE, SHOWN, drop_in, password, root_in_store, whole};
use super::mirror::{PUBLIC, SILENT, loopback_note};
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy, Mode::Mirror];

const DROP_IN: &str = "/etc/systemd/system/jenkins.service.d/seawall.conf";
const POD: &str = "/etc/seawall/setup/jenkins/pod.yaml";
const CA: &str = "/etc/seawall/setup/jenkins/seawall-ca.yaml";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = Plan::default();
    if mode == Mode::Proxy {
        plan.files = vec![root_in_store(facts), whole(DROP_IN, drop_in(environment::variables(facts)))];
        plan.commands =
            vec![facts.store.command.clone(), "systemctl daemon-reload && systemctl restart jenkins".to_owned()];
        plan.check = vec![seen::fetched_by("jenkins")];
    }
    plan.files.push(whole(POD, pod(facts, mode)));
    if dind::needs_root(facts, mode) {
        plan.files.push(whole(CA, format!("# seawall\n{}", environment::root_config_map(facts))));
        plan.commands.push(format!("kubectl apply -n AGENTS -f {CA}   # the namespace of the agents"));
        plan.undo.push("In the cluster there is still: kubectl -n AGENTS delete configmap seawall-ca.".to_owned());
    }
    plan.undo.push("The pod template in Jenkins, or in the Jenkinsfile, still has what was taken over from pod.yaml: take it out there.".to_owned());
    plan.check.extend(seen::docker(facts, &plan.files, mode, "in a job"));
    plan.notes = notes(mode);
    if mode == Mode::Proxy {
        plan.notes.extend(environment::plain_http_note(facts));
    }
    plan.notes.extend(loopback_note(facts, "the agent's pod"));
    plan
}

fn notes(mode: Mode) -> Vec<String> {
    let mut notes = vec![
        format!("{POD} is the raw YAML of a pod template (Kubernetes plugin), or of kubernetes {{ yamlFile }} in a Jenkinsfile; the agent's \
                 own container is added by the plugin."),
        "Docker agents and docker.image(…) pull by the docker daemon of the agent's machine: seawall setup docker there. The pod's images \
         are pulled by the nodes: seawall setup kubernetes."
            .to_owned(),
    ];
    if mode == Mode::Proxy {
        notes.push(
            "Builds on the controller's machine inherit its unit's variables. An agent elsewhere takes them from what starts it, or from \
             Environment variables of its node's page. Java reads none of them: Jenkins' own downloads do not take this way."
                .to_owned(),
        );
        notes.extend([ONCE.to_owned(), password(SHOWN)]);
    } else {
        notes.push("docker's registry-mirrors are Docker Hub's alone.".to_owned());
        notes.extend([PUBLIC.to_owned(), SILENT.to_owned()]);
    }
    notes
}

fn pod(facts: &Facts, mode: Mode) -> String {
    let root = dind::needs_root(facts, mode);
    let (mut mirror, mut variables) = (String::new(), String::new());
    if mode == Mode::Proxy {
        variables = format!("      env:\n{}", environment::yaml(facts, 8));
    } else {
        mirror = format!(", \"--registry-mirror={}\"", facts.address);
    }
    let of_docker = variables.trim_start_matches("      env:\n");
    let mount = format!("        - {{name: seawall-ca, mountPath: {ROOT}, subPath: ca.crt}}\n");
    let mount = if root { mount.as_str() } else { "" };
    let volume = "    - name: seawall-ca\n      configMap:\n        name: seawall-ca\n";
    let volume = if root { volume } else { "" };
    format!(
        r#"# seawall: an agent whose builds have docker.
apiVersion: v1
kind: Pod
metadata:
  generateName: jenkins-agent-
spec:
  containers:
    - name: docker
      image: docker:cli
      command: ["sleep", "infinity"]
      env:
        - {{name: DOCKER_HOST, value: "unix:///var/run/docker.sock"}}
{of_docker}      volumeMounts:
        - {{name: docker-socket, mountPath: /var/run}}
{mount}    - name: dind
      image: docker:dind
      # Without "dockerd" its entrypoint listens on TCP, too: for whoever reaches the pod.
      args: ["dockerd", "--host=unix:///var/run/docker.sock"{mirror}]
{variables}      securityContext:
        privileged: true
      volumeMounts:
        - {{name: docker-socket, mountPath: /var/run}}
{mount}  volumes:
    - name: docker-socket
      emptyDir: {{}}
{volume}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn the_controller_and_the_agents_ask_the_proxy() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        assert!(example::text(&plan, DROP_IN).contains("Environment=\"HTTPS_PROXY=http://seawall.lab:3128\"\n"));
        let pod = example::text(&plan, POD);
        assert_eq!(pod.matches("{name: HTTPS_PROXY,").count(), 2, "{pod}");
        assert_eq!(pod.matches(ROOT).count(), 2, "{pod}");
        assert!(plan.files.iter().any(|file| file.path.to_str() == Some(CA)));
        assert_eq!(pod.matches("      env:\n").count(), 2, "{pod}");
    }

    #[test]
    fn over_http_a_mirror_is_one_argument() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        example::assert_sound(&plan);
        assert_eq!(plan.files.len(), 1);
        assert!(example::text(&plan, POD).contains(", \"--registry-mirror=http://seawall.lab:3128\"]"));
    }

    #[test]
    fn docker_listens_to_its_pod_alone() {
        for mode in MODES {
            let pod = example::text(&plan(&example::facts("http://seawall.lab:3128"), *mode), POD);
            assert!(pod.contains("      args: [\"dockerd\", \"--host=unix:///var/run/docker.sock\""), "{pod}");
            assert!(!pod.contains("DOCKER_TLS_CERTDIR"), "{pod}");
        }
    }
}
