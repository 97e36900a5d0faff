//! The journal's files: what is known of blobs in a [`log`](super::log), all else in sled.
//!
//! After an error sled writes nothing more, ever, so it is closed and opened anew. Blobs are not in it (they were, until 0.1): a million
//! of them took it seconds to open, and hundreds of MiB. What earlier versions wrote is read, moved over and taken out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::backlog::{Batch, Orders};
use super::blobs::Blobs;
use super::entries::Entry;
use super::journal::{Records, Table};
use super::log::{Log, LogError};

/// Of the layout of the tables; another one is begun anew.
const SCHEMA: &[u8] = b"1";
/// In memory, for sled's pages. They are read once.
const PAGES: u64 = 16 << 20;
/// Where blobs were.
const OLD_BLOBS: &str = "blobs";
/// Blobs of one frame: so long are they kept from changing.
const FRAME: usize = 1024;

/// The tables on disk.
#[derive(Debug)]
pub(super) struct Book {
    dir: PathBuf,
    /// Where it goes when it cannot be read.
    aside: PathBuf,
    db: Option<sled::Db>,
    log: Option<Log>,
    /// There are blobs where they were.
    old: bool,
    /// Who could not read it does not know what it says of permissions, and cannot take it back.
    unread: bool,
}

/// Why it cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum BookError {
    /// For now: the disk is full or read-only, or somebody else has it.
    #[error("{0}")]
    Away(String),
    /// It is not what was written.
    #[error("{0}")]
    Broken(String),
}

impl From<LogError> for BookError {
    fn from(error: LogError) -> BookError {
        match &error {
            LogError::Fs(_) => BookError::Away(error.to_string()),
            LogError::Broken(_) => BookError::Broken(error.to_string()),
        }
    }
}

impl Book {
    /// The one in `dir`.
    pub(super) fn closed(dir: &Path, aside: PathBuf) -> Book {
        Book { dir: dir.to_owned(), aside, db: None, log: None, old: false, unread: true }
    }

    /// Opens it and reads all of it.
    pub(super) fn open(&mut self) -> Result<Records, BookError> {
        let (db, mut records) = guarded(|| {
            let db = open(&self.dir)?;
            let records = read_all(&db)?;
            Ok((db, records))
        })?;
        let mut blobs = Blobs::default();
        blobs.entries.reserve(Log::guess(&self.dir));
        let mut log = Log::read(&self.dir, |frame| blobs.take_in(frame))?;
        match &mut log {
            Some(log) => log.holds(blobs.len()),
            None => blobs = guarded(|| read_old_blobs(&db))?,
        }
        records.blobs = blobs;
        self.old = guarded(|| Ok(db.tree_names().iter().any(|name| name == OLD_BLOBS.as_bytes())))?;
        (self.db, self.log, self.unread) = (Some(db), log, false);
        Ok(records)
    }

    /// Makes room for a new one. Tells whether there is.
    pub(super) fn set_aside(&mut self, why: &str) -> bool {
        warn!(%why, "the index cannot be read: it is set aside and rebuilt from the files; permissions are asked again");
        match crate::fs::rename(&self.dir, &self.aside) {
            Ok(()) => info!(path = %self.aside.display(), "the old index is there"),
            Err(error) => {
                warn!(%error, "the old index cannot be set aside: seawall goes on without one");
                return false;
            }
        }
        (self.unread, self.old) = (false, false);
        true
    }

    /// Writes, and syncs. After an error none of it can be relied on.
    pub(super) fn write(&mut self, batch: &Batch, blobs: Option<&Mutex<Blobs>>) -> Result<(), BookError> {
        if self.unread || !batch.orders.is_empty() {
            self.write_tables(&batch.orders)?;
        }
        match blobs {
            Some(blobs) => self.write_blobs(batch, blobs),
            None => Ok(()),
        }
    }

    fn write_blobs(&mut self, batch: &Batch, blobs: &Mutex<Blobs>) -> Result<(), BookError> {
        if !batch.anew && batch.blobs.is_empty() {
            return Ok(());
        }
        match &mut self.log {
            Some(log) if !batch.anew && !log.is_long() => {
                let mut changed = batch.blobs.iter().peekable();
                while changed.peek().is_some() {
                    let frame = blobs.lock().frame_of(changed.by_ref().take(FRAME));
                    log.add(&frame)?;
                }
            }
            _ => {
                let slots = (0..).step_by(FRAME);
                let frames = slots.map_while(|first| blobs.lock().frame_from(first, FRAME as u32));
                self.log = Some(Log::write_anew(&self.dir, frames)?);
            }
        }
        if self.old {
            self.forget_old_blobs()?;
        }
        Ok(())
    }

    /// Once they are written where they are kept now.
    fn forget_old_blobs(&mut self) -> Result<(), BookError> {
        if let Some(db) = &self.db {
            guarded(|| {
                db.drop_tree(OLD_BLOBS)?;
                db.flush().map(|_| ())
            })?;
            self.old = false;
        }
        Ok(())
    }

    fn write_tables(&mut self, orders: &Orders) -> Result<(), BookError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => self.open_again()?,
        };
        let written = guarded(|| write(&db, self.unread, orders));
        if written.is_ok() {
            (self.db, self.unread) = (Some(db), false);
        } else {
            // sled may panic when it closes a file that it could not write.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
        }
        written
    }

    fn open_again(&mut self) -> Result<sled::Db, BookError> {
        match guarded(|| open(&self.dir)) {
            Err(BookError::Broken(why)) if self.set_aside(&why) => guarded(|| open(&self.dir)),
            opened => opened,
        }
    }
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

fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, BookError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if is_away(&error) => Err(BookError::Away(error.to_string())),
        Ok(Err(error)) => Err(BookError::Broken(error.to_string())),
        Err(_) => Err(BookError::Broken("it made its reader panic".to_owned())),
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
        blobs.imported = true;
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
