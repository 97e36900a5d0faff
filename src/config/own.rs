//! `[tls]`: what clients call seawall itself, where they speak TLS to it, and the operator's
//! certificate for that.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::problem::{Fault, Problem};
use super::section::{Section, word};
use super::tree::Value;
use crate::ca::own::{CertificateFiles, ServerCertificate, ServerCertificateError};
use crate::ca::{OwnTls, Preferred};
use crate::http::origin::{Host, Scheme};
use crate::policy::registry::Registry;

const PROTOCOLS: &[(&str, Preferred)] = &[("h2", Preferred::H2), ("http/1.1", Preferred::H1)];

/// Reads it; what is wrong goes to `problems`.
pub(super) fn read(section: &mut Section, registries: &[Registry], problems: &mut Vec<Problem>) -> OwnTls {
    let before = problems.len();
    let names = section.list("names", problems, name).unwrap_or_default();
    for name in &names {
        if let Some(registry) = registries.iter().find(|registry| has(registry, name)) {
            let what = format!(
                "{name} is a host of the registry {:?}, too: whoever names it could mean either; take it out of one of them",
                &*registry.name
            );
            problems.push(section.problem("names", what));
        }
    }
    let certificate = certificate(section, &names, problems);
    if certificate.is_some() && names.is_empty() && problems.len() == before {
        let what = "there are no `names` that it is for; valid: names = [\"seawall.corp.example\"]";
        problems.push(section.problem("certificate_file", what));
    }
    let preferred = section.take("prefer", problems, |value| word(value, PROTOCOLS)).unwrap_or_default();
    OwnTls { preferred, names, certificate }
}

fn name(value: &Value) -> Result<Host, Fault> {
    let valid = "\"seawall.corp.example\", \"10.1.2.3\"";
    let text = value.text(&format!("a host name or IP address such as {valid}"))?;
    let wrong =
        |_| value.fault(format!("{text:?} is no host name or IP address (without scheme, port or *); valid: {valid}"));
    text.trim().parse().map_err(wrong)
}

/// At the port that goes without saying. At another, a registry of seawall's own machine say, the
/// port tells them apart.
fn has(registry: &Registry, name: &Host) -> bool {
    let port = Scheme::Https.default_port();
    let mut patterns = registry.hosts.iter().chain(&registry.auth_hosts);
    patterns.any(|pattern| pattern.is_spoken(Scheme::Https, name, port))
}

/// A key that is not given apart is in the certificate's file.
fn certificate(section: &mut Section, names: &[Host], problems: &mut Vec<Problem>) -> Option<ServerCertificate> {
    let before = problems.len();
    let chain = section.take("certificate_file", problems, pem).flatten();
    let key = section.take("key_file", problems, pem).flatten();
    if problems.len() != before {
        return None;
    }
    let has_own_file = key.is_some();
    let (files, chain, key) = match (chain, key) {
        (Some((certificate, chain)), Some((path, key))) => {
            (CertificateFiles { certificate, key: Some(path) }, chain, key)
        }
        (Some((certificate, chain)), None) => (CertificateFiles { certificate, key: None }, chain.clone(), chain),
        (None, Some(_)) => {
            problems.push(section.problem("key_file", "there is no certificate_file that it is for"));
            return None;
        }
        (None, None) => return None,
    };
    match ServerCertificate::read(files, &chain, key, names) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            use ServerCertificateError::{Encrypted, Mismatch, NoKey, UnusableKey};
            let is_of_key = matches!(error, NoKey | Encrypted | Mismatch | UnusableKey(_)) && has_own_file;
            let key = if is_of_key { "key_file" } else { "certificate_file" };
            problems.push(section.problem(key, error.to_string()));
            None
        }
    }
}

/// A file, and what it holds.
type Pem = (PathBuf, Zeroizing<Vec<u8>>);

fn pem(value: &Value) -> Result<Option<Pem>, Fault> {
    match value.text("the name of a PEM file")? {
        "" => Ok(None),
        path => {
            let read = crate::fs::read(Path::new(path));
            read.map(|bytes| Some((path.into(), Zeroizing::new(bytes)))).map_err(|error| value.fault(error))
        }
    }
}
