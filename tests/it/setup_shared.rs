//! `seawall setup --write` of several clients, several times, by several people.

use std::os::unix::fs::{lchown, symlink};
use std::path::Path;

use seawall::setup::write::{self, Outcome};
use seawall::setup::{Client, Content, File, Mode, Plan};

use crate::setup::{PEM, facts, put, text, tree};

const STORE: &str = "/usr/local/share/ca-certificates/seawall.crt";
const DROP_IN: &str = "/etc/systemd/system/docker.service.d/seawall.conf";

fn set_up(root: &Path, client: Client, mode: Mode, pem: &str) -> write::Report {
    let mut facts = facts("http://10.0.0.7:3128");
    pem.clone_into(&mut facts.ca_pem);
    write::write(root, client, mode, &client.plan(mode, &facts).unwrap()).unwrap()
}

/// Whoever brings the new root brings it for all, and nobody the old one back.
#[test]
fn a_renewed_root_takes_the_place_of_the_old_one() {
    let new = PEM.replace("MII", "NEW");
    let root = tempfile::tempdir().unwrap();
    set_up(root.path(), Client::Docker, Mode::Proxy, PEM);
    set_up(root.path(), Client::Containerd, Mode::Proxy, PEM);
    let report = set_up(root.path(), Client::Docker, Mode::Proxy, &new);
    assert!(report.changes.iter().any(|change| change.outcome == Outcome::Changed), "{report:?}");
    assert_eq!(text(root.path(), STORE), new);
    write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(text(root.path(), STORE), new, "the one that is left does not bring the old one back");
    write::undo(root.path(), Client::Containerd).unwrap();
    assert_eq!(tree(root.path()).len(), 0);
}

#[test]
fn of_a_whole_file_the_newest_wins() {
    let root = tempfile::tempdir().unwrap();
    let plan = |text: &str| Plan {
        files: vec![File { path: "/etc/shared".into(), content: Content::Whole(text.to_owned()) }],
        ..Plan::default()
    };
    let write = |client, text| write::write(root.path(), client, Mode::Proxy, &plan(text)).unwrap();
    write(Client::Podman, "one\n");
    write(Client::Crio, "two\n");
    write(Client::Podman, "three\n");
    assert_eq!(text(root.path(), "/etc/shared"), "three\n");
    write::undo(root.path(), Client::Podman).unwrap();
    assert_eq!(text(root.path(), "/etc/shared"), "two\n");
}

#[test]
fn two_at_once_do_not_lose_each_others_record() {
    let root = tempfile::tempdir().unwrap();
    let clients = [Client::Docker, Client::Containerd, Client::Podman, Client::K3s, Client::Shell, Client::Rke2];
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for client in clients {
                let root = root.path();
                scope.spawn(move || set_up(root, client, client.default_mode(), PEM));
            }
        });
        std::thread::scope(|scope| {
            for client in clients {
                let root = root.path();
                scope.spawn(move || assert_eq!(write::undo(root, client).unwrap().left().count(), 0, "{client}"));
            }
        });
        assert_eq!(tree(root.path()).len(), 0, "{:?}", tree(root.path()));
    }
}

/// A drop-in that was edited still sends docker through seawall: the root stays as long as it does.
#[test]
fn what_is_left_by_another_way_is_not_forgotten() {
    let root = tempfile::tempdir().unwrap();
    set_up(root.path(), Client::Docker, Mode::Proxy, PEM);
    let edited = format!("{}Environment=\"MINE=1\"\n", text(root.path(), DROP_IN));
    put(root.path(), DROP_IN, &edited);
    let report = set_up(root.path(), Client::Docker, Mode::Mirror, PEM);
    assert_eq!(report.left().map(|change| change.path.to_str().unwrap()).collect::<Vec<_>>(), [DROP_IN]);
    assert_eq!(text(root.path(), STORE), PEM, "{report:?}");
    assert_eq!(write::undo(root.path(), Client::Docker).unwrap().left().count(), 1);
    assert_eq!((text(root.path(), DROP_IN), text(root.path(), STORE)), (edited, PEM.to_owned()));
    std::fs::remove_file(root.path().join(&DROP_IN[1..])).unwrap();
    assert_eq!(write::undo(root.path(), Client::Docker).unwrap().left().count(), 0);
    assert_eq!(tree(root.path()).len(), 0, "{:?}", tree(root.path()));
}

#[test]
fn what_lies_beside_a_file_is_somebody_elses() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/etc/docker/daemon.json.new", "theirs\n");
    put(root.path(), "/etc/docker/daemon.json", "{}\n");
    set_up(root.path(), Client::Docker, Mode::Mirror, PEM);
    assert_eq!(text(root.path(), "/etc/docker/daemon.json.new"), "theirs\n");
    assert_eq!(std::fs::read_dir(root.path().join("etc/docker")).unwrap().count(), 2);
}

/// Whose directory it is decides where it leads: not to what is somebody else's.
#[test]
fn a_user_does_not_lead_root_to_another_file() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/etc/shadow", "secret\n");
    std::fs::create_dir_all(root.path().join("home/runner")).unwrap();
    symlink("/etc/shadow", root.path().join("home/runner/.env")).unwrap();
    for path in ["home/runner", "home/runner/.env"] {
        if lchown(root.path().join(path), Some(1234), Some(1234)).is_err() {
            return; // It takes root to tell.
        }
    }
    let file = File { path: "/home/runner/.env".into(), content: Content::Lines("A=1\n".to_owned()) };
    let plan = Plan { files: vec![file], ..Plan::default() };
    let error = write::write(root.path(), Client::GithubActions, Mode::Proxy, &plan).unwrap_err().to_string();
    assert!(error.contains("belongs to user 1234"), "{error}");
    assert_eq!(text(root.path(), "/etc/shadow"), "secret\n");
    assert!(!root.path().join("var").exists(), "nothing was written");
    std::fs::remove_file(root.path().join("home/runner/.env")).unwrap();
    write::write(root.path(), Client::GithubActions, Mode::Proxy, &plan).unwrap();
    write::undo(root.path(), Client::GithubActions).unwrap();
}

#[test]
fn what_was_there_is_said() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/srv/etc/seawall.sh", "theirs\n");
    symlink("/srv/etc", root.path().join("etc")).unwrap();
    let content = Content::Whole("ours\n".to_owned());
    let plan = Plan { files: vec![File { path: "/etc/seawall.sh".into(), content }], ..Plan::default() };
    let write = || write::write(root.path(), Client::Shell, Mode::Proxy, &plan).unwrap();
    let note = |report: write::Report| report.changes[0].note.clone().unwrap_or_default();
    let said = note(write());
    assert!(said.contains("it leads to /srv/etc/seawall.sh") && said.contains("somebody else's"), "{said}");
    std::fs::remove_dir_all(root.path().join("var")).unwrap();
    assert!(note(write()).contains("it was so before"), "the record was lost");
    assert!(note(write::undo(root.path(), Client::Shell).unwrap()).contains("it was so before"));
    put(root.path(), "/srv/etc/seawall.sh", &"x".repeat(5 << 20));
    let said = write::write(root.path(), Client::Shell, Mode::Proxy, &plan).unwrap_err().to_string();
    assert!(said.contains("more than"), "{said}");
}
