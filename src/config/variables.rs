//! `SEAWALL_…` variables over what the file says. One whose name is no key is no reason not to
//! start: others use the prefix too (`SEAWALL_BIN`).

use super::admin;
use super::named::{self, Meaning};
use super::problem::{Fault, Place, Problem};
use super::tree::{Kind, Value};

/// Puts them in; a wrong value goes to `problems`. Returns those that are ignored, each with why.
pub(super) fn apply(document: &mut Value, env: &[(String, String)], problems: &mut Vec<Problem>) -> Vec<Problem> {
    let mut strays = Vec::new();
    let mut env: Vec<_> = env.iter().collect();
    // In one order whatever the environment's: SEAWALL_A comes before SEAWALL_A__B.
    env.sort();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix("SEAWALL_").filter(|rest| *rest != "CONFIG") else { continue };
        if is_service_link(rest, text) {
            continue;
        }
        let name_of_key = rest.to_lowercase();
        let parts: Vec<_> = name_of_key.split("__").collect();
        let path = parts.join(".");
        let raw = Value { place: Place::Variable(name.as_str().into()), kind: Kind::Raw(text.clone()) };
        let set = match named::meaning(&parts) {
            Meaning::Key => document.set(&admin::path(&parts), raw),
            // Nobody who means all of a section writes less than a table.
            Meaning::Section if text.trim_start().starts_with('{') => set_section(document, &parts, &raw),
            Meaning::Section => {
                strays.push(raw.fault(named::stray_section(&path)).of(""));
                continue;
            }
            Meaning::Nothing => {
                strays.push(raw.fault(named::stray(&path)).of(""));
                continue;
            }
        };
        problems.extend(set.err().map(|fault| fault.of(&path)));
    }
    strays
}

/// As a table, so that a variable for one of its keys finds it.
fn set_section(document: &mut Value, parts: &[&str], raw: &Value) -> Result<(), Fault> {
    let table = raw.table()?.into_owned();
    document.set(parts, Value { place: raw.place.clone(), kind: Kind::Table(table) })
}

/// Kubernetes gives every pod variables for the services beside it: a service `seawall` makes
/// `SEAWALL_SERVICE_HOST`, `SEAWALL_PORT=tcp://…`, `SEAWALL_PORT_3128_TCP_ADDR`. They are not ours,
/// and must not keep the pod from starting.
fn is_service_link(rest: &str, text: &str) -> bool {
    let rest = format!("_{rest}");
    let port_of = |rest: &str| {
        let (_, after) = rest.split_once("_PORT_")?;
        let (digits, protocol) = after.split_once('_')?;
        let known = ["TCP", "UDP", "SCTP"].iter().any(|p| protocol == *p || protocol.starts_with(&format!("{p}_")));
        Some(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && known)
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && text.contains("://"))
        || port_of(&rest).unwrap_or(false)
}
