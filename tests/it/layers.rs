//! The order of the source (`docs/architecture.md`): layers of modules, no circles of files inside
//! one, and the house rules that no lint knows.

mod circles;
mod code;
mod paths;

use std::path::{Path, PathBuf};

use circles::{Module, Tree, circles};
use code::code;

/// A module may use those of the lines before its own, and itself. Modules of one line do not know
/// each other.
const LAYERS: &[&[&str]] = &[
    &["http", "oci"],
    &["error"],
    &["policy"],
    &["clock", "fs", "ledger", "lru", "metrics", "task", "tls"],
    &["ca", "lane", "records"],
    &["dial", "store"],
    &["upstream"],
    &["access"],
    &["cache", "images", "setup"],
    &["operate"],
    &["admin", "gateway"],
    &["server"],
    &["config"],
    &["daemon"],
    &["cli"],
];

/// Lines of one file.
const LONGEST: usize = 450;

struct Source {
    path: PathBuf,
    module: Module,
    /// Without comments and tests.
    code: String,
}

impl Source {
    /// The module in `LAYERS`.
    fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }
}

/// Every file of Rust below a directory of this package, and its text. What was built (`target`) is
/// not ours.
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

/// The files of the crate; of test code there is none.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut test_modules = Vec::new();
    let mut source = |(path, text): (PathBuf, String)| {
        let path = path.strip_prefix(&root).unwrap().to_owned();
        let mut module: Module = path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let code = code(&text);
        test_modules.extend(code.test_modules.into_iter().map(|name| [&module[..], &[name]].concat()));
        Source { path, module, code: code.text }
    };
    let mut sources: Vec<Source> = files("src").into_iter().map(&mut source).collect();
    sources.retain(|source| !test_modules.iter().any(|tests| source.module.starts_with(tests)));
    assert!(sources.len() > 50, "the source is somewhere else");
    sources
}

/// What of them is in a layer.
fn tree(sources: &[Source]) -> Tree {
    let sources = sources.iter().filter(|source| source.top() != "main");
    Tree::new(sources.map(|source| (source.module.clone(), source.code.as_str())))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn a_module_uses_only_layers_below_its_own() {
    let mut wrong = Vec::new();
    let sources = sources();
    let tree = tree(&sources);
    for source in sources.iter().filter(|source| !matches!(source.top(), "lib" | "main")) {
        let (module, path) = (source.top(), source.path.display());
        let here =
            layer(module).unwrap_or_else(|| panic!("{module:?} is in no layer: docs/architecture.md and LAYERS"));
        for used in tree.paths_of(&source.module) {
            let name = used.first().map_or("lib", String::as_str);
            match layer(name) {
                _ if name == module => {}
                Some(there) if there < here => {}
                Some(_) => wrong.push(format!("{path} uses crate::{name}")),
                None => wrong.push(format!("{path} uses crate::{name}, which is in no layer")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_files_of_a_module_use_each_other_in_no_circle() {
    let sources = sources();
    let circles = circles(&tree(&sources).edges());
    assert!(circles.is_empty(), "move what both need into a file below: {circles:#?}");
}

#[test]
fn lib_rs_lists_the_modules_in_layer_order() {
    let sources = sources();
    let lib = sources.iter().find(|source| source.module.is_empty()).unwrap();
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
