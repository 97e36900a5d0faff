//! `Via` (RFC 9110, 7.6.3): how seawall knows a request of its own that comes back to it.
//!
//! Not `CDN-Loop` (RFC 8586): that is for delivery networks that forward to each other, the registries' own among them, and what
//! they make of a name in it is theirs to say. `Via` is what every proxy is to write, and one of the two things it is for is loops.
//! The pseudonym is random and new with every start: it tells less of who asks than the address does.

use std::fmt;

use ::http::header::VIA;
use ::http::{HeaderMap, HeaderValue};

/// The pseudonym of one proxy.
#[derive(Clone)]
pub struct Pseudonym {
    name: String,
    field: HeaderValue,
}

impl Pseudonym {
    /// One of these random bits.
    pub fn new(random: u64) -> Pseudonym {
        let name = format!("seawall-{random:016x}");
        let field = HeaderValue::try_from(format!("1.1 {name}")).expect("a token is a field's value");
        Pseudonym { name, field }
    }

    /// Signs a request that is sent on, after those who had it before.
    pub fn sign(&self, headers: &mut HeaderMap) {
        headers.append(VIA, self.field.clone());
    }

    /// Whether a request was signed by this one before.
    pub fn has_signed(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
        // `received-protocol RWS received-by`; what is in a comment has no business to look like this.
        lines.flat_map(|line| line.split(',')).any(|hop| hop.split_ascii_whitespace().nth(1) == Some(&self.name))
    }
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
        assert_eq!(format!("{ours:?}"), "Pseudonym");
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
