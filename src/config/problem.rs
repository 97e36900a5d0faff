//! What is wrong with a configuration, said so that it can be put right: where, which key, what,
//! and what would be valid.

use std::fmt;
use std::sync::Arc;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it is what holds if nothing is said.
    Default,
    File {
        file: Arc<str>,
        /// The line's number, from 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// A file as a whole.
    Whole(Arc<str>),
    Variable(Arc<str>),
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("configuration"),
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Whole(name) | Place::Variable(name) => f.write_str(name),
            Place::Flag(name) => f.write_str(name),
        }
    }
}

/// Something wrong at a place, before it is known which key that is.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    place: Place,
    what: String,
}

impl Fault {
    pub(super) fn at(place: Place, what: impl Into<String>) -> Fault {
        Fault { place, what: what.into() }
    }

    /// The same, of this key.
    pub(super) fn of(self, path: &str) -> Problem {
        Problem { place: self.place, path: path.to_owned(), what: self.what }
    }
}

/// One thing that is wrong. Prints as `FILE:LINE:COLUMN: KEY: WHAT`, or with the variable or flag
/// in the file's place.
#[derive(Clone, Debug)]
pub struct Problem {
    place: Place,
    path: String,
    what: String,
}

impl Problem {
    /// Sorts by where a reader of the file comes upon it; variables and flags after it.
    pub(super) fn position(&self) -> (usize, usize) {
        match self.place {
            Place::File { line, column, .. } => (line, column),
            Place::Whole(_) => (0, 0),
            Place::Default | Place::Variable(_) | Place::Flag(_) => (usize::MAX, 0),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

/// All that is wrong, in one message of a line each.
#[derive(Clone, Debug)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
}

impl ConfigError {
    /// In the order in which they were written, file first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
