//! A file that is written beside another one and then takes its place.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Gone when it is dropped before it took a place.
pub(super) struct Beside<'a> {
    dir: &'a File,
    name: String,
    is_placed: bool,
}

impl<'a> Beside<'a> {
    /// Writes and syncs a file of a name that cannot be guessed, with exactly these permissions, and
    /// `owner` (user, group) where it is not ours.
    pub(super) fn write(dir: &'a File, mode: u32, owner: Option<(u32, u32)>, bytes: &[u8]) -> io::Result<Beside<'a>> {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("the system has no random numbers"))?;
        let name = format!(".seawall-{}", HEXLOWER.encode(&random));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, &*name, flags, Mode::RUSR | Mode::WUSR)?);
        let beside = Beside { dir, name, is_placed: false };
        file.write_all(bytes)?;
        let ours = file.metadata()?;
        if let Some((user, group)) = owner.filter(|owner| *owner != (ours.uid(), ours.gid())) {
            fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(beside)
    }

    /// Becomes `name` and replaces what is there.
    pub(super) fn replace(self, name: &OsStr) -> io::Result<()> {
        rustix::fs::renameat(self.dir, &*self.name, self.dir, name).map_err(|errno| match errno {
            Errno::BUSY => io::Error::other("it is a mount point (a container's hosts file, say): write it by hand"),
            errno => errno.into(),
        })?;
        self.placed()
    }

    /// Becomes `name`, which must not be there.
    pub(super) fn place(self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(self.dir, &*self.name, self.dir, name, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => self.replace(name),
                Err(errno) => Err(errno.into()),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            },
            done => done.map_err(io::Error::from).and_then(|()| self.placed()),
        }
    }

    fn placed(mut self) -> io::Result<()> {
        self.is_placed = true;
        sync(self.dir)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = rustix::fs::unlinkat(self.dir, &*self.name, AtFlags::empty());
        }
    }
}

/// Replaces the file at a path, or makes it: see [`Beside::write`].
pub(super) fn replace(path: &Path, mode: u32, owner: Option<(u32, u32)>, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = File::from(rustix::fs::open(dir, flags, Mode::empty())?);
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    Beside::write(&dir, mode, owner, bytes)?.replace(name)
}

/// Makes what was moved in a directory survive a power cut, where it can be opened for that.
pub(super) fn sync(dir: &File) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(dir) = rustix::fs::openat(dir, ".", flags, Mode::empty()) else { return Ok(()) };
    match rustix::fs::fsync(&dir) {
        Err(Errno::INVAL) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}
