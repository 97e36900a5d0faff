//! `Via` (RFC 9110, 7.6.3): how seawall knows a request of its own that comes back to it.
//!
//! Not `CDN-Loop` (RFC 8586): that is for delivery networks that forward to each other, the
//! registries' own among them, and what they make of a name in it is theirs to say. `Via` is what
//! every proxy is to write, and one of the two things it is for is loops. The pseudonym is random
//! and new with every start: it tells less of who asks than the address does.

use std::fmt;

use ::http::header::VIA;
use ::http::{HeaderMap, HeaderValue};

const PREFIX: &str = "seawall-";

/// The pseudonym of one proxy.
#[derive(Clone)]
pub struct Pseudonym {
    name: String,
    field: HeaderValue,
}

impl Pseudonym {
    /// One of these random bits.
    pub fn new(random: u64) -> Pseudonym {
        let name = format!("{PREFIX}{random:016x}");
        let field = HeaderValue::try_from(format!("1.1 {name}")).expect("a token is a field's value");
        Pseudonym { name, field }
    }

    /// One that cannot be guessed.
    ///
    /// # Panics
    /// The system has no random numbers.
    pub fn random() -> Pseudonym {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
        Pseudonym::new(u64::from_ne_bytes(bytes))
    }

    /// Signs a message that is sent on, after those who had it before.
    pub fn sign(&self, headers: &mut HeaderMap) {
        headers.append(VIA, self.field.clone());
    }

    /// Whether a message was signed by this one before.
    pub fn has_signed(&self, headers: &HeaderMap) -> bool {
        hops(headers).any(|by| by == self.name.as_bytes())
    }
}

/// Who passed a message on. Bytes: a comment may hold what is no ASCII (RFC 9110, 5.6.5).
fn hops(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let hops = headers.get_all(VIA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    // `received-protocol RWS received-by`; what is in a comment has no business to look like this.
    hops.filter_map(|hop| hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1))
}

/// Seawalls in a row that anybody has; more are no chain.
const MOST_HOPS: usize = 8;

/// The first seawalls that had a request, in our own words: what else a client writes there is not
/// for a registry. `None`, and nothing is made, where there is none.
pub fn seawalls(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut line = String::new();
    for by in hops(headers).filter(|by| is_pseudonym(by)).take(MOST_HOPS) {
        line.push_str(if line.is_empty() { "1.1 " } else { ", 1.1 " });
        line.extend(by.iter().copied().map(char::from));
    }
    if line.is_empty() { None } else { HeaderValue::try_from(line).ok() }
}

fn is_pseudonym(by: &[u8]) -> bool {
    by.strip_prefix(PREFIX.as_bytes())
        .is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit))
}

impl fmt::Debug for Pseudonym {
    /// Without the name: whoever knows it could have requests refused.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonym")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn its_own_signature_is_known_among_others() {
        let (ours, other) = (Pseudonym::new(1), Pseudonym::new(2));
        let mut headers = HeaderMap::new();
        assert!(!ours.has_signed(&headers));
        headers.append(VIA, HeaderValue::from_static("1.0 fred, 1.1 p.example.net (Apache/1.1)"));
        other.sign(&mut headers);
        assert!(!ours.has_signed(&headers));
        ours.sign(&mut headers);
        assert!(ours.has_signed(&headers) && other.has_signed(&headers));
        assert_eq!(headers.get_all(VIA).iter().count(), 3);
        let joined = HeaderValue::from_static("1.0 fred,HTTP/1.1  seawall-0000000000000001 (x) ,1.1 b");
        headers.insert(VIA, joined);
        assert!(ours.has_signed(&headers) && !other.has_signed(&headers));
        headers.insert(VIA, HeaderValue::from_static("1.1 seawall-00000000000000011"));
        assert!(!ours.has_signed(&headers));
        headers.insert(VIA, HeaderValue::from_bytes(b"1.0 fred (caf\xe9), 1.1 seawall-0000000000000001").unwrap());
        assert!(ours.has_signed(&headers), "whatever a comment holds");
        assert_eq!(format!("{ours:?}"), "Pseudonym");
    }

    #[test]
    fn of_what_was_before_seawalls_alone_are_told_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(seawalls(&headers), None);
        headers.append(
            VIA,
            HeaderValue::from_static("1.0 fred, 1.1 seawall-x, 1.1 seawall-00000000000000001 (seawall-1)"),
        );
        assert_eq!(seawalls(&headers), None);
        Pseudonym::new(1).sign(&mut headers);
        headers.append(VIA, HeaderValue::from_static("1.1 evil,HTTP/2 seawall-000000000000000a (x)"));
        assert_eq!(seawalls(&headers).unwrap(), "1.1 seawall-0000000000000001, 1.1 seawall-000000000000000a");
        (0..100).for_each(|n| Pseudonym::new(n).sign(&mut headers));
        assert_eq!(seawalls(&headers).unwrap().as_bytes().split(|b| *b == b',').count(), MOST_HOPS);
    }

    proptest! {
        #[test]
        fn any_field_is_read(text: String, random: u64) {
            if let Ok(value) = HeaderValue::try_from(&text) {
                let ours = Pseudonym::new(random);
                let mut headers = HeaderMap::new();
                headers.insert(VIA, value);
                prop_assert!(!ours.has_signed(&headers) || text.contains("seawall-"));
                ours.sign(&mut headers);
                prop_assert!(ours.has_signed(&headers));
            }
        }
    }
}
