//! Login shells, and what is started from them: crane, skopeo, helm, oras, cosign, trivy, curl.

use std::fmt::Write as _;

use super::environment::{self, password, root_in_store, whole};
use super::seen;
use crate::setup::{Facts, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Proxy];

const PROFILE: &str = "/etc/profile.d/seawall.sh";

pub(super) fn plan(facts: &Facts, _: Mode) -> Plan {
    let mut text = "# seawall: what these shells fetch from registries comes through the cache.\n".to_owned();
    for (name, value) in environment::in_both_cases(environment::variables(facts)) {
        let _ = writeln!(text, "export {name}=\"{value}\"");
    }
    let root = facts.store.file.display();
    let _ = write!(
        text,
        "# Programs that do not look into the system's store:\nexport NODE_EXTRA_CA_CERTS=\"{root}\"\n# These take the place of all other \
         roots, so they name a bundle that seawall's is part of (Debian's, after update-ca-certificates):\n#export \
         SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n#export REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt\n#export \
         CURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt\n"
    );
    let mut notes = vec![
        "Daemons read no profile: docker, containerd and the like are set up by seawall setup of their name. sudo drops these variables \
         unless it is told to keep them (sudo -E, env_keep)."
            .to_owned(),
        "Everything over HTTPS takes this way: what is no registry is tunnelled unless [tunnel] refuses it.".to_owned(),
        "~/.docker/config.json's \"proxies\" are for containers, not for the docker daemon's pulls.".to_owned(),
        password("Not in this file, which every user reads: in the ~/.profile of who needs it (chmod 600)."),
    ];
    notes.extend(environment::plain_http_note(facts));
    Plan {
        files: vec![root_in_store(facts), whole(PROFILE, text)],
        commands: vec![facts.store.command.clone(), format!(". {PROFILE}   # in shells that are open already")],
        check: vec![seen::fetched()],
        notes,
        undo: vec![
            "Shells that are open keep the variables: unset HTTPS_PROXY https_proxy NO_PROXY no_proxy NODE_EXTRA_CA_CERTS.".to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    #[test]
    fn both_cases_are_exported_and_no_bundle_is_replaced() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        let text = example::text(&plan, PROFILE);
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            assert!(text.contains(&format!("\nexport {name}=\"")), "{name}: {text}");
        }
        assert!(text.contains("\n#export SSL_CERT_FILE=") && !text.contains("\nexport SSL_CERT_FILE="), "{text}");
    }
}
