//! Writes the files of a plan below a root directory, and takes them back.
//!
//! 1. Every file is read, and what it becomes is worked out: from what it was before any client was set up, what other clients want
//!    of it, and what this one wants. If one cannot be read, nothing is written.
//! 2. The `record` is written: what was there, what is about to be. From here on a crash loses nothing: a file is as it was or as
//!    it becomes, and the record knows both.
//! 3. Each file is replaced whole.
//! 4. The record is written without what has become of no use.

mod content;
mod document;
mod merge;
mod record;
mod report;
mod root;
mod view;

use std::path::{Path, PathBuf};

pub use report::{Change, Outcome, Report};

use content::Bytes;
use record::{Entry, Record};
use root::{Present, Root};
use view::View;

use super::{Client, Content, Mode, Plan};
use crate::fs::FsError;

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file could not be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Somebody has to look at it first.
    #[error("{path}: {why}; nothing was written: mend it or move it away, then do this again")]
    Unfit {
        /// On the client's machine.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What is to be written has a blank in it.
    #[error("{0} needs seawall's IP address: give --address IP:PORT; nothing was written")]
    Address(Client),
    /// There is no record of it.
    #[error("{client} was not set up by `seawall setup {client} --write` below {root}: there is nothing to undo")]
    NotSetUp {
        /// Who.
        client: Client,
        /// Where.
        root: PathBuf,
    },
}

impl WriteError {
    fn unfit(path: &Path, why: impl Into<String>) -> WriteError {
        WriteError::Unfit { path: path.to_owned(), why: why.into() }
    }
}

/// One file, worked out.
struct Step {
    path: PathBuf,
    current: Option<Present>,
    next: Bytes,
    entry: Entry,
    /// What the record says until all is written.
    meanwhile: Entry,
    change: Change,
}

/// Writes what `plan` says for `client` into the files below `root`, and takes out of others what an earlier plan for it put there.
///
/// # Errors
/// A file that cannot be merged with: then nothing is written. A file that cannot be written: `write` and `undo` work from there.
pub fn write(root: &Path, client: Client, mode: Mode, plan: &Plan) -> Result<Report, WriteError> {
    if plan.lacks_address() {
        return Err(WriteError::Address(client));
    }
    let root = Root(root);
    let mut record = load(root)?;
    let steps = steps(root, &record, client, Some(plan))?;
    if let Some(objection) = client.objection(plan, &View { root, steps: &steps }) {
        return Err(WriteError::unfit(&objection.path, objection.why));
    }
    record.clients.insert(client.as_str().to_owned(), mode);
    carry_out(root, record, steps, None)
}

/// Takes back what was written for `client`. What somebody else has changed since stays: [`Report::left`].
///
/// # Errors
/// There is no record of it; a file cannot be read or written.
pub fn undo(root: &Path, client: Client) -> Result<Report, WriteError> {
    let below = Root(root);
    let record = load(below)?;
    if record.mode(client).is_none() {
        return Err(WriteError::NotSetUp { client, root: root.to_owned() });
    }
    let steps = steps(below, &record, client, None)?;
    carry_out(below, record, steps, Some(client))
}

/// The way in which `client` is set up below `root`, if it is.
///
/// # Errors
/// The record cannot be read.
pub fn mode(root: &Path, client: Client) -> Result<Option<Mode>, WriteError> {
    Ok(load(Root(root))?.mode(client))
}

fn load(root: Root<'_>) -> Result<Record, WriteError> {
    let path = Path::new(record::PATH);
    match root.read(path)? {
        None => Ok(Record::default()),
        Some(present) => serde_json::from_slice(&present.bytes)
            .map_err(|error| WriteError::unfit(path, format!("it is not a record of seawall ({error})"))),
    }
}

fn steps(root: Root<'_>, record: &Record, client: Client, plan: Option<&Plan>) -> Result<Vec<Step>, WriteError> {
    let files = plan.map_or(&[][..], |plan| &plan.files);
    let wanted = files.iter().map(|file| (&file.path, Some(&file.content)));
    let has_claim = |entry: &Entry| entry.claims.iter().any(|claim| claim.client == client.as_str());
    let earlier =
        record.files.iter().filter(|(path, entry)| has_claim(entry) && !files.iter().any(|file| file.path == **path));
    let earlier = earlier.map(|(path, _)| (path, None));
    let step = |(path, content): (&PathBuf, Option<&Content>)| {
        let current = root.read(path)?;
        step(path, current, record.files.get(path), client, content).map_err(|why| WriteError::unfit(path, why.0))
    };
    wanted.chain(earlier).map(step).collect()
}

