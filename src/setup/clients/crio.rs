//! CRI-O: the mirrors of podman's library, a daemon's environment (crio(8),
//! containers-registries.conf(5)).

use super::environment::{self, SHOWN, password, root_in_store, whole};
use super::seen::{self, PAUSE};
use super::{mirror, podman};
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy, Mode::Dns];

const RESTART: &str = "systemctl restart crio   # running containers go on";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = match mode {
        Mode::Mirror => Plan {
            files: podman::library_files(facts),
            commands: vec![RESTART.to_owned()],
            notes: podman::library_notes(facts, "crio"),
            ..Plan::default()
        },
        Mode::Proxy => proxy(facts),
        Mode::Dns => Plan {
            files: vec![root_in_store(facts)],
            commands: vec![facts.store.command.clone(), RESTART.to_owned()],
            notes: vec![mirror::NAMES.to_owned(), STORE.to_owned()],
            ..Plan::default()
        },
    };
    plan.check = seen::pulled(facts, &plan.files, format!("crictl pull {}", PAUSE.name), &PAUSE);
    plan
}

const STORE: &str = "CRI-O reads the system's store when it starts. certs.d knows no wildcards such as *.pkg.dev.";

fn proxy(facts: &Facts) -> Plan {
    let drop_in = "/etc/systemd/system/crio.service.d/seawall.conf";
    Plan {
        files: vec![
            root_in_store(facts),
            whole(drop_in, environment::drop_in(environment::variables_for_images(facts))),
        ],
        commands: vec![facts.store.command.clone(), "systemctl daemon-reload".to_owned(), RESTART.to_owned()],
        notes: vec![
            STORE.to_owned(),
            "Names and networks of the cluster that are not in NO_PROXY above are to be added there.".to_owned(),
            password(SHOWN),
        ],
        ..Plan::default()
    }
}
