//! Writes the files of a plan below a root directory, and takes them back.
//!
//! 0. The record's directory is locked: two at once would each write a record without the other.
//! 1. Every file is read, and what it becomes is worked out (`step`): from what it was before any
//!    client was set up, what other clients want of it, and what this one wants. If one cannot be
//!    read, nothing is written.
//! 2. The `record` is written: what was there, what is about to be. From here on a crash loses
//!    nothing: a file is as it was or as it becomes, and the record knows both.
//! 3. Each file is replaced whole, if it is still what was read.
//! 4. The record is written without what has become of no use.

mod content;
mod document;
mod error;
mod merge;
mod record;
mod report;
mod root;
mod step;
mod view;

use std::path::{Path, PathBuf};

pub use error::WriteError;
pub use record::SetUp;
pub use report::{Change, Outcome, Report};

use content::Left;
use record::Record;
use root::Root;
use step::{Asked, Step};
use view::View;

use super::{Client, Content, Mode, Plan};
use crate::fs::{Expected, Tree};

/// Writes what `plan` says for `client` into the files below `root`, and takes out of others what
/// an earlier plan for it put there.
///
/// # Errors
/// A file that cannot be merged with: then nothing is written. A file that cannot be written:
/// `write` and `undo` work from there.
pub fn write(root: &Path, client: Client, mode: Mode, plan: &Plan) -> Result<Report, WriteError> {
    if plan.lacks_address() {
        return Err(WriteError::Address(client));
    }
    let tree = Tree::open(root)?;
    let root = Root(&tree);
    holding(root, |mut record| {
        let steps = steps(root, &record, client, Some(plan))?;
        if let Some(objection) = client.objection(plan, &View { root, steps: &steps }) {
            return Err(WriteError::unfit(&objection.path, objection.why));
        }
        let set_up = SetUp { mode, commands: plan.commands.clone(), undo: plan.undo.clone() };
        let before = record.clients.insert(client.as_str().to_owned(), set_up);
        Ok(Report { changes: carry_out(root, record, steps, None)?, before })
    })
}

/// Takes back what was written for `client`. What somebody else has changed since stays:
/// [`Report::left`]. Of a file that was all ours the record stays too, until it is gone.
///
/// # Errors
/// There is no record of it; a file cannot be read or written.
pub fn undo(root: &Path, client: Client) -> Result<Report, WriteError> {
    let tree = Tree::open(root)?;
    let not_set_up = || WriteError::NotSetUp { client, root: root.to_owned() };
    let root = Root(&tree);
    if root.read(Path::new(record::PATH))?.is_none() {
        return Err(not_set_up());
    }
    holding(root, |record| {
        let before = record.clients.get(client.as_str()).cloned().ok_or_else(not_set_up)?;
        let steps = steps(root, &record, client, None)?;
        Ok(Report { changes: carry_out(root, record, steps, Some(client))?, before: Some(before) })
    })
}

/// The way in which `client` is set up below `root`, if it is.
///
/// # Errors
/// The record cannot be read.
pub fn mode(root: &Path, client: Client) -> Result<Option<Mode>, WriteError> {
    Ok(load(Root(&Tree::open(root)?))?.mode(client))
}

/// What the file at `path` says without what was written for anybody; `None`: it would not be
/// there.
///
/// # Errors
/// It, or the record, cannot be read.
pub fn without_ours(root: &Tree, path: &Path) -> Result<Option<Vec<u8>>, WriteError> {
    let root = Root(root);
    let current = root.read(path)?.map(|present| present.bytes);
    match load(root)?.files.get(path) {
        None => Ok(current),
        Some(entry) => {
            entry.base(current.as_deref()).map(|base| base.bytes).map_err(|why| WriteError::unfit(path, why.0))
        }
    }
}

/// Does `work` with the record, which no other process reads or writes meanwhile: its directory is
/// locked.
fn holding<T>(root: Root<'_>, work: impl FnOnce(Record) -> Result<T, WriteError>) -> Result<T, WriteError> {
    let path = Path::new(record::PATH);
    let dir = path.parent().unwrap_or(path);
    let mut made = Vec::new();
    let _held = loop {
        made.extend(make_record_dir(root, path)?);
        if let Some(held) = root.0.lock(dir)? {
            break held;
        }
        // Whoever held it took its directory away.
    };
    let done = load(root).and_then(|mut record| {
        remember(&mut record, &made);
        work(record)
    });
    if done.is_err() {
        for dir in made.iter().rev() {
            root.0.remove_empty_dir(dir)?;
        }
    }
    done
}

