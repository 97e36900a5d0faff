//! Which object of Kubernetes makes which.

use super::tree::Node;

/// An object, as its owners are named: they are in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

fn metadata<'a>(object: &'a Node, key: &str) -> Option<&'a str> {
    object.at(&["metadata", key])?.text()
}

/// What others call it.
pub(super) fn itself(object: &Node) -> Option<Object> {
    let namespace = metadata(object, "namespace").map(str::to_owned);
    Some(Object {
        kind: object.find("kind")?.text()?.to_owned(),
        name: metadata(object, "name")?.to_owned(),
        namespace,
    })
}

/// What controls it, else its first owner.
pub(super) fn owner(object: &Node) -> Option<Object> {
    let owners = object.at(&["metadata", "ownerReferences"])?.items();
    let text = |owner: &Node, key: &str| owner.find(key).and_then(Node::text).map(str::to_owned);
    let controls = |owner: &&Node| owner.find("controller").and_then(Node::text) == Some("true");
    let owner = owners.iter().find(controls).or(owners.first())?;
    let namespace = metadata(object, "namespace").map(str::to_owned);
    Some(Object { kind: text(owner, "kind")?, name: text(owner, "name")?, namespace })
}

/// All objects in a stream: `kubectl get` of several is a List, `jq .items` a list.
pub(super) fn objects(documents: &[Node]) -> Vec<&Node> {
    let mut found = Vec::new();
    documents.iter().for_each(|document| add(document, &mut found));
    found
}

fn add<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    let items = match node {
        Node::List(items) => items.as_slice(),
        node if is_object(node) => match node.find("items") {
            Some(Node::List(items)) => items.as_slice(),
            _ => return found.push(node),
        },
        _ => return found.push(node),
    };
    items.iter().for_each(|item| add(item, found));
}

/// `apiVersion` and `kind`.
pub(super) fn is_object(node: &Node) -> bool {
    node.find("apiVersion").is_some() && node.find("kind").is_some()
}
