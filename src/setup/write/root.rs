//! The files of a machine whose root directory is somewhere here. Nothing outside of it is touched: symbolic links lead where they
//! would lead on that machine.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::WriteError;
use crate::fs::{self, Stat};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

#[derive(Clone, Copy, Debug)]
pub(super) struct Root<'a>(pub(super) &'a Path);

/// A file as it is.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) bytes: Vec<u8>,
    pub(super) stat: Stat,
}

impl Root<'_> {
    /// Where `path` of that machine is here.
    pub(super) fn place(self, path: &Path) -> Result<PathBuf, WriteError> {
        let mut left: VecDeque<OsString> = names(path);
        let mut place: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                place.pop();
                continue;
            }
            place.push(name);
            let Some(target) = fs::read_link(&self.join(&place))? else { continue };
            links += 1;
            if links > MOST_LINKS {
                return Err(WriteError::unfit(path, "too many symbolic links"));
            }
            place.pop();
            if target.is_absolute() {
                place.clear();
            }
            for name in names(&target).into_iter().rev() {
                left.push_front(name);
            }
        }
        Ok(self.join(&place))
    }

    fn join(self, names: &[OsString]) -> PathBuf {
        self.0.join(names.iter().collect::<PathBuf>())
    }

    /// The file at `path`, if one is there.
    pub(super) fn read(self, path: &Path) -> Result<Option<Present>, WriteError> {
        let place = self.place(path)?;
        match fs::stat(&place)? {
            None => Ok(None),
            Some(stat) if !stat.is_file => Err(WriteError::unfit(path, "it is not a file")),
            Some(stat) => Ok(Some(Present { bytes: fs::read(&place)?, stat })),
        }
    }

    /// Replaces a file whole; permissions and owner stay, or are `mode` and whoever runs this.
    pub(super) fn write(self, path: &Path, mode: u32, bytes: &[u8]) -> Result<(), WriteError> {
        let place = self.place(path)?;
        let stat = fs::stat(&place)?;
        Ok(fs::replace_as(&place, mode, stat.as_ref(), bytes)?)
    }

    pub(super) fn remove(self, path: &Path) -> Result<(), WriteError> {
        Ok(fs::remove(&self.place(path)?)?)
    }

    /// The directories that must be made before `path` can be written, outer ones first, as paths without links.
    pub(super) fn missing_dirs(self, path: &Path) -> Result<Vec<PathBuf>, WriteError> {
        let parent = self.place(path.parent().unwrap_or(path))?;
        let mut missing = Vec::new();
        for dir in parent.ancestors() {
            let Ok(inside) = dir.strip_prefix(self.0) else { break };
            match fs::stat(dir)? {
                Some(stat) if stat.is_file => return Err(WriteError::unfit(path, "a directory above it is a file")),
                Some(_) => break,
                None => missing.push(Path::new("/").join(inside)),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    pub(super) fn make_dir(self, path: &Path, mode: u32) -> Result<(), WriteError> {
        Ok(fs::make_dir(&self.place(path)?, mode)?)
    }

    /// Whether it is gone now: one that holds something stays.
    pub(super) fn remove_empty_dir(self, path: &Path) -> Result<bool, WriteError> {
        Ok(fs::remove_empty_dir(&self.place(path)?)?)
    }
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
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_where_they_would_lead_on_that_machine() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root(dir.path());
        fs::create_shared_dir(&dir.path().join("data/docker")).unwrap();
        fs::create_shared_dir(&dir.path().join("etc")).unwrap();
        symlink("/data/docker", dir.path().join("etc/docker")).unwrap();
        symlink("../../../../outside", dir.path().join("etc/up")).unwrap();
        symlink("loop", dir.path().join("etc/loop")).unwrap();
        let place = |path: &str| root.place(Path::new(path)).unwrap().strip_prefix(dir.path()).unwrap().to_owned();
        assert_eq!(place("/etc/docker/daemon.json"), Path::new("data/docker/daemon.json"));
        assert_eq!(place("/etc/up/x"), Path::new("outside/x"));
        assert_eq!(place("/../../x"), Path::new("x"));
        assert_eq!(place("/etc/new/dir/x"), Path::new("etc/new/dir/x"));
        assert!(root.place(Path::new("/etc/loop")).is_err());
        assert_eq!(root.missing_dirs(Path::new("/etc/docker/certs.d/h/x")).unwrap().len(), 2);
    }
}
