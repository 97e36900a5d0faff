//! Other names as commands: `kubectl set image` for what owns the pods of a cluster.
//!
//! kubectl sets the images of containers and init containers of pods, replication controllers,
//! deployments, daemon sets, stateful sets, cron jobs and replica sets. What another object owns is
//! left to that: it would be set back. The rest is said.

use std::collections::HashSet;

use super::manifests::of_document;
use super::owners::{Object, itself, objects, owner};
use super::read;
use super::reference::{Read, ReadError, Reference};
use super::rewrite::{Kept, Targets, renamed};
use super::tree::Node;
use crate::policy::registry::Registries;

/// Commands, and what they leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// One for each object.
    pub lines: Vec<String>,
    /// What keeps its image: which object, why.
    pub left: Vec<(String, String)>,
}

/// The resources whose images kubectl sets, by their kind, and its API group. Others have kinds of
/// the same names.
const SETTABLE: [(&str, &str, &str); 7] = [
    ("Deployment", "apps", "deployment"),
    ("StatefulSet", "apps", "statefulset"),
    ("DaemonSet", "apps", "daemonset"),
    ("CronJob", "batch", "cronjob"),
    ("ReplicaSet", "apps", "replicaset"),
    ("ReplicationController", "", "replicationcontroller"),
    ("Pod", "", "pod"),
];

/// Where a kind has its pods' specification.
const SPECS: [&[&str]; 3] =
    [&["spec", "jobTemplate", "spec", "template", "spec"], &["spec", "template", "spec"], &["spec"]];

/// What sets the images of the objects in `text`, which kubectl gave as JSON.
///
/// # Errors
/// It is not JSON.
pub fn commands(text: &str, registries: &Registries, targets: &Targets) -> Result<Commands, ReadError> {
    let documents = read::json(text)?;
    let objects = objects(&documents);
    let known = objects.iter().copied().filter_map(itself).collect();
    let mut saying = Saying { registries, targets, known, owners: HashSet::new(), commands: Commands::default() };
    objects.into_iter().for_each(|object| saying.of(object));
    Ok(saying.commands)
}

/// What is said so far, and of what.
struct Saying<'a> {
    registries: &'a Registries,
    targets: &'a Targets,
    /// All that are in the input.
    known: HashSet<Object>,
    /// Those that are not, and that was said.
    owners: HashSet<Object>,
    commands: Commands,
}

impl Saying<'_> {
    fn of(&mut self, object: &Node) {
        if let Some(owner) = owner(object) {
            return self.owned(object, owner);
        }
        let called = called(object);
        let spec = SPECS.iter().find_map(|keys| object.at(keys).filter(|spec| spec.find("containers").is_some()));
        let (set, mut looked_at) = spec.map(|spec| self.containers(&called, spec)).unwrap_or_default();
        let volumes = spec.and_then(|spec| spec.find("volumes")).map_or(&[][..], Node::items);
        let mut volumes = volumes.iter().filter_map(|volume| volume.at(&["image", "reference"])?.text()).peekable();
        if volumes.peek().is_some() {
            self.leave(&called, "kubectl set image knows no image volumes: edit it".to_owned());
        }
        looked_at.extend(volumes.map(str::to_owned));
        if !set.is_empty() {
            match command(object, &set) {
                Ok(line) => self.commands.lines.push(line),
                Err(why) => self.leave(&called, why),
            }
        }
        self.others(object, &called, &looked_at);
    }

    /// What its owner sets, it gets from there.
    fn owned(&mut self, object: &Node, owner: Object) {
        // Its other pods say no more.
        if self.known.contains(&owner) || !names_any(object) || !self.owners.insert(owner.clone()) {
            return;
        }
        let Object { kind, name, .. } = owner;
        let is_set = kind == "Job" || SETTABLE.iter().any(|(known, ..)| *known == kind);
        let advice = match kind.as_str() {
            "Node" => "edit its manifest on the node".to_owned(),
            _ if is_set => "get that too".to_owned(),
            _ => format!("edit that {kind}"),
        };
        self.leave(&called(object), format!("{kind} {name} makes it: {advice}"));
    }

    /// What is to be set, and all names that were looked at.
    fn containers(&mut self, called: &str, spec: &Node) -> (Vec<String>, HashSet<String>) {
        let (mut set, mut looked_at) = (Vec::new(), HashSet::new());
        let containers =
            ["containers", "initContainers"].iter().flat_map(|key| spec.find(key).map_or(&[][..], Node::items));
        for container in containers {
            let (Some(name), Some(image)) = (text(container, "name"), text(container, "image")) else { continue };
            looked_at.insert(image.to_owned());
            match renamed(image, self.registries, self.targets) {
                Ok(new) if is_plain(name) => set.push(format!("{name}={new}")),
                Ok(_) => self.leave(called, format!("{name:?} is no container's name")),
                Err(Kept::Already) => {}
                Err(why) => self.leave(called, format!("{name}: {image}: {why}")),
            }
        }
        (set, looked_at)
    }

    /// What else it names.
    fn others(&mut self, object: &Node, called: &str, looked_at: &HashSet<String>) {
        let mut read = Read::default();
        of_document(object, &mut read);
        for Reference { text, .. } in read.references.iter().filter(|reference| !looked_at.contains(&reference.text)) {
            match renamed(text, self.registries, self.targets) {
                Ok(_) => self.leave(called, format!("{text}: kubectl set image does not set it: edit it")),
                Err(Kept::Already) => {}
                Err(why) => self.leave(called, format!("{text}: {why}")),
            }
        }
    }

    fn leave(&mut self, called: &str, why: String) {
        self.commands.left.push((called.to_owned(), why));
    }
}

