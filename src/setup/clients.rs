//! One file per client. Shared by several: `names`, `environment`, `drop_in`, `mirror`, `dns`,
//! `dind`.

mod bind;
mod buildkit;
mod containerd;
mod coredns;
mod crio;
mod dind;
mod dns;
mod dnsmasq;
mod docker;
mod drop_in;
mod environment;
#[cfg(test)]
mod example;
mod github_actions;
mod gitlab_runner;
mod hosts;
mod iptables;
mod jenkins;
mod k3s;
mod kaniko;
mod kind;
mod kubernetes;
mod minikube;
mod mirror;
mod names;
mod podman;
mod rke;
mod rke2;
mod seen;
mod shell;
mod systemd;
mod unbound;

use std::fmt;
use std::str::FromStr;

use super::objection::{Files, Objection};
use super::plan::{Facts, Mode, Plan, Unknown};

/// Where the plan of a client comes from.
struct Entry {
    name: &'static str,
    about: &'static str,
    /// The first is the default.
    modes: &'static [Mode],
    plan: fn(&Facts, Mode) -> Plan,
}

/// The enum, the list and the table: a line for each client, `Variant = "name" module "what it
/// is"`.
macro_rules! clients {
    ($($variant:ident = $name:literal $module:ident $about:literal)*) => {
        /// Who can be pointed at seawall.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Client {
            $(#[doc = $about] $variant,)*
        }

        impl Client {
            /// In the order in which they are listed.
            pub const ALL: &[Client] = &[$(Client::$variant),*];

            fn entry(self) -> Entry {
                match self {
                    $(Client::$variant => Entry { name: $name, about: $about, modes: $module::MODES, plan: $module::plan },)*
                }
            }
        }
    };
}

clients! {
    Docker = "docker" docker "dockerd."
    Containerd = "containerd" containerd "containerd: nodes of Kubernetes, nerdctl, ctr."
    Podman = "podman" podman "podman, skopeo and buildah."
    Crio = "crio" crio "CRI-O."
    K3s = "k3s" k3s "K3s, servers and agents."
    Rke2 = "rke2" rke2 "RKE2, servers and agents."
    Rke = "rke" rke "RKE, the first one."
    Kind = "kind" kind "Clusters in docker, by kind."
    Minikube = "minikube" minikube "A cluster by minikube."
    Kubernetes = "kubernetes" kubernetes "Any cluster: its nodes by a DaemonSet, or pods by their environment."
    Buildkit = "buildkit" buildkit "BuildKit: buildx' docker-container builders, buildkitd."
    Kaniko = "kaniko" kaniko "kaniko, in a cluster or in CI."
    GitlabRunner = "gitlab-runner" gitlab_runner "GitLab Runner, with the docker or the kubernetes executor."
    GithubActions = "github-actions" github_actions "Self-hosted runners of GitHub Actions."
    Jenkins = "jenkins" jenkins "Jenkins and its agents."
    Shell = "shell" shell "What is started from shells: crane, helm, oras, cosign, skopeo."
    Systemd = "systemd" systemd "Any service of systemd."
    Dnsmasq = "dnsmasq" dnsmasq "dnsmasq: the registries' names lead to seawall."
    Coredns = "coredns" coredns "CoreDNS: the registries' names lead to seawall."
    Unbound = "unbound" unbound "Unbound: the registries' names lead to seawall."
    Bind = "bind" bind "BIND: the registries' names lead to seawall."
    Hosts = "hosts" hosts "/etc/hosts of one machine."
    Iptables = "iptables" iptables "seawall's own machine, by nftables or iptables: its port 443 leads to seawall."
}

impl Client {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        self.entry().about
    }

    /// The ways it can come to seawall, the default first.
    pub fn modes(self) -> &'static [Mode] {
        self.entry().modes
    }

    /// The way that is meant when none is named.
    pub fn default_mode(self) -> Mode {
        self.modes()[0]
    }

    /// What it needs, if it can come by `mode`.
    pub fn plan(self, mode: Mode, facts: &Facts) -> Option<Plan> {
        let entry = self.entry();
        entry.modes.contains(&mode).then(|| (entry.plan)(facts, mode))
    }

    /// What the client itself will not accept of what is there and what is about to be, or what
    /// would keep it from seawall without a word.
    pub(super) fn objection(self, plan: &Plan, files: &dyn Files) -> Option<Objection> {
        let of_drop_in = drop_in::objection(plan, files);
        of_drop_in.or_else(|| match self {
            Client::Docker => docker::objection(plan, files),
            Client::Containerd => containerd::objection(plan, files),
            Client::Podman | Client::Crio => podman::objection(plan, files),
            Client::K3s | Client::Rke2 => k3s::objection(plan, files),
            _ => None,
        })
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Client {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Client, Unknown> {
        Client::ALL.iter().copied().find(|client| client.as_str() == text).ok_or_else(|| Unknown(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every client and every way: what the types cannot say.
    #[test]
    fn every_plan_is_sound() {
        for client in Client::ALL {
            assert_eq!(client.as_str().parse(), Ok(*client));
            for mode in client.modes() {
                for address in
                    ["http://seawall.lab:3128", "https://seawall.lab", "http://10.0.0.7:3128", "http://[fd00::7]:80"]
                {
                    let facts = example::facts(address);
                    let plan = client.plan(*mode, &facts).unwrap();
                    example::assert_sound(&plan);
                    let text = format!("{plan:?}");
                    let has_ca = text.contains("BEGIN CERTIFICATE");
                    let needs_none = *mode == Mode::Mirror && address.starts_with("http:");
                    assert!(!(has_ca && needs_none), "{client} {mode} {address}: a mirror in the clear needs no root");
                }
            }
        }
        assert_eq!("dockerd".parse::<Client>(), Err(Unknown("dockerd".to_owned())));
        assert_eq!(Client::Hosts.plan(Mode::Mirror, &example::facts("http://s:1")), None);
    }
}
