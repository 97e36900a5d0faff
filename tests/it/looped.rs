//! A registry's name that leads back to seawall through what seawall cannot know: a balancer, a
//! port mapping, NAT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::*;

/// A port in front of another: what `docker run -p` makes.
struct Mapping {
    address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
    connections: Arc<AtomicUsize>,
}

impl Mapping {
    async fn start() -> Mapping {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, connections) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let (target, count) = (to.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let target: SocketAddr = target.lock().expect("it is told where to");
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Mapping { address, to, connections }
    }

    fn leads_to(&self, seawall: &Seawall) {
        *self.to.lock() = Some(seawall.addr());
    }
}

fn overridden(host: &str, mapping: &Mapping, more: &str) -> String {
    format!("[upstream]\nhosts = {{ {host:?} = \"{}\" }}\n{more}", mapping.address)
}

/// In the clear seawall would be its own mirror, and look for the image at Docker Hub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_registry_that_is_seawall_itself_is_refused() {
    let pki = Pki::new();
    let mapping = Mapping::start().await;
    let lab =
        "[[registry]]\nname = \"lab\"\nhosts = [\"http://lab.test\"]\nupstreams = [{ url = \"http://lab.test\" }]";
    let toml = format!("{}\n{lab}", overridden("lab.test", &mapping, ""));
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    mapping.leads_to(&seawall);
    let mirror = Client::plain(seawall.addr());
    for url in ["http://mirror.test/v2/lab/app/manifests/1", "http://mirror.test/v2/lab/app/tags/list"] {
        let reply = mirror.get(url).header("accept", "*/*").send().await.unwrap();
        let message = reply.json()["errors"][0]["message"].to_string();
        assert!(
            message.contains("lab.test resolves to me: set upstream.nameservers"),
            "{url} {} {message}",
            reply.status
        );
    }
    let reply =
        seawall.client().get("http://lab.test/v2/app/manifests/1").header("accept", "*/*").send().await.unwrap();
    assert_eq!(reply.status, 508);
    assert!(mapping.connections.load(SeqCst) <= 6, "it is found out at once");
    // Somebody else's signature is none of its business.
    let url = "http://mirror.test/v2/";
    let reply = mirror.get(url).header("via", "1.1 seawall-0000000000000000, 1.0 squid").send().await.unwrap();
    assert_eq!(reply.status, 200);
}

/// Over TLS it goes that far only where seawall trusts its own root: `seawall ca install` on its
/// own machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_seawall_itself_is_refused() {
    let pki = Pki::new();
    let dir = tempfile::tempdir().unwrap();
    let first = Seawall::alone().data(dir.path()).start(&pki).await;
    first.stop().await;
    let mapping = Mapping::start().await;
    let trusting = format!("ca_file = {:?}", dir.path().join("ca/ca.crt"));
    let toml = overridden("registry-1.docker.io", &mapping, &trusting);
    let seawall = Seawall::alone().data(dir.path()).toml(&toml).start(&pki).await;
    mapping.leads_to(&seawall);
    let reply = seawall.client().get(crate::target::TAG).header("accept", "*/*").send().await.unwrap();
    let message = reply.json()["errors"][0]["message"].to_string();
    assert_eq!(reply.status, 508, "{message}");
    assert!(message.contains("registry-1.docker.io resolves to me: set upstream.nameservers"), "{message}");
}

/// TLS that is passed through unopened has no `Via`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_comes_back_is_ended() {
    let pki = Pki::new();
    let mapping = Mapping::start().await;
    let seawall = Seawall::alone().toml(&overridden("files.example.test", &mapping, "")).start(&pki).await;
    mapping.leads_to(&seawall);
    for client in
        [Client::direct_tls(seawall.addr(), &pki.ca_pem()), Client::via_connect(seawall.addr(), &pki.ca_pem())]
    {
        let before = mapping.connections.load(SeqCst);
        let error = client.connect("https://files.example.test/").await.err().expect("nobody is there");
        assert!(matches!(error, ClientError::Tls(_)), "{error}");
        assert!(mapping.connections.load(SeqCst) - before <= 2, "once around");
    }
    assert_eq!(seawall.metric("seawall_clients_refused_total{reason=\"tunnel\"}"), 2.0);
}

/// Two that trust each other's root, which is one root, and are each other's registry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_seawalls_that_lead_to_each_other_find_out_at_once() {
    let pki = Pki::new();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Seawall::alone().data(first.path()).start(&pki).await.stop().await;
    copy_root(first.path(), second.path());
    let (to_first, to_second) = (Mapping::start().await, Mapping::start().await);
    let trusting = format!("ca_file = {:?}", first.path().join("ca/ca.crt"));
    let start = async |data: &std::path::Path, to: &Mapping| {
        let toml = overridden("registry-1.docker.io", to, &trusting);
        Seawall::alone().data(data).toml(&toml).start(&pki).await
    };
    let (one, other) = (start(first.path(), &to_second).await, start(second.path(), &to_first).await);
    to_first.leads_to(&one);
    to_second.leads_to(&other);
    let asking = one.client();
    let asking = asking.get(crate::target::TAG).header("accept", "*/*").send();
    let reply = tokio::time::timeout(std::time::Duration::from_secs(20), asking).await.expect("at once").unwrap();
    let message = reply.json()["errors"][0]["message"].to_string();
    assert!(reply.status == 508 && message.contains("resolves to me"), "{} {message}", reply.status);
    let connections = to_first.connections.load(SeqCst) + to_second.connections.load(SeqCst);
    assert!(connections <= 6, "{connections}");
}

