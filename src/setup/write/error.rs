//! Why nothing, or not everything, was written.

use std::path::{Path, PathBuf};

use super::super::Client;
use crate::fs::FsError;

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Somebody has to look at it first.
    #[error("{path}: {why}; nothing was written: mend it or move it away, then do this again")]
    Unfit {
        /// On the client's machine.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What is to be written has a blank in it.
    #[error("{0} needs seawall's IP address: give --address IP:PORT; nothing was written")]
    Address(Client),
    /// There is no record of it.
    #[error("{client} was not set up by `seawall setup {client} --write` below {root}: there is nothing to undo")]
    NotSetUp {
        /// The client that was to be undone.
        client: Client,
        /// The directory that was given as root.
        root: PathBuf,
    },
}

impl WriteError {
    pub(super) fn unfit(path: &Path, why: impl Into<String>) -> WriteError {
        WriteError::Unfit { path: path.to_owned(), why: why.into() }
    }
}
