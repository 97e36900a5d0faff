//! Which strings of a manifest are images.
//!
//! - `image` beside a `name`, in a list: containers, init containers, ephemeral containers, whatever kind holds them;
//! - `image.reference` in a list: image volumes (Kubernetes 1.31);
//! - any other `image` of an object with `apiVersion` and `kind` that has a registry, a tag or a digest: custom resources;
//! - in a compose file, every `image`.
//!
//! `status` is what was, `data` is a text: neither is looked into. What a compose file builds is not pulled.

use super::tree::{Node, Scalar, Shape};
use super::{Place, Read, Reference};
use crate::images::name::Name;

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Document {
    Object,
    Compose,
    Other,
}

/// What stands around a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Table,
    List,
}

pub(super) fn read(documents: &[Node]) -> Read {
    let mut read = Read::default();
    documents.iter().for_each(|document| of_document(document, &mut read));
    read
}

fn of_document(document: &Node, read: &mut Read) {
    // `kubectl get` of several: { kind: List, items: […] }
    if let (true, Some(items)) = (is_object(document), document.find("items")) {
        return items.items().iter().for_each(|item| of_document(item, read));
    }
    if let Node::List(items) = document {
        return items.iter().for_each(|item| of_document(item, read));
    }
    let kind = if is_object(document) {
        Document::Object
    } else if matches!(document.find("services"), Some(Node::Table(_))) {
        Document::Compose
    } else {
        Document::Other
    };
    walk(document, kind, Around::Table, read);
}

fn is_object(node: &Node) -> bool {
    node.find("apiVersion").is_some() && node.find("kind").is_some()
}

fn walk(node: &Node, kind: Document, around: Around, read: &mut Read) {
    match node {
        Node::Scalar(_) => {}
        Node::List(items) => items.iter().for_each(|item| walk(item, kind, Around::List, read)),
        Node::Table(entries) => {
            let is_top = kind == Document::Object && is_object(node);
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("status" | "metadata" | "data" | "stringData" | "binaryData", _) if is_top => {}
                    ("annotations" | "labels", _) if kind == Document::Object => {}
                    ("image", Node::Scalar(scalar)) if kind == Document::Compose && node.find("build").is_some() => {
                        read.unread.push((scalar.line, scalar.value.clone(), "it is built here"));
                    }
                    ("image", Node::Scalar(scalar)) => {
                        if is_image(node, scalar, kind, around) {
                            add(scalar, read);
                        }
                    }
                    ("image", Node::Table(_)) if around == Around::List && is_volume(value) => {
                        if let Some(Node::Scalar(scalar)) = value.find("reference") {
                            add(scalar, read);
                        }
                    }
                    _ => walk(value, kind, Around::Table, read),
                }
            }
        }
    }
}

/// `{ reference: …, pullPolicy: … }`
fn is_volume(image: &Node) -> bool {
    matches!(image.find("reference"), Some(Node::Scalar(_)))
}

fn is_image(beside: &Node, scalar: &Scalar, kind: Document, around: Around) -> bool {
    let is_container = around == Around::List && beside.find("name").is_some();
    let is_full = || scalar.value.contains(['/', ':', '@']) && Name::read(scalar.value.trim()).is_ok();
    match kind {
        Document::Compose => true,
        Document::Object => is_container || is_full(),
        Document::Other => is_container,
    }
}

fn add(scalar: &Scalar, read: &mut Read) {
    let text = scalar.value.trim();
    if text.is_empty() || text == "null" || text == "~" {
        return;
    }
    let place = match (&scalar.at, scalar.shape) {
        (Some(at), _) => Place::Bytes(at.clone()),
        (None, Shape::Alias) => Place::Elsewhere("an alias: it is written where its anchor is"),
        (None, Shape::Folded) => Place::Elsewhere("written over several lines or with escapes"),
        (None, Shape::Plain | Shape::Quoted) => Place::Elsewhere("of JSON"),
    };
    if text.contains('$') {
        match filled(text) {
            // The variable may be anywhere: only the literal start of a name can be written anew.
            Some(filled) => read.references.push(Reference { text: filled, line: scalar.line, place }),
            None => read.unread.push((scalar.line, text.to_owned(), "it has a variable without a default")),
        }
        return;
    }
    if text.contains("{{") {
        return read.unread.push((scalar.line, text.to_owned(), "it is a template: render it first"));
    }
    match Name::read(text) {
        Ok(_) => read.references.push(Reference { text: text.to_owned(), line: scalar.line, place }),
        Err(_) => read.unread.push((scalar.line, text.to_owned(), "it is not the name of an image")),
    }
}

/// A compose file's `${NAME:-default}` and `${NAME-default}` with their defaults. `None`: there is one without.
fn filled(text: &str) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, variable)) = rest.split_once("${") {
        let (variable, after) = variable.split_once('}')?;
        let (_, default) = variable.split_once('-')?;
        filled.push_str(before);
        filled.push_str(default);
        rest = after;
    }
    filled.push_str(rest);
    (!filled.contains('$') && Name::read(&filled).is_ok()).then_some(filled)
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

    #[test]
    fn a_template_that_was_not_rendered_is_said() {
        let text = "containers:\n- name: x\n  image: \"{{ .Values.image }}\"\n";
        assert_eq!(found(text), ["!3 {{ .Values.image }}"]);
    }
}
