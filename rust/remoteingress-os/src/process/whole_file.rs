//! Replaces a file that only this process's user may read, at one moment.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes `bytes` the content of the file at `path`, in a directory that is made where it is missing. At any moment, also
/// after the machine has lost its power, the file has its old content or its new one.
///
/// # Errors
/// The file can't be written. Then it has its old content.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let draft = path.with_extension("new");
    // One that was killed while it wrote may have left a draft, and not with this mode.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_is_its_owners_alone() {
        let name = format!(
            "whole-file-{:x}",
            u64::from_be_bytes(crate::random::bytes())
        );
        let directory = std::env::temp_dir().join(name);
        let path = directory.join("below").join("state.json");
        replace(&path, b"one").unwrap();
        fs::write(path.with_extension("new"), "half").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!path.with_extension("new").exists());
        fs::remove_dir_all(&directory).unwrap();
        assert!(replace(Path::new("/proc/none/state.json"), b"").is_err());
    }
}
