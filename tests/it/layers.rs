//! The order of the source: layers, and the house rules that no lint knows (DESIGN section 6).

use std::path::{Path, PathBuf};

/// A module may use those of the lines before its own, and itself. Modules of one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["http", "oci"],
    &["error", "policy"],
    &["clock", "fs", "ledger", "lru", "metrics", "task", "tls"],
    &["ca", "records"],
    &["dial", "store"],
    &["upstream"],
    &["access"],
    &["cache", "images", "setup"],
    &["admin", "gateway"],
    &["server"],
    &["config"],
    &["daemon"],
    &["cli"],
];

/// Moved already, and not cut yet.
const STILL_UP: &[(&str, &str)] = &[("gateway", "server")];

/// Lines of one file.
const LONGEST: usize = 450;

struct Source {
    path: PathBuf,
    module: String,
    /// Without tests and comments.
    code: String,
}

/// Every file of Rust below a directory of this package, and its text. What was built (`target`) is not ours.
fn files(below: &str) -> Vec<(PathBuf, String)> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |(path, text): (PathBuf, String)| {
        let inside = path.strip_prefix(&root).unwrap().to_owned();
        let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let is_test = inside.iter().any(|part| part == "tests" || part == "tests.rs");
        Source {
            module: first.trim_end_matches(".rs").to_owned(),
            code: if is_test { String::new() } else { code(&text) },
            path: inside,
        }
    };
    let sources: Vec<Source> = files("src").into_iter().map(source).collect();
    assert!(sources.len() > 50, "the source is somewhere else");
    sources
}

/// Unit tests end a file; a comment is a line of its own.
fn code(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    lines.filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// `crate::name` and the names of `crate::{name::…, name}`.
fn used(code: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(word(rest));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    names.push(word(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn what_is_used_is_read_in_all_its_forms() {
    let code = "use crate::fs;\nuse crate::{task::{Tasks, blocking}, http::origin,\n  ca};\nlet a = crate::oci::x();";
    assert_eq!(used(code), ["fs", "task", "http", "ca", "oci"]);
}

#[test]
fn a_module_uses_only_layers_below_its_own() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !matches!(source.module.as_str(), "lib" | "main")) {
        let here = layer(&source.module)
            .unwrap_or_else(|| panic!("{:?} is in no layer: DESIGN section 6 and LAYERS", source.module));
        for name in used(&source.code).into_iter().filter(|name| *name != source.module) {
            match layer(&name) {
                Some(there) if there < here => {}
                Some(_) if STILL_UP.contains(&(&source.module, &name)) => {}
                Some(_) => wrong.push(format!("{} uses crate::{name}", source.path.display())),
                None => wrong.push(format!("{} uses crate::{name}, which is in no layer", source.path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lib_rs_lists_the_modules_in_layer_order() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.module == "lib").unwrap();
    let modules = lib.code.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let layers: Vec<_> = modules.map(|name| layer(name).unwrap_or_else(|| panic!("{name} is in no layer"))).collect();
    assert!(layers.is_sorted(), "{layers:?}");
    let all: usize = LAYERS.iter().map(|layer| layer.len()).sum();
    assert_eq!(layers.len(), all, "LAYERS names a module that is not there");
}

#[test]
fn no_file_is_too_long() {
    let all: Vec<_> = ["src", "tests", "benches"].into_iter().flat_map(files).collect();
    for ours in ["src/lib.rs", "tests/it/layers.rs", "benches/peers/main.rs"] {
        assert!(all.iter().any(|(path, _)| path.ends_with(ours)), "{ours} was not looked at");
    }
    let lines = all.iter().map(|(path, text)| (path.display(), text.lines().count()));
    let long: Vec<_> = lines.filter(|(_, n)| *n > LONGEST).map(|(path, n)| format!("{path}: {n} lines")).collect();
    assert!(long.is_empty(), "split: {long:#?}");
}

/// What only one file may do, and what none may.
#[test]
fn files_threads_and_lints_have_one_place() {
    // (what, the files that may, why)
    const BANS: &[(&str, &[&str], &str)] = &[
        ("std::fs::", &["fs.rs", "fs"], "crate::fs: the path is in every error"),
        ("tokio::fs", &["fs.rs"], "crate::fs: the path is in every error"),
        ("tokio::spawn", &["task.rs"], "crate::task: the drain waits for what is spawned there"),
        ("spawn_blocking", &["task.rs", "fs.rs"], "crate::task::blocking"),
        ("thread::spawn", &[], "crate::task::blocking"),
        ("SystemTime::now", &["clock.rs"], "crate::clock: a test moves it"),
        ("#[allow", &[], "#[expect(…, reason = …)]"),
        ("#![allow", &[], "#[expect(…, reason = …)]"),
        (".unwrap()", &[], "expect states an invariant, everything else is `?`"),
        ("dbg!(", &[], "tracing"),
        ("println!(", &["cli", "main.rs"], "tracing; results of commands go to stdout in cli"),
        ("process::exit", &["cli"], "return"),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        // A file that is open is a type like any other; opening one is not.
        let code = source.code.replace("std::fs::File;", "").replace("std::fs::File>", "");
        for (what, places, instead) in BANS {
            let may = places.iter().any(|place| source.path.starts_with(place));
            if !may && code.contains(what) {
                wrong.push(format!("{}: {what} — {instead}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
