//! The pages: all are there, no link is dead, each test that a page names exists. What the code
//! cites is in `docs_cited`, the keys of the configuration are in `docs_keys`.
//!
//! Each check is a function from texts to what is wrong with them, so that a planted fault can show
//! that it fails. What is on disk is read in one place ([`Tree::read`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The pages of `docs/`. A new one is named here, and in README.
const PAGES: &[&str] = &[
    "architecture",
    "clients",
    "configuration",
    "install",
    "invariants",
    "operating",
    "performance",
    "pitfalls",
    "protocol",
    "security",
];

/// Pages elsewhere, besides those below `deploy/`.
const OTHER_PAGES: &[&str] = &["CHANGELOG.md", "CONTRIBUTING.md", "README.md", "ca/README.md"];

/// Texts by their path in the repository.
pub(crate) type Texts = BTreeMap<String, String>;

pub(crate) struct Tree {
    pub(crate) pages: Texts,
    /// Code, scripts and settings. Not these checks: they plant faults.
    pub(crate) sources: Texts,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Tree {
    pub(crate) fn read() -> Tree {
        let mut tree = Tree { pages: Texts::new(), sources: Texts::new() };
        let named = PAGES.iter().map(|page| format!("docs/{page}.md"));
        for path in named.chain(OTHER_PAGES.iter().map(|path| (*path).to_owned())) {
            // One that is missing is a fault of its own.
            if let Ok(text) = std::fs::read_to_string(root().join(&path)) {
                tree.pages.insert(path, text);
            }
        }
        for dir in ["benches", "deploy", "src", "tests"] {
            tree.walk(dir);
        }
        assert!(tree.sources.len() > 100, "the source is somewhere else");
        tree
    }

    fn walk(&mut self, dir: &str) {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                // What was built, and what fuzzers found.
                if !["target", "corpus", "artifacts"].iter().any(|name| path.ends_with(name)) {
                    self.walk(&path);
                }
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                let kind = if path.ends_with(".md") { &mut self.pages } else { &mut self.sources };
                if !path.starts_with("tests/it/docs") {
                    kind.insert(path, text);
                }
            }
        }
    }
}

/// A page's lines that are no fenced code, with their numbers from 1.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(n, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((n + 1, line))
    })
}

/// A text with its code spans emptied: what looks like a link in one is none.
fn without_code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('`') {
        let ticks = rest[at..].len() - rest[at..].trim_start_matches('`').len();
        let (before, fence) = (&rest[..at], &rest[at..at + ticks]);
        out.push_str(before);
        let after = &rest[at + ticks..];
        // A span does not go beyond its paragraph.
        let end = after.find(fence).filter(|end| !after[..*end].contains("\n\n"));
        rest = end.map_or(after, |end| &after[end + ticks..]);
    }
    out + rest
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<String> {
    let text = without_code(&prose(text).map(|(_, line)| format!("{line}\n")).collect::<String>());
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let inline = inline.filter_map(|(target, _)| target.split_whitespace().next());
    let defined = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    let defined = defined.filter_map(|(_, target)| target.split_whitespace().next());
    inline.chain(defined).map(|target| target.trim_matches(['<', '>']).to_owned()).collect()
}

/// The anchors of a page, as GitHub makes them of its headings, and those that are written out.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        for mark in ["<a id=\"", "<a name=\""] {
            anchors.extend(line.split(mark).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        // Of a link, its words.
        let words: String = title
            .split("](")
            .enumerate()
            .map(|(n, part)| if n == 0 { part } else { part.split_once(')').map_or(part, |(_, after)| after) })
            .collect();
        let kept = |c: char| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        };
        let slug: String = words.trim().to_lowercase().chars().filter_map(kept).collect();
        let mut names = (0..).map(|n| if n == 0 { slug.clone() } else { format!("{slug}-{n}") });
        let free = names.find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// Where a relative link of `page` leads. `None`: out of the repository.
fn resolved(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Links within the repository that lead nowhere.
fn dead_links(pages: &Texts, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    for (page, text) in pages {
        for link in links(text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if target.is_empty() { Some(page.clone()) } else { resolved(page, target) };
            match path.filter(|path| !target.starts_with('/') && (pages.contains_key(path) || exists(path))) {
                None => dead.push(format!("{page}: {link}: there is no such file")),
                Some(path) => {
                    let known = pages.get(&path).is_none_or(|text| anchors(text).contains(anchor));
                    if !anchor.is_empty() && !known {
                        dead.push(format!("{page}: {link}: there is no such heading"));
                    }
                }
            }
        }
    }
    dead
}

/// `12`, `1.3` at the start of a text, without a point that ends a sentence.
pub(crate) fn number(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].trim_end_matches('.');
    (!number.is_empty() && number.starts_with(|c: char| c.is_ascii_digit())).then_some(number)
}

