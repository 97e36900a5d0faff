//! What makes the next start warm: sled, written by one thread, read once at start.
//!
//! Nothing here is needed to serve. A journal that cannot be opened is set aside and begun anew; one that cannot be written is
//! left alone until the next start. At most a second of it is lost when the process is killed.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::oci::digest::Digest;

/// What is written of a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    used: u64,
    /// As upstream named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Repositories that upstream was seen to have it in.
    #[serde(default)]
    pub places: Vec<Arc<str>>,
}

impl BlobRecord {
    /// Of these.
    pub fn new(size: u64, used: SystemTime, media_type: Option<String>, places: Vec<Arc<str>>) -> BlobRecord {
        BlobRecord { size, used: seconds(used), media_type, places }
    }

    /// When it was last used.
    pub fn used(&self) -> SystemTime {
        time(self.used)
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time of [`seconds`]; what no clock can show is 1970.
pub fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Everything that was written down.
#[derive(Debug, Default)]
pub struct Records {
    /// Blobs.
    pub blobs: HashMap<Digest, BlobRecord>,
    /// JSON by `REGISTRY/REPOSITORY:TAG`.
    pub tags: Vec<(String, Vec<u8>)>,
    /// Seconds since 1970 by `REGISTRY/REPOSITORY`: when it was last seen to be public.
    pub public: Vec<(String, u64)>,
    /// JSON by name space: how it asks for credentials.
    pub challenges: Vec<(String, Vec<u8>)>,
    /// Seconds since 1970 by what names a login, and by that and `REGISTRY/REPOSITORY`: when it was proved, and when it was let read.
    pub logins: Vec<(String, u64)>,
    /// JSON: the books of upstream's quota.
    pub quota: Vec<(String, Vec<u8>)>,
}

/// The tables.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// [`Records::blobs`].
    Blobs,
    /// [`Records::tags`].
    Tags,
    /// [`Records::public`].
    Public,
    /// [`Records::challenges`].
    Challenges,
    /// [`Records::logins`].
    Logins,
    /// [`Records::quota`].
    Quota,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Blobs => "blobs",
            Table::Tags => "tags",
            Table::Public => "public",
            Table::Challenges => "challenges",
            Table::Logins => "logins",
            Table::Quota => "quota",
        }
    }
}

/// Of the layout of the tables; another one is begun anew.
const SCHEMA: &[u8] = b"1";
/// In memory, for sled's pages. They are read once.
const PAGES: u64 = 16 << 20;
const FLUSH_EVERY: Duration = Duration::from_secs(1);

enum Order {
    Write(Table, Vec<u8>, Option<Vec<u8>>),
    Close(Sender<()>),
}

/// Takes orders to write. Clones share one thread.
#[derive(Clone, Debug)]
pub struct Journal(Option<Arc<Mutex<Sender<Order>>>>);

impl Journal {
    /// One that keeps nothing.
    pub fn off() -> Journal {
        Journal(None)
    }

    /// Opens the journal in `dir` and reads all of it. What cannot be read is set aside as `index.corrupt-…`, with a line in the
    /// log.
    pub fn open(dir: &Path, now: SystemTime) -> (Journal, Records) {
        match open(dir) {
            Ok((db, records)) => (Journal::writing(db), records),
            Err(why) => {
                warn!(%why, "the index cannot be read: it is set aside and rebuilt from the files; permissions are asked again");
                let aside = dir.with_file_name(format!("index.corrupt-{}", seconds(now)));
                if let Err(error) = crate::fs::rename(dir, &aside) {
                    warn!(%error, "the old index cannot be set aside: seawall goes on without one");
                    return (Journal::off(), Records::default());
                }
                info!(path = %aside.display(), "the old index is there");
                match open(dir) {
                    Ok((db, records)) => (Journal::writing(db), records),
                    Err(why) => {
                        warn!(%why, "no index can be made: seawall goes on without one, and the next start is cold");
                        (Journal::off(), Records::default())
                    }
                }
            }
        }
    }

