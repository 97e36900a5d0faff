//! `seawall config init`: the file with every key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::docs::{Tree, none, prose};
use crate::docs_keys::Keys;

/// In a directory where nothing is configured.
fn seawall(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.current_dir(dir).env_remove("SEAWALL_CONFIG").args(words);
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    seawall(dir, words).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn printed() -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["config", "init", "-"]);
    assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    String::from_utf8(output.stdout).unwrap()
}

/// Its keys without the mark that makes comments of them.
fn uncommented(starter: &str) -> String {
    let is_key = |rest: &&str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    starter.lines().map(|line| line.strip_prefix('#').filter(is_key).unwrap_or(line).to_owned() + "\n").collect()
}

/// By their whole names, with their values.
fn keys(starter: &str) -> BTreeMap<String, toml::Value> {
    let mut keys = BTreeMap::new();
    let mut open = vec![(String::new(), toml::Value::Table(toml::from_str(&uncommented(starter)).unwrap()))];
    while let Some((path, value)) = open.pop() {
        match value {
            toml::Value::Table(table) if path.is_empty() || !table.is_empty() => {
                let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                open.extend(table.into_iter().map(|(key, value)| (name(&key), value)));
            }
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                open.extend(items.into_iter().map(|item| (path.clone(), item)));
            }
            value => drop(keys.insert(path, value)),
        }
    }
    keys
}

#[test]
fn every_key_stands_in_the_starter_and_nothing_else() {
    let written: BTreeSet<_> = keys(&printed()).into_keys().collect();
    assert_eq!(written, Keys::known().values);
}

/// Where the documentation has a value for a default, and not words.
#[test]
fn its_defaults_are_those_of_the_documentation() {
    let starter = keys(&printed());
    let page = &Tree::read().pages["docs/configuration.md"];
    let (mut section, mut compared, mut wrong) = (String::new(), 0, Vec::new());
    for (_, line) in prose(page) {
        if line.starts_with('#') {
            let named = line.split('`').nth(1).filter(|name| name.starts_with('['));
            section = named.map(|name| format!("{}.", name.trim_matches(['[', ']']))).unwrap_or_default();
        }
        // The registry's are those of the example.
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", key, default, ..] = cells[..] else { continue };
        let inner = |cell: &str| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned());
        let (Some(key), Some(default)) = (inner(key), inner(default)) else { continue };
        let Ok(read) = toml::from_str::<toml::Table>(&format!("x = {default}")) else { continue };
        let key = format!("{section}{key}");
        if key.starts_with("registry.") {
            continue;
        }
        let Some(ours) = starter.get(&key) else { continue };
        compared += 1;
        if *ours != read["x"] {
            wrong.push(format!("{key}: {ours} in the starter, {default} in the documentation"));
        }
    }
    none(&wrong);
    assert!(compared > 35, "{compared} were compared");
}

#[test]
fn it_changes_nothing_commented_out_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let starter = printed();
    let meaning = |text: &str| {
        std::fs::write(dir.path().join("seawall.toml"), text).unwrap();
        let output = run(dir.path(), &["config", "show", "--json"]);
        assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()), "{text}");
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let values = said["keys"].as_object().unwrap().iter();
        values.map(|(key, said)| (key.clone(), said["value"].clone())).collect::<BTreeMap<_, _>>()
    };
    let default = meaning("");
    assert_eq!(meaning(&starter), default);
    assert_eq!(meaning(&uncommented(&starter)), default);
}

#[test]
fn it_is_written_where_configuration_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (starter, dir) = (printed(), dir.path());
    let written = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let first = run(dir, &["config", "init"]);
    assert_eq!((first.status.code(), written("seawall.toml")), (Some(0), starter.clone()), "{first:?}");
    assert!(first.stdout.is_empty() && err(&first).contains("seawall check -c seawall.toml"), "{first:?}");
    for (words, name) in
        [(&["config", "init", "a.toml"][..], "a.toml"), (&["-c", "b.toml", "config", "init"], "b.toml")]
    {
        assert_eq!((run(dir, words).status.code(), written(name)), (Some(0), starter.clone()), "{words:?}");
    }
    let named = seawall(dir, &["config", "init"]).env("SEAWALL_CONFIG", "c.toml").output().unwrap();
    assert_eq!((named.status.code(), written("c.toml")), (Some(0), starter), "{named:?}");
    let both = run(dir, &["config", "init", "d.toml", "--config", "e.toml"]);
    assert_eq!(both.status.code(), Some(2), "{both:?}");
    assert!(!dir.join("d.toml").exists() && !dir.join("e.toml").exists());
}

#[test]
fn what_is_there_stays_and_what_cannot_be_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("seawall.toml"), "not TOML").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    std::fs::create_dir(dir.join("directory")).unwrap();
    for (file, said) in [
        ("seawall.toml", "seawall.toml is there already, and stays as it is"),
        ("link", "link is there already"),
        ("directory", "directory is there already"),
        ("no/where.toml", "cannot create no/where.toml: No such file or directory"),
        ("seawall.toml/x", "Not a directory"),
    ] {
        let output = run(dir, &["config", "init", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(err(&output).contains(said), "{file}: {}", err(&output));
    }
    assert_eq!(std::fs::read_to_string(dir.join("seawall.toml")).unwrap(), "not TOML");
    assert!(!dir.join("nowhere").exists());
}

/// A disk that takes the beginning of it: the next try is not refused because of that.
#[test]
fn a_starter_that_cannot_be_written_whole_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Files of a kilobyte at most; EFBIG in place of the signal.
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" config init";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_seawall")])
        .current_dir(dir.path())
        .env_remove("SEAWALL_CONFIG")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains("nothing was written") && err(&output).contains("File too large"), "{output:?}");
    assert!(!dir.path().join("seawall.toml").exists());
}

#[test]
fn a_closed_stdout_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    for words in [&["config", "init", "-"][..], &["config", "show"], &["config", "show", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = seawall(dir.path(), words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), err(&output)), (Some(1), "seawall: Broken pipe (os error 32)\n".to_owned()));
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = seawall(dir.path(), words).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(err(&output).contains("No space left on device"), "{output:?}");
    }
}
