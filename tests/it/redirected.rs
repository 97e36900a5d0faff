//! Connections that the kernel brought here: iptables REDIRECT, in a network of the test's own.

use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

fn run(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).status().is_ok_and(|status| status.success())
}

/// Needs namespaces and iptables: where there are none (a container without privileges), nothing is
/// shown.
#[test]
fn what_was_redirected_goes_where_it_was_sent() {
    if !run("unshare -rn iptables -w -t nat -L -n >/dev/null 2>&1") {
        eprintln!("no network namespaces or no iptables here: not shown");
        return;
    }
    let mut alone = Command::new("unshare");
    let test = "redirected::in_a_network_of_its_own";
    alone.arg("-rn").arg(std::env::current_exe().unwrap());
    let output = alone.args([test, "--exact", "--ignored", "--nocapture"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

const REGISTRY: &str = "registry-1.docker.io";
/// Addresses of the loopback interface here.
const HUB: &str = "10.77.0.10";
const LAB: &str = "10.77.0.20";
const OTHER: &str = "10.77.0.30";
const BY_ADDRESS: &str = "10.77.0.40";

/// Sends back what it gets.
async fn echo(address: &str) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a network of its own"]
async fn in_a_network_of_its_own() {
    assert!(run("ip link set lo up"));
    for address in [HUB, LAB, OTHER, BY_ADDRESS, "10.77.0.50"] {
        assert!(run(&format!("ip addr add {address}/32 dev lo")));
    }
    let pki = Pki::new();
    let hub = Registry::new(REGISTRY).image("library/alpine:3.20", Image::multi_layer()).start(&pki).await;
    let lab = Registry::new("lab.test").image("some/app:1", Image::multi_layer()).plain().start(&pki).await;
    let by_address = Registry::new(BY_ADDRESS).image("some/thing:1", Image::multi_layer()).start(&pki).await;
    let toml = format!(
        "[tunnel]\nports = [443, 8443]\n[clients]\nallow = [\"0.0.0.0/0\"]\n\
         [[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test:5000\"]\nupstreams = [{{ url = \"http://lab.test:5000\" }}]\n\
         [[registry]]\nname = \"addressed\"\nhosts = [\"{BY_ADDRESS}:5443\"]\n\
         [tls]\nnames = [\"10.77.0.50\"]"
    );
    let seawall = Seawall::before(&hub).front(&lab).front(&by_address).toml(&toml).start(&pki).await;
    let port = seawall.addr().port();
    // What seawall itself sends is not redirected: its fakes have other ports, and the tunnel's far
    // end is told by its source.
    for (to, dport) in
        [(HUB, 443), (HUB, 9443), (LAB, 5000), (LAB, 80), (OTHER, 443), (BY_ADDRESS, 5443), ("10.77.0.50", 443)]
    {
        let rule = format!(
            "iptables -w -t nat -A OUTPUT -p tcp -d {to} --dport {dport} -m mark ! --mark 7 -j DNAT --to-destination 127.0.0.1:{port}"
        );
        assert!(run(&rule), "{rule}");
    }

    // A registry, by its name.
    let to = |address: &str, port: u16| format!("{address}:{port}").parse::<std::net::SocketAddr>().unwrap();
    let client = Client::direct_tls(to(HUB, 443), &seawall.ca_pem);
    let reply = client.get(crate::target::TAG).header("accept", "*/*").send().await.unwrap();
    assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest());

    // The port is that of the first destination: on another the name is no registry's, and not
    // tunnelled to.
    let elsewhere = Client::direct_tls(to(HUB, 9443), &seawall.ca_pem);
    assert!(elsewhere.get(crate::target::TAG).send().await.is_err(), "port 9443 is not in tunnel.ports");
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"tunnel\"}"), 1.0);

    // A registry in the clear, on its own port: itself, and no mirror.
    let plain = Client::plain(to(LAB, 5000));
    let url = "http://lab.test:5000/v2/some/app/manifests/1";
    let reply = plain.get(url).header("accept", "*/*").send().await.unwrap();
    assert_eq!(reply.header("docker-content-digest"), Image::multi_layer().digest(), "{:?}", reply.body);
    assert_eq!(lab.heads("manifests"), 1, "{}", lab.log());
    // On another port the same words are for the mirror.
    let reply = Client::plain(to(LAB, 80)).get("http://lab.test/ca.crt").send().await.unwrap();
    assert!(reply.bytes().starts_with(b"-----BEGIN CERTIFICATE"));

    // Nobody is named: a registry by its address.
    let addressed = Client::direct_tls(to(BY_ADDRESS, 5443), &seawall.ca_pem);
    let url = format!("https://{BY_ADDRESS}:5443/v2/some/thing/manifests/1");
    let reply = addressed.get(&url).header("accept", "*/*").send().await.unwrap();
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    // Seawall's own address, before a balancer that translates it.
    let own = Client::direct_tls(to("10.77.0.50", 443), &seawall.ca_pem);
    assert_eq!(own.get("https://10.77.0.50/healthz").send().await.unwrap().status, 200);

    passwords_are_not_walked_around(&hub, &lab, &pki).await;

    // Nobody is named, and the address is nobody's that seawall knows: through to there, unopened.
    echo(&format!("{OTHER}:443")).await;
    assert!(run(&format!(
        "iptables -w -t nat -D OUTPUT -p tcp -d {OTHER} --dport 443 -m mark ! --mark 7 -j DNAT --to-destination 127.0.0.1:{port}"
    )));
    // From this source alone, or seawall's own connection would come back, too.
    assert!(run("ip addr add 10.77.0.99/32 dev lo"));
    assert!(run(&format!(
        "iptables -w -t nat -A OUTPUT -p tcp -s 10.77.0.99 -d {OTHER} --dport 443 -j DNAT --to-destination 127.0.0.1:{port}"
    )));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("10.77.0.99:0".parse().unwrap()).unwrap();
    let mut socket: TcpStream = socket.connect(to(OTHER, 443)).await.unwrap();
    let hello = client_hello();
    socket.write_all(&hello).await.unwrap();
    let mut back = vec![0; hello.len()];
    socket.read_exact(&mut back).await.unwrap();
    assert_eq!(back, hello);
    assert_eq!(seawall.metric("seawall_tunnels"), 1.0);
}

