//! The files of a system whose root directory is somewhere here. Nothing outside of it is touched:
//! symbolic links lead where they would lead on that system.
//!
//! Each step is taken from a handle on the directory before it, so that what was looked at is what
//! is used, whoever renames things meanwhile. Whoever owns a directory or a link decides where it
//! leads, so from what belongs to neither root nor us the way goes on only to what belongs to the
//! same user (systemd-tmpfiles: "unsafe path transition").

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::beside::{self, Beside};
use super::{Result, at};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// A system's root directory.
#[derive(Debug)]
pub struct Tree {
    root: Seen,
    path: PathBuf,
    us: u32,
}

/// A file as it was read.
#[derive(Debug)]
pub struct Present {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    id: (u64, u64),
}

/// What must be at a place that is written.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// Whatever is there.
    Anything,
    /// What was read there; `None`: nothing.
    AsRead(Option<&'a Present>),
}

/// What is at a step of the way.
#[derive(Debug)]
struct Seen {
    name: OsString,
    /// For what can be done without reading: `O_PATH`.
    handle: File,
    meta: Metadata,
}

/// Where a path leads.
struct Place {
    /// The directories below the root, links followed.
    above: Vec<Seen>,
    found: Option<Seen>,
    /// What is not there, outer ones first.
    missing: Vec<OsString>,
}

impl Seen {
    fn of(dir: &File, name: &OsStr) -> io::Result<Option<Seen>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other?),
        };
        let meta = handle.metadata()?;
        Ok(Some(Seen { name: name.to_owned(), handle, meta }))
    }

    fn id(&self) -> (u64, u64) {
        (self.meta.dev(), self.meta.ino())
    }

    fn link(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.handle, "", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Opened for more than looking; it must still be the same.
    fn open(&self, dir: &File, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(dir, &*self.name, flags, Mode::empty())?);
        let meta = file.metadata()?;
        if (meta.dev(), meta.ino()) != self.id() { Err(changed()) } else { Ok(file) }
    }
}

impl Place {
    /// On that system, without links.
    fn path(&self) -> PathBuf {
        let there = self.above.iter().chain(&self.found).map(|seen| &seen.name);
        let names: PathBuf = there.chain(&self.missing).collect();
        Path::new("/").join(names)
    }

    /// The directory it is in, or would be in.
    fn dir<'a>(&'a self, tree: &'a Tree) -> &'a Seen {
        self.above.last().unwrap_or(&tree.root)
    }

