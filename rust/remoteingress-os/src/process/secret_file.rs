//! Reads a secret that is alone in a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use remoteingress_proto::token::secret::Secret;
use zeroize::Zeroizing;

/// The text of a file without the line end after it. Of one that is longer than `most` bytes, some more than these come: the
/// caller's check of the length finds it.
///
/// # Errors
/// The file can't be read, or isn't UTF-8, as a sentence without its content.
pub fn read(path: &Path, most: usize) -> Result<Secret, String> {
    // With a line end, and one byte by which a longer file shows.
    let most = most + 3;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most));
    let failed = |error: io::Error| format!("failed to read it: {error}");
    let file = File::open(path).map_err(failed)?;
    file.take(most as u64)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it isn't UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Secret::new(text.to_owned()))
}
