//! Rows of blobs, as they are written: `records` carries them, and does not know what they mean.
//!
//! Whoever knows the blobs is a [`RowSource`]: the writer asks it for the rows that changed, or for
//! all. At start it gets what was written ([`Reading`]).

use serde::{Deserialize, Serialize};

use crate::oci::digest::Digest;

/// Some rows, and the strings they share.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch<'a> {
    /// Media types and repositories: rows name them by their position here.
    #[serde(borrow)]
    pub strings: Vec<&'a str>,
    /// The rows, a later one of a blob in the place of an earlier one.
    #[serde(borrow)]
    pub rows: Vec<Row<'a>>,
}

/// The latest facts about one blob.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Row<'a> {
    /// 32 bytes are SHA-256, 64 are SHA-512.
    pub digest: &'a [u8],
    /// `None`: the blob was removed.
    pub known: Option<BlobRow>,
}

/// What is known of a blob that is here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlobRow {
    /// Length in bytes.
    pub size: u64,
    /// Last use in seconds since 1970.
    pub used: u32,
    /// Position of its media type among the strings.
    pub media_type: Option<u32>,
    /// What upstream said of it in each repository.
    pub repositories: Vec<Held>,
}

/// What upstream said of a blob in one repository. Times are in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Position of the repository among the strings, eight times; 1 more where it is a manifest
    /// there, 2 where its bytes came from that registry, 4 where they were read there.
    pub place: u32,
    /// When upstream first named it, since 1970.
    pub since: u64,
    /// So much later for the last time.
    pub last: u64,
    /// When anonymous's latest yes was asked for, counted from then.
    pub open: Option<i64>,
    /// The same of the account's.
    pub shared: Option<i64>,
    /// The same: when upstream told anonymous that it may not have it.
    pub ended: Option<i64>,
}

/// Bytes before a batch in the log: its length and sums.
pub(super) const HEAD: u64 = 12;

/// A batch, encoded, with room for its head.
#[derive(Debug)]
pub struct EncodedBatch(Vec<u8>);

impl Batch<'_> {
    /// The batch in postcard's encoding.
    pub fn encoded(&self) -> EncodedBatch {
        let room = vec![0; HEAD as usize];
        EncodedBatch(postcard::to_extend(self, room).expect("memory is all that it takes, and has no end"))
    }
}

impl EncodedBatch {
    /// The batch as it is written, head first.
    pub(super) fn sealed(self) -> Vec<u8> {
        let mut bytes = self.0;
        let (head, body) = bytes.split_at_mut(HEAD as usize);
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let sum = crc32fast::hash(&head[..8]);
        head[8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// A batch of the rows of the next of these blobs, as many as are good to write at once.
type RowsOf = dyn Fn(&mut dyn Iterator<Item = &Digest>) -> EncodedBatch + Send + Sync;
/// A batch of rows from this position on, and the position behind it; `None` at the end.
type RowsFrom = dyn Fn(u32) -> Option<(EncodedBatch, u32)> + Send + Sync;

/// Gives rows as they are at the moment.
pub struct RowSource {
    /// The rows of some blobs.
    pub of: Box<RowsOf>,
    /// All rows, batch by batch.
    pub from: Box<RowsFrom>,
}

impl std::fmt::Debug for RowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowSource")
    }
}

/// A step of reading what was written.
#[derive(Debug)]
pub enum Reading<'a> {
    /// About so many blobs follow.
    Expect(usize),
    /// The next rows.
    Batch(&'a Batch<'a>),
    /// Everything read so far is void, for something later is wrong and may have taken it back:
    /// what is known then is to be written again ([`Journal::compact`](super::Journal::compact)).
    Void,
}

/// Takes what was written; says how many blobs are known by now.
pub(super) type ReadRows<'a> = dyn FnMut(Reading<'_>) -> usize + 'a;
