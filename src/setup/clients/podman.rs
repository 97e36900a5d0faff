//! podman, skopeo and buildah (containers-registries.conf(5), containers.conf(5),
//! containers-certs.d(5)).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::environment::{self, password, root_in_store, whole};
use super::mirror::{self, PUBLIC, SILENT};
use super::seen::{self, PAUSE};
use crate::policy::registry::{Registries, Registry};
use crate::setup::objection::{Files, Objection};
use crate::setup::{Facts, File, Mode, Plan};

pub(super) const MODES: &[Mode] = &[Mode::Mirror, Mode::Proxy, Mode::Dns];

const DIRECTORY: &str = "/etc/containers/registries.conf.d";
const CONF: &str = "/etc/containers/registries.conf.d/50-seawall.conf";

pub(super) fn plan(facts: &Facts, mode: Mode) -> Plan {
    match mode {
        Mode::Mirror => as_mirror(facts),
        Mode::Proxy => proxy(facts),
        Mode::Dns => dns(facts),
    }
}

fn as_mirror(facts: &Facts) -> Plan {
    let mut notes = library_notes(facts, "podman");
    notes.push(
        "Each command reads its files when it starts: nothing is to be restarted but podman system service.".to_owned(),
    );
    let files = library_files(facts);
    Plan { check: pulled(facts, &files), files, notes, ..Plan::default() }
}

fn pulled(facts: &Facts, files: &[File]) -> Vec<String> {
    seen::pulled(facts, files, format!("podman pull {}", PAUSE.name), &PAUSE)
}

/// What every user of the library reads for mirrors: CRI-O too.
pub(super) fn library_files(facts: &Facts) -> Vec<File> {
    let authority = facts.address.authority();
    let mut files = vec![whole(CONF, registries_conf(facts))];
    if mirror::needs_ca(facts) {
        files.push(whole(format!("/etc/containers/certs.d/{authority}/seawall.crt"), facts.ca_pem.as_str()));
    }
    files
}

/// Their traps.
pub(super) fn library_notes(facts: &Facts, client: &str) -> Vec<String> {
    let Mirrored { unreached, .. } = Mirrored::of(&facts.registries);
    let mut notes = vec![PUBLIC.to_owned(), SILENT.to_owned()];
    if !unreached.is_empty() {
        notes.push(format!(
            "Not through the mirror: {}. A mirror's path has to name one registry. --mode proxy has them all.",
            unreached.join(", ")
        ));
    }
    notes.push(
        "A [[registry]] of the same prefix in registries.conf, or in a file of registries.conf.d before this one, is replaced as a whole by the \
         one here: its mirrors, insecure and mirror-by-digest-only are lost. To keep them copy this file to 60-own.conf, and add them there behind \
         seawall's."
            .to_owned(),
    );
    notes.push(mirror::list_note(facts, client, Mode::Mirror));
    notes
}

/// A prefix that is blocked would be open, since the last table of a prefix counts alone
/// (containers-registries.conf.d(5)).
pub(super) fn objection(plan: &Plan, files: &dyn Files) -> Option<Objection> {
    let ours = plan.files.iter().find(|file| file.path == Path::new(CONF))?.content.text();
    let ours: Vec<String> = entries(&ours).into_iter().map(|(prefix, _)| prefix).collect();
    let drop_ins =
        files.list(Path::new(DIRECTORY)).into_iter().filter(|path| path.extension().is_some_and(|e| e == "conf"));
    let main = PathBuf::from("/etc/containers/registries.conf");
    std::iter::once(main).chain(drop_ins.filter(|path| path != Path::new(CONF))).find_map(|path| {
        let text = files.now(&path)?;
        let blocked = entries(&text).into_iter().find(|(prefix, is_blocked)| *is_blocked && ours.contains(prefix));
        let why = |(prefix, _)| {
            format!(
                "it blocks {prefix}, which seawall's table of the same prefix would open: take that registry out of seawall's configuration, or the \
                 block out here"
            )
        };
        blocked.map(|blocked| Objection::new(&path, why(blocked)))
    })
}

/// The prefixes of a registries.conf, and whether they are blocked.
fn entries(text: &str) -> Vec<(String, bool)> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let registries = table.get("registry").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let entry = |registry: &toml::Value| {
        let prefix = registry.get("prefix").or(registry.get("location"))?.as_str()?.to_owned();
        Some((prefix, registry.get("blocked").and_then(toml::Value::as_bool).unwrap_or_default()))
    };
    registries.iter().filter_map(entry).collect()
}

/// What can be told of the registries here.
#[derive(Debug, PartialEq)]
struct Mirrored {
    /// The registry in an image's name, and in the mirror's path.
    entries: Vec<(String, String)>,
    unreached: Vec<String>,
}

impl Mirrored {
    fn of(registries: &Registries) -> Mirrored {
        let mut mirrored = Mirrored { entries: Vec::new(), unreached: Vec::new() };
        for registry in registries.iter() {
            for pattern in &registry.hosts {
                let host = pattern.authority();
                // The library calls Docker Hub by this name alone.
                if &*registry.name == "docker.io" && host != "docker.io" {
                    continue;
                }
                match path_name(registry, &host).filter(|_| !pattern.is_wildcard()) {
                    Some(name) if mirrored.entries.iter().all(|(known, _)| *known != host) => {
                        mirrored.entries.push((host, name))
                    }
                    Some(_) => {}
                    None => mirrored.unreached.push(host),
                }
            }
        }
        mirrored
    }
}

