//! `seawall setup --write` where things are not as they should be.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use seawall::setup::write::{self, Outcome, WriteError};
use seawall::setup::{Client, Content, File, Mode, Plan};

use crate::setup::{facts, put, text, tree};

const DAEMON: &str = "/etc/docker/daemon.json";

fn set_up(root: &Path, client: Client, mode: Mode) -> Result<write::Report, WriteError> {
    write::write(root, client, mode, &client.plan(mode, &facts("http://seawall.lab:3128")).unwrap())
}

#[test]
fn a_file_that_cannot_be_read_stops_all() {
    for (client, mode, path, broken) in [
        (Client::Docker, Mode::Mirror, DAEMON, "{\"a\": 1,}"),
        (Client::Docker, Mode::Mirror, DAEMON, "[]"),
        (Client::Containerd, Mode::Mirror, "/etc/containerd/config.toml", "version = \n"),
        (Client::K3s, Mode::Mirror, "/etc/rancher/k3s/registries.yaml", "mirrors: [\n"),
        (
            Client::Containerd,
            Mode::Mirror,
            "/etc/containerd/config.toml",
            "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://theirs\"]\n",
        ),
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), path, broken);
        let before = tree(root.path());
        let said = set_up(root.path(), client, mode).unwrap_err().to_string();
        assert!(said.contains(path) && said.contains("nothing was written"), "{said}");
        assert_eq!(tree(root.path()), before);
    }
}

#[test]
fn what_came_later_stays_when_ours_is_taken_out() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), DAEMON, "{\n  \"debug\": true\n}\n");
    set_up(root.path(), Client::Docker, Mode::Mirror).unwrap();
    let later = text(root.path(), DAEMON).replacen('{', "{\n  \"bip\": \"10.9.0.1/24\",", 1);
    let later = later.replace("\"http://seawall.lab:3128\"", "\"http://seawall.lab:3128\", \"https://later\"");
    put(root.path(), DAEMON, &later);
    let again = set_up(root.path(), Client::Docker, Mode::Mirror).unwrap();
    assert_eq!(again.changes[0].outcome, Outcome::Unchanged, "{again:?}");
    let report = write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(report.left().count(), 0);
    let rest: serde_json::Value = serde_json::from_str(&text(root.path(), DAEMON)).unwrap();
    let later = ["https://later"];
    let expected = serde_json::json!({"bip": "10.9.0.1/24", "debug": true, "registry-mirrors": later, "insecure-registries": later});
    assert_eq!(rest, expected);
}

#[test]
fn what_somebody_changed_of_ours_is_left_and_said() {
    let root = tempfile::tempdir().unwrap();
    set_up(root.path(), Client::Podman, Mode::Mirror).unwrap();
    let conf = "/etc/containers/registries.conf.d/50-seawall.conf";
    put(root.path(), conf, "# mine now\n");
    let report = write::undo(root.path(), Client::Podman).unwrap();
    assert_eq!(report.left().map(|change| change.path.to_str().unwrap()).collect::<Vec<_>>(), [conf]);
    assert_eq!(text(root.path(), conf), "# mine now\n");

    // It is ours still: another undo says the same, and written again it is not taken for what was
    // there before.
    assert_eq!(write::undo(root.path(), Client::Podman).unwrap().left().count(), 1);
    let report = set_up(root.path(), Client::Podman, Mode::Mirror).unwrap();
    assert!(report.changes[0].diff.contains("-# mine now") && report.changes[0].note.is_some());
    assert_eq!(write::undo(root.path(), Client::Podman).unwrap().left().count(), 0);
    assert_eq!(tree(root.path()).len(), 0, "{:?}", tree(root.path()));

    let config = "/etc/containerd/config.toml";
    set_up(root.path(), Client::Containerd, Mode::Mirror).unwrap();
    put(root.path(), config, &text(root.path(), config).replace("/etc/containerd/certs.d", "/srv/certs.d"));
    let report = write::undo(root.path(), Client::Containerd).unwrap();
    let left: Vec<_> = report.left().collect();
    assert!(left.len() == 1 && left[0].note.as_ref().unwrap().contains("config_path"), "{report:?}");
    assert!(text(root.path(), config).contains("/srv/certs.d"));
}

/// A crash between two files, or a disk that is full: whatever comes next works from there.
#[test]
fn a_write_that_stops_half_way_loses_nothing() {
    for (client, mode) in [
        (Client::Docker, Mode::Proxy),
        (Client::Containerd, Mode::Mirror),
        (Client::Containerd, Mode::Proxy),
        (Client::Podman, Mode::Proxy),
    ] {
        let plan = client.plan(mode, &facts("https://seawall.lab:3128")).unwrap();
        for stops_at in 0..plan.files.len() {
            for next in ["undo", "write", "another"] {
                let root = tempfile::tempdir().unwrap();
                put(root.path(), "/etc/containerd/config.toml", "# theirs\nversion = 2\n");
                let before = tree(root.path());
                // A file where there is a directory by then.
                let mut stopped = plan.clone();
                let extra = |path: &str| File { path: path.into(), content: Content::Whole("x\n".to_owned()) };
                stopped.files.insert(stops_at, extra("/srv/stop"));
                stopped.files.push(extra("/srv/stop/here"));
                write::write(root.path(), client, mode, &stopped).unwrap_err();
                std::fs::remove_dir(root.path().join("srv/stop")).unwrap();
                match next {
                    "write" => drop(write::write(root.path(), client, mode, &plan).unwrap()),
                    "another" => drop(set_up(root.path(), client, Mode::Dns).unwrap()),
                    _ => {}
                }
                let report = write::undo(root.path(), client).unwrap();
                assert_eq!(report.left().count(), 0);
                let after = tree(root.path());
                assert_eq!(after, before, "{client} {mode} stopped at {stops_at}, then {next}");
            }
        }
    }
}