    fn writing(db: sled::Db) -> Journal {
        let (orders, received) = mpsc::channel();
        let thread = std::thread::Builder::new().name("journal".into());
        let spawned = thread.spawn(move || {
            let closed = catch_unwind(AssertUnwindSafe(|| write_all(&db, &received))).unwrap_or_else(|_| {
                warn!("the index broke: seawall goes on without one, and the next start is cold");
                None
            });
            drop(db);
            // Said after the file is closed: who waits may open it again.
            closed.map(|done| done.send(()));
        });
        match spawned {
            Ok(_) => Journal(Some(Arc::new(Mutex::new(orders)))),
            Err(error) => {
                warn!(%error, "no thread for the index: seawall goes on without one");
                Journal::off()
            }
        }
    }

    /// Writes what is known of a blob.
    pub fn write_blob(&self, digest: &Digest, record: &BlobRecord) {
        self.write(Table::Blobs, digest.to_string(), record);
    }

    /// Takes out a blob.
    pub fn forget_blob(&self, digest: &Digest) {
        self.order(Order::Write(Table::Blobs, digest.to_string().into_bytes(), None));
    }

    /// Writes a value under a key.
    pub fn write(&self, table: Table, key: String, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_vec(value) {
            self.order(Order::Write(table, key.into_bytes(), Some(value)));
        }
    }

    /// Takes out a key.
    pub fn remove(&self, table: Table, key: String) {
        self.order(Order::Write(table, key.into_bytes(), None));
    }

    /// Writes what was ordered and closes the file. Blocks.
    pub fn close(&self) {
        let (done, closed) = mpsc::channel();
        self.order(Order::Close(done));
        let _ = closed.recv_timeout(Duration::from_secs(5));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.0 {
            // Where nobody takes orders any more, the log has said so.
            let _ = orders.lock().send(order);
        }
    }
}

fn open(dir: &Path) -> Result<(sled::Db, Records), String> {
    let work = || -> Result<(sled::Db, Records), sled::Error> {
        let db = sled::Config::new().path(dir).cache_capacity(PAGES).flush_every_ms(None).open()?;
        if db.get("schema")?.is_some_and(|schema| schema != SCHEMA) {
            for table in db.tree_names() {
                db.drop_tree(table).ok();
            }
        }
        db.insert("schema", SCHEMA)?;
        let records = Records {
            blobs: read::<BlobRecord>(&db, Table::Blobs)?
                .into_iter()
                .filter_map(|(digest, record)| Some((digest.parse().ok()?, record)))
                .collect(),
            tags: read_raw(&db, Table::Tags)?,
            public: read::<u64>(&db, Table::Public)?,
            challenges: read_raw(&db, Table::Challenges)?,
            logins: read::<u64>(&db, Table::Logins)?,
            quota: read_raw(&db, Table::Quota)?,
        };
        Ok((db, records))
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_) => Err("it made its reader panic".to_owned()),
    }
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

/// Takes what has gathered, writes it, and syncs at most once a second. Returns whom to tell that it is closed.
fn write_all(db: &sled::Db, orders: &mpsc::Receiver<Order>) -> Option<Sender<()>> {
    let mut unsynced: Option<Instant> = None;
    loop {
        let wait = unsynced.map_or(FLUSH_EVERY, |since| FLUSH_EVERY.saturating_sub(since.elapsed()));
        match orders.recv_timeout(wait) {
            Ok(Order::Write(table, key, value)) => {
                let since = *unsynced.get_or_insert_with(now);
                if let Err(error) = apply(db, table, key, value) {
                    warn!(%error, "the index cannot be written: seawall goes on without one, and the next start is cold");
                    return None;
                }
                if since.elapsed() < FLUSH_EVERY {
                    continue;
                }
            }
            Ok(Order::Close(done)) => {
                let _ = db.flush();
                return Some(done);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        if unsynced.take().is_none() {
            continue;
        }
        if let Err(error) = db.flush() {
            warn!(%error, "the index cannot be written: seawall goes on without one, and the next start is cold");
            return None;
        }
    }
}

/// Of the thread's own timer, which no test moves.
#[expect(clippy::disallowed_methods, reason = "a timer, not a time")]
fn now() -> Instant {
    Instant::now()
}

fn apply(db: &sled::Db, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), sled::Error> {
    let tree = db.open_tree(table.name())?;
    match value {
        Some(value) => tree.insert(key, value)?,
        None => tree.remove(key)?,
    };
    Ok(())
}
