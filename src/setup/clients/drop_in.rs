//! What else gives a service its environment beside seawall's drop-in (systemd.unit(5): drop-ins of
//! all directories are read in the order of their names; systemd.exec(5): EnvironmentFile=
//! overrides Environment=).

use std::path::{Path, PathBuf};

use crate::setup::objection::{Files, Objection};
use crate::setup::{Content, Plan};

const NAME: &str = "seawall.conf";
const DIRECTORIES: [&str; 2] = ["/etc/systemd/system", "/usr/lib/systemd/system"];

type Variable = (String, String);

/// Another file whose variables count.
struct Source {
    path: PathBuf,
    order: Order,
    variables: Vec<Variable>,
}

/// When it is read, seen from ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Before,
    After,
}

/// Of two drop-ins with the same variable one counts, and nothing says which.
pub(super) fn objection(plan: &Plan, files: &dyn Files) -> Option<Objection> {
    let (unit, ours) = plan.files.iter().find_map(|file| match &file.content {
        Content::Whole(text) => Some((unit_of(&file.path)?, assignments(text))),
        _ => None,
    })?;
    let conflict = |source: &Source| source.variables.iter().find_map(|theirs| why(theirs, source.order, &ours));
    sources(&unit, files).iter().find_map(|source| Some(Objection::new(&source.path, conflict(source)?)))
}

/// `docker.service` of /etc/systemd/system/docker.service.d/seawall.conf.
fn unit_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix(DIRECTORIES[0]).ok()?;
    let unit = below.parent()?.to_str()?.strip_suffix(".d")?;
    (below.file_name()? == NAME).then(|| unit.to_owned())
}

fn sources(unit: &str, files: &dyn Files) -> Vec<Source> {
    let drop_ins = DIRECTORIES.iter().flat_map(|dir| files.list(&Path::new(dir).join(format!("{unit}.d"))));
    let drop_ins = drop_ins.filter(|path| path.extension().is_some_and(|e| e == "conf") && !path.ends_with(NAME));
    let units = DIRECTORIES.iter().map(|dir| Path::new(dir).join(unit));
    let mut sources = Vec::new();
    for path in units.chain(drop_ins) {
        let Some(text) = files.now(&path) else { continue };
        for file in settings(&text, "EnvironmentFile").map(|file| PathBuf::from(file.trim_start_matches('-'))) {
            let lines = files.now(&file).unwrap_or_default();
            sources.push(Source { path: file, order: Order::After, variables: variables(&lines) });
        }
        let is_drop_in = path.extension().is_some_and(|e| e == "conf");
        let is_after = is_drop_in && path.file_name().is_some_and(|name| name > NAME);
        let order = if is_after { Order::After } else { Order::Before };
        sources.push(Source { path, order, variables: assignments(&text) });
    }
    sources
}

/// Go reads HTTPS_PROXY before https_proxy (golang.org/x/net/http/httpproxy: FromEnvironment), so a
/// lower-case one never counts beside ours.
fn why((name, theirs): &Variable, order: Order, ours: &[Variable]) -> Option<String> {
    let ours = ours.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)?;
    let has_no_more =
        *ours == without_password(theirs) || (name.eq_ignore_ascii_case("NO_PROXY") && is_part(theirs, ours));
    let is_after = order == Order::After && *name == name.to_uppercase();
    if has_no_more || theirs.is_empty() {
        return None;
    }
    match name.to_uppercase().as_str() {
        // Whoever put it behind ours meant to.
        "NO_PROXY" if is_after => None,
        "NO_PROXY" => Some(format!(
            "it sets {name}, which seawall's drop-in would take the place of: put {name} with its names and seawall's ({ours}) into a drop-in \
             that is read after {NAME}, such as zz-no-proxy.conf, and take it out here"
        )),
        _ if is_after => Some(format!("it sets {name}, which counts instead of seawall's: {ADVICE}")),
        _ => Some(format!("it sets {name}, which seawall's drop-in would take the place of: {ADVICE}")),
    }
}

