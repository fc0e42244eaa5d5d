//! TLVs after the fixed part of Hello and Welcome: their types, which are one number space, and how their values are read.

use super::error::HandshakeError;
use crate::wire::tlv::Cursor;

/// The longest software version that an end tells the other, in bytes of printable ASCII.
pub const MAX_SOFTWARE_VERSION: usize = 64;

pub(super) const RESUME: u16 = 1;
pub(super) const SOFTWARE_VERSION: u16 = 2;
pub(super) const OBSERVED_ADDRESS: u16 = 3;
pub(super) const RESUME_TIMEOUT: u16 = 4;
pub(super) const SESSIONS_WANTED: u16 = 5;

/// Checks a software version: it ends up in logs and status, so nothing but printable ASCII.
pub(super) fn check_software_version(version: &[u8]) -> Result<&str, HandshakeError> {
    if version.len() > MAX_SOFTWARE_VERSION
        || !version.iter().all(|byte| matches!(byte, 0x20..=0x7e))
    {
        return Err(HandshakeError::Malformed(
            "software version is no short ASCII text",
        ));
    }
    std::str::from_utf8(version)
        .map_err(|_| HandshakeError::Malformed("software version is no text"))
}

/// Reads a value that is one whole number, in seconds.
pub(super) fn seconds(value: &[u8]) -> Result<u32, HandshakeError> {
    let mut cursor = Cursor::new(value);
    let seconds = cursor.u32()?;
    if cursor.is_empty() {
        Ok(seconds)
    } else {
        Err(HandshakeError::Malformed("resume timeout is too long"))
    }
}

/// Reads a value that is one whole number of sessions.
pub(super) fn sessions(value: &[u8]) -> Result<u16, HandshakeError> {
    let mut cursor = Cursor::new(value);
    let sessions = cursor.u16()?;
    if cursor.is_empty() {
        Ok(sessions)
    } else {
        Err(HandshakeError::Malformed("sessions wanted is too long"))
    }
}

/// Stores the value of an extension that may come once.
pub(super) fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), HandshakeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HandshakeError::Malformed("an extension comes twice")),
    }
}
