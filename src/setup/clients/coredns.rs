//! CoreDNS (plugin/template/README.md): the only one here whose names are regular expressions.

use std::fmt::Write as _;

use super::dns::{self, Target, Wildcards};
use super::environment::whole;
use super::mirror;
use super::names::Names;
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = dns::MODES;

const FILE: &str = "/etc/coredns/seawall.override";

/// `template` stands before `hosts`, `kubernetes`, `file` and `forward`, whatever their order in
/// the Corefile (plugin.cfg).
pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let names = Names::of(&facts.registries);
    let target = Target::of(facts);
    let expressions = expressions(&names);
    let mut text =
        "# seawall: the registries' names lead to it. Other types than its address are answered empty.\n".to_owned();
    if !expressions.is_empty() {
        let answer = format!("    answer \"{{{{ .Name }}}} 60 IN {} {}\"\n", target.record, target.address);
        block(&mut text, target.record, &expressions, &answer);
        for record in target.empty {
            block(&mut text, record, &expressions, "    rcode NOERROR\n");
        }
    }
    let mut notes = vec![
        format!("By hand: write  import {FILE}  within the server block of the Corefile. In a cluster the file's text becomes a key such as \
                 seawall.override of the ConfigMap coredns-custom in kube-system (k3s and AKS import it), else part of coredns."),
        "A cluster's DNS serves its pods. The kubelet's runtime, which pulls their images, asks the node's resolver: set that one up too, \
         or the nodes by seawall setup kubernetes."
            .to_owned(),
    ];
    notes.extend(dns::notes(&names, &target, Wildcards::Anywhere));
    notes.push(mirror::list_note(facts, "coredns", Mode::Dns));
    let undo = format!(
        "Take  import {FILE}  out of the Corefile before CoreDNS is restarted: it does not start without a file that it imports."
    );
    Plan {
        files: vec![whole(FILE, text)],
        commands: vec!["systemctl restart coredns".to_owned()],
        check: seen::resolved(facts),
        notes,
        undo: vec![undo],
    }
}

fn block(text: &mut String, record: &str, expressions: &[String], answer: &str) {
    let _ = writeln!(text, "template IN {record} . {{");
    for expression in expressions {
        let _ = writeln!(text, "    match {expression}");
    }
    let _ = writeln!(text, "{answer}    fallthrough\n}}");
}

fn expressions(names: &Names) -> Vec<String> {
    let parents = names.parents.iter().map(|parent| format!("*.{parent}"));
    let all = names.exact.iter().cloned().chain(parents).chain(names.scattered.iter().cloned());
    all.map(|pattern| format!("^{}\\.$", pattern.replace('.', "\\.").replace('*', "[^.]+"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn every_name_and_pattern_is_matched_and_nothing_else() {
        let names = Names::of(&example::registries());
        let expressions: Vec<_> = expressions(&names).iter().map(|e| regex::Regex::new(e).unwrap()).collect();
        let matched = |name: &str| expressions.iter().any(|expression| expression.is_match(name));
        for name in &names.exact {
            assert!(matched(&format!("{name}.")), "{name}");
        }
        for (name, expected) in [
            ("mirror.gcr.io.", true),
            ("eu-docker.pkg.dev.", true),
            ("1234.dkr.ecr.eu-central-1.amazonaws.com.", true),
            ("s3.eu-central-1.amazonaws.com.", false),
            ("www.docker.io.", false),
            ("docker.io.evil.example.", false),
            ("pkg.dev.", false),
        ] {
            assert_eq!(matched(name), expected, "{name}");
        }
    }

    #[test]
    fn one_block_for_each_type() {
        for (address, answer) in
            [("http://192.0.2.7:3128", "A 192.0.2.7"), ("http://[2001:db8::7]:3128", "AAAA 2001:db8::7")]
        {
            let plan = plan(&example::facts(address), Mode::Dns);
            example::assert_sound(&plan);
            let text = example::text(&plan, FILE);
            assert!(text.contains(&format!("answer \"{{{{ .Name }}}} 60 IN {answer}\"")), "{text}");
            for record in ["A", "AAAA", "HTTPS"] {
                assert_eq!(text.matches(&format!("template IN {record} .")).count(), 1, "{text}");
            }
        }
    }
}
