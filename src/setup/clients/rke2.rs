//! RKE2 (docs.rke2.io/install/private_registry, /advanced#configuring-an-http-proxy).

use super::k3s::Distribution;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = super::k3s::MODES;

const RKE2: Distribution = Distribution {
    name: "rke2",
    environment: ["/etc/default/rke2-server", "/etc/default/rke2-agent"],
    units: ["rke2-server", "rke2-agent"],
    crictl: "/var/lib/rancher/rke2/bin/crictl --config /var/lib/rancher/rke2/agent/etc/crictl.yaml",
    caveat: None,
};

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    RKE2.plan(facts, mode)
}
