//! The parent proxy and client certificates, as an operator writes them.

use super::{parse, with_env};
use crate::dial::parent::Protocol;

#[test]
fn a_parent_proxy_and_whom_it_is_not_asked_for() {
    let config = parse(super::ALL).unwrap();
    let parent = config.upstream.proxy.clone().unwrap();
    assert_eq!((parent.protocol, parent.to_string().as_str()), (Protocol::Http, "proxy.corp:8080"));
    let credentials = parent.credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("jane", "hunter2"));
    let direct = |host: &str, port| parent.no_proxy.matches(&host.parse().unwrap(), port);
    assert!(direct("registry.corp", 443) && direct("a.lab", 5000) && direct("10.1.1.1", 1) && !direct("ghcr.io", 443));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(parse("[upstream]\nno_proxy = [\"lab\"]").unwrap().upstream.proxy.is_none());
    let env = [("SEAWALL_UPSTREAM__PROXY", "socks5h://10.0.0.1"), ("SEAWALL_UPSTREAM__NO_PROXY", "a.corp, *.b.corp")];
    let parent = with_env("", &env).unwrap().upstream.proxy.unwrap();
    assert_eq!((parent.protocol, parent.port, parent.no_proxy.0.len()), (Protocol::Socks5h, 1080, 2));
}

#[test]
fn the_password_may_be_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    crate::fs::create_new(&path, 0o600, b"hunter2\n").unwrap();
    let toml = |proxy: &str| format!("[upstream]\nproxy = \"{proxy}\"\nproxy_password_file = {path:?}");
    let config = parse(&toml("https://jane@proxy.corp")).unwrap();
    let credentials = config.upstream.proxy.unwrap().credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("jane", "hunter2"));
    let two = dir.path().join("two");
    crate::fs::create_new(&two, 0o600, b"hunter2\nhunter3\n").unwrap();
    let error = parse(&toml("http://jane@proxy.corp").replace("password\"", "two\"")).unwrap_err().to_string();
    assert!(error.ends_with("two must be the password alone, in one line") && !error.contains("hunter"), "{error}");
    for (proxy, said) in [
        ("", "seawall.toml:3:23: upstream.proxy_password_file: there is no upstream.proxy to give it to"),
        (
            "http://proxy.corp",
            "seawall.toml:3:23: upstream.proxy_password_file: upstream.proxy must say whose it is; \
             valid: proxy = \"http://user@proxy.corp:8080\"",
        ),
        (
            "http://jane:other@proxy.corp",
            "seawall.toml:3:23: upstream.proxy_password_file: upstream.proxy has a password already: \
             leave one of them out",
        ),
    ] {
        assert_eq!(parse(&toml(proxy)).unwrap_err().to_string(), said);
    }
}

#[test]
fn a_wrong_parent_proxy_is_said_and_its_password_is_not() {
    let valid =
        "valid: \"http://proxy.corp:8080\", \"http://user:password@proxy.corp:8080\", \"socks5h://10.0.0.1:1080\"";
    let long = "hunter2".repeat(20);
    for (proxy, said) in [
        ("jane:hunter2@proxy.corp:8080", format!("a proxy is a URL; {valid}")),
        ("ftp://jane:hunter2@proxy", format!("a proxy is http, https, socks5 or socks5h; {valid}")),
        (
            "http://jane:hunter2/x@proxy",
            format!("a proxy's URL has no path (a / in a password is written %2F, a ? is %3F, a # is %23); {valid}"),
        ),
        ("http://jane:hunter2@", format!("its host, or its port, cannot be read; {valid}")),
        ("http://ja%3Ane:hunter2@proxy", "a user's name has no colon (RFC 7617)".to_owned()),
        (&format!("socks5://jane:{long}@proxy"), "user and password of SOCKS have 128 bytes at most here".to_owned()),
        ("http://127.0.0.1:3128", "127.0.0.1:3128 is seawall itself: a parent proxy is another".to_owned()),
        ("http://localhost:3129", "localhost:3129 is seawall itself: a parent proxy is another".to_owned()),
        ("http://[::ffff:127.0.0.1]:3128", "127.0.0.1:3128 is seawall itself: a parent proxy is another".to_owned()),
    ] {
        let error = parse(&format!("[upstream]\nproxy = \"{proxy}\"")).unwrap_err().to_string();
        assert_eq!(error, format!("seawall.toml:2:9: upstream.proxy: {said}"));
        assert!(!error.contains("hunter2"));
    }
    // Nor where it is of another type, or in a variable.
    for text in
        ["[upstream]\nproxy = [\"http://jane:hunter2@a\"]", "[upstream]\nproxy = { url = \"http://jane:hunter2@a\" }"]
    {
        assert!(!parse(text).unwrap_err().to_string().contains("hunter2"));
    }
    let env = with_env("", &[("SEAWALL_UPSTREAM__PROXY", "http//jane:hunter2@proxy")]).unwrap_err().to_string();
    assert!(env.starts_with("SEAWALL_UPSTREAM__PROXY: upstream.proxy: a proxy is a URL;") && !env.contains("hunter2"));
    assert_eq!(
        parse("[upstream]\nno_proxy = [\"ok\", \"http://lab\"]").unwrap_err().to_string(),
        "seawall.toml:2:19: upstream.no_proxy: \"http://lab\" is no host, suffix, address or network; \
         valid: \"registry.corp\", \".corp\", \"10.0.0.0/8\", \"lab:5000\", \"*\""
    );
}

