mod account;
mod clients;
mod dial;
mod own;
mod show;
mod starter;
mod wrong;

use proptest::prelude::*;

use super::*;
use crate::ca::Permitted;
use crate::dial::Fixed;
use crate::http::origin::Scheme;
use crate::policy::guard::Network;

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, &[], &Overrides::default())
}

fn with_env(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse_with(text, &env, &Overrides::default())
}

fn parse_with(text: &str, env: &[(String, String)], flags: &Overrides) -> Result<Config, ConfigError> {
    Config::parse(Some("seawall.toml".into()), text, env, flags).map(|(config, _)| config)
}

/// Every key that is accepted. The README's table is checked by eye against this.
const ALL: &str = r#"
listen = ["127.0.0.1:0", "[::1]:0"]
admin = ""
data = "d"
drain_timeout = "0s"
client_timeout = "3s"
[log]
level = "debug"
format = "json"
[clients]
allow = ["10.0.0.0/8", "192.0.2.1"]
users_file = ""
proxy_protocol_from = ["10.0.0.7", "fd00::/64"]
max_connections = 5
max_per_client = 7
[tls]
names = ["seawall.corp.example", "10.1.2.3"]
certificate_file = ""
key_file = ""
[ca]
dir = "keys"
names = ["corp.example", "*.lab", "10.0.0.5"]
constrained = false
leaf_days = 7
[tunnel]
hosts = ["*.Example.com"]
ports = [443, 8443]
deny_networks = ["private"]
[upstream]
ca_file = ""
connect_timeout = "1s"
idle_timeout = "2m"
resolve_deadline = "500ms"
nameservers = ["192.0.2.53", "[2001:db8::1]:5353", "tls://dns.corp@192.0.2.53"]
hosts = { "registry-1.docker.io" = "192.0.2.1", "ghcr.io" = "127.0.0.1:9443" }
proxy = "http://jane:hunter2@proxy.corp:8080"
proxy_password_file = ""
no_proxy = ["registry.corp", ".lab:5000", "10.0.0.0/8"]
[cache]
max_size = "50GiB"
min_free = "0"
memory = "1MB"
public_ttl = "1h"
grant_ttl = "0s"
[cache.tags]
ttl = "forever"
stale = "7d"
gone = "forget"
rules = [{ match = "ghcr.io/acme/*:v*", ttl = "forever" }]
[[registry]]
name = "lab:5000"
aliases = ["lab"]
hosts = ["http://lab:5000"]
auth_hosts = ["auth.lab"]
ca_file = ""
client_certificate_file = ""
client_key_file = ""
upstreams = [{ url = "http://10.0.0.7:5000" }]
"#;

#[test]
fn nothing_said_means_the_defaults_of_the_design() {
    let (config, _) = Config::parse(None, "", &[], &Overrides::default()).unwrap();
    assert_eq!(config.source, None);
    assert_eq!(config.proxy.listen, ["127.0.0.1:3128".parse().unwrap()]);
    assert_eq!(config.admin.listen, Some("127.0.0.1:3129".parse().unwrap()));
    assert_eq!(config.data, Path::new("seawall-data"));
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(config.log, LogSettings { level: tracing::Level::INFO, format: LogFormat::Text });
    assert_eq!(config.proxy.allow.len(), 8);
    assert_eq!((config.proxy.max_connections, config.proxy.max_per_client), (10_000, 1_000));
    assert!(config.proxy.users.is_none() && config.proxy.proxy_protocol_from.is_empty());
    assert_eq!(config.proxy.tunnels.ports, [443]);
    assert!(config.proxy.tunnels.hosts[0].matches("anything.example"));
    assert_eq!(config.ca.dir, Path::new("seawall-data/ca"));
    assert!(config.ca.constrained && config.ca.leaf_days == 30);
    assert_eq!(config.upstream.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.upstream.idle_timeout, Duration::from_secs(60));
    assert_eq!(config.upstream.resolve_deadline, Duration::from_secs(2));
    assert_eq!(config.upstream.deny_networks, [Network::Loopback, Network::LinkLocal, Network::Metadata]);
    assert_eq!((config.cache.max_size, config.cache.min_free, config.cache.memory), (20 << 30, 1 << 30, 64 << 20));
    assert_eq!(config.cache.public_ttl, Duration::from_secs(900));
    assert_eq!(config.cache.grant_ttl, Duration::from_secs(300));
    assert_eq!(config.cache.offline_grants, Duration::ZERO);
    assert_eq!(config.cache.tags.ttl, Duration::from_secs(60));
    assert_eq!(config.cache.tags.stale, Duration::MAX);
    assert_eq!(config.cache.tags.gone, cache::Gone::Serve);
    assert!(config.cache.tags.rules[0].names.matches("docker.io/library/alpine:latest"));
    assert_eq!(config.cache.tags.rules[0].ttl, Duration::from_secs(30));
    assert_eq!(config.registries.iter().count(), 18);
    assert!(config.registry_hosts().contains(&"registry-1.docker.io".to_owned()));
    assert!(!config.registry_hosts().iter().any(|host| host.contains('*')));
}