const ADVICE: &str =
    "take it out here; if the registries are reached through that proxy, it becomes upstream.proxy of seawall";

/// `http://NAME:PASSWORD@HOST:PORT` is the same proxy.
fn without_password(url: &str) -> String {
    match url.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((_, host)))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

fn is_part(theirs: &str, ours: &str) -> bool {
    theirs.split(',').all(|entry| ours.split(',').any(|own| own == entry.trim()))
}

fn settings<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim))
}

fn assignments(unit: &str) -> Vec<Variable> {
    settings(unit, "Environment").flat_map(words).filter_map(|word| variable(&word)).collect()
}

/// The lines of an environment file.
fn variables(text: &str) -> Vec<Variable> {
    text.lines().filter_map(|line| variable(line.trim())).collect()
}

fn variable(word: &str) -> Option<Variable> {
    let (name, value) = word.split_once('=')?;
    Some((name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
}

/// Parted by blanks that no quotes enclose.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::setup::Mode;
    use crate::setup::clients::Client;
    use crate::setup::clients::example::{self, There};

    const OWN: &str = "/etc/systemd/system/docker.service.d";

    #[test]
    fn a_variable_has_one_home() {
        let plan = Client::Docker.plan(Mode::Proxy, &example::facts("http://seawall.lab:3128")).unwrap();
        for (name, text, expected) in [
            ("http-proxy.conf", "[Service]\nEnvironment=\"HTTPS_PROXY=http://corp:8080\"\n", Some("take the place")),
            ("http-proxy.conf", "[Service]\nEnvironment='NO_PROXY=.corp' A=b\n", Some("zz-no-proxy.conf")),
            ("http-proxy.conf", "[Service]\nEnvironment=NO_PROXY=localhost,::1\n", None),
            ("http-proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://seawall.lab:3128\n", None),
            ("http-proxy.conf", "[Service]\n#Environment=HTTPS_PROXY=http://corp:8080\n", None),
            ("zz.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://corp:8080\n", Some("counts instead")),
            ("zz.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://me:secret@seawall.lab:3128\n", None),
            ("zz.conf", "[Service]\nEnvironment=NO_PROXY=.corp\n", None),
            ("zz.conf", "[Service]\nEnvironment=no_proxy=.corp\n", Some("take the place")),
            ("zz.conf.bak", "[Service]\nEnvironment=HTTPS_PROXY=http://corp:8080\n", None),
            ("limits.conf", "[Service]\nLimitNOFILE=1\nEnvironment=\n", None),
        ] {
            let path = format!("{OWN}/{name}");
            let files = There::new(&plan, &[(&path, text)]);
            let said = objection(&plan, &files);
            assert_eq!(said.is_some(), expected.is_some(), "{name} {text}: {said:?}");
            if let (Some(said), Some(expected)) = (said, expected) {
                assert!(said.why.contains(expected) && said.path == Path::new(&path), "{said:?}");
            }
        }
    }

    #[test]
    fn an_environment_file_counts_last() {
        let plan = Client::Crio.plan(Mode::Proxy, &example::facts("http://seawall.lab:3128")).unwrap();
        let unit = "[Service]\nEnvironmentFile=-/etc/sysconfig/crio\n";
        let there = [
            ("/usr/lib/systemd/system/crio.service", unit),
            ("/etc/sysconfig/crio", "# x\nHTTPS_PROXY=\"http://corp:8080\"\n"),
        ];
        assert_eq!(objection(&plan, &There::new(&plan, &there)).unwrap().path, Path::new("/etc/sysconfig/crio"));
        assert_eq!(objection(&plan, &There::new(&plan, &there[1..])), None, "nothing reads it");
    }

    proptest! {
        #[test]
        fn no_unit_makes_it_panic(text in "(Environment(File)?=)?[A-c\"'= \n-]{0,40}") {
            assignments(&text);
            variables(&text);
        }
    }
}