#[test]
fn a_wrong_name_server_is_said() {
    let valid = "valid: \"192.0.2.53\", \"[2001:db8::1]:5353\", \"tcp://192.0.2.53\", \"tls://dns.corp.example@192.0.2.53\", \
                 \"https://dns.corp.example@192.0.2.53/dns-query\"";
    for (server, said) in [
        (
            "dns.corp",
            "\"dns.corp\" is a name, and the resolver that is overridden cannot be asked where it is: write its address",
        ),
        (
            "https://dns.google/dns-query",
            "\"dns.google\" is a name, and the resolver that is overridden cannot be asked where it is: \
             write https://dns.google@192.0.2.53/dns-query",
        ),
        ("quic://1.1.1.1", "\"quic\" is not a way to ask a name server (udp, tcp, tls, https)"),
        ("192.0.2.53:0", "\"192.0.2.53:0\" is not an IP address, with or without a port"),
    ] {
        let error = parse(&format!("[upstream]\nnameservers = [\"1.1.1.1\", \"{server}\"]")).unwrap_err().to_string();
        assert_eq!(error, format!("seawall.toml:2:27: upstream.nameservers: {said}; {valid}"));
    }
    let env = [("SEAWALL_UPSTREAM__NAMESERVERS", "tls://dns.corp@192.0.2.53, https://1.1.1.1/dns-query")];
    assert_eq!(with_env("", &env).unwrap().upstream.nameservers.len(), 2);
}

#[test]
fn a_client_certificate_is_held_against_its_key_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        crate::fs::create_new(&path, 0o600, text.as_bytes()).unwrap();
        path.display().to_string()
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["seawall.corp".to_owned()]).unwrap();
    let certificate = file("c.pem", &params.self_signed(&key).unwrap().pem());
    let (good, other) =
        (file("k.pem", &key.serialize_pem()), file("o.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem()));
    let encrypted = file("e.pem", &key.serialize_pem().replace("PRIVATE", "ENCRYPTED PRIVATE"));
    let both = file("both.pem", &format!("{}{}", params.self_signed(&key).unwrap().pem(), key.serialize_pem()));
    let read = |certificate: &str, key: &str| {
        let text = format!(
            "[[registry]]\nname = \"lab\"\nclient_certificate_file = {certificate:?}\nclient_key_file = {key:?}"
        );
        parse(&text).map(|config| {
            assert!(!format!("{config:?}").contains("PRIVATE"));
            config.registries.iter().next().unwrap().client_certificate.is_some()
        })
    };
    assert!(read(&certificate, &good).unwrap() && read(&both, "").unwrap() && !read("", "").unwrap());
    for (certificate, key, said) in [
        (
            &*certificate,
            &*other,
            "client_certificate_file: it cannot be used: the private key is not the certificate's",
        ),
        (&certificate, "", "client_certificate_file: it cannot be used: there is no private key (-----BEGIN"),
        (&certificate, &encrypted, "client_certificate_file: it cannot be used: its private key is encrypted"),
        (&good, &good, "client_certificate_file: it cannot be used: there is no certificate (-----BEGIN"),
        ("", &good, "client_key_file: there is no client_certificate_file that it is for"),
        (&certificate, "/nowhere", "client_key_file: cannot read /nowhere"),
    ] {
        let error = read(certificate, key).unwrap_err().to_string();
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    }
}
