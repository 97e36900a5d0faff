//! unbound (`man unbound.conf`: local-zone, local-data).

use std::fmt::Write as _;

use super::dns::{self, Target, Wildcards};
use super::environment::whole;
use super::mirror;
use super::names::Names;
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = dns::MODES;

/// A `transparent` zone answers other types of a name it has empty, and leaves the names below
/// alone; `redirect` takes all below.
pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let names = Names::of(&facts.registries);
    let target = Target::of(facts);
    let Target { address, record, .. } = &target;
    let mut text =
        "# seawall: the registries' names lead to it. Other types than its address are answered empty.\nserver:\n"
            .to_owned();
    for parent in &names.parents {
        let _ = writeln!(
            text,
            "  local-zone: \"{parent}.\" redirect\n  local-data: \"{parent}. 60 IN {record} {address}\""
        );
    }
    for name in names.uncovered() {
        let _ =
            writeln!(text, "  local-zone: \"{name}.\" transparent\n  local-data: \"{name}. 60 IN {record} {address}\"");
    }
    let example = |parent: &str| format!("local-zone: \"{parent}.\" redirect and its local-data");
    let mut notes = dns::notes(&names, &target, Wildcards::First(example));
    notes.push(mirror::list_note(facts, "unbound", Mode::Dns));
    Plan {
        files: vec![whole("/etc/unbound/unbound.conf.d/seawall.conf", text)],
        commands: vec!["unbound-checkconf".to_owned(), "systemctl restart unbound".to_owned()],
        check: seen::resolved(facts),
        notes,
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn every_name_is_overridden() {
        for (address, data) in
            [("http://192.0.2.7:3128", "A 192.0.2.7"), ("http://[2001:db8::7]:3128", "AAAA 2001:db8::7")]
        {
            let plan = plan(&example::facts(address), Mode::Dns);
            example::assert_sound(&plan);
            let text = example::text(&plan, "/etc/unbound/unbound.conf.d/seawall.conf");
            let names = Names::of(&example::registries());
            for (name, kind) in
                names.uncovered().map(|n| (n, "transparent")).chain(names.parents.iter().map(|n| (&**n, "redirect")))
            {
                assert!(text.contains(&format!("local-zone: \"{name}.\" {kind}\n")), "{name}: {text}");
                assert!(text.contains(&format!("local-data: \"{name}. 60 IN {data}\"\n")), "{name}: {text}");
            }
            assert!(plan.notes.iter().any(|note| note.contains("\"dkr.ecr.eu-central-1.amazonaws.com.\" redirect")));
        }
    }
}