/// A part of a repository's name (distribution-spec, "Pulling manifests") that means this registry:
/// it has no port.
fn path_name(registry: &Registry, host: &str) -> Option<String> {
    let is_part = |name: &&str| {
        let sound =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
        sound
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let is_one = registry.upstream.is_some();
    let names = is_one.then(|| std::iter::once(&*registry.name).chain(registry.aliases.iter().map(String::as_str)));
    names.into_iter().flatten().chain([host]).find(is_part).map(str::to_owned)
}

fn registries_conf(facts: &Facts) -> String {
    let authority = facts.address.authority();
    let insecure = if mirror::needs_ca(facts) { "" } else { "insecure = true   # in the clear\n" };
    let mut text = "# seawall: the cache is asked first, then the registry itself.\n".to_owned();
    for (host, name) in Mirrored::of(&facts.registries).entries {
        let _ = write!(
            text,
            "\n[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{authority}/{name}\"\n{insecure}"
        );
    }
    text
}

/// podman and buildah take their environment from containers.conf; skopeo does not read it.
fn proxy(facts: &Facts) -> Plan {
    let variables: Vec<_> =
        environment::variables(facts).into_iter().map(|(name, value)| format!("  \"{name}={value}\",\n")).collect();
    let text = format!("# seawall\n[engine]\nenv = [\n{}]\n", variables.concat());
    let files = vec![root_in_store(facts), whole("/etc/containers/containers.conf.d/50-seawall.conf", text)];
    Plan {
        check: pulled(facts, &files),
        files,
        commands: vec![facts.store.command.clone()],
        notes: vec![
            "skopeo reads no containers.conf: seawall setup shell gives it the same variables.".to_owned(),
            "An env under [engine] in another file of containers.conf.d that is read later takes the place of this one.".to_owned(),
            "podman hands these variables on to containers and build steps, which do not have the root; http_proxy = false under [containers] \
             stops that."
                .to_owned(),
            STORE.to_owned(),
            password("Not in this file, which every user reads: in ~/.config/containers/containers.conf of who needs it (chmod 600)."),
        ],
        ..Plan::default()
    }
}

const STORE: &str = "The root is in the system's store since certs.d knows no wildcards such as *.pkg.dev. Who may not write there: \
                     ~/.config/containers/certs.d/REGISTRY/seawall.crt, for each registry by its name in images. Nothing is to be restarted but \
                     podman system service; podman machine has a system of its own.";

fn dns(facts: &Facts) -> Plan {
    let files = vec![root_in_store(facts)];
    Plan {
        check: pulled(facts, &files),
        files,
        commands: vec![facts.store.command.clone()],
        notes: vec![mirror::NAMES.to_owned(), STORE.to_owned()],
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::clients::example::{self, There};

    #[test]
    fn each_registry_has_its_path_and_what_has_none_is_said() {
        let facts = example::facts("http://seawall.lab:3128");
        let mirrored = Mirrored::of(&facts.registries);
        let path = |host: &str| mirrored.entries.iter().find(|(h, _)| h == host).map(|(_, path)| path.as_str());
        assert_eq!(path("docker.io"), Some("docker.io"));
        assert_eq!(path("registry-1.docker.io"), None);
        assert_eq!(path("gcr.io"), Some("gcr.io"));
        assert_eq!(path("lab.corp:5000"), Some("lab"));
        assert_eq!(mirrored.unreached, ["*.gcr.io", "*.pkg.dev", "*.dkr.ecr.*.amazonaws.com"]);
        let conf: toml::Table = registries_conf(&facts).parse().unwrap();
        let first = &conf["registry"][0];
        assert_eq!(first["mirror"][0]["location"].as_str(), Some("seawall.lab:3128/docker.io"));
        assert_eq!(first["mirror"][0]["insecure"].as_bool(), Some(true));
        assert!(library_notes(&facts, "podman").iter().any(|note| note.contains("*.pkg.dev")));
    }

    #[test]
    fn a_block_is_not_opened() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Mirror);
        for (path, text, expected) in [
            ("/etc/containers/registries.conf", "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n", true),
            (
                "/etc/containers/registries.conf.d/01-x.conf",
                "[[registry]]\nprefix = \"ghcr.io\"\nblocked = true\n",
                true,
            ),
            (
                "/etc/containers/registries.conf.d/01-x.bak",
                "[[registry]]\nprefix = \"ghcr.io\"\nblocked = true\n",
                false,
            ),
            ("/etc/containers/registries.conf", "[[registry]]\nprefix = \"docker.io/evil\"\nblocked = true\n", false),
            ("/etc/containers/registries.conf", "[[registry]]\nlocation = \"docker.io\"\n", false),
            ("/etc/containers/registries.conf", "[registries.block]\nregistries = []\n", false),
            (CONF, "[[registry]]\nlocation = \"docker.io\"\nblocked = true\n", false),
        ] {
            let said = objection(&plan, &There::new(&plan, &[(path, text)]));
            assert_eq!(said.map(|said| said.path), expected.then(|| path.into()), "{text}");
        }
    }

    #[test]
    fn over_tls_the_mirror_is_trusted() {
        let plan = plan(&example::facts("https://seawall.lab"), Mode::Mirror);
        assert_eq!(example::text(&plan, "/etc/containers/certs.d/seawall.lab/seawall.crt"), example::PEM);
        assert!(!example::text(&plan, "/etc/containers/registries.conf.d/50-seawall.conf").contains("insecure"));
    }

    #[test]
    fn the_engine_has_its_environment() {
        let plan = plan(&example::facts("http://seawall.lab:3128"), Mode::Proxy);
        let text = example::text(&plan, "/etc/containers/containers.conf.d/50-seawall.conf");
        let conf: toml::Table = text.parse().unwrap();
        assert!(
            conf["engine"]["env"]
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v.as_str() == Some("HTTPS_PROXY=http://seawall.lab:3128"))
        );
    }
}
