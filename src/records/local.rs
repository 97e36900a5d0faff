//! The journal's files: what is known of blobs in a [`log`](super::log), all else in sled. What is wrong with one of them costs nothing
//! of the other.
//!
//! After an error sled writes nothing more, ever, so it is closed and opened anew. Blobs are not in it (they were, until 0.1): a million
//! of them took it seconds to open, and hundreds of MiB. What earlier versions wrote is read, moved over and taken out. Where there are
//! both, an earlier version may have run in between, or a kill came before it was taken out: nobody knows which is newer, so of neither
//! it is taken which repositories have a blob.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::backlog::{Changes, Orders};
use super::log::{Log, LogError};
use super::{Records, Table};
use crate::store::blobs::Blobs;
use crate::store::entries::Entry;

/// Of the layout of the tables; another one is begun anew.
const SCHEMA: &[u8] = b"1";
/// In memory, for sled's pages. They are read once.
const PAGES: u64 = 16 << 20;
/// Where blobs were.
const OLD_BLOBS: &str = "blobs";

/// The files.
#[derive(Debug)]
pub(crate) struct Database {
    /// The tables'.
    dir: PathBuf,
    /// The log.
    entries: PathBuf,
    /// Seconds since 1970: in the name of what cannot be read.
    opened: u64,
    db: Option<sled::Db>,
    /// The one to add to. Nothing: what is on disk is not what is known, and is to be written anew.
    log: Option<Log>,
    /// There are blobs where they were.
    old: bool,
    /// They were found when the log had been believed already.
    doubt: bool,
    /// Who could not read the tables does not know what they say of permissions, and cannot take it back.
    unread: bool,
}

/// Why it cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    /// For now: the disk is full or read-only, or somebody else has it.
    #[error("{0}")]
    Away(String),
    /// It is not what was written.
    #[error("{0}")]
    Broken(String),
}

impl From<LogError> for DatabaseError {
    fn from(error: LogError) -> DatabaseError {
        match &error {
            LogError::Fs(_) => DatabaseError::Away(error.to_string()),
            LogError::Broken(_) => DatabaseError::Broken(error.to_string()),
        }
    }
}

impl Database {
    /// The one whose tables are in `dir`, and its log beside it.
    pub(crate) fn closed(dir: &Path, opened: u64) -> Database {
        let entries = dir.with_file_name("entries");
        Database { dir: dir.to_owned(), entries, opened, db: None, log: None, old: false, doubt: false, unread: true }
    }

    /// Opens it and reads all that can be read.
    pub(crate) fn open(&mut self) -> Records {
        let mut records = self.open_tables().unwrap_or_else(|why| {
            warn!(%why, "the index cannot be opened: seawall starts cold, and writes it when it can");
            Records::default()
        });
        records.blobs = self.open_log();
        records
    }

    fn open_tables(&mut self) -> Result<Records, DatabaseError> {
        let (db, records) = match read_tables(&self.dir) {
            Err(DatabaseError::Broken(why)) if self.set_tables_aside(&why) => read_tables(&self.dir),
            read => read,
        }?;
        self.old = has_old_blobs(&db)?;
        (self.db, self.unread) = (Some(db), false);
        Ok(records)
    }

    fn open_log(&mut self) -> Blobs {
        let cold = || Blobs { rewrite: true, ..Blobs::default() };
        match read_log(&self.entries) {
            Ok(Some((log, mut blobs))) => {
                if self.old {
                    blobs.forget_places();
                } else {
                    self.log = Some(log);
                }
                blobs
            }
            Ok(None) => self.read_old_blobs().unwrap_or_else(|why| {
                warn!(%why, "what is known of blobs cannot be read: all files are looked at");
                cold()
            }),
            Err(why) => {
                warn!(%why, "what is known of blobs cannot be read: all files are looked at");
                if let LogError::Broken(_) = why {
                    self.set_aside(&self.entries);
                }
                cold()
            }
        }
    }

    fn read_old_blobs(&self) -> Result<Blobs, DatabaseError> {
        match &self.db {
            Some(db) if self.old => guarded(|| read_old_blobs(db)),
            _ => Ok(Blobs::default()),
        }
    }

