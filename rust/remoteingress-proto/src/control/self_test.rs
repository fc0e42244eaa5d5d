//! The hub's wish for a test of the tunnel.
//!
//! ```text
//! nonce 16 · milliseconds each way u16 · bytes each way u32 · TLVs
//! ```

use super::error::ControlError;
use crate::wire::header::TestNonce;
use crate::wire::tlv::Cursor;
use std::time::Duration;

/// The longest time of one way.
pub const MAX_TEST_TIME: Duration = Duration::from_secs(5);
/// The most bytes of one way.
pub const MAX_TEST_BYTES: u32 = 256 << 20;

/// Wish of a hub that the edge opens a stream by which the tunnel is tested; for edges that have agreed on
/// [`SELF_TEST`](crate::wire::features::Features::SELF_TEST).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelfTest {
    /// The stream's header names it.
    pub nonce: TestNonce,
    /// Time for which each end sends at most, of at most [`MAX_TEST_TIME`].
    pub millis: u16,
    /// Bytes that each end sends at most, of at most [`MAX_TEST_BYTES`].
    pub bytes: u32,
}

impl SelfTest {
    /// Time for which each end sends at most.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis.into()).min(MAX_TEST_TIME)
    }

    /// Bytes that each end sends at most.
    pub fn most(&self) -> u64 {
        self.bytes.min(MAX_TEST_BYTES).into()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = self.nonce.0.to_vec();
        body.extend_from_slice(&self.millis.to_be_bytes());
        body.extend_from_slice(&self.bytes.to_be_bytes());
        body
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, ControlError> {
        Ok(Self {
            nonce: TestNonce(cursor.array()?),
            millis: cursor.u16()?,
            bytes: cursor.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_has_bounds_whatever_it_says() {
        let test = SelfTest {
            nonce: TestNonce([0; 16]),
            millis: u16::MAX,
            bytes: u32::MAX,
        };
        assert_eq!(
            (test.time(), test.most()),
            (MAX_TEST_TIME, MAX_TEST_BYTES.into())
        );
    }
}
