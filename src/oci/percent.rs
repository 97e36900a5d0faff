//! Percent-encoding (RFC 3986, 2.1).

use std::borrow::Cow;

/// Undoes percent-encoding, once. A `%` without two hex digits stays; bytes that are no text become
/// U+FFFD.
pub fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16)).map(|d| d as u8);
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.push(high << 4 | low);
                at += 3;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&plain).into_owned())
}

/// Encodes all but the unreserved characters, so that the text can stand anywhere in a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn examples() {
        assert_eq!(decoded("a%2Fb%2f%%4%zz%C3%A9%ff"), "a/b/%%4%zzé\u{fffd}");
        assert_eq!(encoded("repository:a/b:pull é"), "repository%3Aa%2Fb%3Apull%20%C3%A9");
    }

    proptest! {
        #[test]
        fn encode_then_decode(text: String) {
            let printed = encoded(&text);
            prop_assert_eq!(decoded(&printed), text);
        }

        #[test]
        fn any_text(text in "(%[0-9a-f]{0,2}|.){0,20}") {
            decoded(&text);
        }
    }
}
