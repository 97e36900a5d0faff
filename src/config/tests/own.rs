//! `[tls]`: seawall's own names.

use super::parse;
use crate::ca::{Permitted, Preferred};
use crate::http::origin::Host;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    crate::fs::replace(file.path(), 0o600, text.as_bytes()).unwrap();
    file
}

/// A certificate and its key, PEM.
fn made(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn its_names_are_what_the_root_may_sign_for() {
    let config = parse("[tls]\nnames = [\"Seawall.Corp.Example\", \"10.1.2.3\", \"[fd00::1]\"]").unwrap();
    let own: Vec<String> = config.tls.names.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["seawall.corp.example", "10.1.2.3", "[fd00::1]"]);
    assert!(config.proxy.own_names.contains(&"seawall.corp.example".parse::<Host>().unwrap()));
    for permitted in [Permitted::Dns("seawall.corp.example".into()), Permitted::Ip("10.1.2.3".parse().unwrap())] {
        assert!(config.ca.permitted.contains(&permitted), "{permitted}");
    }
    let none = parse("").unwrap();
    assert_eq!(none.tls.preferred, Preferred::H2);
    assert_eq!(parse("[tls]\nprefer = \"http/1.1\"").unwrap().tls.preferred, Preferred::H1);
    assert!(parse("[tls]\nprefer = \"h3\"").unwrap_err().to_string().contains("is not one of \"h2\", \"http/1.1\""));
    assert!(none.tls.names.is_empty() && none.tls.certificate.is_none());
}

#[test]
fn a_certificate_of_the_operators_is_read_and_not_shown() {
    let (chain, key) = made("seawall.corp.example");
    let (chain_file, key_file, both) = (file(&chain), file(&key), file(&format!("{chain}{key}")));
    for text in [
        format!("certificate_file = {:?}\nkey_file = {:?}", chain_file.path(), key_file.path()),
        format!("certificate_file = {:?}", both.path()),
    ] {
        let config = parse(&format!("[tls]\nnames = [\"seawall.corp.example\"]\n{text}")).unwrap();
        assert!(config.tls.certificate.is_some());
        assert!(
            !config.ca.permitted.contains(&Permitted::Dns("seawall.corp.example".into())),
            "the root signs nothing"
        );
        let printed = format!("{config:?}");
        assert!(!printed.contains("PRIVATE") && printed.contains("ServerCertificate"), "{printed}");
    }
}

#[test]
fn what_is_wrong_with_it_is_said() {
    let (chain, key) = made("seawall.corp.example");
    let (chain, key, other) = (file(&chain), file(&key), file(&made("seawall.corp.example").1));
    let (chain, key, other) = (chain.path(), key.path(), other.path());
    for (names, text, said) in [
        ("", format!("certificate_file = {chain:?}\nkey_file = {key:?}"), "tls.certificate_file: there are no `names`"),
        (
            "\"a.example\"",
            format!("certificate_file = {chain:?}\nkey_file = {key:?}"),
            "tls.certificate_file: it is not good for a.example",
        ),
        (
            "\"seawall.corp.example\"",
            format!("certificate_file = {chain:?}\nkey_file = {other:?}"),
            "tls.key_file: the private key is not that of",
        ),
        (
            "\"seawall.corp.example\"",
            format!("certificate_file = {chain:?}"),
            "tls.certificate_file: it holds no private key",
        ),
        ("\"seawall.corp.example\"", format!("key_file = {key:?}"), "tls.key_file: there is no certificate_file"),
        ("\"seawall.corp.example\"", "certificate_file = \"/no/such\"".to_owned(), "/no/such: No such file"),
    ] {
        let error = parse(&format!("[tls]\nnames = [{names}]\n{text}")).unwrap_err().to_string();
        assert!(error.contains(said) && !error.contains("BEGIN PRIVATE KEY-----\n"), "{text}: {error}");
    }
}

/// A lab's machine has both: the port tells which is meant.
#[test]
fn a_registry_of_that_name_at_another_port_is_another() {
    let lab = "[tls]\nnames = [\"lab.corp\"]\n[[registry]]\nname = \"lab\"\nhosts = [\"lab.corp:5000\"]";
    parse(lab).unwrap();
    let error = parse(&lab.replace(":5000", "")).unwrap_err().to_string();
    assert!(error.contains("lab.corp is a host of the registry \"lab\", too"), "{error}");
    let token = "[tls]\nnames = [\"auth.docker.io\"]";
    assert!(parse(token).unwrap_err().to_string().contains("docker.io"));
}