/// The same of an undo that wrote its files, and not the record any more.
#[test]
fn an_undo_that_stops_half_way_goes_on() {
    const RECORD: &str = "/var/lib/seawall-setup/record.json";
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/etc/docker/daemon.json", "{}\n");
    put(root.path(), "/usr/local/share/ca-certificates/seawall.crt", "an older one\n");
    let before = tree(root.path());
    set_up(root.path(), Client::Containerd, Mode::Proxy).unwrap();
    set_up(root.path(), Client::Docker, Mode::Proxy).unwrap();
    write::undo(root.path(), Client::Containerd).unwrap();
    let record = text(root.path(), RECORD);
    write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(tree(root.path()), before);
    put(root.path(), RECORD, &record);
    let report = write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(report.left().count(), 0, "{report:?}");
    assert_eq!(text(root.path(), "/usr/local/share/ca-certificates/seawall.crt"), "an older one\n");
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    symlink(outside.path(), root.path().join("etc/docker")).unwrap();
    set_up(root.path(), Client::Docker, Mode::Mirror).unwrap();
    assert_eq!(tree(outside.path()).len(), 0);
    let inside = root.path().join(outside.path().strip_prefix("/").unwrap());
    assert!(inside.join("daemon.json").is_file());
    assert!(root.path().join("etc/docker").is_symlink());
    write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(tree(root.path()).len(), 2, "etc, and the link in it: {:?}", tree(root.path()));
}

/// What is in a file that not everybody may read is not shown, and not to be read in the record.
#[test]
fn permissions_stay_and_secrets_are_not_shown() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), DAEMON, "{\n  \"proxies\": {\"https-proxy\": \"http://u:s3cret@p\"},\n  \"debug\": true\n}\n");
    let file = root.path().join("etc/docker/daemon.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mode = |path: &str| root.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
    let report = set_up(root.path(), Client::Docker, Mode::Mirror).unwrap();
    assert_eq!(mode("etc/docker/daemon.json"), 0o640);
    assert_eq!(report.changes[0].diff, "+insecure-registries\n+registry-mirrors\n");
    assert!(!report.text().contains("s3cret"), "{}", report.text());
    assert_eq!((mode("var/lib/seawall-setup"), mode("var/lib/seawall-setup/record.json")), (0o700, 0o600));
    write::undo(root.path(), Client::Docker).unwrap();
    assert_eq!(mode("etc/docker/daemon.json"), 0o640);
}

/// A file with a blank in it breaks a resolver.
#[test]
fn a_name_whose_address_is_not_known_is_not_written() {
    let root = tempfile::tempdir().unwrap();
    let said = set_up(root.path(), Client::Hosts, Mode::Dns).unwrap_err().to_string();
    assert!(said.contains("--address IP:PORT"), "{said}");
    assert_eq!(tree(root.path()).len(), 0);
}

#[test]
fn a_record_that_is_broken_is_not_guessed_at() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "/var/lib/seawall-setup/record.json", "{");
    for error in [set_up(root.path(), Client::Docker, Mode::Mirror), write::undo(root.path(), Client::Docker)] {
        assert!(error.unwrap_err().to_string().contains("record.json"));
    }
}

/// YAML that cannot be edited in place is written anew: that is said, and what was there comes
/// back.
#[test]
fn a_document_that_is_written_anew_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let theirs = "# mine\nx: &a\n  y: 1\nz: *a\n";
    put(root.path(), "/etc/x.yaml", theirs);
    let content = Content::Yaml(serde_json::json!({"z": {"y": 2}}));
    let plan = Plan { files: vec![File { path: "/etc/x.yaml".into(), content }], ..Plan::default() };
    let report = write::write(root.path(), Client::K3s, Mode::Mirror, &plan).unwrap();
    let now: serde_json::Value = serde_saphyr::from_str(&text(root.path(), "/etc/x.yaml")).unwrap();
    assert_eq!(
        now,
        serde_json::json!({"x": {"y": 1}, "z": {"y": 2}}),
        "the other name of the same value is not changed"
    );
    let note = report.changes[0].note.clone().unwrap_or_default();
    assert!(note.contains("comments") || text(root.path(), "/etc/x.yaml").contains("# mine"), "{report:?}");
    write::undo(root.path(), Client::K3s).unwrap();
    assert_eq!(text(root.path(), "/etc/x.yaml"), theirs);
}
