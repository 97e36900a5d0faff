//! A cluster: its nodes' containerd by a DaemonSet, and the variables of pods that pull for
//! themselves (builds, CI).

use super::dind::ROOT;
use super::environment::{self, SECRET, indented, password, whole};
use super::mirror::{self, PUBLIC, SILENT, hosts_toml, loopback_note};
use super::seen::{self, ALPINE, HELLO};
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy];

const NODES: &str = "/etc/seawall/setup/kubernetes/nodes.yaml";
const PODS: &str = "/etc/seawall/setup/kubernetes/pods.yaml";
const SIDECAR: &str = "/etc/seawall/setup/kubernetes/sidecar.yaml";
const CA_ON_NODE: &str = "/etc/containerd/certs.d/_default/seawall-ca.crt";

/// A file of another's is left alone, and so is one into which `seawall setup containerd --write`
/// put seawall; ours is put in place at once, since containerd reads it for every pull.
const SCRIPT: &str = r#"to=/node/_default
if [ -e $to/hosts.toml ] && ! grep -q '^# seawall' $to/hosts.toml; then
  if grep -qF '[host."ADDRESS"]' $to/hosts.toml; then
    echo "$to/hosts.toml has seawall already: left as it is"
  else
    echo "$to/hosts.toml is another's: left as it is, this node does not ask seawall"
  fi
  exit 0
fi
mkdir -p $to
if [ -e /seawall/ca.crt ]; then cp /seawall/ca.crt $to/seawall-ca.crt; fi
cp /seawall/hosts.toml $to/.hosts.toml.new
mv $to/.hosts.toml.new $to/hosts.toml
"#;

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = if mode == Mode::Proxy { pods(facts) } else { nodes(facts) };
    plan.notes.extend(loopback_note(facts, "the node or pod"));
    plan
}

fn nodes(facts: &Facts) -> Plan {
    let notes = vec![
        "containerd must look there: its config.toml says config_path = \"/etc/containerd/certs.d\" (containerd 2 does so by itself, kubeadm \
         with containerd 1 does not), and registry.mirrors must not stand beside it. A registry with a directory of its own there is not \
         reached by _default."
            .to_owned(),
        "Other runtimes: seawall setup crio, and for K3s and RKE2, which write this directory themselves, seawall setup k3s or rke2, on \
         each node."
            .to_owned(),
        "A node whose _default/hosts.toml is somebody else's is left as it is; the log of its pod says so.".to_owned(),
        format!("To take it back: kubectl delete -f {NODES}, and remove /etc/containerd/certs.d/_default from the nodes."),
        PUBLIC.to_owned(),
        SILENT.to_owned(),
    ];
    let commands = vec![
        format!("kubectl apply -f {NODES}"),
        "kubectl -n seawall-nodes rollout restart daemonset seawall-nodes   # after a change; containerd itself needs no restart".to_owned(),
        "kubectl -n seawall-nodes rollout status daemonset seawall-nodes".to_owned(),
    ];
    let log = "kubectl -n seawall-nodes logs -l app.kubernetes.io/name=seawall-nodes -c hosts --prefix --tail=-1   # empty: every node has it";
    let pod = "kubectl -n seawall-nodes run seawall-check --rm -i --restart=Never --image-pull-policy=Always --image";
    let pull = format!("{pod} {}   # by one node", HELLO.name);
    let check = std::iter::once(log.to_owned()).chain(seen::pulled(facts, &[], pull, &HELLO));
    let undo = "The cluster keeps it: kubectl delete namespace seawall-nodes, then remove hosts.toml and seawall-ca.crt from \
                /etc/containerd/certs.d/_default on every node.";
    Plan {
        files: vec![whole(NODES, nodes_yaml(facts))],
        commands,
        check: check.collect(),
        notes,
        undo: vec![undo.to_owned()],
    }
}

