//! The operator's account, and what may be asked for.

use super::parse;
use crate::policy::registry::{Account, Registry};

fn registry(text: &str) -> Result<Registry, String> {
    let config = parse(&format!("[[registry]]\nname = \"docker.io\"\n{text}")).map_err(|error| error.to_string())?;
    Ok(config.registries.iter().next().unwrap().as_ref().clone())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    crate::fs::replace(file.path(), 0o600, text.as_bytes()).unwrap();
    file
}

#[test]
fn an_account_is_a_name_with_a_file_or_dockers_configuration() {
    let password = file("secret\n");
    let read = registry(&format!("username = \"ci\"\npassword_file = {:?}", password.path())).unwrap();
    assert_eq!(read.account, Some(Account::Password { username: "ci".into(), file: password.path().to_owned() }));
    let docker = file("{\"auths\": {}}");
    let read = registry(&format!("docker_config = {:?}", docker.path())).unwrap();
    assert_eq!(read.account, Some(Account::DockerConfig(docker.path().to_owned())));
    assert_eq!(registry("username = \"\"\npassword_file = \"\"\ndocker_config = \"\"").unwrap().account, None);
}

#[test]
fn half_an_account_is_none() {
    let (password, empty, broken) = (file("secret"), file("\n"), file("{\"auths\": secret}"));
    let (password, empty, broken) = (password.path(), empty.path(), broken.path());
    for (text, said) in [
        ("username = \"ci\"".to_owned(), "registry.username: there is no `password_file`"),
        (format!("password_file = {password:?}"), "registry.password_file: there is no `username` beside it"),
        (format!("username = \"a:b\"\npassword_file = {password:?}"), "registry.username: a name has no colon"),
        (format!("username = \"ci\"\npassword_file = {empty:?}"), "is empty"),
        ("username = \"ci\"\npassword_file = \"/no/such/file\"".to_owned(), "/no/such/file: No such file"),
        (format!("docker_config = {broken:?}"), "it is no docker config.json: line 1, column 11"),
        (format!("docker_config = {broken:?}\nusername = \"ci\""), "it is no docker config.json"),
        ("share = [\"acme/*\"]".to_owned(), "registry.share: there is no account to read them with"),
    ] {
        let error = registry(&text).unwrap_err();
        assert!(error.contains(said) && !error.contains("secret"), "{text}: {error}");
    }
}

/// A denial that matches nothing denies nothing.
#[test]
fn globs_that_never_match_are_told() {
    for (text, said) in [
        ("deny = [\"docker.io/acme/*\"]", "repositories are named within docker.io; valid: \"acme/*\""),
        ("deny = [\"alpine\"]", "it is \"library/alpine\" at docker.io"),
        ("allow = []", "nothing could be pulled"),
        ("allow = [\"Acme/*\"]", "matches no repository"),
        ("share = [\"acme/app:1\"]", "matches no repository"),
        ("deny = [\"\"]", "matches no repository"),
    ] {
        let error = registry(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    let read = registry("allow = [\"library/*\"]\ndeny = [\"library/evil\"]").unwrap();
    assert!(read.repositories.permits(&"library/alpine".parse().unwrap()));
    assert!(!read.repositories.permits(&"library/evil".parse().unwrap()));
}

#[test]
fn realms_of_a_built_in_are_kept() {
    let config = parse("[[registry]]\nname = \"registry.gitlab.com\"\nallow = [\"acme/*\"]").unwrap();
    assert_eq!(config.registries.iter().next().unwrap().realms, ["gitlab.com".parse().unwrap()]);
}
