//! The PROXY protocol's header, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): who is behind
//! the balancer that connected.
//!
//! Pure: bytes in, words out. Read strictly, since a client is admitted by what it says: `PROXY`
//! with one space between words, ports without signs and leading zeros. The crates for it are not
//! (`proxy-header` 0.1.3 takes `PROXYxTCP4` and `UNKNOWNx`, `ppp` 2.3.0 takes port `+80`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client; `None` if the header names none (v1 UNKNOWN, v2 LOCAL): then it is the peer
    /// itself.
    pub source: Option<SocketAddr>,
    /// Bytes of the header. What follows them is the client's.
    pub length: usize,
}

/// The bytes are no PROXY header, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// "2.1: … 107 chars at most", CR LF included.
const LONGEST_V1: usize = 107;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const START_V2: usize = 16;
/// What a v2 header may have after that, TLVs included: the balancers of clouds send some hundred
/// bytes, a client certificate is the longest.
pub const LONGEST_V2: usize = 4096;

/// Reads the header that `bytes` begin with. `None`: there are too few to tell.
///
/// # Errors
/// They begin with no header, or with one of another protocol than TCP over IPv4 or IPv6.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if begins(V2) {
        return if bytes.len() < V2.len() { Ok(None) } else { parse_v2(bytes) };
    }
    if begins(V1) {
        return if bytes.len() < V1.len() { Ok(None) } else { parse_v1(bytes) };
    }
    Err(Malformed("it does not begin with a PROXY header"))
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let line = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        let more = bytes.len() < LONGEST_V1;
        return if more { Ok(None) } else { Err(Malformed("a v1 header of more than 107 bytes")) };
    };
    let length = end + 2;
    let text = std::str::from_utf8(&line[V1.len()..end]).map_err(|_| Malformed("a v1 header that is not text"))?;
    let mut words = text.split(' ');
    let source = match words.next() {
        // "The receiver must ignore anything presented before the CRLF".
        Some("UNKNOWN") => return Ok(Some(Header { source: None, length })),
        Some("TCP4") => addresses(&mut words, |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4)),
        Some("TCP6") => addresses(&mut words, |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6)),
        _ => return Err(Malformed("a v1 header that is neither TCP4, TCP6 nor UNKNOWN")),
    };
    match source {
        Some(source) if words.next().is_none() => Ok(Some(Header { source: Some(source), length })),
        _ => Err(Malformed("a v1 header without two addresses and two ports")),
    }
}

fn addresses<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Option<SocketAddr> {
    let (source, _destination) = (address(words.next()?)?, address(words.next()?)?);
    let (source_port, _destination_port) = (port(words.next()?)?, port(words.next()?)?);
    Some(SocketAddr::new(source, source_port))
}

