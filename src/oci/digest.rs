//! A digest: the name of bytes. Grammar: OCI image-spec, descriptor.md "Digests".

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest as hash;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The hash functions whose digests seawall can verify, which are those that registries must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// SHA-512, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// `sha256` or `sha512`: what stands before the colon, and the directory below `blobs/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// The hash of some bytes, with the name of the function.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// `sha256:…`
    Sha256([u8; 32]),
    /// `sha512:…`; in a box, because it is rare and twice as long.
    Sha512(Box<[u8; 64]>),
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The function that made it.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// What stands after the colon: 64 or 128 lower-case hex digits.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.as_bytes())
    }

    /// The hash itself: 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(bytes) => bytes,
            Digest::Sha512(bytes) => bytes.as_slice(),
        }
    }

    /// Of [`Digest::as_bytes`]; nothing, if they are neither 32 nor 64.
    pub fn from_bytes(bytes: &[u8]) -> Option<Digest> {
        let long = || Some(Digest::Sha512(Box::new(bytes.try_into().ok()?)));
        bytes.try_into().ok().map(Digest::Sha256).or_else(long)
    }

    /// Of what stands after the colon.
    ///
    /// # Errors
    /// It is not as long as a hash of `algorithm`, or has other than lower-case hex digits.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Digest, DigestError> {
        match algorithm {
            Algorithm::Sha256 => decode(hex).map(Digest::Sha256),
            Algorithm::Sha512 => decode(hex).map(|bytes| Digest::Sha512(Box::new(bytes))),
        }
    }
}

/// `sha256:` and `sha512:`
const PREFIX: usize = 7;
const LONGEST: usize = PREFIX + 128;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: a text is made of it for every answer.
        let (mut room, bytes) = ([0; LONGEST], self.as_bytes());
        let text = &mut room[..PREFIX + 2 * bytes.len()];
        let (prefix, digits) = text.split_at_mut(PREFIX);
        prefix[..PREFIX - 1].copy_from_slice(self.algorithm().as_str().as_bytes());
        prefix[PREFIX - 1] = b':';
        HEXLOWER.encode_mut(bytes, digits);
        f.write_str(std::str::from_utf8(text).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no digest that seawall can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// It breaks the grammar, or that of its algorithm: a wrong length, an upper-case digit.
    #[error("not a digest (sha256: and 64 lower-case hex digits)")]
    Malformed,
    /// It is well-formed, but of an algorithm that seawall cannot verify.
    #[error("a digest of an algorithm other than sha256 and sha512")]
    Unsupported,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Malformed)?;
        match algorithm {
            "sha256" => Digest::from_hex(Algorithm::Sha256, encoded),
            "sha512" => Digest::from_hex(Algorithm::Sha512, encoded),
            _ if is_algorithm(algorithm) && is_encoded(encoded) => Err(DigestError::Unsupported),
            _ => Err(DigestError::Malformed),
        }
    }
}

fn decode<const N: usize>(encoded: &str) -> Result<[u8; N], DigestError> {
    let mut bytes = [0; N];
    if encoded.len() != 2 * N {
        return Err(DigestError::Malformed);
    }
    HEXLOWER.decode_mut(encoded.as_bytes(), &mut bytes).map_err(|_| DigestError::Malformed)?;
    Ok(bytes)
}

/// `algorithm ::= component (separator component)*`, `component ::= [a-z0-9]+`, `separator ::=
/// [+._-]`
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// `encoded ::= [a-zA-Z0-9=_-]+`
fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes as they come.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    state: hash::Context,
}

impl Hasher {
    /// No bytes yet.
    pub fn new(algorithm: Algorithm) -> Hasher {
        let function = match algorithm {
            Algorithm::Sha256 => &hash::SHA256,
            Algorithm::Sha512 => &hash::SHA512,
        };
        Hasher { algorithm, state: hash::Context::new(function) }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        let sum = self.state.finish();
        match self.algorithm {
            Algorithm::Sha256 => Digest::Sha256(sum.as_ref().try_into().expect("SHA-256 is 32 bytes long")),
            Algorithm::Sha512 => Digest::Sha512(Box::new(sum.as_ref().try_into().expect("SHA-512 is 64 bytes long"))),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_is_a_digest_and_what_is_not() {
        use DigestError::{Malformed, Unsupported};
        let hex = &EMPTY[7..];
        let long = "0".repeat(128);
        for (text, error) in [
            (EMPTY.to_owned(), None),
            (format!("sha512:{long}"), None),
            (String::new(), Some(Malformed)),
            ("sha256".into(), Some(Malformed)),
            ("sha256:".into(), Some(Malformed)),
            (":".into(), Some(Malformed)),
            (format!(":{hex}"), Some(Malformed)),
            (format!("sha256:{}", &hex[1..]), Some(Malformed)),
            (format!("sha256:{hex}0"), Some(Malformed)),
            (format!("sha256:{long}"), Some(Malformed)),
            (format!("sha512:{hex}"), Some(Malformed)),
            (format!("sha256:{}", hex.to_uppercase()), Some(Malformed)),
            (format!("SHA256:{hex}"), Some(Malformed)),
            (format!("sha256:{}g", &hex[1..]), Some(Malformed)),
            (format!("sha256:é{}", &hex[2..]), Some(Malformed)),
            (format!(" {EMPTY}"), Some(Malformed)),
            (format!("{EMPTY}\n"), Some(Malformed)),
            (format!("blake3:{hex}"), Some(Unsupported)),
            (format!("sha384:{hex}"), Some(Unsupported)),
            ("sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564=".into(), Some(Unsupported)),
            ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8".into(), Some(Unsupported)),
            ("a++b:00".into(), Some(Malformed)),
            ("blake3:".into(), Some(Malformed)),
            ("blake3:a/b".into(), Some(Malformed)),
            ("blake3:..".into(), Some(Malformed)),
        ] {
            assert_eq!(text.parse::<Digest>().err(), error, "{text}");
        }
    }

    #[test]
    fn hashes_as_the_standard_says() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
        let abc = Digest::of(Algorithm::Sha512, b"abc");
        assert_eq!(abc.algorithm(), Algorithm::Sha512);
        assert!(abc.hex().starts_with("ddaf35a193617abacc417349ae204131"), "{abc:?}");
        assert_eq!(abc.hex().len(), 128);
    }

    #[test]
    fn a_cloned_hasher_goes_its_own_way() {
        let mut one = Hasher::new(Algorithm::Sha256);
        one.update(b"a");
        let mut two = one.clone();
        two.update(b"b");
        assert_eq!(one.finish(), Digest::of(Algorithm::Sha256, b"a"));
        assert_eq!(two.finish(), Digest::of(Algorithm::Sha256, b"ab"));
    }

    #[test]
    fn is_a_string_in_json() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY}\"")).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{EMPTY}\""));
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_as_it_was(text in "(sha256|sha512|[a-z0-9+]{0,8})?:?([0-9a-f]{64}|[0-9a-f]{128}|.{0,80})") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn print_then_parse(bytes: Vec<u8>) {
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let digest = Digest::of(algorithm, &bytes);
                prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            }
        }
    }
}