#[test]
fn every_key_does_something() {
    let config = parse(ALL).unwrap();
    assert_eq!(config.proxy.listen.len(), 2);
    assert_eq!((config.admin.listen, config.drain), (None, Duration::ZERO));
    assert_eq!(config.data, Path::new("d"));
    assert_eq!(config.log, LogSettings { level: tracing::Level::DEBUG, format: LogFormat::Json });
    assert_eq!(config.proxy.patience, Duration::from_secs(3));
    assert_eq!(config.proxy.allow, ["10.0.0.0/8".parse::<ipnet::IpNet>().unwrap(), "192.0.2.1/32".parse().unwrap()]);
    assert_eq!((config.proxy.max_connections, config.proxy.max_per_client), (5, 7));
    assert_eq!(
        config.proxy.proxy_protocol_from,
        ["10.0.0.7/32", "fd00::/64"].map(|net| net.parse::<ipnet::IpNet>().unwrap())
    );
    assert_eq!(config.proxy.tunnels.ports, [443, 8443]);
    assert!(config.proxy.tunnels.hosts[0].matches("a.example.com"));
    assert_eq!((config.ca.dir.as_path(), config.ca.constrained, config.ca.leaf_days), (Path::new("keys"), false, 7));
    for name in ["corp.example", "lab", "docker.io"] {
        assert!(config.ca.permitted.contains(&Permitted::Dns(name.to_owned())), "{name}");
    }
    assert!(config.ca.permitted.contains(&Permitted::Ip("10.0.0.5".parse().unwrap())));
    assert_eq!(config.upstream.ca_pem, None);
    assert_eq!(config.upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(config.upstream.idle_timeout, Duration::from_secs(120));
    assert_eq!(config.upstream.resolve_deadline, Duration::from_millis(500));
    let asked: Vec<_> = config.upstream.nameservers.iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["192.0.2.53", "[2001:db8::1]:5353", "tls://dns.corp@192.0.2.53"]);
    let fixed = |host: &str| config.upstream.hosts[&host.parse().unwrap()];
    assert_eq!(fixed("registry-1.docker.io"), Fixed { ip: "192.0.2.1".parse().unwrap(), port: None });
    assert_eq!(fixed("ghcr.io"), Fixed { ip: "127.0.0.1".parse().unwrap(), port: Some(9443) });
    assert_eq!(config.upstream.deny_networks, [Network::Private]);
    assert_eq!((config.cache.max_size, config.cache.min_free, config.cache.memory), (50 << 30, 0, 1_000_000));
    assert_eq!((config.cache.public_ttl, config.cache.grant_ttl), (Duration::from_secs(3600), Duration::ZERO));
    assert_eq!((config.cache.tags.ttl, config.cache.tags.stale), (Duration::MAX, Duration::from_secs(7 * 86400)));
    assert_eq!(config.cache.tags.gone, cache::Gone::Forget);
    assert_eq!(config.cache.tags.rules.len(), 1);
    let (site, _) = config.registries.by_host(Scheme::Http, &"lab".parse().unwrap(), 5000).unwrap();
    assert_eq!(format!("{site:?}"), "lab:5000 at http://10.0.0.7:5000");
    assert!(config.registries.by_name("lab").is_some());
}

