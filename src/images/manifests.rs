//! Which strings of a manifest are images.
//!
//! - `image` beside a `name`, in a list: containers, init containers, ephemeral containers,
//!   whatever kind holds them;
//! - `image` of `container`, `script` and `stepTemplate`: Argo's and Tekton's;
//! - `image.reference` in a list: image volumes (Kubernetes 1.31);
//! - any other `image` of an object with `apiVersion` and `kind` that has a registry, a tag or a
//!   digest: custom resources;
//! - in a compose file, `image` of services and of `x-…`, and the source of volumes that are
//!   images.
//!
//! `status` is what was, `data` is a text: neither is looked into. What a compose file builds is
//! not pulled.

use std::collections::{HashMap, HashSet};

use super::name::Name;
use super::owners::{Object, is_object, itself, objects, owner};
use super::reference::{Place, Read, Reference};
use super::tree::{Node, Scalar, Shape};
use super::variables::filled;

/// What stands around a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around<'a> {
    /// This key.
    Key(&'a str),
    List,
}

pub(super) fn read(documents: &[Node]) -> Read {
    let mut read = Read::default();
    // What each object names, which what it makes names again.
    let mut named: HashMap<Object, HashSet<String>> = HashMap::new();
    let mut ranges = Vec::new();
    for object in objects(documents) {
        let begin = read.references.len();
        of_document(object, &mut read);
        if let Some(itself) = itself(object) {
            let texts = read.references[begin..].iter().map(|reference| reference.text.clone());
            named.entry(itself).or_default().extend(texts);
        }
        if let Some(owner) = owner(object) {
            ranges.push((owner, begin..read.references.len()));
        }
    }
    for (owner, range) in ranges {
        let Some(texts) = named.get(&owner) else { continue };
        read.references[range].iter_mut().for_each(|reference| reference.is_repeated = texts.contains(&reference.text));
    }
    read
}

/// One document, or one object of a list.
pub(super) fn of_document(document: &Node, read: &mut Read) {
    match document {
        _ if is_object(document) => walk(document, true, Around::Key(""), read),
        Node::Table(entries) if is_compose(entries) => {
            entries.iter().for_each(|(key, node)| of_compose(key, node, read))
        }
        _ => walk(document, false, Around::Key(""), read),
    }
}

fn walk(node: &Node, in_object: bool, around: Around<'_>, read: &mut Read) {
    match node {
        Node::Scalar(_) => {}
        Node::List(items) => items.iter().for_each(|item| walk(item, in_object, Around::List, read)),
        Node::Table(entries) => {
            let is_top = in_object && is_object(node);
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("status" | "metadata" | "data" | "stringData" | "binaryData", _) if is_top => {}
                    ("annotations" | "labels", _) if in_object => {}
                    ("image", Node::Scalar(scalar)) => of_table(node, scalar, in_object, around, read),
                    ("image", Node::Table(_)) if around == Around::List && is_volume(value) => {
                        if let Some(Node::Scalar(scalar)) = value.find("reference") {
                            add(scalar, read);
                        }
                    }
                    _ => walk(value, in_object, Around::Key(key), read),
                }
            }
        }
    }
}

/// `{ reference: …, pullPolicy: … }`
fn is_volume(image: &Node) -> bool {
    matches!(image.find("reference"), Some(Node::Scalar(_)))
}

/// An `image` of a table: of a container, or of what only its names tell.
fn of_table(table: &Node, image: &Scalar, in_object: bool, around: Around<'_>, read: &mut Read) {
    let is_container = match around {
        Around::List => table.find("name").is_some(),
        Around::Key(key) => in_object && ["container", "script", "stepTemplate"].contains(&key),
    };
    let text = image.value.trim();
    let is_full = || text.contains(['/', ':', '@']) && Name::read(text).is_ok();
    if is_container || (in_object && is_full()) {
        add(image, read);
    } else if in_object && around == Around::List && Name::read(text).is_ok() {
        read.unread.push((image.line, text.to_owned(), "it may be something else: nothing beside it is called name"));
    }
}

/// Keys that a compose file has beside its services (compose-spec, 00-overview), and no other.
const COMPOSE: [&str; 8] = ["name", "version", "services", "networks", "volumes", "configs", "secrets", "include"];

