//! The walks of `docs/architecture.md`: each step names files and functions that are there.

use crate::docs::{Texts, Tree, none, prose, texts};

/// Steps are items of a numbered list; what comes before the first of a step's colons names files
/// and functions in turn.
fn steps(page: &str) -> Vec<(usize, String, Vec<String>)> {
    let mut steps = Vec::new();
    let mut file = None;
    for (n, line) in prose(page) {
        let is_step = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
        if !is_step {
            continue;
        }
        let mut functions: Vec<(String, Vec<String>)> = Vec::new();
        for span in line.split('`').skip(1).step_by(2) {
            if span.ends_with(".rs") {
                file = Some(span.to_owned());
                functions.push((span.to_owned(), Vec::new()));
            } else if let (Some((_, names)), Some(_)) = (functions.last_mut(), &file)
                && span.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && names.is_empty()
            {
                names.push(span.to_owned());
            }
        }
        steps.extend(functions.into_iter().map(|(file, names)| (n, file, names)));
    }
    steps
}

/// Files that are not there, and functions that are not in them.
fn missing(page: &str, sources: &Texts) -> Vec<String> {
    let mut missing = Vec::new();
    for (n, file, names) in steps(page) {
        let Some(code) = sources.get(&format!("src/{file}")) else {
            missing.push(format!("{n}: src/{file} is not there"));
            continue;
        };
        let is_there = |name: &String| ["(", "<"].iter().any(|open| code.contains(&format!("fn {name}{open}")));
        missing.extend(names.iter().filter(|name| !is_there(name)).map(|name| format!("{n}: {file} has no fn {name}")));
    }
    missing
}

/// Identifiers of the glossary (in backticks, before the second bar) that no code has.
fn unknown_words(page: &str, sources: &Texts) -> Vec<String> {
    let glossary = page.split("\n## ").find(|section| section.starts_with("Glossary")).unwrap_or_default();
    let rows = glossary.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let words = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let code = || sources.iter().filter(|(path, _)| path.starts_with("src/")).map(|(_, text)| text);
    let is_there = |word: &str| code().any(|text| text.split(|c| !is_part(c)).any(|known| known == word));
    words.filter(|word| !is_there(word)).map(str::to_owned).collect()
}

#[test]
fn the_glossary_has_the_words_of_the_code() {
    let tree = Tree::read();
    let page = &tree.pages["CONTRIBUTING.md"];
    assert!(page.contains("| `RepositoryKey` |"), "the glossary is written otherwise now");
    none(&unknown_words(page, &tree.sources));
    let page = "x\n## Glossary\n| `One` (`two`), three | `four` |\n## Next\n| `five` | |\n";
    assert_eq!(unknown_words(page, &texts(&[("src/a.rs", "fn one(); struct One;")])), ["two"]);
}

#[test]
fn every_step_of_a_walk_is_there() {
    let tree = Tree::read();
    let page = &tree.pages["docs/architecture.md"];
    assert!(steps(page).len() > 40, "the walks are written otherwise now");
    none(&missing(page, &tree.sources));
}

#[test]
fn a_step_that_leads_nowhere_is_found() {
    let page = "1. `a/b.rs` `one`: text, `c.rs` `two`, `Type`.\n2. `no.rs` `x`: text\nNo step: `d.rs` `y`\n";
    let sources = texts(&[("src/a/b.rs", "fn one() {}"), ("src/c.rs", "fn twos() {}")]);
    assert_eq!(missing(page, &sources), ["1: c.rs has no fn two", "2: src/no.rs is not there"]);
}
