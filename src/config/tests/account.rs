//! The operator's account, and what may be asked for.

use super::parse;
use crate::policy::registry::{Account, Missing, Registry, Source, Tags};

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

#[test]
fn sources_are_asked_around_the_registry_itself() {
    let read = registry(
        "upstreams = [{ url = \"https://mirror.gcr.io\", tags = true }, { url = \"https://registry-1.docker.io\" }, \
         { url = \"https://gitlab.com\", prefix = \"acme-org/dependency_proxy/containers/\", missing = \"final\" }]",
    );
    let read = read.unwrap();
    assert_eq!(read.upstream.unwrap().to_string(), "https://registry-1.docker.io");
    let chain = read.chain;
    let said = |sources: &[Source]| format!("{sources:?}");
    assert_eq!(chain.before.len(), 1);
    assert!(said(&chain.before).contains("mirror.gcr.io") && chain.before[0].tags == Tags::Believed);
    assert!(said(&chain.after).contains("gitlab.com") && chain.after[0].missing == Missing::Final);
    assert_eq!(chain.after[0].prefix.as_ref().unwrap().as_str(), "acme-org/dependency_proxy/containers");
    // None of them is the registry: it is where the operator says.
    let read = registry("upstreams = [{ url = \"https://harbor.corp\", prefix = \"hub\" }]").unwrap();
    assert_eq!(read.upstream.unwrap().to_string(), "https://harbor.corp");
    assert_eq!(read.chain.prefix.unwrap().as_str(), "hub");
}

/// A client's credential goes to the registry itself: it is never taken for one of its mirrors.
#[test]
fn the_registry_itself_is_known_however_it_is_spoken_to() {
    for (hosts, upstream) in [
        ("lab", "http://lab"),
        ("lab", "https://lab"),
        ("http://lab", "http://lab"),
        ("http://lab", "https://lab"),
        ("http://lab:80", "http://lab"),
        ("lab:5000", "http://lab:5000"),
    ] {
        let text = format!(
            "[[registry]]\nname = \"lab\"\nhosts = [{hosts:?}]\nupstreams = [{{ url = \"http://mirror\" }}, {{ url = {upstream:?} }}]"
        );
        let config = parse(&text).unwrap();
        let lab = config.registries.iter().next().unwrap();
        assert_eq!(lab.upstream.as_ref().unwrap().to_string(), upstream, "{hosts}");
        assert_eq!(lab.chain.before.len(), 1, "{hosts}");
    }
}

#[test]
fn other_names_upstream() {
    let read = registry("rewrite = [{ from = \"^bitnami/(.*)$\", to = \"bitnamilegacy/$1\" }]").unwrap();
    assert_eq!(read.chain.renamed(&"bitnami/nginx".parse().unwrap()).as_str(), "bitnamilegacy/nginx");
    // Of a part of the name nothing is made.
    let read = registry("rewrite = [{ from = \"bitnami\", to = \"evil\" }]").unwrap();
    assert_eq!(read.chain.renamed(&"bitnami/nginx".parse().unwrap()).as_str(), "bitnami/nginx");
}
