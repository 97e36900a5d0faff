//! `seawall setup`: every client and every way, written below a root, applied twice, taken back.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use seawall::config::{Config, Overrides};
use seawall::http::origin::Origin;
use seawall::setup::{Client, Content, Facts, Mode, Plan, TrustStore, write};

use crate::harness::{self, Image, Pki, Registry, Seawall, Style};

pub(crate) const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIBSEAWALL\n-----END CERTIFICATE-----\n";

pub(crate) fn facts(address: &str) -> Facts {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seawall.toml");
    std::fs::write(&file, "").unwrap();
    let config = Config::load(Some(&file), std::iter::empty(), Overrides::default()).unwrap();
    Facts {
        address: Origin::from_url(address).unwrap().0,
        ca_pem: PEM.to_owned(),
        store: TrustStore::debian(),
        registries: config.registries,
        containerd: None,
    }
}

fn plan(client: Client, mode: Mode) -> Plan {
    client.plan(mode, &facts("http://10.0.0.7:3128")).unwrap()
}

/// Every client in every way it has.
fn table() -> impl Iterator<Item = (Client, Mode)> {
    Client::ALL.iter().flat_map(|client| client.modes().iter().map(|mode| (*client, *mode)))
}

/// Everything below a directory, with its permissions; of directories those alone.
pub(crate) fn tree(below: &Path) -> BTreeMap<PathBuf, (u32, Option<String>)> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![below.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let text = meta.is_file().then(|| String::from_utf8(std::fs::read(&path).unwrap()).unwrap());
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            found.insert(path.strip_prefix(below).unwrap().to_owned(), (meta.permissions().mode() & 0o7777, text));
        }
    }
    found
}

pub(crate) fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub(crate) fn text(root: &Path, path: &str) -> String {
    std::fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap()
}

/// A root where each file of the plan is there already, with something of somebody else's in it.
fn lived_in(plan: &Plan) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in &plan.files {
        let theirs = match &file.content {
            Content::Whole(_) => "somebody else's\n",
            Content::Json(_) => "{\n    \"debug\": true,\n    \"registry-mirrors\": [\"https://theirs\"]\n}\n",
            Content::Toml(_) => "# theirs\nroot = \"/var/lib/x\" # here\n\n[debug]\nlevel = \"info\"\n",
            Content::Yaml(_) => {
                "# theirs\nmirrors:\n  docker.io: # the hub\n    endpoint:\n      - https://theirs\nother: [1, 2]\n"
            }
            Content::Lines(_) => "127.0.0.1 localhost\n# no newline at the end",
        };
        put(root.path(), file.path.to_str().unwrap(), theirs);
    }
    root
}

#[test]
fn every_plan_is_as_it_was_read_last() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/setup");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut names = Vec::new();
    for (client, mode) in table() {
        let facts = facts("http://seawall.lab:3128");
        let text = client.plan(mode, &facts).unwrap().text(client, mode, &facts.address);
        let file = dir.join(format!("{client}-{mode}.txt"));
        names.push(file.clone());
        if update {
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(&file, &text).unwrap();
        } else if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
            wrong.push(format!("{client}-{mode}"));
        }
    }
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert!(names.contains(&path), "{} belongs to nobody", path.display());
    }
    assert!(
        wrong.is_empty(),
        "not as in tests/it/golden/setup: {wrong:?}; read them with UPDATE_GOLDEN=1 and git diff"
    );
}

/// What passes where the client would fail shows nothing.
#[test]
fn every_check_shows_that_seawall_answers() {
    for (client, mode) in table() {
        let check = plan(client, mode).check.join("\n");
        let shows = ["-i", "-iE"].iter().any(|flag| check.contains(&format!("grep {flag} '^cache-status: seawall")));
        assert!(shows, "{client} {mode}: {check}");
        let is_lenient = ["-sv", "--insecure", "2>&1", " show --property"].iter().any(|word| check.contains(word));
        assert!(!is_lenient, "{client} {mode}: {check}");
    }
}

/// The checks ask seawall by HEAD whether it has what was pulled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pulled_through_seawall_is_a_hit_and_nothing_else_is() {
    let pki = Pki::new();
    let k8s = Registry::new("registry.k8s.io").image("pause:3.10", Image::two_platforms()).start(&pki).await;
    let seen = async |seawall: &Seawall| {
        let url = "http://seawall.test/v2/pause/manifests/3.10?ns=registry.k8s.io";
        let reply = harness::Client::plain(seawall.addr()).head(url).header("accept", "*/*").send().await.unwrap();
        reply.header("cache-status").to_owned()
    };
    // As the checks grep it.
    let is_seen = |said: &str| ["seawall; hit", "seawall; fwd=stale"].iter().any(|start| said.starts_with(start));
    for style in Style::ALL {
        let seawall = Seawall::before(&k8s).start(&pki).await;
        let before = seen(&seawall).await;
        assert!(before.starts_with("seawall; fwd=") && !is_seen(&before), "{style:?}: {before}");
        let seawall = Seawall::before(&k8s).start(&pki).await;
        seawall.client().pull("registry.k8s.io/pause:3.10", style).await.unwrap();
        let after = seen(&seawall).await;
        assert!(is_seen(&after), "{style:?}: {after}");
    }
}