    /// Its name there.
    fn name(&self) -> io::Result<&OsStr> {
        match (&self.found, &*self.missing) {
            (Some(seen), _) => Ok(&seen.name),
            (None, [name]) => Ok(name),
            (None, []) => Err(io::ErrorKind::IsADirectory.into()),
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Tree {
    /// The system whose root is the directory `path`.
    pub fn open(path: &Path) -> Result<Tree> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || {
            let handle = File::from(rustix::fs::open(path, flags, Mode::empty())?);
            let meta = handle.metadata()?;
            Ok(Seen { name: OsString::new(), handle, meta })
        };
        let root = at("use as the root directory of a system:", path, open())?;
        Ok(Tree { root, path: path.to_owned(), us: rustix::process::geteuid().as_raw() })
    }

    /// Where it is here.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `path` leads on that system, without links.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf> {
        at("follow", path, self.walk(path).map(|place| place.path()))
    }

    /// Whether something is at `path`.
    pub fn has(&self, path: &Path) -> bool {
        self.walk(path).is_ok_and(|place| place.missing.is_empty())
    }

    /// The file at `path`, if one is there; one of more than `most` bytes is refused.
    pub fn read(&self, path: &Path, most: u64) -> Result<Option<Present>> {
        at("read", path, self.walk(path).and_then(|place| self.read_at(&place, most)))
    }

    fn read_at(&self, place: &Place, most: u64) -> io::Result<Option<Present>> {
        let Some(seen) = &place.found else { return Ok(None) };
        if !seen.meta.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        seen.open(&place.dir(self).handle, OFlags::RDONLY)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(Some(Present { bytes, mode: seen.meta.mode() & 0o7777, id: seen.id() }))
    }

    /// What is in the directory `path`, as paths on that system; nothing if it is not there.
    pub fn list(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let list = || {
            let place = self.walk(path)?;
            let seen = match &place.found {
                Some(seen) => seen,
                None if place.missing.is_empty() => &self.root,
                None => return Ok(Vec::new()),
            };
            let mut paths = Vec::new();
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            for entry in rustix::fs::Dir::new(rustix::fs::openat(&seen.handle, ".", flags, Mode::empty())?)? {
                let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
                if name != "." && name != ".." {
                    paths.push(path.join(name));
                }
            }
            paths.sort();
            Ok(paths)
        };
        at("list", path, list())
    }

    /// Replaces a file whole, or makes it: permissions and owner stay, or are `mode` and the
    /// directory's owner.
    pub fn write(&self, path: &Path, mode: u32, expected: Expected<'_>, bytes: &[u8]) -> Result<()> {
        at("write", path, self.walk(path).and_then(|place| self.write_at(&place, mode, expected, bytes)))
    }

    fn write_at(&self, place: &Place, mode: u32, expected: Expected<'_>, bytes: &[u8]) -> io::Result<()> {
        let (dir, name) = (place.dir(self), place.name()?);
        let there = place.found.as_ref().map(|seen| &seen.meta);
        if there.is_some_and(|meta| !meta.is_file()) {
            return Err(io::Error::other("it is not a file"));
        }
        let owner = match there {
            Some(meta) => Some((meta.uid(), meta.gid())),
            None => self.heir(dir),
        };
        let mode = there.map_or(mode, |meta| meta.mode() & 0o7777);
        let beside = Beside::write(&dir.handle, mode, owner, bytes)?;
        self.check(place, expected)?;
        match expected {
            Expected::AsRead(None) => beside.place(name).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => changed(),
                _ => error,
            }),
            _ => beside.replace(name),
        }
    }

    /// Who gets what is made in a directory: whoever owns it, if root may give it away.
    fn heir(&self, dir: &Seen) -> Option<(u32, u32)> {
        (self.us == 0 && dir.meta.uid() != 0).then(|| (dir.meta.uid(), dir.meta.gid()))
    }

    /// Whether it is what it was when it was read.
    fn check(&self, place: &Place, expected: Expected<'_>) -> io::Result<()> {
        let Expected::AsRead(expected) = expected else { return Ok(()) };
        let is_same = match (&place.found, expected) {
            (None, None) => true,
            (Some(seen), Some(present)) if seen.id() == present.id => {
                let now = self.read_at(place, present.bytes.len() as u64)?;
                now.is_some_and(|now| now.bytes == present.bytes)
            }
            _ => false,
        };
        if is_same { Ok(()) } else { Err(changed()) }
    }

    /// Removes a file. It is no error if nothing is there and nothing was.
    pub fn remove(&self, path: &Path, expected: Expected<'_>) -> Result<()> {
        let remove = || {
            let place = self.walk(path)?;
            self.check(&place, expected)?;
            let Some(seen) = &place.found else { return Ok(()) };
            let dir = &place.dir(self).handle;
            rustix::fs::unlinkat(dir, &*seen.name, AtFlags::empty())?;
            beside::sync(dir)
        };
        at("remove", path, remove())
    }

    /// The directories that must be made before `path` can be written, outer ones first, as paths
    /// without links.
    pub fn missing_dirs(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let missing = || {
            let place = self.walk(path.parent().unwrap_or(path))?;
            if place.found.as_ref().is_some_and(|seen| !seen.meta.is_dir()) {
                return Err(not_a_directory(&place.path()));
            }
            let deepest = place.path();
            let missing: Vec<_> = deepest.ancestors().take(place.missing.len()).map(Path::to_owned).collect();
            Ok(missing.into_iter().rev().collect())
        };
        at("write", path, missing())
    }

    /// Makes one directory with exactly these permissions; it is its directory's owner's. It is no
    /// error if it is there.
    pub fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        let make = || {
            let place = self.walk(path)?;
            let (dir, Ok(name), None) = (place.dir(self), place.name(), &place.found) else { return Ok(()) };
            match rustix::fs::mkdirat(&dir.handle, name, Mode::RWXU) {
                Err(Errno::EXIST) => return Ok(()),
                other => other?,
            }
            let made = Seen::of(&dir.handle, name)?.filter(|seen| seen.meta.uid() == self.us).ok_or_else(changed)?;
            let made = made.open(&dir.handle, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if let Some((user, group)) = self.heir(dir) {
                fchown(&made, Some(user), Some(group))?;
            }
            made.set_permissions(Permissions::from_mode(mode))
        };
        at("create", path, make())
    }

    /// Removes a directory if it is empty. Returns whether it was removed.
    pub fn remove_empty_dir(&self, path: &Path) -> Result<bool> {
        let remove = || {
            let place = self.walk(path)?;
            let Some(seen) = &place.found else { return Ok(!place.missing.is_empty()) };
            match rustix::fs::unlinkat(&place.dir(self).handle, &*seen.name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
                other => other.map(|()| true).map_err(io::Error::from),
            }
        };
        at("remove", path, remove())
    }

    /// Waits for the one lock of a directory, which ends with the returned file. `None`: the
    /// directory was removed, or is another one by now.
    pub fn lock(&self, path: &Path) -> Result<Option<File>> {
        let lock = || {
            let place = self.walk(path)?;
            let Some(seen) = &place.found else { return Ok(None) };
            let dir = seen.open(&place.dir(self).handle, OFlags::RDONLY | OFlags::DIRECTORY)?;
            rustix::fs::flock(&dir, FlockOperation::LockExclusive)?;
            let again = self.walk(path)?;
            Ok(again.found.is_some_and(|now| now.id() == seen.id()).then_some(dir))
        };
        at("lock", path, lock())
    }

    fn walk(&self, path: &Path) -> io::Result<Place> {
        let mut left = names(path);
        let mut place = Place { above: Vec::new(), found: None, missing: Vec::new() };
        let (mut links, mut owner) = (0, self.root.meta.uid());
        while let Some(name) = left.pop_front() {
            if let Some(seen) = place.found.take() {
                if !seen.meta.is_dir() {
                    place.above.push(seen);
                    return Err(not_a_directory(&place.path()));
                }
                place.above.push(seen);
            }
            if name == ".." {
                if place.missing.pop().is_none() {
                    place.above.pop();
                    owner = self.pass(owner, place.dir(self), &place)?;
                }
                continue;
            }
            let next = if place.missing.is_empty() { Seen::of(&place.dir(self).handle, &name)? } else { None };
            let Some(seen) = next else {
                place.missing.push(name);
                continue;
            };
            owner = self.pass(owner, &seen, &place)?;
            if !seen.meta.is_symlink() {
                place.found = Some(seen);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::other("too many symbolic links"));
            }
            let target = seen.link()?;
            if target.is_absolute() {
                place.above.clear();
                owner = self.pass(owner, &self.root, &place)?;
            }
            names(&target).into_iter().rev().for_each(|name| left.push_front(name));
        }
        if place.found.is_none() && place.missing.is_empty() {
            place.found = place.above.pop();
        }
        Ok(place)
    }

    /// Whether the way may go from what is `owner`'s to `next`: then whose that is.
    fn pass(&self, owner: u32, next: &Seen, place: &Place) -> io::Result<u32> {
        let theirs = next.meta.uid();
        // The root directory is the operator's word, whoever owns it.
        if owner == 0 || owner == self.us || owner == self.root.meta.uid() || owner == theirs {
            return Ok(theirs);
        }
        let path = place.path().join(&next.name);
        Err(io::Error::other(format!(
            "the way leads from what belongs to user {owner} to {}, which belongs to user {theirs}: user {owner} could lead it \
             anywhere. Write it by hand, or as user {owner}",
            path.display()
        )))
    }
}

fn changed() -> io::Error {
    io::Error::other("somebody has changed it at this moment: do this again")
}

fn not_a_directory(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not a directory", path.display()))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests;
