//! What a client will not accept of a plan on its machine: that is looked for before anything is
//! written.

use std::path::{Path, PathBuf};

/// The files of the client's machine while a plan is about to be written there.
pub(super) trait Files {
    /// What one says now. `None`: it is not there, or is no text.
    fn now(&self, path: &Path) -> Option<String>;
    /// What it will say; the same as now if the plan does not write it.
    fn then(&self, path: &Path) -> Option<String>;
    /// What is in a directory, by name.
    fn list(&self, dir: &Path) -> Vec<PathBuf>;
}

/// Why a plan is not written: the client would not start, or would not come to seawall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objection {
    /// The file that has to be looked at.
    pub(super) path: PathBuf,
    pub(super) why: String,
}

impl Objection {
    pub(super) fn new(path: impl Into<PathBuf>, why: impl Into<String>) -> Objection {
        Objection { path: path.into(), why: why.into() }
    }
}