fn names_any(object: &Node) -> bool {
    let mut read = Read::default();
    of_document(object, &mut read);
    !read.references.is_empty()
}

/// What sets these; or why none does.
fn command(object: &Node, set: &[String]) -> Result<String, String> {
    let kind = text(object, "kind").unwrap_or_default();
    let version = text(object, "apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let Some((_, _, resource)) = SETTABLE.iter().find(|known| (known.0, known.1) == (kind, group)) else {
        return Err(match (kind, group) {
            ("Job", "batch") => "the pods of a Job cannot be changed: create it again".to_owned(),
            _ => format!("kubectl set image does not know a {kind} of {version}: edit it"),
        });
    };
    let plain = |key: &str| match object.at(&["metadata", key]).and_then(Node::text) {
        Some(name) if !is_plain(name) => Err(format!("{name:?} is no {key} that can stand in a command: edit it")),
        name => Ok(name),
    };
    let name = plain("name")?.ok_or("it has no name: edit it")?;
    let namespace = plain("namespace")?.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    Ok(format!("kubectl{namespace} set image {resource}/{name} {}", set.join(" ")))
}

/// What may stand in a command as it is: names of Kubernetes' objects (RFC 1123). An object may
/// come from anybody.
fn is_plain(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(good)
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.find(key).and_then(Node::text)
}