fn is_compose(entries: &[(String, Node)]) -> bool {
    let is_known = |key: &str| COMPOSE.contains(&key) || key == "models" || key.starts_with("x-");
    let services = entries.iter().find(|(key, _)| key == "services").map(|(_, services)| services);
    let Some(Node::Table(services)) = services else { return false };
    // An alias of one is a scalar here.
    let are_services = services.iter().all(|(_, service)| !matches!(service, Node::List(_)));
    are_services && entries.iter().all(|(key, _)| is_known(key))
}

/// What stands at the top of a compose file.
fn of_compose(key: &str, node: &Node, read: &mut Read) {
    if key.starts_with("x-") {
        return of_service(node, read);
    }
    if let ("services", Node::Table(services)) = (key, node) {
        services.iter().for_each(|(_, service)| of_service(service, read));
    }
}

fn of_service(service: &Node, read: &mut Read) {
    match service.find("image") {
        Some(Node::Scalar(image)) if service.find("build").is_some() => {
            read.unread.push((image.line, image.value.clone(), "it is built here"));
        }
        Some(Node::Scalar(image)) => add(image, read),
        _ => {}
    }
    for volume in service.find("volumes").map_or(&[][..], Node::items) {
        if let (Some("image"), Some(Node::Scalar(source))) =
            (volume.find("type").and_then(Node::text), volume.find("source"))
        {
            add(source, read);
        }
    }
}

fn add(scalar: &Scalar, read: &mut Read) {
    let text = scalar.value.trim();
    if text.is_empty() || text == "null" || text == "~" {
        return;
    }
    if text.contains("{{") {
        return read.unread.push((scalar.line, text.to_owned(), "it is a template: render it first"));
    }
    // A variable may be anywhere: only the literal start of a name can be rewritten.
    let Some(filled) = filled(text, |_| None) else {
        return read.unread.push((scalar.line, text.to_owned(), "it has a variable without a default"));
    };
    if Name::read(&filled).is_err() {
        return read.unread.push((scalar.line, text.to_owned(), "it is not the name of an image"));
    }
    read.references.push(Reference { text: filled, line: scalar.line, place: place(scalar), is_repeated: false });
}

