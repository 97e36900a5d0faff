//! K3s, and RKE2, which is made of the same parts (docs.k3s.io/installation/private-registry,
//! /advanced#configuring-an-http-proxy).

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::environment::{self, password, root_in_store, whole};
use super::mirror::{self, PUBLIC, SILENT};
use super::names::Mirrored;
use super::seen::{self, PAUSE};
use crate::setup::objection::{Files, Objection};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy, Mode::Dns];

/// What the two call their files and services.
pub(super) struct Distribution {
    /// Below /etc/rancher.
    pub(super) name: &'static str,
    /// Environment files of the units of servers and agents.
    pub(super) environment: [&'static str; 2],
    /// Those units.
    pub(super) units: [&'static str; 2],
    /// Its command for the images of a node.
    pub(super) crictl: &'static str,
    /// What rewrites the files.
    pub(super) caveat: Option<&'static str>,
}

const K3S: Distribution = Distribution {
    name: "k3s",
    environment: ["/etc/systemd/system/k3s.service.env", "/etc/systemd/system/k3s-agent.service.env"],
    units: ["k3s", "k3s-agent"],
    crictl: "k3s crictl",
    caveat: Some(
        "K3s' install script rewrites its .env file from its own environment: after an upgrade by that script set this up again, or \
         keep the lines in /etc/default/k3s, which the unit reads too.",
    ),
};

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    K3S.plan(facts, mode)
}

impl Distribution {
    /// For every node, servers and agents alike.
    pub(super) fn plan(&self, facts: &Facts, mode: Mode) -> Plan {
        let mut plan = match mode {
            Mode::Mirror => self.mirror(facts),
            Mode::Proxy => self.proxy(facts),
            Mode::Dns => self.dns(facts),
        };
        let pull = format!("{} pull {}", self.crictl, PAUSE.name);
        plan.check = seen::pulled(facts, &plan.files, pull, &PAUSE);
        plan
    }

    fn restart(&self) -> String {
        let [server, agent] = self.units;
        format!(
            "for unit in {server} {agent}; do ! systemctl -q is-active $unit || systemctl restart $unit; done   # running containers go on"
        )
    }

    /// `?ns=` tells seawall which registry is meant, so no `rewrite` is needed.
    fn mirror(&self, facts: &Facts) -> Plan {
        let endpoint = json!({ "endpoint": [facts.address.to_string()] });
        let hosts = Mirrored::of(&facts.registries).hosts;
        let mirrors: Map<String, Value> =
            hosts.into_iter().chain(["*".to_owned()]).map(|host| (host, endpoint.clone())).collect();
        let mut registries = json!({ "mirrors": mirrors });
        let mut files = Vec::new();
        if mirror::needs_ca(facts) {
            let ca = format!("/etc/rancher/{}/seawall-ca.crt", self.name);
            registries["configs"] = json!({ facts.address.authority(): { "tls": { "ca_file": ca } } });
            files.push(whole(ca, facts.ca_pem.as_str()));
        }
        let path = format!("/etc/rancher/{}/registries.yaml", self.name);
        files.push(File { path: path.into(), content: Content::Yaml(registries) });
        let notes = vec![
            PUBLIC.to_owned(),
            SILENT.to_owned(),
            "On every node. With --disable-default-registry-endpoint nodes pull from seawall or not at all: \"*\" makes that hold for \
             every registry, those that seawall does not know included."
                .to_owned(),
            "A rewrite of a mirror in this file changes what seawall is asked for, too: none is needed for it.".to_owned(),
            mirror::list_note(facts, self.name, Mode::Mirror),
            "With --embedded-registry the nodes' own shared images are asked before these endpoints.".to_owned(),
        ];
        Plan { files, commands: vec![self.restart()], notes, ..Plan::default() }
    }

    /// CONTAINERD_ keeps the variables from the kubelet and the rest: only images come this way.
    fn proxy(&self, facts: &Facts) -> Plan {
        let line = |(name, value)| format!("CONTAINERD_{name}={value}\n");
        let lines: String = environment::variables_for_images(facts).into_iter().map(line).collect();
        let file = |path: &str| File { path: path.into(), content: Content::Lines(lines.clone()) };
        let mut files = vec![root_in_store(facts)];
        files.extend(self.environment.map(file));
        let mut notes = vec![
            "On every node; a server reads the first of the two environment files, an agent the second.".to_owned(),
            "containerd reads the system's roots when it starts, so the service is restarted after the store is rebuilt.".to_owned(),
            password("These files are the service's alone: chmod 600."),
        ];
        notes.extend(self.caveat.map(str::to_owned));
        Plan { files, commands: vec![facts.store.command.clone(), self.restart()], notes, ..Plan::default() }
    }

