//! The words of single values: sizes, times, addresses, patterns, files.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use wildmatch::WildMatch;

use super::problem::Fault;
use super::tree::Value;
use crate::dial::Fixed;
use crate::dial::nameserver::NameServer;
use crate::http::origin::{Host, HostPattern};

/// Beyond it, sums of times overflow; whoever wants more wants `forever`.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `20GiB`, `500MB`, bytes.
pub(super) fn size(value: &Value) -> Result<u64, Fault> {
    let text = value.text("a size such as \"20GiB\"")?;
    let size = text.trim().parse::<ByteSize>();
    size.map(|size| size.as_u64())
        .map_err(|_| value.fault(format!("{text:?} is not a size; valid: \"20GiB\", \"500MB\"")))
}

/// Connections that may bring one blob at once, `least` or more.
pub(super) fn segments(value: &Value, least: i64) -> Result<usize, Fault> {
    value.whole(least, 16).map(|segments| usize::try_from(segments).unwrap_or(1))
}

/// A size above nothing.
pub(super) fn some_size(value: &Value) -> Result<u64, Fault> {
    match size(value)? {
        0 => Err(value.fault("must be more than 0")),
        size => Ok(size),
    }
}

fn duration(value: &Value, valid: &str) -> Result<Duration, Fault> {
    let text = value.text(&format!("a time such as {valid}"))?;
    let time = humantime::parse_duration(text.trim())
        .map_err(|_| value.fault(format!("{text:?} is not a time; valid: {valid}")))?;
    if time > LONGEST {
        return Err(value.fault(format!("{text:?} is longer than 100 years; valid: {valid}")));
    }
    Ok(time)
}

/// How long something is believed: `10s`, `7d`, `0s`, or `forever`, which is `Duration::MAX`.
pub(super) fn ttl(value: &Value) -> Result<Duration, Fault> {
    let valid = "\"30s\", \"15m\", \"7d\", \"forever\"";
    match value.text(&format!("a time such as {valid}"))?.trim() {
        "forever" => Ok(Duration::MAX),
        _ => duration(value, valid),
    }
}

/// How long is waited, for ever if need be.
pub(super) fn upload_timeout(value: &Value) -> Result<Duration, Fault> {
    match ttl(value)? {
        Duration::ZERO => Err(value.fault("must be more than 0s; valid: \"10m\", \"forever\"")),
        timeout => Ok(timeout),
    }
}

/// How long is waited: more than nothing and not for ever.
pub(super) fn timeout(value: &Value) -> Result<Duration, Fault> {
    match pause(value)? {
        Duration::ZERO => Err(value.fault("must be more than 0s")),
        time => Ok(time),
    }
}

/// How long is waited at most; `0s` is not at all.
pub(super) fn pause(value: &Value) -> Result<Duration, Fault> {
    duration(value, "\"500ms\", \"10s\", \"2m\"")
}

/// Where to listen.
pub(super) fn listen(value: &Value) -> Result<SocketAddr, Fault> {
    let valid = "\"127.0.0.1:3128\", \"0.0.0.0:443\", \"[::]:3128\"";
    let text = value.text(&format!("an address with a port such as {valid}"))?;
    text.trim().parse().map_err(|_| value.fault(format!("{text:?} is not an IP address with a port; valid: {valid}")))
}

/// `10.0.0.0/8`, or one address.
pub(super) fn network(value: &Value) -> Result<IpNet, Fault> {
    let valid = "\"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.1\"";
    let text = value.text(&format!("a network such as {valid}"))?.trim();
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let read = text.parse::<IpNet>().or_else(|_| one());
    read.map_err(|_| value.fault(format!("{text:?} is not a network; valid: {valid}")))
}

/// An address of the operator's own choice, `192.0.2.1`, `127.0.0.1:9443`, `[::1]:53`.
pub(super) fn fixed(value: &Value) -> Result<Fixed, Fault> {
    let valid = "\"192.0.2.1\", \"127.0.0.1:9443\", \"[2001:db8::1]:443\"";
    let text = value.text(&format!("an IP address such as {valid}"))?.trim();
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Fixed { ip, port: None });
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(Fixed { ip: address.ip(), port: Some(address.port()) }),
        _ => Err(value.fault(format!("{text:?} is not an IP address, with or without a port; valid: {valid}"))),
    }
}

