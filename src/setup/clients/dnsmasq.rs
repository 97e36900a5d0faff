//! dnsmasq (`man dnsmasq`: --address, --local, --server).

use std::fmt::Write as _;

use super::dns::{self, Target, Wildcards};
use super::environment::whole;
use super::mirror;
use super::names::Names;
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = dns::MODES;

/// `address=` takes a name and all below it; `local=` answers what is not an address empty (dnsmasq
/// asks upstream since 2.86); `server=/*.NAME/#` gives what is below an exact name back to the
/// usual servers.
pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let names = Names::of(&facts.registries);
    let target = Target::of(facts);
    let mut text =
        "# seawall: the registries' names lead to it. Other types than its address are answered empty.\n".to_owned();
    for parent in &names.parents {
        let _ = writeln!(text, "\n# {parent} and all below\nlocal=/{parent}/\naddress=/{parent}/{}", target.address);
    }
    for name in names.uncovered() {
        let _ = writeln!(text, "\nlocal=/{name}/\naddress=/{name}/{}\nserver=/*.{name}/#", target.address);
    }
    let mut notes = dns::notes(
        &names,
        &target,
        Wildcards::First(|parent| format!("local=/{parent}/ and address=/{parent}/ADDRESS")),
    );
    notes.push(
        "Debian's dnsmasq reads /etc/dnsmasq.d; elsewhere /etc/dnsmasq.conf needs conf-dir=/etc/dnsmasq.d/,*.conf."
            .to_owned(),
    );
    notes.push(mirror::list_note(facts, "dnsmasq", Mode::Dns));
    Plan {
        files: vec![whole("/etc/dnsmasq.d/seawall.conf", text)],
        commands: vec!["dnsmasq --test".to_owned(), "systemctl restart dnsmasq".to_owned()],
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
        let plan = plan(&example::facts("http://192.0.2.7:3128"), Mode::Dns);
        example::assert_sound(&plan);
        let text = example::text(&plan, "/etc/dnsmasq.d/seawall.conf");
        let names = Names::of(&example::registries());
        for name in names.uncovered().chain(names.parents.iter().map(String::as_str)) {
            assert!(text.contains(&format!("\nlocal=/{name}/\naddress=/{name}/192.0.2.7\n")), "{name}: {text}");
        }
        assert!(text.contains("server=/*.docker.io/#") && !text.contains("server=/*.gcr.io/#"), "{text}");
        assert!(plan.notes.iter().any(|note| note.contains("local=/dkr.ecr.eu-central-1.amazonaws.com/")));
    }
}
