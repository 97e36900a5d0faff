//! A docker daemon in a container, as CI has it beside its jobs: what its daemon.json says, and
//! where its roots are.

use serde_json::{Value, json};

use super::environment;
use super::mirror;
use super::names;
use crate::setup::{Facts, Mode};

/// Where a root counts for a Go program in a container of nearly any distribution: every file there
/// is read.
pub(super) const ROOT: &str = "/etc/ssl/certs/seawall-ca.pem";

/// /etc/docker/daemon.json of that daemon ("proxies": docker 23.0 and newer).
pub(super) fn daemon_json(facts: &Facts, mode: Mode) -> String {
    let value = match mode {
        Mode::Proxy => json!({ "proxies": proxies(facts) }),
        Mode::Mirror | Mode::Dns => json!({ "registry-mirrors": [facts.address.to_string()] }),
    };
    format!("{value:#}\n")
}

fn proxies(facts: &Facts) -> Value {
    let url = environment::proxy_url(facts);
    let mut proxies = json!({ "https-proxy": url, "no-proxy": environment::no_proxy(&facts.registries) });
    if !names::plain_http(&facts.registries).is_empty() {
        proxies["http-proxy"] = json!(url);
    }
    proxies
}

/// Whether [`ROOT`] must be there.
pub(super) fn needs_root(facts: &Facts, mode: Mode) -> bool {
    mode == Mode::Proxy || mirror::needs_ca(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn daemon_json_is_json() {
        let facts = example::facts("http://seawall.lab:3128");
        let read = |mode| serde_json::from_str::<Value>(&daemon_json(&facts, mode)).unwrap();
        assert_eq!(read(Mode::Proxy)["proxies"]["https-proxy"], "http://seawall.lab:3128");
        assert_eq!(read(Mode::Mirror)["registry-mirrors"][0], "http://seawall.lab:3128");
        assert!(needs_root(&facts, Mode::Proxy) && !needs_root(&facts, Mode::Mirror));
    }
}
