//! What became of the files.

use std::path::PathBuf;

use serde::Serialize;
use similar::TextDiff;

use super::root::Present;

/// What was done, file by file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// In the order of the plan.
    pub changes: Vec<Change>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// On the client's machine.
    pub path: PathBuf,
    /// What was done.
    pub outcome: Outcome,
    /// Unified; empty where nothing changed.
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

    /// For a terminal: a line for each file, and under it what changes.
    pub fn text(&self) -> String {
        let line = |change: &Change| {
            let note = change.note.as_ref().map(|note| format!("          {note}\n")).unwrap_or_default();
            format!("{:<9} {}\n{note}{}", change.outcome.as_str(), change.path.display(), change.diff)
        };
        self.changes.iter().map(line).collect()
    }
}

/// Of a file that not everybody may read, only the lines that change are shown: the others may be secret.
pub(super) fn diff(path: &std::path::Path, old: Option<&Present>, new: Option<&[u8]>) -> String {
    let is_public = old.is_none_or(|old| old.stat.mode & 0o004 != 0);
    let side = |prefix: &str, is_there: bool| match is_there {
        true => format!("{prefix}{}", path.display()),
        false => "/dev/null".to_owned(),
    };
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let (before, after) = (text(old.map(|old| &*old.bytes)), text(new));
    let diff = TextDiff::from_lines(&before, &after);
    diff.unified_diff()
        .context_radius(if is_public { 3 } else { 0 })
        .header(&side("a", old.is_some()), &side("b", new.is_some()))
        .to_string()
}