#[test]
fn twice_is_once_and_undo_restores() {
    for (client, mode) in table() {
        let plan = plan(client, mode);
        for root in [tempfile::tempdir().unwrap(), lived_in(&plan)] {
            let before = tree(root.path());
            let first = write::write(root.path(), client, mode, &plan).unwrap();
            let once = tree(root.path());
            for (change, file) in first.changes.iter().zip(&plan.files) {
                assert!(!change.diff.is_empty() && change.path == file.path, "{client} {mode}: {change:?}");
                assert!(once.contains_key(file.path.strip_prefix("/").unwrap()));
            }
            let second = write::write(root.path(), client, mode, &plan).unwrap();
            assert!(
                second.changes.iter().all(|c| c.outcome == write::Outcome::Unchanged && c.diff.is_empty()),
                "{second:?}"
            );
            assert_eq!(tree(root.path()), once, "{client} {mode}");
            let undone = write::undo(root.path(), client).unwrap();
            assert_eq!(undone.left().count(), 0);
            assert_eq!(tree(root.path()), before, "{client} {mode}");
            assert!(matches!(write::undo(root.path(), client), Err(write::WriteError::NotSetUp { .. })));
        }
    }
}

/// Every foreign value is still there; documents say ours.
#[test]
fn what_others_wrote_stays() {
    for (client, mode) in table() {
        let plan = plan(client, mode);
        let root = lived_in(&plan);
        let report = write::write(root.path(), client, mode, &plan).unwrap();
        for (file, change) in plan.files.iter().zip(&report.changes) {
            let text = text(root.path(), file.path.to_str().unwrap());
            let kept: &[&str] = match &file.content {
                Content::Whole(ours) => &[ours],
                Content::Json(_) => &["    \"debug\": true,\n", "https://theirs"],
                Content::Toml(_) => &["# theirs\nroot = \"/var/lib/x\" # here\n", "[debug]\nlevel = \"info\"\n"],
                Content::Yaml(_) => &["# theirs\n", "# the hub", "https://theirs", "other: [1, 2]\n"],
                Content::Lines(ours) => &["127.0.0.1 localhost\n# no newline at the end\n", ours],
            };
            for kept in kept {
                assert!(text.contains(kept), "{client} {mode} {}: {kept:?} is not in\n{text}", file.path.display());
            }
            let is_whole = matches!(file.content, Content::Whole(_));
            assert_eq!(change.note.is_some(), is_whole, "{client} {mode}: {change:?}");
        }
    }
}

#[test]
fn another_way_takes_the_place_of_the_first() {
    for client in Client::ALL {
        for (from, to) in client.modes().iter().flat_map(|from| client.modes().iter().map(move |to| (*from, *to))) {
            let (first, second) = (plan(*client, from), plan(*client, to));
            let files = first.files.iter().chain(&second.files).cloned().collect();
            let both = Plan { files, ..Plan::default() };
            let (switched, direct) = (lived_in(&both), lived_in(&both));
            let before = tree(switched.path());
            write::write(switched.path(), *client, from, &first).unwrap();
            write::write(switched.path(), *client, to, &second).unwrap();
            write::write(direct.path(), *client, to, &second).unwrap();
            assert_eq!(tree(switched.path()), tree(direct.path()), "{client} {from} {to}");
            assert_eq!(write::mode(switched.path(), *client).unwrap(), Some(to));
            write::undo(switched.path(), *client).unwrap();
            assert_eq!(tree(switched.path()), before, "{client} {from} {to}");
        }
    }
}

/// All clients on one machine, taken back in the order in which they came and in the other.
#[test]
fn clients_that_share_a_file_do_not_take_it_from_each_other() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/etc/docker/daemon.json", "{}\n");
    let before = tree(root.path());
    let modes =
        |client: &Client| client.modes().iter().copied().find(|m| *m == Mode::Proxy).unwrap_or(client.default_mode());
    let reversed: Vec<Client> = Client::ALL.iter().rev().copied().collect();
    for order in [Client::ALL, &reversed] {
        for client in Client::ALL {
            write::write(root.path(), *client, modes(client), &plan(*client, modes(client))).unwrap();
        }
        for (index, client) in order.iter().enumerate() {
            let report = write::undo(root.path(), *client).unwrap();
            assert_eq!(report.left().count(), 0, "{client}: {report:?}");
            for other in &order[index + 1..] {
                let again = write::write(root.path(), *other, modes(other), &plan(*other, modes(other))).unwrap();
                let changed: Vec<_> = again.changes.iter().filter(|c| c.outcome != write::Outcome::Unchanged).collect();
                assert!(changed.is_empty(), "undo of {client} took {changed:?} from {other}");
            }
        }
        assert_eq!(tree(root.path()), before);
    }
}