fn nodes_yaml(facts: &Facts) -> String {
    let ca = mirror::needs_ca(facts).then_some(CA_ON_NODE);
    let hosts = indented(&hosts_toml(facts, ca), 4);
    let root = ca.map(|_| format!("  ca.crt: |\n{}", indented(&facts.ca_pem, 4))).unwrap_or_default();
    let script = indented(&SCRIPT.replace("ADDRESS", &facts.address.to_string()), 14);
    format!(
        r#"# seawall: every node's containerd asks it first.
apiVersion: v1
kind: Namespace
metadata:
  name: seawall-nodes
  # A directory of the node.
  labels: {{pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: seawall-nodes
  namespace: seawall-nodes
data:
  hosts.toml: |
{hosts}{root}---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: seawall-nodes
  namespace: seawall-nodes
  labels: {{app.kubernetes.io/name: seawall-nodes}}
spec:
  selector:
    matchLabels: {{app.kubernetes.io/name: seawall-nodes}}
  updateStrategy:
    rollingUpdate: {{maxUnavailable: "20%"}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: seawall-nodes}}
    spec:
      automountServiceAccountToken: false
      tolerations:
        - operator: Exists
      initContainers:
        - name: hosts
          image: docker.io/library/busybox:1.37
          command:
            - sh
            - -ec
            - |
{script}          securityContext:
            runAsUser: 0
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: ["ALL"], add: ["DAC_OVERRIDE"]}}
          volumeMounts:
            - {{name: certs, mountPath: /node}}
            - {{name: seawall, mountPath: /seawall, readOnly: true}}
      containers:
        - name: pause
          image: registry.k8s.io/pause:3.10
          resources:
            requests: {{cpu: 1m, memory: 4Mi}}
            limits: {{memory: 16Mi}}
          securityContext:
            runAsNonRoot: true
            runAsUser: 65535
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: ["ALL"]}}
      volumes:
        - name: certs
          hostPath: {{path: /etc/containerd/certs.d, type: DirectoryOrCreate}}
        - name: seawall
          configMap: {{name: seawall-nodes}}
"#
    )
}

fn pods(facts: &Facts) -> Plan {
    let mut notes = vec![
        "A pod's variables reach what runs in it (a build, skopeo, crane), never the pulls of its own images: those are the kubelet's \
         runtime's, on the node. For them --mode mirror, or seawall setup containerd --mode proxy on each node."
            .to_owned(),
        "A namespace has no variables of its own: each pod names the ConfigMap in envFrom, and mounts the root as the example does. Go \
         programs read it there, node by NODE_EXTRA_CA_CERTS; others need their own store."
            .to_owned(),
        format!(
            "{SIDECAR} needs none of this seawall: it runs one of its own beside the build, with a root and a cache that go with the pod. \
             Kubernetes 1.29 or newer; its image is the one you built."
        ),
        password(SECRET),
    ];
    notes.extend(environment::plain_http_note(facts));
    let commands = vec![format!("kubectl apply -n NAMESPACE -f {PODS}")];
    let undo = "The cluster keeps them: take envFrom and the mount out of the pods that have them, then kubectl -n NAMESPACE delete pod/seawall-example \
                configmap/seawall-ca configmap/seawall-proxy.";
    Plan {
        files: vec![whole(PODS, pods_yaml(facts)), whole(SIDECAR, sidecar_yaml(facts))],
        commands,
        check: seen::pulled(facts, &[], "kubectl -n NAMESPACE logs -f seawall-example".to_owned(), &ALPINE),
        notes,
        undo: vec![undo.to_owned()],
    }
}

