//! Whole messages: they are what an operator has to go by.

use super::{parse, with_env};

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, said) in [
        (
            "[cache]\nmax_sise = \"1GiB\"",
            "seawall.toml:2:1: cache.max_sise: unknown key, did you mean `max_size`? \
             valid here: grant_ttl, max_size, memory, min_free, offline_grants, public_ttl, tags, verify_every",
        ),
        (
            "[cache]\nmax_size = \"20 potatoes\"",
            "seawall.toml:2:12: cache.max_size: \"20 potatoes\" is not a size; valid: \"20GiB\", \"500MB\"",
        ),
        ("[cache]\nmax_size = 20", "seawall.toml:2:12: cache.max_size: wants a size such as \"20GiB\", not 20"),
        (
            "[cache]\noffline_grants = \"forever\"",
            "seawall.toml:2:18: cache.offline_grants: access that was revoked would come back with every outage; \
             valid: \"7d\", \"0s\" for off",
        ),
        (
            "[cache]\noffline_grants = \"1y\"",
            "seawall.toml:2:18: cache.offline_grants: is 90 days at most; valid: \"7d\", \"0s\" for off",
        ),
        (
            "[cache]\noffline_grants = true",
            "seawall.toml:2:18: cache.offline_grants: wants a time such as \"500ms\", \"10s\", \"2m\", not true",
        ),
        ("[cache]\nmax_size = \"0\"", "seawall.toml:2:12: cache.max_size: must be more than 0"),
        (
            "[cache]\nstale = \"1d\"",
            "seawall.toml:2:1: cache.stale: unknown key here, it belongs in [cache.tags]; \
             valid here: grant_ttl, max_size, memory, min_free, offline_grants, public_ttl, tags, verify_every",
        ),
        (
            "[clients]\n  users_file = \"/nowhere/users\"",
            "seawall.toml:2:16: clients.users_file: cannot read /nowhere/users: No such file or directory (os error 2)",
        ),
        (
            "[clients]\nusers_file = \"Cargo.toml\"",
            "seawall.toml:2:14: clients.users_file: Cargo.toml:1: not USER:HASH; `htpasswd -B FILE USER` writes such lines",
        ),
        (
            "[clients]\nusers_file = \"/dev/null\"",
            "seawall.toml:2:14: clients.users_file: /dev/null names no user; `htpasswd -B FILE USER` adds one",
        ),
        (
            "[clients]\nusers_file = []",
            "seawall.toml:2:14: clients.users_file: wants the name of an htpasswd file, not a list",
        ),
        (
            "[clients]\nproxy_protocol_from = [\"10.0.0.1\", \"lb.corp\"]",
            "seawall.toml:2:36: clients.proxy_protocol_from: \"lb.corp\" is not a network; \
             valid: \"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.1\"",
        ),
        (
            "[clients]\nmax_per_client = 0",
            "seawall.toml:2:18: clients.max_per_client: wants a whole number from 1 to 1000000, not 0",
        ),
        (
            "[cache]\nmax_per_client = 9",
            "seawall.toml:2:1: cache.max_per_client: unknown key here, it belongs in [clients]; \
             valid here: grant_ttl, max_size, memory, min_free, offline_grants, public_ttl, tags, verify_every",
        ),
        (
            "[[registry]]\nname = \"lab\"\nreserve = -1",
            "seawall.toml:3:11: registry.reserve: wants a whole number from 0 to 1000000, not -1",
        ),
        (
            "reserve = 5",
            "seawall.toml:1:1: reserve: unknown key here, it belongs in [[registry]]; valid here: admin, ca, cache, \
             client_timeout, clients, data, drain_timeout, listen, log, registry, tls, tunnel, upstream",
        ),
        (
            "lissten = []",
            "seawall.toml:1:1: lissten: unknown key, did you mean `listen`? valid here: admin, ca, cache, \
             client_timeout, clients, data, drain_timeout, listen, log, registry, tls, tunnel, upstream",
        ),
        ("listen = []", "seawall.toml:1:10: listen: must name at least one address; valid: [\"127.0.0.1:3128\"]"),
        (
            "listen = [\"0.0.0.0:1\",\n \"localhost:2\"]",
            "seawall.toml:2:2: listen: \"localhost:2\" is not an IP address with a port; \
             valid: \"127.0.0.1:3128\", \"0.0.0.0:443\", \"[::]:3128\"",
        ),
        (
            "listen = [\"0.0.0.0:3129\"]",
            "configuration: admin.listen: 127.0.0.1:3129 is taken by listen = 0.0.0.0:3129; \
             clients must not reach the admin listener",
        ),
        (
            "listen = [\"0.0.0.0:1\", \"10.0.0.1:1\"]",
            "seawall.toml:1:10: listen: 0.0.0.0:1 and 10.0.0.1:1 are the same port twice",
        ),
        ("listen = 5", "seawall.toml:1:10: listen: wants a list, not 5"),
        ("cache = 5", "seawall.toml:1:9: cache: wants a table, not 5"),
        ("a = ", "seawall.toml:1:5: this is not TOML: string values must be quoted, expected literal string"),
        ("\"ä\" = \"é\" x", "seawall.toml:1:11: this is not TOML: unexpected key or value, expected newline, `#`"),
        (
            "[[registry]]\nname = \"a\"\nupstreams = [{ url = \"https://u:secret@a\" }]",
            "seawall.toml:3:22: registry.upstreams.url: not an absolute http or https URL without user information; \
             valid: \"https://registry.corp\", \"http://lab:5000\"",
        ),
        (
            "[log]\nlevel = \"wran\"",
            "seawall.toml:2:9: log.level: \"wran\" is not one of \"error\", \"warn\", \"info\", \"debug\", did you mean \"warn\"?",
        ),
        ("[ca]\nleaf_days = 398", "seawall.toml:2:13: ca.leaf_days: wants a whole number from 1 to 397, not 398"),
        ("[ca]\nconstrained = \"yes\"", "seawall.toml:2:15: ca.constrained: wants true or false, not \"yes\""),
        ("[tunnel]\nports = [443, 0]", "seawall.toml:2:15: tunnel.ports: wants a whole number from 1 to 65535, not 0"),
        (
            "[tunnel]\nhosts = [\"github.com:443\"]",
            "seawall.toml:2:10: tunnel.hosts: \"github.com:443\" is not a glob of host names (without port); \
             valid: \"*\", \"*.example.com\", \"github.com\"",
        ),
        (
            "[tunnel]\ndeny_networks = [\"linklocal\"]",
            "seawall.toml:2:18: tunnel.deny_networks: \"linklocal\" is not one of \"loopback\", \"link-local\", \
             \"metadata\", \"private\", did you mean \"link-local\"?",
        ),
        (
            "[clients]\nallow = [\"10.0.0.0/33\"]",
            "seawall.toml:2:10: clients.allow: \"10.0.0.0/33\" is not a network; \
             valid: \"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.1\"",
        ),
        ("[clients]\nallow = []", "seawall.toml:2:9: clients.allow: nobody could connect; valid: [\"10.0.0.0/8\"]"),
        (
            "[upstream]\nconnect_timeout = \"forever\"",
            "seawall.toml:2:19: upstream.connect_timeout: \"forever\" is not a time; valid: \"500ms\", \"10s\", \"2m\"",
        ),
        ("[upstream]\nconnect_timeout = \"0s\"", "seawall.toml:2:19: upstream.connect_timeout: must be more than 0s"),
        (
            "[upstream.hosts]\n\"ghcr.io:443\" = \"10.0.0.1\"",
            "seawall.toml:2:1: upstream.hosts: \"ghcr.io:443\" is not a host name or IP address, without a port",
        ),
        (
            "[upstream]\nhosts = { lab:5000 = \"10.0.0.1\" }",
            "seawall.toml:2:14: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`; quote the name: \"lab:5000\" = …",
        ),
        (
            "[upstream.hosts]\n*.corp = \"10.0.0.1\"",
            "seawall.toml:2:1: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`; quote the name: \"*.corp\" = …",
        ),
        (
            "[upstream.hosts]\nregistry-1.docker.io = \"10.0.0.1\"",
            "seawall.toml:2:1: upstream.hosts: quote the name: \"registry-1.docker.io\" = \"192.0.2.1\"",
        ),
        (
            "[upstream.hosts]\n\"ghcr.io\" = \"ghcr.io\"",
            "seawall.toml:2:13: upstream.hosts: \"ghcr.io\" is not an IP address, with or without a port; \
             valid: \"192.0.2.1\", \"127.0.0.1:9443\", \"[2001:db8::1]:443\"",
        ),
        (
            "[upstream]\nca_file = \"/nowhere/ca.pem\"",
            "seawall.toml:2:11: upstream.ca_file: cannot read /nowhere/ca.pem: No such file or directory (os error 2)",
        ),
        (
            "[upstream]\nca_file = \"Cargo.toml\"",
            "seawall.toml:2:11: upstream.ca_file: Cargo.toml holds no certificate (-----BEGIN CERTIFICATE-----)",
        ),
        (
            "[cache.tags]\nttl = \"200y\"",
            "seawall.toml:2:7: cache.tags.ttl: \"200y\" is longer than 100 years; valid: \"30s\", \"15m\", \"7d\", \"forever\"",
        ),
        (
            "[cache.tags]\nrules = [{ match = \"docker.io/acme\", ttl = \"1m\" }]",
            "seawall.toml:2:20: cache.tags.rules.match: \"docker.io/acme\" matches no REGISTRY/REPOSITORY:TAG; \
             valid: \"*:latest\", \"ghcr.io/acme/*:v*\"",
        ),
        (
            "[cache.tags]\nrules = [{ match = \"*:latest\" }]",
            "seawall.toml:2:10: cache.tags.rules: a rule needs both: { match = \"*:latest\", ttl = \"30s\" }",
        ),
        (
            "[[registry]]\nhosts = [\"lab\"]",
            "seawall.toml:1:1: registry.name: must be given; it is the registry's name in keys, paths and metrics",
        ),
        (
            "[[registry]]\nname = \"Lab\"",
            "seawall.toml:2:8: registry.name: \"Lab\" is not a name (lower-case letters, digits and . - _ : , \
             a letter or digit first, at most 128); valid: \"docker.io\", \"lab\", \"registry.corp:5000\"",
        ),
        (
            "[[registry]]\nname = \"lab\"\nhosts = []",
            "seawall.toml:3:9: registry.hosts: must name at least one host; valid: [\"registry.corp:5000\"]",
        ),
        (
            "[[registry]]\nname = \"lab\"\nhosts = [\"*.com\"]",
            "seawall.toml:3:10: registry.hosts: \"*.com\" is not a host, host:port or a pattern such as *.example.com; \
             valid: \"ghcr.io\", \"registry.corp:5000\", \"*.pkg.dev\"; in the clear: \"http://lab:5000\"",
        ),
        (
            "[[registry]]\nname = \"lab\"\nhosts = [\"ftp://lab\"]",
            "seawall.toml:3:10: registry.hosts: \"ftp://lab\" is not a host, host:port or a pattern such as *.example.com; \
             valid: \"ghcr.io\", \"registry.corp:5000\", \"*.pkg.dev\"; in the clear: \"http://lab:5000\"",
        ),
        (
            "[[registry]]\nname = \"lab\"\nrealms = [\"http://lab\"]",
            "seawall.toml:3:11: registry.realms: \"http://lab\" is too much: a host without scheme; \
             valid: \"ghcr.io\", \"registry.corp:5000\", \"*.pkg.dev\"",
        ),
        (
            "[[registry]]\nname = \"a\"\nupstreams = [{ url = \"https://a\" }, { tags = true }]",
            "seawall.toml:3:37: registry.upstreams.url: must be given; valid: \"https://registry.corp\"",
        ),
        (
            "[[registry]]\nname = \"a\"\nupstreams = [{ url = \"https://a/x\" }]",
            "seawall.toml:3:22: registry.upstreams.url: \"/x\" is too much: a URL without a path (see `prefix`); \
             valid: \"https://registry.corp\", \"http://lab:5000\"",
        ),
        (
            "[[registry]]\nname = \"a\"\nupstreams = [{ prefix = \"X\", url = \"https://a\" }]",
            "seawall.toml:3:25: registry.upstreams.prefix: \"X\" is no start of a repository's name; \
             valid: \"docker-hub\", \"acme-org/dependency_proxy/containers\"",
        ),
        (
            "[[registry]]\nname = \"a\"\nupstreams = [{ url = \"https://a\", username = \"u\" }]",
            "seawall.toml:3:46: registry.upstreams.username: there is no `password_file`; \
             valid: \"/etc/seawall/docker.io.password\"",
        ),
        (
            "[[registry]]\nname = \"a\"\nrewrite = [{ from = \"^x/(.*$\", to = \"y\" }]",
            "seawall.toml:3:21: registry.rewrite.from: \"^x/(.*$\" is not a regular expression: unclosed group; \
             valid: \"^bitnami/(.*)$\"",
        ),
        (
            "[[registry]]\nname = \"hub\"\nhosts = [\"docker.io\"]",
            "seawall.toml:1:1: registry: \"hub\" and \"docker.io\" both claim the host docker.io; \
             to replace \"docker.io\", give its name",
        ),
        (
            "[[registry]]\nname = \"a\"\nhosts = [\"*.corp.io\"]\n[[registry]]\nname = \"b\"\nhosts = [\"b.corp.io\"]",
            "seawall.toml:4:1: registry: \"a\" and \"b\" both claim the host b.corp.io; to replace \"b\", give its name",
        ),
        (
            "[[registry]]\nname = \"a\"\n[[registry]]\nname = \"a\"",
            "seawall.toml:3:1: registry: two registries have the name \"a\"",
        ),
        (
            "certificate_file = \"x\"",
            "seawall.toml:1:1: certificate_file: unknown key here, it belongs in [tls]; valid here: admin, ca, cache, client_timeout, clients, data, drain_timeout, listen, log, registry, tls, tunnel, upstream",
        ),
        (
            "[tls]\nnames = [\"https://seawall.corp\"]",
            "seawall.toml:2:10: tls.names: \"https://seawall.corp\" is no host name or IP address (without scheme, port or *); valid: \"seawall.corp.example\", \"10.1.2.3\"",
        ),
        (
            "[tls]\nnames = [\"quay.io\"]",
            "seawall.toml:2:9: tls.names: quay.io is a host of the registry \"quay.io\", too: whoever names it could mean either; take it out of one of them",
        ),
        (
            "[[registry]]\nname = \"a\"\naliases = [\"dockerhub\"]",
            "seawall.toml:1:1: registry: \"a\" and \"docker.io\" both go by the name \"dockerhub\"",
        ),
    ] {
        let error = parse(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
        assert_eq!(error.to_string(), said, "{text}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let error = parse("data = 1\n[log]\nlevel = 2\n[cache]\nx = 3").unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
    assert_eq!(error.to_string().lines().count(), 3);
}

/// Others use the prefix too: what starts must not stop for that.
#[test]
fn a_key_that_stands_in_several_sections_is_sent_to_all_of_them() {
    for (text, homes) in [
        ("hosts = []", "it belongs in [admin], [tunnel], [upstream] or [[registry]]; valid"),
        ("[log]\nsegments = 4", "it belongs in [upstream] or [[registry]]; valid"),
        ("[log]\nupstreams = []", "it belongs in [[registry]]; valid"),
        ("[cache]\nlisten = []", "it belongs in the top level, before the first [section] or [admin]; valid"),
    ] {
        let said = parse(text).unwrap_err().to_string();
        assert!(said.contains(homes), "{said}");
    }
}

/// A URL that has one may stand where it is not valid.
#[test]
fn no_problem_repeats_a_password() {
    for text in [
        "[[registry]]\nname = \"lab\"\nhosts = [URL]",
        "[[registry]]\nname = \"lab\"\nredirects = [URL]",
        "[[registry]]\nname = \"lab\"\nrealms = [URL]",
        "[[registry]]\nname = \"lab\"\nupstreams = [{ url = URL }]",
        "[[registry]]\nname = \"lab\"\nshare = [URL]",
        "[[registry]]\nname = URL",
        "[upstream]\nnameservers = [URL]",
        "[upstream]\nno_proxy = [URL]",
        "[upstream]\nproxy = [URL]",
        "[upstream]\nproxy_password_file = URL",
        "[upstream]\nconnect_timeout = URL",
        "[upstream]\nsegments = URL",
        "[upstream]\nhosts = { \"lab\" = URL }",
        "[admin]\nlisten = URL",
        "[admin]\nhosts = [URL]",
        "[tunnel]\nhosts = [URL]",
        "[tunnel]\ndeny_networks = [URL]",
        "[ca]\nnames = [URL]",
        "[tls]\nnames = [URL]",
        "[clients]\nallow = [URL]",
        "[cache.tags]\ngone = URL",
        "listen = [URL]",
    ] {
        for url in [
            "ftp://jane:hunter2@lab",
            "https://jane:hunter2@192.0.2.1/",
            "jane:hunter2@lab",
            "http://jane:\\u001bhunter2@lab",
        ] {
            let said = parse(&text.replace("URL", &format!("\"{url}\""))).unwrap_err().to_string();
            assert!(!said.contains("hunter2") && !said.contains("jane"), "{said}");
        }
    }
}

#[test]
fn a_variable_that_is_no_key_is_named_and_ignored() {
    let near = |meant: &str| format!("no key has this name, did you mean {meant}?");
    let none = || "no key has this name; a key's variable is SEAWALL_KEY or SEAWALL_SECTION__KEY".to_owned();
    let section = |keys: &str| format!("names a section, and is no TOML table; its keys: {keys}");
    for (name, said) in [
        ("SEAWALL_CACHE__MAX_SISE", near("SEAWALL_CACHE__MAX_SIZE")),
        ("SEAWALL_CACHE_MAX_SIZE", near("SEAWALL_CACHE__MAX_SIZE")),
        ("SEAWALL_CACHE_TAGS_TTL", near("SEAWALL_CACHE__TAGS__TTL")),
        ("SEAWALL_CACHE___MAX_SIZE", near("SEAWALL_CACHE__MAX_SIZE")),
        ("SEAWALL_CACHE.MAX_SIZE", near("SEAWALL_CACHE__MAX_SIZE")),
        ("SEAWALL_MAX_SIZE", near("SEAWALL_CACHE__MAX_SIZE")),
        ("SEAWALL_LEVEL", near("SEAWALL_LOG__LEVEL")),
        ("SEAWALL_LOGLEVEL", near("SEAWALL_LOG__LEVEL")),
        ("SEAWALL_USERS_FILE", near("SEAWALL_CLIENTS__USERS_FILE")),
        ("SEAWALL_HOSTS", near("SEAWALL_ADMIN__HOSTS or SEAWALL_TUNNEL__HOSTS or SEAWALL_UPSTREAM__HOSTS")),
        ("SEAWALL_ADMN", near("SEAWALL_ADMIN")),
        ("SEAWALL_CONFIGS", near("SEAWALL_CONFIG")),
        ("SEAWALL_DATA__X", near("SEAWALL_DATA")),
        ("SEAWALL_LISTEN__X", near("SEAWALL_LISTEN")),
        ("SEAWALL_REGISTRY__0__NAME", near("SEAWALL_REGISTRY")),
        ("SEAWALL_CACHE__TAGS__RULES__0", near("SEAWALL_CACHE__TAGS__RULES")),
        ("SEAWALL_UPSTREAM__HOSTS__", near("SEAWALL_UPSTREAM__HOSTS")),
        ("SEAWALL_BIN", none()),
        ("SEAWALL_BIN__DIR", none()),
        ("SEAWALL_", none()),
        ("SEAWALL___", none()),
        ("SEAWALL_LOG", section("SEAWALL_LOG__LEVEL, SEAWALL_LOG__FORMAT")),
        (
            "SEAWALL_CACHE__TAGS",
            section(
                "SEAWALL_CACHE__TAGS__TTL, SEAWALL_CACHE__TAGS__STALE, SEAWALL_CACHE__TAGS__GONE, \
                 SEAWALL_CACHE__TAGS__RULES",
            ),
        ),
    ] {
        let config = with_env("data = \"d\"", &[(name, "info")]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let strays: Vec<_> = config.strays.iter().map(ToString::to_string).collect();
        assert_eq!(strays, [format!("{name}: {said}")]);
        assert_eq!(config.data, std::path::Path::new("d"));
    }
    let inner = with_env("", &[("SEAWALL_REGISTRY", "[{ name = \"lab\", alaises = [] }]")]).unwrap_err().to_string();
    assert!(inner.contains("alaises: unknown key"), "{inner}");
}

/// What a variable for a section says is meant: its faults stop the start.
#[test]
fn a_variable_may_hold_a_section_as_a_table() {
    let both = [("SEAWALL_CACHE", "{ max_size = \"1GiB\", memory = \"1GiB\" }"), ("SEAWALL_CACHE__MEMORY", "2GiB")];
    let config = with_env("", &both).unwrap();
    assert_eq!((config.cache.max_size, config.cache.memory, config.strays.len()), (1 << 30, 2 << 30, 0));
    let named = with_env("", &[("SEAWALL_UPSTREAM__HOSTS__LAB", "10.0.0.1")]).unwrap();
    assert_eq!((named.upstream.hosts.len(), named.strays.len()), (1, 0));
    for (text, said) in [
        ("{ max_sise = 1 }", "SEAWALL_CACHE: cache.max_sise: unknown key, did you mean `max_size`?"),
        ("{ max_size = ", "SEAWALL_CACHE: cache: this is not a TOML value"),
    ] {
        let error = with_env("", &[("SEAWALL_CACHE", text)]).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, said) in [
        (
            "SEAWALL_CACHE__MAX_SIZE",
            "lots",
            "SEAWALL_CACHE__MAX_SIZE: cache.max_size: \"lots\" is not a size; valid: \"20GiB\", \"500MB\"",
        ),
        (
            "SEAWALL_CA__LEAF_DAYS",
            "x",
            "SEAWALL_CA__LEAF_DAYS: ca.leaf_days: wants a whole number from 1 to 397, not \"x\"",
        ),
        (
            "SEAWALL_CLIENTS__USERS_FILE",
            "/nowhere/users",
            "SEAWALL_CLIENTS__USERS_FILE: clients.users_file: cannot read /nowhere/users: \
             No such file or directory (os error 2)",
        ),
    ] {
        let error = with_env("data = \"d\"", &[(name, value)]).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn what_is_wrong_is_said_in_the_order_of_the_file() {
    let text = "[cache]\nmax_sise = 1\n[log]\nlevel = \"loud\"\n[cach]\n";
    let said = with_env(text, &[("SEAWALL_LISTEN", "here")]).unwrap_err().to_string();
    let places: Vec<_> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["seawall.toml:2:1", "seawall.toml:4:9", "seawall.toml:5:2", "SEAWALL_LISTEN"], "{said}");
}
