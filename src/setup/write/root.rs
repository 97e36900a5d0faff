//! The machine that is set up: a directory that holds its files.

use std::path::{Path, PathBuf};

use super::error::WriteError;
use crate::fs::{Expected, Present, Tree};

/// Bytes of a configuration file; a larger one is something else.
const LONGEST: u64 = 4 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) struct Root<'a>(pub(super) &'a Tree);

impl Root<'_> {
    /// The file at `path`, if one is there.
    pub(super) fn read(self, path: &Path) -> Result<Option<Present>, WriteError> {
        Ok(self.0.read(path, LONGEST)?)
    }

    /// Where `path` leads, if it leads elsewhere.
    pub(super) fn leads_to(self, path: &Path) -> Result<Option<PathBuf>, WriteError> {
        Ok(Some(self.0.resolve(path)?).filter(|place| place != path))
    }

    /// Makes the directories that `path` needs, and says which.
    pub(super) fn make_dirs(self, path: &Path, mode: u32) -> Result<Vec<PathBuf>, WriteError> {
        let missing = self.0.missing_dirs(path)?;
        for dir in &missing {
            self.0.make_dir(dir, mode)?;
        }
        Ok(missing)
    }

    /// Replaces a file whole, or takes it away; it must be as it was read.
    pub(super) fn put(self, path: &Path, was: Option<&Present>, becomes: Option<&[u8]>) -> Result<(), WriteError> {
        match becomes {
            Some(bytes) if was.is_none_or(|was| was.bytes != bytes) => {
                Ok(self.0.write(path, 0o644, Expected::AsRead(was), bytes)?)
            }
            None if was.is_some() => Ok(self.0.remove(path, Expected::AsRead(was))?),
            _ => Ok(()),
        }
    }
}
