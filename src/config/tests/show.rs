//! What `seawall config show` is told.

use super::*;
use crate::config::keys::PARTS;
use crate::config::show::{Group, InForce, Provenance, Setting};

fn in_force(text: &str, env: &[(&str, &str)], flags: &Overrides) -> InForce {
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (config, document) = Config::parse(Some("seawall.toml".into()), text, &env, flags).unwrap();
    crate::config::show::in_force(&config, &document)
}

fn setting<'a>(groups: &'a [Group], key: &str) -> &'a Setting {
    let (path, name) = key.rsplit_once('.').unwrap_or(("", key));
    let group = groups.iter().find(|group| group.path == path).unwrap_or_else(|| panic!("no {path}"));
    group.settings.iter().find(|setting| setting.key == name).unwrap_or_else(|| panic!("no {key}"))
}

/// `VALUE from PLACE`.
fn said(shown: &InForce, key: &str) -> String {
    let setting = setting(&shown.groups, key);
    format!("{} from {}", setting.value, setting.from)
}

#[test]
fn each_value_says_where_it_is_from() {
    let text = "listen = [\n  \"127.0.0.1:1\",\n]\nadmin = \"127.0.0.1:2\"\n[cache]\nmin_free = \"2GiB\"\nmemory = \"1MiB\"\n\
                [[cache.tags.rules]]\nmatch = \"*:v*\"\nttl = \"1h\"\n[upstream.hosts]\n\"ghcr.io\" = \"192.0.2.1\"\n";
    let env = [
        ("SEAWALL_CACHE__MEMORY", "2MiB"),
        ("SEAWALL_TUNNEL__PORTS", "443, 8443"),
        ("SEAWALL_TUNNEL__HOSTS", ""),
        ("SEAWALL_CA__CONSTRAINED", "false"),
        ("SEAWALL_CA__LEAF_DAYS", " 7"),
        ("SEAWALL_CLIENTS", "{ max_connections = 4 }"),
        ("SEAWALL_NO_KEY", "x"),
    ];
    let flags = Overrides { data: Some("there".to_owned()), ..Overrides::default() };
    let shown = in_force(text, &env, &flags);
    for (key, value, from) in [
        ("listen", "[\"127.0.0.1:1\"]", "seawall.toml:1"),
        ("admin.listen", "\"127.0.0.1:2\"", "seawall.toml:4"),
        ("admin.hosts", "[]", "default"),
        ("data", "\"there\"", "flag --data"),
        ("ca.dir", "\"there/ca\"", "default"),
        ("ca.constrained", "false", "environment variable SEAWALL_CA__CONSTRAINED"),
        ("ca.leaf_days", "7", "environment variable SEAWALL_CA__LEAF_DAYS"),
        ("cache.max_size", "\"20GiB\"", "default"),
        ("cache.min_free", "\"2GiB\"", "seawall.toml:6"),
        ("cache.memory", "\"2MiB\"", "environment variable SEAWALL_CACHE__MEMORY"),
        ("cache.tags.rules", "[{ match = \"*:v*\", ttl = \"1h\" }]", "seawall.toml:8"),
        ("tunnel.ports", "[443, 8443]", "environment variable SEAWALL_TUNNEL__PORTS"),
        ("tunnel.hosts", "[]", "environment variable SEAWALL_TUNNEL__HOSTS"),
        ("clients.max_connections", "4", "environment variable SEAWALL_CLIENTS"),
        ("clients.max_per_client", "2", "default"),
        ("upstream.hosts", "{ \"ghcr.io\" = \"192.0.2.1\" }", "seawall.toml:11"),
    ] {
        assert_eq!(said(&shown, key), format!("{value} from {from}"), "{key}");
    }
    assert_eq!(
        said(&in_force("", &[], &Overrides::default()), "cache.tags.rules"),
        "[{ match = \"*:latest\", ttl = \"30s\" }] from default"
    );
}

#[test]
fn an_empty_value_that_means_the_default_shows_what_it_means() {
    let shown = in_force("data = \"\"\n[ca]\ndir = \"\"\n[clients]\nusers_file = \"\"", &[], &Overrides::default());
    assert_eq!(said(&shown, "data"), "\"seawall-data\" from default");
    assert_eq!(said(&shown, "ca.dir"), "\"seawall-data/ca\" from default");
    assert_eq!(said(&shown, "clients.users_file"), "\"\" from seawall.toml:5");
}

