//! What a fill tells who follows it.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::http::warnings::Warnings;
use crate::oci::digest::Digest;
use crate::oci::name::RepositoryKey;
use crate::policy::extents::Extents;
use crate::store::BlobFile;

/// How far a fill is.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Upstream has not answered yet.
    Opening,
    /// These may be read. Nothing is verified yet: the last byte is for nobody who asked for all.
    Flowing {
        /// Which.
        here: Extents,
    },
    /// No more comes: all that was wanted of it is here.
    Left {
        /// Which bytes.
        here: Extents,
    },
    /// All may be read: they are those of the digest.
    Verified {
        /// Bytes.
        size: u64,
    },
    /// It came to nothing.
    Failed(Error),
}

/// What upstream said of the whole before its bytes.
#[derive(Clone, Debug)]
pub struct Head {
    /// The file that grows.
    pub file: BlobFile,
    /// Length of the whole, where upstream said it.
    pub total: Option<u64>,
    /// As upstream named it.
    pub media_type: Arc<str>,
    /// What upstream warned of.
    pub warnings: Warnings,
    /// Whether it says that it is packed.
    pub is_packed: bool,
    /// Whether it may come in several segments at once: then nobody waits for what is far.
    pub has_segments: bool,
}

/// A blob on its way, for people.
#[derive(Clone, Debug)]
pub struct Coming {
    /// What it will be.
    pub digest: Digest,
    /// In which repository it was asked for first.
    pub key: RepositoryKey,
    /// Bytes that are here.
    pub bytes: u64,
    /// Length of the whole, where upstream said it.
    pub total: Option<u64>,
    /// When it was asked for.
    pub since: SystemTime,
    /// Who reads it, or waits for it.
    pub readers: usize,
}
