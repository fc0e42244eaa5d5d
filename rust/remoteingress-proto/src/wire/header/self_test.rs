//! The header of a stream that tests the tunnel: it belongs to no client and no listener.
//!
//! ```text
//! 253 u8 · nonce 16 · TLVs
//! ```
//!
//! Only peers that have agreed on [`SELF_TEST`](crate::wire::features::Features::SELF_TEST) use it.

use super::{HeaderError, MAX_HEADER};
use crate::wire::tlv::{Cursor, Tlvs};

/// In place of a protocol: a number for experiments and tests (RFC 3692).
const SELF_TEST: u8 = 253;

/// Names a test, for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestNonce(pub [u8; 16]);

impl TestNonce {
    /// The header of the test's stream.
    pub fn header(self) -> Vec<u8> {
        let mut header = vec![SELF_TEST];
        header.extend_from_slice(&self.0);
        header
    }

    /// Reads a header that fills `bytes`; none if it isn't of a test.
    pub fn of_header(bytes: &[u8]) -> Result<Option<Self>, HeaderError> {
        if bytes.first() != Some(&SELF_TEST) {
            return Ok(None);
        }
        if bytes.len() > MAX_HEADER {
            return Err(HeaderError::TooLong(bytes.len()));
        }
        let mut cursor = Cursor::new(bytes);
        cursor.u8()?;
        let nonce = Self(cursor.array()?);
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(Some(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::golden;
    use crate::wire::header::StreamHeader;

    #[test]
    fn a_test_is_told_from_a_clients_stream() {
        let nonce = TestNonce(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let header = nonce.header();
        assert_eq!(header, golden("selfTestHeader"));
        assert_eq!(TestNonce::of_header(&header), Ok(Some(nonce)));
        assert_eq!(
            StreamHeader::decode(&header),
            Err(HeaderError::Protocol(253))
        );
        assert_eq!(TestNonce::of_header(&golden("streamHeaderV4")), Ok(None));
        assert_eq!(TestNonce::of_header(&[]), Ok(None));
        for length in 1..header.len() {
            assert!(TestNonce::of_header(&header[..length]).is_err(), "{length}");
        }
        let mut longer = header;
        longer.resize(MAX_HEADER + 1, 0);
        assert!(TestNonce::of_header(&longer).is_err());
    }
}