    /// Makes room for new tables. Tells whether there is.
    fn set_tables_aside(&mut self, why: &str) -> bool {
        warn!(%why, "the index cannot be read: it is set aside and begun anew; permissions are asked again");
        let there_is = self.set_aside(&self.dir);
        if there_is {
            (self.unread, self.old) = (false, false);
        }
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

    /// Writes, and syncs. What is written is not in the batch any more.
    pub(crate) fn write(&mut self, batch: &mut Changes, blobs: Option<&Mutex<Blobs>>) -> Result<(), DatabaseError> {
        let tables = self.write_tables(&batch.orders);
        if tables.is_ok() {
            batch.orders = Orders::default();
        }
        if let Some(blobs) = blobs {
            if std::mem::take(&mut self.doubt) {
                blobs.lock().forget_places();
                batch.anew = true;
            }
            self.write_blobs(batch, blobs)?;
            (batch.blobs, batch.anew) = (Default::default(), false);
        }
        if self.old && !self.doubt && self.log.is_some() {
            self.forget_old_blobs();
        }
        tables
    }

    fn write_blobs(&mut self, batch: &Changes, blobs: &Mutex<Blobs>) -> Result<(), DatabaseError> {
        let is_long = match &self.log {
            Some(log) if !batch.anew => log.is_long(),
            _ => return self.write_log_anew(blobs),
        };
        if batch.blobs.is_empty() {
            return Ok(());
        }
        if is_long {
            let Err(why) = self.write_log_anew(blobs) else { return Ok(()) };
            warn!(%why, "what is known of blobs cannot be written anew: it goes on growing");
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        if is_long {
            log.put_off();
        }
        let mut changed = batch.blobs.iter().peekable();
        while changed.peek().is_some() {
            let frame = blobs.lock().frame_of(&mut changed);
            log.add(&frame.sealed())?;
        }
        Ok(())
    }

    fn write_log_anew(&mut self, blobs: &Mutex<Blobs>) -> Result<(), DatabaseError> {
        let mut first = 0;
        let frames = std::iter::from_fn(|| {
            let (frame, next) = blobs.lock().frame_from(first)?;
            first = next;
            Some(frame.sealed())
        });
        let log = Log::compact(&self.entries, frames)?;
        Ok(self.log.insert(log).settle()?)
    }

    /// Once they are written where they are kept now. What cannot be taken out costs the next start something, and nothing now.
    fn forget_old_blobs(&mut self) {
        let Some(db) = self.db.take() else { return };
        let forgotten = guarded(|| {
            db.drop_tree(OLD_BLOBS)?;
            db.flush().map(|_| ())
        });
        match forgotten {
            Ok(()) => (self.db, self.old) = (Some(db), false),
            Err(why) => {
                warn!(%why, "what an earlier version wrote of blobs cannot be taken out");
                close(db);
            }
        }
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
        let db = match guarded(|| open(&self.dir)) {
            Err(DatabaseError::Broken(why)) if self.set_tables_aside(&why) => guarded(|| open(&self.dir)),
            opened => opened,
        }?;
        let old = has_old_blobs(&db)?;
        self.doubt |= old && !self.old && self.log.is_some();
        self.old = old;
        Ok(db)
    }
}

/// sled may panic when it closes a file that it could not write.
fn close(db: sled::Db) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
}

fn read_log(path: &Path) -> Result<Option<(Log, Blobs)>, LogError> {
    let Some(found) = Log::find(path)? else { return Ok(None) };
    let mut blobs = Blobs::default();
    blobs.entries.reserve(found.guess());
    let mut log = found.read(|frame| blobs.take_in(frame))?;
    log.holds(blobs.len());
    Ok(Some((log, blobs)))
}

fn read_tables(dir: &Path) -> Result<(sled::Db, Records), DatabaseError> {
    guarded(|| {
        let db = open(dir)?;
        let records = read_all(&db)?;
        Ok((db, records))
    })
}

fn has_old_blobs(db: &sled::Db) -> Result<bool, DatabaseError> {
    guarded(|| Ok(db.tree_names().iter().any(|name| name == OLD_BLOBS.as_bytes())))
}

fn write(db: &sled::Db, unread: bool, orders: &Orders) -> Result<(), sled::Error> {
    if unread {
        for table in [Table::Public, Table::Shared, Table::Logins] {
            db.open_tree(table.name())?.clear()?;
        }
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
        Ok(Err(error)) if is_away(&error) => Err(DatabaseError::Away(error.to_string())),
        Ok(Err(error)) => Err(DatabaseError::Broken(error.to_string())),
        Err(_) => Err(DatabaseError::Broken("it made its reader panic".to_owned())),
    }
}

fn is_away(error: &sled::Error) -> bool {
    let sled::Error::Io(error) = error else { return false };
    let passing = matches!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // sled's own text: what was closed a moment ago may still be locked.
    passing || crate::fs::is_full(error) || error.to_string().contains("could not acquire lock")
}

fn open(dir: &Path) -> Result<sled::Db, sled::Error> {
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
        blobs: Blobs::default(),
        tags: read_raw(db, Table::Tags.name())?,
        public: read::<u64>(db, Table::Public.name())?,
        shared: read::<u64>(db, Table::Shared.name())?,
        challenges: read_raw(db, Table::Challenges.name())?,
        logins: read::<u64>(db, Table::Logins.name())?,
        quota: read_raw(db, Table::Quota.name())?,
    })
}

/// What was written of a blob.
#[derive(Deserialize)]
struct OldBlob {
    size: u64,
    used: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    places: Vec<String>,
}

fn read_old_blobs(db: &sled::Db) -> Result<Blobs, sled::Error> {
    let mut blobs = Blobs::default();
    for (digest, old) in read::<OldBlob>(db, OLD_BLOBS)? {
        let Ok(digest) = digest.parse() else { continue };
        let mut entry = Entry::new(digest, old.size, old.used);
        entry.media_type = blobs.typed(old.media_type.as_deref());
        entry.places = old.places.iter().map(|place| blobs.places.of(place)).collect();
        blobs.add(entry);
        blobs.rewrite = true;
    }
    Ok(blobs)
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
