//! Files as they should be: plain ones, of the user who runs this.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::{Result, at};

/// Opens for reading what is a plain file. A pipe without a writer is not waited for.
pub fn open_plain(path: &Path) -> Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path).and_then(|file| {
        let is_plain = file.metadata()?.is_file();
        if is_plain { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file")) }
    });
    at("open", path, opened)
}

/// Whether what is there is the user's who runs this. What is not there is nobody else's.
pub fn is_own(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).map_or(true, |found| found.uid() == own)
}
