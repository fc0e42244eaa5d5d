//! Big-endian fields and skippable type-length-value extensions: the bounded reading and writing
//! under every message of the handshake, the control messages and the stream header.
//!
//! A message is a fixed part, then TLVs: type `u16`, length `u16`, value. A reader skips the types
//! it doesn't know, so that a later version can add a field without breaking an earlier one.

use thiserror::Error;

/// The input ends in the middle of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a field goes beyond the end of its message")]
pub struct UnexpectedEnd;

/// A value doesn't fit its length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a value is too long for its length field")]
pub struct ValueTooLong;

/// One extension of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type, in the number space of its message.
    pub kind: u16,
    /// A slice of the message.
    pub value: &'a [u8],
}

/// Iterates over the TLVs that fill a slice; the first malformed one is yielded as an error and ends it.
#[derive(Debug, Clone)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// Of all that lies in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, UnexpectedEnd>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut cursor = Cursor::new(self.rest);
        let tlv = read_tlv(&mut cursor);
        self.rest = match tlv {
            Ok(_) => cursor.rest(),
            Err(UnexpectedEnd) => &[],
        };
        Some(tlv)
    }
}

/// Appends one TLV.
pub fn write_tlv(out: &mut Vec<u8>, kind: u16, value: &[u8]) -> Result<(), ValueTooLong> {
    let length = u16::try_from(value.len()).map_err(|_| ValueTooLong)?;
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

fn read_tlv<'a>(cursor: &mut Cursor<'a>) -> Result<Tlv<'a>, UnexpectedEnd> {
    let kind = cursor.u16()?;
    let length = cursor.u16()?;
    let value = cursor.take(usize::from(length))?;
    Ok(Tlv { kind, value })
}

/// Takes big-endian fields off the front of a slice.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], UnexpectedEnd> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], UnexpectedEnd> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, UnexpectedEnd> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, UnexpectedEnd> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, UnexpectedEnd> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, UnexpectedEnd> {
        self.array().map(u64::from_be_bytes)
    }

    /// The bytes that weren't taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn truncated_tlv_is_reported_once_and_ends_the_iteration() {
        let mut bytes = Vec::new();
        write_tlv(&mut bytes, 7, b"whole").unwrap();
        bytes.extend_from_slice(&[0, 8, 0, 2, b'x']);
        let mut tlvs = Tlvs::new(&bytes);
        let first = tlvs.next().unwrap().unwrap();
        assert_eq!((first.kind, first.value), (7, b"whole".as_slice()));
        assert_eq!(tlvs.next(), Some(Err(UnexpectedEnd)));
        assert_eq!(tlvs.next(), None);
    }

    #[test]
    fn value_of_the_maximum_length_fits_and_one_byte_more_does_not() {
        let longest = vec![0; usize::from(u16::MAX)];
        let mut out = Vec::new();
        write_tlv(&mut out, 1, &longest).unwrap();
        assert_eq!(Tlvs::new(&out).next().unwrap().unwrap().value, longest);
        let mut untouched = Vec::new();
        let result = write_tlv(&mut untouched, 1, &vec![0; longest.len() + 1]);
        assert_eq!(result, Err(ValueTooLong));
        assert!(untouched.is_empty());
    }

    proptest! {
        #[test]
        fn written_tlvs_are_read_back(
            tlvs in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..10)
        ) {
            let mut bytes = Vec::new();
            for (kind, value) in &tlvs {
                write_tlv(&mut bytes, *kind, value).unwrap();
            }
            let read: Vec<_> = Tlvs::new(&bytes)
                .map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.to_vec())).unwrap())
                .collect();
            prop_assert_eq!(read, tlvs);
        }

        #[test]
        fn random_bytes_never_panic_and_always_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Tlvs::new(&bytes).count() <= bytes.len());
        }
    }
}
