//! Reads a text of any kind: what it is, and what it names.

use super::reference::{Read, ReadError};
use super::{dockerfile, manifests, tree};

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

/// One document, or several behind each other, as `kubectl get -o json` of several kinds gives them
/// in a pipe.
pub(super) fn json(text: &str) -> Result<Vec<tree::Node>, ReadError> {
    let text = text.trim_start_matches('\u{feff}');
    let values = serde_json::Deserializer::from_str(text).into_iter();
    values.map(|value| value.map(tree::of_json).map_err(|error| ReadError::Json(error.to_string()))).collect()
}
