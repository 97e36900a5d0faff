//! The variables that send a process through seawall (golang.org/x/net/http/httpproxy: the list
//! that all these clients read).

use std::fmt::Write as _;
use std::path::PathBuf;

use super::names;
use crate::http::origin::Host;
use crate::policy::no_proxy::NoProxy;
use crate::policy::registry::Registries;
use crate::setup::{Content, Facts, File};

/// What is never asked through a proxy: this machine, private networks, a cluster's own services.
const DIRECT: &[&str] =
    &["localhost", "127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", ".svc", ".cluster.local"];

/// Of the variables, which a password would be part of; `place` says who else could read it there.
pub(super) fn password(place: &str) -> String {
    format!(
        "Where seawall asks for names and passwords (clients.users_file), write http://NAME:PASSWORD@HOST:PORT: clients do not ask. {place}"
    )
}

/// Of a systemd drop-in (systemd.exec(5): EnvironmentFile= overrides Environment=).
pub(super) const SHOWN: &str = "Not in this file: every user of the machine can read what Environment= says (systemctl show). A drop-in of your own beside it \
                                with EnvironmentFile=/etc/seawall/proxy.env, and HTTPS_PROXY=… in that file (chmod 600), keeps it from them.";

/// Of a pod's variables.
pub(super) const SECRET: &str = "In a pod it belongs into a Secret (valueFrom.secretKeyRef, envFrom.secretRef).";

/// Of every client in proxy mode.
pub(super) const ONCE: &str =
    "A process reads its environment and the system's roots once, when it starts: restart what runs already.";

/// The proxy's URL, its port written: not every client takes 80 or 443 for granted.
pub(super) fn proxy_url(facts: &Facts) -> String {
    let address = &facts.address;
    format!("{}://{}:{}", address.scheme.as_str(), address.host, address.port)
}

/// For whatever runs there. HTTP_PROXY is not among them: seawall forwards plain HTTP to the ports
/// of `[tunnel]` alone, 443 if not configured otherwise, and apt would stop.
pub(super) fn variables(facts: &Facts) -> Vec<(&'static str, String)> {
    vec![("HTTPS_PROXY", proxy_url(facts)), ("NO_PROXY", no_proxy(&facts.registries))]
}

/// For what fetches nothing but images: registries that are spoken to in the clear, too.
pub(super) fn variables_for_images(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut variables = variables(facts);
    if !names::plain_http(&facts.registries).is_empty() {
        variables.push(("HTTP_PROXY", proxy_url(facts)));
    }
    variables
}

/// What [`variables`] leave out.
pub(super) fn plain_http_note(facts: &Facts) -> Option<String> {
    let hosts = names::plain_http(&facts.registries);
    let said = format!(
        "HTTP_PROXY is left out, since it would send all plain HTTP to seawall, which refuses ports that are not in [tunnel] ports. Set it \
         where you pull from {}.",
        hosts.join(", ")
    );
    (!hosts.is_empty()).then_some(said)
}

/// Each name in lower case too: some programs read but that.
pub(super) fn in_both_cases(variables: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    let both = |(name, value): (&'static str, String)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)];
    variables.into_iter().flat_map(both).collect()
}

/// [`DIRECT`] without what would lead a configured registry past seawall.
pub(super) fn no_proxy(registries: &Registries) -> String {
    let hosts: Vec<&str> =
        registries.iter().flat_map(|r| r.hosts.iter().chain(&r.auth_hosts)).map(|h| h.host()).collect();
    let kept = DIRECT.iter().copied().filter(|entry| !hosts.iter().any(|host| goes_past(entry, host)));
    kept.collect::<Vec<_>>().join(",")
}

/// Whether `entry` means a host that `pattern` means. Clients go past any proxy to this machine,
/// whatever is listed.
fn goes_past(entry: &str, pattern: &str) -> bool {
    let Ok(host) = pattern.replace('*', "any").parse::<Host>() else { return false };
    let rule = NoProxy(vec![entry.parse().expect("the list's entries are valid")]);
    rule.matches(&host, 443) && !NoProxy::default().matches(&host, 443)
}

/// A systemd drop-in that gives them to a service.
pub(super) fn drop_in(variables: Vec<(&'static str, String)>) -> String {
    let mut text =
        "# seawall: what this service fetches from registries comes through the cache.\n[Service]\n".to_owned();
    for (name, value) in variables {
        let _ = writeln!(text, "Environment=\"{name}={value}\"");
    }
    text
}

/// The entries of a container's `env`, indented by `by` spaces.
pub(super) fn yaml(facts: &Facts, by: usize) -> String {
    let space = " ".repeat(by);
    let entry = |(name, value)| format!("{space}- {{name: {name}, value: \"{value}\"}}\n");
    in_both_cases(variables(facts)).into_iter().map(entry).collect()
}

/// The root in the system's store. It counts once `facts.store.command` has run.
pub(super) fn root_in_store(facts: &Facts) -> File {
    File { path: facts.store.file.clone(), content: Content::Whole(facts.ca_pem.clone()) }
}

/// The root as the ConfigMap `seawall-ca` with its key `ca.crt`, for pods of one namespace.
pub(super) fn root_config_map(facts: &Facts) -> String {
    let pem = indented(&facts.ca_pem, 4);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: seawall-ca\ndata:\n  ca.crt: |\n{pem}")
}

/// A file of seawall's own.
pub(super) fn whole(path: impl Into<PathBuf>, text: impl Into<String>) -> File {
    File { path: path.into(), content: Content::Whole(text.into()) }
}

/// Text within YAML's `|` blocks.
pub(super) fn indented(text: &str, by: usize) -> String {
    let space = " ".repeat(by);
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{space}{line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn a_registry_in_a_private_network_is_reached_through_seawall() {
        let list = no_proxy(&example::registries());
        assert!(!list.contains("10.0.0.0/8"), "{list}");
        assert!(list.contains("192.168.0.0/16") && list.contains("localhost"));
        for (entry, host, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            (".svc", "registry.default.svc", true),
            ("localhost", "localhost", false),
            ("::1", "::1", false),
            (".svc", "ghcr.io", false),
        ] {
            assert_eq!(goes_past(entry, host), expected, "{entry} {host}");
        }
    }

    #[test]
    fn a_drop_in_names_the_port() {
        let facts = example::facts("http://seawall.lab:80");
        let text = drop_in(variables_for_images(&facts));
        assert!(text.contains("Environment=\"HTTPS_PROXY=http://seawall.lab:80\"\n"), "{text}");
        assert!(text.contains("\"HTTP_PROXY=") && text.contains("\"NO_PROXY="), "{text}");
        assert_eq!(proxy_url(&example::facts("https://[fd00::1]:3128")), "https://[fd00::1]:3128");
    }

    #[test]
    fn plain_http_is_for_what_fetches_images_alone() {
        let mut facts = example::facts("http://seawall.lab:3128");
        let names =
            |variables: Vec<(&'static str, String)>| variables.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(variables(&facts)), ["HTTPS_PROXY", "NO_PROXY"]);
        assert_eq!(names(variables_for_images(&facts)), ["HTTPS_PROXY", "NO_PROXY", "HTTP_PROXY"]);
        assert!(plain_http_note(&facts).unwrap().contains("lab.corp:5000"));
        facts.registries = Registries::default();
        assert_eq!(names(variables_for_images(&facts)), ["HTTPS_PROXY", "NO_PROXY"]);
        assert_eq!(plain_http_note(&facts), None);
    }
}