#[test]
fn variables_win_over_the_file() {
    let config = with_env(
        "listen = [\"127.0.0.1:1\"]\n[cache]\nmax_size = \"1GiB\"\nmin_free = \"2GiB\"",
        &[
            ("SEAWALL_LISTEN", "[\"127.0.0.1:0\", \"[::1]:0\"]"),
            ("SEAWALL_ADMIN", ""),
            ("SEAWALL_DATA", "/var/lib/seawall"),
            ("SEAWALL_CONFIG", "/ignored/here"),
            ("SEAWALL_CACHE__MAX_SIZE", "50GiB"),
            ("SEAWALL_CACHE__TAGS__TTL", "forever"),
            ("SEAWALL_CACHE__TAGS__RULES", "[{ match = \"*:v*\", ttl = \"1h\" }]"),
            ("SEAWALL_CA__CONSTRAINED", "false"),
            ("SEAWALL_CA__LEAF_DAYS", "5"),
            ("SEAWALL_TUNNEL__PORTS", "443, 8443"),
            ("SEAWALL_TUNNEL__HOSTS", ""),
            ("SEAWALL_UPSTREAM__HOSTS", "{ \"ghcr.io\" = \"10.0.0.1\" }"),
            ("SEAWALL_REGISTRY", "[{ name = \"lab\", upstreams = [{ url = \"http://lab\" }] }]"),
        ],
    )
    .unwrap();
    assert_eq!(config.proxy.listen.len(), 2);
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.data, Path::new("/var/lib/seawall"));
    assert_eq!((config.cache.max_size, config.cache.min_free), (50 << 30, 2 << 30));
    assert_eq!(config.cache.tags.ttl, Duration::MAX);
    assert_eq!(config.cache.tags.rules.len(), 1);
    assert!(!config.ca.constrained && config.ca.leaf_days == 5);
    assert_eq!(config.proxy.tunnels.ports, [443, 8443]);
    assert!(config.proxy.tunnels.hosts.is_empty());
    assert_eq!(config.upstream.hosts.len(), 1);
    assert_eq!(config.registries.by_name("lab").unwrap().origin.to_string(), "http://lab");
}

/// Kubernetes sets these in the pod of a service that is called seawall, or seawall-admin.
#[test]
fn the_variables_of_kubernetes_are_not_ours() {
    let env = [
        ("SEAWALL_SERVICE_HOST", "10.96.0.1"),
        ("SEAWALL_SERVICE_PORT", "3128"),
        ("SEAWALL_SERVICE_PORT_PROXY", "3128"),
        ("SEAWALL_PORT", "tcp://10.96.0.1:3128"),
        ("SEAWALL_PORT_3128_TCP", "tcp://10.96.0.1:3128"),
        ("SEAWALL_PORT_3128_TCP_PROTO", "tcp"),
        ("SEAWALL_PORT_3128_TCP_ADDR", "10.96.0.1"),
        ("SEAWALL_ADMIN_SERVICE_HOST", "10.96.0.2"),
        ("SEAWALL_ADMIN_PORT", "tcp://10.96.0.2:3129"),
        ("SEAWALL_ADMIN_PORT_3129_TCP_PORT", "3129"),
    ];
    assert!(with_env("", &env).unwrap().strays.is_empty());
    assert_eq!(with_env("", &[("SEAWALL_PORT", "3128")]).unwrap().strays.len(), 1);
}

#[test]
fn what_is_seldom_meant_is_said() {
    let doubts = |text: &str| with_env(text, &[]).unwrap().doubts();
    for (text, said) in [
        ("[clients]\nallow = [\"10.0.0.0/8\", \"0.0.0.0/0\"]", "open proxy"),
        ("[clients]\nallow = [\"::/0\"]", "open proxy"),
        ("[clients]\nproxy_protocol_from = [\"0.0.0.0/0\"]", "load balancers"),
        ("[clients]\nmax_connections = 2", "have 1 connections"),
        ("[clients]\nmax_per_client = 5", "have 5 connections"),
    ] {
        let doubts = doubts(text);
        assert!(matches!(doubts.as_slice(), [doubt] if doubt.contains(said)), "{text}: {doubts:?}");
    }
    for text in ["", "[clients]\nmax_connections = 12", "[clients]\nproxy_protocol_from = [\"10.0.0.0/8\"]"] {
        assert_eq!(doubts(text), [""; 0], "{text}");
    }
}

