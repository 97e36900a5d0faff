//! Comments cite pages of `docs/` and their numbers, and those are there. Documents outside of this
//! repository are not cited.

use std::collections::{BTreeMap, BTreeSet};

use crate::docs::{Texts, Tree, anchors, none, number, prose, texts};

/// Pages whose numbers are cited, and the word by which that is done: `pitfall 22`.
const NUMBERED: &[(&str, &str)] =
    &[("pitfall", "docs/pitfalls.md"), ("invariant", "docs/invariants.md"), ("protocol", "docs/protocol.md")];

/// Documents that are not in this repository.
const OUTSIDE: &[&str] = &["DESIGN", "EVIDENCE", "GLOSSARY"];

/// Pages of other projects, which look like ours: the project's name stands before them.
const FOREIGN: &[(&str, &str)] =
    &[("containerd", "docs/hosts.md"), ("containerd", "docs/cri/registry.md"), ("buildkit", "docs/buildkitd.toml.md")];

/// `22`, `3, 23 and 24`, `3 to 5`: the numbers at the start of a text.
fn numbers(mut text: &str) -> Vec<&str> {
    let mut numbers = Vec::new();
    while let Some(found) = number(text) {
        numbers.push(found);
        let rest = &text[found.len()..];
        let more = [", and ", ", ", " and ", " or ", " to ", "-", "–"].iter().find_map(|join| rest.strip_prefix(join));
        match more {
            Some(more) => text = more,
            None => break,
        }
    }
    numbers
}

/// What a page numbers: its headings (`### 1.3 Headers`, `## Invariant 6`), its items (`22. Not …`,
/// `**22.** Not …`), its rows (`| 6 | …`), and items below a numbered heading (`0.12`).
fn numbered(text: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut section = String::new();
    for (_, line) in prose(text) {
        let line = line.trim_start();
        let bare = line.trim_start_matches(['#', '*', '|', '-', ' ', '§']);
        let is_heading = line.starts_with('#');
        let word = ["Invariant ", "Pitfall ", "Section "].iter().find_map(|word| bare.strip_prefix(word));
        let bare = word.filter(|_| is_heading).unwrap_or(bare);
        let found = number(bare).map(str::to_owned);
        if is_heading {
            section = found.clone().unwrap_or_default();
        }
        let Some(found) = found else { continue };
        let after = &bare[found.len()..];
        let is_item = after.starts_with(". ")
            || after.starts_with(".*")
            || (line.starts_with('|') && after.starts_with([' ', '*']));
        if is_heading || is_item {
            if !is_heading && !section.is_empty() {
                all.insert(format!("{section}.{found}"));
            }
            all.insert(found);
        }
    }
    all
}

/// What follows `word` in `line`, wherever it stands there as a word of its own, or a plural.
fn after_word<'a>(line: &'a str, word: &str) -> Vec<&'a str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices(word) {
        let after = &line[at + word.len()..];
        if !line[..at].ends_with(is_part)
            && !after.strip_prefix('s').unwrap_or(after).starts_with(char::is_alphanumeric)
        {
            found.push(after);
        }
    }
    found
}

/// What is wrong with the citations of one line. All of it is looked at, not comments alone:
/// messages of tests cite too.
fn wrong_in_line(line: &str, pages: &Texts, known: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let absent = |page: &str, cited: &[&str]| -> Vec<String> {
        let absent = |n: &&&str| known.get(page).is_some_and(|known| !known.contains(**n));
        cited.iter().filter(absent).map(|n| format!("{page} has no {n}")).collect()
    };
    let lower = line.to_lowercase();
    for (word, page) in NUMBERED {
        for after in after_word(&lower, word) {
            let after = after.strip_prefix('s').unwrap_or(after);
            let cited = after.strip_prefix([' ', '_']).map(numbers).unwrap_or_default();
            // "PROXY protocol 2" is no section.
            let cited: Vec<_> = cited.into_iter().filter(|n| *word != "protocol" || n.contains('.')).collect();
            wrong.extend(absent(page, &cited));
        }
        let file = page.trim_start_matches("docs/");
        for (at, _) in line.match_indices(file).filter(|(at, _)| !line[..*at].ends_with("docs/")) {
            wrong.push(format!("{}: pages are cited with docs/ before them", &line[at..at + file.len()]));
        }
    }
    for (at, _) in line.match_indices("docs/") {
        let path = &line[at..];
        let end = path.find(|c: char| !c.is_alphanumeric() && !"/._-".contains(c)).unwrap_or(path.len());
        let Some(end) = path[..end].rfind(".md").map(|end| end + ".md".len()) else { continue };
        let (page, after) = path.split_at(end);
        if FOREIGN.iter().any(|(project, foreign)| *foreign == page && lower.contains(project)) {
            continue;
        }
        let Some(text) = pages.get(page) else {
            wrong.push(format!("there is no {page}"));
            continue;
        };
        if let Some(rest) = after.strip_prefix('#') {
            let end = rest.find(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).unwrap_or(rest.len());
            if !anchors(text).contains(&rest[..end]) {
                wrong.push(format!("{page} has no heading #{}", &rest[..end]));
            }
        }
        let cited = after.strip_prefix(", ").or_else(|| after.strip_prefix(' ')).map(numbers).unwrap_or_default();
        wrong.extend(absent(page, &cited));
    }
    let outside = OUTSIDE.iter().filter(|word| !after_word(line, word).is_empty());
    wrong.extend(outside.map(|word| format!("{word} is a document outside of this repository")));
    wrong
}