/// A registry in the clear has no place for a password, and none of its paths is a page of
/// seawall's.
async fn passwords_are_not_walked_around(hub: &Registry, lab: &Registry, pki: &Pki) {
    use std::io::Write as _;
    let to = "10.77.0.60";
    let mut users = tempfile::NamedTempFile::new().unwrap();
    writeln!(users, "ci:{}", bcrypt::hash("correct horse", 4).unwrap()).unwrap();
    let toml = format!(
        "[clients]\nallow = [\"0.0.0.0/0\"]\nusers_file = {:?}\n\
         [[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test:5000\"]\nupstreams = [{{ url = \"http://lab.test:5000\" }}]",
        users.path()
    );
    let seawall = Seawall::before(hub).front(lab).toml(&toml).start(pki).await;
    assert!(run(&format!("ip addr add {to}/32 dev lo")));
    assert!(run(&format!(
        "iptables -w -t nat -A OUTPUT -p tcp -d {to} --dport 5000 -m mark ! --mark 7 -j DNAT --to-destination {}",
        seawall.addr()
    )));
    let before = lab.requests().len();
    let shown = "Authorization: Basic Y2k6Y29ycmVjdCBob3JzZQ==\r\n";
    for (line, fields) in [
        ("PUT /setup/../v2/some/app/manifests/1", ""),
        ("GET /", ""),
        ("GET /ca.crt", ""),
        ("GET /v2/some/app/manifests/1", shown),
    ] {
        let mut socket = TcpStream::connect((to, 5000)).await.unwrap();
        let request =
            format!("{line} HTTP/1.1\r\nHost: lab.test:5000\r\nContent-Length: 0\r\nConnection: close\r\n{fields}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 403 ") && reply.contains("HTTP_PROXY"), "{line}: {reply}");
    }
    assert_eq!(lab.requests().len(), before, "{}", lab.log());
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"auth\"}"), 4.0);
    // What is for seawall itself is as open as it was.
    let reply = Client::plain(seawall.addr()).get("http://mirror.test/ca.crt").send().await.unwrap();
    assert_eq!(reply.status, 200);
}

/// A ClientHello that names nobody.
fn client_hello() -> Vec<u8> {
    let config = trusting("", Alpn::None, Sni::Absent);
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(config, server_name(OTHER)).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}
