//! Protocols and ranges of ports, as several messages have them.

use super::error::ControlError;
use crate::wire::header::Protocol;
use crate::wire::tlv::Cursor;

pub(super) fn read_protocol(cursor: &mut Cursor<'_>) -> Result<Protocol, ControlError> {
    Protocol::from_wire(cursor.u8()?).ok_or(ControlError::Malformed("unknown protocol"))
}

/// Reads a range of ports and how many they are.
pub(super) fn read_range(cursor: &mut Cursor<'_>) -> Result<(u16, u16, usize), ControlError> {
    let (first, last) = (cursor.u16()?, cursor.u16()?);
    let count = count_range(first, last)?;
    Ok((first, last, count))
}

pub(super) fn count_range(first: u16, last: u16) -> Result<usize, ControlError> {
    if first == 0 || first > last {
        return Err(ControlError::Malformed("port range is zero or reversed"));
    }
    Ok(usize::from(last - first) + 1)
}
