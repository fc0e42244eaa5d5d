//! What tells one content of a file from the next without reading it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Identity and times of a file. Two equal stamps are the same content, unless it was written twice within one step of
/// the kernel's clock (at most 10 ms): hence a watch looks once more at what it has just seen change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    /// A rename over the path brings another one.
    inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Of the inode: a copy that keeps the time of its source changes it all the same, and so does a change of mode.
    changed: (i64, i64),
    /// Not a directory, and not a pipe, whose opening waits for a writer.
    pub(crate) is_file: bool,
}

impl Stamp {
    /// Follows links.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_file: metadata.is_file(),
        })
    }
}
