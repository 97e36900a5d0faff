//! The files of a root, and errors that say who may not read them.

use std::path::{Path, PathBuf};

use super::CaError;
use crate::fs;

/// The certificate's and the key's.
pub(super) fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ca.crt"), dir.join("ca.key"))
}

/// Makes a file whole or not at all: half a root is an error that only a person can mend.
pub(super) fn create(path: &Path, owner: fs::Owner, mode: u32, bytes: &[u8]) -> Result<(), CaError> {
    fs::create_new(path, mode, bytes).and_then(|()| fs::give(path, owner)).map_err(|error| {
        if error.kind() != std::io::ErrorKind::AlreadyExists {
            drop(fs::remove(path));
        }
        error.into()
    })
}

pub(super) fn is_there(path: &Path) -> Result<bool, CaError> {
    fs::is_there(path).map_err(CaError::of_file)
}

pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CaError> {
    fs::read(path).map_err(CaError::of_file)
}
