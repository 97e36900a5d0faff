//! To whom files belong. What the user root writes for a service is the service's to read.

use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use super::{Result, at, beside, create_dir, exists};

/// The user and the group that something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    user: u32,
    group: u32,
}

/// Whose it is.
pub fn owner(path: &Path) -> Result<Owner> {
    at("look at", path, path.metadata()).map(|found| Owner { user: found.uid(), group: found.gid() })
}

/// Gives what is there to its owner-to-be, where this process is root's: nobody else can.
pub fn give(path: &Path, to: Owner) -> Result<()> {
    if !is_root() || owner(path)? == to {
        return Ok(());
    }
    at("give away", path, lchown(path, Some(to.user), Some(to.group)))
}

/// Makes a directory and those above it, mode 0700, whose owner is that of the one that was there.
pub fn create_dir_of_owner(path: &Path) -> Result<()> {
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !exists(path);
    let new: Vec<&Path> = path.ancestors().take_while(is_new).collect();
    create_dir(path)?;
    for dir in new.into_iter().rev() {
        let above = dir.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        give(dir, owner(above)?)?;
    }
    Ok(())
}

/// Replaces a file whole, or makes it, with exactly these permissions: a reader sees the old bytes
/// or the new, never a part. It belongs to `to`, where this process is root's.
pub fn replace_for(path: &Path, to: Owner, mode: u32, bytes: &[u8]) -> Result<()> {
    at("write", path, beside::replace(path, mode, is_root().then_some((to.user, to.group)), bytes))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody else, where the test may make somebody else's files.
    fn other() -> Option<Owner> {
        is_root().then_some(Owner { user: 65_532, group: 65_533 })
    }

    #[test]
    fn what_root_writes_for_another_is_the_others() {
        let Some(other) = other() else { return };
        let dir = tempfile::tempdir().unwrap();
        give(dir.path(), other).unwrap();
        let below = dir.path().join("a/b");
        create_dir_of_owner(&below).unwrap();
        create_dir_of_owner(&below).unwrap();
        let file = below.join("file");
        replace_for(&file, owner(&below).unwrap(), 0o600, b"x").unwrap();
        for path in [dir.path().join("a"), below, file] {
            assert_eq!(owner(&path).unwrap(), other, "{}", path.display());
        }
    }

    #[test]
    fn what_is_ours_stays_ours() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, below) = (owner(dir.path()).unwrap(), dir.path().join("a"));
        create_dir_of_owner(&below).unwrap();
        replace_for(&below.join("file"), ours, 0o640, b"x").unwrap();
        assert_eq!((owner(&below).unwrap(), owner(&below.join("file")).unwrap()), (ours, ours));
        assert_eq!(crate::fs::mode(&below.join("file")).unwrap(), 0o640);
    }
}