/// What becomes of one file, of which `client` wants `content` from now on.
fn step(
    path: &Path,
    current: Option<Present>,
    known: Option<&Entry>,
    client: Client,
    content: Option<&Content>,
) -> Result<Step, content::Unfit> {
    let now = current.as_ref().map(|present| &*present.bytes);
    let mut left = Vec::new();
    let mut entry = match known {
        None => Entry::of(now.map(<[u8]>::to_vec)),
        Some(known) if known.is_overwritten(now) => {
            left.push(String::new());
            known.clone()
        }
        Some(known) => {
            let base = known.base(now)?;
            left = base.left;
            let mut entry = Entry::of(base.bytes);
            entry.claims.clone_from(&known.claims);
            entry
        }
    };
    entry.claim(client, content);
    let is_overwritten = known.is_some_and(|known| known.is_overwritten(now));
    let original = entry.original()?;
    let same_claims = known.is_some_and(|known| known.claims == entry.claims);
    let says_it = || record::wanted(now, &entry.claims).is_ok_and(|wanted| wanted.bytes.as_deref() == now);
    let (next, rewritten) = if content.is_none() && is_overwritten {
        (now.map(<[u8]>::to_vec), false)
    } else if same_claims && !is_overwritten && now.is_some() && says_it() {
        entry = known.cloned().unwrap_or(entry);
        (now.map(<[u8]>::to_vec), false)
    } else {
        let wanted = record::wanted(original.as_deref(), &entry.claims)?;
        (wanted.bytes, wanted.rewritten)
    };
    let is_undo = content.is_none();
    let outcome = match (now, next.as_deref()) {
        _ if is_undo && !left.is_empty() => Outcome::Left,
        (now, next) if now == next => Outcome::Unchanged,
        (None, _) => Outcome::Made,
        (_, None) => Outcome::Removed,
        _ if is_undo && entry.claims.is_empty() && known.is_some_and(|known| known.is_untouched(now)) => {
            Outcome::Restored
        }
        _ => Outcome::Changed,
    };
    let diff = report::diff(path, current.as_ref(), next.as_deref());
    let change = Change { path: path.to_owned(), outcome, diff, note: note(outcome, rewritten, is_overwritten, &left) };
    if known != Some(&entry) {
        entry.writing(None, next.as_deref());
    }
    let mut meanwhile = if is_undo { known.cloned().unwrap_or_default() } else { entry.clone() };
    if outcome != Outcome::Left && known != Some(&entry) {
        // Until all is written, a file may be what it was or what it becomes.
        meanwhile.writing(now, next.as_deref());
    }
    Ok(Step { path: path.to_owned(), current, next, entry, meanwhile, change })
}

fn note(outcome: Outcome, rewritten: bool, is_overwritten: bool, left: &[String]) -> Option<String> {
    if outcome == Outcome::Left && is_overwritten {
        return Some("somebody has changed it since it was written: remove it by hand if it is not needed".to_owned());
    }
    if outcome == Outcome::Left {
        return Some(format!("changed by somebody since, and left as it is: {}", left.join(", ")));
    }
    if is_overwritten {
        return Some("it had been changed by hand since it was written: that is gone".to_owned());
    }
    let text = "it could not be edited in place: written anew, without its comments. It comes back with --undo";
    rewritten.then(|| text.to_owned())
}

/// `leaver` is set up no more once all is written.
fn carry_out(
    root: Root<'_>,
    mut record: Record,
    steps: Vec<Step>,
    leaver: Option<Client>,
) -> Result<Report, WriteError> {
    make_dirs(root, &mut record, &steps)?;
    for step in &steps {
        record.files.insert(step.path.clone(), step.meanwhile.clone());
    }
    save(root, &record)?;
    for step in &steps {
        put(root, step)?;
    }
    for step in &steps {
        match step.entry.claims.is_empty() {
            true => record.files.remove(&step.path),
            false => record.files.insert(step.path.clone(), step.entry.clone()),
        };
    }
    if let Some(leaver) = leaver {
        record.clients.remove(leaver.as_str());
    }
    if record.clients.is_empty() {
        root.remove(Path::new(record::PATH))?;
        tidy(root, &mut record)?;
    } else {
        tidy(root, &mut record)?;
        save(root, &record)?;
    }
    Ok(Report { changes: steps.into_iter().map(|step| step.change).collect() })
}

fn put(root: Root<'_>, step: &Step) -> Result<(), WriteError> {
    let now = step.current.as_ref().map(|present| &present.bytes);
    match &step.next {
        Some(next) if now != Some(next) => root.write(&step.path, 0o644, next),
        None if now.is_some() => root.remove(&step.path),
        _ => Ok(()),
    }
}

/// The record's own first, and remembered in it with the others: undo takes away those that are empty by then.
fn make_dirs(root: Root<'_>, record: &mut Record, steps: &[Step]) -> Result<(), WriteError> {
    let record_path = Path::new(record::PATH);
    let written = steps.iter().filter(|step| step.next.is_some()).map(|step| step.path.as_path());
    for path in std::iter::once(record_path).chain(written) {
        for dir in root.missing_dirs(path)? {
            let is_private = record_path.parent() == Some(dir.as_path());
            root.make_dir(&dir, if is_private { 0o700 } else { 0o755 })?;
            record.dirs.retain(|known| *known != dir);
            record.dirs.push(dir);
        }
    }
    Ok(())
}

fn save(root: Root<'_>, record: &Record) -> Result<(), WriteError> {
    let text = serde_json::to_string_pretty(record).expect("a record is JSON");
    root.write(Path::new(record::PATH), 0o600, text.as_bytes())
}

/// Takes away the directories that were made and hold nothing any more.
fn tidy(root: Root<'_>, record: &mut Record) -> Result<(), WriteError> {
    for dir in std::mem::take(&mut record.dirs).into_iter().rev() {
        if !root.remove_empty_dir(&dir)? {
            record.dirs.insert(0, dir);
        }
    }
    Ok(())
}
