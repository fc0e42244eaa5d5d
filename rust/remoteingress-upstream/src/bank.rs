//! The counts of members side by side, eight to a bank, so that a scan over many of them reads few cache lines.
//!
//! Plans come and go, and a member keeps its seat. A pool gives seats of one bank to members that one scan compares. What
//! shares a line is written when streams begin and end, and then the scans of other workers need that line anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Members of one bank.
pub(crate) const SEATS: usize = 8;
/// Of a half word: its member takes more and more streams. Below it is the number of streams.
const RISING: u32 = 1 << 31;

/// Counts of eight members: streams on the first cache line, turns on the second.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Bank {
    pairs: Pairs,
    turns: [AtomicU64; SEATS],
}

/// Two seats to a word: a processor without AVX reads two streams at once and makes floats of them at once. In words of
/// their own that takes a third more instructions for each seat.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Pairs([AtomicU64; SEATS / 2]);

/// A member's place in a bank.
#[derive(Debug)]
pub(crate) struct Seat {
    bank: Arc<Bank>,
    at: u32,
}

/// Gives out the seats of one bank after the other.
#[derive(Debug, Default)]
pub(crate) struct Seating {
    bank: Arc<Bank>,
    taken: u32,
}

impl Bank {
    /// Streams of each seat as numbers to compute with; below 0 for members that rise.
    #[inline]
    pub(crate) fn streams(&self) -> [i32; SEATS] {
        let [first, second, third, fourth] = &self.pairs.0;
        let halves = |pair: &AtomicU64| {
            let pair = pair.load(Ordering::Relaxed);
            (pair as i32, (pair >> 32) as i32)
        };
        let ((a, b), (c, d)) = (halves(first), halves(second));
        let ((e, f), (g, h)) = (halves(third), halves(fourth));
        [a, b, c, d, e, f, g, h]
    }

    /// The earliest turn of all seats.
    #[inline]
    pub(crate) fn earliest(&self) -> u64 {
        let turns = self.turns.iter().map(|turn| turn.load(Ordering::Relaxed));
        turns.fold(u64::MAX, u64::min)
    }

    /// Turn of this seat.
    #[inline]
    pub(crate) fn turn(&self, at: usize) -> u64 {
        self.turns[at % SEATS].load(Ordering::Relaxed)
    }
}

impl Seating {
    pub(crate) fn next(&mut self) -> Seat {
        if self.taken as usize == SEATS {
            *self = Self::default();
        }
        let at = self.taken;
        self.taken += 1;
        Seat {
            bank: self.bank.clone(),
            at,
        }
    }
}

impl Seat {
    pub(crate) fn bank(&self) -> &Arc<Bank> {
        &self.bank
    }

    /// Its place in the bank, below [`SEATS`].
    pub(crate) fn at(&self) -> usize {
        self.at as usize % SEATS
    }

    #[inline]
    pub(crate) fn streams(&self) -> u32 {
        let pair = self.pair().load(Ordering::Relaxed);
        (pair >> self.shift()) as u32 & !RISING
    }

    /// Counts one more stream, if there are fewer than `hard_limit`, or that is 0.
    pub(crate) fn add(&self, hard_limit: u32) -> bool {
        let one = 1 << self.shift();
        if hard_limit == 0 {
            // No hub has room for the 2^31 streams that would carry over.
            self.pair().fetch_add(one, Ordering::AcqRel);
            return true;
        }
        let more = |pair: u64| {
            let streams = (pair >> self.shift()) as u32 & !RISING;
            (streams < hard_limit.min(!RISING)).then(|| pair + one)
        };
        let (taken, seen) = (Ordering::AcqRel, Ordering::Relaxed);
        self.pair().fetch_update(taken, seen, more).is_ok()
    }

    /// One of its streams is gone.
    pub(crate) fn remove(&self) {
        self.pair().fetch_sub(1 << self.shift(), Ordering::AcqRel);
    }

    pub(crate) fn set_rising(&self, is_rising: bool) {
        let bit = u64::from(RISING) << self.shift();
        if is_rising {
            self.pair().fetch_or(bit, Ordering::AcqRel);
        } else {
            self.pair().fetch_and(!bit, Ordering::AcqRel);
        }
    }

    pub(crate) fn set_turn(&self, turn: u64) {
        self.bank.turns[self.at()].store(turn, Ordering::Relaxed);
    }

    fn pair(&self) -> &AtomicU64 {
        &self.bank.pairs.0[self.at() / 2]
    }

    fn shift(&self) -> u32 {
        self.at % 2 * 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bank_is_two_cache_lines() {
        assert_eq!((size_of::<Bank>(), align_of::<Bank>()), (128, 128));
    }

    #[test]
    fn seats_are_given_out_eight_to_a_bank() {
        let mut seating = Seating::default();
        let seats: Vec<_> = (0..20).map(|_| seating.next()).collect();
        for (number, seat) in seats.iter().enumerate() {
            assert_eq!(seat.at(), number % SEATS);
            assert!(Arc::ptr_eq(
                seat.bank(),
                seats[number / SEATS * SEATS].bank()
            ));
        }
        assert!(!Arc::ptr_eq(seats[7].bank(), seats[8].bank()));
    }

    proptest! {
        #[test]
        fn seats_count_apart(
            steps in proptest::collection::vec((0_u8..4, 0_usize..SEATS, 0_u32..6, any::<u64>()), 0..200),
        ) {
            let mut seating = Seating::default();
            let seats: Vec<_> = (0..SEATS).map(|_| seating.next()).collect();
            let mut list = [(0_u32, false, 0_u64); SEATS];
            for (step, at, limit, turn) in steps {
                let (seat, (streams, is_rising, last)) = (&seats[at], &mut list[at]);
                match step {
                    0 => {
                        let has_room = limit == 0 || *streams < limit;
                        prop_assert_eq!(seat.add(limit), has_room);
                        *streams += u32::from(has_room);
                    }
                    1 if *streams > 0 => {
                        seat.remove();
                        *streams -= 1;
                    }
                    2 => {
                        *is_rising = limit > 2;
                        seat.set_rising(*is_rising);
                    }
                    _ => {
                        *last = turn;
                        seat.set_turn(turn);
                    }
                }
                let bank = seat.bank();
                for (at, (streams, is_rising, turn)) in list.iter().enumerate() {
                    prop_assert_eq!(seats[at].streams(), *streams);
                    prop_assert_eq!(bank.turn(at), *turn);
                    let seen = bank.streams()[at];
                    prop_assert_eq!(seen < 0, *is_rising);
                    prop_assert!(*is_rising || seen as u32 == *streams);
                }
                prop_assert_eq!(Some(bank.earliest()), list.iter().map(|one| one.2).min());
            }
        }
    }
}
