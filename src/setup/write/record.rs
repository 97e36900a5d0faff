//! What was written below a root directory and what was there before: all that is needed to take it
//! back.
//!
//! One file for all clients, `/var/lib/seawall-setup/record.json`, 0600 in a directory of mode
//! 0700: two clients may share a file, and what was in a file before may be secret. It is not in
//! seawall's own `/var/lib/seawall`, which the proxy's user may write: who can write the record
//! decides what `--undo`, as root, puts where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::super::{Client, Content, Mode};
use super::content::{Bytes, Left, Unfit};

/// Where it is, below the root.
pub(super) const PATH: &str = "/var/lib/seawall-setup/record.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Who is set up, and how.
    pub(super) clients: BTreeMap<String, SetUp>,
    /// By their place on the client's machine.
    pub(super) files: BTreeMap<PathBuf, Entry>,
    /// Directories that were made, the outer ones first.
    pub(super) dirs: Vec<PathBuf>,
}

/// How a client was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUp {
    /// The way in which it comes.
    pub mode: Mode,
    /// What was to be run afterwards.
    pub commands: Vec<String>,
    /// What remains once its files are taken back.
    pub undo: Vec<String>,
}

/// A file that was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// What it was before, in base64; `None`: it was not there.
    original: Option<String>,
    /// What clients want of it, in the order in which they came.
    pub(super) claims: Vec<Claim>,
    /// SHA-256 of what was written. Two while a write is under way: what it was, and what it
    /// becomes.
    written: Vec<String>,
}

/// What one client wants of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    pub(super) client: String,
    pub(super) content: Content,
}

/// A file with every claim taken out of it.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) bytes: Bytes,
    pub(super) left: Left,
}

/// A file with every claim in it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) bytes: Bytes,
    pub(super) rewritten: bool,
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

impl Record {
    /// Which client is set up, and how.
    pub(super) fn mode(&self, client: Client) -> Option<Mode> {
        self.clients.get(client.as_str()).map(|set_up| set_up.mode)
    }

    /// Whether something that is written is there for `client`.
    pub(super) fn has_files(&self, client: Client) -> bool {
        self.files.values().any(|entry| entry.claim_of(client).is_some())
    }
}

impl Entry {
    /// Nothing was written yet.
    pub(super) fn of(original: Bytes) -> Entry {
        Entry { original: original.map(|bytes| BASE64.encode(&bytes)), ..Entry::default() }
    }

    pub(super) fn original(&self) -> Result<Bytes, Unfit> {
        let decode = |text: &String| BASE64.decode(text.as_bytes());
        self.original.as_ref().map(decode).transpose().map_err(|_| Unfit("its record is broken".to_owned()))
    }

    /// Whether no other program has written it since.
    pub(super) fn is_untouched(&self, current: Option<&[u8]>) -> bool {
        let is_written = current.is_some_and(|bytes| self.written.contains(&sha256(bytes)));
        is_written || self.original() == Ok(current.map(<[u8]>::to_vec))
    }

    /// What the file would be without any claim.
    pub(super) fn base(&self, current: Option<&[u8]>) -> Result<Base, Unfit> {
        let original = self.original()?;
        if self.is_untouched(current) {
            return Ok(Base { bytes: original, left: Left::default() });
        }
        let mut base = Base { bytes: current.map(<[u8]>::to_vec), left: Left::default() };
        for (index, claim) in self.claims.iter().enumerate().rev() {
            let Some(bytes) = &base.bytes else { break };
            let before = wanted(original.as_deref(), &self.claims[..index])?.bytes;
            let out = claim.content.take_out(bytes, before.as_deref(), &claim.client)?;
            base = Base { bytes: out.bytes, left: base.left.and(out.left) };
        }
        Ok(base)
    }

    /// Whether somebody else changed a file that was all ours: nothing of it can be told apart.
    pub(super) fn is_overwritten(&self, current: Option<&[u8]>) -> bool {
        let whole = self.claims.iter().any(|claim| matches!(claim.content, Content::Whole(_)));
        whole && current.is_some() && !self.is_untouched(current)
    }

    /// What `client` wants of it.
    pub(super) fn claim_of(&self, client: Client) -> Option<&Content> {
        self.claims.iter().find(|claim| claim.client == client.as_str()).map(|claim| &claim.content)
    }

    /// `content` is what `client` wants of it from now on; `None`: nothing. Of a whole file the
    /// newest wins, and of the root there is but one: an older one never comes back.
    pub(super) fn claim(&mut self, client: Client, content: Option<&Content>) {
        let place = self.claims.iter().position(|claim| claim.client == client.as_str());
        let claim = content.map(|content| Claim { client: client.as_str().to_owned(), content: content.clone() });
        match (place, claim) {
            (Some(place), Some(claim)) if !matches!(claim.content, Content::Whole(_)) => self.claims[place] = claim,
            (place, claim) => {
                place.map(|place| self.claims.remove(place));
                self.claims.extend(claim);
            }
        }
        if let Some(root) = content.filter(|content| content.is_root()) {
            self.claims
                .iter_mut()
                .filter(|claim| claim.content.is_root())
                .for_each(|claim| claim.content = root.clone());
        }
    }

    /// What is there, and what is about to be.
    pub(super) fn writing(&mut self, current: Option<&[u8]>, next: Option<&[u8]>) {
        self.written = current.into_iter().chain(next).map(sha256).collect();
    }
}

/// `original` with all `claims` in it.
pub(super) fn wanted(original: Option<&[u8]>, claims: &[Claim]) -> Result<Wanted, Unfit> {
    let mut wanted = Wanted { bytes: original.map(<[u8]>::to_vec), rewritten: false };
    for claim in claims {
        let applied = claim.content.apply(wanted.bytes.as_deref(), &claim.client)?;
        wanted = Wanted { bytes: Some(applied.bytes), rewritten: wanted.rewritten || applied.rewritten };
    }
    Ok(wanted)
}
