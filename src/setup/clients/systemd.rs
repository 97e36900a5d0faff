//! Any service of systemd (`man systemd.exec`: Environment). Seawall's own unit is another matter:
//! deploy/seawall.service.

use super::environment::{self, ONCE, SHOWN, drop_in, password, root_in_store, whole};
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy];

const DROP_IN: &str = "/etc/seawall/setup/systemd/seawall.conf";

pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let commands = vec![
        facts.store.command.clone(),
        "SERVICE=docker   # or containerd, crio, buildkit, gitlab-runner, …".to_owned(),
        format!("install -D -m 644 {DROP_IN} \"/etc/systemd/system/$SERVICE.service.d/seawall.conf\""),
        "systemctl daemon-reload && systemctl restart \"$SERVICE\"".to_owned(),
    ];
    let notes = vec![
        "The variables reach the service alone, not the containers it starts, and not seawall.service: that one takes upstream.proxy.".to_owned(),
        "A service with PrivateUsers or a root of its own (RootDirectory=, RootImage=) has its own trust store.".to_owned(),
        ONCE.to_owned(),
        password(SHOWN),
    ];
    Plan {
        files: vec![root_in_store(facts), whole(DROP_IN, drop_in(environment::variables_for_images(facts)))],
        commands,
        check: vec![seen::fetched_by("\"$SERVICE\"")],
        notes,
        undo: vec![
            "The services keep their copies: rm /etc/systemd/system/SERVICE.service.d/seawall.conf, then systemctl daemon-reload && systemctl \
             restart SERVICE."
                .to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn the_drop_in_goes_to_a_service_that_is_named() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        assert!(example::text(&plan, DROP_IN).contains("[Service]\nEnvironment=\"HTTP"));
        assert!(plan.commands.iter().any(|command| command.contains("$SERVICE.service.d/seawall.conf")));
        assert_eq!(plan.files[0].path, example::facts("http://a:1").store.file);
    }
}
