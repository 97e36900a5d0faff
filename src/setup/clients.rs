//! One file per client. Shared by several: `names`, `environment`, `mirror`, `dns`.

#![expect(dead_code, reason = "the table of clients comes with the command")]

mod bind;
mod coredns;
mod dns;
mod dnsmasq;
mod environment;
#[cfg(test)]
mod example;
mod hosts;
mod k3s;
mod kind;
mod minikube;
mod mirror;
mod names;
mod rke;
mod rke2;
mod unbound;
