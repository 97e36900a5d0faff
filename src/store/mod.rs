//! The bytes on this disk: files, partial files, open files, and the index of them. No other module
//! sees a `File`.

mod blob_file;
pub mod blobs;
mod entries;
mod files;
pub mod index;
pub mod open_files;
mod partial;
pub mod slab;
pub mod verification;

pub use blob_file::BlobFile;
pub use files::{Aside, Blob, Listed, Store, is_missing};
pub use partial::Partial;