fn copy_root(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to.join("ca")).unwrap();
    for file in ["ca.crt", "ca.key"] {
        std::fs::copy(from.join("ca").join(file), to.join("ca").join(file)).unwrap();
    }
}

/// A seawall before another that has the same root is as it should be, and so is another host at an
/// address that leads here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_seawall_with_the_same_root_is_no_loop() {
    use seawall::config::{Config, Overrides};
    use seawall::dial::connect::{Dialer, Trust};
    use seawall::dial::loops::{Evidence, find};
    use seawall::dial::own::OwnAddresses;
    let pki = Pki::new();
    let registry = crate::target::hub(&pki).await;
    let far = Seawall::before(&registry).start(&pki).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seawall.toml");
    let text = format!(
        "data = {dir:?}\n[upstream]\nhosts = {{ \"registry-1.docker.io\" = \"{}\" }}",
        far.addr(),
        dir = dir.path()
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), std::iter::empty(), Overrides::default()).unwrap();
    let dialer = Dialer::new(&config.upstream, OwnAddresses::new()).unwrap();
    let mut only = config.registries.iter().filter(|registry| &*registry.name == "docker.io");
    let mut hub = (**only.next().unwrap()).clone();
    hub.auth_hosts.clear();
    let registries = seawall::policy::registry::Registries::new(vec![hub]);
    let found = find(&dialer, &registries, Some(&far.ca_pem), std::future::pending()).await;
    assert_eq!(found.iter().map(|found| found.evidence).collect::<Vec<_>>(), [Evidence::Root]);
    let host = "registry-1.docker.io".parse().unwrap();
    dialer.dial(&host, 443, Trust::Configured).await.unwrap();
    assert_eq!(registry.heads("manifests") + registry.gets("manifests"), 0, "{}", registry.log());
}

/// 508 is a registry's own affair, unless seawall itself said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ones_508_is_not_a_loop_of_seawalls() {
    let pki = Pki::new();
    let registry = crate::target::hub(&pki).await;
    registry.fault(Fault::on("manifests").status(508, "").set("via", "1.1 seawall-0000000000000000"));
    let seawall = Seawall::before(&registry).start(&pki).await;
    let reply = seawall.client().get(crate::target::TAG).header("accept", "*/*").send().await.unwrap();
    let said = String::from_utf8_lossy(reply.bytes()).into_owned();
    assert!(said.contains("answered 508") && !said.contains("resolves to me"), "{} {said}", reply.status);
}

/// A parent proxy that is seawall itself, behind what it cannot know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_is_seawall_itself_is_asked_once() {
    let pki = Pki::new();
    let mapping = Mapping::start().await;
    let toml = format!("[upstream]\nproxy = \"http://{}\"", mapping.address);
    let seawall = Seawall::alone().toml(&toml).start(&pki).await;
    mapping.leads_to(&seawall);
    let error = seawall.client().connect("https://files.example.test/").await.err().expect("nobody is there");
    let said = format!("{error:?}");
    assert!(matches!(error, ClientError::Refused(502, ..)) && said.contains("is seawall itself"), "{said}");
    assert_eq!(mapping.connections.load(SeqCst), 1);
}

/// The registry sees one hop more, and nothing of the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_upstream_is_signed_with_a_name_that_says_nothing() {
    let pki = Pki::new();
    let registry = crate::target::hub(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let ask = seawall.client();
    ask.get(crate::target::TAG).header("accept", "*/*").send().await.unwrap();
    let pull = ask
        .get(&crate::target::TAG.replace("3.20", "3.21"))
        .header("accept", "*/*")
        .header("via", "1.0 squid, 1.1 seawall-00000000000000aa");
    pull.send().await.unwrap();
    let pulled = registry.requests();
    assert!(
        pulled.last().unwrap().headers.get_all("via").iter().any(|via| via == "1.1 seawall-00000000000000aa"),
        "of a pull, too"
    );
    let list = "https://registry-1.docker.io/v2/library/alpine/tags/list";
    ask.get(list).header("via", "1.0 squid").send().await.unwrap();
    let requests = registry.requests();
    let vias =
        |seen: &Seen| seen.headers.get_all("via").iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    let own = vias(&requests[0]);
    assert!(own.len() == 1 && own[0].starts_with("1.1 seawall-") && own[0].len() == 28, "{own:?}");
    assert!(requests.iter().all(|seen| vias(seen).contains(&own[0])), "one name for all");
    assert_eq!(vias(requests.last().unwrap()), ["1.0 squid", &own[0]]);
    let again = Seawall::before(&registry).start(&pki).await;
    again.client().get(list).send().await.unwrap();
    assert_ne!(vias(registry.requests().last().unwrap()), own, "another start, another name");
}