/// "Heading zeroes are not permitted".
fn port(word: &str) -> Option<u16> {
    let plain = word == "0" || word.starts_with(|first: char| matches!(first, '1'..='9'));
    word.parse().ok().filter(|_| plain)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((start, rest)) = bytes.split_at_checked(START_V2) else {
        // A wrong command is not waited for.
        return bytes.get(V2.len()).map_or(Ok(None), |command| command_of(*command).map(|_| None));
    };
    let command = command_of(start[12])?;
    let length = usize::from(u16::from_be_bytes([start[14], start[15]]));
    if length > LONGEST_V2 {
        return Err(Malformed("a v2 header of more than 4096 bytes"));
    }
    let least = match (command, start[13]) {
        (Command::Local, _) => 0,
        (Command::Proxy, TCP4) => 12,
        (Command::Proxy, TCP6) => 36,
        (Command::Proxy, _) => return Err(Malformed("a v2 header that is neither of TCP over IPv4 nor over IPv6")),
    };
    if length < least {
        return Err(Malformed("a v2 header that is too short for its addresses"));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let source = match (command, start[13]) {
        (Command::Proxy, TCP4) => source::<4>(body, 8),
        (Command::Proxy, TCP6) => source::<16>(body, 32),
        _ => None,
    };
    Ok(Some(Header { source, length: START_V2 + length }))
}

/// AF_INET and STREAM.
const TCP4: u8 = 0x11;
/// AF_INET6 and STREAM.
const TCP6: u8 = 0x21;

#[derive(Clone, Copy)]
enum Command {
    /// The balancer speaks for itself: a health check.
    Local,
    Proxy,
}

fn command_of(byte: u8) -> Result<Command, Malformed> {
    match byte {
        0x20 => Ok(Command::Local),
        0x21 => Ok(Command::Proxy),
        _ => Err(Malformed("a v2 header of another version or command")),
    }
}

/// The first address, and the port at `at`. The body is long enough.
fn source<const N: usize>(body: &[u8], at: usize) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let address: [u8; N] = body.get(..N)?.try_into().ok()?;
    let port = [*body.get(at)?, *body.get(at + 1)?];
    Some(SocketAddr::new(address.into(), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    const FOUR: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 0xbb];

    fn six() -> Vec<u8> {
        let (from, to): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), Ipv6Addr::LOCALHOST);
        [&from.octets()[..], &to.octets(), &[0, 80, 1, 0xbb]].concat()
    }

    /// Headers that are read, and the client they name.
    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let tlvs = [FOUR, &[4, 0, 1, 0]].concat();
        let long = [FOUR, &[0; LONGEST_V2 - 12]].concat();
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), LONGEST_V1, "the specification's worst case");
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n".to_vec(), Some("192.0.2.7:4660")),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 0 65535\r\n".to_vec(), Some("192.0.2.7:0")),
            (b"PROXY TCP6 2001:db8::7 ::1 80 443\r\n".to_vec(), Some("[2001:db8::7]:80")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 80 443\r\n".to_vec(), Some("[::ffff:192.0.2.7]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what\xc3\xa4ver\t this is\r\n".to_vec(), None),
            (longest.into(), None),
            (v2(0x21, TCP4, FOUR), Some("192.0.2.7:4660")),
            (v2(0x21, TCP4, &tlvs), Some("192.0.2.7:4660")),
            (v2(0x21, TCP4, &long), Some("192.0.2.7:4660")),
            (v2(0x21, TCP6, &six()), Some("[2001:db8::7]:80")),
            (v2(0x20, 0, &[]), None),
            (v2(0x20, TCP4, FOUR), None),
            (v2(0x20, 0x31, &[7; 216]), None),
        ]
    }

    #[test]
    fn headers_are_read_and_what_follows_is_left() {
        for (bytes, source) in good() {
            let header = Header { source: source.map(|text| text.parse().unwrap()), length: bytes.len() };
            assert_eq!(parse(&bytes), Ok(Some(header)), "{bytes:?}");
            assert_eq!(parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), Ok(Some(header)), "{bytes:?}");
        }
    }

    #[test]
    fn every_prefix_wants_more() {
        for (bytes, _) in good() {
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{:?}", &bytes[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_can_be_told() {
        let short = v2(0x21, TCP4, &FOUR[..11]);
        let (udp, unix) = (v2(0x21, 0x12, FOUR), v2(0x21, 0x31, &[7; 216]));
        let too_long = [V2, &[0x21, TCP4, 0x10, 0x01]].concat();
        let (version, command, none) = (v2(0x11, TCP4, FOUR), v2(0x22, TCP4, FOUR), v2(0x21, 0, &[]));
        for bytes in [
            &b"G"[..],
            b"\x16\x03\x01",
            b"PROXYx",
            b"PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
            b"PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            b"PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY UNKNOWNx\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n\r\n",
            b"PROXY TCP4 \xff\r\n",
            b"PROXY \r\n",
            &[b'P'; 2],
            &[&b"PROXY UNKNOWN"[..], &[b' '; LONGEST_V1 - 13]].concat(),
            b"\r\n\r\nG",
            &short,
            &udp,
            &unix,
            &too_long,
            &version[..13],
            &command[..13],
            &none,
        ] {
            assert!(parse(bytes).is_err(), "{:?} {:?}", String::from_utf8_lossy(bytes), parse(bytes));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_and_never_more_than_was_given(start in 0..4_usize, bytes: Vec<u8>) {
            let start = [&b""[..], V1, V2, b"PROXY TCP4 "][start];
            let bytes = [start, &bytes].concat();
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len().min(START_V2 + LONGEST_V2));
                // It is the same header whatever comes after it.
                prop_assert_eq!(parse(&bytes[..header.length]), Ok(Some(header)));
            }
        }

        #[test]
        fn every_client_is_read_back(source: SocketAddr, other: SocketAddr) {
            let source = SocketAddr::new(source.ip(), source.port());
            let other = if source.is_ipv4() == other.is_ipv4() { other.ip() } else { source.ip() };
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {} {other} {} 1\r\n", source.ip(), source.port());
            prop_assert_eq!(parse(line.as_bytes()), Ok(Some(Header { source: Some(source), length: line.len() })));
        }

        #[test]
        fn a_v1_header_is_refused_once_it_is_too_long(bytes: Vec<u8>) {
            let bytes = [V1, &bytes].concat();
            prop_assert!(bytes.len() < LONGEST_V1 || parse(&bytes) != Ok(None));
        }
    }
}
