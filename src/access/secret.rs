//! What this installation alone knows: a key beside the cache.
//!
//! It signs the tokens of seawall's own making, and is in every hash of a credential that is
//! written down, so that the journal alone is of no use to whoever gets hold of it. It is not made
//! of the CA's key: that may be the operator's, may be shared by many, and is renewed; and a key is
//! for one thing. Lost, or replaced, it harms no client: tokens last two minutes, and what was
//! remembered of logins is asked for again.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use tracing::warn;
use zeroize::Zeroizing;

use crate::fs;

/// Its name in the data directory.
const FILE: &str = "secret.key";
/// Bytes.
const LENGTH: usize = 32;

/// The key, one for each use.
pub struct Secret {
    signing: hmac::Key,
    hashing: hmac::Key,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// That of the data directory, made there at the first start (mode 0600). One that cannot be
    /// read or kept is replaced for this run by another, with a line in the log. Blocks.
    pub fn load_or_create(data: &Path) -> Secret {
        let path = data.join(FILE);
        let kept = if fs::exists(&path) { read(&path) } else { create(&path) };
        kept.unwrap_or_else(|why| {
            warn!(path = %path.display(), %why, "this run has a secret of its own: what was remembered of logins is not known");
            Secret::random()
        })
    }

    /// One that no other process has, and that is not kept.
    pub fn random() -> Secret {
        Secret::of(random_bytes().as_slice())
    }

    fn of(bytes: &[u8]) -> Secret {
        let whole = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let key = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&whole, purpose).as_ref());
        Secret { signing: key(b"tokens"), hashing: key(b"credentials") }
    }

    /// Of what only this installation can have written.
    pub fn signature(&self, text: &[u8]) -> [u8; 32] {
        bytes_of(&hmac::sign(&self.signing, text))
    }

    /// Whether [`Secret::signature`] is of this text. Takes the same time whatever is wrong.
    pub fn is_signature(&self, text: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.signing, text, signature).is_ok()
    }

    /// A keyed hash of these parts: no other parts have it.
    pub fn hash(&self, parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut all = hmac::Context::with_key(&self.hashing);
        for part in parts {
            all.update(&(part.len() as u64).to_be_bytes());
            all.update(part);
        }
        Zeroizing::new(bytes_of(&all.sign()))
    }
}

fn bytes_of(tag: &hmac::Tag) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn random_bytes() -> Zeroizing<[u8; LENGTH]> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).expect("the system gives random bytes");
    bytes
}

fn create(path: &Path) -> Result<Secret, String> {
    let bytes = random_bytes();
    fs::replace(path, 0o600, bytes.as_slice()).map_err(|error| error.to_string())?;
    Ok(Secret::of(bytes.as_slice()))
}

fn read(path: &Path) -> Result<Secret, String> {
    let mode = fs::mode(path).map_err(|error| error.to_string())?;
    if mode & 0o077 != 0 {
        // Others may have read it.
        return Err(format!("its mode is {mode:o}, and should be 600: remove it, and a new one is made"));
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(|error| error.to_string())?);
    if bytes.len() != LENGTH {
        return Err(format!("it has {} bytes instead of {LENGTH}: remove it, and a new one is made", bytes.len()));
    }
    Ok(Secret::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Secret::load_or_create(dir.path());
        let path = dir.path().join(FILE);
        assert_eq!(fs::mode(&path).unwrap(), 0o600);
        let again = Secret::load_or_create(dir.path());
        let signature = first.signature(b"x");
        assert!(again.is_signature(b"x", &signature) && !again.is_signature(b"y", &signature));
        assert_eq!(first.hash(&[b"a", b"b"]), again.hash(&[b"a", b"b"]));
        assert!(!Secret::random().is_signature(b"x", &signature));
        assert_ne!(*first.hash(&[b"x"]), signature, "two keys");
    }

    #[test]
    fn the_borders_of_the_parts_count() {
        let secret = Secret::random();
        assert_ne!(secret.hash(&[b"ab", b"c"]), secret.hash(&[b"a", b"bc"]));
        assert_ne!(secret.hash(&[b"a", b""]), secret.hash(&[b"a"]));
    }

    #[test]
    fn one_that_is_broken_or_was_seen_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let first = Secret::load_or_create(dir.path());
        let bytes = fs::read(&path).unwrap();
        for (mode, bytes) in [(0o600, &bytes[..31]), (0o600, &[]), (0o644, &bytes[..])] {
            fs::replace(&path, mode, bytes).unwrap();
            let other = Secret::load_or_create(dir.path());
            assert!(!other.is_signature(b"x", &first.signature(b"x")), "{mode:o} {}", bytes.len());
            assert_eq!(fs::read(&path).unwrap(), bytes, "it is the operator's to remove");
        }
        let nowhere = Secret::load_or_create(&dir.path().join("not/there"));
        assert_eq!(format!("{nowhere:?}"), "Secret");
    }
}
