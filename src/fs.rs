//! The one place that touches the file system, so that every error carries its path.

#![expect(clippy::disallowed_methods, reason = "this is the place they are kept for")]

mod beside;
mod memory;
mod outbox;
mod owner;
mod plain;
mod tree;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;

pub use memory::memory;
pub use outbox::{Hold, MOST as MOST_POSTED, Outbox, Uncached, is_stand_in};
pub use owner::{Owner, create_dir_of_owner, give, owner, replace_for};
pub use plain::{is_own, open_plain};
pub use tree::{Expected, Present, Tree};

/// What went wrong, and with which file.
#[derive(Debug)]
pub struct FsError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FsError {
    /// The operating system's word for it.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The disk, or the quota on it, has no room.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }

    /// The disk, or the file system on it, cannot give back what was written.
    pub fn is_damage(&self) -> bool {
        let damage = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];
        self.source.raw_os_error().is_some_and(|code| damage.contains(&Errno::from_raw_os_error(code)))
    }
}

/// Whether an error says that the disk, or the quota on it, has no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.verb, self.path.display(), self.source)
    }
}

impl std::error::Error for FsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, FsError>;

fn at<T>(verb: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| FsError { verb, path: path.to_owned(), source })
}

/// What [`list`] finds.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its last part, if that is text.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: SystemTime,
    /// A plain file, not a directory or anything else.
    pub is_file: bool,
}

/// Makes a directory and those above it, mode 0700.
pub fn create_dir(path: &Path) -> Result<()> {
    at("create", path, std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    at("read", path, std::fs::read(path))
}

/// Reads a whole file that is text.
pub fn read_to_string(path: &Path) -> Result<String> {
    at("read", path, std::fs::read_to_string(path))
}

/// Whether something is there.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether something is there, which cannot be said of what this process may not look into.
///
/// # Errors
/// It may not.
pub fn is_there(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => at("look at", path, Err(error)),
    }
}

/// Whether this process may make files in a directory, or make the directory.
///
/// # Errors
/// It may not.
pub fn writable(dir: &Path) -> Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let there = dir.ancestors().find(|path| path.as_os_str().is_empty() || exists(path)).unwrap_or(dir);
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let asked = accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty());
    at("write to", there, asked.map_err(io::Error::from))
}

/// How many descriptors this process may have, once it has asked for as many as it is allowed.
pub fn most_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What is refused leaves it as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// The user that this process runs as, by name and number.
pub fn user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut named = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = named.find(|fields| fields.get(2).is_some_and(|uid| *uid == id.to_string()));
    named.map_or_else(|| format!("uid {id}"), |fields| format!("{} (uid {id})", fields[0]))
}

/// The permission bits of a file, `0o600` say.
pub fn mode(path: &Path) -> Result<u32> {
    at("stat", path, path.metadata()).map(|m| m.permissions().mode() & 0o7777)
}

/// Bytes of a file.
pub fn size(path: &Path) -> Result<u64> {
    at("stat", path, path.metadata()).map(|m| m.size())
}

/// Bytes of an open file.
pub fn len(file: &File, path: &Path) -> Result<u64> {
    at("stat", path, file.metadata()).map(|m| m.size())
}

/// Whether an open file still has a name, and this length. Waits for no disk where
/// [`answers_at_once`].
pub fn is_in_place(file: &File, len: u64) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() > 0 && meta.size() == len)
}

/// Opens for reading.
pub fn open(path: &Path) -> Result<File> {
    at("open", path, File::open(path))
}

/// Opens for reading and writing; makes it, mode 0600, if it is not there. What is in it stays.
pub fn open_for_append(path: &Path) -> Result<File> {
    at("open", path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path))
}

/// Opens for reading and writing what is there.
pub fn open_to_write(path: &Path) -> Result<File> {
    at("open", path, OpenOptions::new().read(true).write(true).open(path))
}

/// Writes a file that must not be there yet, with these permission bits, and syncs it. One that
/// cannot be written whole is not there afterwards.
pub fn create_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = at("create", path, file)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    at("write", path, written)
}

/// Replaces a file whole, or makes it, with exactly these permissions: a reader sees the old bytes
/// or the new, never a part.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    at("write", path, beside::replace(path, mode, None, bytes))
}

/// A path whose last part has this at its end, too.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Replaces a file whole, or makes it, mode 0600, in a directory that is ours alone: what was written
/// is there after a kill, and may not be after a power cut.
pub fn replace_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = with_suffix(path, ".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&beside).and_then(|mut file| file.write_all(bytes));
    at("write", &beside, written).and_then(|()| rename(&beside, path))
}

/// Moves a file within one file system; what was at `to` is replaced.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    at("move", from, std::fs::rename(from, to))
}

/// Removes a file. It is no error if it was not there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => at("remove", path, other),
    }
}

/// Makes what was written and moved in a directory survive a power cut.
pub fn sync_dir(path: &Path) -> Result<()> {
    at("sync", path, File::open(path).and_then(|d| d.sync_all()))
}

/// What is in a directory, in no order. What vanishes meanwhile is left out.
pub fn list(path: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in at("list", path, std::fs::read_dir(path))? {
        let entry = at("list", path, entry)?;
        let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        found.push(Found {
            path: entry.path(),
            name,
            size: meta.size(),
            modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            is_file: meta.is_file(),
        });
    }
    Ok(found)
}

