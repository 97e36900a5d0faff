//! What README's quick start says is what happens on another machine. That machine is one behind a
//! balancer here: its address comes in a PROXY header.

use std::path::Path;
use std::process::Command;

use crate::harness::*;

const OTHER: &str = "files.example.test";

fn quick_start() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, after) = readme.split_once("\n## Quick start\n").unwrap();
    after.split("\n## ").next().unwrap().to_owned()
}

/// With the address of a client in the networks that the text names, and their sizes.
const NAMED: &[(&str, &str)] = &[
    ("RFC 1918", "10.9.8.7"),
    ("RFC 1918", "172.16.0.7"),
    ("RFC 1918", "192.168.0.7"),
    ("100.64.0.0/10", "100.64.0.7"),
    ("fc00::/7", "fd00::7"),
    ("fe80::/10", "fe80::7"),
];

fn from(client: Client, address: &str) -> Client {
    let (family, own) = if address.contains(':') { ("TCP6", "::1") } else { ("TCP4", "10.0.0.1") };
    client.preamble(format!("PROXY {family} {address} {own} 5 6\r\n"))
}

/// The root comes, an image is pulled with it, another host is reached through the tunnel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quick_start_works_from_another_machine_of_a_private_network() {
    let text = quick_start();
    let pki = Pki::new();
    let hub = Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::two_platforms());
    let hub = hub.token_auth().start(&pki).await;
    let other = Registry::new(OTHER).image("some/thing:1", Image::single(&[b"a"])).start(&pki).await;
    // The others of the test are on loopback, where no tunnel leads by itself.
    let toml = "[clients]\nproxy_protocol_from = [\"127.0.0.1\"]\n[tunnel]\ndeny_networks = []\nports = [443]\n";
    let seawall = Seawall::before(&hub).front(&other).toml(toml).start(&pki).await;
    for (network, address) in NAMED {
        assert!(text.contains(network), "{network}");
        let plain = from(Client::plain(seawall.addr()), address);
        let root = plain.get("http://seawall/ca.crt").send().await.unwrap();
        assert_eq!(root.bytes().to_vec(), seawall.ca_pem.as_bytes(), "{address}");
        let page = plain.get("http://seawall/setup/docker").send().await.unwrap();
        assert_eq!(page.status, 200, "{address}");
        let client = from(Client::via_connect(seawall.addr(), &seawall.ca_pem), address);
        client.pull("docker.io/library/alpine:3.20", Style::Podman).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        let through = from(Client::via_connect(seawall.addr(), &pki.ca_pem()), address);
        let reply = through.get(&format!("https://{OTHER}/v2/some/thing/manifests/1")).send().await.unwrap();
        assert_eq!(reply.status, 200, "the tunnel is open to {address}");
    }
    for address in ["8.8.8.8", "100.128.0.1", "2001:db8::7"] {
        let stranger = from(Client::plain(seawall.addr()), address);
        assert!(stranger.get("http://seawall/ca.crt").send().await.is_err(), "{address} is in no private network");
    }
}

/// What the text says of the listener and of the variables that close it.
#[test]
fn the_quick_start_names_what_it_opens_and_what_closes_it() {
    let text = quick_start();
    let dir = tempfile::tempdir().unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(["check", "--offline"]).current_dir(&dir).envs(variables.iter().copied());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{variables:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(text.contains("By default seawall listens on loopback alone."));
    let shown = check(&[]);
    assert!(shown.contains("\nlisten     127.0.0.1:3128\nadmin      127.0.0.1:3129\n"), "{shown}");
    let (_, listen) = text.split_once(" serve --listen ").unwrap();
    let listen = listen.lines().next().unwrap();
    let shown = check(&[("SEAWALL_LISTEN", listen)]);
    assert!(shown.contains("\nlisten     0.0.0.0:3128\nadmin      127.0.0.1:3129\n"), "{shown}");
    let variables: Vec<_> = text.split('`').filter_map(|word| word.strip_prefix("SEAWALL_")?.split_once('=')).collect();
    assert_eq!(variables, [("CLIENTS__ALLOW", "10.1.2.0/24"), ("TUNNEL__HOSTS", "[]")]);
    for (name, value) in variables {
        check(&[(&format!("SEAWALL_{name}"), value)]);
    }
}

/// And they do close it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_and_no_tunnel_are_what_the_quick_start_says() {
    let pki = Pki::new();
    let hub = Registry::new("registry-1.docker.io").start(&pki).await;
    let other = Registry::new(OTHER).start(&pki).await;
    let toml = "[clients]\nallow = [\"10.1.2.0/24\"]\nproxy_protocol_from = [\"127.0.0.1\"]\n[tunnel]\nhosts = []\ndeny_networks = []\n";
    let seawall = Seawall::before(&hub).front(&other).toml(toml).start(&pki).await;
    for (address, is_open) in [("10.1.2.7", true), ("10.9.8.7", false)] {
        let plain = from(Client::plain(seawall.addr()), address);
        assert_eq!(plain.get("http://seawall/ca.crt").send().await.is_ok(), is_open, "{address}");
    }
    let through = from(Client::via_connect(seawall.addr(), &pki.ca_pem()), "10.1.2.7");
    assert!(through.connect(&format!("https://{OTHER}/")).await.is_err());
    assert_eq!(other.connections(), 0);
}