    fn dns(&self, facts: &Facts) -> Plan {
        let note = "On every node. The node's resolver must lead the registries' names to seawall (seawall setup \
                    dnsmasq|unbound|bind|coredns|hosts); the cluster's own DNS is for pods.";
        Plan {
            files: vec![root_in_store(facts)],
            commands: vec![facts.store.command.clone(), self.restart()],
            notes: vec![note.to_owned()],
            ..Plan::default()
        }
    }
}

/// A mirror's rewrites are for all of its endpoints but the registry itself
/// (docs.k3s.io/installation/private-registry).
pub(super) fn objection(plan: &Plan, files: &dyn Files) -> Option<Objection> {
    let file = plan.files.iter().find(|file| file.path.ends_with("registries.yaml"))?;
    let Content::Yaml(ours) = &file.content else { return None };
    let merged: Value = serde_saphyr::from_str(&files.then(&file.path)?).ok()?;
    let rewritten = |host: &&String| {
        let rewrite = merged.get("mirrors").and_then(|mirrors| mirrors.get(host.as_str())?.get("rewrite"));
        rewrite.and_then(Value::as_object).is_some_and(|rewrite| !rewrite.is_empty())
    };
    let host = ours.get("mirrors")?.as_object()?.keys().find(rewritten)?;
    let why = format!(
        "mirrors.{host:?} has a rewrite, which would change what seawall is asked for, too: take it out with the mirror that needs it, or use \
         --mode proxy"
    );
    Some(Objection::new(PathBuf::from(&file.path), why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example::{self, There};
    use crate::setup::clients::rke2;

    type PlanOf = fn(&Facts, Mode) -> Plan;

    const PLANS: [(PlanOf, &str); 2] = [(plan, "k3s"), (rke2::plan, "rke2")];

    #[test]
    fn every_registry_has_a_mirror_and_so_has_the_rest() {
        for (plan, name) in PLANS {
            let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
            example::assert_sound(&plan);
            let yaml: Value =
                serde_json::from_str(&example::text(&plan, &format!("/etc/rancher/{name}/registries.yaml"))).unwrap();
            for host in Mirrored::of(&example::registries()).hosts.iter().map(String::as_str).chain(["*"]) {
                assert_eq!(yaml["mirrors"][host]["endpoint"][0], "http://seawall.lab:3128", "{host}");
                assert_eq!(yaml["mirrors"][host]["rewrite"], Value::Null);
            }
            assert_eq!(yaml["configs"], Value::Null);
        }
    }

    #[test]
    fn a_rewrite_would_reach_seawall() {
        let endpoint = "endpoint: [\"http://seawall.lab:3128\", \"https://corp\"]";
        for (plan, name) in PLANS {
            let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
            let path = format!("/etc/rancher/{name}/registries.yaml");
            for (mirrors, expected) in [
                (format!("docker.io: {{{endpoint}, rewrite: {{\"^(.*)\": \"hub/$1\"}}}}"), true),
                (format!("\"*\": {{{endpoint}, rewrite: {{\"^(.*)\": \"hub/$1\"}}}}"), true),
                (format!("docker.io: {{{endpoint}, rewrite: {{}}}}"), false),
                ("other.corp: {endpoint: [\"https://corp\"], rewrite: {\"a\": \"b\"}}".to_owned(), false),
            ] {
                let there = There::new(&plan, &[]).merged(&path, &format!("mirrors:\n  {mirrors}\n"));
                assert_eq!(objection(&plan, &there).is_some(), expected, "{mirrors}");
            }
        }
    }

    #[test]
    fn over_tls_the_root_is_named() {
        for (plan, name) in PLANS {
            let plan = plan(&example::facts("https://seawall.lab:3128"), Mode::Mirror);
            let ca = format!("/etc/rancher/{name}/seawall-ca.crt");
            assert_eq!(example::text(&plan, &ca), example::PEM);
            let yaml: Value =
                serde_json::from_str(&example::text(&plan, &format!("/etc/rancher/{name}/registries.yaml"))).unwrap();
            assert_eq!(yaml["configs"]["seawall.lab:3128"]["tls"]["ca_file"], ca);
        }
    }

    #[test]
    fn as_a_proxy_only_containerd_asks_it() {
        for (plan, file) in
            [(plan as PlanOf, "/etc/systemd/system/k3s.service.env"), (rke2::plan, "/etc/default/rke2-agent")]
        {
            let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
            example::assert_sound(&plan);
            let text = example::text(&plan, file);
            assert!(text.contains("CONTAINERD_HTTPS_PROXY=http://seawall.lab:3128\n"), "{text}");
            assert!(text.lines().all(|line| line.starts_with("CONTAINERD_")), "{text}");
            assert_eq!(plan.commands[0], "update-ca-certificates");
        }
    }
}
