//! DNS is overridden, and seawall asks the resolver that is: it says so, and does not ask itself
//! for ever.
#![expect(clippy::disallowed_methods, reason = "tokio::spawn: a fake needs no drain")]

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

const ADVICE: &str =
    "set upstream.nameservers to a resolver that is not overridden, or upstream.hosts to true addresses";

/// A `seawall` command by the configuration in `dir`.
fn seawall(dir: &tempfile::TempDir, command: &[&str]) -> Command {
    let mut seawall = Command::new(env!("CARGO_BIN_EXE_seawall"));
    seawall.arg("--config").arg(dir.path().join("seawall.toml")).args(command).env_remove("RUST_LOG");
    seawall
}

/// Dropped: it is killed.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A redirect of ports: whoever connects to it comes out at `to`, which is known later.
async fn redirect(to: tokio::sync::watch::Receiver<Option<SocketAddr>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut to = to.clone();
            tokio::spawn(async move {
                let to = to.wait_for(Option::is_some).await.unwrap().unwrap();
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

/// Even where its own listeners are not what is dialled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_registry_that_resolves_to_seawall_is_said_at_once_and_never_dialled() {
    let dns = Dns::start(|name, _| if name == "lab.test" { vec![Ipv4Addr::LOCALHOST] } else { Vec::new() }).await;
    let (sender, to) = tokio::sync::watch::channel(None);
    let port = redirect(to).await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = format!(
        "listen = [\"0.0.0.0:0\"]\nadmin = \"\"\ndata = {data:?}\n\
         [[registry]]\nname = \"lab\"\nhosts = [\"lab.test\"]\nupstreams = [{{ url = \"https://lab.test:{port}\" }}]\n\
         [upstream]\nnameservers = [\"{}\"]\n",
        dns.addr()
    );
    std::fs::write(dir.path().join("seawall.toml"), text).unwrap();

    let mut serving = Serving(seawall(&dir, &["serve"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(serving.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let listening = log.find_map(|line| Some(line.split_once("listening address=0.0.0.0:")?.1.trim().parse().unwrap()));
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, listening.expect("it listens")));
    sender.send(Some(here)).unwrap();
    let wanted = format!("lab (lab.test) resolves to me (127.0.0.1:{port}): {ADVICE}");
    let said = log.find(|line| line.contains(" resolves to me ")).expect("it is said");
    assert!(said.contains(&wanted) && said.contains("ERROR"), "{said}");
    std::thread::spawn(move || log.for_each(drop));

    let ca = std::fs::read_to_string(data.join("ca/ca.crt")).unwrap();
    let reply = Client::via_connect(here, &ca).get("https://lab.test/v2/some/thing/manifests/1").send().await.unwrap();
    let said = String::from_utf8_lossy(reply.bytes()).into_owned();
    let refused = format!("lab.test resolves to me (127.0.0.1:{port}, which is seawall itself): {ADVICE}");
    assert!(reply.status == 502 && said.contains(&refused), "{said}");

    // And by `check`, which shares nothing with it but the configuration and the root.
    let checked = seawall(&dir, &["check"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    // It cannot tell this seawall from another one that has its root.
    assert_eq!(checked.status.code(), Some(0), "{stdout}{stderr}");
    let doubt = format!("WARNING    lab (lab.test): a seawall with this root answers there (127.0.0.1:{port})");
    assert!(stdout.contains(&doubt), "{stdout}{stderr}");
}