fn called(object: &Node) -> String {
    let name = object.at(&["metadata", "name"]).and_then(Node::text).unwrap_or("?");
    let namespace = object.at(&["metadata", "namespace"]).and_then(Node::text).unwrap_or("default");
    format!("{} {namespace}/{name}", text(object, "kind").unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::used::tests::registries;
    use super::*;

    fn object(kind: &str, name: &str, owner: Option<(&str, &str)>, spec: Value) -> Value {
        let owners: Vec<_> =
            owner.map(|(kind, name)| json!({"kind": kind, "name": name, "controller": true})).into_iter().collect();
        let version = match kind {
            "Job" | "CronJob" => "batch/v1",
            "Pod" | "PodTemplate" => "v1",
            "Rollout" => "argoproj.io/v1alpha1",
            _ => "apps/v1",
        };
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "prod", "ownerReferences": owners}, "spec": spec})
    }

    fn said(items: Vec<Value>) -> Commands {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        commands(&list.to_string(), &registries(), &"m.corp:3128".parse().unwrap()).unwrap()
    }

    #[test]
    fn what_owns_the_pods_is_set() {
        let containers = json!({"containers": [{"name": "app", "image": "nginx:1"}, {"name": "own", "image": "localhost:5000/x"}],
            "initContainers": [{"name": "init", "image": "ghcr.io/a/b"}], "volumes": [{"name": "v", "image": {"reference": "a"}}]});
        let pods = json!({"containers": [{"name": "c", "image": "redis"}]});
        let template = json!({"template": {"spec": containers}});
        let commands = said(vec![
            object("Deployment", "web", None, template),
            object("ReplicaSet", "web-1", Some(("Deployment", "web")), json!({"template": {"spec": pods}})),
            object("Pod", "web-1-a", Some(("ReplicaSet", "web-1")), pods.clone()),
            object("Pod", "alone", None, pods.clone()),
            object("Pod", "lost", Some(("DaemonSet", "ds")), pods.clone()),
            object("CronJob", "nightly", None, json!({"jobTemplate": {"spec": {"template": {"spec": pods}}}})),
            object("Job", "once", None, json!({"template": {"spec": pods}})),
            object("Rollout", "canary", None, json!({"template": {"spec": pods}})),
            object("ConfigMap", "x", None, json!({})),
        ]);
        assert_eq!(
            commands.lines,
            [
                "kubectl -n prod set image deployment/web app=m.corp:3128/docker.io/library/nginx:1 init=m.corp:3128/ghcr.io/a/b",
                "kubectl -n prod set image pod/alone c=m.corp:3128/docker.io/library/redis",
                "kubectl -n prod set image cronjob/nightly c=m.corp:3128/docker.io/library/redis",
            ]
        );
        let left: Vec<_> = commands.left.iter().map(|(object, why)| format!("{object}: {why}")).collect();
        assert_eq!(
            left,
            [
                "Deployment prod/web: own: localhost:5000/x: localhost:5000 is no registry that is configured: add a [[registry]]",
                "Deployment prod/web: kubectl set image knows no image volumes: edit it",
                "Pod prod/lost: DaemonSet ds makes it: get that too",
                "Job prod/once: the pods of a Job cannot be changed: create it again",
                "Rollout prod/canary: kubectl set image does not know a Rollout of argoproj.io/v1alpha1: edit it",
            ]
        );
    }

    fn left(items: Vec<Value>) -> Vec<String> {
        let commands = said(items);
        assert_eq!(commands.lines, [""; 0]);
        commands.left.into_iter().map(|(object, why)| format!("{object}: {why}")).collect()
    }

    #[test]
    fn nothing_but_names_gets_into_a_command() {
        let pods = |name: &str| json!({"containers": [{"name": name, "image": "redis"}]});
        assert_eq!(
            left(vec![object("Pod", "x; rm -rf /", None, pods("c"))]),
            ["Pod prod/x; rm -rf /: \"x; rm -rf /\" is no name that can stand in a command: edit it"]
        );
        assert_eq!(
            left(vec![object("Pod", "x", None, pods("$(id)"))]),
            ["Pod prod/x: \"$(id)\" is no container's name"]
        );
        let mut elsewhere = object("Pod", "x", None, pods("c"));
        elsewhere["metadata"]["namespace"] = json!("Prod\n");
        assert_eq!(
            left(vec![elsewhere]),
            ["Pod Prod\n/x: \"Prod\\n\" is no namespace that can stand in a command: edit it"],
            "it must not hit the current one"
        );
        let mut nameless = object("Pod", "x", None, pods("c"));
        nameless["metadata"] = json!({});
        assert_eq!(left(vec![nameless]), ["Pod default/?: it has no name: edit it"]);
    }

    #[test]
    fn a_kind_of_another_group_is_another() {
        let pods = json!({"template": {"spec": {"containers": [{"name": "c", "image": "redis"}]}}});
        let mut clone = object("StatefulSet", "x", None, pods);
        clone["apiVersion"] = json!("apps.kruise.io/v1beta1");
        assert_eq!(
            left(vec![clone]),
            ["StatefulSet prod/x: kubectl set image does not know a StatefulSet of apps.kruise.io/v1beta1: edit it"]
        );
    }

    #[test]
    fn who_makes_it_is_to_be_changed() {
        let pods = json!({"containers": [{"name": "c", "image": "redis"}]});
        let owned = |kind, name: &str| object("Pod", name, Some((kind, "n1")), pods.clone());
        assert_eq!(
            left(vec![owned("Node", "a"), owned("Node", "b"), owned("Prometheus", "c"), owned("Job", "d")]),
            [
                "Pod prod/a: Node n1 makes it: edit its manifest on the node",
                "Pod prod/c: Prometheus n1 makes it: edit that Prometheus",
                "Pod prod/d: Job n1 makes it: get that too",
            ]
        );
    }

    /// Whatever is named is set, set already, or said.
    #[test]
    fn nothing_is_passed_over_in_silence() {
        let registries = registries();
        let commands =
            |value: &Value| commands(&value.to_string(), &registries, &"m.corp:3128".parse().unwrap()).unwrap();
        let pod = object("Pod", "x", None, json!({"containers": [{"name": "c", "image": "redis"}]}));
        assert_eq!(commands(&json!([[pod]])).lines.len(), 1, "jq .items");
        let custom = json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": {"name": "p"}, "spec": {"image": "ghcr.io/a/b:1"}});
        let template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"},
            "template": {"spec": {"containers": [{"name": "c", "image": "redis"}]}}});
        let compose =
            json!({"services": {"web": {"image": "nginx"}, "new": {"image": "m.corp:3128/docker.io/library/nginx"}}});
        for (value, expected) in [
            (custom, "Prometheus default/p: ghcr.io/a/b:1: kubectl set image does not set it: edit it"),
            (template, "PodTemplate default/t: redis: kubectl set image does not set it: edit it"),
            (compose, "? default/?: nginx: kubectl set image does not set it: edit it"),
        ] {
            assert_eq!(left(vec![value]), [expected]);
        }
    }

    proptest! {
        #[test]
        fn any_json_is_read(text in "\\PC{0,40}", name in "\\PC{0,9}") {
            let (registries, prefix) = (registries(), "m.corp".parse().unwrap());
            let _ = commands(&text, &registries, &prefix);
            let commands = said(vec![object("Pod", &name, None, json!({"containers": [{"name": name.clone(), "image": "redis"}]}))]);
            prop_assert!(commands.lines.iter().all(|line| !line.contains(['$', ';', '`', '|', '&'])));
        }
    }
}
