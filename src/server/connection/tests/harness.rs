//! A server of its own for each test, and what its clients need.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wildmatch::WildMatch;

use crate::ca::Leaves;
use crate::clock::Clock;
use crate::dial;
use crate::dial::connect::Dialer;
use crate::dial::own::OwnAddresses;
use crate::gateway::{Base, Gateway};
use crate::http::origin::Origin;
use crate::metrics::Metrics;
use crate::policy::intercept::Tunnels;
use crate::policy::registry::{Registries, Registry};
use crate::server::Settings;
use crate::server::clients::Clients;
use crate::server::listener::{Listeners, serve};
use crate::server::loops::Relayed;
use crate::server::shared::ServerShared;
use crate::task::Tasks;

/// Long enough for anything that works.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// The one place that makes a gateway.
pub(super) fn gateway(
    dir: &std::path::Path,
    tasks: &Tasks,
    registries: &Arc<Registries>,
    dialer: &Dialer,
) -> Arc<Gateway> {
    use crate::records::{Journal, Records};
    let (clock, metrics, ledger) = (Clock::system(), Metrics::new(), crate::ledger::Ledger::default());
    let shared = crate::upstream::client::Shared {
        clock: clock.clone(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        ledger: ledger.clone(),
        transfers: 16,
        forwards: 4,
    };
    let upstream = crate::upstream::Upstream::new(&upstream_settings(), registries, dialer, shared).unwrap();
    let settings_of_cache = crate::cache::Settings {
        data: dir.to_owned(),
        max_size: 1 << 30,
        min_free: 0,
        memory: 1 << 20,
        public_ttl: LONG,
        grant_ttl: LONG,
        offline_grants: Duration::ZERO,
        verify_every: None,
        tags: crate::cache::Tags { ttl: LONG, stale: LONG, gone: crate::cache::Gone::Serve, rules: Vec::new() },
    };
    let (journal, index) = (Journal::off(), crate::store::index::Index::new(Journal::off()));
    let presences = crate::access::presence::Presences::new(index.clone(), Journal::off());
    let ttls =
        crate::policy::access::GrantTtls { public: LONG, own: LONG, offline: Duration::ZERO, stale: Duration::MAX };
    let (secret, mut records) = (Arc::new(crate::access::secret::Secret::random()), Records::default());
    let base = crate::cache::Base {
        upstream: upstream.clone(),
        access: crate::access::Access::new(ttls, presences, secret, &journal, &mut records, &clock, tasks),
        store: Arc::new(crate::store::Store::open(&dir.join("cache")).unwrap()),
        index,
        journal,
        tags: records.tags,
        clock: clock.clone(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
    };
    Arc::new(Gateway::new(Base {
        registries: registries.clone(),
        cache: crate::cache::Cache::new(&settings_of_cache, base),
        upstream,
        pages: crate::gateway::pages::Pages { ca_pem: String::new(), fingerprint: String::new() },
        pings: crate::gateway::pings::Pings::new(LONG, Journal::off(), &[]),
        own_names: settings().own_names,
        tunnels: settings().tunnels,
        telemetry: crate::gateway::telemetry::Telemetry { metrics, ledger, clock: clock.clone() },
        tasks: tasks.clone(),
        clock,
    }))
}

pub(super) struct Seawall {
    pub(super) address: SocketAddr,
    pub(super) root: String,
    pub(super) tasks: Tasks,
    _dir: tempfile::TempDir,
}

pub(super) fn settings() -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        users: None,
        proxy_protocol_from: Vec::new(),
        max_connections: 1000,
        max_per_client: 1000,
        tunnels: tunnels(443),
        own_names: crate::policy::addressee::OwnNames::default(),
        patience: LONG,
        idle_timeout: LONG,
    }
}

/// Any host, on this port.
pub(super) fn tunnels(port: u16) -> Tunnels {
    Tunnels { hosts: vec![WildMatch::new("*")], ports: vec![port] }
}

pub(super) fn upstream_settings() -> dial::Settings {
    dial::Settings {
        ca_pem: None,
        connect_timeout: LONG,
        idle_timeout: LONG,
        upload_timeout: Duration::MAX,
        resolve_deadline: LONG,
        nameservers: Vec::new(),
        hosts: HashMap::new(),
        proxy: None,
        deny_networks: Vec::new(),
    }
}

pub(super) fn registry(name: &str, upstream: &str) -> Registry {
    Registry {
        name: name.into(),
        hosts: vec![name.parse().unwrap()],
        upstream: Some(Origin::from_url(upstream).unwrap().0),
        ..Registry::default()
    }
}

impl Seawall {
    pub(super) async fn start(settings: Settings, upstream: dial::Settings) -> Seawall {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let ca = crate::ca::Settings {
            dir: dir.path().to_owned(),
            permitted: vec![crate::ca::Permitted::Dns("registry.test".into())],
            constrained: false,
            leaf_days: 30,
        };
        let root = Arc::new(crate::ca::Root::load_or_create(&ca, clock.now()).unwrap());
        let listeners = Listeners::bind(&settings.listen).unwrap();
        let address = listeners.addresses()[0];
        let own = OwnAddresses::new();
        own.add(address);
        let tasks = Tasks::new();
        let tls = registry("registry.test", "https://registry.test");
        let plain = registry("plain.test:5000", "http://plain.test:5000");
        let registries = Arc::new(Registries::new(vec![tls, plain]));
        let dialer = Dialer::new(&upstream, own.clone()).unwrap();
        let metrics = Metrics::new();
        let shared = ServerShared {
            clients: Clients::new(&settings, &metrics, &clock),
            settings,
            gateway: gateway(dir.path(), &tasks, &registries, &dialer),
            registries,
            leaves: Arc::new(Leaves::new(root.clone(), 30).unwrap()),
            dialer,
            own,
            relayed: Relayed::default(),
            answers: ServerShared::answers(10_000, &metrics),
            metrics,
            tasks: tasks.clone(),
            clock,
        };
        tasks.spawn(serve(Arc::new(shared), listeners));
        Seawall { address, root: root.certificate_pem(), tasks, _dir: dir }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The reply to a CONNECT, and the socket after its head.
    pub(super) async fn tunnel(&self, target: &str) -> (String, TcpStream) {
        let mut socket = self.connect().await;
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        (head(&mut socket).await, socket)
    }

    /// Trusts this root and no other.
    pub(super) fn client(&self, alpn: &[&[u8]]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }

    pub(super) async fn tls(
        &self,
        socket: TcpStream,
        name: &str,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.client(alpn)));
        connector.connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await.unwrap()
    }
}

pub(super) async fn start() -> Seawall {
    Seawall::start(settings(), upstream_settings()).await
}

/// The head of a response.
pub(super) async fn head(socket: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
