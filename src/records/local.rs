//! The files on this disk: rows of blobs in a [`log`](super::log), the tables in sled. What is
//! wrong with one of them costs nothing of the other.
//!
//! Rows are not in sled: start and writes were measured with them there (`docs/performance.md`).
//! After an error sled writes nothing more, ever, so it is closed and opened again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::backlog::{Changes, Orders};
use super::log::{Log, LogError};
use super::rows::{ReadRows, Reading, RowSource};
use super::tables::{Records, Table};

/// Version of the layout of the tables; another one is begun again.
const SCHEMA: &[u8] = b"2";
/// Bytes of memory for sled's pages. They are read once.
const PAGES: u64 = 16 << 20;
/// How often, and after which pause, tables that are locked are tried again.
const LOCK_TRIALS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The tables and the log.
#[derive(Debug)]
pub(super) struct Database {
    /// The directory of the tables.
    dir: PathBuf,
    /// The file of the log.
    entries: PathBuf,
    /// Seconds since 1970: in the name of what cannot be read.
    opened: u64,
    db: Option<sled::Db>,
    /// The log to add to. `None`: what is on disk is not what is known, and all rows are to be
    /// written again.
    log: Option<Log>,
    /// Who could not read the tables does not know which logins they hold, and cannot take them
    /// back.
    unread: bool,
}

/// Why it cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// For now: the disk is full or read-only, or another process has it.
    #[error("{0}")]
    Unavailable(String),
    /// It is not what was written.
    #[error("{0}")]
    Broken(String),
}

impl From<LogError> for DatabaseError {
    fn from(error: LogError) -> DatabaseError {
        match &error {
            LogError::Fs(_) => DatabaseError::Unavailable(error.to_string()),
            LogError::Broken(_) => DatabaseError::Broken(error.to_string()),
        }
    }
}

impl Database {
    /// The one whose tables are in `dir`, and its log beside it.
    pub(super) fn closed(dir: &Path, opened: u64) -> Database {
        let entries = dir.with_file_name("entries");
        Database { dir: dir.to_owned(), entries, opened, db: None, log: None, unread: true }
    }

    /// Opens it and reads all that can be read.
    pub(super) fn open(&mut self, read: &mut ReadRows<'_>) -> Records {
        let records = self.open_tables().unwrap_or_else(|why| {
            warn!(%why, "the index cannot be opened: seawall starts cold, and writes it when it can");
            Records::default()
        });
        self.open_log(read);
        records
    }

    fn open_tables(&mut self) -> Result<Records, DatabaseError> {
        let (db, records) = match read_tables(&self.dir) {
            Err(DatabaseError::Broken(why)) if self.set_tables_aside(&why) => read_tables(&self.dir),
            read => read,
        }?;
        (self.db, self.unread) = (Some(db), false);
        Ok(records)
    }

    fn open_log(&mut self, read: &mut ReadRows<'_>) {
        let why = match read_log(&self.entries, read) {
            Ok(log) => {
                self.log = log;
                return;
            }
            Err(why) => why,
        };
        warn!(%why, "what is known of blobs cannot be read: all files are looked at");
        read(Reading::Void);
        if let LogError::Broken(_) = why {
            self.set_aside(&self.entries);
        }
    }

    /// Makes room for new tables. Tells whether there is.
    fn set_tables_aside(&mut self, why: &str) -> bool {
        warn!(%why, "the index cannot be read: it is set aside and begun again; upstream is asked again for every grant");
        let there_is = self.set_aside(&self.dir);
        self.unread &= !there_is;
        there_is
    }

    /// Tells whether there is room where it was.
    fn set_aside(&self, path: &Path) -> bool {
        let name = |n| path.with_extension(format!("corrupt-{}", self.opened + n));
        let Some(aside) = (0..100).map(name).find(|aside| !crate::fs::exists(aside)) else { return false };
        match crate::fs::rename(path, &aside) {
            Ok(()) => info!(path = %aside.display(), "what cannot be read is there"),
            Err(error) => {
                warn!(%error, "what cannot be read cannot be set aside: seawall goes on without it");
                return false;
            }
        }
        true
    }

    /// Writes, and syncs. What is written is not among the changes any more.
    pub(super) fn write(&mut self, changes: &mut Changes, source: Option<&RowSource>) -> Result<(), DatabaseError> {
        let tables = self.write_tables(&changes.orders);
        if tables.is_ok() {
            changes.orders = Orders::default();
        }
        if let Some(source) = source {
            self.write_rows(changes, source)?;
            (changes.blobs, changes.all_blobs) = (Default::default(), false);
        }
        tables
    }

