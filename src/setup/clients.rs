//! One file per client. Shared by several: `names`, `environment`, `mirror`, `dns`, `dind`.

#![expect(dead_code, reason = "the table of clients comes with the command")]

mod bind;
mod buildkit;
mod coredns;
mod dind;
mod dns;
mod dnsmasq;
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
mod rke;
mod rke2;
mod shell;
mod systemd;
mod unbound;
