//! The file of `seawall config init`, and the table that it is made from.

use super::*;
use crate::config::keys::{Form, PARTS};

/// Without the mark before each key and each `[[…]]`.
fn uncommented() -> String {
    let starts_key = |rest: &str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    let line = |line: &'static str| line.strip_prefix('#').filter(|rest| starts_key(rest)).unwrap_or(line);
    let text: &'static str = starter().leak();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// All that it says, in words that can be compared.
fn meaning(text: &str) -> String {
    let config = parse(text).unwrap();
    let mut registries: Vec<_> = config.registries.iter().map(|registry| (**registry).clone()).collect();
    for registry in &mut registries {
        // `allow = ["*"]` is the same as none; the rewrite is an example.
        registry.repositories.allow.clear();
        registry.chain.rewrite.clear();
    }
    let config = Config { registries: Registries::new(registries), ..config };
    format!("{config:#?}")
}

#[test]
fn the_starter_changes_nothing() {
    assert_eq!(meaning(&starter()), meaning(""));
}

/// Each default in it is the default of the code, and those of docker.io are what is built in.
#[test]
fn the_starter_changes_nothing_without_its_comment_marks() {
    assert!(uncommented().contains("\nmax_size = \"20GiB\"\n"));
    assert_eq!(meaning(&uncommented()), meaning(""));
    let registry = parse(&uncommented()).unwrap().registries.iter().next().unwrap().clone();
    assert_eq!((registry.repositories.allow.len(), registry.chain.rewrite.len()), (1, 1));
}

#[test]
fn each_key_can_be_uncommented_alone() {
    let default = meaning("");
    for part in PARTS.iter().filter(|part| part.form == Form::Section) {
        let header = format!("\n{}\n", part.header());
        for key in part.keys {
            let line = format!("{} = {}\n", key.name, key.default);
            let text = match part.path {
                "" => line + &starter(),
                _ => starter().replacen(&header, &format!("{header}{line}"), 1),
            };
            assert!(text.len() > starter().len(), "{header} is not there");
            assert_eq!(meaning(&text), default, "{} {}", part.path, key.name);
        }
    }
}

#[test]
fn lines_are_for_a_terminal() {
    for line in starter().lines().filter(|line| line.starts_with("# ")) {
        assert!(line.chars().count() <= 130 && !line.ends_with(' '), "{line}");
    }
}

#[test]
fn each_part_stands_below_one_that_is_there_and_once() {
    for part in PARTS.iter().filter(|part| !part.path.is_empty()) {
        assert_eq!(PARTS.iter().filter(|other| other.path == part.path).count(), 1, "{}", part.path);
        assert!(PARTS.iter().any(|other| other.path == part.parent().0), "{}", part.path);
    }
}