/// Citations of pages, numbers and documents that are not there.
fn wrong_citations(sources: &Texts, pages: &Texts) -> Vec<String> {
    let known: BTreeMap<&str, _> =
        NUMBERED.iter().filter_map(|(_, page)| Some((*page, numbered(pages.get(*page)?)))).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources {
        for (n, line) in text.lines().enumerate() {
            let of_line = wrong_in_line(line, pages, &known);
            wrong.extend(of_line.into_iter().map(|what| format!("{path}:{}: {what}", n + 1)));
        }
    }
    wrong
}

#[test]
fn what_is_cited_is_there() {
    let tree = Tree::read();
    none(&wrong_citations(&tree.sources, &tree.pages));
}

#[test]
fn pages_cite_no_document_outside_of_the_repository() {
    let pages = Tree::read().pages;
    let outside = |text: &str| OUTSIDE.iter().any(|word| !after_word(text, word).is_empty());
    none(&pages.iter().filter(|(_, text)| outside(text)).map(|(page, _)| page.clone()).collect::<Vec<_>>());
}

#[test]
fn numbers_are_read_in_the_forms_that_pages_have() {
    let page = "# Of 3 things\n## 0. First\n 1. a\n12. b\n### 1.3 Heads (7.)\n## Invariant 6: c\n**7.** d\n| 8 | e |\n9 lives\n";
    let found = numbered(page);
    for number in ["0", "1", "0.1", "0.12", "1.3", "6", "7", "8"] {
        assert!(found.contains(number), "{number}: {found:?}");
    }
    assert!(!found.contains("9") && !found.contains("3"), "{found:?}");
    assert_eq!(numbers("3, 23 and 24."), ["3", "23", "24"]);
    assert_eq!(numbers("1.3: heads, 5"), ["1.3"]);
}

#[test]
fn a_wrong_citation_is_found() {
    let pages = texts(&[
        ("docs/pitfalls.md", "## Bytes\n1. a\n2. b\n"),
        ("docs/invariants.md", "**4.** a\n"),
        ("docs/protocol.md", "### 1.3 Heads\n"),
    ]);
    let wrong = |line: &str| wrong_citations(&texts(&[("src/a.rs", line)]), &pages).len();
    for right in [
        "// pitfalls 1 and 2, invariant 4, protocol 1.3: PROXY protocol 2, HTTP/1.1",
        "/// docs/pitfalls.md 2; docs/pitfalls.md#bytes; docs/protocol.md 1.3.",
        "//! containerd (docs/hosts.md, docs/cri/registry.md), https://x.example/docs/y/",
        "fn invariant_4_holds() {} // DESIGNED",
    ] {
        assert_eq!(wrong(right), 0, "{right}");
    }
    for fault in [
        "// pitfall 3",
        "// Pitfalls 1, 3",
        "// invariants 4 to 5",
        "fn invariant_5_holds() {}",
        "// protocol 1.4",
        "// docs/none.md",
        "// docs/hosts.md",
        "// docs/pitfalls.md 7",
        "// docs/pitfalls.md#none",
        "// pitfalls.md, somewhere",
        "// protocol.md 1.3",
        "// DESIGN section 6",
    ] {
        assert_eq!(wrong(fault), 1, "{fault}");
    }
}