fn place(scalar: &Scalar) -> Place {
    match (&scalar.at, scalar.shape) {
        (Some(at), _) => Place::Bytes(at.clone()),
        (None, Shape::Alias) => Place::Elsewhere("an alias: it is written where its anchor is"),
        (None, Shape::Folded) => Place::Elsewhere("written over several lines or with escapes"),
        (None, Shape::Plain | Shape::Quoted) => Place::Elsewhere("of JSON"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, read};

    fn found(text: &str) -> Vec<String> {
        let read = read(super::super::kind(text), text).unwrap();
        let unread = read.unread.into_iter().map(|(line, text, _)| format!("!{line} {text}"));
        read.references.into_iter().map(|reference| reference.text).chain(unread).collect()
    }

    #[test]
    fn containers_of_every_kind() {
        let text = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {image: not/this:1x/}}
spec:
  template:
    metadata: {annotations: {image: not/this:3}}
    spec:
      initContainers:
      - {name: init, image: busybox}
      containers:
      - name: app
        image: 'nginx:1.27'
      ephemeralContainers:
      - image: nicolaka/netshoot # debug
        name: debug
      volumes:
      - name: models
        image: {reference: quay.io/acme/models:1, pullPolicy: Always}
      - name: cfg
        configMap: {name: image}
status: {containerStatuses: [{name: app, image: docker.io/library/nginx:1.27}]}
---
apiVersion: batch/v1
kind: CronJob
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: x, image: job}]}}}}}
---
apiVersion: v1
kind: ConfigMap
data: {image: not/this:2}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
spec: {image: quay.io/prometheus/prometheus:v3, logo: {image: logo.png}}
---
# Source: empty.yaml
---
";
        let expected = [
            "busybox",
            "nginx:1.27",
            "nicolaka/netshoot",
            "quay.io/acme/models:1",
            "job",
            "quay.io/prometheus/prometheus:v3",
        ];
        assert_eq!(found(text), expected);
    }

    #[test]
    fn what_kubectl_gives() {
        let pod = r#"{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"a:1","name":"x"}]},"status":{"containerStatuses":[{"name":"x","image":"docker.io/library/a:1"}]}}"#;
        let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{pod},{pod}]}}"#);
        assert_eq!(found(&list), ["a:1", "a:1"]);
        assert_eq!(found(&format!("{list}\n{pod}")), ["a:1", "a:1", "a:1"]);
        assert_eq!(super::super::kind(&list), Kind::Json);
        assert!(read(Kind::Json, "{").is_err());
    }

    #[test]
    fn compose_files() {
        let text = "\
x-app: &app
  image: ghcr.io/acme/app:1
services:
  web: {<<: *app}
  db: {image: \"postgres:${PG:-17}\"}
  cache: {image: redis}
  own: {build: ., image: mine}
  odd: {image: \"${REGISTRY}/app\"}
  worse: {image: \"a b\"}
";
        assert_eq!(
            found(text),
            ["ghcr.io/acme/app:1", "postgres:17", "redis", "!7 mine", "!8 ${REGISTRY}/app", "!9 a b"]
        );
    }

    /// Only where the specification has an image, and only where it is a compose file.
    #[test]
    fn what_only_looks_like_an_image_of_a_compose_file() {
        let text = "\
x-app: {image: a, logging: {image: not/this:1}}
services:
  web:
    image: b
    environment: {image: not/this:2}
    labels: {image: not/this:3}
    build: &none
    volumes: [{type: image, source: c:1, target: /x}, {type: bind, source: ./c}, d:/d]
  own:
    build: {args: {image: not/this:4}}
    secrets: [{source: s, image: not/this:5}]
secrets: {image: {file: x}}
configs: {x: {image: not/this:6}}
";
        assert_eq!(found(text), ["a", "c:1", "!4 b"]);
        assert!(found("services: {web: {image: x}}\njobs: {}\n").is_empty(), "some other table of services");
        assert!(found("services: [{image: x}]\n").is_empty());
        assert_eq!(found("services: {web: {image: x}}\nx-y: 1\nname: z\n"), ["x"]);
    }

    #[test]
    fn variables_that_only_look_filled() {
        let text = "services:\n  a: {image: \"${A:?no-image}\"}\n  b: {image: \"${B:+x-y}\"}\n  c: {image: \"x:${C-1}\"}\n  d: {image: \"$D\"}\n";
        assert_eq!(found(text), ["x:1", "!2 ${A:?no-image}", "!3 ${B:+x-y}", "!5 $D"]);
    }

    #[test]
    fn containers_without_a_name() {
        let text = "\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec:
  templates:
  - {name: a, container: {image: alpine}}
  - {name: b, script: {image: python, source: x}}
  - {steps: [{image: busybox}]}
---
{apiVersion: tekton.dev/v1, kind: Task, spec: {stepTemplate: {image: ubuntu}, steps: [{image: 'git:1'}]}}
";
        assert_eq!(found(text), ["alpine", "python", "ubuntu", "git:1", "!7 busybox"]);
    }

    /// A Deployment, its ReplicaSet and its Pod are one use; what was put into the Pod is one more.
    #[test]
    fn what_an_owner_names_too_is_repeated() {
        let object = |kind: &str, owner: &str, images: &str| {
            format!(
                "{{apiVersion: v1, kind: {kind}, metadata: {{name: x, namespace: y, ownerReferences: [{owner}]}}, spec: {{containers: [{images}]}}}}"
            )
        };
        let items = [
            object("Pod", "{kind: ReplicaSet, name: x}", "{name: a, image: a}, {name: proxy, image: b}"),
            object("Pod", "{kind: ReplicaSet, name: other}", "{name: a, image: a}"),
            object("ReplicaSet", "{kind: Deployment, name: x}", "{name: a, image: a}"),
            object("Deployment", "", "{name: a, image: a}"),
        ];
        let text = format!("apiVersion: v1\nkind: List\nitems: [{}]\n", items.join(", "));
        let read = read(Kind::Yaml, &text).unwrap();
        let said: Vec<_> = read.references.iter().map(|r| (r.text.as_str(), r.is_repeated)).collect();
        assert_eq!(said, [("a", true), ("b", false), ("a", false), ("a", true), ("a", false)]);
    }

    #[test]
    fn flow_yaml_is_no_json_and_a_mark_is_nothing() {
        assert_eq!(found("{services: {web: {image: x}}}"), ["x"]);
        assert_eq!(found("{\"services\": {\"web\": {\"image\": \"x\"}}}"), ["x"]);
        assert_eq!(found("\u{feff}services:\n  web: {image: x}\n"), ["x"]);
    }

    #[test]
    fn a_template_that_was_not_rendered_is_said() {
        let text = "containers:\n- name: x\n  image: \"{{ .Values.image }}\"\n";
        assert_eq!(found(text), ["!3 {{ .Values.image }}"]);
    }
}
