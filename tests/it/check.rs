//! `seawall check`, without a seawall that runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::*;

/// A configuration on disk, and what `check` says to it.
struct Checked {
    dir: tempfile::TempDir,
}

/// Exit code, stdout, stderr.
type Said = (i32, String, String);

impl Checked {
    /// `text` before what leads to the registries.
    fn new(pki: &Pki, registries: &[&Registry], text: &str) -> Checked {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, pki.ca_pem()).unwrap();
        let hosts = registries.iter().flat_map(|registry| registry.hosts());
        let hosts: Vec<String> = hosts.map(|(host, addr)| format!("{host:?} = \"{addr}\"")).collect();
        let data = dir.path().join("data");
        let text =
            format!("data = {data:?}\n{text}\n[upstream]\nca_file = {ca:?}\nhosts = {{ {} }}\n", hosts.join(", "));
        std::fs::write(dir.path().join("seawall.toml"), text).unwrap();
        Checked { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn check(&self, more: &[&str]) -> Said {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
        let output = command.arg("-c").arg(self.path("seawall.toml")).arg("check").args(more).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_asked_for_as_serve_asks() {
    let pki = Pki::new();
    let head = |seen: &Seen| seen.method == http::Method::HEAD && seen.path.contains("library/alpine");
    let faults = [
        Fault::on("manifests").when(head).error(404, "MANIFEST_UNKNOWN"),
        Fault::on("manifests").when(head).error(405, "UNSUPPORTED"),
        Fault::on("manifests").no_digest(),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let image = Image::single(&[b"a layer"]);
        let hub = Registry::new("registry-1.docker.io").image("library/alpine:3.20", image.clone()).start(&pki).await;
        hub.fault(fault);
        let (code, out, err) = Checked::new(&pki, &[&hub], "").check(&["alpine:3.20"]).await;
        let named = format!("image      docker.io/library/alpine:3.20: {}, ", image.digest());
        assert!(code == 0 && out.contains(&named), "{n}: {out}{err}\n{}", hub.log());
        let (code, _, err) = Checked::new(&pki, &[&hub], "").check(&["alpine:none"]).await;
        assert!(code == 1 && err.contains("registry-1.docker.io answered 404"), "{n}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_is_said_and_every_refused_account_is_named() {
    let pki = Pki::new();
    let with_users = |host: &str| Registry::new(host).user("ci", "good").user("cd", "good").token_auth();
    let hub = with_users("registry-1.docker.io").start(&pki).await;
    let mirror = with_users("mirror.example.test").start(&pki).await;
    let lab = with_users("lab.example.test").start(&pki).await;
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, password: &str| {
        std::fs::write(files.path().join(name), password).unwrap();
        files.path().join(name)
    };
    let (hub_file, mirror_file, lab_file) = (file("hub", "bad"), file("mirror", "bad"), file("lab", "good"));
    let text = format!(
        "[[registry]]\nname = \"docker.io\"\nupstreams = [\n\
         {{ url = \"https://registry-1.docker.io\", username = \"ci\", password_file = {hub_file:?} }},\n\
         {{ url = \"https://mirror.example.test\", username = \"cd\", password_file = {mirror_file:?} }}]\n\
         [[registry]]\nname = \"lab.example.test\"\nusername = \"ci\"\npassword_file = {lab_file:?}"
    );
    let checked = Checked::new(&pki, &[&hub, &mirror, &lab], &text);
    let whose = |at: &str, user: &str, file: &Path| format!("{at}: account {user}, password in {}", file.display());
    let refused = [
        whose("docker.io at https://registry-1.docker.io", "ci", &hub_file),
        whose("docker.io at https://mirror.example.test", "cd", &mirror_file),
    ];
    let good = whose("lab.example.test at https://lab.example.test", "ci", &lab_file);

    let (code, out, err) = checked.check(&["docker.io/library/none:1"]).await;
    assert!(code == 1 && out.starts_with("NOT OK     "), "{out}");
    for account in &refused {
        assert!(err.contains(account) && out.contains(&format!("{account}: REFUSED: ")), "{account}\n{out}\n{err}");
    }
    assert!(out.contains(&format!("{good}: not refused")) && !err.contains(&good), "{out}\n{err}");
    assert!(out.contains("https://mirror.example.test (account cd)"), "{out}");
    assert!(
        out.contains("image      docker.io/library/none:1: ") && err.contains("docker.io/library/none:1: "),
        "{err}"
    );

    let (code, out, _) = checked.check(&["--json"]).await;
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &value["ok"], value["wrong"].as_array().unwrap().len()), (1, &false.into(), 2), "{out}");
    let of = |n: usize, key: &str| value["accounts"][n][key].clone();
    let accounts = [("ci", &hub_file, true), ("cd", &mirror_file, true), ("ci", &lab_file, false)];
    for (username, file, refused) in accounts {
        let n = (0..3).find(|n| of(*n, "file") == file.display().to_string()).unwrap_or_else(|| panic!("{out}"));
        assert_eq!((of(n, "username"), of(n, "refused")), (username.into(), refused.into()), "{out}");
    }
}

/// As somebody who may write only where everybody may; tests often run as root.
fn unprivileged(dir: &Path, args: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"));
    if std::fs::metadata(dir).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let command = command.args(args).current_dir(dir).env("SEAWALL_ADMIN", "").env("SEAWALL_LISTEN", "127.0.0.1:0");
    let output = command.env("SEAWALL_DATA", dir.join("data")).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn open_to(dir: &Path, mode: u32) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn where_seawall_may_not_write_is_said_by_every_command_that_would() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ca) = (dir.path().join("data"), dir.path().join("data/ca"));
    open_to(dir.path(), 0o755);
    open_to(&data, 0o777);
    open_to(&ca, 0o555);
    let wrong = "the CA's directory must be writable for ";
    let at = format!("cannot write to {}: ", ca.display());
    for args in [&["check", "--offline"][..], &["serve"], &["ca", "init"], &["ca", "renew"]] {
        let (code, err) = unprivileged(dir.path(), args);
        assert!(code == 1 && err.contains(wrong) && err.contains(&at), "{args:?}: {code} {err}");
        assert!(
            ["(uid ", "SEAWALL_CA__DIR", "--data DIR", "SEAWALL_DATA"].iter().all(|word| err.contains(word)),
            "{err}"
        );
    }
    open_to(&ca, 0o777);
    open_to(&data, 0o555);
    for args in [&["check", "--offline"][..], &["serve"]] {
        let (code, err) = unprivileged(dir.path(), args);
        let at = format!("cannot write to {}: ", data.display());
        assert!(code == 1 && err.contains("the data directory must be writable for "), "{args:?}: {code} {err}");
        assert!(err.contains(&at) && err.contains("--data DIR"), "{args:?}: {err}");
    }
}

/// A CA that another user made is no CA that is missing.
#[test]
fn a_root_that_this_user_may_not_read_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("data/ca");
    open_to(dir.path(), 0o755);
    open_to(&dir.path().join("data"), 0o777);
    open_to(&ca, 0o777);
    let (code, err) = unprivileged(dir.path(), &["ca", "init"]);
    assert_eq!(code, 0, "{err}");
    open_to(&ca, 0);
    for args in [
        &["ca", "show"][..],
        &["ca", "init"],
        &["ca", "renew"],
        &["ca", "install"],
        &["check", "--offline"],
        &["serve"],
    ] {
        let (code, err) = unprivileged(dir.path(), args);
        assert!(code == 1 && err.contains("may not read the CA that is there"), "{args:?}: {code} {err}");
        assert!(err.contains(&ca.display().to_string()) && err.contains("sudo") && err.contains("(uid "), "{err}");
    }
    open_to(&ca, 0o700);
}
