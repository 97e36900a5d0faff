//! Other names as commands: `kubectl set image` for what owns the pods of a cluster.
//!
//! kubectl sets the images of containers and init containers of pods, replication controllers, deployments, daemon sets, stateful
//! sets, cron jobs and replica sets. What another object owns is left to that: it would be set back. The rest is said.

use super::ReadError;
use super::rewrite::{Kept, Prefix, renamed};
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

/// The resources whose images kubectl sets, by their kind.
const SETTABLE: [(&str, &str); 7] = [
    ("Deployment", "deployment"),
    ("StatefulSet", "statefulset"),
    ("DaemonSet", "daemonset"),
    ("CronJob", "cronjob"),
    ("ReplicaSet", "replicaset"),
    ("ReplicationController", "replicationcontroller"),
    ("Pod", "pod"),
];

/// Where a kind has its pods' specification.
const SPECS: [&[&str]; 3] =
    [&["spec", "jobTemplate", "spec", "template", "spec"], &["spec", "template", "spec"], &["spec"]];

/// What sets the images of the objects in `text`, which kubectl gave as JSON.
///
/// # Errors
/// It is not JSON.
pub fn commands(text: &str, registries: &Registries, prefix: &Prefix) -> Result<Commands, ReadError> {
    let documents = super::json(text)?;
    let mut commands = Commands::default();
    let lists = documents.iter().flat_map(|document| match document.find("items") {
        Some(items) => items.items().iter().collect::<Vec<_>>(),
        None => vec![document],
    });
    let objects: Vec<_> = lists.collect();
    for object in &objects {
        commands.of(object, &objects, registries, prefix);
    }
    Ok(commands)
}

impl Commands {
    fn of(&mut self, object: &Node, all: &[&Node], registries: &Registries, prefix: &Prefix) {
        let Some(spec) = SPECS.iter().find_map(|keys| object.at(keys).filter(|spec| spec.find("containers").is_some()))
        else {
            return;
        };
        let called = called(object);
        if let Some(owner) = owner(object) {
            if !all.iter().any(|other| is(other, &owner)) {
                let why = format!("{} {} makes it: get that too", owner.0, owner.1);
                // Its other pods say no more.
                if !self.left.iter().any(|(_, known)| *known == why) {
                    self.left.push((called, why));
                }
            }
            return;
        }
        let mut set = Vec::new();
        for container in
            ["containers", "initContainers"].iter().flat_map(|key| spec.find(key).map_or(&[][..], Node::items))
        {
            let (Some(name), Some(image)) = (text(container, "name"), text(container, "image")) else { continue };
            match renamed(image, registries, prefix) {
                Ok(new) if is_plain(name) => set.push(format!("{name}={new}")),
                Ok(_) => self.left.push((called.clone(), format!("{name:?} is no container's name"))),
                Err(Kept::Already) => {}
                Err(why) => self.left.push((called.clone(), format!("{name}: {image}: {why}"))),
            }
        }
        if spec.find("volumes").map_or(&[][..], Node::items).iter().any(|volume| volume.find("image").is_some()) {
            self.left.push((called.clone(), "kubectl set image knows no image volumes: edit it".to_owned()));
        }
        if set.is_empty() {
            return;
        }
        let kind = text(object, "kind").unwrap_or_default();
        match SETTABLE.iter().find(|(known, _)| *known == kind) {
            None if kind == "Job" => {
                self.left.push((called, "the pods of a Job cannot be changed: make it anew".to_owned()));
            }
            None => self.left.push((called, format!("kubectl set image does not know a {kind}: edit it"))),
            Some((_, resource)) => self.lines.extend(command(object, resource, &set)),
        }
    }
}

fn command(object: &Node, resource: &str, set: &[String]) -> Option<String> {
    let name = object.at(&["metadata", "name"])?.text().filter(|name| is_plain(name))?;
    let namespace = object.at(&["metadata", "namespace"]).and_then(Node::text).filter(|name| is_plain(name));
    let namespace = namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    Some(format!("kubectl{namespace} set image {resource}/{name} {}", set.join(" ")))
}

/// What may stand in a command as it is: names of Kubernetes' objects (RFC 1123). An object may come from anybody.
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

/// Kind and name of what controls it. Owners are in its own namespace.
fn owner(object: &Node) -> Option<(String, String, Option<String>)> {
    let owners = object.at(&["metadata", "ownerReferences"])?.items();
    let owner = owners.iter().find(|owner| text(owner, "controller") == Some("true")).or(owners.first())?;
    let namespace = object.at(&["metadata", "namespace"]).and_then(Node::text).map(str::to_owned);
    Some((text(owner, "kind")?.to_owned(), text(owner, "name")?.to_owned(), namespace))
}

fn is(object: &Node, (kind, name, namespace): &(String, String, Option<String>)) -> bool {
    let of = |key| object.at(&["metadata", key]).and_then(Node::text);
    text(object, "kind") == Some(kind) && of("name") == Some(name) && of("namespace") == namespace.as_deref()
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
        json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name, "namespace": "prod", "ownerReferences": owners}, "spec": spec})
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
                "Job prod/once: the pods of a Job cannot be changed: make it anew",
                "Rollout prod/canary: kubectl set image does not know a Rollout: edit it",
            ]
        );
    }

    #[test]
    fn nothing_but_names_gets_into_a_command() {
        let pods = |name: &str| json!({"containers": [{"name": name, "image": "redis"}]});
        assert!(said(vec![object("Pod", "x; rm -rf /", None, pods("c"))]).lines.is_empty());
        assert!(said(vec![object("Pod", "x", None, pods("$(id)"))]).lines.is_empty());
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
