//! Type-length-value vectors: what a v2 header says beyond addresses.

use std::{fmt, iter};

use crate::crc32c;

/// The host name the client asked for (SNI): UTF-8 without NUL.
pub const AUTHORITY: u8 = 0x02;
/// The checksum of the whole header with these four bytes taken as zero.
pub const CRC32C: u8 = 0x03;
/// Padding.
pub const NOOP: u8 = 0x04;
/// Opaque bytes that tell this connection from every other.
pub const UNIQUE_ID: u8 = 0x05;
/// The id of the edge that accepted the client, in UTF-8. It lies in the range that the specification
/// leaves to applications, so from other senders it means something else (a link id from Azure).
pub const EDGE_ID: u8 = 0xEE;
/// The specification's limit for the value of [`UNIQUE_ID`], bytes.
pub const MAX_UNIQUE_ID_LENGTH: usize = 128;

/// One vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The type byte: one of the constants beside this type, or any other.
    pub kind: u8,
    /// At most 65,535 bytes.
    pub value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// A vector of any kind. Nothing is checked before it is encoded.
    pub const fn new(kind: u8, value: &'a [u8]) -> Self {
        Self { kind, value }
    }

    /// A [`UNIQUE_ID`], of at most [`MAX_UNIQUE_ID_LENGTH`] bytes.
    pub const fn unique_id(value: &'a [u8]) -> Self {
        Self::new(UNIQUE_ID, value)
    }

    /// An [`EDGE_ID`].
    pub const fn edge_id(value: &'a str) -> Self {
        Self::new(EDGE_ID, value.as_bytes())
    }

    /// Bytes on the wire.
    pub(crate) const fn encoded_length(&self) -> usize {
        LENGTH_END + self.value.len()
    }

    /// Appends the vector; its value must be shorter than 64 KiB.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let [.., high, low] = self.value.len().to_be_bytes();
        out.extend_from_slice(&[self.kind, high, low]);
        out.extend_from_slice(self.value);
    }

    /// Refuses a value that its kind doesn't allow.
    pub(crate) fn check(&self) -> Result<(), TlvError> {
        match self.kind {
            AUTHORITY if self.value.contains(&0) || str::from_utf8(self.value).is_err() => {
                Err(TlvError::Authority)
            }
            CRC32C if self.value.len() != CHECKSUM_LENGTH => Err(TlvError::ChecksumLength),
            UNIQUE_ID if self.value.len() > MAX_UNIQUE_ID_LENGTH => Err(TlvError::UniqueIdLength),
            _ => Ok(()),
        }
    }

    /// Splits the first vector off; `None` where `bytes` doesn't hold a whole one.
    fn split_first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[kind, high, low], rest) = bytes.split_first_chunk::<LENGTH_END>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length)?;
        Some((Self { kind, value }, rest))
    }
}

/// The vectors of a parsed header, in their order, all of them checked.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// Checks the vectors that fill `header` from `start` to its end.
    pub(crate) fn parse(header: &'a [u8], start: usize) -> Result<Self, TlvError> {
        let bytes = header.get(start..).unwrap_or_default();
        let mut seen = Seen::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (tlv, after) = Tlv::split_first(rest).ok_or(TlvError::Cut)?;
            seen.insert(tlv.kind)?;
            tlv.check()?;
            if tlv.kind == CRC32C {
                verify_checksum(header, header.len() - after.len(), tlv.value)?;
            }
            rest = after;
        }
        Ok(Self { bytes })
    }

    /// All vectors in their order, padding included.
    pub fn iter(&self) -> impl Iterator<Item = Tlv<'a>> + use<'a> {
        let mut rest = self.bytes;
        iter::from_fn(move || {
            let (tlv, after) = Tlv::split_first(rest)?;
            rest = after;
            Some(tlv)
        })
    }

    /// The value of the first vector of this kind.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|tlv| tlv.kind == kind)
            .map(|tlv| tlv.value)
    }

    /// The host name the client asked for.
    pub fn authority(&self) -> Option<&'a str> {
        str::from_utf8(self.get(AUTHORITY)?).ok()
    }

    /// True if the header ends with its addresses.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The fault of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// The last vector isn't whole.
    #[error("TLV reaches beyond the end of the header")]
    Cut,
    /// A kind comes twice that may come once.
    #[error("TLV {0:#04x} occurs more than once")]
    Repeated(u8),
    /// A host name that no reader should believe.
    #[error("AUTHORITY TLV isn't UTF-8 without NUL")]
    Authority,
    /// A checksum that is none of CRC-32C.
    #[error("CRC32C TLV isn't 4 bytes long")]
    ChecksumLength,
    /// The header has changed on its way, or its sender miscounts.
    #[error("CRC32C TLV doesn't match the header")]
    ChecksumMismatch,
    /// An id longer than the specification allows.
    #[error("UNIQUE_ID TLV is longer than {MAX_UNIQUE_ID_LENGTH} bytes")]
    UniqueIdLength,
}

/// The kinds met so far of those that may occur once. Two host names or ids would let two readers of one
/// header believe different ones; two checksums would make verification quadratic.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    kinds: u8,
}

impl Seen {
    pub(crate) fn insert(&mut self, kind: u8) -> Result<(), TlvError> {
        let bit = match kind {
            AUTHORITY | CRC32C | UNIQUE_ID => 1 << kind,
            _ => return Ok(()),
        };
        if self.kinds & bit != 0 {
            return Err(TlvError::Repeated(kind));
        }
        self.kinds |= bit;
        Ok(())
    }
}

/// Verifies the checksum whose four bytes end at `end` of `header`.
fn verify_checksum(header: &[u8], end: usize, value: &[u8]) -> Result<(), TlvError> {
    let checksum = crc32c::update(0, &header[..end - CHECKSUM_LENGTH]);
    let checksum = crc32c::update(checksum, &[0; CHECKSUM_LENGTH]);
    let checksum = crc32c::update(checksum, &header[end..]);
    if checksum.to_be_bytes() == value {
        Ok(())
    } else {
        Err(TlvError::ChecksumMismatch)
    }
}

/// Start of the value: after one byte of kind and two of length.
const LENGTH_END: usize = 3;
const CHECKSUM_LENGTH: usize = size_of::<u32>();