    fn write_rows(&mut self, changes: &Changes, source: &RowSource) -> Result<(), DatabaseError> {
        let is_long = match &self.log {
            Some(log) if !changes.all_blobs => log.is_long(),
            _ => return self.compact(source),
        };
        if changes.blobs.is_empty() {
            return Ok(());
        }
        if is_long {
            let Err(why) = self.compact(source) else { return Ok(()) };
            warn!(%why, "what is known of blobs cannot be compacted: it goes on growing");
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        if is_long {
            log.put_off();
        }
        let mut changed = changes.blobs.iter().peekable();
        while changed.peek().is_some() {
            log.add(&(source.of)(&mut changed).sealed())?;
        }
        Ok(())
    }

    fn compact(&mut self, source: &RowSource) -> Result<(), DatabaseError> {
        let mut first = 0;
        let batches = std::iter::from_fn(|| {
            let (batch, next) = (source.from)(first)?;
            first = next;
            Some(batch.sealed())
        });
        let log = Log::compact(&self.entries, batches)?;
        Ok(self.log.insert(log).settle()?)
    }

    fn write_tables(&mut self, orders: &Orders) -> Result<(), DatabaseError> {
        if !self.unread && orders.is_empty() {
            return Ok(());
        }
        let db = match self.db.take() {
            Some(db) => db,
            None => self.open_again()?,
        };
        let written = guarded(|| write(&db, self.unread, orders));
        if written.is_ok() {
            (self.db, self.unread) = (Some(db), false);
        } else {
            close(db);
        }
        written
    }

    fn open_again(&mut self) -> Result<sled::Db, DatabaseError> {
        match guarded(|| open(&self.dir)) {
            Err(DatabaseError::Broken(why)) if self.set_tables_aside(&why) => guarded(|| open(&self.dir)),
            opened => opened,
        }
    }
}

/// sled may panic when it closes a file that it could not write.
fn close(db: sled::Db) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

fn read_log(path: &Path, read: &mut ReadRows<'_>) -> Result<Option<Log>, LogError> {
    let Some(found) = Log::find(path)? else { return Ok(None) };
    let mut blobs = read(Reading::Expect(found.guess()));
    let mut log = found.read(|batch| blobs = read(Reading::Batch(batch)))?;
    log.holds(blobs);
    Ok(Some(log))
}

fn read_tables(dir: &Path) -> Result<(sled::Db, Records), DatabaseError> {
    guarded(|| {
        let db = open(dir)?;
        let records = read_all(&db)?;
        Ok((db, records))
    })
}

fn write(db: &sled::Db, unread: bool, orders: &Orders) -> Result<(), sled::Error> {
    if unread {
        db.open_tree(Table::Logins.name())?.clear()?;
    }
    for ((table, key), value) in orders {
        let tree = db.open_tree(table.name())?;
        match value {
            Some(value) => tree.insert(key, value.as_slice())?,
            None => tree.remove(key)?,
        };
    }
    db.flush().map(|_| ())
}

fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, DatabaseError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if is_passing(&error) => Err(DatabaseError::Unavailable(error.to_string())),
        Ok(Err(error)) => Err(DatabaseError::Broken(error.to_string())),
        Err(_) => Err(DatabaseError::Broken("it made its reader panic".to_owned())),
    }
}

fn is_passing(error: &sled::Error) -> bool {
    let sled::Error::Io(error) = error else { return false };
    let passing = matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    passing || crate::fs::is_full(error) || is_lock(error)
}

/// By sled's own text.
fn is_lock(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Waits for a lock on what was closed a moment ago: a process that is about to end may have it, or
/// one that was started meanwhile and is not another program yet (credential helpers).
fn open(dir: &Path) -> Result<sled::Db, sled::Error> {
    for _ in 0..LOCK_TRIALS {
        match open_now(dir) {
            Err(sled::Error::Io(error)) if is_lock(&error) => std::thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
    open_now(dir)
}

fn open_now(dir: &Path) -> Result<sled::Db, sled::Error> {
    let db = sled::Config::new().path(dir).cache_capacity(PAGES).flush_every_ms(None).open()?;
    let schema = db.get("schema")?;
    if schema.as_ref().is_some_and(|schema| schema != SCHEMA) {
        for table in db.tree_names() {
            db.drop_tree(table).ok();
        }
    }
    if schema.is_none_or(|schema| schema != SCHEMA) {
        db.insert("schema", SCHEMA)?;
    }
    Ok(db)
}

fn read_all(db: &sled::Db) -> Result<Records, sled::Error> {
    Ok(Records {
        tags: read_raw(db, Table::Tags.name())?,
        refusals: read::<u64>(db, Table::Refusals.name())?,
        registries: read::<String>(db, Table::Registries.name())?,
        challenges: read_raw(db, Table::Challenges.name())?,
        logins: read::<u64>(db, Table::Logins.name())?,
        quota: read_raw(db, Table::Quota.name())?,
        statistics: read_raw(db, Table::Statistics.name())?,
    })
}

fn read_raw(db: &sled::Db, table: &str) -> Result<Vec<(String, Vec<u8>)>, sled::Error> {
    let mut all = Vec::new();
    if !db.tree_names().iter().any(|name| name == table.as_bytes()) {
        return Ok(all);
    }
    for pair in &db.open_tree(table)? {
        let (key, value) = pair?;
        if let Ok(key) = String::from_utf8(key.to_vec()) {
            all.push((key, value.to_vec()));
        }
    }
    Ok(all)
}

fn read<T: DeserializeOwned>(db: &sled::Db, table: &str) -> Result<Vec<(String, T)>, sled::Error> {
    let parsed = |(key, value): (String, Vec<u8>)| Some((key, serde_json::from_slice(&value).ok()?));
    Ok(read_raw(db, table)?.into_iter().filter_map(parsed).collect())
}

#[cfg(test)]
mod tests;
