//! What was learnt and outlives the process: tables, and rows of blobs. One thread writes them;
//! they are read once, at start.
//!
//! Nothing here is needed to serve: the files are the truth. `records` carries rows and does not
//! know what they mean; what is in them is said where they are made (`access/known.rs`).

mod backlog;
mod journal;
mod local;
mod log;
mod rows;
mod tables;

pub use journal::Journal;
pub use rows::{Batch, BlobRow, EncodedBatch, Held, Reading, Row, RowSource};
pub use tables::{Records, Table, seconds, time};