/// Those above are everybody's.
fn make_record_dir(root: Root<'_>, path: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let dir = path.parent().unwrap_or(path);
    let mut made = root.make_dirs(dir, 0o755)?;
    if !root.0.missing_dirs(path)?.is_empty() {
        made.extend(root.make_dirs(path, 0o700)?);
    }
    Ok(made)
}

fn remember(record: &mut Record, made: &[PathBuf]) {
    record.dirs.retain(|known| !made.contains(known));
    record.dirs.extend_from_slice(made);
    record.dirs.sort();
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
    let is_wanted = |path: &Path| files.iter().any(|file| file.path == path);
    let earlier = record.files.iter().filter(|(path, entry)| entry.claim_of(client).is_some() && !is_wanted(path));
    let earlier = earlier.map(|(path, _)| (path, None));
    let step = |(path, content): (&PathBuf, Option<&Content>)| {
        let (current, leads_to) = (root.read(path)?, root.leads_to(path)?);
        let asked = Asked { path, leads_to, current, known: record.files.get(path), client, content };
        step::step(asked).map_err(|why| WriteError::unfit(path, why.0))
    };
    let mut steps = wanted.chain(earlier).map(step).collect::<Result<Vec<_>, _>>()?;
    keep_roots(&mut steps, record, client);
    Ok(steps)
}

/// What was left may send the client through seawall still: then it needs the root.
fn keep_roots(steps: &mut [Step], record: &Record, client: Client) {
    let Some(left) = steps.iter().find(|step| step.left == Left::Whole).map(|step| step.path.clone()) else { return };
    for step in steps.iter_mut().filter(|step| step.entry.claim_of(client).is_none()) {
        let known = record.files.get(&step.path);
        if let Some(known) = known.filter(|known| known.claim_of(client).is_some_and(Content::is_root)) {
            step.keep(known, &left);
        }
    }
}

/// `leaver` is set up no more once all is written, unless something of its files was left.
fn carry_out(
    root: Root<'_>,
    mut record: Record,
    steps: Vec<Step>,
    leaver: Option<Client>,
) -> Result<Vec<Change>, WriteError> {
    for step in steps.iter().filter(|step| step.next.is_some()) {
        let made = root.make_dirs(&step.path, 0o755)?;
        remember(&mut record, &made);
    }
    for step in &steps {
        record.files.insert(step.path.clone(), step.meanwhile.clone());
    }
    save(root, &record)?;
    for step in &steps {
        root.put(&step.path, step.current.as_ref(), step.next.as_deref())?;
    }
    for step in &steps {
        match step.entry.claims.is_empty() {
            true => record.files.remove(&step.path),
            false => record.files.insert(step.path.clone(), step.entry.clone()),
        };
    }
    if let Some(leaver) = leaver.filter(|leaver| !record.has_files(*leaver)) {
        record.clients.remove(leaver.as_str());
    }
    if record.clients.is_empty() {
        root.0.remove(Path::new(record::PATH), Expected::Anything)?;
        tidy(root, &mut record)?;
    } else {
        tidy(root, &mut record)?;
        save(root, &record)?;
    }
    Ok(steps.into_iter().map(|step| step.change).collect())
}

fn save(root: Root<'_>, record: &Record) -> Result<(), WriteError> {
    let text = serde_json::to_string_pretty(record).expect("a record is JSON");
    Ok(root.0.write(Path::new(record::PATH), 0o600, Expected::Anything, text.as_bytes())?)
}

/// Takes away the directories that were made and hold nothing any more.
fn tidy(root: Root<'_>, record: &mut Record) -> Result<(), WriteError> {
    for dir in std::mem::take(&mut record.dirs).into_iter().rev() {
        if !root.0.remove_empty_dir(&dir)? {
            record.dirs.insert(0, dir);
        }
    }
    Ok(())
}
