//! Memory of the peer that new streams assume before it can have said that there is less.
//!
//! Every OPEN takes the credit that the peer announced last. A burst of them, or a long round trip, would
//! take the peer's whole budget at the price that held before the burst; so only a bounded part is taken in
//! advance, and further streams begin small and get their credit by WINDOW.

use std::collections::VecDeque;

/// Streams whose OPENs may assume all of the announced credit before the peer acknowledges them: at the
/// largest that this implementation announces, 4 MiB, which is 2 % of the default budget per session.
const MAX_FULL: u64 = 16;
/// Bytes that they may assume in any case, which is more streams where less is announced.
const MAX_UNCONFIRMED: u64 = 4 * 1_024 * 1_024;
/// Bytes that a stream assumes beyond that: the smallest credit that is ever announced (D9).
const LEAST_CREDIT: u32 = 2 * 1_024;

/// The credit that OPENs assume of which the peer hasn't heard.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    bytes: u64,
    /// OPENs by the number of their frame.
    sent: VecDeque<(u64, u32)>,
}

impl Unconfirmed {
    /// Bytes that a new stream may assume, of the `announced` ones.
    pub(super) fn assume(&mut self, announced: u32) -> u32 {
        let announced_bytes = u64::from(announced);
        let most = MAX_UNCONFIRMED.max(MAX_FULL * announced_bytes);
        let is_full = self.bytes + announced_bytes > most;
        let assumed = if is_full {
            announced.min(LEAST_CREDIT)
        } else {
            announced
        };
        self.bytes += u64::from(assumed);
        assumed
    }

    /// The OPEN left as the frame of this number.
    pub(super) fn sent(&mut self, number: u64, assumed: u32) {
        self.sent.push_back((number, assumed));
    }

    /// The stream ended before its OPEN left.
    pub(super) fn vanished(&mut self, assumed: u32) {
        self.bytes = self.bytes.saturating_sub(assumed.into());
    }

    /// The peer has every frame numbered below `received`, and has said what it thinks of them.
    pub(super) fn acknowledged(&mut self, received: u64) {
        while let Some((number, assumed)) = self.sent.front().copied() {
            if number >= received {
                return;
            }
            self.sent.pop_front();
            self.vanished(assumed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u32 = 256 * 1_024;

    #[test]
    fn a_burst_assumes_a_bounded_part_in_advance() {
        let mut unconfirmed = Unconfirmed::default();
        let assumed: Vec<u32> = (0..20).map(|_| unconfirmed.assume(FULL)).collect();
        assert_eq!(assumed[..16], [FULL; 16]);
        assert_eq!(assumed[16..], [LEAST_CREDIT; 4]);
        assert_eq!(unconfirmed.assume(1_000), 1_000);
    }

    #[test]
    fn what_is_acknowledged_or_never_left_counts_no_more() {
        let mut unconfirmed = Unconfirmed::default();
        for number in 0..16 {
            let assumed = unconfirmed.assume(FULL);
            unconfirmed.sent(number, assumed);
        }
        assert_eq!(unconfirmed.assume(FULL), LEAST_CREDIT);
        unconfirmed.vanished(LEAST_CREDIT);
        unconfirmed.acknowledged(2);
        assert_eq!(unconfirmed.assume(FULL), FULL);
        assert_eq!(unconfirmed.assume(FULL), FULL);
        assert_eq!(unconfirmed.assume(FULL), LEAST_CREDIT);
    }
}
