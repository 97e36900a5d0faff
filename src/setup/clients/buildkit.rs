//! BuildKit, as buildx' docker-container builder or as a buildkitd of one's own (buildkit
//! docs/buildkitd.toml.md).

use toml::{Table, Value};

use super::environment::{self, password, whole};
use super::mirror::{self, PUBLIC, SILENT, loopback_note};
use super::names::Mirrored;
use super::seen::{self, PAUSE};
use crate::setup::{Content, Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy];

const CONFIG: &str = "/etc/buildkit/buildkitd.toml";
const CA: &str = "/etc/buildkit/seawall-ca.crt";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    let mut plan = if mode == Mode::Proxy { proxy(facts) } else { as_mirror(facts) };
    plan.notes.push(
        "buildx copies buildkitd.toml and the certificates it names into the builder when it creates it: remove and create a builder that \
         exists (docker buildx rm seawall). A buildkitd of one's own reads the file at its start."
            .to_owned(),
    );
    plan.notes.push(format!(
        "The default builder (driver docker) is the docker daemon itself: seawall setup docker. {}",
        match mode {
            Mode::Proxy => "RUN steps have neither these variables nor this root.",
            Mode::Mirror | Mode::Dns => "What RUN steps pull does not come by this mirror.",
        }
    ));
    plan.notes.push(
        "Builds take it by --builder seawall, or all of them after docker buildx use seawall; their images stay in it without --load or --push, \
         where docker run does not find them."
            .to_owned(),
    );
    plan.notes.push(mirror::list_note(facts, "buildkit", mode));
    let build = format!("echo FROM {} | docker buildx build --builder seawall --no-cache -", PAUSE.name);
    plan.check = seen::pulled(facts, &plan.files, build, &PAUSE);
    plan.undo = vec!["The builder keeps its copy: docker buildx rm seawall.".to_owned()];
    plan.notes.extend(loopback_note(facts, "the builder"));
    plan
}

/// `?ns=` tells seawall which registry is meant. A registry's mirrors are tried before itself.
fn as_mirror(facts: &Facts) -> Plan {
    let authority = facts.address.authority();
    let mut registries = entries(facts, "mirrors", &authority);
    let mut files = Vec::new();
    let mut own = Table::new();
    if mirror::needs_ca(facts) {
        own.insert("ca".to_owned(), list(CA));
        files.push(whole(CA, facts.ca_pem.as_str()));
    } else {
        own.insert("http".to_owned(), Value::Boolean(true));
    }
    registries.insert(authority, Value::Table(own));
    files.push(config(registries));
    let mut notes = vec![PUBLIC.to_owned(), SILENT.to_owned()];
    notes.extend(Mirrored::of(&facts.registries).note("buildkitd.toml"));
    Plan { files, commands: vec![create(&[])], notes, ..Plan::default() }
}

/// buildx copies a `ca` to /etc/buildkit/certs/REGISTRY/FILE. Go reads every file in SSL_CERT_DIR
/// beside the system's bundle, so that directory makes the root count for registries that are not
/// listed, too.
fn proxy(facts: &Facts) -> Plan {
    let registries = entries(facts, "ca", CA);
    let mut variables = environment::in_both_cases(environment::variables_for_images(facts));
    if let Some(first) = registries.keys().next() {
        let copied = format!("/etc/ssl/certs:/etc/buildkit/certs/{}", first.replace(':', "_"));
        variables.push(("SSL_CERT_DIR".to_owned(), copied));
    }
    let option = |(name, value): &(String, String)| format!("--driver-opt '\"env.{name}={value}\"'");
    let options: Vec<_> = variables.iter().map(option).collect();
    let notes = vec![
        "Tokens are fetched by the docker CLI that starts the build, with its own HTTPS_PROXY and roots, unless BUILDKIT_NO_CLIENT_TOKEN=1 \
         is set for it: seawall setup shell."
            .to_owned(),
        "A builder has roots of its own: that the machine trusts seawall does not count within.".to_owned(),
        "A buildkitd of one's own takes the variables from its unit (seawall setup systemd), and the root of registries with wildcards from \
         its system's store."
            .to_owned(),
        password("Who may ask the docker daemon can read it there (docker inspect).",),
    ];
    Plan {
        files: vec![whole(CA, facts.ca_pem.as_str()), config(registries)],
        commands: vec![create(&options)],
        notes,
        ..Plan::default()
    }
}

fn entries(facts: &Facts, key: &str, value: &str) -> Table {
    let entry = |host| (host, Value::Table(Table::from_iter([(key.to_owned(), list(value))])));
    Mirrored::of(&facts.registries).hosts.into_iter().map(entry).collect()
}

fn list(entry: &str) -> Value {
    Value::Array(vec![Value::String(entry.to_owned())])
}

fn config(registries: Table) -> File {
    let table = Table::from_iter([("registry".to_owned(), Value::Table(registries))]);
    File { path: CONFIG.into(), content: Content::Toml(table) }
}

fn create(options: &[String]) -> String {
    let words =
        ["docker buildx create --name seawall --bootstrap --driver docker-container --buildkitd-config", CONFIG];
    words.into_iter().chain(options.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example;

    fn registries(plan: &Plan) -> Table {
        example::text(plan, CONFIG).parse::<Table>().unwrap()["registry"].as_table().unwrap().clone()
    }

    #[test]
    fn every_registry_has_the_mirror() {
        for (address, key) in [("http://seawall.lab:3128", "http"), ("https://seawall.lab:3128", "ca")] {
            let plan = plan(&example::facts(address), Mode::Mirror);
            example::assert_sound(&plan);
            let registries = registries(&plan);
            for host in Mirrored::of(&example::registries()).hosts {
                assert_eq!(registries[&host]["mirrors"][0].as_str(), Some("seawall.lab:3128"), "{host}");
            }
            assert!(registries["seawall.lab:3128"].get(key).is_some(), "{registries:?}");
            assert_eq!(plan.files.iter().any(|file| file.path.to_str() == Some(CA)), key == "ca");
            assert!(plan.notes.iter().any(|note| note.contains("*.pkg.dev")));
            assert!(!plan.commands[0].contains("--use"), "the default builder is the user's choice");
            assert!(!plan.notes.join(" ").contains("these variables"));
        }
    }

    #[test]
    fn as_a_proxy_the_root_is_carried_into_the_builder() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        example::assert_sound(&plan);
        let registries = registries(&plan);
        assert_eq!(registries["docker.io"]["ca"][0].as_str(), Some(CA));
        let command = &plan.commands[0];
        let first = registries.keys().next().unwrap();
        assert!(command.contains(&format!("env.SSL_CERT_DIR=/etc/ssl/certs:/etc/buildkit/certs/{first}")), "{command}");
        assert!(command.contains("'\"env.https_proxy=http://seawall.lab:3128\"'"), "{command}");
    }
}