/// A name server, and how it is asked.
pub(super) fn nameserver(value: &Value) -> Result<NameServer, Fault> {
    let valid = "\"192.0.2.53\", \"[2001:db8::1]:5353\", \"tcp://192.0.2.53\", \"tls://dns.corp.example@192.0.2.53\", \
                 \"https://dns.corp.example@192.0.2.53/dns-query\"";
    let text = value.text(&format!("a name server such as {valid}"))?;
    text.trim().parse().map_err(|error| value.fault(format!("{error}; valid: {valid}")))
}

/// One host, or a pattern of whole labels, however it is spoken to.
pub(super) fn host_pattern(value: &Value) -> Result<HostPattern, Fault> {
    let valid = "\"ghcr.io\", \"registry.corp:5000\", \"*.pkg.dev\"";
    let text = value.text(&format!("a host such as {valid}"))?;
    if text.contains("://") {
        return Err(value.fault(format!("{text:?} is too much: a host without scheme; valid: {valid}")));
    }
    pattern(value, text, valid)
}

/// The same, and how clients speak to it.
pub(super) fn spoken_host(value: &Value) -> Result<HostPattern, Fault> {
    let valid = "\"ghcr.io\", \"registry.corp:5000\", \"*.pkg.dev\"; in the clear: \"http://lab:5000\"";
    pattern(value, value.text(&format!("a host such as {valid}"))?, valid)
}

fn pattern(value: &Value, text: &str, valid: &str) -> Result<HostPattern, Fault> {
    text.trim().parse().map_err(|error| value.fault(format!("{error}; valid: {valid}")))
}

/// A part of the name space, for the root: `corp.example`, also written `*.corp.example` or
/// `.corp.example`.
pub(super) fn suffix(value: &Value) -> Result<Host, Fault> {
    let valid = "\"corp.example\" (it and all below it), \"10.0.0.5\"";
    let text = value.text(&format!("a DNS suffix or IP address such as {valid}"))?.trim();
    let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    bare.parse().map_err(|_| value.fault(format!("{text:?} is not a DNS suffix or IP address; valid: {valid}")))
}

/// A glob over host names. They are compared in lower case.
pub(super) fn host_glob(value: &Value) -> Result<WildMatch, Fault> {
    let valid = "\"*\", \"*.example.com\", \"github.com\"";
    let text = value.text(&format!("a glob such as {valid}"))?.trim().to_lowercase();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"*?.-_:[]".contains(&b);
    // An IPv6 address has several colons; one colon is a port, which would never match.
    let has_port = text.matches(':').count() == 1;
    if text.is_empty() || has_port || !text.bytes().all(allowed) {
        return Err(value.fault(format!("{text:?} is not a glob of host names (without port); valid: {valid}")));
    }
    Ok(WildMatch::new(&text))
}

/// A glob over `REGISTRY/REPOSITORY:TAG`.
pub(super) fn tag_glob(value: &Value) -> Result<WildMatch, Fault> {
    let valid = "\"*:latest\", \"ghcr.io/acme/*:v*\"";
    let text = value.text(&format!("a glob such as {valid}"))?.trim();
    // Every name has a colon: a glob that can have none never matches.
    let can_match = text.contains([':', '*', '?']) && text.bytes().all(|b| b.is_ascii_graphic());
    if !can_match {
        return Err(value.fault(format!("{text:?} matches no REGISTRY/REPOSITORY:TAG; valid: {valid}")));
    }
    Ok(WildMatch::new(text))
}

/// A glob over the repositories of one registry.
pub(super) fn repository_glob(value: &Value) -> Result<WildMatch, Fault> {
    let valid = "\"library/*\", \"acme/app\", \"*\"";
    let text = value.text(&format!("a glob such as {valid}"))?.trim();
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/*?".contains(&b);
    if text.is_empty() || text.starts_with('/') || text.ends_with('/') || !text.bytes().all(allowed) {
        return Err(value.fault(format!("{text:?} matches no repository (no tag, no upper case); valid: {valid}")));
    }
    Ok(WildMatch::new(text))
}

/// The PEM certificates of a file; no file if its name is empty.
pub(super) fn certificates(value: &Value) -> Result<Option<Vec<u8>>, Fault> {
    let path = value.text("the name of a PEM file")?;
    if path.is_empty() {
        return Ok(None);
    }
    let pem = crate::fs::read(Path::new(path)).map_err(|error| value.fault(error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| value.fault(format!("{path} is not PEM: {error}")))?;
        let added = roots.add(certificate);
        added.map_err(|error| value.fault(format!("{path} has a certificate that cannot be trusted: {error}")))?;
    }
    if roots.is_empty() {
        return Err(value.fault(format!("{path} holds no certificate (-----BEGIN CERTIFICATE-----)")));
    }
    Ok(Some(pem))
}
