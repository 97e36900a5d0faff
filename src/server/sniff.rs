//! What the first bytes of a connection are, and what a ClientHello says.
//!
//! Pure: bytes in, words out. The caller keeps the bytes, since it may have to play them back.

use std::fmt;

use rustls::server::{Accepted, Acceptor};

use crate::http::origin::Host;

/// What the bytes read so far are the start of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// Too few bytes to tell.
    More,
    /// A TLS record of a handshake (RFC 8446 5.1).
    Tls,
    /// A request line (RFC 9112 3).
    Http,
    /// No protocol that is spoken here.
    Garbage,
}

/// No method is longer: `MKREDIRECTREF` and `UPDATEREDIRECTREF` lead the IANA registry.
const LONGEST_METHOD: usize = 24;

/// Tells the protocols apart.
pub fn sniff(bytes: &[u8]) -> Sniff {
    match bytes {
        [] => Sniff::More,
        [0x16] | [0x16, 3] => Sniff::More,
        [0x16, 3, 0..=4, ..] => Sniff::Tls,
        [0x16, ..] => Sniff::Garbage,
        _ => sniff_method(bytes),
    }
}

/// One empty line ahead of the request line is ignored (RFC 9112 2.2).
fn sniff_method(bytes: &[u8]) -> Sniff {
    let line = match bytes {
        [b'\r'] => return Sniff::More,
        [b'\r', b'\n', line @ ..] => line,
        line => line,
    };
    let method = line.iter().take_while(|byte| is_method_byte(**byte)).count();
    match line.get(method) {
        _ if method > LONGEST_METHOD => Sniff::Garbage,
        None => Sniff::More,
        // h2 without TLS (RFC 9113 3.4, 11.6: no request has this method). hyper would wait for
        // more of it.
        Some(b' ') if line.starts_with(b"PRI ") => Sniff::Garbage,
        Some(b' ') if method > 0 => Sniff::Http,
        Some(_) => Sniff::Garbage,
    }
}

/// RFC 9110 9.1 allows more; every registered method is made of these.
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

/// A ClientHello is not longer than this, key shares of post-quantum groups and long tickets
/// included.
pub const MAX_HELLO: usize = 32 << 10;

/// Reads a ClientHello that comes in pieces: it may span records and segments.
pub struct HelloReader {
    acceptor: Acceptor,
    fed: usize,
}

/// A complete ClientHello.
pub struct Hello {
    /// The host it names; `None` if it has no name, or an address (RFC 6066 3 forbids that; it is
    /// ignored).
    pub sni: Option<Host>,
    /// The protocols it offers, best first.
    pub alpn: Vec<Vec<u8>>,
    /// The handshake as far as it went, to be finished.
    pub accepted: Accepted,
    /// How many of the bytes are in `accepted`; what was read beyond follows the ClientHello in the
    /// stream.
    pub consumed: usize,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("sni", &self.sni).field("consumed", &self.consumed).finish_non_exhaustive()
    }
}

/// What was read is no ClientHello.
#[derive(Debug)]
pub struct HelloError {
    /// Why, for the log.
    pub reason: String,
    /// A TLS alert for the client; may be empty.
    pub alert: Vec<u8>,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a ClientHello: {}", self.reason)
    }
}

impl std::error::Error for HelloError {}

impl HelloError {
    fn new(reason: impl fmt::Display) -> HelloError {
        HelloError { reason: reason.to_string(), alert: Vec::new() }
    }
}

impl Default for HelloReader {
    fn default() -> HelloReader {
        HelloReader::new()
    }
}

impl HelloReader {
    /// A reader that has read nothing yet.
    pub fn new() -> HelloReader {
        HelloReader { acceptor: Acceptor::default(), fed: 0 }
    }

    /// Takes all bytes read so far, those of earlier calls included. `None`: more are needed. Not
    /// to be called again after anything else.
    ///
    /// # Errors
    /// It is no ClientHello, names what is no host, or is longer than [`MAX_HELLO`].
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
        while let Some(mut rest) = bytes.get(self.fed..).filter(|rest| !rest.is_empty()) {
            let count = self.acceptor.read_tls(&mut rest).map_err(HelloError::new)?;
            self.fed += count;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return hello(accepted, self.fed).map(Some),
                Ok(None) if count == 0 || self.fed > MAX_HELLO => return Err(HelloError::new("it is too long")),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut failed = HelloError::new(error);
                    // Into memory: cannot fail.
                    let _ = alert.write_all(&mut failed.alert);
                    return Err(failed);
                }
            }
        }
        Ok(None)
    }
}

