//! BIND 9 (ARM 6.2.16.1: response policy zones). Types that a rewritten name does not have are
//! answered empty there.

use std::fmt::Write as _;

use super::dns::{self, Target, Wildcards};
use super::environment::whole;
use super::mirror;
use super::names::Names;
use super::seen;
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = dns::MODES;

const ZONE: &str = "/etc/bind/db.rpz.seawall";

pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let names = Names::of(&facts.registries);
    // A policy may be a CNAME, and BIND follows it: no address is needed.
    let target = match Target::of(facts) {
        Target { name: Some(name), .. } => {
            Target { address: format!("{name}."), record: "CNAME", empty: ["", ""], name: Some(name) }
        }
        target => target,
    };
    let zone =
        "zone \"rpz.seawall\" { type primary; file \"/etc/bind/db.rpz.seawall\"; allow-query { localhost; }; };\n";
    let mut notes = vec![
        "By hand, since it may stand there but once: the following goes within options { … } of /etc/bind/named.conf.options.\n  \
         response-policy { zone \"rpz.seawall\"; } qname-wait-recurse no break-dnssec yes;\nBefore BIND 9.16 a zone's type is master."
            .to_owned(),
    ];
    let example = |parent: &str| format!("*.{parent} {} {}", "A", "ADDRESS");
    notes.extend(dns::notes(&names, &target, Wildcards::First(example)));
    notes.push(mirror::list_note(facts, "bind", Mode::Dns));
    Plan {
        files: vec![
            whole(ZONE, zone_text(&names, &target)),
            File { path: "/etc/bind/named.conf.local".into(), content: Content::Lines(zone.to_owned()) },
        ],
        commands: vec![
            format!("named-checkzone rpz.seawall {ZONE}"),
            "named-checkconf".to_owned(),
            "systemctl restart named".to_owned(),
        ],
        check: seen::resolved(facts),
        notes,
        undo: vec![
            "First take rpz.seawall out of response-policy in /etc/bind/named.conf.options: named does not start with a policy zone that it does \
             not have."
                .to_owned(),
        ],
    }
}

fn zone_text(names: &Names, target: &Target) -> String {
    let Target { address, record, .. } = target;
    let mut text =
        "; seawall: the registries' names lead to it. Other types than its address are answered empty.\n$TTL 60\n\
                    @ SOA localhost. root.localhost. (1 3600 600 86400 60)\n@ NS localhost.\n"
            .to_owned();
    for parent in &names.parents {
        let _ = writeln!(text, "*.{parent} {record} {address}");
    }
    for name in &names.exact {
        let _ = writeln!(text, "{name} {record} {address}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn every_name_is_overridden() {
        for (address, data) in [
            ("http://192.0.2.7:3128", "A 192.0.2.7"),
            ("http://[2001:db8::7]:3128", "AAAA 2001:db8::7"),
            ("http://seawall.lab:3128", "CNAME seawall.lab."),
        ] {
            let plan = plan(&example::facts(address), Mode::Dns);
            example::assert_sound(&plan);
            let text = example::text(&plan, ZONE);
            let names = Names::of(&example::registries());
            for name in names.exact.iter().cloned().chain(names.parents.iter().map(|parent| format!("*.{parent}"))) {
                assert!(text.contains(&format!("\n{name} {data}\n")), "{name}: {text}");
            }
            assert!(!plan.notes.iter().any(|note| note.contains("SEAWALL-IP")));
            assert!(plan.notes[0].contains("response-policy"));
        }
    }
}
