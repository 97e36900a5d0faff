//! What became of the files.

use std::path::{Path, PathBuf};

use diffy::{DiffOptions, Line};
use serde::Serialize;
use serde_json::Value;

use super::super::Content;
use super::record::SetUp;
use crate::fs::Present;

/// Where files are that commands take from there.
const STAGED: &str = "/etc/seawall/setup";

/// What was done, file by file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order of the plan.
    pub changes: Vec<Change>,
    /// How this client was set up until now.
    pub before: Option<SetUp>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// On the client's machine.
    pub path: PathBuf,
    /// What was done.
    pub outcome: Outcome,
    /// Unified, or the keys alone where the text may be secret; empty where nothing changed.
    pub diff: String,
    /// What is to be known besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there.
    Made,
    /// It says something else now.
    Changed,
    /// It says that already.
    Unchanged,
    /// It is as it was before, byte by byte.
    Restored,
    /// It was not there before.
    Removed,
    /// Somebody else has changed what is ours: it is as they left it, all or in part.
    Left,
}

impl Outcome {
    /// As a person reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Made => "made",
            Outcome::Changed => "changed",
            Outcome::Unchanged => "unchanged",
            Outcome::Restored => "restored",
            Outcome::Removed => "removed",
            Outcome::Left => "left",
        }
    }
}

impl Report {
    /// What could not be taken back.
    pub fn left(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.outcome == Outcome::Left)
    }

    /// Whether a command needs a file that is gone, or the directory of ours that it was in.
    pub fn names_what_is_gone(&self, command: &str) -> bool {
        let gone = self.changes.iter().filter(|change| change.outcome == Outcome::Removed).map(|change| &*change.path);
        let is_ours = |dir: &&Path| dir.starts_with(STAGED) && *dir != Path::new(STAGED);
        let names = |path: &Path| command.contains(&*path.to_string_lossy());
        gone.into_iter().any(|path| names(path) || path.ancestors().filter(is_ours).any(names))
    }

    /// For a terminal: a line for each file, and under it what changes.
    pub fn text(&self) -> String {
        let line = |change: &Change| {
            let note = change.note.as_ref().map(|note| format!("          {note}\n")).unwrap_or_default();
            format!("{:<9} {}\n{note}{}", change.outcome.as_str(), change.path.display(), without_pem(&change.diff))
        };
        self.changes.iter().map(line).collect()
    }
}

/// A certificate's text says nothing to a person: of each its first line is shown, and its last. In
/// YAML it is indented.
fn without_pem(diff: &str) -> String {
    let mut shown = String::new();
    let mut hidden = None;
    for line in diff.split_inclusive('\n') {
        let (mark, text) = line.split_at_checked(1).unwrap_or((line, ""));
        let (indent, text) = text.split_at(text.len() - text.trim_start().len());
        // A hunk may end before the certificate does.
        if let Some(lines) = hidden.filter(|_| mark == "@" || text.starts_with("-----END")) {
            let mark = if mark == "@" { " " } else { mark };
            shown.push_str(&format!("{mark}{indent}({lines} lines)\n"));
            hidden = None;
        } else if let Some(lines) = &mut hidden {
            *lines += 1;
            continue;
        }
        if text.starts_with("-----BEGIN CERTIFICATE-----") {
            hidden = Some(0);
        }
        shown.push_str(line);
    }
    if let Some(lines) = hidden.filter(|lines| *lines > 0) {
        shown.push_str(&format!(" ({lines} lines)\n"));
    }
    shown
}

/// Of a file that not everybody may read no text is shown, since it may be secret: of a document
/// its keys, of others how many lines.
pub(super) fn diff(path: &Path, old: Option<&Present>, new: Option<&[u8]>, content: Option<&Content>) -> String {
    if old.is_some_and(|old| old.mode & 0o004 == 0) {
        return private(old.map(|old| &*old.bytes), new, content);
    }
    let (before, after) = (text(old.map(|old| &*old.bytes)), text(new));
    let named = |prefix: &str| format!("{prefix}{}", path.display());
    let nothing = || "/dev/null".to_owned();
    let (from, to) = (old.map_or_else(nothing, |_| named("a")), new.map_or_else(nothing, |_| named("b")));
    if before == after {
        return String::new();
    }
    DiffOptions::new().set_original_filename(from).set_modified_filename(to).create_patch(&before, &after).to_string()
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn private(old: Option<&[u8]>, new: Option<&[u8]>, content: Option<&Content>) -> String {
    let read = |bytes: Option<&[u8]>| content.and_then(|content| content.read(bytes.unwrap_or_default()));
    if let (Some(old), Some(new)) = (read(old), read(new)) {
        let mut keys = String::new();
        changed_keys("", &old, &new, &mut keys);
        return keys;
    }
    let (old, new) = (text(old), text(new));
    let diff = diffy::create_patch(&old, &new);
    let lines = || diff.hunks().iter().flat_map(|hunk| hunk.lines());
    let more = lines().filter(|line| matches!(line, Line::Insert(_))).count();
    match (more, lines().filter(|line| matches!(line, Line::Delete(_))).count()) {
        (0, 0) => String::new(),
        (more, fewer) => format!("+{more} -{fewer} lines, not shown: others may not read this file\n"),
    }
}

/// A line for each key that comes, goes or changes.
fn changed_keys(above: &str, old: &Value, new: &Value, lines: &mut String) {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return };
    let mut names: Vec<&String> = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect();
    names.sort();
    for name in names {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => changed_keys(&key, old, new, lines),
            (Some(_), Some(_)) => lines.push_str(&format!("~{key}\n")),
            (Some(_), None) => lines.push_str(&format!("-{key}\n")),
            (None, _) => lines.push_str(&format!("+{key}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_certificate_two_lines_are_shown() {
        let pem = |mark: &str, indent: &str| {
            let lines = ["-----BEGIN CERTIFICATE-----", "MIIB", "MIIC", "-----END CERTIFICATE-----"];
            lines.map(|line| format!("{mark}{indent}{line}\n")).concat()
        };
        let hidden = |mark: &str, indent: &str| {
            let lines = ["-----BEGIN CERTIFICATE-----", "(2 lines)", "-----END CERTIFICATE-----"];
            lines.map(|line| format!("{mark}{indent}{line}\n")).concat()
        };
        for (mark, indent) in [("+", ""), ("-", ""), (" ", "    "), ("+", "  "), ("-", "\t")] {
            let diff = |pem: String| format!("@@ -1 +1 @@\n+a:\n{pem}+b:\n");
            assert_eq!(without_pem(&diff(pem(mark, indent))), diff(hidden(mark, indent)), "{mark:?} {indent:?}");
        }
        let begins = " -----BEGIN CERTIFICATE-----\n MIIB\n";
        let after = "@@ -9 +9 @@\n+b\n";
        let shown = " -----BEGIN CERTIFICATE-----\n (1 lines)\n";
        assert_eq!(without_pem(&format!("{begins}{after}")), format!("{shown}{after}"), "cut by the end of a hunk");
        assert_eq!(without_pem(begins), shown);
    }
}
