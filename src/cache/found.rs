//! What a pull found.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};

use super::reader::Source;
use super::through::VerifyingBody;
use crate::http::cache_status::Outcome;
use crate::http::warnings::Warnings;
use crate::oci::digest::Digest;
use crate::oci::media_type::{OCTET_STREAM, essence};
use crate::policy::freshness::Reason;
use crate::upstream::Transfer;

/// What a pull found.
#[derive(Debug)]
pub struct Found {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The media type of the bytes.
    pub media_type: Arc<str>,
    /// The bytes, or where they come from.
    pub content: Content,
    /// How they were found.
    pub outcome: Outcome,
    /// Of a tag: since upstream last confirmed it.
    pub age: Option<Duration>,
    /// Why upstream did not confirm it.
    pub stale: Option<Stale>,
    /// What upstream warned of.
    pub warnings: Warnings,
}

/// What there is to send.
#[derive(Debug)]
pub enum Content {
    /// All of it, in memory.
    Memory(Bytes),
    /// A file, whole or growing, and its length if that is known.
    File(Source, Option<u64>),
    /// From upstream, verified on the way, and its length if that is known.
    Through(Box<VerifyingBody>, Option<u64>),
    /// A part that upstream was asked for, as it answered.
    Part(Response<Transfer>),
    /// Nothing: only its length was asked for.
    Sized(u64),
    /// The same, as upstream said it without saying of which digest.
    Unproved(u64),
}

/// Why something is served although upstream did not confirm it now.
#[derive(Clone, Debug)]
pub struct Stale {
    /// The kind of the failure.
    pub reason: Reason,
    /// What went wrong, for the client to read.
    pub message: String,
}

impl Found {
    /// What has no age and no excuse.
    pub(super) fn new(digest: Digest, media_type: Arc<str>, content: Content, outcome: Outcome) -> Found {
        Found { digest, media_type, content, outcome, age: None, stale: None, warnings: Warnings::default() }
    }

    /// What went past the cache.
    pub(super) fn passed(digest: Digest, media_type: String, content: Content) -> Found {
        Found::new(digest, or_octets(&media_type), content, Outcome::Bypass)
    }
}

/// A media type, where there is one.
pub(super) fn or_octets(media_type: &str) -> Arc<str> {
    if media_type.is_empty() { OCTET_STREAM.into() } else { media_type.into() }
}

/// The media type that an answer names, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    essence(value.unwrap_or_default()).to_owned()
}