fn pods_yaml(facts: &Facts) -> String {
    let variable = |(name, value)| format!("  {name}: \"{value}\"\n");
    let variables: String =
        environment::in_both_cases(environment::variables(facts)).into_iter().map(variable).collect();
    let root = environment::root_config_map(facts);
    format!(
        r#"# seawall: for one namespace, its pods that pull for themselves.
{root}---
apiVersion: v1
kind: ConfigMap
metadata:
  name: seawall-proxy
data:
{variables}  NODE_EXTRA_CA_CERTS: "{ROOT}"
---
apiVersion: v1
kind: Pod
metadata:
  name: seawall-example
spec:
  restartPolicy: Never
  containers:
    - name: build
      image: quay.io/skopeo/stable:latest
      command: ["skopeo", "inspect", "docker://docker.io/library/alpine:latest"]
      envFrom:
        - configMapRef: {{name: seawall-proxy}}
      volumeMounts:
        - {{name: seawall-ca, mountPath: {ROOT}, subPath: ca.crt}}
  volumes:
    - name: seawall-ca
      configMap: {{name: seawall-ca}}
"#
    )
}

fn sidecar_yaml(facts: &Facts) -> String {
    let direct = environment::no_proxy(&facts.registries);
    format!(
        r#"# seawall: one beside a build, at localhost.
apiVersion: v1
kind: Pod
metadata:
  name: build-with-seawall
spec:
  restartPolicy: Never
  securityContext: {{fsGroup: 65532}}
  initContainers:
    - name: seawall
      image: localhost/seawall
      restartPolicy: Always
      args: ["serve", "--listen", "127.0.0.1:3128"]
      env:
        - {{name: SEAWALL_CA__DIR, value: /var/lib/seawall/ca}}
      startupProbe:
        exec:
          command: ["/usr/local/bin/seawall", "check", "--health"]
        periodSeconds: 1
        failureThreshold: 30
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        allowPrivilegeEscalation: false
        capabilities: {{drop: ["ALL"]}}
      volumeMounts:
        - {{name: cache, mountPath: /var/lib/seawall}}
    - name: root
      image: docker.io/library/busybox:1.37
      command: ["wget", "-qO", "/root-of-seawall/seawall-ca.pem", "http://127.0.0.1:3128/ca.crt"]
      volumeMounts:
        - {{name: root, mountPath: /root-of-seawall}}
  containers:
    - name: build
      image: quay.io/skopeo/stable:latest
      command: ["skopeo", "inspect", "docker://docker.io/library/alpine:latest"]
      env:
        - {{name: HTTPS_PROXY, value: "http://127.0.0.1:3128"}}
        - {{name: NO_PROXY, value: "{direct}"}}
        - {{name: SSL_CERT_DIR, value: "/etc/ssl/certs:/root-of-seawall"}}
      volumeMounts:
        - {{name: root, mountPath: /root-of-seawall, readOnly: true}}
  volumes:
    - name: cache
      emptyDir: {{}}
    - name: root
      emptyDir: {{}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn nodes_are_given_hosts_toml_and_the_root_if_they_need_it() {
        for (address, root) in [("http://seawall.lab:3128", false), ("https://seawall.lab:3128", true)] {
            let plan = plan(&example::facts(address), Mode::Mirror);
            example::assert_sound(&plan);
            let text = example::text(&plan, NODES);
            assert!(text.contains(&format!("    [host.\"{address}\"]\n")), "{text}");
            assert_eq!(text.contains("    -----BEGIN CERTIFICATE-----\n"), root);
            assert_eq!(text.contains(&format!("ca = \"{CA_ON_NODE}\"")), root);
            assert!(
                hosts_toml(&example::facts(address), None).starts_with("# seawall"),
                "the script knows its own by that"
            );
            assert!(plan.notes.iter().any(|note| note.contains("config_path")));
            assert!(
                text.contains(&format!("grep -qF '[host.\"{address}\"]'")),
                "what setup containerd wrote is known by that"
            );
        }
    }

    #[test]
    fn pods_are_told_what_their_variables_do_not_reach() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        let text = example::text(&plan, PODS);
        assert!(text.contains("  HTTPS_PROXY: \"http://seawall.lab:3128\"\n") && text.contains("-----BEGIN"), "{text}");
        assert!(plan.notes[0].contains("kubelet's"));
        assert!(example::text(&plan, SIDECAR).contains("http://127.0.0.1:3128/ca.crt"));
    }
}
