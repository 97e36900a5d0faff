//! `client_certificate_file` and `client_key_file` of a `[[registry]]`.

use std::path::Path;

use zeroize::Zeroizing;

use super::problem::{Fault, Problem};
use super::section::Section;
use super::tree::Value;
use crate::dial::tls::certified;
use crate::policy::client_certificate::ClientCertificate;

/// Reads both; what is wrong goes to `problems`. A key that is not given apart is in the
/// certificate's file.
pub(super) fn read(section: &mut Section, problems: &mut Vec<Problem>) -> Option<ClientCertificate> {
    let before = problems.len();
    let chain = section.take("client_certificate_file", problems, pem).flatten();
    let key = section.take("client_key_file", problems, pem).flatten();
    if problems.len() != before {
        return None;
    }
    let (chain_pem, key_pem) = match (chain, key) {
        (Some(chain), Some(key)) => (chain, key),
        (Some(chain), None) => (chain.clone(), chain),
        (None, Some(_)) => {
            problems.push(section.problem("client_key_file", "there is no client_certificate_file that it is for"));
            return None;
        }
        (None, None) => return None,
    };
    let client = ClientCertificate { chain_pem, key_pem };
    if let Err(error) = certified(&client) {
        problems.push(section.problem("client_certificate_file", format!("it cannot be used: {error}")));
        return None;
    }
    Some(client)
}

fn pem(value: &Value) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
    match value.text("the name of a PEM file")? {
        "" => Ok(None),
        path => {
            let read = crate::fs::read(Path::new(path));
            read.map(|bytes| Some(Zeroizing::new(bytes))).map_err(|error| value.fault(error))
        }
    }
}
