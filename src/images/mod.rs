//! Which images do manifests, compose files and Dockerfiles name, and how would they be named at seawall's mirror?
//!
//! 1. [`read`] finds the references in a text: by the tree of YAML and JSON (`manifests` says which strings are images), or by the
//!    instructions of a Dockerfile (`dockerfile`). Each [`Reference`] knows where it stands, where it stands somewhere by itself.
//! 2. [`name`] says what a reference means; [`used`] puts equal ones together.
//! 3. [`rewrite`] puts other names in their places and leaves every other byte; `set_image` says the same as commands of kubectl.
//!
//! All of it is pure. What is in the cache, the running seawall is asked by the command line.

mod dockerfile;
mod manifests;
pub mod name;
mod owners;
pub mod rewrite;
pub mod set_image;
mod tree;
pub mod used;
mod variables;

use std::ops::Range;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of `kubectl get -o json`, or any other.
    Json,
    /// Kubernetes manifests, several documents perhaps; compose files.
    Yaml,
    /// Instructions to build an image.
    Dockerfile,
}

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Not YAML.
    #[error("line {line}: not YAML: {why}")]
    Yaml {
        /// From 1.
        line: usize,
        /// In the parser's words.
        why: String,
    },
}

/// A place that names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// As it is written, variables with defaults filled in.
    pub text: String,
    /// From 1; 0 where it is not known.
    pub line: usize,
    /// Where it can be written anew.
    pub place: Place,
    /// Whether what makes the object that names it names it, too: a Deployment, its ReplicaSet and its Pod are one use.
    pub is_repeated: bool,
}

/// Where a reference stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// These bytes of the input are it, as it is written.
    Bytes(Range<usize>),
    /// It is put together of others, or cannot be written anew: why.
    Elsewhere(&'static str),
}

/// What a text names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// In the order of the text.
    pub references: Vec<Reference>,
    /// What names an image and is not to be read: its line, the text, why.
    pub unread: Vec<(usize, String, &'static str)>,
}

/// What a text is, by its looks.
pub fn kind(text: &str) -> Kind {
    let trimmed = text.trim_start_matches('\u{feff}').trim_start();
    if let Some(rest) = trimmed.strip_prefix('{') {
        // YAML begins like that, too, and a Helm template that was not rendered.
        let is_json = rest.trim_start().starts_with(['"', '}']);
        return if is_json || rest.trim().is_empty() { Kind::Json } else { Kind::Yaml };
    }
    if trimmed.starts_with('[') && serde_json::from_str::<serde::de::IgnoredAny>(trimmed).is_ok() {
        return Kind::Json;
    }
    if dockerfile::is_one(text) { Kind::Dockerfile } else { Kind::Yaml }
}

/// Finds what a text of this kind names.
///
/// # Errors
/// It is not of this kind.
pub fn read(kind: Kind, text: &str) -> Result<Read, ReadError> {
    let nodes = match kind {
        Kind::Dockerfile => return Ok(dockerfile::read(text)),
        Kind::Yaml => tree::of_yaml(text)?,
        Kind::Json => json(text)?,
    };
    Ok(manifests::read(&nodes))
}

/// One document, or several behind each other, as `kubectl get -o json` of several kinds gives them in a pipe.
fn json(text: &str) -> Result<Vec<tree::Node>, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.map(|value| value.map(tree::of_json).map_err(|error| ReadError::Json(error.to_string()))).collect()
}