/// What a page names after `Tests: `, up to the end of the paragraph, in code spans.
fn named_tests(text: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut within = false;
    for (n, line) in prose(text) {
        let (start, bare) = (line.find("Tests: "), line.trim_start());
        let ends = bare.is_empty() || bare.starts_with(['#', '-', '*', '|']) || number(bare).is_some();
        within = start.is_some() || (within && !ends);
        if within {
            let spans = line[start.unwrap_or(0)..].split('`').skip(1).step_by(2);
            named.extend(spans.map(|span| (n, span.to_owned())));
        }
    }
    named
}

/// Names of tests that are those of no function, and of files that are not there.
fn unknown_tests(pages: &Texts, functions: &BTreeSet<String>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut unknown = Vec::new();
    for page in ["docs/invariants.md", "docs/pitfalls.md"] {
        for (n, name) in pages.get(page).map(|text| named_tests(text)).unwrap_or_default() {
            let function = name.rsplit("::").next().unwrap_or_default().trim_end_matches("()");
            let is_there = functions.contains(function) || (name.contains('/') && exists(&name));
            if !is_there {
                unknown.push(format!("{page}:{n}: {name}: there is no such test"));
            }
        }
    }
    unknown
}

/// The names after `fn`.
fn functions(sources: &Texts) -> BTreeSet<String> {
    let code = sources.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(_, text)| text);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |rest: &str| {
        let end = rest.find(|c| !is_part(c))?;
        rest[end..].starts_with(['(', '<']).then(|| rest[..end].to_owned())
    };
    code.flat_map(|text| text.split("fn ").skip(1).filter_map(name)).collect()
}

fn exists(path: &str) -> bool {
    root().join(path).exists()
}

pub(crate) fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_is_there_and_readme_leads_to_it() {
    let tree = Tree::read();
    let readme = links(&tree.pages["README.md"]);
    let all = PAGES.iter().map(|page| format!("docs/{page}.md"));
    let lost = |page: &String| !tree.pages.contains_key(page) || !readme.contains(page);
    none(&all.filter(lost).collect::<Vec<_>>());
    let extra = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let extra = extra.map(|name| name.to_string_lossy().into_owned());
    let unnamed = |name: &String| name.strip_suffix(".md").is_some_and(|name| !PAGES.contains(&name));
    none(&extra.filter(unnamed).collect::<Vec<_>>());
}

#[test]
fn no_link_is_dead() {
    none(&dead_links(&Tree::read().pages, exists));
}

#[test]
fn tests_that_a_page_names_are_written() {
    let tree = Tree::read();
    none(&unknown_tests(&tree.pages, &functions(&tree.sources), exists));
}

pub(crate) fn texts(all: &[(&str, &str)]) -> Texts {
    all.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_dead_link_is_found() {
    let page = "# A `b` [c](d.md), e\n# A\n# A\n[ok](#a-b-c-e) [ok](#a-1) [ok](../src/lib.rs) `[no](link)`\n\
                ```\n[no](link)\n```\n[two\nlines](x.md#a) ![no](x.svg) [out](../../x) [web](https://x/y)\n[d]: y.md#b\n";
    let pages = texts(&[("docs/a.md", page), ("docs/y.md", "## B\n"), ("docs/d.md", "")]);
    let dead = dead_links(&pages, |path| path == "src/lib.rs");
    let expected = ["x.md#a", "x.svg", "../../x"].map(|link| format!("docs/a.md: {link}: there is no such file"));
    assert_eq!(dead, expected);
    let pages = texts(&[("README.md", "[a](#no) [b](docs/y.md#no) [c](docs/y.md#b)"), ("docs/y.md", "## B\n")]);
    let expected = ["#no", "docs/y.md#no"].map(|link| format!("README.md: {link}: there is no such heading"));
    assert_eq!(dead_links(&pages, |_| false), expected);
}

#[test]
fn a_test_that_nobody_wrote_is_found() {
    let page = "1. A fault. Tests: `one`, `flight::two`,\n   `three()`, `tests/e2e/run`.\n2. `other`\n";
    let pages = texts(&[("docs/pitfalls.md", page)]);
    let code = texts(&[("src/a.rs", "fn one() {}\nasync fn two<T>(t: T) {}\n"), ("src/b.sh", "fn three() {}")]);
    let unknown = unknown_tests(&pages, &functions(&code), |path| path == "tests/e2e/run");
    assert_eq!(unknown, ["docs/pitfalls.md:2: three(): there is no such test"]);
}