#[test]
fn a_registry_shows_what_it_keeps_of_the_built_in_one() {
    let text = "[upstream]\nsegments = 7\n[[registry]]\nname = \"docker.io\"\nreserve = 5\n[[registry]]\nname = \"lab\"\nsegments = 2\n\
                [[registry.upstreams]]\nurl = \"http://lab:5000\"\n[[registry.rewrite]]\nfrom = \"^a$\"\nto = \"b\"";
    let shown = in_force(text, &[], &Overrides::default());
    let registries: Vec<_> = shown.groups.iter().filter(|group| group.path == "registry").collect();
    let said = |n: usize, key: &str| {
        let setting = registries[n].settings.iter().find(|setting| setting.key == key).unwrap();
        format!("{} from {}", setting.value, setting.from)
    };
    for (n, key, expected) in [
        (0, "name", "\"docker.io\" from seawall.toml:4"),
        (0, "aliases", "[\"dockerhub\"] from built in"),
        (0, "auth_hosts", "[\"auth.docker.io\"] from built in"),
        (0, "upstreams", "[{ url = \"https://registry-1.docker.io\" }] from built in"),
        (0, "realms", "[] from default"),
        (0, "reserve", "5 from seawall.toml:5"),
        (0, "segments", "7 from seawall.toml:2"),
        (0, "allow", "[\"*\"] from default"),
        (1, "hosts", "[\"http://lab:5000\"] from default"),
        (1, "segments", "2 from seawall.toml:8"),
        (1, "upstreams", "[{ url = \"http://lab:5000\" }] from seawall.toml:9"),
        (1, "rewrite", "[{ from = \"^a$\", to = \"b\" }] from seawall.toml:11"),
    ] {
        assert_eq!(said(n, key), expected, "{n} {key}");
    }
    assert_eq!((registries.len(), shown.builtin.len()), (2, 17));
    let gitlab = shown.builtin.iter().find(|group| group.settings[0].value.as_str() == Some("registry.gitlab.com"));
    let keys: Vec<_> = gitlab.unwrap().settings.iter().map(|setting| setting.key).collect();
    assert_eq!(keys, ["name", "hosts", "realms", "upstreams"]);
}

/// Wherever a URL may stand.
#[test]
fn no_secret_is_in_it() {
    let shown = |url: &str| {
        let shown = in_force("", &[("SEAWALL_UPSTREAM__PROXY", url)], &Overrides::default());
        let whole = format!("{shown:?}");
        assert!(!whole.contains("hunter2") && !whole.contains("jane"), "{whole}");
        let setting = setting(&shown.groups, "upstream.proxy");
        assert_eq!(setting.from, Provenance::Variable("SEAWALL_UPSTREAM__PROXY".into()));
        setting.value.as_str().unwrap().to_owned()
    };
    for (written, expected) in [
        ("http://jane:hunter2@proxy.corp:8080", "http://(hidden)@proxy.corp:8080"),
        ("socks5h://jane@10.0.0.1", "socks5h://(hidden)@10.0.0.1"),
        ("http://jane:hunter2@hunter2@proxy.corp", "http://(hidden)@proxy.corp"),
        ("http://jane:hunter2:hunter2%2F@proxy.corp/", "http://(hidden)@proxy.corp/"),
        ("http://proxy.corp:8080", "http://proxy.corp:8080"),
    ] {
        assert_eq!(shown(written), expected, "{written}");
    }
    let text = "[upstream]\nnameservers = [\"tls://dns.corp@192.0.2.53\"]\n[[registry]]\nname = \"lab\"\n\
                upstreams = [{ url = \"http://lab:5000#hunter2\" }]";
    let shown = in_force(text, &[], &Overrides::default());
    assert!(!format!("{shown:?}").contains("hunter2"), "{shown:?}");
    assert_eq!(said(&shown, "upstream.nameservers"), "[\"tls://dns.corp@192.0.2.53\"] from seawall.toml:2");
}

/// A key whose value is a secret would be shown: secrets have files of their own.
#[test]
fn no_key_holds_a_secret() {
    for key in PARTS.iter().flat_map(|part| part.keys) {
        let is_secret = ["password", "secret", "token", "passphrase"].iter().any(|word| key.name.contains(word));
        assert!(!is_secret || key.name.ends_with("_file"), "{}: hide its value in config/show.rs", key.name);
    }
}