/// The names of the plain files in a directory, in no order: what the directory itself says,
/// without a look at each file.
pub fn names(path: &Path, mut each: impl FnMut(&str)) -> Result<()> {
    for entry in at("list", path, std::fs::read_dir(path))? {
        let entry = at("list", path, entry)?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if let (true, Some(name)) = (is_file, entry.file_name().to_str()) {
            each(name);
        }
    }
    Ok(())
}

/// Bytes of a file, and when it was last written.
pub fn size_and_modified(path: &Path) -> Result<(u64, SystemTime)> {
    at("stat", path, path.metadata()).map(|m| (m.size(), m.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
}

/// Bytes that may still be written to the file system that holds `path`.
pub fn free_space(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).map_err(io::Error::from);
    at("stat the file system of", path, stat).map(|s| s.f_bavail.saturating_mul(s.f_frsize))
}

/// Bytes of the file system that holds `path`.
pub fn size_of_file_system(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path).map_err(io::Error::from);
    at("stat the file system of", path, stat).map(|s| s.f_blocks.saturating_mul(s.f_frsize))
}

/// Reads up to the whole of `buffer` from `offset`; fewer bytes only at the end.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// [`read_at`] of a file with a name.
pub fn read_whole_at(file: &File, path: &Path, buffer: &mut [u8], offset: u64) -> Result<usize> {
    at("read", path, read_at(file, buffer, offset))
}

/// Reads what the page cache has from `offset`, without ever waiting for the disk: `None` when it
/// would have to.
pub fn read_cached_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    use rustix::io::Errno;
    match read_without_waiting(file, buffer, offset) {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the kernel itself knows an open file's length and bytes: not those of NFS or FUSE, where
/// it asks somebody for them.
pub fn answers_at_once(file: &File) -> bool {
    use rustix::io::Errno;
    !matches!(read_without_waiting(file, &mut [0], 0), Err(Errno::OPNOTSUPP | Errno::NOSYS))
}

fn read_without_waiting(file: &File, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    rustix::io::preadv2(file, &mut [io::IoSliceMut::new(buffer)], offset, rustix::io::ReadWriteFlags::NOWAIT)
}

/// Whether the page cache seems to have `len` bytes from `offset`: it has the first and the last of
/// them.
fn is_cached(file: &File, offset: u64, len: usize) -> bool {
    let last = (offset + len as u64).saturating_sub(1);
    [last, offset].into_iter().all(|at| matches!(read_cached_at(file, &mut [0], at), Ok(Some(1))))
}

/// Writes all of `bytes` at `offset`.
pub fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    at("write", path, file.write_all_at(bytes, offset))
}

/// Reads a part of `file` in steps, and shows each to `each`.
pub fn scan(file: &File, path: &Path, part: std::ops::Range<u64>, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; 1 << 18];
    let mut at_byte = part.start;
    while at_byte < part.end {
        let want = buffer.len().min(usize::try_from(part.end - at_byte).unwrap_or(usize::MAX));
        let n = at("read", path, read_at(file, &mut buffer[..want], at_byte))?;
        if n == 0 {
            return at("read", path, Err(io::ErrorKind::UnexpectedEof.into()));
        }
        each(&buffer[..n]);
        at_byte += n as u64;
    }
    Ok(())
}

/// Sets how long a file is.
pub fn truncate(file: &File, path: &Path, size: u64) -> Result<()> {
    at("cut", path, file.set_len(size))
}

/// Whether this is the file of that name.
pub fn is_named(file: &File, path: &Path) -> Result<bool> {
    let here = at("look at", path, file.metadata())?;
    let named = at("look at", path, std::fs::metadata(path))?;
    Ok((here.dev(), here.ino()) == (named.dev(), named.ino()))
}

/// Whether an open file has a name yet, in any directory.
pub fn has_name(file: &File, path: &Path) -> Result<bool> {
    at("look at", path, file.metadata()).map(|found| found.nlink() > 0)
}

/// Makes what was written to `file` survive a power cut.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    at("sync", path, file.sync_data())
}

/// Takes the one lock of a directory: two processes on one cache would take each other's files
/// away. The lock ends with the returned file, or with the process.
pub fn lock(path: &Path) -> Result<File> {
    let file = open_for_append(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => at("lock", path, Err(io::ErrorKind::WouldBlock.into())),
        Err(std::fs::TryLockError::Error(e)) => at("lock", path, Err(e)),
    }
}

/// Makes a directory and those above it that others may read too, mode 0755.
pub fn create_shared_dir(path: &Path) -> Result<()> {
    at("create", path, std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere/at-all");
        let said = read(&missing).unwrap_err().to_string();
        assert!(said.starts_with("cannot read ") && said.contains("nowhere/at-all"), "{said}");
    }

    #[test]
    fn replace_leaves_the_new_bytes_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        replace(&path, 0o600, b"one").unwrap();
        replace(&path, 0o600, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(mode(&path).unwrap(), 0o600);
        assert_eq!(list(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_directory_is_locked_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        lock(&path).unwrap();
    }

    #[test]
    fn cached_reads_see_what_was_written_and_stop_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = open_for_append(&path).unwrap();
        write_at(&file, &path, b"hello", 0).unwrap();
        let mut buffer = [0; 16];
        if let Some(n) = read_cached_at(&file, &mut buffer, 1).unwrap() {
            assert_eq!(&buffer[..n], b"ello");
        }
        assert_eq!(read_at(&file, &mut buffer, 5).unwrap(), 0);
    }
}