fn hello(accepted: Accepted, consumed: usize) -> Result<Hello, HelloError> {
    let words = accepted.client_hello();
    let sni = words.server_name().map(|name| name.parse::<Host>().map_err(HelloError::new)).transpose()?;
    let alpn = words.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
    Ok(Hello { sni, alpn, accepted, consumed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What rustls says first, post-quantum key share included.
    fn client_hello(host: &str, alpn: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let name = rustls_pki_types::ServerName::try_from(host.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same handshake message in records of `size` bytes.
    fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in hello[5..].chunks(size) {
            bytes.extend([0x16, 3, 1]);
            bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    fn check_all_prefixes(bytes: &[u8]) -> Hello {
        let mut reader = HelloReader::new();
        for end in 0..bytes.len() {
            assert!(reader.read(&bytes[..end]).unwrap().is_none(), "{end} of {}", bytes.len());
        }
        reader.read(bytes).unwrap().expect("all of it was read")
    }

    #[test]
    fn each_prefix_of_a_hello_wants_more() {
        let bytes = client_hello("ghcr.io", &[b"h2", b"http/1.1"]);
        assert!(bytes.len() > 1400, "post-quantum: {}", bytes.len());
        for bytes in [in_records(&bytes, 100), in_records(&bytes, 1), bytes] {
            let hello = check_all_prefixes(&bytes);
            assert_eq!(hello.sni, Some("ghcr.io".parse().unwrap()));
            assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
            assert_eq!(hello.consumed, bytes.len());
        }
    }

    #[test]
    fn a_hello_longer_than_a_record_is_read() {
        let protocols: Vec<Vec<u8>> = (0..90).map(|n| vec![b'a' + n % 26; 250]).collect();
        let protocols: Vec<&[u8]> = protocols.iter().map(Vec::as_slice).collect();
        let bytes = client_hello("ghcr.io", &protocols);
        assert!(bytes.len() > 20_000);
        let hello = HelloReader::new().read(&bytes).unwrap().unwrap();
        assert_eq!(hello.alpn.len(), 90);
    }

    #[test]
    fn an_address_is_no_name_and_nothing_offered_is_nothing() {
        let hello = HelloReader::new().read(&client_hello("10.0.0.1", &[])).unwrap().unwrap();
        assert_eq!(hello.sni, None);
        assert!(hello.alpn.is_empty());
    }

    #[test]
    fn what_never_ends_is_ended() {
        // A ClientHello that says it has 0xffff bytes.
        let mut message = vec![1, 0, 0xff, 0xff];
        message.resize(60_000, 0);
        let mut bytes = vec![0; 5];
        bytes.extend(message);
        let bytes = in_records(&bytes, 16_000);
        assert!(HelloReader::new().read(&bytes).is_err());
    }

    #[test]
    fn a_bad_hello_has_an_alert_for_its_client() {
        let mut bytes = client_hello("ghcr.io", &[]);
        bytes[5] = 2; // a ServerHello
        let failed = HelloReader::new().read(&bytes).unwrap_err();
        assert_eq!(failed.alert[0], 0x15, "{failed}");
    }

    #[test]
    fn first_bytes() {
        for (bytes, expected) in [
            (&b""[..], Sniff::More),
            (b"C", Sniff::More),
            (b"CONNECT", Sniff::More),
            (b"CONNECT a:443 HTTP/1.1", Sniff::Http),
            (b"GET /", Sniff::Http),
            (b"\r", Sniff::More),
            (b"\r\n", Sniff::More),
            (b"\r\nGET /", Sniff::Http),
            (b"M-SEARCH *", Sniff::Http),
            (b"PRI * HTTP/2.0", Sniff::Garbage),
            (b"PRIX / HTTP/1.1", Sniff::Http),
            (b"\x16", Sniff::More),
            (b"\x16\x03", Sniff::More),
            (b"\x16\x03\x01", Sniff::Tls),
            (b"\x16\x03\x05", Sniff::Garbage),
            (b"\x16\x04", Sniff::Garbage),
            (b" GET", Sniff::Garbage),
            (b"\n", Sniff::Garbage),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", Sniff::Garbage),
            (b"get /", Sniff::Garbage),
            (b"\x80\x2e\x01\x00\x02", Sniff::Garbage),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Sniff::Garbage),
        ] {
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn once_known_it_stays(
            bytes: Vec<u8>,
            method in "[A-Z]{1,24}".prop_filter("reserved (RFC 9113, 11.6)", |method| method != "PRI"),
        ) {
            let mut request = method.into_bytes();
            request.extend(b" / HTTP/1.1\r\n");
            let end = request.iter().position(|b| *b == b' ').unwrap();
            for at in 0..=request.len() {
                prop_assert_eq!(sniff(&request[..at]), if at <= end { Sniff::More } else { Sniff::Http });
            }
            let mut known = Sniff::More;
            for at in 0..=bytes.len() {
                let now = sniff(&bytes[..at]);
                prop_assert!(known == Sniff::More || known == now);
                known = now;
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, cuts in proptest::collection::vec(0usize..400, 0..8)) {
            let mut record = vec![0x16, 3, 1];
            record.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
            record.extend(&bytes);
            for bytes in [bytes, record] {
                let mut reader = HelloReader::new();
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
                cuts.sort_unstable();
                for cut in cuts {
                    if !matches!(reader.read(&bytes[..cut]), Ok(None)) {
                        break;
                    }
                }
            }
        }

        #[test]
        fn a_damaged_hello_is_read_without_panic(at in 0usize..1700, value: u8) {
            let mut bytes = client_hello("ghcr.io", &[b"h2"]);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = HelloReader::new().read(&bytes);
        }
    }
}
