//! What is found in a text: references, where each of them stands, and what could not be read.

use std::ops::Range;

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Not YAML.
    #[error("line {line}: not YAML: {why}")]
    Yaml {
        /// The line's number, from 1.
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
    /// Where it can be rewritten.
    pub place: Place,
    /// Whether what makes the object that names it names it, too: a Deployment, its ReplicaSet and
    /// its Pod are one use.
    pub is_repeated: bool,
}

/// Where a reference stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// These bytes of the input are it, as it is written.
    Bytes(Range<usize>),
    /// It is put together of others, or cannot be rewritten: why.
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
