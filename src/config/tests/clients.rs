//! `[clients]`, as far as it is more than one value of a table.

use super::parse;

/// Of the word "abc", from the tests of jBCrypt.
const HASH: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

fn with_users(text: &str) -> Result<crate::config::Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    crate::fs::create_new(&path, 0o600, text.as_bytes()).unwrap();
    let parsed = parse(&format!("[clients]\nusers_file = {path:?}"));
    parsed.map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
}

#[test]
fn users_are_read_and_not_shown() {
    let config = with_users(&format!("# CI\nrunner:{HASH}\n")).unwrap();
    let users = config.proxy.users.as_ref().unwrap();
    let shown = crate::policy::users::Credential::parse(b"Basic cnVubmVyOmFiYw==").unwrap();
    assert!(users.check(&shown).is_some());
    let printed = format!("{config:?}");
    assert!(printed.contains("Users(1)") && !printed.contains("runner") && !printed.contains("If6bvum7"), "{printed}");
}

#[test]
fn a_wrong_line_is_named_with_its_file() {
    for (line, said) in [
        (
            "bob:$apr1$salt$secret",
            "an MD5 hash, but only bcrypt is accepted: set the password again with `htpasswd -B FILE USER`",
        ),
        (
            "bob:{SHA}secret",
            "a SHA-1 hash, but only bcrypt is accepted: set the password again with `htpasswd -B FILE USER`",
        ),
        ("bob", "not USER:HASH; `htpasswd -B FILE USER` writes such lines"),
    ] {
        let error = with_users(&format!("alice:{HASH}\n{line}\n")).unwrap_err();
        assert_eq!(error, format!("seawall.toml:2:14: clients.users_file: DIR/users:2: {said}"));
    }
}

/// One client does not take all the connections, however few there are.
#[test]
fn the_limit_per_client_is_less_than_the_limit() {
    let limits = |text: &str| {
        let proxy = parse(&format!("[clients]\n{text}")).unwrap().proxy;
        (proxy.max_connections, proxy.max_per_client)
    };
    for (text, read) in [
        ("", (10_000, 1_000)),
        ("max_connections = 1", (1, 1)),
        ("max_connections = 500", (500, 250)),
        ("max_connections = 1000000", (1_000_000, 1_000)),
        ("max_per_client = 1000000", (10_000, 1_000_000)),
    ] {
        assert_eq!(limits(text), read, "{text}");
    }
}
