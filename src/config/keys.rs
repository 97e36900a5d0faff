//! Every key, with its default and a line that says what it does: what `seawall config init`
//! writes, and what `seawall config show` shows where nothing was written.
//!
//! The sections read what was written, and have their defaults where they read it. Tests hold that
//! both know the same keys, and that each default means the same here as there.

/// The keys that stand together.
pub(super) struct Part {
    /// `cache.tags`; of the top level `""`.
    pub(super) path: &'static str,
    pub(super) form: Form,
    pub(super) says: &'static str,
    pub(super) keys: &'static [Key],
}

/// How a part is headed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `[cache]`, once.
    Section,
    /// `[[registry]]`, as often as wanted. Its keys have examples in place of defaults, so that is
    /// what holds where none is written, in TOML.
    Tables(&'static str),
}

/// A key.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// In TOML.
    pub(super) default: &'static str,
    /// What it does, and its unit.
    pub(super) says: &'static str,
}

impl Part {
    /// The part that this one stands in, and its name there.
    pub(super) fn parent(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// As TOML heads it; of the top level nothing.
    pub(super) fn header(&self) -> String {
        match (self.path, self.form) {
            ("", _) => String::new(),
            (path, Form::Section) => format!("[{path}]"),
            (path, Form::Tables(_)) => format!("[[{path}]]"),
        }
    }
}

const fn key(name: &'static str, default: &'static str, says: &'static str) -> Key {
    Key { name, default, says }
}

const fn section(path: &'static str, says: &'static str, keys: &'static [Key]) -> Part {
    Part { path, form: Form::Section, says, keys }
}

const fn tables(path: &'static str, none: &'static str, says: &'static str, keys: &'static [Key]) -> Part {
    Part { path, form: Form::Tables(none), says, keys }
}

const NONE: &str = r#""""#;

/// All of them, in the order of the documentation.
pub(super) const PARTS: &[Part] = &[
    section(
        "",
        "",
        &[
            key(
                "listen",
                r#"["127.0.0.1:3128"]"#,
                "where clients connect, addresses with ports; add \"0.0.0.0:443\" for DNS override",
            ),
            key("data", r#""seawall-data""#, "the directory of blobs, index and CA"),
            key(
                "drain_timeout",
                r#""30s""#,
                "how long running requests may take after SIGTERM; \"0s\": none is waited for",
            ),
            key(
                "client_timeout",
                r#""10s""#,
                "how long a client may take for its first bytes, its TLS handshake, its request head: each",
            ),
        ],
    ),
    section(
        "admin",
        "Health, metrics and API, on a listener that clients must not reach.",
        &[
            key("listen", r#""127.0.0.1:3129""#, "its address with port; \"\" turns it off"),
            key("hosts", "[]", "names that it may be called by, besides addresses and localhost"),
            key(
                "token_file",
                NONE,
                "the token that changes need, made there at the first start; \"\": admin.token in the data directory",
            ),
        ],
    ),
    section(
        "log",
        "",
        &[
            key("level", r#""info""#, "\"error\", \"warn\", \"info\" or \"debug\"; the variable RUST_LOG wins"),
            key("format", r#""text""#, "\"text\", or \"json\": an object a line"),
        ],
    ),
    section(
        "clients",
        "Who may use the data port.",
        &[
            key(
                "allow",
                r#"["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"]"#,
                "networks or addresses that may connect",
            ),
            key("users_file", NONE, "htpasswd file, bcrypt only; set: clients must log in to the proxy and the mirror"),
            key(
                "proxy_protocol_from",
                "[]",
                "networks of balancers whose PROXY header (v1, v2) is required and believed",
            ),
            key("max_connections", "10000", "connections of all clients at once; more wait"),
            key(
                "max_per_client",
                "1000",
                "connections of one client at once; at most half of max_connections, if nothing is said",
            ),
        ],
    ),
    section(
        "tls",
        "TLS to clients, and to seawall itself: mirrors by https://, HTTPS_PROXY=https://…",
        &[
            key("names", "[]", "host names and addresses that clients call seawall by; the root must cover them"),
            key(
                "prefer",
                r#""h2""#,
                "the protocol for clients that offer both; \"http/1.1\" costs less CPU for each byte",
            ),
            key("certificate_file", NONE, "PEM chain of your own for these names, instead of a leaf of seawall's root"),
            key("key_file", NONE, "its PEM key, if it is not in the same file"),
        ],
    ),
    section(
        "ca",
        "The certificate authority that clients have to trust.",
        &[
            key("dir", NONE, "the directory of ca.crt and ca.key; \"\": ca below data"),
            key("names", "[]", "more DNS suffixes or addresses that the root may sign for, besides the registries'"),
            key(
                "constrained",
                "true",
                "whether the root can sign for nothing else: a stolen key cannot forge other sites",
            ),
            key("leaf_days", "30", "how many days a certificate for a registry is valid, 1 to 397"),
        ],
    ),
    section(
        "tunnel",
        "Hosts that are no registry.",
        &[
            key("hosts", r#"["*"]"#, "globs of hosts that are tunnelled to; [] refuses all"),
            key("ports", "[443]", "the ports of these hosts"),
            key(
                "deny_networks",
                r#"["loopback", "link-local", "metadata"]"#,
                "addresses that are never dialled for a client, registries included; \"private\" can be added",
            ),
        ],
    ),
    section(
        "upstream",
        "How registries are reached.",
        &[
            key("ca_file", NONE, "PEM of roots that are trusted for registries, besides the system's"),
            key("connect_timeout", r#""10s""#, "how long a connection may take to be there"),
            key("idle_timeout", r#""60s""#, "how long no byte may come; there is no limit for a whole transfer"),
            key("upload_timeout", r#""forever""#, "how long the answer to an upload that is all sent is waited for"),
            key(
                "resolve_deadline",
                r#""2s""#,
                "how long a registry may take to say what a tag names, while a copy is here",
            ),
            key("segments", "4", "connections that may bring one cold blob at once, 1 to 16"),
            key(
                "nameservers",
                "[]",
                "name servers in place of the system's: \"192.0.2.53\", \"tls://dns.corp.example@192.0.2.53\"",
            ),
            key(
                "proxy",
                NONE,
                "a parent proxy for all of upstream: \"http://user@proxy.corp:8080\", https://, socks5://, socks5h://",
            ),
            key("proxy_password_file", NONE, "the file with the password of the user in proxy"),
            key("no_proxy", "[]", "hosts that are dialled without it: \"corp.example\", \"10.0.0.0/8\", \"lab:5000\""),
            key("hosts", "{}", "fixed addresses, trusted as given: { \"registry-1.docker.io\" = \"192.0.2.1\" }"),
        ],
    ),
    section(
        "cache",
        "",
        &[
            key("max_size", r#""20GiB""#, "bytes of blobs on disk; the least recently used go first"),
            key("min_free", r#""1GiB""#, "bytes of the file system that are left to others"),
            key("memory", r#""64MiB""#, "bytes of manifests kept in memory"),
            key("public_ttl", r#""15m""#, "how long a grant to anonymous is valid"),
            key("grant_ttl", r#""5m""#, "how long a grant to a credential is valid"),
            key(
                "offline_grants",
                r#""0s""#,
                "how long a login may read what it was granted while upstream cannot be asked; at most 90d",
            ),
            key("verify_every", r#""7d""#, "everything on disk is hashed again once in this time; \"0s\": never"),
        ],
    ),
    section(
        "cache.tags",
        "",
        &[
            key("ttl", r#""1m""#, "a tag that was asked for less than this ago is not asked for again"),
            key("stale", r#""forever""#, "how long a tag may be served after upstream stopped answering"),
            key(
                "gone",
                r#""serve""#,
                "upstream says 404 for a tag that is here: \"serve\" it with a warning, or \"forget\" it",
            ),
        ],
    ),
    tables(
        "cache.tags.rules",
        r#"[{ match = "*:latest", ttl = "30s" }]"#,
        "A ttl for some tags; the first match wins. Your own replace this one.",
        &[
            key("match", r#""*:latest""#, "a glob over REGISTRY/REPOSITORY:TAG: \"ghcr.io/acme/*:v*\""),
            key("ttl", r#""30s""#, "the ttl of these tags; \"forever\""),
        ],
    ),
    tables(
        "registry",
        "[]",
        "Adds a registry, or changes the built-in one of that name: what is left out keeps its value. The example changes nothing.",
        &[
            key("name", r#""docker.io""#, "in paths of mirrors, metrics and logs; required"),
            key("aliases", r#"["dockerhub"]"#, "other names in paths of mirrors"),
            key(
                "hosts",
                r#"["registry-1.docker.io", "index.docker.io", "docker.io", "registry.hub.docker.com"]"#,
                "hosts that clients know it by; \"http://lab:5000\": in the clear",
            ),
            key(
                "auth_hosts",
                r#"["auth.docker.io"]"#,
                "hosts of its token service, if they are others; never a web site",
            ),
            key("ca_file", NONE, "PEM of roots that are trusted for this registry alone"),
            key("client_certificate_file", NONE, "PEM chain that is shown to this registry, if it asks"),
            key("client_key_file", NONE, "its PEM key, not encrypted, if it is not in the same file"),
            key("username", NONE, "your account there: it pays for what is public"),
            key("password_file", NONE, "the file with its password"),
            key("docker_config", NONE, "or: a config.json or auth.json with auths, credHelpers, credsStore"),
            key("segments", "0", "connections that may bring one cold blob at once, 1 to 16; 0: upstream.segments"),
            key("reserve", "0", "pulls of the quota that are kept for what is asked for by digest"),
            key("share", "[]", "globs of repositories that every client may read with the account: \"acme/*\""),
            key("realms", "[]", "hosts that the account may be sent to for a token, besides hosts and auth_hosts"),
            key(
                "redirects",
                "[]",
                "other origins of its content that are private, or in the clear: \"http://minio.corp:9000\"",
            ),
            key("allow", r#"["*"]"#, "globs of repositories that may be used at all"),
            key("deny", "[]", "globs of repositories that may not; wins over allow"),
        ],
    ),
    tables(
        "registry.rewrite",
        "[]",
        "Other names upstream; the client keeps asking for the old one. An example:",
        &[
            key("from", r#""^bitnami/(.*)$""#, "a regular expression of the whole name"),
            key("to", r#""bitnamilegacy/$1""#, "the name upstream; $1 is the first group"),
        ],
    ),
    tables(
        "registry.upstreams",
        "[]",
        "Where its content is fetched, in this order; bytes are verified whoever sends them.",
        &[
            key("url", r#""https://registry-1.docker.io""#, "without a path; required"),
            key("prefix", NONE, "the start of repositories' names there"),
            key("tags", "false", "whether its tags and grants are believed, if it is not the registry itself"),
            key(
                "missing",
                r#""final""#,
                "what a 404 there means: \"final\", or \"next\": the next source is asked, as after a mirror's",
            ),
            key("username", NONE, "an account at this source"),
            key("password_file", NONE, "the file with its password"),
            key("docker_config", NONE, "or: a config.json or auth.json"),
        ],
    ),
];

/// The parts that a key stands in, or a part of that name, as they are headed.
pub(super) fn homes(name: &str) -> Vec<String> {
    let has = |part: &&Part| {
        let is_below = |other: &Part| !other.path.is_empty() && other.parent() == (part.path, name);
        part.keys.iter().any(|key| key.name == name) || PARTS.iter().any(is_below)
    };
    let headed = |part: &Part| match part.path {
        "" => "the top level, before the first [section]".to_owned(),
        _ => part.header(),
    };
    PARTS.iter().filter(has).map(headed).collect()
}
