//! A hosts file: one machine, no wildcards.

use std::fmt::Write as _;

use super::dns::{self, Target, Wildcards};
use super::environment::{ONCE, root_in_store};
use super::mirror::{self};
use super::names::Names;
use super::seen;
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = dns::MODES;

/// glibc, musl and Go ask no server for the other family of a name that is found here.
pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let names = Names::of(&facts.registries);
    let target = Target::of(facts);
    let mut text = String::new();
    for name in &names.exact {
        let _ = writeln!(text, "{} {name}", target.address);
    }
    let mut notes = dns::notes(&names, &target, Wildcards::Nowhere);
    notes.push("Containers and pods have a hosts file of their own: this one counts for what runs on the machine, its container engines \
                included."
        .to_owned());
    notes.push(ONCE.to_owned());
    notes.push(mirror::list_note(facts, "hosts", Mode::Dns));
    Plan {
        files: vec![File { path: "/etc/hosts".into(), content: Content::Lines(text) }, root_in_store(facts)],
        commands: vec![facts.store.command.clone()],
        check: vec![seen::fetched()],
        notes,
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn every_name_is_there_and_every_wildcard_is_said_to_be_missing() {
        let plan = plan(&example::facts("http://192.0.2.7:3128"), Mode::Dns);
        example::assert_sound(&plan);
        let text = example::text(&plan, "/etc/hosts");
        let names = Names::of(&example::registries());
        for name in &names.exact {
            assert!(text.lines().any(|line| line == format!("192.0.2.7 {name}")), "{name}: {text}");
        }
        let notes = plan.notes.join("\n");
        for pattern in ["*.gcr.io", "*.pkg.dev", "*.dkr.ecr.*.amazonaws.com"] {
            assert!(notes.contains(pattern) && !text.contains(pattern), "{pattern}");
        }
        assert_eq!(example::text(&plan, "/usr/local/share/ca-certificates/seawall.crt"), example::PEM);
    }
}
