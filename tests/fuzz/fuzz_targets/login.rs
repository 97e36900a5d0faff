//! docker's `config.json`, and what `docker-credential-*` programs answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seawall::oci::login::{DockerConfig, Entry, Login, parse_program_reply};

fuzz_target!(|bytes: &[u8]| {
    let hosts = ["registry-1.docker.io".to_owned(), "docker.io".to_owned(), "ghcr.io".to_owned()];
    if let Ok(config) = DockerConfig::parse(bytes) {
        match config.entry(&hosts) {
            Ok(Some(Entry::Login(login))) => check(&login),
            // It becomes the name of a program in PATH.
            Ok(Some(Entry::Program { name, .. })) => assert!(!name.is_empty() && !name.contains(['/', '\0', ' '])),
            Ok(None) => {}
            Err(error) => assert!(error.to_string().len() < 1000 + bytes.len()),
        }
    }
    if let Ok(login) = parse_program_reply(bytes) {
        check(&login);
    }
});

fn check(login: &Login) {
    assert_eq!(format!("{login:?}"), "Login");
    if let Some(basic) = login.basic() {
        assert!(basic.starts_with("Basic ") && basic.is_ascii());
    }
}
