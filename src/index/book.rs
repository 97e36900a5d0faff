//! The journal's file: sled. After an error it writes nothing more, ever, so it is closed and opened anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tracing::{info, warn};

use super::backlog::Orders;
use super::journal::{BlobRecord, Records, Table};

/// Of the layout of the tables; another one is begun anew.
const SCHEMA: &[u8] = b"1";
/// In memory, for sled's pages. They are read once.
const PAGES: u64 = 16 << 20;

/// The tables on disk.
#[derive(Debug)]
pub(super) struct Book {
    dir: PathBuf,
    /// Where it goes when it cannot be read.
    aside: PathBuf,
    db: Option<sled::Db>,
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

impl Book {
    /// The one in `dir`.
    pub(super) fn closed(dir: &Path, aside: PathBuf) -> Book {
        Book { dir: dir.to_owned(), aside, db: None, unread: true }
    }

    /// Opens it and reads all of it.
    pub(super) fn open(&mut self) -> Result<Records, BookError> {
        let (db, records) = guarded(|| {
            let db = open(&self.dir)?;
            let records = read_all(&db)?;
            Ok((db, records))
        })?;
        (self.db, self.unread) = (Some(db), false);
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
        self.unread = false;
        true
    }

    /// Writes, and syncs. After an error none of it can be relied on.
    pub(super) fn write(&mut self, orders: &Orders) -> Result<(), BookError> {
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
        blobs: read::<BlobRecord>(db, Table::Blobs)?
            .into_iter()
            .filter_map(|(digest, record)| Some((digest.parse().ok()?, record)))
            .collect(),
        tags: read_raw(db, Table::Tags)?,
        public: read::<u64>(db, Table::Public)?,
        shared: read::<u64>(db, Table::Shared)?,
        challenges: read_raw(db, Table::Challenges)?,
        logins: read::<u64>(db, Table::Logins)?,
        quota: read_raw(db, Table::Quota)?,
    })
}

fn read_raw(db: &sled::Db, table: Table) -> Result<Vec<(String, Vec<u8>)>, sled::Error> {
    let mut all = Vec::new();
    for pair in &db.open_tree(table.name())? {
        let (key, value) = pair?;
        if let Ok(key) = String::from_utf8(key.to_vec()) {
            all.push((key, value.to_vec()));
        }
    }
    Ok(all)
}

fn read<T: DeserializeOwned>(db: &sled::Db, table: Table) -> Result<Vec<(String, T)>, sled::Error> {
    let parsed = |(key, value): (String, Vec<u8>)| Some((key, serde_json::from_slice(&value).ok()?));
    Ok(read_raw(db, table)?.into_iter().filter_map(parsed).collect())
}