#[test]
fn flags_win_over_variables() {
    let flags = Overrides {
        listen: vec!["127.0.0.1:7".to_owned()],
        admin: Some("127.0.0.1:8".to_owned()),
        data: Some("f".to_owned()),
    };
    let env = [("SEAWALL_DATA".to_owned(), "v".to_owned())];
    let config = parse_with("", &env, &flags).unwrap();
    assert_eq!(config.proxy.listen, ["127.0.0.1:7".parse().unwrap()]);
    assert_eq!(config.admin.listen, Some("127.0.0.1:8".parse().unwrap()));
    assert_eq!(config.data, Path::new("f"));
    let wrong = Overrides { listen: vec!["7".to_owned()], ..Overrides::default() };
    let said = parse_with("", &[], &wrong).unwrap_err().to_string();
    assert!(said.starts_with("--listen: listen: \"7\" is not an IP address with a port"), "{said}");
}

#[test]
fn the_admin_listener_has_a_short_form_and_a_long_one() {
    let said = |text: &str, env: &[(&str, &str)]| {
        let AdminSettings { listen, hosts, .. } = with_env(text, env).unwrap().admin;
        let listen = listen.map_or_else(|| "off".to_owned(), |address| address.to_string());
        format!("{listen} {}", hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    };
    let (short, long) = ("admin = \"127.0.0.1:9\"", "[admin]\nlisten = \"127.0.0.1:9\"\nhosts = [\"ops.corp\"]");
    let (variable, name) = (("SEAWALL_ADMIN", "127.0.0.1:8"), ("SEAWALL_ADMIN__HOSTS", "a.corp, b.corp"));
    for (text, env, expected) in [
        ("", &[][..], "127.0.0.1:3129 "),
        (short, &[], "127.0.0.1:9 "),
        (long, &[], "127.0.0.1:9 ops.corp"),
        ("admin = \"\"", &[], "off "),
        ("[admin]\nhosts = [\"ops.corp\"]", &[variable], "127.0.0.1:8 ops.corp"),
        (short, &[variable], "127.0.0.1:8 "),
        (short, &[name], "127.0.0.1:9 a.corp,b.corp"),
        (long, &[variable, name], "127.0.0.1:8 a.corp,b.corp"),
        ("", &[("SEAWALL_ADMIN__LISTEN", "")], "off "),
    ] {
        assert_eq!(said(text, env), expected, "{text:?} {env:?}");
    }
    for (text, wrong) in [
        ("admin = 1", "seawall.toml:1:9: admin: wants"),
        ("[admin]\nhosts = [\"a b\"]", "seawall.toml:2:10: admin.hosts: \"a b\" is not the name of a host"),
        ("[admin]\nlisten = \"x\"", "seawall.toml:2:10: admin.listen: \"x\" is not an IP address with a port"),
    ] {
        let said = parse(text).unwrap_err().to_string();
        assert!(said.starts_with(wrong), "{said}");
    }
}

#[test]
fn a_builtin_keeps_what_its_replacement_leaves_out() {
    let one = |text: &str| {
        let config = parse(text).unwrap();
        config.registries.iter().find(|registry| &*registry.name == "docker.io").unwrap().as_ref().clone()
    };
    let hub = one("[[registry]]\nname = \"docker.io\"");
    assert_eq!((hub.hosts.len(), hub.auth_hosts.len(), hub.aliases.len()), (4, 1, 1));
    let hub =
        one("[[registry]]\nname = \"docker.io\"\nauth_hosts = []\nupstreams = [{ url = \"https://mirror.corp\" }]");
    assert_eq!((hub.hosts.len(), hub.auth_hosts.len()), (4, 0));
    assert_eq!(hub.upstream.unwrap().to_string(), "https://mirror.corp");
    let hub = one("[[registry]]\nname = \"docker.io\"\nhosts = [\"docker.io\", \"registry-1.docker.io\"]");
    assert_eq!(hub.upstream.unwrap().to_string(), "https://registry-1.docker.io");
}

#[test]
fn a_new_registry_is_dialled_at_its_first_host() {
    let config =
        parse("[[registry]]\nname = \"registry.corp:5000\"\n[[registry]]\nname = \"x\"\nhosts = [\"*.x.io\"]").unwrap();
    let mut registries = config.registries.iter();
    assert_eq!(registries.next().unwrap().upstream.as_ref().unwrap().to_string(), "https://registry.corp:5000");
    assert_eq!(registries.next().unwrap().upstream, None);
    assert!(config.ca.permitted.contains(&Permitted::Dns("registry.corp".to_owned())));
}

#[test]
fn a_registry_without_hosts_goes_by_where_it_is_dialled_and_by_its_name() {
    for (name, upstream, hosts) in [
        ("lab", "http://lab.corp:5000", vec!["http://lab.corp:5000"]),
        ("lab", "https://lab.corp", vec!["lab.corp"]),
        ("lab:5000", "http://lab:5000", vec!["http://lab:5000"]),
        ("lab.corp", "https://lab.corp", vec!["lab.corp"]),
        ("lab.corp", "http://lab.corp", vec!["http://lab.corp"]),
        ("lab.corp", "http://10.0.0.7:5000", vec!["lab.corp", "http://10.0.0.7:5000"]),
        ("lab.corp", "http://lab.corp:5000", vec!["lab.corp", "http://lab.corp:5000"]),
        ("docker.io", "http://mirror.lan:8081", vec!["registry-1.docker.io", "index.docker.io"]),
    ] {
        let text = format!("[[registry]]\nname = {name:?}\nupstreams = [{{ url = {upstream:?} }}]");
        let registries = parse(&text).unwrap().registries;
        let registry = registries.iter().next().unwrap();
        let said: Vec<_> = registry.hosts.iter().take(2).map(ToString::to_string).collect();
        assert_eq!(said, hosts, "{name} {upstream}");
        assert_eq!(registry.upstream.as_ref().unwrap().to_string(), upstream);
    }
}

/// An exact host of the operator's is found before the built-in pattern that matches it too.
#[test]
fn the_operators_registries_come_first() {
    let config = parse("[[registry]]\nname = \"mirror\"\nhosts = [\"mirror.gcr.io\"]").unwrap();
    let (site, _) = config.registries.by_host(Scheme::Https, &"mirror.gcr.io".parse().unwrap(), 443).unwrap();
    assert_eq!(&*site.namespace, "mirror");
}

#[test]
fn files_are_read_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    crate::fs::create_new(&path, 0o600, b"data = \"here\"").unwrap();
    let env = || [("SEAWALL_CONFIG".to_owned(), path.display().to_string()), ("PATH".to_owned(), "x".to_owned())];
    let config = Config::load(None, env().into_iter(), Overrides::default()).unwrap();
    assert_eq!((config.source.as_deref(), config.data.as_path()), (Some(path.as_path()), Path::new("here")));
    let missing = Config::load(Some(Path::new("/nowhere.toml")), env().into_iter(), Overrides::default());
    assert_eq!(
        missing.unwrap_err().to_string(),
        "configuration file: cannot read /nowhere.toml: No such file or directory (os error 2)"
    );
}

/// A line of the file of every key, or of its beginning, with some of it changed.
fn damaged() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = ALL.lines().collect();
    let pieces = proptest::collection::vec(
        prop_oneof![
            4 => proptest::sample::select(lines).prop_map(str::to_owned),
            1 => "[a-z_]{1,8} = (\"\\PC{0,8}\"|-?[0-9]{1,25}|\\[.{0,5}\\]|true)",
            1 => "\\PC{0,20}",
        ],
        0..8,
    );
    pieces.prop_map(|pieces| pieces.join("\n"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in damaged()) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems().is_empty() && !error.to_string().is_empty());
        }
    }

    #[test]
    fn any_variable_is_read_or_refused(
        name in "(CACHE__(MAX_SIZE|TAGS|TAGS__RULES)|LISTEN|CA__NAMES|UPSTREAM__HOSTS|REGISTRY|[A-Z_]{0,9})",
        value in "\\PC{0,30}",
    ) {
        let _ = with_env("", &[(&format!("SEAWALL_{name}"), &value)]);
    }
}
